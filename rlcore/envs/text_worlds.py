"""The faces of household, key corridor and relation hops: what is asked, seen and done there, in words.

An observation says what the feature vector says, except the instance, which is the prompt, and the last action, which
stands before it in the sequence. In the household the prompt is the chain itself; the feature vector numbers the goals.
"""

import jax.numpy as jnp

from rlcore.envs import household, key_corridor
from rlcore.envs import relation_hops as hops
from rlcore.envs import text_face
from rlcore.types import Array, TextWorld

HOUSE_ACTIONS = (
    "take cloth .", "take fish .", "take match .", "drop it .", "open fridge .", "open drawer .", "wipe table .",
    "feed cat .", "light candle .", "lay table .", "close fridge .", "close drawer .")
HOUSE_FACTS = (
    "fridge-shut fridge-open", "drawer-shut drawer-open", "table-dirty table-clean", "cat-hungry cat-fed",
    "candle-dark candle-lit", "table-bare table-laid")
HANDS = ("hands-empty", "cloth", "fish", "match")
ROOMS = ("hall", "kitchen", "cellar", "attic", "study", "tower", "chapel", "garden")
WAYS = ("door", "stairs", "gate", "hatch", "tunnel", "ladder", "window", "arch")
RELATIONS = ("mother", "teacher", "friend", "rival", "neighbour", "boss", "doctor", "heir")
ENTITIES = ("ada", "bert", "cora", "dan", "eva", "finn", "gina", "hugo", "iris", "jack", "kate", "leo", "mia", "nick",
            "olga", "paul", "quinn", "rosa", "sam", "tina", "uma", "vera", "will", "xena", "yara", "zeno")


def _turns(horizon: int) -> tuple[str, ...]:
  """The word of each turn, and of the time after the last."""
  return *(f"turn{turn + 1}" for turn in range(horizon)), "over"


def _check(**sizes: tuple[int, tuple[str, ...]]):
  for name, (size, names) in sizes.items():
    if not 1 <= size <= len(names):
      raise ValueError(f"{name}={size}: there are words for 1 to {len(names)}")


def household_face(horizon: int = 16) -> text_face.Face:
  """Words of the household: "open fridge then take fish then feed cat then close fridge" and the like.

  A wasted turn ("feed drawer .") is one in which nothing happens, like an action that does not work.

  Args:
    horizon: most steps.

  Returns:
    The face: 11 prompt tokens, 11 of an observation (turn, whether the last action worked, six facts, what is held,
    sub-goals done), 3 of an action.
  """
  said = ("you begin", "it works", "nothing happens")
  done = tuple(f"{count}/{household.CHAIN}" for count in range(household.CHAIN + 1))
  words = text_face.vocabulary(HOUSE_ACTIONS, "then", *said, *HOUSE_FACTS, *HANDS, *done, *_turns(horizon))
  table = lambda *sentences: text_face.encode(words, sentences)
  then, subgoals = table("then")[0], table(*HOUSE_ACTIONS)[:, :-1]
  turns, said, facts, hands, done = (table(*x) for x in (_turns(horizon), said, HOUSE_FACTS, HANDS, done))

  def prompt(goal: household.Goal) -> Array:
    between = jnp.broadcast_to(jnp.asarray(then), (household.CHAIN, 1))
    return jnp.concatenate([between, jnp.asarray(subgoals)[goal.chain]], 1).reshape(-1)[1:]

  def observe(state: household.HouseState, heard: Array) -> Array:
    set_ = state.place >> jnp.arange(household.NUM_FACTS) & 1
    heard = jnp.where((heard == text_face.UNDERSTOOD) & (state.grounded == 0), text_face.NONSENSE, heard)
    return jnp.concatenate([
        jnp.asarray(turns)[state.time], jnp.asarray(said)[heard],
        jnp.asarray(facts)[jnp.arange(household.NUM_FACTS), set_],
        jnp.asarray(hands)[state.place >> household.NUM_FACTS], jnp.asarray(done)[state.progress]])

  def waste(state: household.HouseState) -> household.HouseState:
    return state._replace(action=jnp.full_like(state.action, -1), grounded=jnp.zeros_like(state.grounded),
                          time=state.time + 1)

  return text_face.Face(words, HOUSE_ACTIONS, prompt, observe, len(subgoals[0]) * 4 + 3, 11, waste)


