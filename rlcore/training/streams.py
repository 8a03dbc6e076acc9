"""Streams: worlds side by side that are stepped, reset where an episode ends, and stepped on."""

from collections.abc import Callable, Sequence
import functools
from typing import NamedTuple

from flax import struct
import jax
import jax.numpy as jnp
import numpy as np

from rlcore import checks
from rlcore.types import Array, PyTree, Scores, Stream, StreamPolicy, World

Instances = Callable[[Array], PyTree]
_RESETS_AHEAD = 2**24  # bytes; what a rollout may hold of first states that few steps will need


@struct.dataclass
class Worlds:
  """N worlds between two rollouts, `[N, ...]` each.

  Attributes:
    observation: what is acted on next.
    state: of the world.
    instance: the world's params, drawn anew for every episode.
    memory: the policy's; where `is_first` is set it is to be cleared.
    is_first: bool, whether an episode begins.
    episode_return: float32, sum of the world's rewards of the episode so far.
    episode_length: int32, its steps so far.
  """

  observation: PyTree
  state: PyTree
  instance: PyTree
  memory: PyTree
  is_first: Array
  episode_return: Array
  episode_length: Array


class Ends(NamedTuple):
  """Which steps `[T, N]` ended an episode, and its sum of rewards and its steps up to and including each step."""

  ended: Array
  returns: Array
  lengths: Array


def checked_key(key: Array) -> Array:
  """Returns one typed PRNG key; takes the older uint32 kind too.

  Raises:
    TypeError: for anything else.
  """
  if isinstance(key, jax.Array):
    if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.ndim == 0:
      return key
    if key.dtype == jnp.uint32 and key.shape == (2,):
      return jax.random.wrap_key_data(key)
  what = f"{key.dtype}{list(key.shape)}" if hasattr(key, "dtype") else repr(key)
  raise TypeError(f"a run starts from one key, jax.random.key(seed), not from {what}")


def check_world(world: World, instances: Instances):
  """Traces one reset and one step.

  Raises:
    TypeError: if the world does not have the signature of `rlcore.types.World`, or a step changes the kind of its
      state.
    ValueError: for a world without actions, or without a step.
  """
  key = jax.random.key(0)
  checks.whole(1, horizon=world.horizon)
  if not (world.num_actions >= 1) ^ (world.action_size >= 1):
    raise ValueError(f"the world has num_actions={world.num_actions} and action_size={world.action_size}: one of them "
                     "says how it is acted on, the other is 0")
  instance = jax.eval_shape(instances, key)
  first = _traced("reset(key, params)", "(observation, state)", 2, world.reset, key, instance)
  action = jnp.zeros(world.action_size) if world.action_size else jnp.zeros((), jnp.int32)
  after = _traced("step(key, state, action, params)", "(observation, state, reward, terminated, truncated, info)", 6,
                  world.step, key, first[1], action, instance)
  shapes = lambda tree: jax.tree.map(lambda x: x.shape, tree)
  for name, told in zip(("reward", "terminated", "truncated"), after[2:5]):
    if shapes(told) != ():
      raise TypeError(f"step of the world gives {name} of shape {shapes(told)}; it must be a scalar")
  kinds = lambda tree: jax.tree.map(lambda x: f"{x.dtype}{list(x.shape)}", tree)
  before, behind = kinds(first[1]), kinds(after[1])
  if before != behind:
    pairs = zip(jax.tree.leaves(before), jax.tree.leaves(behind))
    told = next((f": {a} becomes {b}" for a, b in pairs if a != b), "")
    raise TypeError(f"a step of the world must keep the kind of its state as reset gives it{told}")
  wanted = world.observation_shape or (world.observation_size,)
  for name, seen in (("reset", first[0]), ("step", after[0])):
    if shapes(seen) != wanted:
      raise TypeError(f"{name} of the world gives observations of shape {shapes(seen)}, but it promises {wanted}")


def check_policy(world: World, policy: StreamPolicy, params: PyTree, instances: Instances):
  """Sees to it that a policy that draws from logits, or from a Gaussian, has as many actions as its world.

  Raises:
    ValueError: if it has another number.
  """
  key = jax.random.key(0)
  observation = jax.eval_shape(lambda: world.reset(key, instances(key))[0])
  distribution = jax.eval_shape(policy.step, params, policy.memory, observation)[0]
  wanted = world.action_size or world.num_actions
  for leaf in jax.tree.leaves(distribution):
    if len(leaf.shape) == 1 and leaf.shape[0] != wanted:
      raise ValueError(f"the policy has {leaf.shape[0]} actions, its world {wanted}")


