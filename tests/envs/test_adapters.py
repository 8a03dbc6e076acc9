"""gymnax's environments as worlds: fakes of every signature, and CartPole where gymnax is installed."""

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
