"""Losses that teach a reward model: its outputs against outcomes and preferences."""

import chex
import jax.numpy as jnp

from rlcore.rewards import redistribution
from rlcore.types import Array


def progress_loss(contributions: Array, step_mask: Array, outcome: Array | float) -> Array:
  """Squares the difference between the outcome of a trajectory and the sum of its steps' contributions.

  Nothing binds a single contribution; only differences between trajectories attribute the outcome to steps. A caller
  averages over trajectories.

  Args:
    contributions: `[S]`, what the estimator says of each step.
    step_mask: `[S]`, > 0 where a step exists.
    outcome: `[]`, final reward of the trajectory.

  Returns:
    float32[], the squared outcome where there is no step; differentiable in `contributions`.

  Reference: SPA-RL, arXiv:2505.20732.
  """
  chex.assert_rank(outcome, 0)
  predicted = redistribution.predicted_outcome(contributions, step_mask)
  return jnp.square(predicted - jnp.asarray(outcome, jnp.float32))
