"""A chain of rooms for the tests of training on episodes: walk right four times; the far end pays."""

import jax.numpy as jnp

from rlcore.types import World

LENGTH, HORIZON = 4, 8


def make_chain() -> World:
  """Actions: 0 left, 1 right. The episode ends at the end of the chain with reward 1, or at the horizon with 0."""
  def observe(state):
    place, time = state
    return jnp.concatenate([jnp.arange(LENGTH + 1) == place, jnp.array([time / HORIZON])]).astype(jnp.float32)

  def reset(key, params):
    del key
    state = (jnp.asarray(params, jnp.int32), jnp.zeros((), jnp.int32))
    return observe(state), state

  def step(key, state, action, params):
    del key, params
    place, time = jnp.clip(state[0] + 2 * action - 1, 0, LENGTH), state[1] + 1
    won = place == LENGTH
    state = (place, time)
    return (observe(state), state, won.astype(jnp.float32), won | (time == HORIZON), jnp.zeros((), bool),
            {"place": place})

  return World(reset, step, num_actions=2, observation_size=LENGTH + 2, horizon=HORIZON)
