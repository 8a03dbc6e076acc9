"""Imitation in tables: the expert, what ASAF's optimum is, what each arm learns from, and the rule of the verdict."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs.control import reward_specification_imitation as config_file
from experiments.control import reward_specification_imitation as imitation
from rlcore.envs import corner_grid
from rlcore.training import sweep


_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # compiles faster
_TABLES = corner_grid.corner_tables()


def _worth(probs, horizon=40):
  """Mean return of a policy and how often it reaches the goal, over all starts, exactly."""
  value, arrives = np.zeros(256), np.zeros(256)
  for _ in range(horizon):
    value = np.sum(probs * (_TABLES.rewards + _TABLES.transition @ value), 1)
    arrives = np.where(_TABLES.terminal, 1, np.sum(probs * (_TABLES.transition @ arrives), 1))
  return value[~_TABLES.terminal].mean(), arrives[~_TABLES.terminal].mean()


def test_the_expert_goes_to_the_goal_and_one_with_a_plain_entropy_bonus_would_not():
  q = np.asarray(imitation.expert_logits(_TABLES, config_file.get_config()), float)
  softmax = lambda x: np.exp(x - x.max(1, keepdims=True)) / np.exp(x - x.max(1, keepdims=True)).sum(1, keepdims=True)
  greedy, arrives = _worth(np.eye(4)[q.argmax(1)])
  shortest = np.abs(np.arange(8)[:, None] + np.arange(8)).sum() / 63  # steps to a corner, over all starts
  np.testing.assert_allclose((greedy, arrives), (1 - 0.05 * shortest, 1), rtol=1e-5)
  value, arrives = _worth(softmax(q))
  assert 0.5 < value < greedy and arrives > 0.999
  assert _worth(np.full((256, 4), 0.25))[0] < -1.6
  plain = np.zeros((256, 4))
  for _ in range(400):
    ahead = np.where(_TABLES.terminal, 0, 0.1 * np.log(np.exp(plain / 0.1).sum(1)))
    plain = _TABLES.rewards + 0.95 * _TABLES.transition @ ahead
  assert _worth(softmax(plain / 0.1))[1] < 0.01


def _case():
  """A state with three episodes each of expert and learner; the last demonstration is not shown."""
  rng = np.random.default_rng(0)
  states, actions = rng.integers(0, 5, (2, 3, 6)), rng.integers(0, 4, (2, 3, 6))
  mask = (np.arange(6) < rng.integers(1, 7, (2, 3, 1))).astype(np.float32)
  states[0, 2] = 6  # the one that is hidden is alone in its state
  shown = imitation.Episodes(states[0], actions[0], mask[0] * [[1], [1], [0]])
  theta, critic = jnp.asarray(rng.normal(size=(2, 8, 4)), jnp.float32)
  return shown, imitation.Episodes(states[1], actions[1], mask[1]), theta, critic


def _learn(how, config, theta, critic, shown, learner):
  optimizer = optax.sgd(1.0)
  state = imitation.State(0, 0, theta, optimizer.init(theta), critic, optimizer.init(critic), theta, shown, 0, 0, 0, 0)
  return how(state, shown, learner, jax.random.key(0), config, optimizer, optimizer)[0]


def _config():
  config = config_file.get_config("smoke")
  config.epochs, config.horizon = 1, 6
  return config


@_jit
def _fit(weights, *case):
  config = _config()
  with config.ignore_type():
    config.weights.update(weights)
  return _learn(imitation.fit, config, *case)


def _weights(name):
  return {key: float(key == name) for key in ("asaf", "asaf_window", "cloning")}


def _softmax(x):
  return np.exp(x) / np.exp(x).sum(-1, keepdims=True)


def test_cloning_climbs_the_likelihood_of_what_is_shown():
  shown, learner, theta, critic = _case()
  after = _fit(_weights("cloning"), theta, critic, shown, learner)
  want = np.array(theta, float)
  for i, t in zip(*np.nonzero(shown.mask)):
    state, action = shown.states[i, t], shown.actions[i, t]
    want[state] += (np.eye(4)[action] - _softmax(np.asarray(theta[state], float))) / shown.mask.sum()
  np.testing.assert_allclose(after.theta, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name, window", [("asaf", 6), ("asaf_window", 1)])
def test_asaf_takes_as_many_windows_of_the_expert_as_of_the_learner(name, window):
  """At the start new and old agree, D is a half, and the slope in a window's log-probability a half of its share."""
  shown, learner, theta, critic = _case()
  after = _fit(_weights(name), theta, critic, shown, learner)
  moved = np.asarray(after.theta - theta, float)
  count = 3 if window == 6 else int(learner.mask.sum())  # windows of the learner; the loss averages twice as many
  for i, t in zip(*np.nonzero(learner.mask)):
    state, action = learner.states[i, t], learner.actions[i, t]
    moved[state] += 0.5 / (2 * count) * (np.eye(4)[action] - _softmax(np.asarray(theta[state], float)))
  assert not moved[6:].any()  # nothing of the demonstration that is hidden
  # What is left is the expert's part: whole windows of those shown, `count` in all.
  total, scores = moved.ravel() * 4 * count, np.zeros((2, 6 // window, 8, 4))
  for i, t in zip(*np.nonzero(shown.mask)):
    state = shown.states[i, t]
    scores[i, t // window, state] += np.eye(4)[shown.actions[i, t]] - _softmax(np.asarray(theta[state], float))
  distinct = np.unique(np.round(scores.reshape(-1, 32), 6), axis=0)
  distinct = distinct[distinct.any(1)]
  drawn = np.linalg.lstsq(distinct.T, total, rcond=None)[0]
  np.testing.assert_allclose(distinct.T @ drawn, total, atol=1e-3)
  np.testing.assert_allclose(drawn, np.round(drawn), atol=2e-2)
  assert round(drawn.sum()) == count and drawn.min() > -0.1


def test_gail_moves_the_discriminator_then_the_policy():
  shown, learner, theta, critic = _case()
  config = _config()
  after = _jit(functools.partial(_learn, imitation.adversarial, config))(theta, critic, shown, learner)
  judge, share = np.array(critic, float), lambda x: 1 / (1 + np.exp(-x))
  for data, sign in ((shown, 1), (learner, -1)):
    for i, t in zip(*np.nonzero(data.mask)):
      pair = data.states[i, t], data.actions[i, t]
      judge[pair] += sign * share(-sign * float(critic[pair])) / data.mask.sum()
  np.testing.assert_allclose(after.critic, judge, rtol=1e-4, atol=1e-5)
  returns = np.zeros(learner.mask.shape)
  for i, t in zip(*np.nonzero(learner.mask)):
    ahead = np.flatnonzero(learner.mask[i])
    returns[i, t] = sum(config.discount**(u - t) * np.log1p(np.exp(judge[learner.states[i, u], learner.actions[i, u]]))
                        for u in ahead if u >= t)
  better = returns - returns.sum() / learner.mask.sum()
  want = np.array(theta, float)
  for i, t in zip(*np.nonzero(learner.mask)):
    state = learner.states[i, t]
    want[state] += better[i, t] / learner.mask.sum() * (
        np.eye(4)[learner.actions[i, t]] - _softmax(np.asarray(theta[state], float)))
  np.testing.assert_allclose(after.theta, want, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("arm", ["asaf, 10", "gail, 10", "cloning, 1"])
def test_an_update_is_finite_and_stops_when_it_should(arm):
  config = sweep.apply_overrides(config_file.get_config("smoke"), config_file.ARMS[arm] | {"rounds": 1.0})
  experiment = imitation.make_experiment(config)
  update = _jit(experiment.update)
  first, metrics = update(_jit(experiment.init)(jax.random.key(0)))
  second, after = update(first)
  assert np.isfinite([*metrics.values(), *after.values()]).all()
  assert first.theta.any() and np.array_equal(first.theta, second.theta)
  played = 0 if arm == "cloning, 1" else config.episodes
  assert metrics["episodes"] == after["episodes"] == played
  assert after["good_after"] == (played if metrics["is_good"] else 2 * played)


def _result(**changes):
  """A result by `(cost, seeds that are good, last KL)` of each arm."""
  found = {name: (1000.0, 0, 1.0) for name in config_file.ARMS} | changes
  fill = lambda cost, good, kl: {"last:good_after": [cost] * 8, "last:is_good": [1.0] * good + [0.0] * (8 - good),
                                 "last:kl": [kl] * 8, "max:progress": [0.5] * 8}
  return {"claim": dataclasses.asdict(config_file.CLAIM),
          "variants": {"default": {"arms": {name: {"values": fill(*x)} for name, x in found.items()}}}}


def test_the_rule_of_the_verdict():
  judge = lambda **changes: config_file.verdict(_result(**{
      "asaf, 10": (100, 8, 1), "gail, 10": (201, 8, 1), "asaf, 10, tuned": (100, 8, 1), "gail, 10, tuned": (1000, 0, 1),
      "asaf, 1": (1000, 0, 0.5), "asaf, 3": (1000, 0, 0.5)} | changes))[0]
  assert judge() == "reproduced"
  assert judge(**{"gail, 10": (199, 8, 1)}) == judge(**{"asaf, 10, tuned": (100, 6, 1)}) == "inconclusive"
  assert judge(**{"asaf, 3": (1000, 0, 1.0)}) == "inconclusive"
  assert judge(**{"gail, 10": (99, 8, 1)}) == judge(**{"gail, 10, tuned": (99, 8, 1)}) == "not reproduced"
  nowhere = {name: (1000, 0, 1) for name in ("asaf, 10", "gail, 10", "asaf, 10, tuned")}
  assert judge(**nowhere) == "inconclusive"  # the other half holds
  assert judge(**nowhere | {"asaf, 1": (1000, 0, 2.0), "asaf, 3": (1000, 0, 2.0)}) == "not reproduced"
  assert "KL, cloning - asaf, 1 +0.000" in config_file.verdict(_result())[1]
