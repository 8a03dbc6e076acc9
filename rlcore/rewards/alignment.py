"""A reward that mixes the true reward with a designer's heuristic, by weights that an outer problem learns."""

import jax
import jax.numpy as jnp

from rlcore import checks, stats
from rlcore.types import Array


def alignment_reward(
    bias: Array | float, w_primary: Array | float, w_aux: Array | float, primary: Array, aux: Array,
    mask: Array) -> Array:
  """Mixes two rewards, `bias + w_primary primary + w_aux aux`, so that the mixture can be learned.

  (0, 1, 1) is the naive sum, where learning starts; (0, 1, 0) the true reward alone.

  Args:
    bias: `[]` or `[T]`, or the outputs of a network, like the weights.
    w_primary: `[]` or `[T]`.
    w_aux: `[]` or `[T]`.
    primary: `[T]`, the true reward.
    aux: `[T]`, the heuristic one.
    mask: `[T]`, > 0 where a step counts.

  Returns:
    `[T]` float32, 0 where `mask` is not set. NOT stopped: it is differentiable in weights and rewards.

  Reference: BARFI, arXiv:2310.19007 (the form is inferred).
  """
  primary, aux, mask = map(jnp.asarray, (primary, aux, mask))
  weights = dict(bias=bias, w_primary=w_primary, w_aux=w_aux)
  checks.rank(1, primary=primary)
  checks.rank({0, 1}, **weights)
  checks.same_shape(primary=primary, aux=aux, mask=mask, **{k: w for k, w in weights.items() if jnp.ndim(w)})
  bias, w_primary, w_aux, primary, aux = (
      stats.masked(jnp.broadcast_to(jnp.asarray(x), mask.shape), mask) for x in (bias, w_primary, w_aux, primary, aux))
  return bias + w_primary * primary + w_aux * aux


def learned_discount(logit: Array | float) -> Array:
  """Maps a logit to a discount between 0 and 1 that can be learned.

  Args:
    logit: any shape; 4 gives 0.982, where learning starts.

  Returns:
    float32 of the same shape, the logistic function; differentiable.

  Reference: BARFI, arXiv:2310.19007.
  """
  return jax.nn.sigmoid(jnp.asarray(logit).astype(jnp.float32))
