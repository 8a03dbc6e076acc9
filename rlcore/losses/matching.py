"""Losses that teach a generative model its data."""

import jax
import jax.numpy as jnp

from rlcore import checks, stats
from rlcore.types import Array


def flow_matching_loss(velocity: Array, data: Array, noise: Array, mask: Array | None = None) -> Array:
  """Averages the squared distance of a predicted velocity from that of the straight path, `noise - data`.

  The prediction belongs to the point `(1 - sigma) * data + sigma * noise` (`policies.interpolate`).

  Args:
    velocity: `[B, ...]`, predicted; differentiable.
    data: `[B, ...]`.
    noise: `[B, ...]`, standard normal.
    mask: `[B]` or None, > 0 where an example counts.

  Returns:
    float32 scalar, the mean over examples and dimensions; 0 where nothing counts.

  Reference: Flow Matching, arXiv:2210.02747, eq. 23; Rectified Flow, arXiv:2209.03003, eq. 1.
  """
  velocity, data, noise = map(jnp.asarray, (velocity, data, noise))
  checks.same_shape(velocity=velocity, data=data, noise=noise)
  checks.rank(1, mask=mask)
  checks.same_prefix(1, velocity=velocity, mask=mask)
  keep = None if mask is None else jnp.asarray(mask).reshape(-1, *[1] * (jnp.ndim(velocity) - 1))
  as_kept = lambda x: stats.masked(x, keep)
  target = jax.lax.stop_gradient(as_kept(noise) - as_kept(data))
  return stats.masked_mean(jnp.square(as_kept(velocity) - target), keep)
