"""What a place of a sequence may look at."""

import jax.numpy as jnp

from rlcore.types import Array


def memory_window_mask(length: int, window: int) -> Array:
  """Lets every place see itself and the `window - 1` places before it.

  A memory too short to hold earlier episodes; a window of at least `length` is the causal mask, 1 sees the place alone.

  Args:
    length: static, T.
    window: static; with one below 1 nothing is seen.

  Returns:
    `[T, T]` bool, True where row i sees column j.

  Reference: Exploitation is all you need, arXiv:2508.01287 (agent memory).
  """
  places = jnp.arange(length)
  back = places[:, None] - places
  return (back >= 0) & (back < window)


def causal_mask(counted: Array, queries: int) -> Array:
  """Which of the places `[B, S]` each of the last `queries` places sees: `[B, 1, queries, S]`."""
  length = counted.shape[-1]
  own = jnp.arange(length - queries, length)[:, None]
  places = jnp.arange(length)
  # a place that is masked out may look at itself: its row of the softmax must not be empty
  return ((places <= own) & counted[:, None, :] | (places == own))[:, None]
