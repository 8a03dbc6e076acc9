"""Environments of other libraries as worlds: fakes of every signature, and CartPole where gymnax is installed."""

from typing import Any

from flax import struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore.envs import adapters


@struct.dataclass
class Params:
  edge: int = 3
  max_steps_in_episode: int = 3


@struct.dataclass
class State:
  place: Any
  time: Any


class Discrete:
  n, shape = 2, ()


class Box:
  def __init__(self, shape, bound=1.0):
    self.shape, self.low, self.high = shape, -bound, bound


class Old:
  """Version 0.0.9: one flag, which the clock sets as well. Goes right by 0 or 1, terminates at the edge."""

  default_params = Params()

  def action_space(self, params):
    return Discrete()

  def observation_space(self, params):
    return Box(())

  def reset_env(self, key, params):
    return jnp.zeros(()), State(0, 0)

  def is_terminal(self, state, params):
    return (state.place >= params.edge) | (state.time >= params.max_steps_in_episode)

  def step_env(self, key, state, action, params):
    state = State(state.place + action, state.time + 1)
    return state.place * 1.0, state, state.place, self.is_terminal(state, params), {"discount": 1.0}


class New(Old):
  """Version 1: `step_env` tells of termination alone."""

  def is_truncated(self, state, params):
    return state.time >= params.max_steps_in_episode

  def is_terminal(self, state, params):
    return state.place >= params.edge


class Six(Old):
  """Both flags come from `step_env`."""

  def step_env(self, key, state, action, params):
    observation, state, reward, _, info = super().step_env(key, state, action, params)
    return observation, state, reward, state.place >= params.edge, state.time >= params.max_steps_in_episode, info


@pytest.mark.parametrize("env", [Old, New, Six])
def test_time_outs_are_told_from_terminations(env):
  world = adapters.adapt_gymnax(env())
  assert (world.num_actions, world.observation_size, world.horizon, world.action_size) == (2, 1, 3, 0)

  def run(actions, params):
    def step(state, action):
      observation, state, reward, terminated, truncated, info = world.step(jax.random.key(0), state, action, params)
      return state, (observation, reward, terminated, truncated & ~terminated, info)
    return jax.lax.scan(step, world.reset(jax.random.key(0), params)[1], actions)[1]

  both = jnp.array([[1, 1, 0], [1, 1, 1]])
  observation, reward, terminated, truncated, info = jax.vmap(run, (0, None))(both, ())
  np.testing.assert_array_equal(observation[..., 0], [[1, 2, 2], [1, 2, 3]])
  np.testing.assert_array_equal(reward, observation[..., 0])
  # Reaching the edge at the last moment is an end by itself.
  np.testing.assert_array_equal(terminated, [[0, 0, 0], [0, 0, 1]])
  np.testing.assert_array_equal(truncated, [[0, 0, 1], [0, 0, 0]])
  assert observation.dtype == reward.dtype == jnp.float32 and terminated.dtype == truncated.dtype == bool
  instance = Params(edge=2, max_steps_in_episode=9)  # an instance of its own
  _, _, terminated, truncated, _ = jax.vmap(run, (0, None))(both, instance)
  np.testing.assert_array_equal(terminated[1], [0, 1, 1])
  assert not truncated.any()


def test_real_actions_are_clipped_and_images_stay_images():
  class Image(Old):
    action_space = lambda self, params: Box((1,), 0.5)
    observation_space = lambda self, params: Box((2, 2, 1))

    def reset_env(self, key, params):
      return jnp.zeros((2, 2, 1)), State(jnp.zeros(()), 0)

    def step_env(self, key, state, action, params):
      state = State(state.place + action[0], state.time + 1)
      return jnp.full((2, 2, 1), state.place), state, state.place, jnp.array(False), {}

  world = adapters.adapt_gymnax(Image(), horizon=7)
  assert (world.num_actions, world.action_size, world.observation_shape, world.horizon) == (0, 1, (2, 2, 1), 7)
  key = jax.random.key(0)
  observation, _, reward, *_ = world.step(key, world.reset(key, ())[1], jnp.array([4.0]), ())
  assert observation.shape == (2, 2, 1) and reward == 0.5


