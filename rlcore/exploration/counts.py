"""How often something was seen, in this episode or in all training, and the bonus for what was seen rarely.

A key (a cell, a message, a hash of an observation) is an integer. Counts include the current step and are exact.
"""

import jax
import jax.numpy as jnp

from rlcore import checks, stats
from rlcore.types import Array

_KINDS = ("isqrt", "indicator")


def episodic_count(keys: Array, mask: Array | None = None, *, is_first: Array | None = None) -> Array:
  """Counts for every step how often its key has occurred in the episode, the step itself included.

  Args:
    keys: `[T]` int32, any integers.
    mask: `[T]`, 1 where a step counts; None counts all. A masked step is not counted by later ones either.
    is_first: `[T]`, 1 where an episode begins, before that step is counted; None for one episode.

  Returns:
    `[T]` int32, 0 in masked places. Takes O(T log T) time and O(T) memory.

  Reference: A Study of Global and Episodic Bonuses, arXiv:2306.03236.
  """
  keys = jnp.asarray(keys)
  mask, is_first = (x if x is None else jnp.asarray(x) for x in (mask, is_first))
  checks.rank(1, keys=keys)
  checks.integers(keys=keys)
  checks.same_shape(keys=keys, mask=mask, is_first=is_first)
  keep = stats.as_mask(mask, keys)
  place = jnp.arange(keys.size, dtype=jnp.int32)
  # Stable: equal keys stay in the order of time, and with it in that of the episodes.
  by_key, order = jax.lax.sort((keys, place), num_keys=1, is_stable=True)
  begins = jnp.append(True, by_key[1:] != by_key[:-1])[:keys.size]
  if is_first is not None:
    episode = jnp.cumsum(is_first > 0, dtype=jnp.int32)[order]
    begins |= jnp.append(True, episode[1:] != episode[:-1])[:keys.size]
  counted = jnp.cumsum(keep[order], dtype=jnp.int32)
  earlier = jax.lax.cummax(jnp.where(begins, counted - keep[order], 0))  # counted before this run of equal keys
  counts = jnp.zeros(keys.size, jnp.int32).at[order].set(counted - earlier, unique_indices=True)
  return jnp.where(keep, counts, 0)


def episodic_message_count(ids: Array, is_first: Array) -> Array:
  """Counts for every step of a stream how often its message has occurred in the current episode.

  It is `episodic_count` of a stream that goes on through resets, without masked steps.

  Args:
    ids: `[T]` int32, message of each step, the message of a reset included.
    is_first: `[T]`, 1 where an episode begins: the table is cleared before that step is counted. Step 0 starts with an
      empty table whatever it says here.

  Returns:
    `[T]` int32, at least 1.

  Reference: ONI, arXiv:2410.23022.
  """
  return episodic_count(ids, is_first=is_first)


def global_count(
    counts: Array, keys: Array, mask: Array | None = None, *,
    axis_name: stats.AxisName = None) -> tuple[Array, Array]:
  """Counts for every step how often its key has occurred in all training, the step itself included.

  Several environments at a time are one trajectory, flattened time-major. With `axis_name` the places of that axis
  share one table: it takes in the steps of all of them, but within a batch each place sees its own steps only, and
  those of the others a batch later.

  Args:
    counts: `[K]`, occurrences before this batch. A float32 table stops growing at 2**24.
    keys: `[T]` int32 in [0, K); any other key belongs to nobody and has count 0.
    mask: `[T]`, 1 where a step counts; None counts all.
    axis_name: mapped axes that share the table.

  Returns:
    `(counts_at_t [T], new_counts [K])`: int32, or float32 if the table is of floats, 0 in masked places; and the table
    after the batch, in its own dtype.

  Reference: A Study of Global and Episodic Bonuses, arXiv:2306.03236.
  """
  counts, keys = map(jnp.asarray, (counts, keys))
  checks.rank(1, counts=counts, keys=keys)
  within = episodic_count(keys, mask)
  size = counts.shape[0]
  slots = jnp.where((within > 0) & (keys >= 0) & (keys < size), keys, size)
  exact = jnp.int32 if jnp.issubdtype(counts.dtype, jnp.integer) else jnp.float32
  before = stats.lookup(counts, slots).astype(jnp.promote_types(counts.dtype, exact))
  increments = jnp.zeros(size, jnp.int32).at[slots].add(1, mode="drop")
  if axis_name is not None:
    increments = jax.lax.psum(increments, axis_name)
  return jnp.where(slots < size, before + within.astype(before.dtype), 0), counts + increments.astype(counts.dtype)


def count_bonus(counts: Array, mask: Array | None = None, kind: str = "isqrt") -> Array:
  """Pays for what was seen rarely: one over the root of its count, or only the first time.

  Args:
    counts: `[T]`, occurrences including the current one; 0 pays 0.
    mask: `[T]`, 1 where a step counts; None counts all.
    kind: static, "isqrt" or "indicator" (1 where the count is 1).

  Returns:
    `[T]` float32, 0 in masked places; no gradient flows.

  Raises:
    ValueError: for another kind.

  Reference: A Study of Global and Episodic Bonuses, arXiv:2306.03236; MBIE-EB, Strehl and Littman, 2008.
  """
  if kind not in _KINDS:
    raise ValueError(f"kind={kind!r} must be one of {', '.join(_KINDS)}")
  counts = jnp.asarray(counts)
  checks.rank(1, counts=counts)
  checks.same_shape(counts=counts, mask=mask)
  counts = jax.lax.stop_gradient(stats.masked(counts, mask))
  seen = counts > 0
  if kind == "indicator":
    return (counts == 1).astype(jnp.float32)
  return jnp.where(seen, 1 / jnp.sqrt(jnp.where(seen, counts, 1)), 0)
