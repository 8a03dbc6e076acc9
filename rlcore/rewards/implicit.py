"""Implicit process rewards: a model's log-ratio to the policy that acted is the reward of each of its steps."""

import jax
import jax.numpy as jnp

from rlcore import checks, segments, stats
from rlcore.types import Array

_AGGREGATES = ("sum", "mean")


def implicit_step_rewards(
    logp_prm: Array, logp_old: Array, step_id: Array, mask: Array, num_steps: int, beta: float | Array = 0.05) -> Array:
  """Sums the scaled log-ratio of reward model and behaviour policy over the tokens of every step.

  Args:
    logp_prm: `[T]`, log-probabilities under the reward model; not stopped, its loss needs the gradient.
    logp_old: `[T]`, log-probabilities under the policy that drew the tokens, when it drew them; a constant.
    step_id: `[T]` int32; an id that is no step is dropped.
    mask: `[T]`, > 0 where a token counts.
    num_steps: static, S.
    beta: reward of one nat.

  Returns:
    `[S]` float32, 0 for a step without a counted token.

  Reference: OPRL / iStar, arXiv:2509.19199, sec. 3.
  """
  logp_prm, logp_old, step_id, mask = map(jnp.asarray, (logp_prm, logp_old, step_id, mask))
  checks.same_shape(logp_prm=logp_prm, logp_old=logp_old, step_id=step_id, mask=mask)
  ratio = stats.masked(logp_prm, mask) - jax.lax.stop_gradient(stats.masked(logp_old, mask))
  return beta * segments.step_sums(ratio, step_id, mask, num_steps)


def trajectory_scores(step_rewards: Array, step_mask: Array, aggregate: str = "sum") -> Array:
  """Scores trajectories by the sum (as the paper writes it) or the mean (as its code does) of their step rewards.

  Args:
    step_rewards: `[N, S]`.
    step_mask: `[N, S]`, > 0 where a step counts.
    aggregate: static, "sum" or "mean"; the mean takes out the effect of the length.

  Returns:
    `[N]` float32, 0 for a trajectory without a counted step; differentiable.

  Raises:
    ValueError: for another aggregate.

  Reference: OPRL / iStar, arXiv:2509.19199, sec. 3.
  """
  if aggregate not in _AGGREGATES:
    raise ValueError(f"aggregate={aggregate!r} must be one of {_AGGREGATES}")
  step_rewards, step_mask = map(jnp.asarray, (step_rewards, step_mask))
  checks.rank(2, step_rewards=step_rewards)
  checks.same_shape(step_rewards=step_rewards, step_mask=step_mask)
  reduce = stats.masked_sum if aggregate == "sum" else stats.masked_mean
  return reduce(step_rewards, step_mask, axis=1)


def normalize_step_rewards(
    step_rewards: Array, step_mask: Array, eps: float = 1e-6, axis_name: stats.AxisName = None) -> Array:
  """Divides step rewards by the largest magnitude in the batch, so that they lie in [-1, 1] and keep their sign.

  Args:
    step_rewards: `[N, S]`.
    step_mask: `[N, S]`, > 0 where a step counts.
    eps: added to the largest magnitude.
    axis_name: mapped axes that the batch spans.

  Returns:
    `[N, S]` float32, 0 in masked places, all 0 if all are 0; no gradient flows.

  Reference: OPRL / iStar, arXiv:2509.19199 (its code, `batch_norm`).
  """
  step_rewards, step_mask = map(jnp.asarray, (step_rewards, step_mask))
  checks.rank(2, step_rewards=step_rewards)
  checks.same_shape(step_rewards=step_rewards, step_mask=step_mask)
  rewards = jax.lax.stop_gradient(stats.masked(step_rewards, step_mask))
  largest = jnp.max(jnp.abs(rewards), initial=0)
  if axis_name is not None:
    largest = jax.lax.pmax(largest, axis_name)
  return rewards / (largest + eps)