def test_what_is_no_environment_is_told():
  with pytest.raises(TypeError, match="object is no environment of gymnax: it has no reset_env, step_env"):
    adapters.adapt_gymnax(object())

  class Four(Old):
    def step_env(self, *arguments):
      return super().step_env(*arguments)[:4]

  class Words(Old):
    action_space = lambda self, params: object()

  class Endless(Old):
    default_params = ()

  with pytest.raises(TypeError, match="step_env of Four returns 4 values, not 5 or 6"):
    adapters.adapt_gymnax(Four())
  with pytest.raises(TypeError, match="neither discrete nor a box"):
    adapters.adapt_gymnax(Words())
  with pytest.raises(ValueError, match="needs horizon="):
    adapters.adapt_gymnax(Endless())


def test_cart_pole_of_gymnax():
  gymnax = pytest.importorskip("gymnax")
  env, params = gymnax.make("CartPole-v1")
  world = adapters.adapt_gymnax(env, params)
  assert (world.num_actions, world.observation_size, world.horizon) == (2, 4, 500)

  def run(key):
    def step(state, key):
      _, state, reward, terminated, truncated, _ = world.step(key, state, jnp.ones((), jnp.int32), ())
      return state, (reward, terminated, truncated)
    return jax.lax.scan(step, world.reset(key, ())[1], jax.random.split(key, 20))[1]

  reward, terminated, truncated = jax.jit(run)(jax.random.key(0))
  assert terminated.any() and not truncated.any() and reward[0] == 1  # pushed one way it falls
  late = world.reset(jax.random.key(0), ())[1]
  late = late._replace(inner=late.inner.replace(time=499))
  terminated, truncated = jax.jit(world.step)(jax.random.key(1), late, jnp.zeros((), jnp.int32), ())[3:5]
  assert truncated and not terminated


@struct.dataclass
class Step:
  """What Jumanji and XLand-MiniGrid say of a step, and what Brax keeps of it in its state."""

  place: Any
  observation: Any = ()
  reward: Any = 0.0
  discount: Any = 1.0
  ended: Any = False
  extras: Any = struct.field(default_factory=dict)
  done: Any = 0.0
  metrics: Any = struct.field(default_factory=dict)
  info: Any = struct.field(default_factory=dict)
  obs: Any = ()

  def last(self):
    return self.ended


class Spec:
  """Two numbers, 1 or 2 and 0 to 2."""
  shape, dtype, minimum, maximum = (2,), np.int32, np.array([1, 0]), 2


class Places:
  """Jumanji's signature: both numbers of the action add up; terminates from 6 on, is cut off after 3 steps."""

  time_limit, action_spec = 3, Spec()

  def _see(self, place):
    return {"b": jnp.eye(2, dtype=bool), "a": place}

  def reset(self, key):
    return (0, 0), Step(0, self._see(jnp.zeros((), jnp.int32)))

  def step(self, state, action):
    place, time = state[0] + jnp.sum(action), state[1] + 1
    over = place >= 6
    said = Step(place, self._see(place), 1, jnp.where(over, 0.0, 1.0), over | (time >= 3), {"first": action[0]})
    return (place, time), said


def play(world, actions):
  def step(state, action):
    observation, state, reward, terminated, truncated, info = world.step(jax.random.key(0), state, action, ())
    return state, (observation, reward, terminated, truncated, info)
  observation, state = world.reset(jax.random.key(0), ())
  return observation, jax.lax.scan(step, state, actions)[1]


def test_jumanjis_discounts_masks_and_several_numbers():
  world = adapters.adapt_jumanji(Places())
  assert (world.num_actions, world.observation_size, world.horizon) == (6, 5, 3)
  first, (seen, reward, terminated, truncated, info) = play(world, jnp.array([5, 0, 1]))  # (2, 2), (1, 0), (1, 1)
  np.testing.assert_array_equal(first, [0, 1, 0, 0, 1])
  np.testing.assert_array_equal(seen[:, 0], [4, 5, 7])
  np.testing.assert_array_equal(info["first"], [2, 1, 1])
  np.testing.assert_array_equal(terminated, [0, 0, 1])
  assert not truncated.any() and seen.dtype == reward.dtype == jnp.float32
  terminated, truncated = play(world, jnp.zeros(3, jnp.int32))[1][2:4]
  np.testing.assert_array_equal(truncated, [0, 0, 1])
  assert not terminated.any()
  chosen = adapters.adapt_jumanji(Places(), horizon=2, observe=lambda seen: seen["b"])
  assert chosen.observation_shape == (2, 2) and chosen.horizon == 2
  np.testing.assert_array_equal(play(chosen, jnp.zeros(2, jnp.int32))[1][3], [0, 1])  # by our clock


