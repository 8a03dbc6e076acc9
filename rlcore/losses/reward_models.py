"""Losses that teach a reward model: its outputs against outcomes and preferences."""

import jax
import jax.numpy as jnp

from rlcore import checks, stats
from rlcore.rewards import implicit, redistribution
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
  checks.rank(0, outcome=outcome)
  predicted = redistribution.predicted_outcome(contributions, step_mask)
  return jnp.square(predicted - jnp.asarray(outcome, jnp.float32))


def trajectory_dpo_loss(step_rewards: Array, step_mask: Array, outcome: Array, aggregate: str = "sum") -> Array:
  """Prefers the better of every two trajectories of one task: mean of `-log sigmoid(score_better - score_worse)`.

  All ordered pairs with a strictly better outcome count; with a binary outcome, every success with every failure.

  Args:
    step_rewards: `[N, S]`, implicit rewards.
    step_mask: `[N, S]`, > 0 where a step counts; a trajectory without a counted step is in no pair.
    outcome: `[N]`, a constant.
    aggregate: static, of `rewards.trajectory_scores`.

  Returns:
    float32[], 0 with gradient 0 if there is no pair.

  Raises:
    ValueError: for an unknown aggregate.

  Reference: OPRL / iStar, arXiv:2509.19199, sec. 3 (trajectory-based DPO).
  """
  step_mask, outcome = map(jnp.asarray, (step_mask, outcome))
  checks.rank(1, outcome=outcome)
  scores = implicit.trajectory_scores(step_rewards, step_mask, aggregate)
  checks.same_prefix(1, step_mask=step_mask, outcome=outcome)
  exists = jnp.any(step_mask > 0, 1)
  outcome = jax.lax.stop_gradient(outcome)
  pair = (outcome[:, None] > outcome[None, :]) & exists[:, None] & exists[None, :]
  return stats.masked_mean(jax.nn.softplus(scores[None, :] - scores[:, None]), pair)
