"""Streams of episodes in blocks of one task: where blocks end, how far credit flows, and what was tried.

A stream is `[T]` transitions of one agent that is not told when the task changes.
"""

import jax.numpy as jnp
from jax import lax

from rlcore import checks
from rlcore.types import Array


def block_lengths_to_ends(lengths: Array, total: int) -> Array:
  """Marks the last step of blocks that follow each other from step 0.

  Args:
    lengths: `[B]` int32; what lies beyond `total` is cut off, and a length of 0 or below is no block.
    total: static, length T of the stream.

  Returns:
    `[T]` bool; the last step ends a block in any case.

  Reference: Exploitation is all you need, arXiv:2508.01287 (recurring structure).
  """
  lengths = jnp.asarray(lengths)
  checks.rank(1, lengths=lengths)
  checks.integers(lengths=lengths)
  lengths = jnp.clip(lengths.astype(jnp.int32), 0, total)  # no sum overflows
  ends = jnp.where(lengths > 0, jnp.cumsum(lengths) - 1, total)
  marks = jnp.zeros(total, bool).at[ends].set(True, mode="drop")
  return marks | (jnp.arange(total) == total - 1)


def hierarchical_discount(
    done: Array, block_end: Array, gamma_step: Array | float, gamma_episode: Array | float) -> Array:
  """Discounts inside of an episode, from one episode to the next of a block, and not at all beyond the block.

  `gamma_episode=0` is the ordinary discount of separate episodes; a stream that bootstraps through the ends of blocks
  has `block_end` 0. In a bandit every step is an episode.

  Args:
    done: `[T]`, > 0 where an episode ends.
    block_end: `[T]`, > 0 where a block ends, whether `done` says so or not.
    gamma_step: `[]`, within an episode.
    gamma_episode: `[]`, across the end of an episode.

  Returns:
    `[T]` float32, the discount after each transition.

  Reference: Exploitation is all you need, arXiv:2508.01287; 0 at the end of a block is our reading.
  """
  done, block_end = map(jnp.asarray, (done, block_end))
  checks.rank(1, done=done)
  checks.same_shape(done=done, block_end=block_end)
  checks.rank(0, gamma_step=gamma_step, gamma_episode=gamma_episode)
  checks.between(0, 1, gamma_step=gamma_step, gamma_episode=gamma_episode)
  gamma_step, gamma_episode = jnp.asarray(gamma_step, jnp.float32), jnp.asarray(gamma_episode, jnp.float32)
  return jnp.where(block_end > 0, 0, jnp.where(done > 0, gamma_episode, gamma_step))


def action_coverage(actions: Array, num_actions: int, block_start: Array) -> Array:
  """Counts the different actions tried since the block began.

  Args:
    actions: `[T]` int32; one outside of [0, num_actions) is not counted.
    num_actions: static, A.
    block_start: `[T]`, > 0 where a block begins; the steps before the first start are a block too.

  Returns:
    `[T]` int32, the step itself included.

  Reference: Exploitation is all you need, arXiv:2508.01287 (does a greedy agent explore?).
  """
  actions, block_start = map(jnp.asarray, (actions, block_start))
  checks.rank(1, actions=actions)
  checks.integers(actions=actions)
  checks.same_shape(actions=actions, block_start=block_start)
  places = jnp.arange(actions.shape[0], dtype=jnp.int32)
  start = lax.cummax(jnp.where(block_start > 0, places, 0))
  taken = actions[:, None] == jnp.arange(num_actions)
  latest = lax.cummax(jnp.where(taken, places[:, None], -1))
  return jnp.sum(latest >= start[:, None], 1, dtype=jnp.int32)
