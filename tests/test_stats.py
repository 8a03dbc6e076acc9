"""`rlcore.stats` against loops in float64, on random input, and the numbers of the papers' worked examples."""

import math

from hypothesis import given, settings, strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore import stats
from tests.tolerance import close

_few = settings(max_examples=20, deadline=None)
_number = st.floats(-50, 50, width=32) | st.sampled_from([0.0, 0.7, -1.0])


@st.composite
def _batches(draw, arrays=1, size=9):
  """`arrays` lists of one length, with a mask; masked places hold NaN half of the time."""
  columns = [draw(st.lists(_number, min_size=size, max_size=size)) for _ in range(arrays)]
  mask = np.array(draw(st.lists(st.booleans(), min_size=size, max_size=size)), np.float32)
  junk = draw(st.sampled_from([np.nan, 3.0]))
  return *(np.where(mask > 0, np.array(c, np.float32), np.float32(junk)) for c in columns), mask


def _counted(values, mask):
  return [float(v) for v, m in zip(values, mask) if m > 0]


def _mean(xs):
  return math.fsum(xs) / len(xs) if xs else 0.0


def _sum_of_squares(xs):
  return math.fsum((x - _mean(xs)) ** 2 for x in xs)


@_few
@given(_batches(), st.integers(0, 2))
def test_variance_and_deviation(batch, ddof):
  values, mask = batch
  xs = _counted(values, mask)
  want = _sum_of_squares(xs) / (len(xs) - ddof) if len(xs) > ddof else 0.0
  np.testing.assert_allclose(stats.masked_var(values, mask, ddof=ddof), want, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(stats.masked_std(values, mask, ddof=ddof), math.sqrt(want), rtol=1e-4, atol=1e-3)
  deviations = [x - _mean(xs) if m > 0 else 0 for x, m in zip(values, mask)]
  np.testing.assert_allclose(stats.centred(values, mask), deviations, rtol=1e-5, atol=1e-4)


@_few
@given(_batches(), st.booleans(), st.sampled_from([0.5, 1.0]))
def test_whiten(batch, shift_mean, power):
  values, mask = batch
  xs = _counted(values, mask)
  var = _sum_of_squares(xs) / max(len(xs), 1)
  def whitened(x):
    return (x - _mean(xs)) * (var + 1e-8) ** (-power / 2) + (0 if shift_mean else _mean(xs))
  want = [whitened(float(x)) if m > 0 else 0.0 for x, m in zip(values, mask)]
  got = stats.whiten(values, mask, shift_mean=shift_mean, power=power)
  np.testing.assert_allclose(got, want, rtol=2e-3 if var < 1e-3 else 1e-4, atol=1e-4)


def test_statistics_along_an_axis():
  values, mask = np.random.default_rng(0).normal(size=(4, 6)), np.arange(24).reshape(4, 6) % 3 > 0
  got = stats.masked_var(values, mask, axis=1, ddof=1)
  close(got, [v[m].var(ddof=1) for v, m in zip(values, mask)], rtol=1e-5)
  np.testing.assert_allclose(
      stats.centred(values, axis=0), values - values.mean(0, keepdims=True), rtol=1e-5, atol=1e-6)


def test_whiten_gives_the_numbers_of_fine_grained_rlhf():
  values, mask = np.array([0, 0.8, 0, 0, -0.8, -0.08, 5]), np.array([1, 1, 1, 1, 1, 1, 0])
  np.testing.assert_allclose(
      stats.whiten(values, mask, shift_mean=False),
      stats.whiten(values, mask) + (values * mask).sum() / 6 * mask, atol=1e-6)
  np.testing.assert_allclose(
      stats.whiten(values, mask), [0.028808, 1.757261, 0.028808, 0.028808, -1.699646, -0.144038, 0], atol=2e-6)
  np.testing.assert_allclose(
      stats.whiten(values, mask, power=0.5),
      [0.019598, 1.195508, 0.019598, 0.019598, -1.156311, -0.097992, 0], atol=2e-6)


@pytest.mark.parametrize("value", [0.7, -1e4, 3e-5, 16777217.0])
@pytest.mark.parametrize("count", [3, 7, 1000])
def test_equal_values_have_no_spread_at_all(value, count):
  values = jnp.full(count, value, jnp.float32)
  assert not np.any(stats.centred(values)) and stats.masked_std(values) == 0 and not np.any(stats.whiten(values))
  moments = stats.running_stats_update(stats.running_stats_update(stats.running_stats_init(), values), values)
  assert moments["m2"] == 0 and moments["mean"] == jnp.float32(value) and stats.running_std(moments) == 0


def test_gradient_of_the_deviation_is_that_of_the_formula_and_zero_without_spread():
  x = jnp.array([1.0, 4.0, -2.0])
  close(jax.grad(stats.masked_std)(x), (x - 1) / (3 * jnp.std(x)), rtol=1e-5)
  np.testing.assert_array_equal(jax.grad(stats.masked_std)(jnp.full(3, 0.7)), 0)


@_few
@given(st.lists(_batches(), min_size=1, max_size=4))
def test_running_moments_are_those_of_everything_seen(batches):
  moments, seen = stats.running_stats_init(), []
  for values, mask in batches:
    moments = stats.running_stats_update(moments, values, mask)
    seen += _counted(values, mask)
  want = dict(
      count=len(seen), mean=_mean(seen), m2=_sum_of_squares(seen), min=min(seen, default=np.inf),
      max=max(seen, default=-np.inf))
  for name, value in want.items():
    np.testing.assert_allclose(moments[name], value, rtol=1e-4, atol=1e-4, err_msg=name)


@_few
@given(_batches(), _batches())
def test_merging_equals_one_pass_in_either_order(first, second):
  update = lambda batch: stats.running_stats_update(stats.running_stats_init(), *batch)
  whole = update(tuple(np.concatenate(pair) for pair in zip(first, second)))
  for merged in (stats.running_stats_merge(update(first), update(second)),
                 stats.running_stats_merge(update(second), update(first))):
    for name in whole:
      np.testing.assert_allclose(merged[name], whole[name], rtol=1e-4, atol=1e-3, err_msg=name)


def _naive_correlation(xs, ys):
  if len(xs) < 2:
    return 0.0
  if xs == ys:
    return 1.0
  sxx, syy = _sum_of_squares(xs), _sum_of_squares(ys)
  if sxx <= 1e-12 + 1e-10 * math.fsum(x * x for x in xs) or syy <= 1e-12 + 1e-10 * math.fsum(y * y for y in ys):
    return 0.0
  return math.fsum((x - _mean(xs)) * (y - _mean(ys)) for x, y in zip(xs, ys)) / math.sqrt(sxx * syy)


def _naive_ranks(xs):
  return [sum(y < x for y in xs) + (sum(y == x for y in xs) + 1) / 2 for x in xs]


@_few
@given(_batches(arrays=2))
def test_correlations(batch):
  x, y, mask = batch
  x, y = np.round(x), np.round(y / 8)  # far from the threshold of a constant, and with ties
  xs, ys = _counted(x, mask), _counted(y, mask)
  np.testing.assert_allclose(stats.pearson_correlation(x, y, mask), _naive_correlation(xs, ys), rtol=1e-4, atol=1e-5)
  rank_x, rank_y = _naive_ranks(xs), _naive_ranks(ys)
  np.testing.assert_allclose(_counted(stats.average_ranks(x, mask), mask), rank_x)
  np.testing.assert_allclose(
      stats.spearman_correlation(x, y, mask), _naive_correlation(rank_x, rank_y), rtol=1e-4, atol=1e-5)


def test_correlation_of_a_constant_has_no_gradient():
  grad = jax.grad(stats.pearson_correlation, (0, 1))(jnp.full(5, 0.7), jnp.arange(5.0))
  np.testing.assert_array_equal(grad, 0)


@pytest.mark.parametrize("size", [1e-30, 1e-12, 1.0, 1e13, 1e20, 1e37])
def test_a_spread_of_any_size_is_measured_before_its_squares_overflow(size):
  values = np.float32(size) * np.float32([0, 1, 1, 3, 0.5, 2])
  exact = np.float64(values)
  np.testing.assert_allclose(stats.masked_std(values, ddof=1), exact.std(ddof=1), rtol=1e-5)
  np.testing.assert_allclose(jax.grad(stats.masked_std)(values), (exact - exact.mean()) / (6 * exact.std()), rtol=1e-4)
  np.testing.assert_allclose(stats.euclidean_norm(values), np.linalg.norm(exact), rtol=1e-5)
  np.testing.assert_allclose(stats.whiten(values, eps=0.0), (exact - exact.mean()) / exact.std(), rtol=1e-5, atol=1e-5)
  root = stats.whiten(values, eps=0.0, power=0.5) / np.float64(size)**0.5
  np.testing.assert_allclose(root, (exact - exact.mean()) / exact.std()**0.5 / size**0.5, rtol=1e-4, atol=1e-5)
  if size > 1e-12:  # below the eps of what is constant
    np.testing.assert_allclose(stats.pearson_correlation(values, values**0.5), np.corrcoef(exact, exact**0.5)[0, 1],
                               rtol=1e-5)
  if size >= 1:  # moments keep no root
    moments = stats.running_stats_init()
    for part in (values[:2], values[2:]):
      moments = stats.running_stats_update(moments, part)
      assert np.isfinite(list(moments.values())).all()
    np.testing.assert_allclose(stats.running_std(moments), exact.std(), rtol=1e-5)


def test_the_first_batch_may_have_a_mean_whose_square_overflows():
  moments = stats.running_stats_update(stats.running_stats_init(), np.full(3, 1e25, np.float32))
  assert moments["m2"] == 0 and moments["mean"] == np.float32(1e25) and stats.running_std(moments) == 0


@pytest.mark.parametrize("fn", [
    stats.whiten, stats.masked_mean, stats.masked_sum, stats.masked_count, stats.masked_std])
def test_a_mask_of_one_column_is_refused(fn):
  with pytest.raises(AssertionError, match=r"mask has shape \(2, 1\)"):
    fn(np.ones((2, 3)), np.ones((2, 1)))
