"""Ruled grid: a way to a goal on 7 x 7 cells, with four rules of behaviour that the reward does not know.

The reward is 1 at the goal and 0 elsewhere. What the rules forbid is counted in `info["costs"]`: stepping on lava,
running, being outside column 0, standing still. The goal alone asks for the first three: the shortest way runs, crosses
lava and rarely visits column 0.

Reference: Direct behavior specification, arXiv:2112.12228 (the world is ours: its rules in miniature).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from rlcore import checks
from rlcore.envs import cells, grids
from rlcore.types import Array, World

SIZE = 7  # cells a side
LAVA_CELLS = 6
RULES = ("lava", "energy", "marker", "still")
RUN = len(grids.MOVES)  # the action that moves two cells in the facing direction
_NEAR = 2  # start and goal are farther apart than this


class RuledTask(NamedTuple):
  """An instance: `lava` `[7, 7]` bool, `start` and `goal` `[2]` int32, (row, column)."""

  lava: Array
  start: Array
  goal: Array


class RuledState(NamedTuple):
  """Where the agent is (`place` `[2]` int32), where it faces (`facing` int32, a move) and the `time` (int32)."""

  place: Array
  facing: Array
  time: Array


def draw_lava(key: Array) -> Array:
  """Draws the map `[7, 7]` bool: six cells of lava, none of them in column 0."""
  cells = jax.random.choice(key, SIZE * (SIZE - 1), (LAVA_CELLS,), replace=False)
  return jnp.zeros((SIZE, SIZE), bool).at[cells // (SIZE - 1), cells % (SIZE - 1) + 1].set(True)


def draw_task(key: Array, lava: Array) -> RuledTask:
  """Draws start and goal of an episode.

  Args:
    key: PRNG key.
    lava: `[7, 7]` bool.

  Returns:
    The instance. Neither place is lava; a start is uniform, and the goal too among the places that are more than two
    moves away.
  """
  checks.shape((SIZE, SIZE), lava=lava)
  rows, columns = jnp.divmod(jnp.arange(SIZE**2), SIZE)
  free = ~lava.reshape(-1)
  start_key, goal_key = jax.random.split(key)
  draw = lambda key, allowed: jax.random.choice(key, SIZE**2, p=allowed.astype(jnp.float32))
  start = draw(start_key, free)
  far = jnp.abs(rows - rows[start]) + jnp.abs(columns - columns[start]) > _NEAR
  goal = draw(goal_key, free & far)
  place = lambda cell: jnp.stack([rows[cell], columns[cell]])
  return RuledTask(lava, place(start), place(goal))


def render(state: RuledState, task: RuledTask) -> Array:
  """Returns the codes of `cells`, `[7, 7]`: column 0 marked, lava, the goal, and the agent on top."""
  picture = jnp.where(task.lava, cells.LAVA, cells.FLOOR).at[:, 0].set(cells.MARK)
  return picture.at[tuple(task.goal)].set(cells.GOAL).at[tuple(state.place)].set(cells.AGENT)


def make_ruled_grid(*, horizon: int = 30) -> World:
  """Makes the world; its params are one `RuledTask`.

  Actions 0 to 3 move up, down, left, right and turn the agent that way, also where the edge stops it; action 4 runs two
  cells in the facing direction, which is random at first, or up to the edge. The goal, which terminates, counts only
  where a step ends; the horizon truncates. The observation is position, goal and facing, one-hot, `[102]`; the lava is
  not in it. `info` holds `costs` `[4]` float32 in {0, 1}, in the order of `RULES`:
    lava: the step ended on lava or ran over it.
    energy: the agent ran.
    marker: the step did not end in column 0.
    still: the step ended where it began.

  Args:
    horizon: most steps of an episode.

  Returns:
    The world.
  """
  def observe(task, state):
    cell = lambda place: jax.nn.one_hot(place[0] * SIZE + place[1], SIZE**2)
    return jnp.concatenate([cell(state.place), cell(task.goal), jax.nn.one_hot(state.facing, len(grids.MOVES))])

  def reset(key, params):
    facing = jax.random.randint(key, (), 0, len(grids.MOVES), jnp.int32)
    state = RuledState(params.start, facing, jnp.zeros((), jnp.int32))
    return observe(params, state), state

  def step(key, state, action, params):
    del key
    runs = action == RUN
    facing = jnp.where(runs, state.facing, action).astype(jnp.int32)
    onward = lambda place: jnp.clip(place + jnp.array(grids.MOVES)[facing], 0, SIZE - 1)
    over = onward(state.place)
    place = jnp.where(runs, onward(over), over)
    state, before = RuledState(place, facing, state.time + 1), state.place
    won = jnp.all(place == params.goal)
    costs = jnp.stack([params.lava[tuple(over)] | params.lava[tuple(place)], runs, place[1] != 0,
                       jnp.all(place == before)])
    late = (state.time >= horizon) & ~won
    return observe(params, state), state, won.astype(jnp.float32), won, late, {"costs": costs.astype(jnp.float32)}

  return World(reset, step, RUN + 1, 2 * SIZE**2 + len(grids.MOVES), horizon)
