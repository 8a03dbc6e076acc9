"""The household against a simulation in plain Python, its goals against a search of their own."""

import collections
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore.envs import household

HORIZON, GOALS = 16, 24


class House:
  """The rules once more, written as sentences."""

  def __init__(self, facts=(0,) * 6, held=0):
    self.facts, self.held = list(facts), held

  def act(self, a):
    f, h = self.facts, self.held
    allowed = {
        0: h == 0, 1: h == 0 and f[0], 2: h == 0 and f[1], 3: h != 0, 4: h == 0 and not f[0], 5: h == 0 and not f[1],
        6: h == 1 and not f[2], 7: h == 2 and not f[3], 8: h == 3 and not f[4], 9: h == 0 and f[2] and not f[5],
        10: h == 0 and f[0], 11: h == 0 and f[1]}[a]
    if not allowed:
      return False
    if a <= 3:
      self.held = a + 1 if a < 3 else 0
    elif a <= 9:
      f[a - 4] = 1
    else:
      f[a - 10] = 0
    return True


@functools.cache
def plan_length(chain, facts=(0,) * 6, held=0, progress=0):
  """Breadth-first search over facts, what is held and progress."""
  start = (facts, held, progress)
  queue, seen = collections.deque([(start, 0)]), {start}
  while queue:
    (facts, held, progress), count = queue.popleft()
    if progress == 4:
      return count
    for a in range(12):
      house = House(facts, held)
      worked = house.act(a)
      after = (tuple(house.facts), house.held, progress + (worked and a == chain[progress]))
      if worked and after not in seen:
        seen.add(after)
        queue.append((after, count + 1))
  return None


@pytest.fixture(scope="module", name="goals")
def _goals():
  return household.draw_goals(jax.random.key(5))


def _goal(goals, i):
  return jax.tree.map(lambda x: x[i], goals)


def test_dynamics_follow_the_rules(goals):
  world = household.make_household()
  reset, step = jax.jit(world.reset), jax.jit(world.step)
  rng, achieved, shares = np.random.default_rng(0), 0, []
  for episode in range(24):
    goal = _goal(goals, episode)
    chain, house, progress = goal.chain.tolist(), House(), 0
    observation, state = reset(jax.random.key(0), goal)
    seen = np.zeros(53)
    seen[[6, 10, 15 + episode]] = 1
    np.testing.assert_array_equal(observation, seen)
    for t in range(HORIZON):
      options = [a for a in range(12) if House(house.facts, house.held).act(a)]
      due = chain[progress]
      action = due if due in options else int(rng.choice(options if rng.random() < 0.7 else 12))
      worked = house.act(action)
      progress += worked and action == due
      observation, state, reward, terminated, truncated, info = step(jax.random.key(t), state, jnp.int32(action), goal)
      seen = np.zeros(53)
      seen[:6] = house.facts
      seen[[6 + house.held, 10 + progress, 15 + episode, 39 + action]] = 1
      seen[51:] = worked, (t + 1) / HORIZON
      np.testing.assert_allclose(observation, seen, atol=1e-6)
      np.testing.assert_array_equal(observation, info["observation"])
      done = progress == 4
      assert float(info["grounded"]) == worked and int(state.progress) == progress
      assert (float(reward), bool(terminated), bool(truncated)) == (done, done or t + 1 == HORIZON, False)
      shares.append(worked)
      if done:
        achieved += 1
        break
  assert achieved >= 3 and 0.5 < np.mean(shares) < 1


def test_admissible_chains_are_those_with_plans_of_five_to_nine_actions():
  chains = [tuple(c) for c in household.admissible_chains().tolist()]
  everything = list(itertools.permutations(household.SUBGOALS, 4))
  assert set(chains) < set(everything) and 0.3 < len(chains) / len(everything) < 0.7  # "about half are"
  rng = np.random.default_rng(1)
  for i in rng.integers(0, len(everything), 40):
    length = plan_length(everything[i])
    assert (length is not None and 5 <= length <= 9) == (everything[i] in chains)


def test_plan_lengths_from_anywhere_agree_with_a_search(goals):
  rng, possible = np.random.default_rng(2), 0
  for i in range(12):
    chain = tuple(goals.chain[i].tolist())
    lengths = household.plan_lengths(goals.chain[i])
    assert not np.any(lengths[4]) and 5 <= lengths[0, 0] <= 9
    for _ in range(4):
      place, progress = int(rng.integers(256)), int(rng.integers(4))
      want = plan_length(chain, tuple(place >> j & 1 for j in range(6)), place >> 6, progress)
      assert int(lengths[progress, place]) == (household.FAR if want is None else want)
      possible += want is not None
  assert possible > 10


def test_goals_are_distinct_seeded_and_traceable():
  draw = jax.jit(lambda seed: household.draw_goals(jax.random.key(seed)))
  first, again, other = draw(0), draw(0), draw(1)
  np.testing.assert_array_equal(first.chain, again.chain)
  assert np.any(first.chain != other.chain) and first.index.tolist() == list(range(GOALS))
  assert len({tuple(c) for c in first.chain.tolist()}) == GOALS
  with pytest.raises(ValueError, match="only 0 chains have a shortest plan of 50 to 60 actions"):
    household.draw_goals(jax.random.key(0), shortest=50, longest=60)


def test_the_demonstrator_begins_shortest_plans(goals):
  goal = _goal(goals, 3)
  chain, lengths = tuple(goal.chain.tolist()), household.plan_lengths(goal.chain)
  act = lambda key, s, error: household.demonstrator(key, s, goal, lengths, error=error)
  draw = jax.jit(jax.vmap(act, (0, None, None)))
  keys, zero = jax.random.split(jax.random.key(0), 400), jnp.int32(0)
  rng = np.random.default_rng(0)
  for place in (0, *rng.integers(0, 256, 6).tolist()):
    state = household.HouseState(jnp.int32(place), zero, zero, jnp.float32(0), zero)
    facts, held = tuple(place >> j & 1 for j in range(6)), place >> 6
    now, good = plan_length(chain, facts, held), set()
    for a in range(12):
      house = House(facts, held)
      if house.act(a):
        after = plan_length(chain, tuple(house.facts), house.held, int(a == chain[0]))
        good |= {a} if now is not None and after == now - 1 else set()
    assert set(draw(keys, state, 0.0).tolist()) == (good or set(range(12)))
    assert set(draw(keys, state, 1.0).tolist()) == set(range(12))


def test_the_script_succeeds_as_often_as_its_errors_allow(goals):
  world = household.make_household()
  lengths = jax.vmap(household.plan_lengths)(goals.chain)

  def episode(key, index):
    goal = _goal(goals, index)

    def advance(carry, key):
      state, alive = carry
      action = household.demonstrator(key, state, goal, lengths[index])
      _, state, reward, ended, _, info = world.step(key, state, action, goal)
      return (state, alive & ~ended), (jnp.where(alive, reward, 0), jnp.where(alive, info["grounded"], jnp.nan))

    start = world.reset(key, goal)[1], True
    _, (reward, grounded) = jax.lax.scan(advance, start, jax.random.split(key, HORIZON))
    return jnp.sum(reward), grounded

  keys = jax.random.split(jax.random.key(1), 2400)
  success, grounded = jax.jit(jax.vmap(episode))(keys, jnp.arange(2400) % GOALS)
  assert abs(float(jnp.mean(success)) - 0.58) < 0.12  # over seeds; goals differ in how long their plans are
  assert abs(float(jnp.nanmean(grounded)) - 0.63) < 0.05