class Push:
  """Brax's signature; done beyond 2, and after two steps where `own_clock` is set."""

  action_size, own_clock = 1, False

  def reset(self, key):
    info = {"steps": 0, "truncation": 0.0} if self.own_clock else {}
    return Step(jnp.zeros(()), obs=jnp.zeros(3), metrics={"place": 0.0}, info=info)

  def step(self, state, action):
    place, info = state.place + action[0], state.info
    done = place > 2
    if self.own_clock:
      late = (info["steps"] >= 1) & ~done
      done, info = done | late, {"steps": info["steps"] + 1, "truncation": late * 1.0}
    return state.replace(place=place, obs=jnp.full(3, place), reward=1.0, done=done * 1.0, metrics={"place": place},
                         info=info)


def test_braxs_clock_or_ours():
  world = adapters.adapt_brax(Push(), horizon=4)
  assert (world.num_actions, world.action_size, world.observation_size, world.horizon) == (0, 1, 3, 4)
  _, (seen, reward, terminated, truncated, info) = play(world, jnp.array([[0.5], [-9.0], [7.0], [1.0]]))
  np.testing.assert_array_equal(info["place"], [0.5, -0.5, 0.5, 1.5])  # clipped to [-1, 1]
  np.testing.assert_array_equal(seen[:, 2], info["place"])
  np.testing.assert_array_equal(truncated, [0, 0, 0, 1])
  assert not terminated.any() and (reward == 1).all()
  terminated, truncated = play(world, jnp.ones((4, 1)))[1][2:4]
  np.testing.assert_array_equal(terminated, [0, 0, 1, 1])
  assert not truncated.any()  # a termination at the horizon is no time-out

  own = Push()
  own.own_clock, own.episode_length, own.action_repeat = True, 3, 2
  world = adapters.adapt_brax(own)
  assert world.horizon == 2  # three steps of physics, two at a time
  terminated, truncated = play(world, jnp.zeros((2, 1)))[1][2:4]
  np.testing.assert_array_equal(truncated, [0, 1])
  assert not terminated.any()


class AutoResetPlaces(Places):
  pass


class VmapPush(Push):
  pass


@pytest.mark.parametrize("adapt, env, error, said", [
    (adapters.adapt_brax, object(), TypeError, "object is no environment of brax: it has no reset, step, action_size"),
    (adapters.adapt_jumanji, Push(), TypeError, "Push is no environment of jumanji: it has no action_spec"),
    (adapters.adapt_xminigrid, Push(), TypeError, "Push is no environment of xminigrid: .* default_params"),
    (adapters.adapt_brax, Push(), ValueError, "no EpisodeWrapper, so adapt_brax needs horizon="),
    (adapters.adapt_jumanji, AutoResetPlaces(), ValueError, "AutoResetPlaces replaces the last observation"),
    (adapters.adapt_brax, VmapPush(), ValueError, "VmapPush makes a batch"),
    (lambda env: adapters.adapt_jumanji(env, horizon=0), Places(), ValueError, "horizon=0 must be at least 1")])
def test_what_does_not_fit_an_adapter_is_told(adapt, env, error, said):
  with pytest.raises(error, match=said):
    adapt(env)


def test_actions_and_rewards_that_no_world_has_are_told():
  several, endless, wordy = Places(), Places(), Places()
  several.step = lambda state, action: (state, Places().step(state, action)[1].replace(reward=jnp.ones(2)))
  wordy.action_spec = object()
  with pytest.raises(TypeError, match=r"a reward of shape \(2,\) is not one number"):
    adapters.adapt_jumanji(several)
  with pytest.raises(TypeError, match="actions of object are neither discrete nor a box"):
    adapters.adapt_jumanji(wordy)
  endless.time_limit = None
  with pytest.raises(ValueError, match="no time_limit, so adapt_jumanji needs horizon="):
    adapters.adapt_jumanji(endless)
