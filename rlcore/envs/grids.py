"""Rooms and walls on a grid: one goal, four moves, and a view of 5 x 5 around the agent.

The layouts are files of their own (`corridors`, `random_maze`); an instance is a `GridTask`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from rlcore.envs import cells
from rlcore.types import Array, World

VIEW = 5  # cells a side
MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))  # up, down, left, right, in (row, column)


class GridTask(NamedTuple):
  """An instance: `walls` `[H, W]` bool, `start` and `goal` `[2]` int32, (row, column)."""

  walls: Array
  start: Array
  goal: Array


class GridState(NamedTuple):
  """Where the agent is (`place` `[2]` int32), what it did (`last` int32, -1 for nothing) and the `time` (int32)."""

  place: Array
  last: Array
  time: Array


def move(walls: Array, place: Array, action: Array) -> Array:
  """Returns the place `[2]` after an action: the same one where a wall or the edge is in the way."""
  size = jnp.array(walls.shape)
  after = place + jnp.array(MOVES)[action]
  inside = jnp.all((after >= 0) & (after < size))
  blocked = walls[tuple(jnp.clip(after, 0, size - 1))]
  return jnp.where(inside & ~blocked, after, place)


def observe(task: GridTask, state: GridState, goal_distance: int | None) -> Array:
  """Returns what the agent sees, `[56]` float32: walls and goal around it, its last action, where it is."""
  half = VIEW // 2
  walls = jnp.pad(task.walls, half, constant_values=True)  # beyond the edge is wall
  around = jax.lax.dynamic_slice(walls, state.place, (VIEW, VIEW))
  offset = task.goal - state.place
  rows, columns = jnp.mgrid[-half:half + 1, -half:half + 1]
  goal = (rows == offset[0]) & (columns == offset[1])
  if goal_distance is not None:
    goal &= jnp.sum(jnp.abs(offset)) <= goal_distance
  last, where = jax.nn.one_hot(state.last, len(MOVES)), state.place / jnp.array(task.walls.shape)
  return jnp.concatenate([around.reshape(-1), goal.reshape(-1), last, where]).astype(jnp.float32)


def render(state: GridState, task: GridTask) -> Array:
  """Returns the codes of `cells`, `[H, W]`: walls, the goal, and the agent on top."""
  picture = jnp.where(task.walls, cells.WALL, cells.FLOOR).at[tuple(task.goal)].set(cells.GOAL)
  return picture.at[tuple(state.place)].set(cells.AGENT)


def make_grid_world(*, horizon: int, goal_distance: int | None = None) -> World:
  """Makes the world; its params are one `GridTask`.

  At the goal the reward is 1 and the episode terminates; it also terminates at the horizon, with 0. `info` holds the
  `cell` that the step led to, `row * W + column`.

  Args:
    horizon: most steps of an episode.
    goal_distance: the goal is seen from this Manhattan distance on; None shows it anywhere in the view.

  Returns:
    The world.
  """
  def reset(key, params):
    del key
    state = GridState(params.start, jnp.full((), -1, jnp.int32), jnp.zeros((), jnp.int32))
    return observe(params, state, goal_distance), state

  def step(key, state, action, params):
    del key
    place, time = move(params.walls, state.place, action), state.time + 1
    state = GridState(place, action.astype(jnp.int32), time)
    won = jnp.all(place == params.goal)
    info = {"cell": place[0] * params.walls.shape[1] + place[1]}
    observation = observe(params, state, goal_distance)
    return observation, state, won.astype(jnp.float32), won | (time >= horizon), jnp.zeros((), bool), info

  return World(reset, step, len(MOVES), 2 * VIEW**2 + len(MOVES) + 2, horizon)
