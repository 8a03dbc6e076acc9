"""Environments of other libraries as a `World`, unchanged."""

import math
from typing import Any

import jax
import jax.numpy as jnp

from rlcore.types import Array, PyTree, World

_NEVER = 2**30  # steps


def adapt_gymnax(env: Any, params: PyTree | None = None, *, horizon: int | None = None) -> World:
  """Makes a world of an environment of gymnax, of its versions 0.0.9 or 1.x.

  The world does not reset itself, so `step_env` is what is called. Versions before 1 mix running out of time with
  termination; it is told apart by the clock in the state, and by `is_terminal` without a time limit where an episode
  also terminates at the last moment. Real actions are clipped to the bounds of the action space.

  Args:
    env: an environment with `reset_env`, `step_env`, `action_space` and `observation_space`.
    params: its params; None takes `env.default_params`. They are used where the instance is `()` or None; any other
      instance is params itself.
    horizon: most steps of an episode; None reads `params.max_steps_in_episode`.

  Returns:
    The world. A vector or a scalar is observed as a vector, anything else as it is, in float32.

  Raises:
    TypeError: for an environment without these functions, whose `step_env` returns neither 5 nor 6 values, or whose
      spaces are neither discrete nor boxes.
    ValueError: if nothing says how long an episode is.

  Reference: gymnax, Lange, 2022.
  """
  missing = [name for name in ("reset_env", "step_env", "action_space", "observation_space")
             if not callable(getattr(env, name, None))]
  if missing:
    raise TypeError(f"{type(env).__name__} is no environment of gymnax: it has no {', '.join(missing)}")
  default = env.default_params if params is None else params
  horizon = getattr(default, "max_steps_in_episode", None) if horizon is None else horizon
  if horizon is None:
    raise ValueError("params have no max_steps_in_episode, so adapt_gymnax needs horizon=")
  seen, acted = env.observation_space(default), env.action_space(default)
  num_actions, size = getattr(acted, "n", 0), getattr(acted, "shape", None)
  if not num_actions and not hasattr(acted, "low"):
    raise TypeError(f"actions of {type(acted).__name__} are neither discrete nor a box")
  if not isinstance(getattr(seen, "shape", None), tuple):
    raise TypeError(f"observations of {type(seen).__name__} are no array")
  shape = seen.shape if len(seen.shape) > 1 else (math.prod(seen.shape),)
  own = lambda instance: default if instance is None or isinstance(instance, tuple) and not instance else instance
  observe = lambda observation: jnp.asarray(observation, jnp.float32).reshape(shape)
  act = lambda action: action if num_actions else jnp.clip(action, acted.low, acted.high).reshape(size)

  def raw_step(key, state, action, params):
    result = env.step_env(key, state, act(action), params)
    if len(result) not in (5, 6):
      raise TypeError(f"step_env of {type(env).__name__} returns {len(result)} values, not 5 or 6")
    return result

  example = jnp.zeros((), jnp.int32) if num_actions else jnp.zeros(math.prod(size))
  kinds = jax.eval_shape(lambda key: raw_step(key, env.reset_env(key, default)[1], example, default)[1],
                         jax.random.key(0))
  # A clock that starts as Python's 0 is of another kind than one that was stepped: a scan wants the same.
  alike = lambda state: jax.tree.map(lambda x, like: jnp.asarray(x, like.dtype), state, kinds)

  def reset(key, params):
    observation, state = env.reset_env(key, own(params))
    return observe(observation), alike(state)

  def step(key, state, action, params):
    params = own(params)
    observation, after, reward, *done, info = raw_step(key, state, action, params)
    terminated, truncated = done if len(done) == 2 else _told_apart(env, after, done[0], params, horizon)
    reward = jnp.asarray(reward, jnp.float32).reshape(())
    info = jax.tree.map(jnp.asarray, dict(info))
    return observe(observation), alike(after), reward, jnp.asarray(terminated, bool), jnp.asarray(truncated, bool), info

  return World(reset, step, num_actions, math.prod(shape), int(horizon), shape if len(shape) > 1 else None,
               0 if num_actions else math.prod(size))


def _told_apart(env: Any, state: PyTree, done: Array, params: PyTree, horizon: int) -> tuple[Array, Array]:
  """Returns `(terminated, truncated)` of a single flag."""
  if callable(getattr(env, "is_truncated", None)):  # version 1: the flag is termination alone
    return done, env.is_truncated(state, params)
  if not hasattr(state, "time"):
    return done, jnp.zeros((), bool)
  late = state.time >= getattr(params, "max_steps_in_episode", horizon)
  natural = jnp.zeros((), bool)
  if hasattr(params, "replace") and callable(getattr(env, "is_terminal", None)):
    natural = jnp.asarray(env.is_terminal(state, params.replace(max_steps_in_episode=_NEVER)), bool)
  done = jnp.asarray(done, bool)
  return done & (natural | ~late), done & ~natural & late
