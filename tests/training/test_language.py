"""The training step in all its forms: scanned, staged with a host verifier, spread over devices; and its bad inputs."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rlcore import advantages, losses
from rlcore import rewards as reward_lib
from rlcore.models import decoder
from rlcore.policies import log_probs as log_probs_lib
from rlcore.tasks import countdown
from rlcore.training import describe, host, language, loop
from rlcore.training import mesh as mesh_lib
from rlcore.types import Rewards
from tests.training import bigram

# Where neither the model nor the task matters, both are small: the decoder's programs compile ten times as long.
TASK, MODEL = bigram.make_task(), bigram.make_bigram()
WORDS = countdown.make_countdown(num_numbers=2, max_number=5)  # has demonstrations and text
WORDED = dict(task=WORDS, model=bigram.make_bigram(vocab=WORDS.vocab_size))


def _parts(**changes):
  parts = language.LanguageParts(
      model=MODEL, task=TASK, optimizer=optax.adam(1e-2), advantage_estimator=advantages.group_relative,
      policy_loss=losses.clip_policy_loss, group_size=4, prompts_per_update=8,
      reward_transform=reward_lib.stateless(_odd_reward), eval_problems=4)
  return dataclasses.replace(parts, **changes)


def _odd_reward(rewards, batch):
  """A reward with spread even for an untrained policy: the share of odd token ids."""
  counted = batch.mask > 0
  odd = jnp.sum(jnp.where(counted, batch.tokens % 2, 0), -1) / jnp.maximum(jnp.sum(counted, -1), 1)
  return rewards.replace(outcome=odd.astype(jnp.float32))


def _run(experiment, steps=3):
  update = jax.jit(experiment.update) if experiment.jittable else experiment.update
  state, history = jax.jit(experiment.init)(jax.random.key(0)), []
  for _ in range(steps):
    state, metrics = update(state)
    history.append(jax.device_get(metrics))
  return state, history


@functools.partial(jax.jit, static_argnames=("split", "count", "temperature", "model"))
def _draw_and_roll_out(params, seed, *, split, count, temperature=1.0, model=MODEL):
  """Draws `count` problems and answers them, in one program: op by op it takes ten times as long."""
  problems = jax.vmap(lambda k: TASK.sample(k, split))(jax.random.split(jax.random.key(seed), count))
  parts = _parts(temperature=temperature, model=model)
  return problems, language.rollout(parts, params, jax.random.key(seed + 1), problems)


def _same(a, b, rtol):
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    np.testing.assert_allclose(x, y, rtol=rtol, atol=rtol)


@functools.cache
def _plain():
  """The experiment of the parts as they are, jitted once for all tests."""
  experiment = language.make_language_experiment(_parts())
  return experiment._replace(
      **{name: jax.jit(getattr(experiment, name)) for name in ("init", "update", "evaluate")})


@functools.cache
def _reference(**changes):
  state, history = _run(language.make_language_experiment(_parts(**changes)) if changes else _plain())
  return jax.device_get(state.params), history


def test_an_update_moves_the_policy_towards_reward():
  experiment = language.make_language_experiment(_parts(
      prompts_per_update=16, optimizer=optax.adam(3e-2), advantage_estimator=advantages.tempo))
  state, metrics = jax.jit(lambda key: loop.train(experiment, 30)(key))(jax.random.key(1))
  entropy_like = np.asarray(metrics["advantage_abs"])
  assert np.isfinite(entropy_like).all() and int(state.step) == 30 and int(state.skipped) == 0
  def odd_share(params):
    _, rollouts = _draw_and_roll_out(params, 2, split="test", count=32)
    return float(np.sum(rollouts.mask * (rollouts.tokens % 2)) / np.sum(rollouts.mask))
  assert odd_share(state.params) > odd_share(experiment.init(jax.random.key(1)).params) + 0.2


def test_old_log_probs_are_the_trainers():
  """The first ratio is 1 because the sampler's log-probabilities are the trainer's, within 1e-5."""
  model = decoder.make_decoder(decoder.DecoderConfig(
      vocab_size=TASK.vocab_size, context=TASK.max_prompt + TASK.max_response, layers=1, dim=16, heads=2, head_dim=8,
      ff_dim=16))
  params = jax.jit(model.init)(jax.random.key(0))
  _, rollouts = _draw_and_roll_out(params, 1, split="train", count=8, temperature=0.7, model=model)
  rows = language._rows(rollouts)
  again = jax.jit(functools.partial(log_probs_lib.token_log_probs, model, temperature=0.7))(
      params, rows.prompt, rows.prompt_mask, rows.tokens, rows.mask)
  np.testing.assert_allclose(again, rows.log_probs, atol=1e-5)


@pytest.mark.parametrize("form", ["mesh", "pmap", "microbatches", "staged"])
def test_every_form_gives_the_same_numbers(form):
  if form == "mesh":
    mesh = mesh_lib.make_mesh()
    experiment = mesh_lib.mesh_experiment(
        language.make_language_experiment(_parts(constrain=mesh_lib.constrain_to(mesh))), mesh)
  elif form == "pmap":
    experiment = mesh_lib.pmap_experiment(language.make_language_experiment(_parts(axis_name=mesh_lib.DATA)))
  elif form == "microbatches":
    experiment = language.make_language_experiment(_parts(microbatches=4))
  else:
    score = jax.jit(TASK.score)
    scorer = host.make_scorer(lambda problem, tokens, mask: float(score(problem, tokens, mask)))
    experiment = language.make_language_experiment(_parts(), score_on_host=scorer)
  state, history = _run(experiment)
  params, want = _reference()
  _same(history, want, 2e-4)
  _same(state.params, params, 2e-3)  # Adam divides by the root of tiny second moments
  assert jax.tree.leaves(state.params)[0].shape == jax.tree.leaves(params)[0].shape


@pytest.mark.slow
def test_minibatches_of_devices_are_those_of_one():
  several = dict(prompts_per_update=16, minibatches=2, epochs=2)
  state, history = _run(mesh_lib.pmap_experiment(
      language.make_language_experiment(_parts(axis_name=mesh_lib.DATA, **several))))
  params, want = _reference(**several)
  _same(history[0], want[0], 2e-4)
  _same(history, want, 5e-3)
  _same(state.params, params, 5e-3)


def test_seeds_are_one_vmap():
  experiment = _plain()
  whole = jax.jit(jax.vmap(loop.train(experiment, 3)))
  _, metrics = whole(jax.random.split(jax.random.key(7), 2))
  for i, key in enumerate(jax.random.split(jax.random.key(7), 2)):
    state = experiment.init(key)
    for step in range(3):
      state, single = experiment.update(state)
      np.testing.assert_allclose(metrics["loss"][i, step], single["loss"], atol=1e-4)
      np.testing.assert_allclose(metrics["tokens"][i, step], single["tokens"])


def test_minibatches_and_epochs_take_that_many_steps():
  experiment = language.make_language_experiment(_parts(epochs=2, minibatches=4))
  state, _ = _run(experiment, 1)
  assert int(optax.tree_utils.tree_get(state.opt_state, "count")) == 8
  assert int(state.step) == 1


def test_warmup_learns_the_demonstrations_and_sets_the_reference():
  warmup = language.Warmup(40, 16, optax.adam(5e-2))
  experiment = language.make_language_experiment(_parts(
      **WORDED, warmup=warmup, use_reference=True,
      policy_loss=functools.partial(losses.clip_policy_loss, kl_coef=0.1)))
  state = jax.jit(experiment.init)(jax.random.key(0))
  step, history = jax.jit(experiment.warmup.update), []
  for _ in range(40):
    state, metrics = step(state)
    history.append(float(metrics["loss"]))
  assert np.mean(history[-5:]) < 0.7 * np.mean(history[:2])
  _same(state.ref_params, state.params, 0)
  after, metrics = jax.jit(experiment.update)(state)
  _same(after.ref_params, state.params, 0)
  assert not np.allclose(jax.tree.leaves(after.params)[0], jax.tree.leaves(state.params)[0])


@pytest.mark.slow  # as at the end of test_not_finite::test_one_unscorable_response_is_dropped_and_the_others_teach
def test_a_reward_that_is_not_finite_skips_the_update():
  broken = reward_lib.identity()
  scorer = lambda problems, rollouts: Rewards(outcome=np.full(rollouts.tokens.shape[:2], np.nan, np.float32))
  experiment = language.make_language_experiment(_parts(reward_transform=broken), score_on_host=scorer)
  before = _plain().init(jax.random.key(0))
  after, metrics = experiment.update(before)
  _same(after.params, before.params, 0)
  _same(after.opt_state, before.opt_state, 0)
  assert metrics["nonfinite_reward"] == 1 and int(after.skipped) == 1 and int(after.step) == 1
  assert not np.array_equal(jax.random.key_data(after.key), jax.random.key_data(before.key))
  assert all(np.isfinite(x) for x in jax.tree.leaves(metrics))


def test_evaluation_is_a_function_of_the_parameters():
  state = _plain().init(jax.random.key(0))
  moved = state.replace(key=jax.random.key(9), step=jnp.asarray(5))
  assert jax.device_get(_plain().evaluate(state)) == jax.device_get(_plain().evaluate(moved))


def test_examples_show_pieces_with_their_credit():
  experiment = language.make_language_experiment(_parts(**WORDED))
  examples = experiment.examples(experiment.init(jax.random.key(0)))
  assert len(examples) == 3
  for example in examples:
    assert len(example.pieces) == len(example.credit) > 0 and example.prompt.endswith(":")


def test_examples_show_the_reward_that_their_credit_is_for():
  halved = reward_lib.stateless(lambda r, batch: r.replace(outcome=r.outcome / 2 - 1, process=0.125 * batch.mask))
  raw = functools.partial(advantages.group_relative, center="none", scale="none")
  parts = _parts(reward_transform=halved, advantage_estimator=raw)
  experiment = language.make_language_experiment(parts)
  for example in experiment.examples(experiment.init(jax.random.key(0))):
    np.testing.assert_allclose(example.shaped, example.reward / 2 - 1 + 0.125 * len(example.pieces), atol=1e-6)
    np.testing.assert_allclose(example.credit, example.shaped)
  experiment = language.make_language_experiment(_parts(reward_transform=reward_lib.identity()))
  assert all(e.shaped == e.reward for e in experiment.examples(experiment.init(jax.random.key(0))))


def test_response_metrics_count():
  problems, rollouts = _draw_and_roll_out(MODEL.init(jax.random.key(0)), 1, split="train", count=2)
  outcome = jnp.asarray([[1.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0]])
  metrics = describe.response_metrics(Rewards(outcome), rollouts, jnp.ones_like(rollouts.mask))
  assert metrics["success"] == 0.25 and metrics["informative_groups"] == 0.5
  assert metrics["tokens"] == rollouts.mask.sum() and metrics["advantage_abs"] == 1


@pytest.mark.parametrize("changes, words", [
    (dict(group_size=1), "group_size=1"),
    (dict(minibatches=3), "minibatches=3 does not divide prompts_per_update=8"),
    (dict(microbatches=5), "microbatches=5 does not divide the 8 prompts"),
    (dict(task=TASK._replace(demonstration=None), warmup=language.Warmup(1, 1, optax.sgd(0.1))), "no demonstrations"),
])
def test_bad_settings_are_named(changes, words):
  with pytest.raises(ValueError, match=words):
    _parts(**changes)


def test_credit_of_a_wrong_shape_is_named_where_it_arises():
  experiment = language.make_language_experiment(_parts(advantage_estimator=lambda rewards, batch: rewards.outcome))
  words = r"the advantage estimator lambda returned shape \(4,\), expected \[G, T\] = \(4, "
  with pytest.raises(ValueError, match=words):
    jax.eval_shape(experiment.update, jax.eval_shape(experiment.init, jax.random.key(0)))


def test_a_host_verifier_needs_the_staged_form():
  parts = _parts(task=TASK._replace(host=True))
  with pytest.raises(ValueError, match="score_on_host"):
    language.make_language_experiment(parts)
  with pytest.raises(ValueError, match="staged form"):
    language.make_language_experiment(_parts(), source=lambda step: None)


def test_a_failing_host_verifier_names_the_response():
  def score(problem, tokens, mask):
    raise KeyError("unit")
  experiment = language.make_language_experiment(_parts(), score_on_host=host.make_scorer(score))
  with pytest.raises(RuntimeError, match="response 0 to prompt 0.*KeyError"):
    experiment.update(experiment.init(jax.random.key(0)))
