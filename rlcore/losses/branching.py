"""Losses of branching rollouts, whose paths share edges: every edge counts once, however many leaves lie below it."""

import jax
import jax.numpy as jnp

from rlcore import checks, stats
from rlcore.losses.importance import importance_ratio
from rlcore.losses.policy import clipped_surrogate
from rlcore.types import Array


def branch_grpo_loss(
    logp: Array, logp_old: Array, adv: Array, weight: Array, keep: Array | None = None,
    clip_range: float | Array = 1e-3) -> Array:
  """Computes the clipped policy loss over the edges of a tree, laid out by leaf.

  Args:
    logp: `[N, L]`, log-probability of the edge into depth d (row d - 1) on the path to each leaf; differentiable.
    logp_old: `[N, L]`, when the tree was rolled out.
    adv: `[N, L]`, from `advantages.depthwise_advantage`.
    weight: `[N, L]`, n_d / L, so that the repetitions of a shared edge count as one.
    keep: `[N, L]` or what broadcasts to it (`mask[:, None]` of a depth mask), 0 where an edge is pruned; None keeps
      all.
    clip_range: distance of the ratio's bounds from 1. The default is for log-probabilities averaged over dimensions,
      whose ratios are tiny; scale it with the log-probability.

  Returns:
    float32 scalar, to be minimised: the weighted mean of the loss of the edges, 0 where nothing is kept. What has
    weight 0 may be NaN and has gradient 0.

  Reference: BranchGRPO, arXiv:2509.06040, eq. 2.
  """
  logp, logp_old, adv, weight = map(jnp.asarray, (logp, logp_old, adv, weight))
  checks.rank(2, logp=logp)
  checks.same_shape(logp=logp, logp_old=logp_old, adv=adv, weight=weight)
  checks.at_least(0, clip_range=clip_range)
  weight = jax.lax.stop_gradient(stats.masked(weight, weight))
  if keep is not None:
    keep = jnp.broadcast_to(jax.lax.stop_gradient(jnp.asarray(keep)), weight.shape)
    weight = weight * stats.masked(keep, keep)
  ratio = importance_ratio(logp, logp_old, weight)
  loss = -clipped_surrogate(ratio, stats.masked(adv, weight), clip_low=clip_range, clip_high=None)
  total = jnp.sum(weight)
  return jnp.sum(weight * loss) / jnp.where(total > 0, total, 1)
