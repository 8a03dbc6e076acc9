"""Step scores of a process reward model, refined so that more steps cannot buy a larger return.

One solution of S steps. `process` holds a score for the prefix that ends with each step; `step_mask` is > 0 where a
step exists and may have holes, so "next" is the next step that exists and "last" the last one.
"""

import jax
import jax.numpy as jnp

from rlcore import checks, segments, stats
from rlcore.types import Array

MODES = ("none", "clip", "delta", "clip_delta")


def clip_rewards(process: Array, step_mask: Array, eta: Array | float = 0.5) -> Array:
  """Turns step scores into penalties: a step whose score reaches `eta` costs nothing, a worse one its shortfall.

  Args:
    process: `[S]`, scores.
    step_mask: `[S]`, > 0 where a step exists.
    eta: score from which on a step is good.

  Returns:
    `[S]` float32, `min(process - eta, 0)`, 0 where no step exists; no gradient flows.

  Reference: Clip-Delta, arXiv:2410.15115, the Clip mechanism.
  """
  process = _scores(process, step_mask)
  return jax.lax.stop_gradient(stats.masked(jnp.minimum(process - eta, 0), step_mask))


def delta_rewards(process: Array, step_mask: Array) -> Array:
  """Subtracts from every score the next step's, the last step's own score counting as 0.

  The sum from any step but the last is that step's own score, whatever follows: the return is bounded, but the last
  step gets 0 and the one before it its whole score, which pays a policy for not stopping (`clip_delta` does not).

  Args:
    process: `[S]`, scores.
    step_mask: `[S]`, > 0 where a step exists.

  Returns:
    `[S]` float32, 0 where no step exists; a solution of one step gets 0. No gradient flows.

  Reference: Clip-Delta, arXiv:2410.15115, the Delta mechanism.
  """
  process = _scores(process, step_mask)
  following = segments.next_counted(step_mask)
  process = jnp.where(following < process.shape[0], process, 0)
  later = process.at[following].get(mode="fill", fill_value=0)
  return jax.lax.stop_gradient(stats.masked(process - later, step_mask))


def refine_process_rewards(
    process: Array, step_mask: Array, mode: str = "clip_delta", eta: Array | float = 0.5) -> Array:
  """Refines step scores in one of four ways.

  Args:
    process: `[S]`, scores.
    step_mask: `[S]`, > 0 where a step exists.
    mode: static. "none" takes the scores as they are, "clip" is `clip_rewards`, "delta" is `delta_rewards`,
      "clip_delta" clips first and takes the differences of that.
    eta: score from which on a step is good; not used by "none" and "delta".

  Returns:
    `[S]` float32, 0 where no step exists; no gradient flows.

  Raises:
    ValueError: for an unknown mode.

  Reference: Clip-Delta, arXiv:2410.15115.
  """
  _check_mode(mode)
  refined = clip_rewards(process, step_mask, eta) if mode.startswith("clip") else _scores(process, step_mask)
  return delta_rewards(refined, step_mask) if mode.endswith("delta") else jax.lax.stop_gradient(refined)


def shaped_step_rewards(
    process: Array, step_mask: Array, success: Array | float, alpha: Array | float = 1.0, mode: str = "clip_delta",
    eta: Array | float = 0.5) -> Array:
  """Adds refined step scores to the success reward, which sits on the last step.

  Args:
    process: `[S]`, scores.
    step_mask: `[S]`, > 0 where a step exists.
    success: `[]`, reward of the whole solution.
    alpha: weight of the refined scores.
    mode: static, as in `refine_process_rewards`.
    eta: as in `refine_process_rewards`.

  Returns:
    `[S]` float32, 0 where no step exists (without any step the success is lost); no gradient flows.

  Raises:
    ValueError: for an unknown mode.

  Reference: Clip-Delta, arXiv:2410.15115.
  """
  refined = refine_process_rewards(process, step_mask, mode, eta)
  checks.rank(0, success=success)
  success = jnp.where(segments.is_last_counted(step_mask), jnp.asarray(success, jnp.float32), 0)
  return jax.lax.stop_gradient(jnp.asarray(alpha, jnp.float32) * refined + success)


def return_upper_bound(
    success: Array | float, alpha: Array | float, mode: str, eta: Array | float, p_max: Array | float,
    num_steps: Array | int) -> Array:
  """Bounds the return of a solution whose scores are all at most `p_max`: only "none" grows with its length.

  Args:
    success: `[]`, reward of the whole solution.
    alpha: weight of the refined scores, at least 0.
    mode: static, as in `refine_process_rewards`.
    eta: as in `refine_process_rewards`.
    p_max: largest score.
    num_steps: number of steps, at least 1.

  Returns:
    float32[], the largest sum of `shaped_step_rewards`.

  Raises:
    ValueError: for an unknown mode.

  Reference: Clip-Delta, arXiv:2410.15115.
  """
  _check_mode(mode)
  success, alpha, eta, p_max = (jnp.asarray(x, jnp.float32) for x in (success, alpha, eta, p_max))
  best = jnp.minimum(p_max - eta, 0) if mode.startswith("clip") else p_max
  paid = jnp.minimum(num_steps - 1, 1) if mode.endswith("delta") else num_steps
  return jax.lax.stop_gradient(success + alpha * best * paid)


def _scores(process: Array, step_mask: Array) -> Array:
  process, step_mask = map(jnp.asarray, (process, step_mask))
  checks.rank(1, process=process)
  checks.same_shape(process=process, step_mask=step_mask)
  return stats.masked(process, step_mask)


def _check_mode(mode: str):
  if mode not in MODES:
    raise ValueError(f"mode must be one of {', '.join(MODES)}, not {mode!r}")
