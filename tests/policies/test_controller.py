"""Codes, switches and controllers against loops in float64, and Internal RL's worked example."""

from hypothesis import given, settings, strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore import policies
from tests.tolerance import close

_few = settings(max_examples=12, deadline=None)
_seeds = st.integers(0, 2**32 - 1)
_T, _Z = 6, 3
_INTEGRATE = jax.jit(policies.temporal_integration)
_HARDEN = jax.jit(policies.harden_switch)
_DENSITY = jax.jit(jax.vmap(policies.gaussian_log_prob))
_POSTERIOR = jax.jit(policies.gaussian_posterior)


def _integrate(proposed, beta, initial):
  z, out = np.float64(initial), []
  for x, gate in zip(np.float64(proposed), np.float64(beta)):
    z = gate * x + (1 - gate) * z
    out.append(z)
  return np.array(out)


@_few
@given(_seeds)
def test_integration_and_its_gradient(seed):
  rng = np.random.default_rng(seed)
  proposed, initial = rng.normal(size=(_T, _Z)).astype(np.float32), rng.normal(size=_Z).astype(np.float32)
  for beta in (rng.random(_T).astype(np.float32), rng.random((_T, _Z)).astype(np.float32)):
    want = _integrate(proposed, beta, initial)
    np.testing.assert_allclose(_INTEGRATE(proposed, beta, initial), want, rtol=1e-5, atol=1e-6)


def test_integration_can_be_learned_through():
  proposed, beta = jnp.ones((3, 1)), jnp.array([0.5, 0.25, 0.0])
  slopes = jax.grad(lambda *x: policies.temporal_integration(*x)[-1, 0], (0, 1, 2))(proposed, beta, jnp.zeros(1))
  np.testing.assert_allclose(slopes[0][:, 0], [0.375, 0.25, 0])  # what the last code keeps of each proposal
  np.testing.assert_allclose(slopes[1], [0.75, 0.5, 0.375])  # (x - z) times what is kept
  np.testing.assert_allclose(slopes[2], [0.375])


@_few
@given(_seeds, st.sampled_from([0.0, 0.5, 1.0]))
def test_hard_switches(seed, density):
  rng = np.random.default_rng(seed)
  beta = rng.choice([0.2, 0.5, 0.7], _T).astype(np.float32)
  mask = rng.random(_T) < density
  want, opened = np.zeros(_T), False
  for t in range(_T):
    if mask[t]:
      want[t] = not opened or beta[t] > 0.5
      opened = True
  got = _HARDEN(np.where(mask, beta, np.nan), 0.5, mask)
  assert got.dtype == jnp.float32
  np.testing.assert_array_equal(got, want)


@_few
@given(_seeds)
def test_density(seed):
  x, mean, log_var = np.random.default_rng(seed).normal(size=(3, 4, _Z)).astype(np.float32)
  want = []
  for row in zip(*(np.float64(value) for value in (x, mean, log_var))):
    want.append(sum(-(a - b)**2 / (2 * np.exp(v)) - v / 2 - np.log(2 * np.pi) / 2 for a, b, v in zip(*row)))
  close(_DENSITY(x, mean, log_var), want, np.square(x - mean) / np.exp(log_var), log_var, rtol=1e-5)


@_few
@given(_seeds)
def test_controller(seed):
  rng = np.random.default_rng(seed)
  residual, left, right = (rng.normal(size=shape).astype(np.float32) for shape in ((5,), (5, 2), (5, 2)))
  want = np.float64(residual) + np.float64(left) @ (np.float64(right).T @ np.float64(residual))
  np.testing.assert_allclose(policies.apply_controller(residual, left, right), want, rtol=1e-4, atol=1e-5)


def test_worked_example():
  codes = policies.temporal_integration([[1, 0], [2, 2], [0, 4]], [1, 0.25, 0.9], [0, 0])
  np.testing.assert_allclose(codes, [[1, 0], [1.25, 0.5], [0.125, 3.65]], rtol=1e-6)
  new = policies.apply_controller([1, -1, 2], [[0.5], [0], [1]], [[1], [1], [1]])
  np.testing.assert_allclose(new, [2, -1, 4])
  np.testing.assert_allclose(policies.gaussian_log_prob([1, 0], [0.5, -0.2], [0, -1]), -1.517243, rtol=1e-6)
  np.testing.assert_array_equal(policies.harden_switch([1, 0.25, 0.9], 0.5, [1, 1, 1]), [1, 0, 1])


@_few
@given(_seeds)
def test_posterior_of_pulls_one_after_the_other(seed):
  rng = np.random.default_rng(seed)
  pulls, (prior, prior_var, noise) = rng.integers(0, 4, 3), rng.uniform(0.2, 2, 3)
  sums, means, variances = [], [], []
  for n in pulls:
    rewards, mean, var = rng.normal(size=n), prior, prior_var
    for reward in rewards:
      gain = var / (var + noise)
      mean, var = mean + gain * (reward - mean), (1 - gain) * var
    sums.append(rewards.sum() if n else np.nan)
    means.append(mean)
    variances.append(var)
  got = _POSTERIOR(prior, prior_var, noise, pulls, np.array(sums, np.float32))
  np.testing.assert_allclose(got, (means, variances), rtol=1e-4, atol=1e-5)


def test_worked_example_of_the_posterior():
  mean, var = policies.gaussian_posterior(0, 1, 0.25, [0, 2], [0, 1])
  np.testing.assert_allclose(mean, [0, 0.444444], rtol=1e-5)
  np.testing.assert_allclose(var, [1, 0.111111], rtol=1e-5)


def test_bad_input_is_named():
  with pytest.raises(AssertionError, match="policies.temporal_integration: beta has shape"):
    policies.temporal_integration(np.zeros((3, 2)), np.zeros((3, 1)), np.zeros(2))
  with pytest.raises(AssertionError, match="policies.temporal_integration: initial has shape"):
    policies.temporal_integration(np.zeros((3, 2)), np.zeros(3), np.zeros(3))
  with pytest.raises(AssertionError, match="policies.apply_controller: right has shape"):
    policies.apply_controller(np.zeros(3), np.zeros((3, 2)), np.zeros((3, 1)))
  with pytest.raises(AssertionError, match="policies.harden_switch: beta has rank 2"):
    policies.harden_switch(np.zeros((2, 3)), 0.5, np.zeros((2, 3)))
  with pytest.raises(AssertionError, match="policies.gaussian_log_prob: mean has shape"):
    policies.gaussian_log_prob(np.zeros(3), np.zeros(2), np.zeros(3))
  with pytest.raises(AssertionError, match="policies.gaussian_posterior: reward_sums has shape"):
    policies.gaussian_posterior(0.0, 1.0, 1.0, np.zeros(3), np.zeros(2))
