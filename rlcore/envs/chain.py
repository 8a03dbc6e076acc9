"""Chain: states in a row, a reward at the right end that a random walk hardly ever finds, and an exit on the left.

Action 0 goes left, 1 goes right; with probability `slip` the direction is drawn anew. Going right in the last place
pays and stays there. Left of place 0 is the terminal state, or, in a chain without exit (a line), a wall. A distractor
may pay a little for choosing left at one place on the way. A reward is for what was chosen, not for where it led.

Reference: ExploRS, arXiv:2503.21949, ch. 5 (NeurIPS 2022); the line is the miniature of EXPRD, ch. 3.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rlcore.envs import cells
from rlcore.types import Array, World

LEFT, RIGHT = 0, 1


class ChainParams(NamedTuple):
  """An instance of the world, all float32 scalars.

  Attributes:
    slip: probability that the direction is drawn at random, which turns every second of them round.
    goal: reward of choosing right in the last place.
    distractor: reward of choosing left at the distractor.
  """

  slip: Array | float = 0.05
  goal: Array | float = 1.0
  distractor: Array | float = 0.0


class ChainState(NamedTuple):
  """Where the agent is: `position` int32, which is the number of places at the exit, and `time` int32."""

  position: Array
  time: Array


def place(state: ChainState) -> Array:
  """Numbers the states, for learners with tables."""
  return state.position


class ChainTables(NamedTuple):
  """The chain as a finite decision process, see `rlcore.tabular`.

  Attributes:
    transition: `[S, A, S]` float64.
    rewards: `[S, A]` float64.
    terminal: `[S]` bool, the exit, which keeps itself and pays nothing.
    initial: `[S]` float64.
  """

  transition: np.ndarray
  rewards: np.ndarray
  terminal: np.ndarray
  initial: np.ndarray


def make_chain(
    *, places: int = 61, start: int = 40, has_exit: bool = True, distractor_at: int = 25, horizon: int = 40) -> World:
  """Makes the world; its params are `ChainParams`.

  The observation is the one-hot state, `[S]` with S the places and the exit, if there is one; `info` holds the `state`
  in which the action was taken, and the `next_state`. At the horizon an episode is truncated.

  Args:
    places: number of places in the row.
    start: where an episode begins.
    has_exit: whether left of place 0 is the terminal state, which is state `places`; else a wall.
    distractor_at: place of the distractor.
    horizon: most steps of an episode.

  Returns:
    The world. The defaults are ExploRS's chain; `places=20, start=0, has_exit=False` with `ChainParams(slip=0)` is the
    line.

  Raises:
    ValueError: if `start` or the distractor is none of the places.
  """
  _check(places, start, distractor_at)
  size = places + has_exit

  def reset(key, params):
    del key, params
    state = ChainState(jnp.asarray(start, jnp.int32), jnp.zeros((), jnp.int32))
    return jax.nn.one_hot(state.position, size), state

  def step(key, state, action, params):
    turned = jax.random.uniform(key) < params.slip / 2
    direction = jnp.where(turned, 1 - action, action)
    position, terminated = _move(state.position, direction, places, has_exit)
    reward = jnp.where((action == RIGHT) & (state.position == places - 1), params.goal, 0.0)
    reward += jnp.where((action == LEFT) & (state.position == distractor_at), params.distractor, 0.0)
    truncated = (state.time + 1 >= horizon) & ~terminated
    info = {"state": state.position, "next_state": position}
    after = ChainState(position, state.time + 1)
    return jax.nn.one_hot(position, size), after, reward.astype(jnp.float32), terminated, truncated, info

  return World(reset, step, 2, size, horizon)


def render(state: ChainState, params: ChainParams, *, places: int = 61, has_exit: bool = True,
           distractor_at: int = 25) -> Array:
  """Returns the codes of `cells`, `[1, 1 + places]`: exit or wall, the row with what may pay, and the agent on top.

  Args:
    state: where the agent is.
    params: the instance; a distractor that pays nothing is not shown.
    places: as for `make_chain`.
    has_exit: as for `make_chain`.
    distractor_at: as for `make_chain`.
  """
  left = cells.EXIT if has_exit else cells.WALL
  row = jnp.full(places + 1, cells.FLOOR).at[0].set(left).at[-1].set(cells.GOAL)
  row = row.at[distractor_at + 1].max(jnp.where(jnp.asarray(params.distractor) != 0, cells.MARK, cells.FLOOR))
  place = jnp.where(state.position == places, 0, state.position + 1)
  return row.at[place].set(cells.AGENT)[None]


def chain_tables(
    params: ChainParams, *, places: int = 61, start: int = 40, has_exit: bool = True,
    distractor_at: int = 25) -> ChainTables:
  """Writes the chain out, on the host.

  Args:
    params: the instance, of numbers.
    places: as for `make_chain`.
    start: as for `make_chain`.
    has_exit: as for `make_chain`.
    distractor_at: as for `make_chain`.

  Returns:
    The tables.

  Raises:
    ValueError: if `start` or the distractor is none of the places.
  """
  _check(places, start, distractor_at)
  size = places + has_exit
  rewards = np.zeros((size, 2))
  rewards[places - 1, RIGHT] = params.goal
  rewards[distractor_at, LEFT] += params.distractor
  sure = np.zeros((size, 2, size))
  for s in range(places):
    sure[s, LEFT, s - 1 if s else places * has_exit] = 1
    sure[s, RIGHT, min(s + 1, places - 1)] = 1
  if has_exit:
    sure[places, :, places] = 1
  transition = (1 - params.slip) * sure + params.slip * sure.mean(1, keepdims=True)
  states = np.arange(size)
  return ChainTables(transition, rewards, states >= places, (states == start).astype(float))


def _move(position: Array, direction: Array, places: int, has_exit: bool) -> tuple[Array, Array]:
  """Returns where a direction leads, and whether through the exit; nothing leads out of the exit."""
  there = position + jnp.where(direction == RIGHT, 1, -1)
  leaves = ((there < 0) | (position == places)) & has_exit
  return jnp.where(leaves, places, jnp.clip(there, 0, places - 1)), leaves


def _check(places: int, start: int, distractor_at: int):
  for name, place in (("start", start), ("distractor_at", distractor_at)):
    if not 0 <= place < places:
      raise ValueError(f"{name}={place} is none of the {places} places of the chain")
