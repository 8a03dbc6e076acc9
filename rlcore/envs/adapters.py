"""Environments of other libraries as a `World`, unchanged: gymnax, XLand-MiniGrid, Jumanji and Brax.

The learners reset a world themselves and want what a step truly led to. So an environment comes as it is made, without
a wrapper that resets it or that makes a batch of it; running out of time is told from termination as far as the
library does, and from a clock of ours where the caller gives a `horizon`.

An observation of one array keeps its shape, but for a scalar, which becomes a vector; of several arrays (a record, a
dictionary) the numbers are joined into one vector, in the order of `jax.tree.leaves`. `observe=` chooses otherwise.
Masks of allowed actions are numbers of the observation like others: no learner reads them, and an action that is not
allowed does what the environment does with it.
"""

from collections.abc import Callable
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rlcore.types import Array, PyTree, World

_NEVER = 2**30  # steps
Observe = Callable[[PyTree], PyTree]


class AdaptedState(NamedTuple):
  """The environment's own state (`inner`), and the steps so far (`time` int32)."""

  inner: PyTree
  time: Array


class _Actions(NamedTuple):
  """Kinds of actions: how many discrete ones, or how many real numbers, what the environment gets for one, bounds."""

  count: int
  size: int
  convert: Callable[[Array], Array]
  low: tuple[float, ...] | float = -1.0
  high: tuple[float, ...] | float = 1.0


def adapt_brax(
    env: Any, *, horizon: int | None = None, observe: Observe | None = None,
    success_return: float | None = None) -> World:
  """Makes a world of an environment of Brax.

  By itself such an environment never runs out of time: it terminates where its `done` is 1, and is truncated at the
  horizon. With Brax's EpisodeWrapper `info["truncation"]` of its state tells of time-outs too. Actions are clipped to
  [-1, 1]; `info` holds the metrics. The params of the world are not read.

  Args:
    env: an environment with `reset`, `step` and `action_size`: `brax.envs.get_environment(name)`, or
      `brax.envs.create(name, auto_reset=False)`.
    horizon: most steps of an episode; None reads those of the EpisodeWrapper.
    observe: `(observation) -> array`, see the module.
    success_return: the return from which on an episode has succeeded; None if returns do not say so, and then no metric
      is called `success`.

  Returns:
    The world; observations are float32.

  Raises:
    TypeError: for an environment without these.
    ValueError: if it resets itself, is a batch, or nothing says how long an episode is.

  Reference: Brax, arXiv:2106.13281.
  """
  _check(env, "brax", "reset", "step", "action_size")
  own = getattr(env, "episode_length", None)
  if own is not None:
    own = math.ceil(own / getattr(env, "action_repeat", 1))  # it counts the steps of physics
  horizon, limit = _horizon(horizon, own, "this environment has no EpisodeWrapper, so adapt_brax")

  def reset(key, params):
    del params
    state = env.reset(key)
    return state.obs, state

  def step(key, state, action, params):
    del key, params
    state = env.step(state, action)
    late = jnp.asarray(state.info.get("truncation", 0)) > 0
    return state.obs, state, state.reward, (state.done > 0) & ~late, late, state.metrics

  return _make_world(reset, step, _box(-1.0, 1.0, (int(env.action_size),)), horizon, limit, observe, success_return)


