"""The squashed Gaussian against a change of variables by numbers, and against its own histogram."""

import jax
import numpy as np
import pytest
from scipy import stats

from rlcore import policies
from tests.tolerance import close

MEAN, LOG_STD = np.float32([0.4, -1.0]), np.float32([-0.7, 0.2])


def test_the_density_is_the_change_of_variables():
  rng = np.random.default_rng(0)
  for before in rng.normal(size=(5, 2)):
    step = 1e-5  # the slope of the tanh by a difference
    slope = (np.tanh(before + step) - np.tanh(before - step)) / (2 * step)
    want = np.sum(stats.norm.logpdf(before, MEAN, np.exp(LOG_STD)) - np.log(slope))
    close(policies.tanh_gaussian_log_prob(before, MEAN, LOG_STD), want, rtol=1e-4)


def test_it_stays_exact_where_the_tanh_is_one():
  before = np.float32([20.0, -15.0])
  assert np.all(np.abs(np.tanh(before)) == 1)
  want = np.sum(stats.norm.logpdf(before.astype(float), MEAN, np.exp(LOG_STD.astype(float)))
                - (np.log(4) - 2 * np.abs(before)))  # 1 - tanh(u)^2 = 4 exp(-2 |u|) out there
  close(policies.tanh_gaussian_log_prob(before, MEAN, LOG_STD), want, rtol=1e-5)


def test_actions_are_drawn_with_the_density_that_is_said():
  keys = jax.random.split(jax.random.key(0), 40_000)
  draw = jax.jit(jax.vmap(lambda key: policies.tanh_gaussian_sample(key, MEAN[:1], LOG_STD[:1])))
  action, log_prob = map(np.asarray, draw(keys))
  again = jax.vmap(policies.tanh_gaussian_log_prob, (0, None, None))(np.arctanh(action), MEAN[:1], LOG_STD[:1])
  np.testing.assert_allclose(log_prob, again, atol=1e-2)  # arctanh loses digits near 1
  assert np.all(np.abs(action) <= 1)
  below = stats.norm.cdf(np.arctanh(0.3), MEAN[0], np.exp(LOG_STD[0]))
  np.testing.assert_allclose(np.mean(action < 0.3), below, atol=0.01)
  grid = np.linspace(-1, 1, 20_001)[1:-1].astype(np.float32)
  density = np.exp(jax.vmap(policies.tanh_gaussian_log_prob, (0, None, None))(
      np.arctanh(grid)[:, None], MEAN[:1], LOG_STD[:1]))
  np.testing.assert_allclose(np.sum(density) * 1e-4, 1, rtol=1e-3)


def test_bad_input():
  with pytest.raises(AssertionError, match="mean"):
    policies.tanh_gaussian_log_prob(np.zeros(2), np.zeros(3), np.zeros(2))
