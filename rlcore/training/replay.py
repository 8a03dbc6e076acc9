"""Replay of steps: a ring buffer of flashbax, whose steps are joined n in a row into one, or come in sequences.

flashbax (extra `[replay]`) is imported when a buffer is made.
"""

from collections.abc import Callable
from typing import NamedTuple

from flax import struct
import jax
import jax.numpy as jnp

from rlcore import advantages
from rlcore.types import Array, PyTree, Stream


@struct.dataclass
class Steps:
  """T steps as learners on replayed steps see them; where steps are joined, each stands for up to n in a row.

  Attributes:
    observation: pytree of `[T, ...]`.
    action: `[T, ...]`.
    reward_t: `[T]` float32; of joined steps their discounted sum.
    discount_t: `[T]` float32, gamma, 0 where the episode terminates; of joined steps the product.
    truncated: `[T]` bool, whether the episode is cut off after the step without having terminated.
    next_observation: pytree of `[T, ...]`, what the (last) step truly led to.
    mask: `[T]`, 0 where a number of the step was not finite; such numbers are stored as 0.
    memory: pytree of `[T, ...]`, the policy's before the step; None where it has none.
  """

  observation: PyTree
  action: Array
  reward_t: Array
  discount_t: Array
  truncated: Array
  next_observation: PyTree
  mask: Array
  memory: PyTree = None


class Replay(NamedTuple):
  """A buffer as pure functions.

  Attributes:
    init: `(Steps of []) -> state`.
    add: `(state, Steps [T, N]) -> state`; the oldest steps are overwritten.
    sample: `(state, key) -> Steps [B]`, uniform over the stored steps that n - 1 others follow; with a length L
      `Steps [B, L]`, steps in a row as they were taken, episodes following one another.
    rows: steps of one world that a sample takes in a row, n or L.
    size: `(state) -> int32[]`, the steps it holds.
  """

  init: Callable[[Steps], PyTree]
  add: Callable[[PyTree, Steps], PyTree]
  sample: Callable[[PyTree, Array], Steps]
  rows: int
  size: Callable[[PyTree], Array]


def from_stream(stream: Stream, reward: Array) -> Steps:
  """Keeps of a stream `[T, N]`, paid `reward` `[T, N]`, what is replayed; numbers that are not finite are masked."""
  kept = (stream.observation, stream.action, reward, stream.next_observation, stream.memory)
  axes = lambda x: tuple(range(reward.ndim, x.ndim))
  floats = [x for x in jax.tree.leaves(kept) if jnp.issubdtype(x.dtype, jnp.floating)]
  good = jnp.all(jnp.stack([jnp.all(jnp.isfinite(x), axes(x)) for x in floats]), 0)
  clean = lambda x: jnp.where(jnp.isfinite(x), x, 0) if jnp.issubdtype(x.dtype, jnp.floating) else x
  observation, action, reward, after, memory = jax.tree.map(clean, kept)
  return Steps(observation, action, reward, jnp.asarray(stream.discount_t, jnp.float32), stream.truncated, after,
               good.astype(jnp.float32), memory)


def join(rows: Steps) -> Steps:
  """Joins n steps in a row `[n]` into one that ends with the episode, however it ends, or after n steps.

  The target of the result, `reward_t + discount_t V(next_observation)`, is the n-step return of the first step.
  """
  count = rows.reward_t.shape[0]
  ended = (rows.discount_t == 0) | rows.truncated
  last = jnp.where(jnp.any(ended), jnp.argmax(ended), count - 1)
  none, one = jnp.zeros(count), jnp.ones(count)
  total = lambda reward, value: advantages.n_step_returns(
      reward, rows.discount_t, value, count, truncated=rows.truncated)[0]
  first, final = (lambda tree, i=i: jax.tree.map(lambda x: x[i], tree) for i in (0, last))
  return Steps(
      first(rows.observation), first(rows.action), total(rows.reward_t, none), total(none, one), final(rows.truncated),
      final(rows.next_observation), jnp.min(jnp.where(jnp.arange(count) <= last, rows.mask, 1.0)),
      first(rows.memory))


def make_replay(*, num_worlds: int, num_steps: int, capacity: int, batch_size: int, n: int = 1,
                length: int = 0) -> Replay:
  """Makes a buffer of the streams of N worlds.

  Args:
    num_worlds: N.
    num_steps: T, how many steps of each are added at a time.
    capacity: steps that it holds; what N does not divide is lost.
    batch_size: B, steps or sequences.
    n: steps that are joined.
    length: L, steps of a sequence; 0 samples single steps.

  Returns:
    The buffer.

  Raises:
    ValueError: if the capacity is smaller than a batch or than what is added at a time, or a world's share than n or L;
      if the steps of sequences are to be joined.
    ImportError: without flashbax.
  """
  held, rows = capacity // num_worlds, length or n
  if length and n > 1:
    raise ValueError(f"n={n}: the steps of sequences of length={length} are not joined; their loss takes the n steps")
  if capacity < batch_size:
    raise ValueError(f"a replay buffer of capacity={capacity} is smaller than a batch, batch_size={batch_size}")
  if held < max(num_steps, rows):
    raise ValueError(f"capacity={capacity} leaves each of num_worlds={num_worlds} worlds {held} steps, fewer than "
                     f"num_steps={num_steps} or {f'sequences of {length}' if length else f'n={n}'}")
  if min(batch_size, n) < 1:
    raise ValueError(f"batch_size={batch_size} and n={n} must be at least 1")
  try:
    import flashbax
  except ImportError as error:
    raise ImportError("replay needs flashbax: pip install 'rlcore[replay]'") from error
  buffer = flashbax.make_trajectory_buffer(
      add_batch_size=num_worlds, sample_batch_size=batch_size, sample_sequence_length=rows, period=1,
      min_length_time_axis=rows, max_length_time_axis=held)
  by_world = lambda steps: jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), steps)
  whole = (lambda steps: steps) if length else jax.vmap(join)
  return Replay(
      init=buffer.init, add=lambda state, steps: buffer.add(state, by_world(steps)),
      sample=lambda state, key: whole(buffer.sample(state, key).experience), rows=rows,
      size=lambda state: num_worlds * jnp.where(state.is_full, held, state.current_index).astype(jnp.int32))