def adapt_gymnax(
    env: Any, params: PyTree | None = None, *, horizon: int | None = None, observe: Observe | None = None,
    success_return: float | None = None) -> World:
  """Makes a world of an environment of gymnax, of its versions 0.0.9 or 1.x.

  The world does not reset itself, so `step_env` is what is called. Versions before 1 mix running out of time with
  termination; it is told apart by the clock in the state, and by `is_terminal` without a time limit where an episode
  also terminates at the last moment. Real actions are clipped to the bounds of the action space.

  Args:
    env: an environment with `reset_env`, `step_env` and `action_space`.
    params: its params; None takes `env.default_params`. They are used where the instance is `()` or None; any other
      instance is params itself.
    horizon: most steps of an episode, at which it is truncated; None reads `params.max_steps_in_episode`, and the
      environment alone ends an episode.
    observe: `(observation) -> array`, see the module.
    success_return: the return from which on an episode has succeeded; None if returns do not say so, and then no metric
      is called `success`.

  Returns:
    The world; observations are float32.

  Raises:
    TypeError: for an environment without these functions, whose `step_env` returns neither 5 nor 6 values, or whose
      actions are neither discrete nor a box.
    ValueError: if nothing says how long an episode is.

  Reference: gymnax, Lange, 2022.
  """
  _check(env, "gymnax", "reset_env", "step_env", "action_space")
  default = env.default_params if params is None else params
  horizon, limit = _horizon(horizon, getattr(default, "max_steps_in_episode", None),
                            "params have no max_steps_in_episode, so adapt_gymnax")
  space = env.action_space(default)
  if getattr(space, "n", 0):
    actions = _Actions(int(space.n), 0, lambda action: action)
  elif hasattr(space, "low"):
    actions = _box(space.low, space.high, space.shape)
  else:
    raise _neither(space)

  def step(key, state, action, params):
    result = env.step_env(key, state, action, params)
    if len(result) not in (5, 6):
      raise TypeError(f"step_env of {type(env).__name__} returns {len(result)} values, not 5 or 6")
    observation, state, reward, *done, info = result
    ended = done if len(done) == 2 else _told_apart(env, state, done[0], params, horizon)
    return observation, state, reward, *ended, info

  return _make_world(env.reset_env, step, actions, horizon, limit, observe, success_return, default)


def adapt_jumanji(
    env: Any, *, horizon: int | None = None, observe: Observe | None = None,
    success_return: float | None = None) -> World:
  """Makes a world of an environment of Jumanji, of its versions from 1 on.

  The last step of an episode terminates if its discount is 0, and is truncated else. Most of Jumanji's environments
  give a discount of 0 at their time limit as well; to have time-outs truncated, make the environment with a
  `time_limit` out of reach and give the `horizon` here. Several discrete numbers that make one action become one:
  index i is the i-th of all combinations, the last number changing fastest. Real actions are clipped to their bounds.
  `info` holds the extras. The params of the world are not read.

  Args:
    env: an environment with `reset`, `step` and `action_spec`, as `jumanji.make(name)` gives it.
    horizon: most steps of an episode, at which it is truncated; None reads `env.time_limit`, and the environment alone
      ends an episode.
    observe: `(observation) -> array`, see the module.
    success_return: the return from which on an episode has succeeded; None if returns do not say so, and then no metric
      is called `success`.

  Returns:
    The world; observations are float32.

  Raises:
    TypeError: for an environment without these, or whose actions have no bounds, or that has several agents.
    ValueError: if it resets itself, is a batch, or nothing says how long an episode is.

  Reference: Jumanji, arXiv:2306.09884.
  """
  _check(env, "jumanji", "reset", "step", "action_spec")
  horizon, limit = _horizon(horizon, getattr(env, "time_limit", None),
                            "this environment has no time_limit, so adapt_jumanji")

  def reset(key, params):
    del params
    state, timestep = env.reset(key)
    return timestep.observation, state

  def step(key, state, action, params):
    del key, params
    state, timestep = env.step(state, action)
    return timestep.observation, state, timestep.reward, *_ends(timestep), timestep.extras

  return _make_world(reset, step, _combinations(env.action_spec), horizon, limit, observe, success_return)


