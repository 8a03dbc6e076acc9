"""Mini-quest: a text adventure of rooms and objects whose quest is the prompt, every turn of the same few tokens.

The prompt names up to four sub-goals, three tokens each: go to a room, take an object, put an object in a room. They
are done in their order, each by the deed itself: by walking into the room, by taking the object, by putting it there.
An observation is the room, the three lowest objects that lie in it, the object in hand, and what the last action came
to. An action is a verb, its argument and the end token. An action that is impossible changes nothing.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from rlcore.envs import text_face
from rlcore.types import Array, TextWorld

ROOMS, OBJECTS, GOALS, SLOTS = 8, 12, 4, 3
VERBS = ("go", "take", "put", "look")
DIRECTIONS = ("north", "east", "south", "west")  # the opposite of d is d + 2 mod 4
NAMES = ("apple", "book", "coin", "drum", "egg", "flute", "glove", "hat", "ink", "jar", "key", "lamp")
WORDS = (*VERBS, *DIRECTIONS, *NAMES, "nothing", ".", *(f"room{i}" for i in range(ROOMS)), "ok", "useless", "done",
         "GO", "TAKE", "PUT")
_DIRECTION, _OBJECT, NOTHING, EOS, _ROOM, _FEEDBACK, _KIND = (
    WORDS.index(word) for word in ("north", "apple", "nothing", ".", "room0", "ok", "GO"))
DRAWABLE = EOS + 1  # the ids below are those of actions, the others are only read
_GO, _TAKE, _PUT, _LOOK = range(4)
_FAR = 99


class Quest(NamedTuple):
  """One instance.

  Attributes:
    exits: `[8, 4]` int32, the room that each direction leads to, -1 for a wall.
    places: `[12]` int32, the room of each object, -1 where there is no such object.
    start: int32.
    kinds: `[4]` int32, 0 go, 1 take, 2 put; the sub-goals from `num_goals` on do not count.
    objects: `[4]` int32, of each sub-goal, 12 for none.
    rooms: `[4]` int32, of each sub-goal, 8 for none.
    num_goals: int32.
    limit: int32, the most turns.
  """

  exits: Array
  places: Array
  start: Array
  kinds: Array
  objects: Array
  rooms: Array
  num_goals: Array
  limit: Array


class QuestState(NamedTuple):
  """Where an episode stands.

  Attributes:
    quest: the instance.
    room: int32.
    places: `[12]` int32, the room of each object, 8 for the one in hand.
    held: int32, the object in hand, 12 for none.
    done: int32, sub-goals done.
    turn: int32, turns taken.
  """

  quest: Quest
  room: Array
  places: Array
  held: Array
  done: Array
  turn: Array


def _observe(state: QuestState, feedback: Array) -> Array:
  """Writes the observation `[6]`."""
  lying = jnp.where(state.places == state.room, jnp.arange(OBJECTS), OBJECTS)
  return jnp.concatenate([
      (_ROOM + state.room)[None], _OBJECT + jnp.sort(lying)[:SLOTS], (_OBJECT + state.held)[None],
      (_FEEDBACK + feedback)[None]]).astype(jnp.int32)


def _prompt(quest: Quest) -> tuple[Array, Array]:
  """Writes the sub-goals `[12]`, padded on the left, and their mask."""
  rooms = jnp.where(quest.rooms < ROOMS, _ROOM + quest.rooms, NOTHING)
  goals = jnp.stack([_KIND + quest.kinds, _OBJECT + quest.objects, rooms], 1)
  source = jnp.arange(GOALS) - (GOALS - quest.num_goals)
  real = source >= 0
  tokens = jnp.where(real[:, None], goals[jnp.maximum(source, 0)], NOTHING)
  return tokens.reshape(-1).astype(jnp.int32), jnp.repeat(real, 3).astype(jnp.float32)


def _reset(key: Array, quest: Quest):
  del key  # nothing is left to chance
  quest = Quest(*map(jnp.asarray, quest))
  zero = jnp.zeros((), jnp.int32)
  state = QuestState(quest, quest.start, quest.places, zero + OBJECTS, zero, zero)
  return state, *_prompt(quest), _observe(state, zero)


def _step(state: QuestState, action: Array):
  quest, room, held = state.quest, state.room, state.held
  verb, direction, thing = action[0], action[1] - _DIRECTION, action[1] - _OBJECT
  is_direction, is_object = (direction >= 0) & (direction < 4), (thing >= 0) & (thing < OBJECTS)
  beyond = quest.exits[room, jnp.clip(direction, 0, 3)]
  index = jnp.clip(thing, 0, OBJECTS - 1)
  goes = (verb == _GO) & is_direction & (beyond >= 0)
  takes = (verb == _TAKE) & is_object & (held == OBJECTS) & (state.places[index] == room)
  puts = (verb == _PUT) & is_object & (held == thing)
  place = jnp.where(takes, ROOMS, jnp.where(puts, room, state.places[index]))
  room = jnp.where(goes, beyond, room)
  held = jnp.where(takes, thing, jnp.where(puts, OBJECTS, held))

  goal = jnp.minimum(state.done, GOALS - 1)
  kind, right, here = quest.kinds[goal], quest.objects[goal] == thing, quest.rooms[goal] == room
  deed = (goes & (kind == _GO) & here) | (takes & (kind == _TAKE) & right) | (puts & (kind == _PUT) & right & here)
  deed &= state.done < quest.num_goals
  done, turn = state.done + deed, state.turn + 1
  state = QuestState(quest, room, state.places.at[index].set(place), held, done, turn)
  won = done == quest.num_goals
  useful = goes | takes | puts | (verb == _LOOK)
  feedback = jnp.where(deed, 2, jnp.where(useful, 0, 1))
  return state, _observe(state, feedback), deed.astype(jnp.float32), won | (turn >= quest.limit), {
      "won": won, "num_goals": quest.num_goals}


def decode(tokens) -> str:
  """Writes tokens as words."""
  return text_face.decode(WORDS, tokens)


def make_mini_quest(*, num_turns: int = 12) -> TextWorld:
  """Makes the world; its params are a `Quest`, and one vocabulary serves every size.

  The world's reward is 1 for each sub-goal done; `info["won"]` says whether all are, `info["num_goals"]` how many there
  are. An episode ends when they are done, or at the quest's own limit, which is a failure.

  Args:
    num_turns: S, static, no less than the limit of any quest played.

  Returns:
    The world: 12 prompt tokens, S turns of 6 observation and 3 action tokens. A verb stands in the first place of an
    action, a direction, an object or "nothing" in the second, the end token in the third.

  Reference: multi-turn guide, arXiv:2510.01132 (after its TextWorld tasks of w rooms, o objects and q sub-goals).
  """
  ids = np.arange(len(WORDS))
  allowed = np.stack([ids < len(VERBS), (ids >= _DIRECTION) & (ids <= NOTHING), ids == EOS])
  return TextWorld(
      reset=_reset, step=_step, decode=decode, num_turns=num_turns, prompt_length=3 * GOALS,
      observation_length=SLOTS + 3, action_length=3, vocab_size=len(WORDS), allowed=allowed, pad_id=NOTHING)


def solve(quest: Quest) -> np.ndarray:
  """Plans the actions that do the sub-goals one after the other by the shortest ways.

  No plan is shorter where this one has at most 6 actions: only carrying an object ahead, for two more actions, could
  save moves, and the ways would have to be longer.

  Args:
    quest: one instance.

  Returns:
    `[L, 3]` int32, the tokens of each action.

  Raises:
    ValueError: for a quest that cannot be done in its order (an object that is not there, a full hand, no way).
  """
  exits, places, room, *goals, num_goals, _ = map(np.array, quest)
  distance, held, plan = _distances(exits), OBJECTS, []
  for kind, thing, target in zip(*(x[:num_goals] for x in goals)):
    target = places[thing] if kind == _TAKE else target
    ready = {_GO: target != room, _TAKE: held == OBJECTS, _PUT: held == thing}[int(kind)]
    if not ready or not 0 <= target < ROOMS or distance[room, target] >= _FAR:
      raise ValueError(f"sub-goal {VERBS[kind]} (object {thing}, room {target}) cannot be done from room {room}")
    while room != target:
      ways = [d for d in range(4) if exits[room, d] >= 0]
      way = min(ways, key=lambda d: distance[exits[room, d], target])
      plan.append((_GO, _DIRECTION + way, EOS))
      room = exits[room, way]
    if kind != _GO:
      plan.append((kind, _OBJECT + thing, EOS))
      held, places[thing] = (thing, ROOMS) if kind == _TAKE else (OBJECTS, room)
  return np.array(plan, np.int32)


def draw_quests(
    seed: int, count: int, *, rooms: int, objects: int, goals: int, longest: int = 6) -> tuple[Quest, np.ndarray]:
  """Draws instances that are all different, on the host, with their solutions; the limit is twice the solution.

  Args:
    seed: of the generator.
    count: N.
    rooms: at most 8.
    objects: at most 12.
    goals: sub-goals, at most 4.
    longest: instances whose solution has more actions are thrown away.

  Returns:
    `(Quest of [N, ...], [N, longest, 3] int32)`: NumPy arrays; a solution shorter than `longest` is filled with -1.

  Raises:
    ValueError: for a size out of range, or if so many different instances are not found.
  """
  for name, value, most in (("rooms", rooms, ROOMS), ("objects", objects, OBJECTS), ("goals", goals, GOALS)):
    if not 1 <= value <= most:
      raise ValueError(f"{name}={value} must be 1 to {most}")
  rng, found = np.random.default_rng(seed), {}
  for _ in range(100 * count):
    quest = _draw_quest(rng, rooms, objects, goals)
    plan = solve(quest)
    if len(plan) <= longest:
      filled = np.pad(plan, ((0, longest - len(plan)), (0, 0)), constant_values=-1)
      quest = quest._replace(limit=np.int32(2 * len(plan)))
      found.setdefault(b"".join(x.tobytes() for x in quest), (quest, filled))
    if len(found) == count:
      quests, plans = zip(*found.values())
      return Quest(*map(np.stack, zip(*quests))), np.stack(plans)
  raise ValueError(f"only {len(found)} of {count} different instances were found with solutions of at most {longest}")


def _distances(exits: np.ndarray) -> np.ndarray:
  """Counts the moves between any two rooms; `_FAR` where there is no way."""
  distance = np.full((ROOMS, ROOMS), _FAR)
  np.fill_diagonal(distance, 0)
  for room, direction in np.argwhere(exits >= 0):
    distance[room, exits[room, direction]] = 1
  for middle in range(ROOMS):
    distance = np.minimum(distance, distance[:, middle, None] + distance[None, middle])
  return distance


def _draw_graph(rng: np.random.Generator, rooms: int) -> np.ndarray:
  """Draws a connected graph: every room hangs on an earlier one; then come a few more passages where walls allow."""
  exits = np.full((ROOMS, 4), -1, np.int32)

  def connect(a, b):
    free = [d for d in range(4) if exits[a, d] < 0 and exits[b, (d + 2) % 4] < 0]
    if not free:
      return False
    way = rng.choice(free)
    exits[a, way], exits[b, (way + 2) % 4] = b, a
    return True

  for room in range(1, rooms):
    while not connect(rng.integers(room), room):
      continue
  for _ in range(rooms // 3):
    a, b = rng.integers(rooms, size=2)
    if a != b and b not in exits[a]:
      connect(a, b)
  return exits


def _draw_quest(rng: np.random.Generator, rooms: int, objects: int, goals: int) -> Quest:
  """Walks through a fresh world; what is done on the way becomes the quest, so that it can be done."""
  exits, start = _draw_graph(rng, rooms), int(rng.integers(rooms))
  places = np.where(np.arange(OBJECTS) < objects, rng.integers(rooms, size=OBJECTS), -1).astype(np.int32)
  now, room, held, drawn = places.copy(), start, OBJECTS, []
  for _ in range(goals):
    kind = rng.choice([_GO] * (rooms > 1) + [_TAKE if held == OBJECTS else _PUT])
    if kind == _GO:
      room = rng.choice([r for r in range(rooms) if r != room])
      drawn.append((kind, OBJECTS, room))
    elif kind == _TAKE:
      held = rng.integers(objects)
      room = now[held]
      drawn.append((kind, held, ROOMS))
    else:
      room = rng.integers(rooms)
      drawn.append((kind, held, room))
      now[held], held = room, OBJECTS
  drawn += [(_GO, OBJECTS, ROOMS)] * (GOALS - goals)
  kinds, things, targets = np.array(drawn, np.int32).T
  return Quest(exits, places, np.int32(start), kinds, things, targets, np.int32(goals), np.int32(0))
