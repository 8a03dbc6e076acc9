"""Novelty of networks, combined bonuses and the reward of the agent, against NumPy in float64."""

from hypothesis import given, settings, strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore import exploration, stats
from tests.tolerance import close

_T = 7
_few = settings(max_examples=25, deadline=None)
_seeds = st.integers(0, 2**31).map(np.random.default_rng)


@_few
@given(_seeds)
def test_novelty_is_a_norm(rng):
  prediction, target = rng.normal(size=(2, 5)).astype(np.float32)
  away = prediction.astype(np.float64) - target
  value, gradient = jax.value_and_grad(exploration.rnd_novelty)(prediction, target)
  close(value, np.linalg.norm(away), rtol=1e-6)
  np.testing.assert_allclose(gradient, away / np.linalg.norm(away), rtol=1e-5, atol=1e-6)


def test_novelty_of_what_is_predicted_exactly_is_zero_and_has_no_gradient():
  value, gradient = jax.value_and_grad(exploration.rnd_novelty)(jnp.ones(3), jnp.ones(3))
  assert value == 0 and not np.any(gradient)
  assert np.isnan(exploration.rnd_novelty([np.nan, 1], [0, 1]))


@_few
@given(_seeds)
def test_gain_of_novelty(rng):
  novelty, mask = rng.random(_T + 1).astype(np.float32), rng.random(_T) < 0.6
  alpha = rng.choice([-0.5, 0, 0.1, 0.5, 1, 3])
  exact = novelty.astype(np.float64)
  want = [max(exact[t + 1] - alpha * exact[t], 0) if mask[t] else 0 for t in range(_T)]
  unused = ~(np.append(mask, False) | np.append(False, mask))
  got = exploration.noveld_bonus(np.where(unused, np.nan, novelty), mask, alpha)
  np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mode", ["mul", "add", "global", "episodic"])
@_few
@given(_seeds)
def test_combination(mode, rng):
  g, e, coef = *rng.random((2, _T)).astype(np.float32), rng.normal()
  want = {"mul": g * e, "add": e + coef * g, "global": g, "episodic": e}[mode]
  np.testing.assert_allclose(exploration.combine_bonuses(g, e, mode, coef), want, rtol=1e-5, atol=1e-6)


def test_a_bonus_that_the_mode_leaves_out_is_not_read():
  nan, one = np.full(2, np.nan), np.ones(2)
  np.testing.assert_array_equal(exploration.combine_bonuses(nan, one, "episodic"), one)
  np.testing.assert_array_equal(exploration.combine_bonuses(one, nan, "global"), one)
  assert np.isnan(exploration.combine_bonuses(one, nan, "mul")).all()


@_few
@given(_seeds)
def test_scaled_and_added(rng):
  extrinsic, bonus = rng.normal(size=(2, _T)).astype(np.float32)
  std, coef, clip = rng.choice([0, 0.3, -1]), rng.choice([0, 1, -0.7]), rng.choice([-1, 0, 0.5])
  scaled = bonus.astype(np.float64) / (std if std > 0 else 1)
  close(exploration.scale_bonus(bonus, std), scaled, rtol=1e-6)
  total = extrinsic + coef * scaled
  want = np.clip(total, -clip, clip) if clip > 0 else total
  np.testing.assert_allclose(exploration.augmented_reward(extrinsic, scaled, coef, clip), want, rtol=1e-4, atol=1e-6)


@_few
@given(_seeds)
def test_variance_over_contexts(rng):
  values, visited = rng.normal(size=(4, 5)).astype(np.float32) + 100, rng.random((4, 5)) < rng.random()
  columns = [v.astype(np.float64)[k] for v, k in zip(values.T, visited.T) if k.sum() >= 2]
  want = np.mean([np.var(c) for c in columns]) if columns else 0
  got = exploration.value_context_variance(np.where(visited, values, np.nan), visited)
  np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-6)


def test_worked_example():
  g = exploration.noveld_bonus([0.5, 0.6, 0.1, 0.9, 0.9], [1] * 4, 0.5)
  e = exploration.elliptical_bonus([[1, 0], [1, 0], [0, 1], [1, 1]], [1] * 4, 0.1, True)
  product = exploration.combine_bonuses(g, e)
  np.testing.assert_allclose(g, [0.35, 0, 0.85, 0.45], rtol=1e-5)
  np.testing.assert_allclose(product, [0, 0, 8.5, 0.623377], rtol=1e-5)
  np.testing.assert_allclose(
      exploration.combine_bonuses(g, e, "add", 0.1), [0.035, 0.909091, 10.085, 1.430281], rtol=1e-5)
  np.testing.assert_allclose(exploration.augmented_reward([0, 0, 0, 1], product, 1, 1), [0, 0, 1, 1])


@pytest.mark.parametrize("call, error, match", [
    (lambda: exploration.combine_bonuses([1], [1], "product"), ValueError, "mul, add, global, episodic"),
    (lambda: exploration.combine_bonuses([1, 2], [1]), AssertionError, "episodic_bonus has shape"),
    (lambda: exploration.noveld_bonus([1, 2], [1, 1]), AssertionError, "exploration.noveld_bonus: mask has shape"),
    (lambda: exploration.rnd_novelty([[1]], [[1]]), AssertionError, "jax.vmap"),
    (lambda: exploration.rnd_novelty([1], [1, 2]), AssertionError, "target has shape"),
    (lambda: exploration.augmented_reward([1, 2], [1]), AssertionError, "bonus has shape"),
    (lambda: exploration.scale_bonus([1, 2], [1, 2]), AssertionError, "running_std has rank 1"),
    (lambda: exploration.value_context_variance([1], [1]), AssertionError, "values has rank 1, expected 2"),
])
def test_bad_input(call, error, match):
  with pytest.raises(error, match=match):
    call()


@_few
@given(_seeds)
def test_running_moments_by_chans_formula(rng):
  mean, var, count = 0.0, 1.0, 1e-4
  got = (mean, var, count)
  for _ in range(3):
    batch, mask = rng.normal(3, 2, _T).astype(np.float32), rng.random(_T) < rng.random()
    counted = batch[mask].astype(np.float64)
    n = len(counted)
    if n:
      delta, total = counted.mean() - mean, count + n
      spread = counted.var(ddof=1) if n > 1 else 0.0
      var = (var * count + spread * n + delta**2 * count * n / total) / total
      mean, count = mean + delta * n / total, total
    got = stats.running_moments_update(*got, np.where(mask, batch, np.nan), mask)
    np.testing.assert_allclose(got, (mean, var, count), rtol=1e-4, atol=1e-5)
