"""Rewards of streams that learn: novelty of a network, step by step, against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rlcore.training import stream_rewards
from rlcore.types import Stream

_T, _N, _D, _E, _LR = 5, 3, 4, 2, 0.1


def _stream(seed):
  draw = np.random.default_rng(seed).normal(size=(2, _T, _N, _D)).astype(np.float32)
  flat = jnp.zeros((_T, _N))
  return Stream(observation=jnp.asarray(draw[0]), next_observation=jnp.asarray(draw[1]), action=flat, reward_t=flat,
                discount_t=flat, log_prob_old=flat, value_t=flat, value_tp1=flat, mask=flat + 1, info={},
                is_first=flat > 0, truncated=flat > 0)


def _reward(alpha):
  return stream_rewards.network_novelty(
      lambda params, seen: seen @ params, lambda key: jax.random.normal(key, (_D, _E)), optax.sgd(_LR), alpha=alpha)


@pytest.mark.parametrize("alpha", [0.0, 0.5])
def test_novelty_of_a_linear_network(alpha):
  reward = _reward(alpha)
  state = reward.init(jax.random.key(0), _N)
  target, weights = np.array(state.target, float), np.array(state.predictor.params, float)
  assert not np.allclose(target, weights)
  apply = jax.jit(reward.apply)
  for seed in range(3):
    stream = _stream(seed)
    paid, state = apply(state, stream)
    expected, slope = np.zeros((_T, _N)), np.zeros_like(weights)
    for t in range(_T):
      for n in range(_N):
        s, after = (np.array(x[t, n], float) for x in (stream.observation, stream.next_observation))
        away = after @ (weights - target)
        expected[t, n] = max(np.linalg.norm(away) - alpha * np.linalg.norm(s @ (weights - target)), 0)
        slope += np.outer(after, away / np.linalg.norm(away)) / (_T * _N)
    np.testing.assert_allclose(paid, expected, rtol=1e-4, atol=1e-5)
    weights -= _LR * slope
    np.testing.assert_allclose(state.predictor.params, weights, rtol=1e-4, atol=1e-5)
  np.testing.assert_array_equal(state.target, target.astype(np.float32))


def test_what_is_seen_often_is_paid_less_and_a_nan_teaches_nothing():
  reward, stream = _reward(0.0), _stream(0)
  apply = jax.jit(reward.apply)
  state = reward.init(jax.random.key(0), _N)
  first, _ = apply(state, stream)
  for _ in range(100):
    last, state = apply(state, stream)
  assert np.mean(last) < 0.3 * np.mean(first)
  spoilt = stream.replace(next_observation=stream.next_observation.at[0, 0, 0].set(jnp.nan))
  _, after = apply(state, spoilt)
  np.testing.assert_array_equal(after.predictor.params, state.predictor.params)


def test_a_world_that_does_not_tell_and_a_memory_that_changes_are_told():
  with pytest.raises(KeyError, match="reads info.'costs'.+tells nothing"):
    stream_rewards.told(_stream(0), "costs")
  with pytest.raises(KeyError, match="tells .'depth'"):
    stream_rewards.told(_stream(0).replace(info={"depth": 0}), "costs")
  forgetful = stream_rewards.per_step(
      lambda: jnp.zeros((), jnp.int32), lambda memory, step: (step.reward_t, memory + 0.5))
  with pytest.raises(TypeError, match=r"it took int32\[\] and left float32\[\]"):
    forgetful.apply(forgetful.init(jax.random.key(0), _N), _stream(0))
