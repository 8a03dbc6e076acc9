"""Corner grid: 8 x 8 open cells, and one of the four corners is the goal of the episode.

A step costs 0.05, the one that enters the goal pays 1 more and terminates. Goal and start are drawn by the reset; the
goal is part of the state, so that there are 4 x 64 states, small enough for tables.

Reference: ASAF, arXiv:2006.13258 (the world is ours).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rlcore.envs import cells, grids
from rlcore.types import Array, World

SIZE = 8  # cells a side
CORNERS = ((0, 0), (0, SIZE - 1), (SIZE - 1, 0), (SIZE - 1, SIZE - 1))
NUM_STATES = len(CORNERS) * SIZE**2
STEP_COST = 0.05


class CornerState(NamedTuple):
  """Where the agent is (`place` `[2]` int32, row and column), its `goal` (int32, a corner) and the `time` (int32)."""

  place: Array
  goal: Array
  time: Array


class CornerTables(NamedTuple):
  """The grid as a finite decision process, see `rlcore.tabular`.

  Attributes:
    transition: `[S, A, S]` float32.
    rewards: `[S, A]` float32.
    terminal: `[S]` bool, the goals, which keep themselves and pay nothing.
  """

  transition: np.ndarray
  rewards: np.ndarray
  terminal: np.ndarray


def number(state: CornerState) -> Array:
  """Numbers the states, for learners with tables: `64 goal + 8 row + column`."""
  return (state.goal * SIZE + state.place[0]) * SIZE + state.place[1]


def make_corner_grid(*, horizon: int = 40) -> World:
  """Makes the world; its params are not read.

  Actions 0 to 3 move up, down, left, right; the edge stops. A goal is any of the corners, a start any other cell, both
  uniform. The horizon truncates. The observation is row and column of the agent and of the goal, over 7, `[4]`; `info`
  holds the `state` in which the action was taken, by its number.

  Args:
    horizon: most steps of an episode.

  Returns:
    The world.
  """
  corners = jnp.array(CORNERS, jnp.int32)

  def observe(state):
    return jnp.concatenate([state.place, corners[state.goal]]).astype(jnp.float32) / (SIZE - 1)

  def reset(key, params):
    del params
    goal_key, start_key = jax.random.split(key)
    goal = jax.random.randint(goal_key, (), 0, len(CORNERS), jnp.int32)
    cell = jax.random.randint(start_key, (), 0, SIZE**2 - 1, jnp.int32)
    cell += cell >= corners[goal] @ jnp.array([SIZE, 1])  # leaves out the goal
    state = CornerState(jnp.stack(jnp.divmod(cell, SIZE)), goal, jnp.zeros((), jnp.int32))
    return observe(state), state

  def step(key, state, action, params):
    del key, params
    place = jnp.clip(state.place + jnp.array(grids.MOVES, jnp.int32)[action], 0, SIZE - 1)
    after = CornerState(place, state.goal, state.time + 1)
    won = jnp.all(place == corners[state.goal])
    late = (after.time >= horizon) & ~won
    return observe(after), after, won - jnp.float32(STEP_COST), won, late, {"state": number(state)}

  return World(reset, step, len(grids.MOVES), 4, horizon)


def render(state: CornerState, params: None = None) -> Array:
  """Returns the codes of `cells`, `[8, 8]`: the goal, and the agent on top."""
  del params
  picture = jnp.full((SIZE, SIZE), cells.FLOOR).at[tuple(jnp.array(CORNERS)[state.goal])].set(cells.GOAL)
  return picture.at[tuple(state.place)].set(cells.AGENT)


def corner_tables() -> CornerTables:
  """Writes the grid out, on the host."""
  transition = np.zeros((NUM_STATES, len(grids.MOVES), NUM_STATES), np.float32)
  rewards = np.zeros(transition.shape[:2], np.float32)
  terminal = np.zeros(NUM_STATES, bool)
  name = lambda goal, place: (goal * SIZE + place[0]) * SIZE + place[1]
  for goal, corner in enumerate(CORNERS):
    terminal[name(goal, corner)] = True
    for row, column, action in np.ndindex(SIZE, SIZE, len(grids.MOVES)):
      here = name(goal, (row, column))
      stays = (row, column) == corner
      move = (0, 0) if stays else grids.MOVES[action]
      after = tuple(np.clip(np.add((row, column), move), 0, SIZE - 1))
      transition[here, action, name(goal, after)] = 1
      rewards[here, action] = 0 if stays else (after == corner) - STEP_COST
  return CornerTables(transition, rewards, terminal)
