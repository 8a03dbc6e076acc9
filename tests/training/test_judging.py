"""A language experiment whose responses are scored by a judge behind a real HTTP server."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rlcore import advantages, losses
from rlcore.assistants import AssistantError, ChatClient, ChatJudge, Request, prompts, stand_in
from rlcore.assistants.judges import total_score
from rlcore.models import GRUConfig, make_gru
from rlcore.training import host, language
from rlcore.types import Problem, Rollouts, Task
from tests.assistants.server import Answer, serve

DIGITS = "0123456789."


def _sample(key, split):
  del split
  return Problem(jax.random.randint(key, (2,), 0, 10), jnp.ones(2))


def _says_the_first(problem, tokens, mask):
  return jnp.float32(jnp.any((tokens == problem.prompt[0]) & (mask > 0)))


TASK = Task(
    sample=_sample, score=_says_the_first,
    demonstration=None, encode=lambda text: [DIGITS.index(c) for c in text],
    decode=lambda tokens: "".join(DIGITS[t] for t in tokens), vocab_size=11, eos_id=10, pad_id=10, max_prompt=2,
    max_response=5)
MODEL = make_gru(GRUConfig(vocab_size=11, context=7, dim=8))


def _opinion(text):
  """The judge's taste: ones are good, twos are bad."""
  return "1" in text and 1 or "2" in text and -1 or 0


def _server_opinion(number, payload):
  del number
  text = payload["messages"][-1]["content"].split("<query>")[1]
  return Answer(f"Hm. <score>{_opinion(text)}</score>")


def _written(tokens, mask):
  return TASK.decode(tokens[mask > 0])


def _about_all(problem, tokens, mask):
  text = _written(tokens, mask)
  return [Request(prompts.query_prompt(TASK.decode(problem.prompt), text), text)]


def _about_steps(problem, tokens, mask):
  """One question a token: the smallest steps there are."""
  texts = [TASK.decode([t]) for t in tokens[mask > 0]]
  return [Request(prompts.query_prompt(TASK.decode(problem.prompt), text), text) for text in texts]


def _on_steps(judgements, problem, tokens, mask):
  process = np.zeros(mask.shape, np.float32)
  process[mask > 0] = [j.score for j in judgements]
  return float(TASK.score(problem, tokens, mask)), process


def _batch():
  """Two groups of three responses, one of them without a token."""
  rng = np.random.default_rng(0)
  problems = Problem(np.array([[3, 1], [5, 2]], np.int32), np.ones((2, 2), np.float32))
  shape = (2, 3, TASK.max_response)
  mask = (np.arange(shape[-1]) < np.array([[3, 5, 0], [2, 4, 1]])[..., None]).astype(np.float32)
  tokens = np.where(mask > 0, rng.integers(0, 10, shape), TASK.pad_id).astype(np.int32)
  return problems, Rollouts(tokens, mask, mask * 0, problems.prompt, problems.prompt_mask)


def _judge(server, **settings):
  client = ChatClient(server.base_url, "m", api_key="", **(dict(backoff=0.001) | settings))
  return ChatJudge(client, prompts.parse_sign)


def test_outcomes_and_steps_are_scored_where_they_belong():
  problems, rollouts = _batch()
  with serve(_server_opinion) as server:
    outcome = host.make_judge_scorer(_judge(server), _about_all)(problems, rollouts)
    assert len(server.requests) <= 6 and outcome.process is None and outcome.outcome.dtype == np.float32
    steps = host.make_judge_scorer(_judge(server), _about_steps, _on_steps)(problems, rollouts)
  for b, g in np.ndindex(2, 3):
    row = rollouts.tokens[b, g], rollouts.mask[b, g]
    assert outcome.outcome[b, g] == _opinion(_written(*row))
    want = [_opinion(TASK.decode([t])) if m else 0 for t, m in zip(*row)]
    np.testing.assert_array_equal(steps.process[b, g], want)
    assert steps.outcome[b, g] == TASK.score(jax.tree.map(lambda x: x[b], problems), *row)
  for ask, settle, want in ((_about_all, total_score, outcome), (_about_steps, _on_steps, steps)):
    again = host.make_judge_scorer(stand_in(_opinion), ask, settle)(problems, rollouts)
    jax.tree.map(np.testing.assert_array_equal, again, want)


def test_training_by_a_judge(tmp_path):
  """The real client and the plain function train the same policy; a second run is answered from the cache."""
  scorers = []
  parts = language.LanguageParts(
      model=MODEL, task=TASK, optimizer=optax.adam(3e-2), advantage_estimator=advantages.group_relative,
      policy_loss=losses.clip_policy_loss, group_size=4, prompts_per_update=4, eval_problems=1)
  experiment = language.make_language_experiment(parts, score_on_host=lambda *args: scorers[-1](*args))
  start = jax.jit(experiment.init)(jax.random.key(0))

  def run(judge, steps=3):
    scorers.append(host.make_judge_scorer(judge, _about_steps, _on_steps))
    state, history = start, []
    for _ in range(steps):
      state, metrics = experiment.update(state)
      history.append(jax.device_get(metrics))
    return jax.device_get(state.params), history

  with serve(_server_opinion) as server:
    judge, again = _judge(server, cache_dir=tmp_path), _judge(server, cache_dir=tmp_path)
    params, history = run(judge)
    asked = len(server.requests)
    assert judge.totals["calls"] == asked > 0 and judge.totals["unparsable"] == 0
    same, _ = run(again)
    assert len(server.requests) == asked and again.totals["calls"] == 0 and again.totals["cached"] > 0
  plain, plain_history = run(stand_in(_opinion))
  jax.tree.map(np.testing.assert_array_equal, (params, history), (plain, plain_history))
  jax.tree.map(np.testing.assert_array_equal, params, same)
  assert all(np.any(a != b) for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(start.params)))
  with pytest.raises(AssistantError, match="check that the server runs"):
    run(_judge(server, tries=2), steps=1)