def _traced(call, promise, count, function, *arguments):
  try:
    result = jax.eval_shape(function, *arguments)
  except TypeError as error:
    raise TypeError(f"the world has no {call} -> {promise}: {error}") from error
  if not isinstance(result, tuple) or len(result) != count:
    size = len(result) if isinstance(result, tuple) else "no tuple"
    raise TypeError(f"the world's {call} must return {promise}, {count} values; it returns {size}")
  return result


def start(world: World, policy: StreamPolicy, instances: Instances, key: Array, num_worlds: int) -> Worlds:
  """Draws an instance for each of N worlds and resets them."""
  instance_keys, reset_keys = _split(key, (num_worlds, num_worlds))
  instance = jax.vmap(instances)(instance_keys)
  observation, state = jax.vmap(world.reset)(reset_keys, instance)
  full = lambda value, dtype: jnp.full(num_worlds, value, dtype)
  return Worlds(observation, state, instance, _copies(policy.memory, num_worlds), full(True, bool),
                full(0, jnp.float32), full(0, jnp.int32))


def collect(
    world: World, policy: StreamPolicy, instances: Instances, params: PyTree, worlds: Worlds, key: Array, *,
    num_steps: int, gamma: Array | float = 1.0, pool: int = 0,
    keep_memory: bool = False) -> tuple[Worlds, Stream, Ends]:
  """Steps every world T times and resets those whose episode ends.

  Args:
    world: how a world moves.
    policy: what acts.
    instances: `(key) -> params of the world`, called for every episode.
    params: of the policy.
    worlds: where they are, `[N]`.
    key: PRNG key.
    num_steps: T.
    gamma: discount.
    pool: 0 computes a fresh instance at every step, in case that the episode ends there, which is dear where drawing
      one is. P draws P instances at the start; the episodes that begin here take them one after another, and from the
      first again if there are more.
    keep_memory: whether the stream holds the policy's memory before every step.

  Returns:
    `(worlds, stream [T, N], ends [T, N])`. In the stream `discount_t` is 0 where an episode terminates.
  """
  count = worlds.is_first.shape[0]
  # Noise, keys and first states do not depend on where the worlds are: drawn for all steps at once they cost a fraction
  # of T small draws. Along one axis, as with two or three XLA takes 2 to 6 times as long to compile them.
  act_key, pool_key, *keys = _split(key, (1, 1, *(num_steps * count,) * 3))
  noise = policy.noise(act_key[0], num_steps * count)
  pooled = jax.vmap(instances)(jax.random.split(pool_key[0], pool)) if pool else None

  def fresh(instance_key, reset_key):
    instance = instances(instance_key)
    return *world.reset(reset_key, instance), instance

  world_keys, *resets = keys
  ahead = not pool and num_steps * count * _bytes(jax.eval_shape(fresh, key, key)) <= _RESETS_AHEAD
  resets = jax.vmap(fresh)(*resets) if ahead else tuple(resets)
  by_step = lambda tree: jax.tree.map(lambda x: x.reshape(num_steps, count, *x.shape[1:]), tree)

  def begin(resets, ended, used):
    if not pool:
      return resets if ahead else jax.vmap(fresh)(*resets), used
    place = (used + jnp.cumsum(ended) - ended) % pool
    instance = jax.tree.map(lambda x: x[place], pooled)
    return (*jax.vmap(world.reset)(resets[1], instance), instance), used + jnp.sum(ended, dtype=jnp.int32)

  def step(carry, given):
    (now, used), (noise, world_keys, resets) = carry, given
    before = reset_memory(policy, now.is_first, now.memory)
    distribution, value, memory = jax.vmap(policy.step, (None, 0, 0))(params, before, now.observation)
    action, log_prob = jax.vmap(policy.sample)(noise, distribution)
    after, state, reward, terminated, truncated, info = jax.vmap(world.step)(
        world_keys, now.state, action, now.instance)
    reward, terminated, truncated = reward.astype(jnp.float32), terminated.astype(bool), truncated.astype(bool)
    ended = terminated | truncated
    ends = Ends(ended, now.episode_return + reward, now.episode_length + 1)
    first, used = begin(resets, ended.astype(jnp.int32), used)
    observation, state, instance, total, length = _where(
        ended, (*first, jnp.zeros_like(ends.returns), jnp.zeros_like(ends.lengths)),
        (after, state, now.instance, ends.returns, ends.lengths))
    taken = dict(
        observation=now.observation, action=action, reward_t=reward, log_prob_old=log_prob, value_t=value, info=info,
        truncated=truncated & ~terminated, next_observation=after, memory=before if keep_memory else None)
    return (Worlds(observation, state, instance, memory, ended, total, length), used), (taken, memory, ends)

  carry = worlds, jnp.zeros((), jnp.int32)
  (after, _), (taken, memory, ends) = jax.lax.scan(step, carry, by_step((noise, world_keys, resets)))
  # What follows from the rest is not written step by step.
  stream = Stream(
      **taken, discount_t=gamma * (1.0 - (ends.ended & ~taken["truncated"])), value_tp1=taken["value_t"],
      mask=jnp.ones(ends.ended.shape), is_first=jnp.concatenate([worlds.is_first[None], ends.ended[:-1]]))
  return after, stream.replace(value_tp1=_values_after(policy, params, memory, stream, ends.ended)), ends


