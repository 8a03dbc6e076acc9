"""Text worlds with their instances: what trains, what tests, and how the training instances can be solved.

Drawn once for given arguments, on the host, and the same whatever else a run does.
"""

from collections.abc import Callable
import functools
from typing import NamedTuple

import jax
import numpy as np

from rlcore.envs import household, key_corridor, mini_quest, text_face, text_worlds
from rlcore.envs import relation_hops as hops
from rlcore.policies import actor_critic
from rlcore.types import PyTree, TextWorld, World


class Quests(NamedTuple):
  """A text world and sets of its instances, NumPy arrays throughout.

  Attributes:
    world: the text world.
    train: instances, pytree of `[sets, N, ...]`.
    test: instances, pytree of `[sets, M, ...]`.
    plans: `[sets, N, L, A]` int32, the actions that solve each training instance, filled up with -1; None where the
      world has no script.
  """

  world: TextWorld
  train: PyTree
  test: PyTree
  plans: np.ndarray | None


def _parts(instances: PyTree, train: int) -> tuple[PyTree, PyTree]:
  """Splits `[sets, N + M, ...]`."""
  part = lambda where: jax.tree.map(lambda x: np.asarray(x)[:, where], instances)
  return part(slice(train)), part(slice(train, None))


def _one_set(world: TextWorld, instances: PyTree, train: int, plans: np.ndarray | None) -> Quests:
  """Makes quests of `[N + M, ...]` instances and `[N + M, L, A]` plans."""
  sets = _parts(jax.tree.map(lambda x: np.asarray(x)[None], instances), train)
  return Quests(world, *sets, None if plans is None else plans[None, :train])


def _scripted_plans(
    world: World, face: text_face.Face, script: Callable[[PyTree], actor_critic.Script],
    instances: PyTree) -> np.ndarray:
  """Plays the script of each instance in its world and tells the actions in words: `[N, L, A]`, -1 after the end."""
  play = lambda instance: actor_critic.scripted_rollout(world, script(instance), jax.random.key(0), instance)
  shown = jax.jit(jax.vmap(play))(instances)
  told = text_face.encode(face.words, face.actions)[np.asarray(shown.action)]
  return np.where(np.asarray(shown.mask)[..., None] > 0, told, -1)


def _mini_quest(*, train, test, num_turns, seed, sizes, **_) -> Quests:
  """Quests of every size (rooms, objects, sub-goals), one set each; solutions of at most half the turns."""
  drawn = [mini_quest.draw_quests(seed, train + test, rooms=rooms, objects=objects, goals=goals, longest=num_turns // 2)
           for rooms, objects, goals in sizes]
  instances, plans = jax.tree.map(lambda *x: np.stack(x), *drawn)
  return Quests(mini_quest.make_mini_quest(num_turns=num_turns), *_parts(instances, train), plans[:, :train])


def _household(*, train, test, num_turns, seed, **_) -> Quests:
  """Goals that are all different, whose shortest plans have 5 to 9 actions, less than there are turns."""
  count = train + test
  draw = functools.partial(household.draw_goals, num_goals=count, longest=min(9, num_turns - 1))
  goals = jax.jit(draw)(jax.random.key(seed))
  script = lambda goal: functools.partial(
      household.demonstrator, lengths=household.plan_lengths(goal.chain), error=0.0)
  world, face = household.make_household(num_goals=count, horizon=num_turns), text_worlds.household_face(num_turns)
  return _one_set(text_face.make_text_world(world, face), goals, train, _scripted_plans(world, face, script, goals))


def _key_corridor(*, train, test, num_turns, seed, tasks, **_) -> Quests:
  """The same few tasks again and again, also as test: a task can only be found out."""
  drawn = jax.jit(lambda key: key_corridor.draw_tasks(key, tasks, num_turns))(jax.random.key(seed))
  again = jax.tree.map(lambda x: x[np.concatenate([np.arange(train), np.arange(test)]) % tasks], drawn)
  return _one_set(text_worlds.make_text_corridor(num_tasks=tasks, turns=num_turns), again, train, None)


def _relation_hops(*, train, test, num_turns, seed, entities, relations, chain, **_) -> Quests:
  """Questions that are all different, on one graph; relations do not recur in a chain."""
  sizes = hops.Sizes(entities, relations, chain, num_turns)
  if num_turns <= chain:
    raise ValueError(f"relation_hops: a chain of {chain} and its answer need more than num_turns={num_turns}")
  total = hops.num_distinct_questions(sizes)
  if total < train + test:
    raise ValueError(f"relation_hops has {total} different questions of this size; train={train} and test={test} ask "
                     "for more")

  def draw(key):
    graph_key, key = jax.random.split(key)
    graph = hops.make_graph(graph_key, sizes)
    chosen = jax.random.permutation(key, total)[:train + test]
    return jax.vmap(lambda index: hops.distinct_question(index, graph, sizes))(chosen)

  questions = jax.jit(draw)(jax.random.key(seed))
  script = lambda question: functools.partial(hops.follow_chain, skill=1.0)
  world, face = hops.make_walked_hops(sizes), text_worlds.hops_face(sizes)
  plans = _scripted_plans(world, face, script, questions)
  return _one_set(text_face.make_text_world(world, face), questions, train, plans)


WORLDS: dict[str, Callable[..., Quests]] = dict(
    household=_household, key_corridor=_key_corridor, mini_quest=_mini_quest, relation_hops=_relation_hops)


@functools.cache
def make_quests(
    name: str, *, train: int, test: int, num_turns: int, seed: int = 0,
    sizes: tuple[tuple[int, int, int], ...] = ((2, 3, 2),), tasks: int = 8, entities: int = 24, relations: int = 5,
    chain: int = 3) -> Quests:
  """Makes a text world and draws its instances; every name takes all arguments and reads its own.

  In the household and in relation hops no test instance is a training instance. The key corridor repeats its tasks, in
  training and in the test: it has nothing to generalise to, and no script.

  Args:
    name: "household", "key_corridor", "mini_quest" or "relation_hops".
    train: N, training instances of each set.
    test: M, test instances of each set.
    num_turns: S, most turns of an episode.
    seed: of the instances.
    sizes: of mini-quest, a set of instances for each: rooms, objects, sub-goals. The others have one set.
    tasks: of the key corridor, how many.
    entities: of relation hops.
    relations: of relation hops.
    chain: of relation hops, relations in a question.

  Returns:
    The quests.

  Raises:
    ValueError: for another name, or if there are not so many different instances.
  """
  if name not in WORLDS:
    raise ValueError(f"there is no text world {name!r}; there are: {', '.join(WORLDS)}")
  with jax.ensure_compile_time_eval():  # also where an experiment is made inside a traced function
    return WORLDS[name](train=train, test=test, num_turns=num_turns, seed=seed, sizes=sizes, tasks=tasks,
                        entities=entities, relations=relations, chain=chain)
