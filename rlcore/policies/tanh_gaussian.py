"""Gaussians squashed into the cube of actions [-1, 1]."""

import jax
import jax.numpy as jnp

from rlcore import checks
from rlcore.policies import controller
from rlcore.types import Array


def tanh_gaussian_log_prob(before: Array, mean: Array, log_std: Array) -> Array:
  """Computes the log-density of the action `tanh(before)`, exactly, also where the tanh is 1 in float32.

  Args:
    before: `[A]`, the action before the tanh.
    mean: `[A]`, of the Gaussian.
    log_std: `[A]`, of the Gaussian.

  Returns:
    float32[]; differentiable in all three.

  Reference: SAC, arXiv:1812.05905, app. C, with log(1 - tanh(u)^2) = 2 (log 2 - u - softplus(-2 u)).
  """
  before, mean, log_std = (jnp.asarray(x, jnp.float32) for x in (before, mean, log_std))
  checks.rank(1, before=before)
  checks.same_shape(before=before, mean=mean, log_std=log_std)
  slope = 2 * (jnp.log(2.0) - before - jax.nn.softplus(-2 * before))
  return controller.gaussian_log_prob(before, mean, 2 * log_std) - jnp.sum(slope)


def tanh_gaussian_sample(key: Array, mean: Array, log_std: Array) -> tuple[Array, Array]:
  """Draws an action and says its log-density.

  Args:
    key: PRNG key.
    mean: `[A]`.
    log_std: `[A]`.

  Returns:
    `(action [A] in [-1, 1], log_prob [])`; differentiable in mean and log_std (reparametrised).

  Reference: SAC, arXiv:1812.05905, app. C.
  """
  before = mean + jnp.exp(log_std) * jax.random.normal(key, jnp.shape(mean))
  return jnp.tanh(before), tanh_gaussian_log_prob(before, mean, log_std)
