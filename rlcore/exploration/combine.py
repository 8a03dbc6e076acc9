"""Several bonuses in one, scaled and added to the reward of the task; and when global bonuses can be trusted."""

import jax
import jax.numpy as jnp

from rlcore import checks, stats
from rlcore.rewards import normalise
from rlcore.types import Array

_MODES = ("mul", "add", "global", "episodic")


def combine_bonuses(
    global_bonus: Array, episodic_bonus: Array, mode: str = "mul", global_coef: Array | float = 1.0) -> Array:
  """Combines the novelty of a step in all training with that in its episode.

  Args:
    global_bonus: `[T]`, 0 in masked places; read unless the mode is "episodic".
    episodic_bonus: `[T]`, 0 in masked places; read unless the mode is "global".
    mode: static: "mul", the product; "add", `episodic + global_coef * global`; or "global" or "episodic" alone.
    global_coef: used by "add" only; a negative one makes global novelty a penalty.

  Returns:
    `[T]` float32; no gradient flows.

  Raises:
    ValueError: for another mode.

  Reference: A Study of Global and Episodic Bonuses, arXiv:2306.03236.
  """
  if mode not in _MODES:
    raise ValueError(f"mode={mode!r} must be one of {', '.join(_MODES)}")
  g, e = _float32(global_bonus), _float32(episodic_bonus)
  checks.rank(1, global_bonus=g)
  checks.same_shape(global_bonus=g, episodic_bonus=e)
  coef = _float32(global_coef)
  return {"mul": lambda: e * g, "add": lambda: e + coef * g, "global": lambda: g, "episodic": lambda: e}[mode]()


def scale_bonus(bonus: Array, running_std: Array | float) -> Array:
  """Divides a bonus by the standard deviation of all bonuses so far; without spread it stays as it is.

  No mean is subtracted: that would turn small bonuses into penalties. `stats.running_std` of the moments that
  `stats.running_stats_update` keeps gives the divisor.

  Args:
    bonus: any shape.
    running_std: `[]`; 0 (or below, or NaN) divides by 1.

  Returns:
    float32 of the same shape; no gradient flows.

  Reference: A Study of Global and Episodic Bonuses, arXiv:2306.03236 (its code, "int" normalisation).
  """
  checks.rank(0, running_std=running_std)
  bonus, std = _float32(bonus), _float32(running_std)
  return bonus / jnp.where(std > 0, std, 1)


def augmented_reward(
    extrinsic: Array, bonus: Array, coef: Array | float = 1.0, clip: Array | float = 0.0) -> Array:
  """Adds a bonus to the reward of the task, and clips the sum.

  Also known as: `total_reward` (which here is the return of an episode, `training.control.total_reward`).

  Args:
    extrinsic: any shape, the reward of the task.
    bonus: the same shape.
    coef: weight of the bonus; a negative one makes it a penalty.
    clip: bound on the absolute value of the sum; 0 or below for none.

  Returns:
    float32 of the same shape; no gradient flows. NaN in either stays NaN.

  Reference: A Study of Global and Episodic Bonuses, arXiv:2306.03236.
  """
  extrinsic, bonus = _float32(extrinsic), _float32(bonus)
  checks.same_shape(extrinsic=extrinsic, bonus=bonus)
  return clip_to_magnitude(extrinsic + _float32(coef) * bonus, clip)


def clip_to_magnitude(reward: Array, clip: Array | float) -> Array:
  """Clips to `[-clip, clip]`; a bound of 0 or below clips nothing. No gradient flows."""
  bound = jnp.where(jnp.asarray(clip) > 0, clip, jnp.inf)
  return normalise.clip_to_bounds(reward, low=-bound, high=bound)


def value_context_variance(values: Array, visited: Array) -> Array:
  """Measures how much the value of the same feature varies over contexts, by which global bonuses lose their sense.

  Args:
    values: `[C, S]`, value of feature s in context c.
    visited: `[C, S]`, 1 (or True) where the feature was seen in the context; values elsewhere are not read.

  Returns:
    float32[], the variance over contexts (divisor n), averaged over the features seen in at least two of them; 0 if
    there is none.

  Reference: A Study of Global and Episodic Bonuses, arXiv:2306.03236 (form inferred from the text).
  """
  values, visited = jnp.asarray(values), jnp.asarray(visited)
  checks.rank(2, values=values)
  checks.same_shape(values=values, visited=visited)
  variance = stats.masked_var(values, visited, axis=0)
  return stats.masked_mean(variance, stats.masked_count(values, visited, axis=0) >= 2)


def _float32(x: Array | float) -> Array:
  return jax.lax.stop_gradient(jnp.asarray(x)).astype(jnp.float32)
