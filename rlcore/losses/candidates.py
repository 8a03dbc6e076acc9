"""Objectives of rollouts that branch: several candidates for every step."""

from typing import Literal

import jax.numpy as jnp

from rlcore import checks, stats
from rlcore.losses.importance import importance_ratio
from rlcore.losses.policy import clipped_surrogate
from rlcore.stats import AxisName
from rlcore.types import Array


def slate_objective(
    logp: Array, logp_old: Array, advantages: Array, mask: Array, step_mask: Array, clip_eps: float | Array = 0.2,
    ratio_level: Literal["token", "sequence"] = "token", *, axis_name: AxisName = None) -> Array:
  """Computes the clipped surrogate of k candidates for each of S steps, to be MAXIMISED.

  A candidate's surrogate is averaged over its k siblings, the chosen one being one of them, then over the active steps.
  A KL penalty is not part of it: subtract `beta` times the mean of `losses.kl_estimate`.

  Args:
    logp: `[S, k, T]`, log-probabilities under the policy that is trained.
    logp_old: `[S, k, T]`, when the tokens were sampled, each candidate after the prefix of its step.
    advantages: `[S, k]`, of each candidate among its siblings; constants.
    mask: `[S, k, T]`, > 0 where a token counts. A candidate without such a token adds 0 and still counts in k.
    step_mask: `[S]`, > 0 where a step is active; nothing of the others is read.
    clip_eps: distance of either bound of the ratio from 1.
    ratio_level: static. "token": the mean over the candidate's tokens of the surrogate of each; "sequence": the
      surrogate of one ratio, exp of the mean log-ratio of the candidate's tokens.
    axis_name: mapped axes over which the steps are spread.

  Returns:
    float32[], 0 where no step is active; differentiable in `logp`.

  Raises:
    ValueError: for an unknown `ratio_level`.

  Reference: SLATE, arXiv:2602.23440 (objective); PPO, arXiv:1707.06347, eq. 7.
  """
  if ratio_level not in ("token", "sequence"):
    raise ValueError(f'ratio_level={ratio_level!r} is neither "token" nor "sequence"')
  logp, logp_old, advantages, mask, step_mask = map(jnp.asarray, (logp, logp_old, advantages, mask, step_mask))
  checks.rank(3, logp=logp, logp_old=logp_old, mask=mask)
  checks.rank(2, advantages=advantages)
  checks.rank(1, step_mask=step_mask)
  checks.at_least(0, clip_eps=clip_eps)
  checks.same_shape(logp=logp, logp_old=logp_old, mask=mask)
  checks.same_prefix(1, logp=logp, advantages=advantages, step_mask=step_mask)
  checks.same_prefix(2, logp=logp, advantages=advantages)
  active = step_mask > 0
  counted = (mask > 0) & active[:, None, None]
  credit = stats.masked(jnp.broadcast_to(advantages[..., None], mask.shape), counted)
  rows = lambda x: jnp.reshape(x, (mask.shape[0] * mask.shape[1], mask.shape[2]))
  ratios = importance_ratio(rows(logp), rows(logp_old), rows(counted), ratio=ratio_level)
  surrogate = clipped_surrogate(ratios, rows(credit), clip_low=clip_eps, clip_high=None)
  # the ratio of a sequence is the same at each of its tokens, so that its mean over them is the surrogate itself
  candidates = stats.masked_mean(surrogate, rows(counted), axis=1)
  steps = stats.masked_count(active, active, axis_name=axis_name)
  return stats.masked_sum(candidates, axis_name=axis_name) / (max(mask.shape[1], 1) * jnp.maximum(steps, 1))