def _values_after(policy: StreamPolicy, params: PyTree, memory: PyTree, stream: Stream, ended: Array) -> Array:
  """Computes the values `[T, N]` of what the steps of a rollout led to; 0 where nothing comes after.

  Most are the next step's value, known already. Networks are asked for what the last step led to and for what was cut
  off on the way: once more for every such end of the world that has most of them.
  """
  def look(time):
    pick = lambda x: jax.vmap(lambda column, t: column[t], (1, 0))(x, time)
    return jax.vmap(lambda m, seen: policy.step(params, m, seen)[1])(
        *jax.tree.map(pick, (memory, stream.next_observation)))

  def ask(carry):
    unknown, values = carry
    first = jnp.argmax(unknown, 0)
    now = unknown & (jnp.arange(unknown.shape[0])[:, None] == first)
    return unknown & ~now, jnp.where(now, look(first), values)

  unknown = stream.truncated.at[-1].set(True)
  values = jnp.concatenate([stream.value_t[1:], jnp.zeros_like(stream.value_t[:1])])
  _, values = jax.lax.while_loop(lambda carry: jnp.any(carry[0]), ask, (unknown, values))
  return jnp.where(ended & ~stream.truncated, 0.0, values)


def score(policy: StreamPolicy, params: PyTree, memory: PyTree, rows: Stream) -> tuple[Scores, PyTree]:
  """Runs the policy over sequences again.

  Args:
    policy: what acted.
    params: its parameters now.
    memory: `[N, ...]`, with which each sequence began.
    rows: `[N, T]`.

  Returns:
    `(Scores [N, T], memory after every step [N, T, ...])`.
  """
  def look(memory, observation, action):
    distribution, value, memory = policy.step(params, memory, observation)
    return Scores(*policy.score(distribution, action), value), memory

  def one(memory, row):
    def step(memory, place):
      is_first, *seen = place
      scores, memory = look(_where(is_first, policy.memory, memory), *seen)
      return memory, (scores, memory)

    return jax.lax.scan(step, memory, (row.is_first, row.observation, row.action))[1]

  if jax.tree.leaves(policy.memory):
    return jax.vmap(one)(memory, rows)
  # One axis of steps: with two, products take half as long again where seeds are lanes of a `vmap`.
  return _over_both(functools.partial(look, policy.memory))(rows.observation, rows.action)


def _over_both(function: Callable) -> Callable:
  """Maps a function over arrays `[A, B, ...]`, which it sees joined to `[A B, ...]`."""
  def run(*arguments):
    ahead = jax.tree.leaves(arguments)[0].shape[:2]
    flat = jax.vmap(function)(*jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), arguments))
    return jax.tree.map(lambda x: x.reshape(*ahead, *x.shape[1:]), flat)
  return run


def next_values(policy: StreamPolicy, params: PyTree, memory: PyTree, next_observation: PyTree) -> Array:
  """Computes the values `[A, B]` of what steps led to, from the memory after them, `[A, B, ...]`."""
  value = lambda memory, observation: policy.step(params, memory, observation)[1]
  return jax.lax.stop_gradient(_over_both(value)(memory, next_observation))


def reset_memory(policy: StreamPolicy, is_first: Array, memory: PyTree) -> PyTree:
  """Clears the memories `[N, ...]` of streams in which an episode begins."""
  return _where(is_first, _copies(policy.memory, is_first.shape[0]), memory)


def _copies(tree: PyTree, count: int) -> PyTree:
  return jax.tree.map(lambda x: jnp.broadcast_to(x, (count, *jnp.shape(x))), tree)


def _split(key: Array, counts: Sequence[int]) -> list[Array]:
  """Splits a key into several arrays of keys, by one draw."""
  return jnp.split(jax.random.split(key, sum(counts)), np.cumsum(counts)[:-1])


def _bytes(tree: PyTree) -> int:
  return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))


def _where(flag: Array, on_true: PyTree, on_false: PyTree) -> PyTree:
  """Chooses by `[N]` flags between pytrees of `[N, ...]`, or by `[]` between pytrees."""
  pick = lambda x, y: jnp.where(flag.reshape(flag.shape + (1,) * (jnp.ndim(y) - flag.ndim)), x, y)
  return jax.tree.map(pick, on_true, on_false)
