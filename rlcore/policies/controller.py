"""A policy inside of a frozen model: codes that are held until a switch, and the controller that writes them into the
residual stream."""

import math

import jax
import jax.numpy as jnp

from rlcore import checks
from rlcore.advantages.temporal import reward_to_go
from rlcore.types import Array


def temporal_integration(proposed: Array, beta: Array, initial: Array) -> Array:
  """Takes over a proposed code as far as the switch is open, and holds the old one for the rest.

  `z_t = beta_t x_t + (1 - beta_t) z_{t-1}`: beta gates the NEW code. There is no mask: of padding, `proposed` and
  `beta` are to be 0.

  Args:
    proposed: `[T, Z]`, x.
    beta: `[T]`, or `[T, Z]` for a switch of every dimension, in [0, 1].
    initial: `[Z]`, the code before the first step; 0 at the start of an episode.

  Returns:
    `[T, Z]` float32, differentiable in all three.

  Reference: Internal RL, arXiv:2512.20605.
  """
  proposed, beta, initial = map(jnp.asarray, (proposed, beta, initial))
  checks.rank(2, proposed=proposed)
  checks.rank({1, 2}, beta=beta)
  beta = beta if beta.ndim == 2 else jnp.broadcast_to(beta[:, None], (beta.shape[0], proposed.shape[1]))
  checks.same_shape(proposed=proposed, beta=beta)
  checks.shape(proposed.shape[1:], initial=initial)
  proposed, beta, initial = (x.astype(jnp.float32) for x in (proposed, beta, initial))
  # Backwards in time this is a sum of rewards to go, whose discount is what is held.
  backwards = lambda x: jnp.flip(x, 0)
  hold = lambda new, kept, start: reward_to_go(new, None, kept, bootstrap_value=start)
  held = jax.vmap(hold, (1, 1, 0), 1)(backwards(beta * proposed), backwards(1 - beta), initial)
  return backwards(held)


def apply_controller(residual: Array, left: Array, right: Array) -> Array:
  """Writes into the residual stream by a linear map of low rank: `e + left (right^T e)`.

  Args:
    residual: `[D]`, e.
    left: `[D, r]`.
    right: `[D, r]`.

  Returns:
    `[D]` float32, the new residual, e included; differentiable in all three.

  Reference: Internal RL, arXiv:2512.20605.
  """
  residual, left, right = (jnp.asarray(x, jnp.float32) for x in (residual, left, right))
  checks.rank(1, residual=residual)
  checks.rank(2, left=left)
  checks.same_shape(left=left, right=right)
  checks.same_prefix(1, residual=residual, left=left)
  return residual + left @ (residual @ right)


def harden_switch(beta: Array, threshold: Array | float, mask: Array) -> Array:
  """Decides where a policy draws a new code: in its first step, and wherever the soft switch is above a threshold.

  Record the decisions in the rollout: an update that computes them anew may decide otherwise.

  Args:
    beta: `[T]`, soft switch.
    threshold: `[]`; 0.5 in the paper.
    mask: `[T]`, > 0 where a step counts.

  Returns:
    `[T]` float32 of 0 and 1, 0 where `mask` is not set; no gradient flows.

  Reference: Internal RL, arXiv:2512.20605.
  """
  beta, mask = map(jnp.asarray, (beta, mask))
  checks.rank(1, beta=beta)
  checks.same_shape(beta=beta, mask=mask)
  checks.rank(0, threshold=threshold)
  keep = mask > 0
  first = keep & (jnp.cumsum(keep) == 1)
  return jax.lax.stop_gradient((first | keep & (beta.astype(jnp.float32) > threshold)).astype(jnp.float32))


def gaussian_log_prob(x: Array, mean: Array, log_var: Array) -> Array:
  """Computes the log-density of a code under a diagonal Gaussian, summed over its dimensions.

  Args:
    x: `[Z]`.
    mean: `[Z]`.
    log_var: `[Z]`, log of the variances.

  Returns:
    float32[], the constant with 2 pi included; differentiable in all three.

  Reference: Internal RL, arXiv:2512.20605.
  """
  x, mean, log_var = (jnp.asarray(value, jnp.float32) for value in (x, mean, log_var))
  checks.rank(1, x=x)
  checks.same_shape(x=x, mean=mean, log_var=log_var)
  return -0.5 * jnp.sum(jnp.square(x - mean) * jnp.exp(-log_var) + log_var + math.log(2 * math.pi))
