"""Rewards brought to a common range: fixed bounds and constants, or moments of the rewards seen so far.

The functions of moments become transforms by `rewards.with_running_stats`, the others by `rewards.on_outcome`.
"""

import jax
import jax.numpy as jnp

from rlcore import stats
from rlcore.types import Array, PyTree


def clip_to_bounds(reward: Array, *, low: float = -jnp.inf, high: float = jnp.inf) -> Array:
  """Clips a reward to fixed bounds.

  Also known as: `clip_ceiling` (`high` alone). For bounds that follow the rewards seen so far use `clip_reward`.

  Args:
    reward: any shape.
    low: lower bound.
    high: upper bound.

  Returns:
    float32 of the same shape; no gradient flows.

  Reference: PAR, arXiv:2502.18770 (ceiling); DQN, Nature 518 (clipping to [-1, 1]).
  """
  return jax.lax.stop_gradient(jnp.clip(jnp.asarray(reward, jnp.float32), low, high).astype(jnp.float32))


def standardized_reward(
    reward: Array, mean: float | Array = 0.0, std: float | Array = 1.0, *, scale: float | Array = 1.0,
    bias: float | Array = 0.0) -> Array:
  """Scales and shifts a reward by known constants, `(reward - mean) / std * scale + bias`.

  Args:
    reward: any shape.
    mean: subtracted.
    std: divisor, not 0.
    scale: factor.
    bias: added at the end.

  Returns:
    float32 of the same shape; no gradient flows.

  Reference: Fine-Grained RLHF, arXiv:2306.01693 (its code).
  """
  shifted = (jnp.asarray(reward, jnp.float32) - mean) / std * scale + bias
  return jax.lax.stop_gradient(shifted.astype(jnp.float32))


def meanstd_reward(reward: Array, running: PyTree) -> Array:
  """Normalises a reward by the mean and standard deviation of the rewards seen so far.

  Without spread (fewer than two rewards, or all equal) the divisor is 1.

  Args:
    reward: any shape.
    running: moments from `stats.running_stats_update`.

  Returns:
    float32 of the same shape; no gradient flows.

  Reference: PAR, arXiv:2502.18770 (its code).
  """
  std = stats.running_std(running)
  return standardized_reward(reward, running["mean"], jnp.where(std > 0, std, 1))


def clip_reward(reward: Array, running: PyTree) -> Array:
  """Clips a reward to one standard deviation around the mean of the rewards seen so far.

  Args:
    reward: any shape.
    running: moments from `stats.running_stats_update`.

  Returns:
    float32 of the same shape; no gradient flows.

  Reference: PAR, arXiv:2502.18770 (its code).
  """
  mean, std = running["mean"], stats.running_std(running)
  return clip_to_bounds(reward, low=mean - std, high=mean + std)


def minmax_reward(reward: Array, running: PyTree) -> Array:
  """Maps a reward to its place between the extremes seen so far; 0 where the extremes coincide or nothing was seen.

  Args:
    reward: any shape.
    running: moments from `stats.running_stats_update`.

  Returns:
    float32 of the same shape, in [0, 1] for a reward that the moments include; no gradient flows.

  Reference: PAR, arXiv:2502.18770 (its code divides by 0 where the extremes coincide).
  """
  low, high = running["min"], running["max"]
  flat = high <= low
  mapped = standardized_reward(reward, jnp.where(flat, 0, low), jnp.where(flat, 1, high - low))
  return jnp.where(flat, 0, mapped)
