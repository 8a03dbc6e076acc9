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
  unknown = jnp.any(jnp.isnan(outcome) & exists)  # such an outcome is in no pair, and would go unnoticed
  return jnp.where(unknown, jnp.nan, 1) * stats.masked_mean(jax.nn.softplus(scores[None, :] - scores[:, None]), pair)


def classification_loss(logits: Array, labels: Array, weights: Array) -> Array:
  """Averages the cross entropy of labels, with weights.

  Args:
    logits: `[N, C]`.
    labels: `[N]` int32 in [0, C), constants. One outside, where it has weight, makes the loss NaN: nothing was learned.
    weights: `[N]`, constants; one of 0 (or below, or NaN) hides its example.

  Returns:
    float32[], 0 with gradient 0 if no example has weight; differentiable in `logits`.

  Reference: ONI, arXiv:2410.23022 (classification).
  """
  logits, labels = jnp.asarray(logits), jnp.asarray(labels)
  weights = jax.lax.stop_gradient(jnp.asarray(weights))
  checks.rank(2, logits=logits)
  checks.integers(labels=labels)
  checks.rank(1, labels=labels)
  checks.same_prefix(1, logits=logits, labels=labels, weights=weights)
  checks.same_shape(labels=labels, weights=weights)
  checks.nonempty(1, logits=logits)
  keep = weights > 0
  log_probs = jax.nn.log_softmax(stats.masked(logits, keep[:, None]))
  exists = (labels >= 0) & (labels < logits.shape[1])
  chosen = jnp.take_along_axis(log_probs, jnp.where(exists, labels, 0)[:, None], 1)[:, 0]
  surprise = stats.masked(jnp.where(exists, -chosen, jnp.nan), keep)
  weights = stats.masked(weights, keep)
  total = jnp.sum(weights)
  return jnp.sum(weights * surprise) / jnp.where(total > 0, total, 1)


def ranking_loss(score_first: Array, score_second: Array, label: Array | int) -> Array:
  """Asks that the preferred of two scores be the larger one (Bradley-Terry); a tie asks that they be equal.

  `-(1 - y) log sigmoid(first - second) - y log sigmoid(second - first)`. A caller averages over pairs.

  Args:
    score_first: `[]`.
    score_second: `[]`.
    label: `[]`, a constant: 0 if the first is preferred (y = 0), 1 the second (y = 1), anything else is a tie or
      unknown (y = 0.5).

  Returns:
    float32[], differentiable in both scores; it stays exact where the scores are hundreds apart.

  Reference: ONI, arXiv:2410.23022 (ranking); Motif, arXiv:2310.00166.
  """
  score_first, score_second, label = map(jnp.asarray, (score_first, score_second, label))
  checks.rank(0, score_first=score_first, score_second=score_second, label=label)
  lead = score_second.astype(jnp.float32) - score_first.astype(jnp.float32)
  target = jnp.where(label == 0, 0.0, jnp.where(label == 1, 1.0, 0.5))
  return (1 - target) * jax.nn.softplus(lead) + target * jax.nn.softplus(-lead)
