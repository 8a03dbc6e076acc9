"""Real environments of Brax, Jumanji and XLand-MiniGrid in the learners, where these libraries are installed."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rlcore import envs, policies
from rlcore.training import off_policy, off_policy_settings, on_policy, on_policy_settings, streams
from rlcore.types import StreamPolicy, World
from tests.training.walk import quick_jit as _jit

NOTHING = lambda key: ()
LENGTH = 3  # steps to the time-out


class Real(NamedTuple):
  """A world, what the library itself does with an action, and two plays that end in the two ways, or in one."""

  world: World
  step: Any  # (own state, action) -> (observation, own state)
  scripts: tuple
  ends: tuple  # of each: (steps, terminated, truncated)


@functools.cache
def pendulum() -> Real:
  brax_envs = pytest.importorskip("brax.envs")
  env = brax_envs.get_environment("inverted_pendulum", backend="generalized")
  raw_step = _jit(env.step)

  def step(state, action):
    state = raw_step(state, jnp.clip(action, -1, 1))
    return state.obs, state

  stand, push = jnp.zeros((8, 1)), jnp.full((8, 1), 5.0)  # 5 is clipped to 1
  return Real(envs.adapt_brax(env, horizon=LENGTH), step, (stand, push), ((LENGTH, 0, 1), (2, 1, 0)))


def _maze(**settings) -> Real:
  jumanji = pytest.importorskip("jumanji")
  own = settings.pop("time_limit")
  env = jumanji.make("Maze-v0", time_limit=own)

  def step(state, action):
    state, timestep = env.step(state, action)
    leaves = jax.tree.leaves(timestep.observation)
    return np.concatenate([np.reshape(leaf, -1) for leaf in leaves]), state

  up_down = jnp.arange(8) % 2 * 2
  end = (LENGTH, 1, 0) if own == LENGTH else (LENGTH, 0, 1)
  return Real(envs.adapt_jumanji(env, **settings), step, (up_down,), (end,))


@functools.cache
def timed_maze() -> Real:
  return _maze(time_limit=LENGTH)  # by Jumanji's own word its end is a termination


@functools.cache
def maze() -> Real:
  return _maze(time_limit=10**6, horizon=LENGTH)


@functools.cache
def empty_room() -> Real:
  xminigrid = pytest.importorskip("xminigrid")
  env, params = xminigrid.make("MiniGrid-Empty-5x5")
  params = params.replace(max_steps=5)

  def step(timestep, action):
    timestep = env.step(params, timestep, action)
    view = np.array(timestep.observation)
    return np.concatenate([np.eye(13)[view[..., 0]], np.eye(12)[view[..., 1]]], -1), timestep

  forward, right = 0, 1
  to_goal, to_wall = [forward, forward, right, forward, forward], [right, forward, right, forward, right]
  pad = lambda actions: jnp.array(actions + [right] * 3)
  # Coming to the goal with the last step is a termination, not a time-out.
  return Real(envs.adapt_xminigrid(env, params), step, (pad(to_goal), pad(to_wall)), ((5, 1, 0), (5, 0, 1)))


def scripted(script) -> StreamPolicy:
  """Plays its params `[T, ...]` from the start of every episode; the memory counts steps."""
  zero = jnp.zeros(())
  return StreamPolicy(
      lambda key: script, jnp.zeros((), jnp.int32), lambda params, time, observation: (params[time], zero, time + 1),
      lambda key, action: (action, zero), lambda distribution, action: (zero, zero))


@pytest.mark.parametrize("make", [empty_room, maze, timed_maze, pendulum])
def test_streams_hold_what_the_library_itself_says(make):
  real = make()
  policy = scripted(real.scripts[0])
  start = _jit(lambda key: streams.start(real.world, policy, NOTHING, key, 1))
  worlds = start(jax.random.key(0))
  play = _jit(lambda script, worlds: streams.collect(
      real.world, policy, NOTHING, script, worlds, jax.random.key(1), num_steps=LENGTH + 3))
  for script, (length, terminated, truncated) in zip(real.scripts, real.ends, strict=True):
    _, stream, ends = play(script, worlds)
    first = jax.tree.map(lambda x: x[:length, 0], stream)
    last = np.arange(1, length + 1) == length
    np.testing.assert_array_equal(ends.ended[:length, 0], last)
    np.testing.assert_array_equal(first.truncated, last * truncated)
    np.testing.assert_array_equal(first.discount_t, 1 - last * terminated)
    np.testing.assert_array_equal(stream.is_first[:length + 1, 0], np.arange(length + 1) % length == 0)
    state = jax.tree.map(lambda x: x[0], worlds.state.inner)
    for seen, action in zip(first.next_observation, script, strict=False):
      observation, state = real.step(state, action)
      np.testing.assert_allclose(seen, observation, atol=1e-5)
    # The next episode is acted on from its own start.
    assert not np.allclose(stream.observation[length, 0], stream.next_observation[length - 1, 0], atol=1e-5)


def fast() -> Real:
  brax_envs = pytest.importorskip("brax.envs")
  return Real(envs.adapt_brax(brax_envs.create("fast", episode_length=LENGTH, auto_reset=False)), None, (), ())


LEARNERS = {
    "ppo": lambda world: on_policy.make_on_policy_experiment(on_policy.OnPolicyParts(
        world, policies.make_stream_policy(world, hidden=(8,)), NOTHING, optax.sgd(0.1), num_worlds=2, num_steps=6,
        **on_policy_settings.ppo(epochs=1, minibatches=1)))}
for name, settings in (("dqn", off_policy_settings.dqn), ("sac", off_policy_settings.sac)):
  LEARNERS[name] = lambda world, settings=settings: off_policy.make_off_policy_experiment(off_policy.OffPolicyParts(
      world, NOTHING, optax.sgd(0.1), num_worlds=2, num_steps=6, num_updates=1, batch_size=4, capacity=16,
      learning_starts=8, **settings(hidden=(8,))))


@pytest.mark.parametrize("make, learner", [
    (empty_room, "ppo"), (empty_room, "dqn"), (maze, "ppo"), (maze, "dqn"), (pendulum, "ppo"), (fast, "sac"),
    pytest.param(pendulum, "sac", marks=pytest.mark.slow)])
def test_learners_learn_in_them(make, learner):
  world = make().world
  if learner != "ppo":
    pytest.importorskip("flashbax")
  experiment = LEARNERS[learner](world)
  before = _jit(experiment.init)(jax.random.key(0))
  after, metrics = _jit(experiment.update)(before)
  assert metrics["episodes"] >= 1 and after.skipped == 0
  assert all(np.isfinite(x).all() for x in metrics.values())
  moved = jax.tree.map(lambda x, y: np.any(x != y), before.params, after.params)
  assert any(jax.tree.leaves(moved))


def test_masks_and_combined_actions_of_jumanji():
  jumanji = pytest.importorskip("jumanji")
  env = jumanji.make("Minesweeper-v0")
  world = envs.adapt_jumanji(env, horizon=5, observe=lambda seen: (seen.board == 1, seen.action_mask))
  assert (world.num_actions, world.observation_size) == (100, 200)
  observation, state = world.reset(jax.random.key(0), ())
  np.testing.assert_array_equal(observation, np.arange(200) >= 100)  # nothing is uncovered: every cell is allowed
  observation, state, *_ = world.step(jax.random.key(0), state, jnp.array(37), ())
  assert list(np.flatnonzero(observation[100:] == 0)) == [37] and state.inner.board[3, 7] != -1
  with pytest.raises(TypeError, match=r"a reward of shape \(10,\) is not one number"):
    envs.adapt_jumanji(jumanji.make("Connector-v3"))


def test_wrappers_and_instances_of_xminigrid():
  xminigrid = pytest.importorskip("xminigrid")
  from xminigrid.wrappers import DirectionObservationWrapper, GymAutoResetWrapper
  env, params = xminigrid.make("MiniGrid-Empty-5x5")
  world = envs.adapt_xminigrid(DirectionObservationWrapper(env), params)
  assert world.observation_size == 7 * 7 * 25 + 4 and world.observation_shape is None
  with pytest.raises(ValueError, match="GymAutoResetWrapper replaces the last observation"):
    envs.adapt_xminigrid(GymAutoResetWrapper(env), params)

  env, params = xminigrid.make("XLand-MiniGrid-R1-9x9", max_steps=2)
  tasks = [params.ruleset, params.ruleset.replace(goal=params.ruleset.goal.at[0].set(3))]
  instances = lambda key: params.replace(ruleset=jax.tree.map(
      lambda *x: jnp.stack(x)[jax.random.randint(key, (), 0, 2)], *tasks))
  world = envs.adapt_xminigrid(env, params)
  policy = policies.make_stream_policy(world, torso="cnn", channels=(2,), hidden=(4,))

  def play(key):
    worlds = streams.start(world, policy, instances, key, 8)
    return streams.collect(world, policy, instances, policy.init(key), worlds, key, num_steps=3)[0]

  worlds = _jit(play)(jax.random.key(0))
  goals = np.array(worlds.state.inner.state.goal_encoding)[:, 0]
  assert set(goals) == {int(tasks[0].goal[0]), 3}  # every world plays a task of its own
