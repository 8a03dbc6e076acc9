"""Bandits: what is known of the arms."""

import jax.numpy as jnp

from rlcore import checks
from rlcore.types import Array


def gaussian_posterior(
    prior_mean: Array | float, prior_var: Array | float, noise_var: Array | float, pulls: Array, reward_sums: Array
) -> tuple[Array, Array]:
  """Updates a Gaussian belief about the mean reward of every arm; Thompson sampling draws from it.

  Args:
    prior_mean: `[]`, of every arm.
    prior_var: `[]`, at least 0.
    noise_var: `[]`, variance of a reward around its arm's mean; 0 makes one pull tell all.
    pulls: `[K]`, how often each arm was pulled.
    reward_sums: `[K]`, what it paid in sum; not read where there was no pull.

  Returns:
    `(mean [K], variance [K])`, float32; the prior for an arm that was never pulled.

  Reference: D. Russo et al., A Tutorial on Thompson Sampling, arXiv:1707.02038; as a baseline: arXiv:2508.01287.
  """
  prior_mean, prior_var, noise_var, pulls, reward_sums = (
      jnp.asarray(x, jnp.float32) for x in (prior_mean, prior_var, noise_var, pulls, reward_sums))
  checks.rank(0, prior_mean=prior_mean, prior_var=prior_var, noise_var=noise_var)
  checks.rank(1, pulls=pulls)
  checks.same_shape(pulls=pulls, reward_sums=reward_sums)
  known = (pulls > 0) & (prior_var > 0)
  sums = jnp.where(known, reward_sums - pulls * prior_mean, 0)
  scale = jnp.where(known, noise_var + pulls * prior_var, 1)
  mean = prior_mean + prior_var * sums / scale
  return mean, jnp.where(known, prior_var * noise_var / scale, prior_var)
