"""Mini-quest against a simulation in plain Python, and its solutions against an exhaustive search."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore.envs import mini_quest as mq
from rlcore.policies import multi_turn

SIZES = ((2, 3, 4), (2, 3, 2), (4, 6, 4))


class Simulation:
  """The rules once more, on words."""

  def __init__(self, quest):
    self.exits = [{d: int(r) for d, r in zip(mq.DIRECTIONS, row) if r >= 0} for row in quest.exits]
    self.lies = {name: int(r) for name, r in zip(mq.NAMES, quest.places) if r >= 0}
    self.room, self.hand, self.turns, self.limit = int(quest.start), None, 0, int(quest.limit)
    self.goals = collections.deque()
    for kind, thing, room in list(zip(quest.kinds, quest.objects, quest.rooms))[:int(quest.num_goals)]:
      name = mq.NAMES[thing] if thing < len(mq.NAMES) else "nothing"
      self.goals.append((("GO", "TAKE", "PUT")[kind], name, f"room{room}" if room < 8 else "nothing"))

  def prompt(self):
    return " ".join(" ".join(goal) for goal in self.goals)

  def observe(self, feedback):
    here = sorted(name for name, room in self.lies.items() if room == self.room)[:3]
    return " ".join([f"room{self.room}", *here, *["nothing"] * (3 - len(here)), self.hand or "nothing", feedback])

  def act(self, verb, argument):
    """Returns observation, reward, end and victory."""
    self.turns += 1
    happened = verb == "look"
    done = None
    if verb == "go" and argument in self.exits[self.room]:
      self.room, happened = self.exits[self.room][argument], True
      done = ("GO", "nothing", f"room{self.room}")
    if verb == "take" and self.hand is None and self.lies.get(argument) == self.room:
      del self.lies[argument]
      self.hand, happened, done = argument, True, ("TAKE", argument, "nothing")
    if verb == "put" and self.hand == argument:
      self.lies[argument] = self.room
      self.hand, happened, done = None, True, ("PUT", argument, f"room{self.room}")
    reward = bool(self.goals) and done == self.goals[0]
    if reward:
      self.goals.popleft()
    won = not self.goals
    feedback = "done" if reward else "ok" if happened else "useless"
    return self.observe(feedback), float(reward), won or self.turns >= self.limit, won


def _pick(quests, i):
  return jax.tree.map(lambda x: x[i], quests)


@pytest.mark.parametrize("size", SIZES)
def test_every_turn_equals_the_simulation(size):
  world = mq.make_mini_quest()
  quests, plans = mq.draw_quests(3, 12, rooms=size[0], objects=size[1], goals=size[2])
  rng, reset, step = np.random.default_rng(0), jax.jit(world.reset), jax.jit(world.step)
  seen = collections.Counter()
  for i in range(12):
    quest = _pick(quests, i)
    state, prompt, prompt_mask, observation = reset(jax.random.key(0), quest)
    simulation = Simulation(quest)
    assert world.decode(prompt[prompt_mask > 0]) == simulation.prompt()
    assert not np.any(np.diff(prompt_mask) < 0) and prompt.shape == (world.prompt_length,)
    assert world.decode(observation) == simulation.observe("ok")
    plan = list(plans[i])
    for _ in range(int(quest.limit)):
      argument = rng.integers(4, 4 + 4 + size[1] + 1)  # one thing too many: an object that does not exist
      random = (rng.integers(4), argument, mq.EOS)
      action = np.array(plan.pop(0) if plan and rng.random() < 0.6 else random, np.int32)
      state, observation, reward, done, info = step(state, action)
      want = simulation.act(mq.WORDS[action[0]], mq.WORDS[action[1]])
      assert (world.decode(observation), float(reward), bool(done), bool(info["won"])) == want
      seen[world.decode(observation[-1:])] += 1
      if done:
        break
  assert min(seen[word] for word in ("ok", "useless", "done")) > 3


def _shortest(quest, most):
  """Searches breadth first over (room, hand, places, sub-goals done)."""
  start = Simulation(quest)
  start.limit = 10**6
  freeze = lambda s: (s.room, s.hand, tuple(sorted(s.lies.items())), len(s.goals))
  frontier, known = [start], {freeze(start)}
  things = sorted(start.lies)
  actions = [("go", d) for d in mq.DIRECTIONS] + [(verb, name) for verb in ("take", "put") for name in things]
  for length in range(1, most + 1):
    following = []
    for old in frontier:
      for action in actions:
        new = object.__new__(Simulation)
        new.__dict__ = dict(old.__dict__, lies=dict(old.lies), goals=collections.deque(old.goals))
        if new.act(*action)[3]:
          return length
        if freeze(new) not in known:
          known.add(freeze(new))
          following.append(new)
    frontier = following
  return None


@pytest.mark.parametrize("size, count", [((2, 3, 4), 8), ((2, 3, 2), 8), ((4, 4, 4), 3), ((8, 3, 2), 4)])
def test_no_way_is_shorter_than_the_solution(size, count):
  quests, plans = mq.draw_quests(7, count, rooms=size[0], objects=size[1], goals=size[2])
  for i in range(count):
    length = int(np.sum(plans[i, :, 0] >= 0))
    assert length <= 6 and quests.limit[i] == 2 * length
    assert _shortest(_pick(quests, i), length) == length


def test_solutions_win_and_their_tokens_can_be_read():
  world = mq.make_mini_quest()
  quests, plans = mq.draw_quests(0, 40, rooms=4, objects=6, goals=4)
  replay = jax.jit(jax.vmap(lambda q, p: multi_turn.replay(world, jax.random.key(0), q, p, jnp.sum(p[:, 0] >= 0))))
  episodes = jax.tree.map(np.asarray, replay(quests, plans))
  lengths = np.sum(plans[:, :, 0] >= 0, 1)
  assert np.all(episodes.info["won"][:, 0, -1])
  np.testing.assert_array_equal(episodes.turn_rewards.sum((1, 2)), 4)
  np.testing.assert_array_equal(episodes.rollouts.mask.sum((1, 2)), 3 * lengths)
  np.testing.assert_array_equal(episodes.rollouts.valid.sum((1, 2)), 9 * lengths)
  simulation = Simulation(_pick(quests, 0))
  first = world.decode(episodes.rollouts.tokens[0, 0, :9]).split()
  assert " ".join(first[:6]) == simulation.observe("ok")
  assert first[6] in mq.VERBS and first[8] == "."
  assert mq.decode([-1, 10**6]) == "? ?"


def test_the_instances_are_different_and_fit_the_world():
  quests, plans = mq.draw_quests(0, 128, rooms=2, objects=3, goals=4)
  assert len({tuple(np.concatenate([np.ravel(x[i]) for x in quests])) for i in range(128)}) == 128
  assert plans.shape == (128, 6, 3) and np.all(quests.limit <= 12)
  again, _ = mq.draw_quests(0, 128, rooms=2, objects=3, goals=4)
  for a, b in zip(quests, again):
    np.testing.assert_array_equal(a, b)
  allowed = mq.make_mini_quest().allowed
  assert all(allowed[place, token] for plan in plans for action in plan[plan[:, 0] >= 0]
             for place, token in enumerate(action))
  assert list(np.flatnonzero(allowed[2])) == [mq.EOS]


def test_bad_input_is_refused():
  with pytest.raises(ValueError, match="rooms=9"):
    mq.draw_quests(0, 1, rooms=9, objects=3, goals=2)
  with pytest.raises(ValueError, match="of 100 different"):
    mq.draw_quests(0, 100, rooms=1, objects=1, goals=1)
  quests, _ = mq.draw_quests(0, 1, rooms=2, objects=3, goals=2)
  quest = _pick(quests, 0)._replace(kinds=np.array([2, 0, 0, 0]), objects=np.zeros(4, int), rooms=np.zeros(4, int))
  with pytest.raises(ValueError, match="sub-goal put"):
    mq.solve(quest)
  wall = _pick(quests, 0)._replace(exits=np.full((8, 4), -1), kinds=np.zeros(4, int), start=np.int32(0),
                                   rooms=np.ones(4, int))
  with pytest.raises(ValueError, match="sub-goal go"):
    mq.solve(wall)
