"""Costs, multipliers and cones against float64, and the worked example of the thesis on reward specification."""

from hypothesis import given, settings, strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore import rewards
from tests.tolerance import close

_few = settings(max_examples=15, deadline=None)
_seeds = st.integers(0, 2**32 - 1)
_T, _K = 7, 3
_RATE, _MULTIPLIERS, _REWARD, _LOSS, _GRADIENT, _PLAIN, _FOCUS = map(jax.jit, (
    rewards.cost_rate, rewards.normalized_multipliers, rewards.lagrangian_reward, rewards.multiplier_loss,
    rewards.multiplier_gradient, rewards.plain_multiplier_update, rewards.focus_reward))


def _draw(seed, *shape):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def _loss(logits, estimates, thresholds, base):
  weights = np.exp(np.append(base, logits).astype(np.float64))
  return -sum(w * (np.float64(j) - d) for w, j, d in zip(weights[1:] / weights.sum(), estimates, thresholds))


@_few
@given(_seeds, st.sampled_from([0.0, 0.5, 0.9, 1.0]), st.sampled_from([0.0, 0.6, 1.0]))
def test_cost_rate(seed, discount, density):
  rng = np.random.default_rng(seed)
  costs, mask = rng.integers(0, 2, _T).astype(np.float32), rng.random(_T) < density
  mask[0] |= discount == 0 and density > 0  # otherwise 0 / 0
  top = sum(discount**t * costs[t] for t in range(_T) if mask[t])
  bottom = sum(discount**t for t in range(_T) if mask[t])
  costs[~mask] = np.nan
  np.testing.assert_allclose(_RATE(costs, mask, discount), top / bottom if bottom else 0, rtol=1e-5, atol=1e-6)


def test_the_rate_of_late_steps_does_not_vanish():
  mask = np.arange(3000) >= 2998
  costs = np.where(mask, np.arange(3000) % 2, np.nan)
  np.testing.assert_allclose(rewards.cost_rate(costs, mask, 0.9), 0.9 / 1.9, rtol=1e-5)  # 0.9**2998 is below 1e-137


