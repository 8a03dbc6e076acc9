"""Corridors: a hub row with corridors below it, one of which has the goal at its end; an episode is enough for one.

Reference: A Study of Global and Episodic Bonuses, arXiv:2306.03236 (its Corridor-R5; the layout is ours).
"""

import jax.numpy as jnp

from rlcore.envs import grids
from rlcore.types import Array, World


def corridors_task(goal: Array, *, corridors: int = 5, length: int = 9) -> grids.GridTask:
  """Lays the corridors out as a comb: hub row 0, corridor k below column 2k; the start is in the middle of the hub.

  Args:
    goal: int32, the corridor at whose end the goal is.
    corridors: K.
    length: L, cells of a corridor.

  Returns:
    The instance, on a canvas of L + 1 rows and 2 K - 1 columns.
  """
  rows, columns = jnp.mgrid[:length + 1, :2 * corridors - 1]
  walls = (rows > 0) & (columns % 2 == 1)
  end = jnp.stack([jnp.asarray(length, jnp.int32), 2 * jnp.asarray(goal, jnp.int32)])
  return grids.GridTask(walls, jnp.array([0, corridors - 1], jnp.int32), end)


def make_corridors(*, length: int = 9) -> World:
  """Makes the world of `corridors_task`: horizon 2 L + 4, the goal shows from the cell beside it only.

  Args:
    length: L, as the task has it.

  Returns:
    The world.
  """
  return grids.make_grid_world(horizon=2 * length + 4, goal_distance=1)
