"""The walk that tests of streams share: three steps, two kinds of ending, values in closed form."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from rlcore import policies
from rlcore.training import on_policy, on_policy_settings, streams
from rlcore.training import state as state_lib
from rlcore.types import StreamPolicy, World

quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # compiles faster
LENGTH, GAMMA = 3, 0.8


def make_walk(spoil=False) -> World:
  """Three steps, a reward of 1 each; then instance 0 terminates and instance 1 is cut off. Actions only leave marks."""
  def observe(state, params):
    seen = jnp.concatenate([jnp.arange(LENGTH + 1) == state, jnp.array([params])]).astype(jnp.float32)
    return jnp.where(spoil & (state == 2), jnp.nan, seen)

  def reset(key, params):
    del key
    return observe(0, params), jnp.zeros((), jnp.int32)

  def step(key, state, action, params):
    del key
    place = state + 1
    end = place == LENGTH
    info = {"place": place, "kind": params}
    return observe(place, params), place, jnp.ones(()), end & (params == 0), end & (params == 1), info

  return World(reset, step, num_actions=2, observation_size=LENGTH + 2, horizon=LENGTH)


WALK = make_walk()
KINDS = lambda key: jax.random.randint(key, (), 0, 2)
# The last place has the value of the first: a state that is never acted in is never learned.
place_of = lambda observation: (jnp.argmax(observation[:-1]) % LENGTH, observation[-1].astype(jnp.int32))


def tabular_policy() -> StreamPolicy:
  """Logits that do not matter and a table of values."""
  def step(params, memory, observation):
    return params["logits"], params["value"][place_of(observation)], memory

  sampler = policies.make_stream_policy(WALK)
  init = lambda key: {"logits": jnp.zeros(2), "value": jnp.zeros((LENGTH, 2))}
  return StreamPolicy(init, (), step, sampler.sample, sampler.score)


def exact_values(gamma=GAMMA):
  """Of places and kinds: what is left of three rewards, or rewards for ever."""
  left = LENGTH - np.arange(LENGTH + 1)
  return np.stack([(1 - gamma**left) / (1 - gamma), np.full(LENGTH + 1, 1 / (1 - gamma))], 1)


def make_parts(**changes):
  settings = on_policy_settings.ppo(epochs=2, minibatches=2) | dict(
      world=WALK, policy=tabular_policy(), instances=KINDS, optimizer=state_lib.make_optimizer(0.03), num_worlds=4,
      num_steps=7, gamma=GAMMA)
  return on_policy.OnPolicyParts(**(settings | changes))


def make_shapes(torso):
  """A world of random observations that ends now and then, vectors or images, with discrete or real actions."""
  shape = (4, 4, 2) if torso == "cnn" else (3,)
  real = torso == "real"

  def reset(key, params):
    return jax.random.normal(key, shape), jnp.zeros((), jnp.int32)

  def step(key, state, action, params):
    end = jax.random.bernoulli(key, 0.3)
    return jax.random.normal(key, shape), state + 1, jnp.sum(action) * 1.0, end, jnp.zeros((), bool), {}

  return World(reset, step, 0 if real else 3, 0 if torso == "cnn" else 3, 8, shape if torso == "cnn" else None,
               2 if real else 0)


def two_rollouts():
  """Two rollouts of the walk, joined: `(worlds before the second, streams [2][7, 4], ends [2], value table)`."""
  policy, table = tabular_policy(), jax.random.normal(jax.random.key(5), (LENGTH, 2))
  params = {"logits": jnp.zeros(2), "value": table}
  worlds = streams.start(WALK, policy, KINDS, jax.random.key(0), 4)
  run = quick_jit(functools.partial(streams.collect, WALK, policy, KINDS, num_steps=7, gamma=GAMMA))
  later, *first = run(params, worlds, jax.random.key(1))
  _, *second = run(params, later, jax.random.key(2))
  return later, [first[0], second[0]], [first[1], second[1]], np.asarray(table)
