"""Pinpad-5: an empty 5 x 5 grid with a colour in every corner, to be stepped on in a hidden order.

The agent starts in the central 3 x 3. Stepping on the colour that is due collects it; stepping on any other colour but
the one collected last ends the episode in failure. The order is not observed: what the observation shows is the cell
and the colour collected last (after arXiv:2512.20605; the details are ours).
"""

import functools
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rlcore.envs import grids
from rlcore.envs import cells
from rlcore.types import Array, World

SIZE, COLOURS, NUM_ACTIONS = 5, 4, 5
CELLS = SIZE * SIZE
CORNERS = (0, SIZE - 1, CELLS - SIZE, CELLS - 1)  # of colours 0 to 3: top left, top right, bottom left, bottom right
CENTRE = tuple(SIZE * row + column for row in range(1, SIZE - 1) for column in range(1, SIZE - 1))
MOVES = (*grids.MOVES, (0, 0))  # the last one stays
NONE = COLOURS  # the "colour collected last" before the first
FAR = 99


class PinpadTask(NamedTuple):
  """One instance.

  Attributes:
    order: `[L]` int32, the colours in their order, no two neighbours equal; any L.
    start: int32, the cell where the agent starts, row by row from the top left.
  """

  order: Array
  start: Array


class PinpadState(NamedTuple):
  """Where an episode stands.

  Attributes:
    cell: int32.
    progress: int32, colours collected.
    last: int32, the colour collected last, 4 before the first.
    time: int32, steps so far.
  """

  cell: Array
  progress: Array
  last: Array
  time: Array


@functools.cache
def _successors() -> np.ndarray:
  """Tabulates the cell after each move, `[25, 5]` int32; a move off the grid stays."""
  row, column = np.divmod(np.arange(CELLS)[:, None], SIZE)
  down, right = np.array(MOVES).T
  row, column = np.clip(row + down, 0, SIZE - 1), np.clip(column + right, 0, SIZE - 1)
  return (SIZE * row + column).astype(np.int32)


@functools.cache
def _colours() -> np.ndarray:
  """Tabulates the colour of each cell, `[25]` int32; 4 for none."""
  colours = np.full(CELLS, NONE, np.int32)
  colours[list(CORNERS)] = np.arange(COLOURS)
  return colours


@functools.cache
def _distances() -> np.ndarray:
  """Counts steps to a colour around the wrong corners: `[4, 5, 25]` int32 by goal, colour collected last and cell."""
  distance = np.full((COLOURS, COLOURS + 1, CELLS), FAR, np.int32)
  for goal, last in itertools.product(range(COLOURS), range(COLOURS + 1)):
    wrong = [CORNERS[colour] for colour in range(COLOURS) if colour not in (goal, last)]
    own = distance[goal, last]
    own[CORNERS[goal]] = 0
    for _ in range(CELLS):
      own[:] = np.minimum(own, 1 + own[_successors()].min(1))
      own[wrong] = FAR
  return distance


def _due(state: PinpadState, task: PinpadTask) -> Array:
  return task.order[jnp.minimum(state.progress, task.order.shape[0] - 1)]


def _observe(state: PinpadState) -> Array:
  """Writes cell and colour as two one-hots: `[30]` float32."""
  return jnp.concatenate([jax.nn.one_hot(state.cell, CELLS), jax.nn.one_hot(state.last, COLOURS + 1)])


def _reset(key: Array, task: PinpadTask):
  del key  # nothing is left to chance
  zero = jnp.zeros((), jnp.int32)
  state = PinpadState(jnp.asarray(task.start, jnp.int32), zero, zero + NONE, zero)
  return _observe(state), state