def adapt_xminigrid(
    env: Any, params: PyTree | None = None, *, horizon: int | None = None, observe: Observe | None = None,
    success_return: float | None = 1e-6) -> World:
  """Makes a world of an environment of XLand-MiniGrid.

  An episode terminates at the goal (the discount is 0) and is truncated at `params.max_steps`. The view `[V, V, 2]` of
  numbers for tiles and colours is encoded as two one-hots, `[V, V, 13 + 12]`, an image for convolutions. It is turned
  the way the agent faces; the direction itself, and what the agent carries, are not in it. Of an observation with
  other parts (DirectionObservationWrapper) the view is encoded so too, and all is joined into one vector.

  Args:
    env: an environment with `reset`, `step`, `num_actions` and `default_params`.
    params: its params, `env, params = xminigrid.make(name)`; None takes `env.default_params()`. They are used where the
      instance is `()` or None; any other instance is params itself, say with another `ruleset`.
    horizon: most steps of an episode, at which it is truncated; None reads `params.max_steps`.
    observe: `(observation) -> array`, see the module; None encodes as above.
    success_return: as in the others; by default any reward at all, for only the goal gives one.

  Returns:
    The world; observations are float32.

  Raises:
    TypeError: for an environment without these functions.
    ValueError: if it resets itself, or nothing says how long an episode is.
    ImportError: without xminigrid, if it is to encode.

  Reference: XLand-MiniGrid, arXiv:2312.12044.
  """
  _check(env, "xminigrid", "reset", "step", "num_actions", "default_params")
  default = env.default_params() if params is None else params
  horizon, limit = _horizon(horizon, getattr(default, "max_steps", None),
                            "params have no max_steps, so adapt_xminigrid")

  def reset(key, params):
    timestep = env.reset(params, key)
    return timestep.observation, timestep

  def step(key, timestep, action, params):
    del key
    timestep = env.step(params, timestep, action)
    return timestep.observation, timestep, timestep.reward, *_ends(timestep), {}

  actions = _Actions(int(env.num_actions(default)), 0, lambda action: action)
  return _make_world(reset, step, actions, horizon, limit, observe or _cell_encoder(), success_return, default)


def _check(env: Any, library: str, *names: str):
  """Sees to it that the environment has what is named, and no wrapper that is in the way."""
  missing = [name for name in names if not hasattr(env, name)]
  if missing:
    raise TypeError(f"{type(env).__name__} is no environment of {library}: it has no {', '.join(missing)}")
  inside = env
  while inside is not None:
    name = type(inside).__name__
    if "AutoReset" in name:
      raise ValueError(f"{name} replaces the last observation of an episode: give the environment without it")
    if "Vmap" in name:
      raise ValueError(f"{name} makes a batch, and the learners make their own: give the environment without it")
    inside = vars(inside).get("env", vars(inside).get("_env")) if hasattr(inside, "__dict__") else None


def _horizon(given: int | None, own: int | None, who: str) -> tuple[int, int | None]:
  """Returns how long an episode is at most, and at how many steps our clock ends it."""
  if given is None and own is None:
    raise ValueError(f"{who} needs horizon=")
  horizon = int(own if given is None else given)
  if horizon < 1:
    raise ValueError(f"horizon={horizon} must be at least 1")
  return horizon, None if given is None else horizon


def _box(low: Any, high: Any, shape: tuple[int, ...]) -> _Actions:
  """Makes real actions; a direction may have no bounds, but not one single point.

  Raises:
    ValueError: where the lower bound is not below the upper one.
  """
  flat = lambda bound: tuple(map(float, np.broadcast_to(np.asarray(bound), shape).reshape(-1)))
  lows, highs = flat(low), flat(high)
  wrong = [i for i, (a, b) in enumerate(zip(lows, highs)) if not a < b]
  if wrong:
    raise ValueError(f"action {wrong[0]} has the bounds low={lows[wrong[0]]:g} and high={highs[wrong[0]]:g}: "
                     "there is nothing between them")
  return _Actions(0, math.prod(shape), lambda action: jnp.clip(action.reshape(shape), low, high), lows, highs)


def _combinations(spec: Any) -> _Actions:
  """Reads a spec with bounds: a box of real numbers, or all combinations of whole ones."""
  if not all(hasattr(spec, name) for name in ("minimum", "maximum", "shape", "dtype")):
    raise _neither(spec)
  low, high = (np.broadcast_to(bound, spec.shape) for bound in (spec.minimum, spec.maximum))
  if np.issubdtype(spec.dtype, np.floating):
    return _box(low, high, spec.shape)
  sizes = tuple(map(int, (high - low + 1).reshape(-1)))
  combine = lambda index: jnp.stack(jnp.unravel_index(index, sizes)).reshape(spec.shape) + low
  return _Actions(math.prod(sizes), 0, lambda index: combine(index).astype(spec.dtype))


def _neither(space: Any) -> TypeError:
  return TypeError(f"actions of {type(space).__name__} are neither discrete nor a box")


def _ends(timestep: Any) -> tuple[Array, Array]:
  """Returns `(terminated, truncated)` of a time step in the manner of dm_env."""
  over = timestep.discount == 0
  return timestep.last() & over, timestep.last() & ~over


