"""The key corridor against a simulation with sets, and its dynamic programme against another and against episodes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore.envs import key_corridor
from rlcore.policies import actor_critic

TASKS, TURNS, ROOMS, ACTIONS = 8, 8, 4, 4
WORLD = key_corridor.make_key_corridor()


@pytest.fixture(scope="module")
def drawn():
  """Tasks of 6 seeds, which are traced."""
  return jax.device_get(jax.jit(jax.vmap(lambda seed: key_corridor.draw_tasks(jax.random.key(seed))))(jnp.arange(6)))


@pytest.fixture(scope="module")
def tasks(drawn):
  return jax.tree.map(lambda x: x[1], drawn)


def simulate(actions, task):
  """Plays actions until the end: `(observations, rooms, key sets, rewards, terminated flags)`."""
  room, keys, rows = 0, set(), []
  for turn, action in enumerate(actions):
    seen = np.concatenate([np.eye(TASKS)[task.task], np.eye(TURNS)[turn], np.eye(ROOMS)[room]])
    role, before = int(task.role[room, action]), (room, frozenset(keys))
    exits = role == 3
    if role < 3:
      keys.add(role)
    room = int(task.table[room, action])
    over = exits or turn + 1 == TURNS
    rows.append((seen, *before, float(over and not exits and len(keys) == 3), over))
    if over:
      break
  return [list(x) for x in zip(*rows)]


def success(task, policy):
  """Success from every (turn, room, set of keys), by recursion in float64 over sets."""
  @functools.cache
  def value(turn, room, keys):
    if turn == TURNS:
      return float(len(keys) == 3)
    total = 0.0
    for action in range(ACTIONS):
      role = int(task.role[room, action])
      if role != 3:
        after = keys | {role} if role < 3 else keys
        total += float(policy[turn, room, action]) * value(turn + 1, int(task.table[room, action]), after)
    return total
  return value


def _bits(keys):
  return sum(1 << k for k in keys)


@functools.partial(jax.jit, static_argnums=2)
def _play(actions, task, world):
  start = world.reset(jax.random.key(0), task)
  def step(carry, action):
    observation, state = carry
    after, state, reward, terminated, truncated, info = world.step(jax.random.key(0), state, action, task)
    return (after, state), (observation, info["room"], info["keys"], reward, terminated, truncated)
  return jax.lax.scan(step, start, actions)[1]


def test_world_is_the_simulation(tasks):
  rng = np.random.default_rng(0)
  left, won = 0, 0
  for k in range(300):
    task = jax.tree.map(lambda x: x[k % TASKS], tasks)
    actions = rng.integers(0, ACTIONS, TURNS).astype(np.int32)
    seen, rooms, keys, rewards, ends = simulate(actions, task)
    got = [np.asarray(x)[:len(seen)] for x in _play(actions, task, WORLD)]
    np.testing.assert_array_equal(got[0], seen)
    np.testing.assert_array_equal(got[1], rooms)
    np.testing.assert_array_equal(got[2], [_bits(x) for x in keys])
    np.testing.assert_array_equal(got[3], rewards)
    np.testing.assert_array_equal(got[4], ends)
    assert not np.any(got[5])
    left, won = left + (len(seen) < TURNS), won + rewards[-1]
  assert left > 30 and won > 3


def test_the_dynamic_programme(tasks):
  rng = np.random.default_rng(1)
  values_of = jax.jit(key_corridor.success_values)
  for k in range(4):
    task = jax.tree.map(lambda x: x[k], tasks)
    policy = rng.dirichlet(np.ones(ACTIONS), (TURNS, ROOMS)).astype(np.float32)
    values, want = np.asarray(values_of(task, policy)), success(task, policy)
    for turn in range(TURNS + 1):
      for room in range(ROOMS):
        for bits in range(8):
          keys = frozenset(i for i in range(3) if bits >> i & 1)
          np.testing.assert_allclose(values[turn, room, bits], want(turn, room, keys), rtol=1e-5, atol=1e-7)


def test_changes_of_success_add_up_to_the_outcome(tasks):
  rng = np.random.default_rng(2)
  task = jax.tree.map(lambda x: x[2], tasks)
  policy = rng.dirichlet(np.ones(ACTIONS), (TURNS, ROOMS)).astype(np.float32)
  values = key_corridor.success_values(task, policy)
  change = jax.jit(jax.vmap(key_corridor.success_change, (None, None, 0, 0, 0, 0)))
  for _ in range(40):
    actions = rng.integers(0, ACTIONS, TURNS).astype(np.int32)
    seen, rooms, keys, rewards, _ = simulate(actions, task)
    pad = lambda x: np.resize(np.array(x, np.int32), TURNS)
    got = change(values, task, pad(range(len(seen))), pad(rooms), pad([_bits(x) for x in keys]), actions)[:len(seen)]
    np.testing.assert_allclose(np.sum(got), rewards[-1] - values[0, 0, 0], atol=1e-5)


def test_the_uniform_policy_succeeds_as_often_as_computed(tasks):
  task = jax.tree.map(lambda x: x[0], tasks)
  play = jax.jit(jax.vmap(lambda key: actor_critic.rollout(
      WORLD, lambda *_: jnp.zeros(ACTIONS), lambda *_: jnp.zeros(()), None, key, task)))
  rate = np.mean(np.sum(play(jax.random.split(jax.random.key(0), 20000)).reward_t, -1))
  exact = success(task, np.full((TURNS, ROOMS, ACTIONS), 1 / ACTIONS))(0, 0, frozenset())
  assert abs(rate - exact) < 4 * np.sqrt(exact / 20000)


def test_tasks_are_drawn_until_they_suit(drawn):
  uniform = np.full((TURNS, ROOMS, ACTIONS), 1 / ACTIONS)
  for seed in range(6):
    for k in range(TASKS):
      task = jax.tree.map(lambda x: x[seed, k], drawn)
      assert task.task == k
      assert sorted(task.role.ravel()) == list(range(ROOMS * ACTIONS))
      assert 0.03 <= success(task, uniform)(0, 0, frozenset()) <= 0.08 + 1e-6
  assert len(np.unique(drawn.role.reshape(6 * TASKS, -1), axis=0)) == 6 * TASKS


def test_the_nearest_candidate_stands_in():
  @jax.jit
  def draw(key):
    candidates = jax.vmap(key_corridor.draw_task)(jax.random.split(jax.random.split(key, 1)[0], 4))
    return key_corridor.draw_tasks(key, 1, candidates=4, low=0.9, high=1.0), candidates

  one, candidates = jax.device_get(draw(jax.random.key(5)))
  one, candidates = one.role[0], [jax.tree.map(lambda x: x[i], candidates) for i in range(4)]
  uniform = np.full((TURNS, ROOMS, ACTIONS), 1 / ACTIONS)
  best = max(candidates, key=lambda task: success(task, uniform)(0, 0, frozenset()))
  np.testing.assert_array_equal(one, best.role)


def test_too_small_a_world_is_refused():
  with pytest.raises(ValueError, match="rooms=1"):
    key_corridor.make_key_corridor(rooms=1, num_actions=3)
