"""The elliptical bonus against a solve in float64, on random, long and repetitive episodes."""

from hypothesis import given, settings, strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore import exploration
from tests.tolerance import close

_T, _D = 9, 4
_seeds = st.integers(0, 2**31).map(np.random.default_rng)
bonuses = jax.jit(exploration.elliptical_bonus, static_argnames="zero_first")


def oracle(features, mask, ridge, zero_first=False):
  """Solves with the covariance itself, anew at every step."""
  features = np.asarray(features, np.float64)
  covariance, out, first = ridge * np.eye(features.shape[1]), np.zeros(len(features)), True
  for t in np.flatnonzero(mask):
    out[t] = 0 if first and zero_first else features[t] @ np.linalg.solve(covariance, features[t])
    covariance += np.outer(features[t], features[t])
    first = False
  return out


@pytest.mark.parametrize("zero_first", [False, True])
@settings(max_examples=25, deadline=None)
@given(_seeds)
def test_the_bonus_is_a_solve(zero_first, rng):
  mask = rng.random(_T) < rng.random()
  features = (rng.normal(size=(_T, _D)) * 10 ** rng.uniform(-2, 2)).astype(np.float32)
  features[rng.integers(_T)] = features[0]
  ridge = 10 ** rng.uniform(-1, 1)
  want = oracle(features, mask, np.float32(ridge), zero_first)
  got = bonuses(np.where(mask[:, None], features, np.nan), mask, ridge, zero_first)
  np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("size", [48, pytest.param(256, marks=pytest.mark.slow)])  # the larger shows no more
@pytest.mark.parametrize("make", [
    lambda rng, size: rng.normal(size=(1000, size)), lambda rng, size: 10 * rng.normal(size=(1000, size)),
    lambda rng, size: np.repeat(3 * rng.normal(size=(50, size)), 20, 0)], ids=["normal", "long", "repeated"])
def test_a_thousand_steps_do_not_drift(make, size):
  features = make(np.random.default_rng(0), size).astype(np.float32)
  got = bonuses(features, np.ones(1000), 0.1)
  np.testing.assert_allclose(got, oracle(features, np.ones(1000), np.float32(0.1)), rtol=3e-4)


@pytest.mark.parametrize("length", [1.0, 100.0])
def test_a_hundred_thousand_repeats_of_one_long_feature_do_not_drift(length):
  """The exact bonus of the n-th repeat is |f|^2 / (ridge + (n - 1) |f|^2); a million stay within .3 % (run by hand)."""
  direction = np.random.default_rng(3).normal(size=4)
  feature = (length * direction / np.linalg.norm(direction)).astype(np.float32)
  square = np.sum(np.float64(feature)**2)
  got = bonuses(np.broadcast_to(feature, (100_000, 4)), np.ones(100_000), 0.1)
  np.testing.assert_allclose(got, square / (np.float32(0.1) + square * np.arange(100_000)), rtol=2e-3)


@pytest.mark.parametrize("size", [1e-3, 0.3, 30.0])
def test_a_join_keeps_the_inverse_and_the_triangle(size):
  rng = np.random.default_rng(5)
  root, since = np.triu(rng.normal(size=(4, 4))), np.eye(4, dtype=np.float32)
  for feature in size * rng.normal(size=(9, 4)):
    _, since = exploration.elliptical_pair_update(root, since, feature)
  joined = np.float64(exploration.elliptical_join(root, since))
  factor = np.float32(root).astype(np.float64) @ np.float64(since)
  close(joined @ joined.T, factor @ factor.T, rtol=1e-5)
  np.testing.assert_allclose(np.tril(joined, -1), 0, atol=1e-6)
  assert np.isnan(exploration.elliptical_join(root, np.nan * since)).any()


def test_the_directions_beside_a_long_feature_keep_their_bonus():
  rng = np.random.default_rng(4)
  features = np.repeat(30 * rng.normal(size=(1, 4)), 3000, 0)
  features[2500::7] = rng.normal(size=(72, 4))
  got = bonuses(features.astype(np.float32), np.ones(3000), 0.1)
  np.testing.assert_allclose(got, oracle(features.astype(np.float32), np.ones(3000), np.float32(0.1)), rtol=3e-3)


