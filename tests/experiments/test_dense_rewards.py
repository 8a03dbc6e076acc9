"""SCAR's composition: what each arm pays, the writer, one update, and the rule of the verdict."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.control import dense_rewards as config_file
from experiments.control import dense_rewards
from rlcore.tasks import make_span_words
from rlcore.training import control
from rlcore.types import Rewards

_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # compiles faster
_SWITCHES = ("alpha", "exact", "sampled", "uniform")


def _set(config, numbers):
  config = config.copy_and_resolve_references()
  with config.ignore_type():
    config.update(numbers)
  return config


@pytest.fixture(scope="module")
def played():
  """Episodes of one response twice and one more, `[3]`, with the agent and its parameters."""
  config = config_file.get_config("smoke")
  task = make_span_words()
  agent = dense_rewards.make_writer(task, config.dim, config.embedding)
  params = agent.init(jax.random.key(0))
  key = jax.random.key(5)
  problem = task.sample(key, "train")
  episodes = _jit(lambda keys: jax.vmap(lambda k: agent.rollout(params, k, problem))(keys))(
      jnp.stack([key, key, jax.random.key(6)]))
  return task, agent, params, problem, episodes


@pytest.fixture(scope="module")
def pay(played):
  """`(arm, key, actions [3, T], outcomes [3]) -> (token rewards [3, T], key)` of any arm."""
  task, *_, episodes = played
  config = config_file.get_config("smoke")

  @_jit
  def apply(numbers, key, actions, outcomes):
    transform = dense_rewards.shared_score(task, _set(config, numbers))
    group = jax.tree.map(lambda x: x[None], (Rewards(outcomes), episodes.replace(action=actions)))
    paid, key = jax.vmap(transform.apply, (0, 0, None), (0, None), axis_name=control.GROUPS)(*group, key)
    return paid, key

  def call(arm, key, actions, outcomes):
    paid, key = apply({name: jnp.float32(config_file.ARMS[arm][name]) for name in _SWITCHES}, key, actions, outcomes)
    np.testing.assert_array_equal(paid.outcome, np.zeros((1, 3)))  # else the score would be paid twice
    return np.asarray(paid.process)[0], key

  return call


def _score(prompt, response):
  good, bad = list(prompt[:3]), list(prompt[3:])
  ordered = any(list(picked) == good for picked in itertools.combinations(response, 3))
  return 0.3 * len(set(response) & set(good)) - 0.2 * sum(word in bad for word in response) + 0.6 * ordered


def _mean_marginals(prompt, response):
  """Averages over all orders of six spans what each adds to those before it."""
  value = functools.cache(lambda spans: _score(prompt, [response[2 * i + j] for i in sorted(spans) for j in (0, 1)]))
  credit = np.zeros(6)
  orders = list(itertools.permutations(range(6)))
  for order in orders:
    for k, i in enumerate(order):
      credit[i] += value(frozenset(order[:k + 1])) - value(frozenset(order[:k]))
  return credit / len(orders)


def test_each_arm_pays_what_its_name_says(played, pay):
  prompt = np.asarray(played[3].prompt)
  other = next(i for i in range(16) if i not in prompt)
  words = [*prompt, other]
  first = [words[i] for i in (5, 0, 5, 5, 1, 3, 0, 5, 2, 5, 5, 4)]
  second = [words[i] for i in (2, 1, 5, 0, 5, 5, 1, 5, 3, 2, 5, 5)]
  actions = np.array([first, first, second], np.int32)
  outcomes = np.array([_score(prompt, row) for row in actions.tolist()], np.float32)
  assert outcomes[0] == pytest.approx(1.1) and outcomes[2] == pytest.approx(1.3)
  key, ends = jax.random.key(3), np.arange(12) % 2 == 1
  shapley = np.stack([_mean_marginals(prompt, row) for row in actions.tolist()])
  for arm, credit, share in (("scar", shapley, 0.8), ("uniform", outcomes[:, None] / 6 * np.ones(6), 0.8),
                             ("terminal", 0 * shapley, 0.0)):
    want = np.zeros((3, 12))
    want[:, ends] = share * credit
    want[:, -1] += (1 - share) * outcomes
    np.testing.assert_allclose(pay(arm, key, actions, outcomes)[0], want, atol=1e-5)
  draws = []
  for _ in range(60):
    paid, key = pay("sampled", key, actions, outcomes)
    np.testing.assert_allclose(paid.sum(-1), outcomes, atol=1e-5)  # of every single order
    assert not paid[:, ~ends].any()
    draws.append(paid)
  assert any(not np.allclose(paid[0], paid[1]) for paid in draws)  # fresh orders for equal responses
  assert not np.allclose(draws[0], draws[1])  # and for every update
  want = np.zeros((3, 12))
  want[:, ends] = 0.8 * shapley
  want[:, -1] += 0.2 * outcomes
  np.testing.assert_allclose(np.mean(draws, 0), want, atol=0.08)


def test_the_writer_scores_its_own_responses_as_it_drew_them(played):
  _, agent, params, problem, episodes = played
  scores = _jit(lambda episodes: jax.vmap(agent.score, (None, 0))(params, episodes))(episodes)
  np.testing.assert_allclose(scores.log_probs, episodes.log_prob_old, atol=1e-5)
  np.testing.assert_allclose(scores.values, episodes.value_t, atol=1e-5)
  np.testing.assert_array_equal(episodes.observation["previous"][:, 1:], episodes.action[:, :-1])
  assert np.all(episodes.observation["previous"][:, 0] == 16) and np.max(episodes.action) < 16
  want = [_score(np.asarray(problem.prompt), row) for row in episodes.action.tolist()]
  np.testing.assert_allclose(episodes.reward_t[:, -1], want, atol=1e-6)
  assert not episodes.reward_t[:, :-1].any()


def test_one_update_learns_and_counts_the_scores_that_it_asks_for():
  config = config_file.get_config("smoke")
  experiment = dense_rewards.make_experiment(config)
  state = experiment.init(jax.random.key(0))
  update = _jit(lambda state, numbers: dense_rewards.make_experiment(_set(config, numbers)).update(state))
  for arm, calls in (("scar", 64), ("terminal", 1), ("sampled", 28), ("uniform", 1)):
    after, metrics = update(state, {name: jnp.float32(config_file.ARMS[arm][name]) for name in _SWITCHES})
    assert metrics["calls"] == calls and all(np.isfinite(x) for x in metrics.values())
    np.testing.assert_allclose(metrics["paid"], metrics["reward"], atol=1e-5)
    moved = jax.tree.map(lambda a, b: not np.allclose(a, b), after.params, state.params)
    assert all(jax.tree.leaves(moved)) and int(after.step) == 1


def test_the_rule_of_the_verdict():
  def judge(area, final, share):
    noise = np.linspace(-0.02, 0.02, 5)
    one = lambda area, final, updates: {"values": {
        "mean:reward": list(0.7 + area), "tail:reward": [1.2 + final] * 5, "to1.2:reward": [updates] * 5,
        "mean:calls": [1.0] * 5}}
    arms = {name: one(np.zeros(5), 0.0, 300.0) for name in config_file.ARMS}
    arms["scar"] = one(area + noise, final, 300.0 * share)
    return config_file.verdict(
        {"claim": dataclasses.asdict(config_file.CLAIM), "variants": {"default": {"arms": arms}}})[0]

  assert judge(0.1, 0.1, 0.6) == judge(0.1, -0.04, 0.6) == "reproduced"
  assert judge(0.1, 0.1, 0.8) == judge(0.01, 0.1, 0.6) == "inconclusive"
  assert judge(0.1, -0.06, 0.6) == judge(-0.1, 0.1, 0.6) == "not reproduced"
  assert judge(0.1, float("nan"), 0.6) == "inconclusive"
