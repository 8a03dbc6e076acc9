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
