"""Walled square: a point mass that must find, behind two walls, one of two places and come to rest there.

The square is [-1, 1] x [-1, 1] and the point starts in its lower left quadrant. Two walls close that quadrant but for
a gap: x = 0 below y = 0.3, and y = 0 left of x = -0.3. An action in [-1, 1]^2 moves the point by `SPEED` times the
action; the square's edge clips the move, and a move that would cross a wall is cancelled whole. The reward comes after
the last step only: it is 1 at rest in the centre of one of the discs, falls to 0 at its rim and with the speed of the
last ten steps, and is 0 everywhere else.

`evaluate` plays whole episodes of many controllers without the records of the world, which is what evolution needs.

Reference: the sparse-reward tasks of arXiv:2203.01027 (the world is ours: a hard maze in miniature).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from rlcore import checks
from rlcore.types import Array, World

GENOME_SIZE = 27
HORIZON = 80
SPEED = 0.06  # of a step
PICTURE = 16  # pixels of a side
_BLOB = 0.15  # standard deviation of the point in a picture
_HIDDEN = 5
_RESTS = 10  # steps over which the speed at the end is averaged
_WALL_TOP = 0.3  # the wall x = 0 lies below this y
_WALL_RIGHT = -0.3  # the wall y = 0 lies left of this x


class SquareTask(NamedTuple):
  """An instance of the world.

  Attributes:
    start: `[2]`, where the point begins.
    centres: `[A, 2]`, of the rewarding discs, which must not overlap.
    radius: float32[], of all discs.
  """

  start: Array
  centres: Array
  radius: Array


class SquareState(NamedTuple):
  """Where the point is: `position` `[2]`, `lengths` `[10]` of the last moves (the latest last), `time` int32."""

  position: Array
  lengths: Array
  time: Array


def square_task() -> SquareTask:
  """Returns the instance with two discs: A beyond both walls in the lower right, B in the upper left."""
  return SquareTask(jnp.array([-0.8, -0.8]), jnp.array([[0.75, -0.6], [-0.6, 0.75]]), jnp.float32(0.3))


def walls() -> tuple[tuple[tuple[float, float], tuple[float, float]], ...]:
  """Returns both walls as pairs of end points, for pictures."""
  return ((0.0, -1.0), (0.0, _WALL_TOP)), ((-1.0, 0.0), (_WALL_RIGHT, 0.0))


def make_walled_square(*, horizon: int = HORIZON) -> World:
  """Makes the world; its params are one `SquareTask`.

  The observation is the position `[2]`; an action is a vector `[2]`, so `num_actions` is 0. `info` holds `areas`,
  the reward that each disc would pay if the episode ended now.

  Args:
    horizon: T, length of an episode, which then terminates.

  Returns:
    The world.
  """

  def reset(key, params):
    del key
    position = jnp.asarray(params.start, jnp.float32)
    return position, SquareState(position, jnp.zeros(_RESTS), jnp.zeros((), jnp.int32))

  def step(key, state, action, params):
    del key
    x, y, length = _move(*state.position, *jnp.clip(action, -1, 1))
    position, time = jnp.stack([x, y]), state.time + 1
    lengths = jnp.append(state.lengths[1:], length)
    areas = _rewards(position, jnp.sum(lengths) / min(_RESTS, horizon), params)
    over = time >= horizon
    reward = jnp.where(over, jnp.sum(areas), 0)
    return position, SquareState(position, lengths, time), reward, over, jnp.zeros((), bool), {"areas": areas}

  return World(reset, step, 0, 2, horizon, action_size=2)


def act(genome: Array, observation: Array) -> Array:
  """Computes the action of a controller, a network of one hidden layer of five.

  Args:
    genome: `[27]`: 5 rows of weights of (x, y, 1), then 2 rows of weights of (hidden layer, 1).
    observation: `[2]`.

  Returns:
    `[2]`, in [-1, 1].
  """
  checks.shape((GENOME_SIZE,), genome=genome)
  x, y = observation
  # Numbers, not matrices: over many genomes this is one pass over vectors, where batches of tiny products are slow.
  hidden = [jnp.tanh(genome[3 * i] * x + genome[3 * i + 1] * y + genome[3 * i + 2]) for i in range(_HIDDEN)]
  rows = [genome[3 * _HIDDEN + (_HIDDEN + 1) * i:][:_HIDDEN + 1] for i in range(2)]
  return jnp.stack([jnp.tanh(sum(row[i] * h for i, h in enumerate(hidden)) + row[_HIDDEN]) for row in rows])


def play(genome: Array, task: SquareTask, *, horizon: int = HORIZON) -> Array:
  """Plays an episode.

  Args:
    genome: `[27]`, see `act`.
    task: the instance.
    horizon: static, T.

  Returns:
    `[T + 1, 2]`, the positions from the start to the end.
  """

  def step(position, _):
    position = jnp.stack(_move(*position, *act(genome, position))[:2])
    return position, position

  start = jnp.asarray(task.start, jnp.float32)
  return jnp.concatenate([start[None], jax.lax.scan(step, start, None, horizon)[1]])


def evaluate(genomes: Array, task: SquareTask, *, horizon: int = HORIZON) -> tuple[Array, Array]:
  """Plays a whole episode of each genome.

  Args:
    genomes: `[N, 27]`, see `act`.
    task: the instance.
    horizon: static, T.

  Returns:
    `(positions [N, 2], rewards [N, A])`: where each episode ended, and what each disc paid for it; the sum over the
    discs is the episode's reward.
  """
  checks.rank(2, genomes=genomes)
  return jax.vmap(lambda genome: _episode(genome, task, horizon))(genomes)


def picture(position: Array) -> Array:
  """Renders a position as a blob, without walls, for descriptors that are learned.

  Args:
    position: `[2]`.

  Returns:
    `[16 * 16]` float32 in [0, 1], the rows from the bottom up.
  """
  checks.shape((2,), position=position)
  centres = (jnp.arange(PICTURE) + 0.5) * 2 / PICTURE - 1
  x, y = (jnp.exp(-jnp.square(centres - position[i]) / (2 * _BLOB**2)) for i in range(2))
  return (y[:, None] * x).reshape(-1)


def _episode(genome, task, horizon):
  """Plays one episode; returns the last position and the rewards of the discs."""
  def step(carry, time):
    x, y, moved = carry
    x, y, length = _move(x, y, *act(genome, (x, y)))
    return (x, y, moved + jnp.where(time >= horizon - _RESTS, length, 0)), None

  start = jnp.asarray(task.start, jnp.float32)
  (x, y, moved), _ = jax.lax.scan(step, (start[0], start[1], jnp.float32(0)), jnp.arange(horizon))
  position = jnp.stack([x, y])
  return position, _rewards(position, moved / min(_RESTS, horizon), task)


def _move(x, y, right, up):
  """Moves the point; returns where it is then, and how far it went."""
  new_x, new_y = jnp.clip(x + SPEED * right, -1, 1), jnp.clip(y + SPEED * up, -1, 1)
  crosses_x, crosses_y = (x < 0) != (new_x < 0), (y < 0) != (new_y < 0)
  at_x = x / jnp.where(crosses_x, x - new_x, 1)  # the part of the move at which it meets the line
  at_y = y / jnp.where(crosses_y, y - new_y, 1)
  blocked = crosses_x & (y + at_x * (new_y - y) < _WALL_TOP) | crosses_y & (x + at_y * (new_x - x) < _WALL_RIGHT)
  new_x, new_y = jnp.where(blocked, x, new_x), jnp.where(blocked, y, new_y)
  return new_x, new_y, jnp.sqrt((new_x - x) ** 2 + (new_y - y) ** 2)


def _rewards(position, speed, task):
  """What each disc pays for an end at this position after moving at this mean speed."""
  distance = jnp.sqrt(jnp.sum(jnp.square(task.centres - position), -1))
  return jnp.maximum(1 - distance / task.radius, 0) * jnp.maximum(1 - speed / SPEED, 0)
