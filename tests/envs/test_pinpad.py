"""Pinpad-5 against a simulation in plain Python, and its demonstrator against a search."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore.envs import pinpad
from rlcore.policies import actor_critic

HORIZON = 12
CORNERS = {(0, 0): 0, (0, 4): 1, (4, 0): 2, (4, 4): 3}
MOVES = [(-1, 0), (1, 0), (0, -1), (0, 1), (0, 0)]


class Simulation:
  """The rules once more, on coordinates."""

  def __init__(self, order, start):
    self.left, self.place, self.last, self.time = [int(x) for x in order], divmod(int(start), 5), None, 0

  def target(self, action):
    row, column = self.place[0] + MOVES[action][0], self.place[1] + MOVES[action][1]
    return (row, column) if row in range(5) and column in range(5) else self.place

  def is_wrong(self, place):
    return place in CORNERS and CORNERS[place] not in (self.left[0], self.last)

  def act(self, action):
    """Returns reward, end, and whether a colour was collected."""
    self.time += 1
    self.place = self.target(action)
    if self.is_wrong(self.place):
      return 0.0, True, False
    collected = CORNERS.get(self.place) == self.left[0]
    if collected:
      self.last = self.left.pop(0)
    return float(not self.left), not self.left or self.time == HORIZON, collected

  def observe(self):
    seen = np.zeros(30)
    seen[5 * self.place[0] + self.place[1]] = seen[25 + (4 if self.last is None else self.last)] = 1
    return seen

  def distance(self):
    """Searches breadth first for the colour that is due, around the wrong ones."""
    frontier, known, here = collections.deque([(self.place, 0)]), {self.place}, self.place
    while frontier:
      place, steps = frontier.popleft()
      if CORNERS.get(place) == self.left[0]:
        self.place = here
        return steps
      self.place = place
      for action in range(4):
        after = self.target(action)
        if after not in known and not self.is_wrong(after):
          known.add(after)
          frontier.append((after, steps + 1))
    raise AssertionError("no way")


def test_every_step_equals_the_simulation():
  world, rng = pinpad.make_pinpad(horizon=HORIZON), np.random.default_rng(0)
  step, draw = jax.jit(world.step), jax.jit(pinpad.draw_pinpad_task)
  seen = collections.Counter()
  for i in range(40):
    order = np.array([0, 2]) if i % 2 else rng.permutation(4)[:2]
    task = draw(jax.random.key(i), order)
    assert int(task.start) in (6, 7, 8, 11, 12, 13, 16, 17, 18)
    observation, state = world.reset(jax.random.key(0), task)
    simulation, done = Simulation(order, task.start), False
    while not done:
      np.testing.assert_array_equal(observation, simulation.observe())
      good = [a for a in range(5) if not simulation.is_wrong(simulation.target(a))]
      near = min(good, key=lambda a: _after(simulation, a))
      action = near if rng.random() < (0.4, 0.95)[i // 2 % 2] else rng.integers(5)
      observation, state, reward, done, truncated, info = step(jax.random.key(0), state, action, task)
      want = simulation.act(action)
      assert (float(reward), bool(done), bool(info["collected"])) == want and not truncated
      seen["success" if reward else "late" if done and simulation.time == HORIZON else "wrong" if done else "on"] += 1
  assert min(seen[name] for name in ("success", "late", "wrong", "on")) >= 2


def _after(simulation, action):
  """The distance after an action."""
  here, simulation.place = simulation.place, simulation.target(action)
  distance = simulation.distance()
  simulation.place = here
  return distance


@pytest.fixture(scope="module")
def shown():
  """Demonstrations of two-colour tasks with much noise, and their tasks."""
  world = pinpad.make_pinpad(horizon=16)
  script = lambda key, state, task: pinpad.demonstrator(key, state, task, noise=0.2)

  def one(key):
    task = pinpad.draw_pinpad_task(key)
    return task, actor_critic.scripted_rollout(world, script, key, task)

  return jax.tree.map(np.asarray, jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), 300)))


def test_the_demonstrator_takes_shortest_ways_and_no_wrong_colour(shown):
  tasks, episodes = shown
  pairs = {tuple(order) for order in tasks.order.tolist()}
  assert len(pairs) == 12 and all(a != b for a, b in pairs)
  shorter, choices = [], collections.defaultdict(set)
  for i in range(120):
    simulation = Simulation(tasks.order[i], tasks.start[i])
    for action in episodes.action[i, episodes.mask[i] > 0]:
      assert not simulation.is_wrong(simulation.target(action))
      before = simulation.distance()
      shorter.append(_after(simulation, action) < before)
      if shorter[-1]:
        choices[simulation.place, simulation.left[0], simulation.last].add(int(action))
      simulation.act(action)
    assert not simulation.left or episodes.mask[i].all()
  assert 0.8 < np.mean(shorter) < 0.95  # some of the uniform actions shorten the way too
  assert max(map(len, choices.values())) == 2  # both ways of a diagonal are taken


def test_a_horizon_of_nothing_is_refused():
  with pytest.raises(ValueError, match="horizon=0"):
    pinpad.make_pinpad(horizon=0)
  task = pinpad.PinpadTask(jnp.array([0, 1]), jnp.array(12))
  np.testing.assert_array_equal(pinpad.make_pinpad(horizon=1).reset(jax.random.key(0), task)[0].nonzero()[0], [12, 29])
