"""The tabular policy: its actions, REINFORCE on recorded episodes, and visits, against NumPy loops."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore.envs import chain
from rlcore.training import tabular_policy

_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # compiles faster
RNG = np.random.default_rng(0)
THETA = RNG.normal(size=(5, 2)).astype(np.float32)


def _softmax(x):
  return np.exp(x) / np.exp(x).sum(-1, keepdims=True)


def test_actions_come_from_the_policy():
  world = chain.make_chain(places=4, start=2, distractor_at=1, horizon=6)
  play = _jit(jax.vmap(lambda key: tabular_policy.policy_episode(
      world, chain.place, THETA, key, chain.ChainParams(slip=0.5))))
  episodes = jax.device_get(play(jax.random.split(jax.random.key(0), 5000)))
  counted = episodes.mask > 0
  states, actions = episodes.info["state"][counted], episodes.action[counted]
  np.testing.assert_allclose(episodes.log_prob_old[counted], np.log(_softmax(THETA))[states, actions], atol=1e-5)
  for s in range(4):
    own = actions[states == s]
    assert abs(np.mean(own) - _softmax(THETA)[s, 1]) < 4 * np.sqrt(0.25 / len(own))
  assert 0 < np.mean(~counted) < 1 and not np.any(states == 4)


def test_reinforce_is_the_loop():
  shape, actions = (3, 4), RNG.integers(0, 2, (3, 4))
  states, paid = RNG.integers(0, 5, shape), RNG.normal(size=shape)
  mask = np.arange(4) < np.array([4, 2, 0])[:, None]
  gradient = np.zeros((5, 2))
  for n in range(3):
    total = 0.0
    for t in reversed(range(4)):
      if mask[n, t]:
        total = paid[n, t] + 0.9 * total
        gradient[states[n, t]] += total * (np.eye(2)[actions[n, t]] - _softmax(THETA)[states[n, t]])
  step = _jit(lambda mask, paid: tabular_policy.reinforce_step(
      THETA, states, actions, mask, paid, learning_rate=0.3, discount=0.9))
  np.testing.assert_allclose(step(mask, np.where(mask, paid, np.nan)), THETA + 0.3 * gradient / 6, atol=1e-5)
  np.testing.assert_array_equal(step(mask * 0, paid), THETA)
  with pytest.raises(AssertionError, match="reinforce_step: states has rank"):
    tabular_policy.reinforce_step(THETA, states[0], actions, mask, paid)


def test_visits_go_up_after_the_reward_of_the_step():
  counts, steps = np.array([3, 0, 1], np.float32), 12
  walk = RNG.integers(0, 3, steps + 1)
  mask = np.arange(steps) < 9
  now, want = counts.copy(), []
  for t in range(9):
    want.append(now[walk[t + 1]])
    now[walk[t]] += 1
  got, after = _jit(tabular_policy.counts_on_arrival)(counts, walk[:-1], walk[1:], mask)
  np.testing.assert_array_equal(got[:9], want)
  np.testing.assert_array_equal(after, now)
  with pytest.raises(AssertionError, match="next_states has shape"):
    tabular_policy.counts_on_arrival(counts, walk[:-1], walk, jnp.ones(steps))