def _step(horizon: int, key: Array, state: PinpadState, action: Array, task: PinpadTask):
  del key
  task = PinpadTask(*map(jnp.asarray, task))
  cell = jnp.asarray(_successors())[state.cell, action]
  colour = jnp.asarray(_colours())[cell]
  collected = colour == _due(state, task)
  failed = (colour != NONE) & ~collected & (colour != state.last)
  progress = state.progress + collected
  success = progress >= task.order.shape[0]
  state = PinpadState(cell, progress, jnp.where(collected, colour, state.last), state.time + 1)
  terminated = success | failed | (state.time >= horizon)
  info = {"collected": collected.astype(jnp.float32)}
  return _observe(state), state, success.astype(jnp.float32), terminated, jnp.zeros((), bool), info


def render(state: PinpadState, task: PinpadTask) -> Array:
  """Returns the codes of `cells`, `[5, 5]`: the four colours in their corners, and the agent on top."""
  del task  # the order is not to be seen
  colours = jnp.asarray(_colours())
  picture = jnp.where(colours == NONE, cells.FLOOR, cells.COLOUR + colours)
  return picture.at[state.cell].set(cells.AGENT).reshape(SIZE, SIZE)


def make_pinpad(*, horizon: int) -> World:
  """Makes the world; its params are a `PinpadTask`.

  The reward is 1 for the last colour and 0 before; `info["collected"]` is 1 on a step that collected a colour. An
  episode ends with the last colour, on a wrong one, and at the horizon, which is a failure.

  Args:
    horizon: most steps of an episode, static.

  Returns:
    The world.

  Raises:
    ValueError: for a horizon below 1.

  Reference: Internal RL, arXiv:2512.20605 (its grid world, in miniature).
  """
  if horizon < 1:
    raise ValueError(f"horizon={horizon} must be at least 1")
  return World(_reset, functools.partial(_step, horizon), NUM_ACTIONS, CELLS + COLOURS + 1, horizon)


def draw_pinpad_task(key: Array, order: Array | None = None) -> PinpadTask:
  """Draws where a task starts, and its order where none is given.

  Args:
    key: PRNG key.
    order: `[L]` int32; None draws one of the 12 ordered pairs of different colours.

  Returns:
    The task, starting uniformly in the central 3 x 3.
  """
  start_key, order_key = jax.random.split(key)
  if order is None:
    first, other = jnp.divmod(jax.random.randint(order_key, (), 0, COLOURS * (COLOURS - 1)), COLOURS - 1)
    order = jnp.stack([first, (first + 1 + other) % COLOURS])
  start = jnp.array(CENTRE)[jax.random.randint(start_key, (), 0, len(CENTRE))]
  return PinpadTask(jnp.asarray(order, jnp.int32), start.astype(jnp.int32))


def demonstrator(
    key: Array, state: PinpadState, task: PinpadTask, *, noise: float = 0.05, random_ways: bool = True) -> Array:
  """Acts as an expert that knows the order: takes one of the moves that shorten the way to the colour that is due.

  Args:
    key: PRNG key.
    state: where the episode stands.
    task: the instance.
    noise: probability of a uniform action instead, which stays where it would step on a wrong colour.
    random_ways: static; draws among the moves that shorten the way. False takes the first in the order of `MOVES`, so
      that only the noise is left to chance.

  Returns:
    int32 action.
  """
  noise_key, move_key, random_key = jax.random.split(key, 3)
  due, after = _due(state, task), jnp.asarray(_successors())[state.cell]
  distance = jnp.asarray(_distances())[due, state.last]
  good = distance[after] < distance[state.cell]
  move = jax.random.categorical(move_key, jnp.where(good, 0.0, -jnp.inf)) if random_ways else jnp.argmax(good)
  uniform = jax.random.randint(random_key, (), 0, NUM_ACTIONS)
  colour = jnp.asarray(_colours())[after[uniform]]
  wrong = (colour != NONE) & (colour != due) & (colour != state.last)
  uniform = jnp.where(wrong, NUM_ACTIONS - 1, uniform)
  return jnp.where(jax.random.uniform(noise_key) < noise, uniform, move).astype(jnp.int32)
