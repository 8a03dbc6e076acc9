"""An outcome redistributed over the steps that led to it: per-step contributions whose sum predicts the outcome."""

import jax
import jax.numpy as jnp

from rlcore import checks, stats
from rlcore.types import Array


def predicted_outcome(contributions: Array, step_mask: Array) -> Array:
  """Sums the contributions of the steps of one trajectory.

  Args:
    contributions: `[S]`, what a progress estimator says of each step.
    step_mask: `[S]`, > 0 where a step exists.

  Returns:
    float32[], 0 without any step; differentiable in `contributions`.

  Reference: SPA-RL, arXiv:2505.20732.
  """
  contributions, step_mask = map(jnp.asarray, (contributions, step_mask))
  checks.rank(1, contributions=contributions)
  checks.same_shape(contributions=contributions, step_mask=step_mask)
  return stats.masked_sum(contributions, step_mask)


def redistribution_residual(contributions: Array, step_mask: Array, outcome: Array | float) -> Array:
  """Says what of the outcome the contributions leave unexplained; 0 where they preserve the return.

  Args:
    contributions: `[S]`.
    step_mask: `[S]`, > 0 where a step exists.
    outcome: `[]`, final reward of the trajectory.

  Returns:
    float32[], outcome minus predicted outcome; no gradient flows.

  Reference: SPA-RL, arXiv:2505.20732.
  """
  checks.rank(0, outcome=outcome)
  residual = jnp.asarray(outcome, jnp.float32) - predicted_outcome(contributions, step_mask)
  return jax.lax.stop_gradient(residual)


def spa_step_rewards(
    contributions: Array, grounded: Array, step_mask: Array, alpha: Array | float = 1.0,
    beta: Array | float = 0.5) -> Array:
  """Pays every step its contribution and a bonus for an action that could be executed.

  The outcome is not added: the contributions sum to it. `alpha=0` leaves the bonus alone, `beta=0` the contributions.
  The released code counts the last step as grounded in any case; here a caller who wants that sets it.

  Args:
    contributions: `[S]`, what the progress estimator says of each step.
    grounded: `[S]`, 1 (or True) where the environment executed the action.
    step_mask: `[S]`, > 0 where a step exists.
    alpha: weight of the contributions.
    beta: weight of the bonus.

  Returns:
    `[S]` float32, 0 where no step exists; no gradient flows.

  Reference: SPA-RL, arXiv:2505.20732.
  """
  contributions, grounded, step_mask = map(jnp.asarray, (contributions, grounded, step_mask))
  checks.rank(1, contributions=contributions)
  checks.same_shape(contributions=contributions, grounded=grounded, step_mask=step_mask)
  contributions, grounded = stats.masked(contributions, step_mask), stats.masked(grounded, step_mask)
  return jax.lax.stop_gradient(alpha * contributions + beta * grounded)
