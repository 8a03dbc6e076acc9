"""A world that remembers its episode, for judges who are told of it."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from rlcore.types import Array, PyTree, World


def with_facts(world: World, about: Callable[[PyTree], PyTree],
               note: Callable[[PyTree, Array, PyTree], PyTree]) -> World:
  """Lets a world tell at each step what has happened so far.

  Args:
    world: whose episodes are told; it goes on as before.
    about: `(instance) -> pytree of arrays`, what there is to know of the instance.
    note: `(state, action, instance) -> pytree of arrays`, what is noted of a step; the state is the one before it.

  Returns:
    The world with `facts` in its `info`: `{"about": ..., "history": ..., "time": int32}`. The history has room for
    `horizon` notes and holds those of the steps 0 to `time`, which is this one; beyond it is 0. The state is the pair
    of the world's own state and what is remembered.
  """
  def reset(key, instance):
    observation, state = world.reset(key, instance)
    one = jax.eval_shape(note, state, jnp.zeros((), jnp.int32), instance)
    history = jax.tree.map(lambda x: jnp.zeros((world.horizon, *x.shape), x.dtype), one)
    return observation, (state, (history, jnp.zeros((), jnp.int32)))

  def step(key, state, action, instance):
    inner, (history, time) = state
    history = jax.tree.map(lambda all_, one: all_.at[time].set(one), history, note(inner, action, instance))
    observation, inner, reward, terminated, truncated, info = world.step(key, inner, action, instance)
    info = info | {"facts": {"about": about(instance), "history": history, "time": time}}
    return observation, (inner, (history, time + 1)), reward, terminated, truncated, info

  return world._replace(reset=reset, step=step)
