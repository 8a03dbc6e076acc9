"""Losses of a policy that acts by latent codes and holds them for a while: how codes are discovered, and chosen."""

import jax
import jax.numpy as jnp

from rlcore import checks, stats
from rlcore.losses.divergences import gaussian_kl
from rlcore.losses.policy import clip_loss
from rlcore.types import Array


def discovery_loss(
    action_log_probs: Array, mean: Array, log_var: Array, beta: Array, mask: Array, kl_coef: Array | float = 0.1,
    gate_kl: bool = False) -> Array:
  """Weighs how well codes explain actions against how much they say: `-log p + kl_coef * KL(code || N(0, I))`.

  Args:
    action_log_probs: `[T]`, of the demonstrated actions under the controlled model.
    mean: `[T, Z]`, of the codes that are proposed.
    log_var: `[T, Z]`, log of their variances.
    beta: `[T]` or `[T, Z]`, how far a step takes the proposed code over; read only with `gate_kl`.
    mask: `[T]`, > 0 where a step counts.
    kl_coef: weight of the divergence, which is summed over Z; THE setting that decides how often codes switch.
    gate_kl: static; multiplies the divergence of a step by its beta (the mean over Z if beta is `[T, Z]`).

  Returns:
    float32 scalar, the mean over counted steps; 0 where nothing counts. Differentiable in all but the mask.

  Reference: Internal RL, arXiv:2512.20605 (its variational objective).
  """
  action_log_probs, mean, log_var, beta, mask = map(jnp.asarray, (action_log_probs, mean, log_var, beta, mask))
  checks.rank(1, action_log_probs=action_log_probs)
  checks.rank(2, mean=mean)
  checks.same_shape(mean=mean, log_var=log_var)
  checks.same_shape(action_log_probs=action_log_probs, mask=mask)
  checks.same_prefix(1, mask=mask, mean=mean)
  _check_beta(beta, mean)
  rows = (mask > 0)[:, None]
  divergence = jax.vmap(gaussian_kl)(stats.masked(mean, rows), stats.masked(log_var, rows))
  if gate_kl:
    gates = stats.masked(beta if beta.ndim == 2 else beta[:, None], rows)
    divergence *= jnp.sum(gates, 1) / max(gates.shape[1], 1)
  return stats.masked_mean(kl_coef * divergence - stats.masked(action_log_probs, mask), mask)


def internal_policy_loss(
    new_log_probs: Array, old_log_probs: Array, advantages: Array, switch: Array, mask: Array,
    clip: Array | float = 0.2) -> Array:
  """Computes PPO's clipped loss over the steps in which a policy chose a new code.

  Every counted step a switch gives the loss of an ordinary policy.

  Args:
    new_log_probs: `[T]`, of the codes under the policy that is trained, summed over their dimensions.
    old_log_probs: `[T]`, when the codes were drawn.
    advantages: `[T]`, constants.
    switch: `[T]`, > 0 where a code was drawn, as recorded in the rollout.
    mask: `[T]`, > 0 where a step counts.
    clip: distance of either bound of the ratio from 1.

  Returns:
    float32 scalar, to be minimised: the mean over counted switches, 0 without any; differentiable in `new_log_probs`.

  Reference: Internal RL, arXiv:2512.20605; PPO, arXiv:1707.06347, eq. 7.
  """
  new, old, advantages, switch, mask = map(jnp.asarray, (new_log_probs, old_log_probs, advantages, switch, mask))
  checks.rank(1, new_log_probs=new)
  checks.same_shape(new_log_probs=new, old_log_probs=old, advantages=advantages, switch=switch, mask=mask)
  checks.at_least(0, clip=clip)
  chosen = (switch > 0) & (mask > 0)
  return clip_loss(new[None], old[None], advantages[None], chosen[None], clip_low=clip, clip_high=None)[0]


def _check_beta(beta: Array, mean: Array):
  if beta.ndim == 2:
    checks.same_shape(mean=mean, beta=beta)
  else:
    checks.shape(mean.shape[:1], beta=beta)