@_few
@given(_seeds)
def test_multipliers_reward_and_updates(seed):
  logits, estimates, thresholds, costs = _draw(seed, 4, _K)
  base, reward = _draw(seed + 1, 2)
  weights = np.exp(np.append(base, logits).astype(np.float64))
  weights /= weights.sum()
  main, multipliers = _MULTIPLIERS(logits, base)
  close(np.append(main, multipliers), weights)
  for index in range(-1, _K):
    want = weights[0] if index < 0 else max(weights[0], weights[1:][index])
    close(rewards.bootstrap_weight(main, multipliers, index), want, weights)
  penalize = np.array([1, 0, 1])
  want = weights[0] * reward - sum(p * w * c for p, w, c in zip(penalize, weights[1:], costs))
  costs[1] = np.nan
  np.testing.assert_allclose(_REWARD(reward, costs, main, multipliers, penalize), want, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(_LOSS(logits, estimates, thresholds, base), _loss(logits, estimates, thresholds, base),
                             rtol=1e-4, atol=1e-5)
  slope = [(_loss(logits + h, estimates, thresholds, base) - _loss(logits - h, estimates, thresholds, base)) / 2e-5
           for h in 1e-5 * np.eye(_K)]
  np.testing.assert_allclose(_GRADIENT(logits, estimates, thresholds, base), slope, rtol=1e-3, atol=1e-4)
  close(_PLAIN(logits, estimates, thresholds, 0.5),
        [max(0, z + 0.5 * (j - d)) for z, j, d in zip(logits, estimates, thresholds)], logits, estimates, thresholds)


def test_the_gradient_is_that_of_the_loss_and_reaches_the_logits_alone():
  logits, estimates, thresholds = jnp.array(_draw(0, 3, _K))
  slopes = jax.grad(rewards.multiplier_loss, (0, 1, 2, 3))(logits, estimates, thresholds, 0.3)
  np.testing.assert_array_equal(slopes[0], rewards.multiplier_gradient(logits, estimates, thresholds, 0.3))
  assert np.any(slopes[0]) and not any(np.any(x) for x in slopes[1:])
  violated = rewards.multiplier_gradient(np.zeros(2), [0.9, 0.1], [0.5, 0.5])
  assert violated[0] < 0 < violated[1]  # a descent step raises the violated one


@_few
@given(_seeds, st.sampled_from([0.5, 0.9, 0.98]), st.sampled_from([0.05, 0.2, 1.0]))
def test_focus_reward(seed, focus, limit):
  rng = np.random.default_rng(seed)
  direction = rng.random(_K).astype(np.float32)
  outcomes = (direction * (1 + 0.2 * rng.normal(size=_K)).clip(0)).astype(np.float32) if seed % 2 else (
      rng.random(_K).astype(np.float32))
  f, w = outcomes.astype(np.float64), direction.astype(np.float64)
  cosine = f @ w / np.sqrt((f @ f) * (w @ w))
  want = f.sum() * cosine**(np.log(limit) / np.log(focus)) if cosine >= focus else 0
  if abs(cosine - focus) > 1e-6:  # a step: float32 may stand on the other side
    close(_FOCUS(outcomes, direction, focus, limit), want, outcomes, rtol=1e-4)


def test_edges_of_the_cone():
  for outcomes in ([1.0, 2.0], [0.1, 0.2], [0.3, 0.6], [7.0, 14.0]):
    close(rewards.focus_reward(outcomes, [0.3, 0.6], 1.0), sum(outcomes), rtol=1e-6)
  assert rewards.focus_reward([1.0, 2.1], [0.3, 0.6], 1.0) == 0
  assert rewards.focus_reward([0.0, 0.0], [1.0, 1.0]) == 0
  assert rewards.focus_reward([1.0, 1.0], [0.0, 0.0]) == 0
  np.testing.assert_allclose(rewards.focus_reward([1.0, 1.0], [1.0, 1.0], 0.9, 0.0), 2, rtol=1e-6)  # 1**inf
  assert rewards.focus_reward([1.0, 1.2], [1.0, 1.0], 0.9, 0.0) == 0


def test_worked_example():
  main, multipliers = rewards.normalized_multipliers([0, 1], 0)
  np.testing.assert_allclose(main, 0.211942, rtol=1e-5)
  np.testing.assert_allclose(multipliers, [0.211942, 0.576117], rtol=1e-5)
  weight = rewards.bootstrap_weight(main, multipliers, 1)
  np.testing.assert_allclose(weight, 0.576117, rtol=1e-5)
  np.testing.assert_allclose(rewards.lagrangian_reward(1, [1, 1], weight, multipliers, [1, 0]), 0.364175, rtol=1e-5)
  setting = [0, 1], [0.3, 0.9], [0.1, 0.2], 0
  np.testing.assert_allclose(rewards.multiplier_loss(*setting), -0.44567, rtol=1e-5)
  np.testing.assert_allclose(rewards.multiplier_gradient(*setting), [0.052068, -0.146524], rtol=1e-5)
  for outcomes, want in (([0.5, 0.5], 1), ([0.5, 0.6], 0.792527), ([0.5, 0.9], 0)):
    close(rewards.focus_reward(outcomes, [1, 1], 0.98, 0.2), want, rtol=1e-5)
  np.testing.assert_allclose(rewards.cost_rate([1, 0, 1], [1, 1, 1], 0.9), 0.667897, rtol=1e-5)


def test_bad_input_is_named():
  with pytest.raises(ValueError, match="bootstrap_index=2 is none of 2 constraints"):
    rewards.bootstrap_weight(0.5, np.zeros(2), 2)
  with pytest.raises(ValueError, match="bootstrap_index=-2"):
    rewards.bootstrap_weight(0.5, np.zeros(2), -2)
  with pytest.raises(ValueError, match="focus_cosine=0"):
    rewards.focus_reward(np.ones(2), np.ones(2), 0)
  with pytest.raises(AssertionError, match="rewards.cost_rate: costs has rank 2"):
    rewards.cost_rate(np.ones((2, 3)), np.ones((2, 3)))
  with pytest.raises(AssertionError, match="rewards.lagrangian_reward: multipliers has shape"):
    rewards.lagrangian_reward(1.0, np.ones(2), 0.5, np.ones(3), np.ones(2))
  with pytest.raises(AssertionError, match="rewards.multiplier_gradient: thresholds|multiplier_loss: thresholds"):
    rewards.multiplier_gradient(np.ones(2), np.ones(2), np.ones(3))