@settings(max_examples=25, deadline=None)
@given(_seeds)
def test_one_update_is_that_of_the_inverse(rng):
  basis = rng.normal(size=(_D, _D))
  inverse = (basis @ basis.T + np.eye(_D)).astype(np.float32)
  inverse = (inverse + inverse.T) / 2
  feature = rng.normal(size=_D).astype(np.float32)
  bonus, new = exploration.elliptical_inverse_update(inverse, feature)
  f, exact = feature.astype(np.float64), inverse.astype(np.float64)
  close(bonus, f @ exact @ f, np.abs(f) @ np.abs(exact) @ np.abs(f))
  np.testing.assert_allclose(new, np.linalg.inv(np.linalg.inv(exact) + np.outer(f, f)), rtol=1e-3, atol=1e-4)
  np.testing.assert_array_equal(new, new.T)
  root = np.linalg.cholesky(exact)
  bonus, root = exploration.elliptical_root_update(root, feature)
  close(bonus, f @ exact @ f, np.abs(f) @ np.abs(exact) @ np.abs(f))
  np.testing.assert_allclose(root @ root.T, new, rtol=1e-3, atol=1e-4)


def test_an_inverse_that_is_updated_many_times_stays_symmetric_and_right():
  features = np.random.default_rng(1).normal(size=(300, 32)).astype(np.float32)
  def step(inverse, feature):
    bonus, inverse = exploration.elliptical_inverse_update(inverse, feature)
    return inverse, bonus
  inverse, got = jax.lax.scan(step, jnp.eye(32) / 0.1, features)
  np.testing.assert_array_equal(inverse, inverse.T)
  np.testing.assert_allclose(got, oracle(features, np.ones(300), np.float32(0.1)), rtol=1e-3)


def test_of_one_hot_features_it_is_a_count():
  keys = np.array([2, 0, 2, 2, 1, 0])
  counts = exploration.episodic_count(keys, np.ones(6))
  close(bonuses(np.eye(3)[keys], np.ones(6), 0.1), 1 / (0.1 + counts - 1), rtol=1e-5)


def test_worked_example():
  features = [[1, 0], [1, 0], [0, 1], [1, 1]]
  np.testing.assert_allclose(
      exploration.elliptical_bonus(features, [1] * 4, 0.1, True), [0, 0.909091, 10, 1.385281], rtol=1e-5)
  np.testing.assert_allclose(exploration.elliptical_bonus(features, [1] * 4, 0.1)[0], 10, rtol=1e-6)


def test_a_feature_that_is_not_finite_leaves_no_trace_before_it_and_no_number_after():
  features = np.ones((5, 2), np.float32)
  features[2, 0] = np.nan
  np.testing.assert_array_equal(np.isfinite(bonuses(features, np.ones(5))), [True, True, False, False, False])


@pytest.mark.parametrize("call, error, match", [
    (lambda: exploration.elliptical_bonus(np.ones((2, 3)), np.ones(2), 0.0), ValueError, "ridge=0.0 must be above 0"),
    (lambda: exploration.elliptical_bonus(np.ones((2, 3)), np.ones(2), -1), ValueError, "ridge=-1"),
    (lambda: exploration.elliptical_bonus(np.ones((2, 3)), np.ones(3)), AssertionError, "mask has shape"),
    (lambda: exploration.elliptical_bonus(np.ones(3), np.ones(3)), AssertionError, "features has rank 1, expected 2"),
    (lambda: exploration.elliptical_inverse_update(np.eye(3), np.ones(2)), AssertionError,
     "exploration.elliptical_inverse_update: cov_inverse has shape"),
    (lambda: exploration.elliptical_root_update(np.eye(2)[:1], np.ones(2)), AssertionError, "root has shape"),
])
def test_bad_input(call, error, match):
  with pytest.raises(error, match=match):
    call()


def test_a_traced_ridge_that_is_not_above_zero_makes_nan():
  assert np.isnan(bonuses(np.ones((3, 2)), np.ones(3), jnp.array([-1.0, 0.0])[0])).all()