def _told_apart(env: Any, state: PyTree, done: Array, params: PyTree, horizon: int) -> tuple[Array, Array]:
  """Returns `(terminated, truncated)` of gymnax's single flag."""
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


def _cell_encoder() -> Observe:
  """Makes the function that writes a view of XLand-MiniGrid as one-hots, and leaves what is none as it is."""
  try:
    from xminigrid.core import constants
  except ImportError as error:
    raise ImportError("to encode views adapt_xminigrid needs xminigrid: pip install 'rlcore[envs]'") from error
  one_hot = lambda cells: jnp.concatenate([
      jax.nn.one_hot(cells[..., 0], constants.NUM_TILES), jax.nn.one_hot(cells[..., 1], constants.NUM_COLORS)], -1)
  is_view = lambda x: x.ndim == 3 and x.shape[-1] == constants.NUM_LAYERS
  return lambda observation: jax.tree.map(lambda x: one_hot(x) if is_view(x) else x, observation)


def _join(observation: PyTree) -> Array:
  """Writes an observation as one float32 array, see the module."""
  leaves = [jnp.asarray(leaf).astype(jnp.float32) for leaf in jax.tree.leaves(observation)]
  return jnp.atleast_1d(leaves[0]) if len(leaves) == 1 else jnp.concatenate([leaf.reshape(-1) for leaf in leaves])


def _make_world(reset: Callable, step: Callable, actions: _Actions, horizon: int, limit: int | None,
                observe: Observe | None, success_return: float | None, default: PyTree = ()) -> World:
  """Makes the world of functions that have the signature of `World` but for shapes and kinds.

  Args:
    reset: `(key, params) -> (observation, state)`.
    step: `(key, state, action, params) -> (observation, state, reward, terminated, truncated, info)`.
    actions: how actions are handed on.
    horizon: of the world.
    limit: steps at which our clock truncates an episode, or None.
    observe: what comes before observations are joined, or None.
    success_return: of the world.
    default: params where the instance is `()` or None.

  Returns:
    The world.

  Raises:
    TypeError: if the reward is not one number.
  """
  see = lambda observation: _join(observe(observation) if observe else observation)
  own = lambda instance: default if instance is None or isinstance(instance, tuple) and not instance else instance
  raw_step = lambda key, state, action, params: step(key, state, actions.convert(action), params)

  example = jnp.zeros(actions.size) if actions.size else jnp.zeros((), jnp.int32)
  first = lambda key: reset(key, default)
  seen, state = jax.eval_shape(first, jax.random.key(0))
  kinds, reward = jax.eval_shape(lambda key: raw_step(key, first(key)[1], example, default)[1:3], jax.random.key(0))
  if math.prod(jnp.shape(reward)) != 1:
    raise TypeError(f"a reward of shape {jnp.shape(reward)} is not one number: a world has one agent")
  shape = jax.eval_shape(see, seen).shape
  # A clock that starts as Python's 0 is of another kind than one that was stepped: a scan wants the same.
  kind = lambda x, like: x if jnp.issubdtype(like.dtype, jax.dtypes.extended) else jnp.asarray(x, like.dtype)
  alike = lambda state: jax.tree.map(kind, state, kinds)

  def reset_world(key, params):
    observation, inner = reset(key, own(params))
    return see(observation), AdaptedState(alike(inner), jnp.zeros((), jnp.int32))

  def step_world(key, state, action, params):
    observation, inner, reward, terminated, truncated, info = raw_step(key, state.inner, action, own(params))
    time, terminated = state.time + 1, jnp.asarray(terminated, bool).reshape(())
    truncated = jnp.asarray(truncated, bool).reshape(()) | (False if limit is None else time >= limit)
    reward = jnp.asarray(reward, jnp.float32).reshape(())
    info = jax.tree.map(jnp.asarray, dict(info))
    return see(observation), AdaptedState(alike(inner), time), reward, terminated, truncated & ~terminated, info

  return World(reset_world, step_world, actions.count, math.prod(shape), horizon, shape if len(shape) > 1 else None,
               actions.size, actions.low, actions.high, success_return)
