"""Replay of steps: a ring buffer of flashbax, and the joining of n steps in a row into one.

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
  """

  observation: PyTree
  action: Array
  reward_t: Array
  discount_t: Array
  truncated: Array
  next_observation: PyTree
  mask: Array


class Replay(NamedTuple):
  """A buffer as pure functions.

  Attributes:
    init: `(Steps of []) -> state`.
    add: `(state, Steps [T, N]) -> state`; the oldest steps are overwritten.
    sample: `(state, key) -> Steps [B]`, uniform over the stored steps that n - 1 others follow.
    size: `(state) -> int32[]`, the steps it holds.
  """

  init: Callable[[Steps], PyTree]
  add: Callable[[PyTree, Steps], PyTree]
  sample: Callable[[PyTree, Array], Steps]
  size: Callable[[PyTree], Array]


def from_stream(stream: Stream, reward: Array) -> Steps:
  """Keeps of a stream `[T, N]`, paid `reward` `[T, N]`, what is replayed; numbers that are not finite are masked."""
  kept = (stream.observation, stream.action, reward, stream.next_observation)
  axes = lambda x: tuple(range(reward.ndim, x.ndim))
  floats = [x for x in jax.tree.leaves(kept) if jnp.issubdtype(x.dtype, jnp.floating)]
  good = jnp.all(jnp.stack([jnp.all(jnp.isfinite(x), axes(x)) for x in floats]), 0)
  clean = lambda x: jnp.where(jnp.isfinite(x), x, 0) if jnp.issubdtype(x.dtype, jnp.floating) else x
  observation, action, reward, after = jax.tree.map(clean, kept)
  return Steps(observation, action, reward, jnp.asarray(stream.discount_t, jnp.float32), stream.truncated, after,
               good.astype(jnp.float32))


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
      final(rows.next_observation), jnp.min(jnp.where(jnp.arange(count) <= last, rows.mask, 1.0)))


def make_replay(*, num_worlds: int, num_steps: int, capacity: int, batch_size: int, n: int = 1) -> Replay:
  """Makes a buffer of the streams of N worlds.

  Args:
    num_worlds: N.
    num_steps: T, how many steps of each are added at a time.
    capacity: steps that it holds; what N does not divide is lost.
    batch_size: B.
    n: steps that are joined.

  Returns:
    The buffer.

  Raises:
    ValueError: if the capacity is smaller than a batch or than what is added at a time, or a world's share than n.
    ImportError: without flashbax.
  """
  length = capacity // num_worlds
  if capacity < batch_size:
    raise ValueError(f"a replay buffer of capacity={capacity} is smaller than a batch, batch_size={batch_size}")
  if length < max(num_steps, n):
    raise ValueError(f"capacity={capacity} leaves each of num_worlds={num_worlds} worlds {length} steps, fewer than "
                     f"num_steps={num_steps} or n={n}")
  if min(batch_size, n) < 1:
    raise ValueError(f"batch_size={batch_size} and n={n} must be at least 1")
  try:
    import flashbax
  except ImportError as error:
    raise ImportError("replay needs flashbax: pip install 'rlcore[replay]'") from error
  buffer = flashbax.make_trajectory_buffer(
      add_batch_size=num_worlds, sample_batch_size=batch_size, sample_sequence_length=n, period=1,
      min_length_time_axis=n, max_length_time_axis=length)
  by_world = lambda steps: jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), steps)
  return Replay(
      init=buffer.init, add=lambda state, steps: buffer.add(state, by_world(steps)),
      sample=lambda state, key: jax.vmap(join)(buffer.sample(state, key).experience),
      size=lambda state: num_worlds * jnp.where(state.is_full, length, state.current_index).astype(jnp.int32))