def corridor_face(
    *, num_tasks: int = 8, turns: int = 8, rooms: int = 4, num_actions: int = 4) -> text_face.Face:
  """Words of the key corridor: "task3 : find three keys", then "turn1 hall" and "use door ." and so on.

  Args:
    num_tasks: P.
    turns: S.
    rooms: number of rooms, at most 8.
    num_actions: M, ways to leave a room, at most 8.

  Returns:
    The face: 5 prompt tokens, 2 of an observation, 3 of an action, of which only the second is a choice.

  Raises:
    ValueError: for more rooms or actions than there are words.
  """
  _check(rooms=(rooms, ROOMS), num_actions=(num_actions, WAYS))
  actions = tuple(f"use {way} ." for way in WAYS[:num_actions])
  prompts = tuple(f"task{task + 1} : find three keys" for task in range(num_tasks))
  words = text_face.vocabulary(actions, *prompts, *ROOMS[:rooms], *_turns(turns))
  asked, times, places = (text_face.encode(words, x) for x in (prompts, _turns(turns), ROOMS[:rooms]))

  def observe(state: key_corridor.CorridorState, heard: Array) -> Array:
    del heard  # every combination of the words is an action
    return jnp.concatenate([jnp.asarray(times)[state.time], jnp.asarray(places)[state.room]])

  return text_face.Face(words, actions, lambda task: jnp.asarray(asked)[task.task], observe, asked.shape[1], 2)


def hops_face(sizes: hops.Sizes = hops.Sizes(budget=8)) -> text_face.Face:
  """Words of the walked relation hops: "who is ada 's mother 's friend ?", then "ask mother ." and "answer cora .".

  A wasted turn ("ask cora .") costs a step and moves nothing.

  Args:
    sizes: of the world, at most 8 relations and 26 entities.

  Returns:
    The face: 2 H + 4 prompt tokens, 4 of an observation (turn, what happened, the entity that is known), 3 of an
    action.

  Raises:
    ValueError: for more relations or entities than there are words.
  """
  _check(relations=(sizes.relations, RELATIONS), entities=(sizes.entities, ENTITIES))
  relations, entities = RELATIONS[:sizes.relations], ENTITIES[:sizes.entities]
  actions = (*(f"ask {relation} ." for relation in relations), *(f"answer {entity} ." for entity in entities))
  said = ("you know", "you find", "nothing happens")
  words = text_face.vocabulary(actions, "who is 's ?", *said, *_turns(sizes.budget))
  table = lambda *sentences: text_face.encode(words, sentences)
  who, end, links = table("who is")[0], table("?")[0], table(*(f"'s {relation}" for relation in relations))
  names, said, turns = table(*entities), table(*said), table(*_turns(sizes.budget))

  def prompt(question: hops.Question) -> Array:
    chain = jnp.asarray(links)[question.chain].reshape(-1)
    return jnp.concatenate([jnp.asarray(who), jnp.asarray(names)[question.start], chain, jnp.asarray(end)])

  def observe(state: hops.HopsState, heard: Array) -> Array:
    return jnp.concatenate([jnp.asarray(turns)[state.step], jnp.asarray(said)[heard], jnp.asarray(names)[state.known]])

  waste = lambda state: state._replace(step=state.step + 1)
  return text_face.Face(words, actions, prompt, observe, 2 * sizes.hops + 4, 4, waste)


def make_text_household(*, num_goals: int = 24, horizon: int = 16) -> TextWorld:
  """Makes the household in words; arguments and params are those of `make_household`."""
  world = household.make_household(num_goals=num_goals, horizon=horizon)
  return text_face.make_text_world(world, household_face(horizon))


def make_text_corridor(
    *, num_tasks: int = 8, turns: int = 8, rooms: int = 4, num_actions: int = 4) -> TextWorld:
  """Makes the key corridor in words; arguments and params are those of `make_key_corridor`."""
  sizes = dict(num_tasks=num_tasks, turns=turns, rooms=rooms, num_actions=num_actions)
  return text_face.make_text_world(key_corridor.make_key_corridor(**sizes), corridor_face(**sizes))


def make_text_hops(sizes: hops.Sizes = hops.Sizes(budget=8)) -> TextWorld:
  """Makes the walked relation hops in words; argument and params are those of `make_walked_hops`."""
  return text_face.make_text_world(hops.make_walked_hops(sizes), hops_face(sizes))
