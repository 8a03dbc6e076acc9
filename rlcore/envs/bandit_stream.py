"""Bandit stream: Gaussian bandits one after the other, and nobody says when the next one begins.

Every step pulls one of K arms. The means of the arms are drawn anew after the last step of a block. What the agent
sees is its last pull and what that paid, the same within a block and across its end.

Reference: Exploitation is all you need, arXiv:2508.01287 (its bandits).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from rlcore.types import Array, World


class BanditTask(NamedTuple):
  """An instance of the world.

  Attributes:
    ends: `[T]`, > 0 at the last step of a block, see `advantages.block_lengths_to_ends`.
    noise: float32, standard deviation of a reward around the mean of its arm.
  """

  ends: Array
  noise: Array


class BanditState(NamedTuple):
  """What is hidden: `means [K]` float32 of the arms, `fresh` bool (a block has just begun), and `time` int32."""

  means: Array
  fresh: Array
  time: Array


def observe(action: Array, reward: Array, num_arms: int) -> Array:
  """Returns what the agent sees after a pull: the arm, one-hot, and the reward; `[K + 1]` float32."""
  return jnp.append(jax.nn.one_hot(action, num_arms), reward)


def make_bandit_stream(*, num_arms: int = 3, horizon: int = 48) -> World:
  """Makes the world; its params are one `BanditTask`.

  The means are standard normal. The observation `[K + 1]` is zero before the first pull, see `observe`. The stream
  terminates at its last step. `info` holds `mean` (of the arm pulled), `best` (of the best arm), `block_start` and
  `block_end` (whether this was the first, the last pull of its block).

  Args:
    num_arms: K.
    horizon: T, length of the stream.

  Returns:
    The world.

  Raises:
    ValueError: if there is no arm.

  Reference: Exploitation is all you need, arXiv:2508.01287.
  """
  if num_arms < 1:
    raise ValueError(f"num_arms={num_arms} must be at least 1")

  def reset(key, params):
    del params
    means = jax.random.normal(key, (num_arms,))
    return jnp.zeros(num_arms + 1), BanditState(means, jnp.ones((), bool), jnp.zeros((), jnp.int32))

  def step(key, state, action, params):
    draws = jax.random.normal(key, (num_arms + 1,))
    mean = state.means[action]
    reward = mean + params.noise * draws[-1]
    over = params.ends[state.time] > 0
    info = {"mean": mean, "best": jnp.max(state.means), "block_start": state.fresh, "block_end": over}
    after = BanditState(jnp.where(over, draws[:-1], state.means), over, state.time + 1)
    ended = after.time >= horizon
    return observe(action, reward, num_arms), after, reward, ended, jnp.zeros((), bool), info

  return World(reset, step, num_arms, num_arms + 1, horizon)
