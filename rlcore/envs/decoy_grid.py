"""Decoy grid: one goal that pays, and a heuristic reward that leads to it or keeps the agent elsewhere.

A square of cells, start in one corner, goal in the opposite one; entering the goal pays 1 and ends the episode, time
that is up ends it with nothing. Beside that reward the world says what a designer would have paid for the step: for
progress towards the goal, or for every step into a block in the corner above it (the decoy), where an agent that is
paid so would rather stay. Neither enters the reward itself.

Reference: BARFI, arXiv:2310.19007 (a grid after its GridWorld; the map and both heuristics are ours).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from rlcore.envs import cells, grids
from rlcore.types import Array, World

ROWS, COLUMNS = zip(*grids.MOVES)
DECOY = 2  # side of the block


class Heuristic(NamedTuple):
  """An instance of the world.

  Attributes:
    slip: float32, probability that a move is replaced by a uniform one.
    progress: float32, what the heuristic pays for each cell nearer to the goal, and takes for each cell farther.
    decoy: float32, what it pays for a step whose next cell is in the block.
  """

  slip: Array
  progress: Array
  decoy: Array


class DecoyState(NamedTuple):
  """Where the agent is: `cell` int32, row by row from the start, and `time` int32."""

  cell: Array
  time: Array


def potential(heuristic: Heuristic, cell: Array, size: int = 5) -> Array:
  """Says how good a cell is in the eyes of the heuristic, for potential-based shaping.

  Args:
    heuristic: the instance.
    cell: int32, any shape.
    size: static, side of the square.

  Returns:
    float32 of the same shape: minus `progress` a cell of distance to the goal, plus `decoy` in the block.
  """
  row, column = cell // size, cell % size
  distance = 2 * (size - 1) - row - column
  return heuristic.decoy * _in_decoy(row, column, size) - heuristic.progress * distance


def _in_decoy(row: Array, column: Array, size: int) -> Array:
  return (row < DECOY) & (column >= size - DECOY)


def render(state: DecoyState, heuristic: Heuristic, *, size: int = 5) -> Array:
  """Returns the codes of `cells`, `[size, size]`: the block that is a decoy, the goal, and the agent on top."""
  del heuristic
  row, column = jnp.mgrid[:size, :size]
  picture = jnp.where(_in_decoy(row, column, size), cells.MARK, cells.FLOOR).at[-1, -1].set(cells.GOAL)
  return picture.at[state.cell // size, state.cell % size].set(cells.AGENT)


def make_decoy_grid(*, size: int = 5, horizon: int = 25) -> World:
  """Makes the world; its params are one `Heuristic`.

  The observation is the cell, one-hot `[size**2]`. A move against the wall stays. `info` holds of every step `cell` and
  `next_cell`, `aux` (what the heuristic pays), and `potential` and `next_potential` of both cells. The return is that
  of `horizon` steps: the last one terminates, although the agent is not told the time.

  Args:
    size: side of the square.
    horizon: most steps.

  Returns:
    The world, with four actions: up, down, left, right.

  Raises:
    ValueError: if the block would hold the start or the goal.

  Reference: BARFI, arXiv:2310.19007.
  """
  if size <= DECOY:
    raise ValueError(f"size={size}: a block of {DECOY} x {DECOY} cells leaves no room for start and goal")
  observe = lambda cell: jax.nn.one_hot(cell, size**2)

  def reset(key, params):
    del key, params
    zero = jnp.zeros((), jnp.int32)
    return observe(zero), DecoyState(zero, zero)

  def step(key, state, action, params):
    luck, uniform = jax.random.uniform(key, (2,))  # one draw: the generator is what a step costs
    move = jnp.where(luck < params.slip, (uniform * len(ROWS)).astype(jnp.int32), action)
    inside = lambda place, change: jnp.clip(place + jnp.asarray(change, jnp.int32)[move], 0, size - 1)
    row, column = inside(state.cell // size, ROWS), inside(state.cell % size, COLUMNS)
    cell, time = row * size + column, state.time + 1
    reached = cell == size**2 - 1
    nearer = row + column - state.cell // size - state.cell % size
    aux = params.progress * nearer + params.decoy * _in_decoy(row, column, size)
    info = {"cell": state.cell, "next_cell": cell, "aux": aux, "potential": potential(params, state.cell, size),
            "next_potential": potential(params, cell, size)}
    ended = reached | (time >= horizon)
    return observe(cell), DecoyState(cell, time), reached.astype(jnp.float32), ended, jnp.zeros((), bool), info

  return World(reset, step, len(ROWS), size**2, horizon)
