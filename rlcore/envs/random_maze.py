"""Random mazes: without a loop, another one for every key; the goal is the dead end that is farthest from the start.

Reference: A Study of Global and Episodic Bonuses, arXiv:2306.03236 (contextual worlds; the mazes are ours).
"""

import jax
import jax.numpy as jnp

from rlcore.envs import grids
from rlcore.types import Array, World


def draw_maze(key: Array, *, cells: int = 5) -> grids.GridTask:
  """Carves a maze by randomised depth-first search.

  Args:
    key: PRNG key, the context.
    cells: n; the maze has n x n cells, the odd places of a canvas of (2 n + 1) x (2 n + 1).

  Returns:
    The instance; the start is (1, 1). Among dead ends that are equally far the one with the lowest index is taken.
  """
  total = cells**2
  noise = jax.random.uniform(key, (2 * total, len(grids.MOVES)))
  moves = jnp.array(grids.MOVES)
  cell = jnp.arange(total)
  beside = jnp.stack([cell // cells, cell % cells], 1)[:, None] + moves  # [cells, 4, 2]
  inside = jnp.all((beside >= 0) & (beside < cells), -1)
  beside = jnp.where(inside, beside[..., 0] * cells + beside[..., 1], 0)

  def carve(i, carry):
    stack, height, visited, passages = carry
    here = stack[jnp.maximum(height - 1, 0)]
    free = inside[here] & ~visited[beside[here]] & (height > 0)
    onward = jnp.any(free)
    choice = jnp.argmax(jnp.where(free, noise[i], -1.0))
    there = beside[here, choice]
    passages = passages.at[here, choice].max(onward).at[there, choice ^ 1].max(onward)  # moves come in opposite pairs
    stack = stack.at[jnp.where(onward, height, total)].set(there, mode="drop")
    return stack, height + jnp.where(onward, 1, -1), visited.at[there].max(onward), passages

  start = (jnp.zeros(total, jnp.int32), jnp.ones((), jnp.int32), cell == 0, jnp.zeros((total, len(moves)), bool))
  passages = jax.lax.fori_loop(0, 2 * total - 1, carve, start)[-1]  # every cell is entered once and left once

  def spread(_, distance):
    return jnp.minimum(distance, jnp.min(jnp.where(passages, distance[beside], total), 1) + 1)

  distance = jax.lax.fori_loop(0, total - 1, spread, jnp.where(cell == 0, 0, total))
  dead_end = (jnp.sum(passages, 1) == 1) & (cell > 0)
  goal = jnp.argmax(jnp.where(dead_end, distance, -1))
  place = lambda index: (2 * jnp.stack([index // cells, index % cells], -1) + 1).astype(jnp.int32)
  walls = jnp.ones((2 * cells + 1,) * 2, bool).at[tuple(place(cell).T)].set(False)
  doors = (place(cell)[:, None] + moves).reshape(-1, 2)
  walls = walls.at[tuple(doors.T)].min(~passages.reshape(-1))
  return grids.GridTask(walls, place(cell[0]), place(goal))


def make_random_maze(*, horizon: int = 120) -> World:
  """Makes the world of `draw_maze`: the goal shows anywhere in the view.

  Args:
    horizon: most steps of an episode.

  Returns:
    The world.
  """
  return grids.make_grid_world(horizon=horizon)
