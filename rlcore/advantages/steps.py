"""Credit and choice among candidates for one step."""

import chex
import jax
import jax.numpy as jnp

from rlcore import stats
from rlcore.types import Array


def reward_weighted_probs(advantages: Array, temperature: float = 0.7, mask: Array | None = None) -> Array:
  """Says how likely each candidate for a step is to be the one that a rollout goes on from: softmax(A / temperature).

  Draw with `jax.random.categorical(key, jnp.log(probabilities))`. Equal advantages give equal probabilities.

  Args:
    advantages: `[k]`, the normalised advantage of each candidate (not its reward).
    temperature: static; 0 or less gives all to the greatest advantage, to the first of several.
    mask: `[k]` or None, > 0 where a candidate exists.

  Returns:
    `[k]` float32 that sum to 1, 0 where `mask` is not set; all 0 where it is set nowhere. No gradient flows.

  Reference: SLATE, arXiv:2602.23440 (truncated step-level sampling).
  """
  advantages = jax.lax.stop_gradient(jnp.asarray(advantages))
  chex.assert_rank(advantages, 1)
  keep = stats.as_mask(mask, advantages)
  advantages = jnp.where(keep, advantages, -jnp.inf).astype(jnp.float32)
  if temperature <= 0:
    best = jnp.arange(advantages.size) == jnp.argmax(advantages)
    return stats.masked(best, keep)
  # the greatest is taken off before the division: however small the temperature, it keeps its weight of 1
  greatest = jnp.max(advantages, initial=-jnp.inf)
  weights = stats.masked(jnp.exp((advantages - greatest) / temperature), keep)
  return weights / jnp.maximum(jnp.sum(weights), 1)
