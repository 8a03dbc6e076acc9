"""Rewards that a discriminator between expert and learner pays."""

import jax
import jax.numpy as jnp

from rlcore import checks, stats
from rlcore.types import Array


def gail_reward(logits: Array, mask: Array) -> Array:
  """Pays each step by how much it looks like the expert's, `-log(1 - D)` with D = sigmoid(logit).

  It is never negative: whoever lives longer earns more, so it suits tasks in which an episode's end is no escape.

  Args:
    logits: `[T]`, of the discriminator (`losses.gail_discriminator_loss`); above 0 where a step looks like an expert's.
    mask: `[T]`, > 0 where a step counts.

  Returns:
    `[T]` float32, 0 where `mask` is not set. No gradient flows.

  Reference: GAIL, arXiv:1606.03476, algorithm 1 (its D is 1 - D here).
  """
  logits, mask = map(jnp.asarray, (logits, mask))
  checks.rank(1, logits=logits)
  checks.same_shape(logits=logits, mask=mask)
  return jax.lax.stop_gradient(stats.masked(jax.nn.softplus(stats.masked(logits, mask)), mask))
