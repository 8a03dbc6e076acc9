"""Key corridor: find three hidden keys within eight turns; most turns do not matter, and the reward comes at the end.

In each turn the agent sees task, turn and room and takes one of M actions; `room' = table[room, action]`. Three
(room, action) pairs of the task are hidden keys, a fourth leads to the exit: the episode ends at once with reward 0.
After the last turn the reward is 1 if all keys were taken, else 0. Which keys were taken is not observed.

Reference: OPRL / iStar, arXiv:2509.19199 (the world is ours: delayed credit among turns that mostly do not matter).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from rlcore.envs import cells
from rlcore.types import Array, World

_KEYS = 3
_ALL = 2**_KEYS - 1


class CorridorTask(NamedTuple):
  """An instance of the world.

  Attributes:
    task: int32, which of the P tasks this is.
    table: `[rooms, M]` int32, where an action leads.
    role: `[rooms, M]` int32: 0 to 2 the key that is found there, 3 the exit, above that nothing.
  """

  task: Array
  table: Array
  role: Array


class CorridorState(NamedTuple):
  """Where the agent is and what it has: `room` int32, `keys` int32 (bit k is key k), `time` int32."""

  room: Array
  keys: Array
  time: Array


def draw_task(key: Array, task: Array = 0, rooms: int = 4, num_actions: int = 4) -> CorridorTask:
  """Draws one task, however hard it is.

  Args:
    key: PRNG key.
    task: int32, its number.
    rooms: number of rooms.
    num_actions: M.

  Returns:
    The task: a uniform table, and roles in a random order of the (room, action) pairs.
  """
  table_key, role_key = jax.random.split(key)
  table = jax.random.randint(table_key, (rooms, num_actions), 0, rooms)
  role = jax.random.permutation(role_key, rooms * num_actions).reshape(rooms, num_actions)
  return CorridorTask(jnp.asarray(task, jnp.int32), table, role.astype(jnp.int32))


def success_values(task: CorridorTask, policy: Array) -> Array:
  """Computes the exact probability of success from everywhere, by dynamic programming.

  Args:
    task: one instance.
    policy: `[S, rooms, M]`, probability of each action in each turn and room.

  Returns:
    `[S + 1, rooms, 8]` float32 by turn, room and keys; entry S is after the last turn.
  """
  rooms = task.table.shape[0]
  room, keys, action = jnp.meshgrid(jnp.arange(rooms), jnp.arange(_ALL + 1), jnp.arange(task.table.shape[1]),
                                    indexing="ij")
  next_room, next_keys, exits = _move(task, room, keys, action)
  last = jnp.broadcast_to((jnp.arange(_ALL + 1) == _ALL).astype(jnp.float32), (rooms, _ALL + 1))

  def backward(value, probabilities):
    after = jnp.where(exits, 0, value[next_room, next_keys])
    value = jnp.sum(probabilities[:, None, :] * after, -1)
    return value, value

  _, values = jax.lax.scan(backward, last, policy, reverse=True)
  return jnp.concatenate([values, last[None]])


def success_change(values: Array, task: CorridorTask, turn: Array, room: Array, keys: Array, action: Array) -> Array:
  """Computes by how much one action changes the probability of success.

  Args:
    values: of `success_values`.
    task: one instance.
    turn: int32, when the action was taken.
    room: int32, where.
    keys: int32, with which keys.
    action: int32.

  Returns:
    float32[].
  """
  next_room, next_keys, exits = _move(task, room, keys, action)
  return jnp.where(exits, 0, values[turn + 1, next_room, next_keys]) - values[turn, room, keys]


def draw_tasks(
    key: Array, num_tasks: int = 8, turns: int = 8, *, low: float = 0.03, high: float = 0.08, candidates: int = 32,
    rooms: int = 4, num_actions: int = 4) -> CorridorTask:
  """Draws tasks of like difficulty: each is the first of its candidates at which the uniform policy suits.

  Args:
    key: PRNG key; may be traced, so that every seed has its own.
    num_tasks: P.
    turns: S, length of an episode.
    low: least success of the uniform policy.
    high: largest success of the uniform policy.
    candidates: how many are drawn for each task. About a third suits; if none does, the one that is nearest to the
      interval is taken.
    rooms: number of rooms.
    num_actions: M.

  Returns:
    `[P]` tasks; task p is entry p.
  """
  uniform = jnp.full((turns, rooms, num_actions), 1 / num_actions)

  def one(key, number):
    drawn = jax.vmap(lambda k: draw_task(k, number, rooms, num_actions))(jax.random.split(key, candidates))
    success = jax.vmap(lambda task: success_values(task, uniform)[0, 0, 0])(drawn)
    distance = jnp.maximum(jnp.maximum(low - success, success - high), 0)
    return jax.tree.map(lambda x: x[jnp.argmin(distance)], drawn)  # the first of those at distance 0

  return jax.vmap(one)(jax.random.split(key, num_tasks), jnp.arange(num_tasks, dtype=jnp.int32))


def render(state: CorridorState, task: CorridorTask) -> Array:
  """Returns the codes of `cells`, `[rooms, 1 + M]`: rooms below each other, the agent in one of them in column 0.

  Beside a room is what each action finds there: the exit, or one of the keys, each of its own colour, which is gone
  once the agent has it.
  """
  waiting = (task.role < _KEYS) & ((state.keys >> jnp.minimum(task.role, _KEYS)) & 1 == 0)
  found = jnp.where(waiting, cells.COLOUR + task.role, jnp.where(task.role == _KEYS, cells.EXIT, cells.FLOOR))
  rooms = jnp.where(jnp.arange(task.role.shape[0]) == state.room, cells.AGENT, cells.WALL)
  return jnp.concatenate([rooms[:, None], found], 1)


def make_key_corridor(*, num_tasks: int = 8, turns: int = 8, rooms: int = 4, num_actions: int = 4) -> World:
  """Makes the world; its params are one `CorridorTask`.

  The observation is one-hot task `[P]`, one-hot turn `[S]` and one-hot room `[rooms]`; `info` holds the `room` in
  which and the `keys` with which the action was taken.

  Args:
    num_tasks: P, as the tasks were drawn.
    turns: S.
    rooms: number of rooms.
    num_actions: M.

  Returns:
    The world.

  Raises:
    ValueError: if there are too few pairs of room and action for three keys and the exit.
  """
  if rooms * num_actions <= _KEYS:
    raise ValueError(f"rooms={rooms} and num_actions={num_actions} leave no place for {_KEYS} keys and the exit")

  def reset(key, params):
    del key
    zero = jnp.zeros((), jnp.int32)
    return observe(params.task, zero, zero, num_tasks, turns, rooms), CorridorState(zero, zero, zero)

  def step(key, state, action, params):
    del key
    room, keys, exits = _move(params, state.room, state.keys, action)
    time = state.time + 1
    over = time >= turns
    reward = (over & ~exits & (keys == _ALL)).astype(jnp.float32)
    info = {"room": state.room, "keys": state.keys}
    observation = observe(params.task, time, room, num_tasks, turns, rooms)
    return observation, CorridorState(room, keys, time), reward, exits | over, jnp.zeros((), bool), info

  return World(reset, step, num_actions, num_tasks + turns + rooms, turns)


def observe(task: Array, turn: Array, room: Array, num_tasks: int = 8, turns: int = 8, rooms: int = 4) -> Array:
  """Returns what the agent sees: one-hot task, turn (0 after the last one) and room, `[P + S + rooms]` float32."""
  return jnp.concatenate([jax.nn.one_hot(task, num_tasks), jax.nn.one_hot(turn, turns), jax.nn.one_hot(room, rooms)])


def _move(task: CorridorTask, room: Array, keys: Array, action: Array) -> tuple[Array, Array, Array]:
  """Returns the next room, the keys and whether the action leads to the exit."""
  role = jnp.asarray(task.role)[room, action]
  keys = jnp.where(role < _KEYS, keys | (1 << jnp.minimum(role, _KEYS - 1)), keys)
  return jnp.asarray(task.table)[room, action], keys, role == _KEYS
