"""What the steps of streams are paid: the task's reward, bonuses, and their sums, as `types.StreamReward`.

    bonus = stream_rewards.weighted(
        lambda g, e: g * e, stream_rewards.global_count(cell, num_keys=90), stream_rewards.episodic_count(cell, 90))
    reward = stream_rewards.weighted(lambda r, b: r + 0.3 * b, stream_rewards.task_reward(), bonus)

A model that learns, or multipliers that are moved once a rollout, are a `StreamReward` of their own: `apply` sees the
whole rollout, observations, actions, `info` and all, and runs once for it.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from rlcore import checks, exploration, stats
from rlcore.reward_models import learner, novelty
from rlcore.types import Array, PyTree, Stream, StreamReward

Keys = Callable[[Stream], Array]


def task_reward() -> StreamReward:
  """Makes the reward of the world itself; its state is `()`."""
  return StreamReward(lambda key, num_worlds: (), lambda state, stream: (stream.reward_t, state))


def told(stream: Stream, name: str) -> PyTree:
  """Returns what the world's `info` says of every step under a name.

  Raises:
    KeyError: if it says no such thing.
  """
  if name not in stream.info:
    raise KeyError(f"this reward reads info[{name!r}] of the world, which tells {sorted(stream.info) or 'nothing'}")
  return stream.info[name]


def per_step(start: Callable[[], PyTree], step: Callable[[PyTree, Stream], tuple[Array, PyTree]]) -> StreamReward:
  """Lifts a bonus that remembers the episode.

  Args:
    start: `() -> memory` at the start of an episode.
    step: `(memory, Stream of []) -> (reward [], memory)`, of one step of one stream. The memory is cleared before the
      first step of an episode, so the last one is paid by all that came before it.

  Returns:
    The reward; its state is the memories, `[N, ...]`, which outlive the rollout.

  Raises:
    TypeError: when a rollout is paid, if a step changes the shape or dtype of the memory.
  """
  def init(key, num_worlds):
    del key
    return jax.tree.map(lambda x: jnp.broadcast_to(x, (num_worlds, *jnp.shape(x))), start())

  def one(memory, transition):
    fresh = jax.tree.map(lambda new, old: jnp.where(transition.is_first, new, old), start(), memory)
    bonus, after = step(fresh, transition)
    kinds = [jax.tree.map(lambda x: f"{jnp.result_type(x)}{list(jnp.shape(x))}", tree) for tree in (fresh, after)]
    if kinds[0] != kinds[1]:
      raise TypeError(f"a step of a bonus must keep the kind of its memory: it took {kinds[0]} and left {kinds[1]}")
    return bonus, after

  def apply(state, stream):
    def scanned(state, transitions):
      bonus, state = jax.vmap(one)(state, transitions)
      return state, bonus
    state, bonus = jax.lax.scan(scanned, state, stream)
    return bonus, state

  return StreamReward(init, apply)


def episodic_count(keys: Keys, num_keys: int, *, kind: str = "isqrt") -> StreamReward:
  """Makes the bonus for what was rare in the episode.

  Args:
    keys: `(Stream of []) -> []` int32 in [0, num_keys), of one step; any other key belongs to nobody and pays 0.
    num_keys: static, K.
    kind: static, of `exploration.count_bonus`.

  Returns:
    The reward; its state is the tables, `[N, K]` int32.

  Raises:
    ValueError: for a table without keys.

  Reference: A Study of Global and Episodic Bonuses, arXiv:2306.03236.
  """
  def step(counts, transition):
    key = jnp.asarray(keys(transition))
    counts = counts.at[jnp.where(key < 0, num_keys, key)].add(1, mode="drop")  # a negative one would wrap around
    return exploration.count_bonus(stats.lookup(counts, key)[None], kind=kind)[0], counts

  checks.whole(1, num_keys=num_keys)
  return per_step(lambda: jnp.zeros(num_keys, jnp.int32), step)


def episodic_elliptical(features: Keys, size: int, *, ridge: Array | float = 0.1) -> StreamReward:
  """Makes the elliptical bonus (E3B), the first step of an episode included.

  Args:
    features: `(Stream of []) -> [D]`, of one step.
    size: D.
    ridge: above 0.

  Returns:
    The reward; its state are two factors of a root of the inverse covariance of each stream, `[N, D, D]` each; they
    are joined once a rollout, see `exploration.elliptical_pair_update`.

  Reference: E3B, arXiv:2210.05805.
  """
  checks.whole(1, size=size)
  checks.above(0, ridge=ridge)
  eye = jnp.eye(size, dtype=jnp.float32)

  def step(roots, transition):
    root, since = roots
    bonus, since = exploration.elliptical_pair_update(root, since, features(transition))
    return bonus, (root, since)

  each = per_step(lambda: (eye / jnp.sqrt(jnp.asarray(ridge, jnp.float32)), eye), step)

  def apply(state, stream):
    bonus, (root, since) = each.apply(state, stream)
    return bonus, (jax.vmap(exploration.elliptical_join)(root, since), jnp.broadcast_to(eye, since.shape))

  return StreamReward(each.init, apply)


def global_count(keys: Keys, num_keys: int, *, kind: str = "isqrt") -> StreamReward:
  """Makes the bonus for what was rare in all training, with one table for all streams in the order of time.

  Args:
    keys: `(Stream of []) -> []` int32 in [0, num_keys), of one step.
    num_keys: static, K.
    kind: static, of `exploration.count_bonus`.

  Returns:
    The reward; its state is the table, `[K]` int32.

  Reference: A Study of Global and Episodic Bonuses, arXiv:2306.03236.
  """
  def apply(state, stream):
    flat = jax.vmap(jax.vmap(keys))(stream).reshape(-1)
    counts, state = exploration.global_count(state, flat)
    return exploration.count_bonus(counts, kind=kind).reshape(stream.reward_t.shape), state

  return StreamReward(lambda key, num_worlds: jnp.zeros(num_keys, jnp.int32), apply)


def network_novelty(
    embed: Callable[[PyTree, PyTree], Array], init_params: Callable[[Array], PyTree],
    optimizer: optax.GradientTransformation, *, alpha: Array | float = 0.5) -> StreamReward:
  """Makes the bonus for what a network cannot predict yet (RND), or for the gain of it in a step (NovelD).

  `noveld_bonus` of the two states of each step; then the predictor takes one gradient step on the mean `rnd_novelty` of
  the states that were led to. NovelD also pays only the first visit in an episode: multiply by an `episodic_count` of
  the kind "indicator" (`weighted`).

  Args:
    embed: `(params, observation) -> [E]`, of one observation.
    init_params: `(key) -> params`; called twice, for the random network and for the predictor.
    optimizer: of the predictor.
    alpha: of `exploration.noveld_bonus`; 0 is plain random network distillation.

  Returns:
    The reward; its state is a `reward_models.novelty.NoveltyState`.

  Reference: RND, arXiv:1810.12894; NovelD, Zhang et al., NeurIPS 2021.
  """
  def init(key, num_worlds):
    del num_worlds
    first, second = jax.random.split(key)
    return novelty.NoveltyState(init_params(first), learner.start(init_params(second), optimizer))

  def apply(state, stream):
    def loss(params):
      one = lambda seen: exploration.rnd_novelty(embed(params, seen), embed(state.target, seen))
      before, after = (jax.vmap(jax.vmap(one))(x) for x in (stream.observation, stream.next_observation))
      return jnp.mean(after), jnp.stack([before, after], -1)

    predictor, both, _ = learner.guarded_step(loss, optimizer, state.predictor)
    bonus = jax.vmap(jax.vmap(lambda pair: exploration.noveld_bonus(pair, alpha=alpha)[0]))(both)
    return bonus, state.replace(predictor=predictor)

  return StreamReward(init, apply)


def weighted(combine: Callable[..., Array], *parts: StreamReward) -> StreamReward:
  """Combines several rewards step by step.

  Args:
    combine: `([T, N], ...) -> [T, N]`, one argument a part.
    *parts: the rewards, each of which sees the same stream.

  Returns:
    The reward; its state is the tuple of theirs.
  """
  def init(key, num_worlds):
    return tuple(part.init(jax.random.fold_in(key, i), num_worlds) for i, part in enumerate(parts))

  def apply(state, stream):
    paid = [part.apply(inner, stream) for part, inner in zip(parts, state, strict=True)]
    return combine(*(reward for reward, _ in paid)), tuple(inner for _, inner in paid)

  return StreamReward(init, apply)


def in_turn(first: StreamReward, *later: StreamReward) -> StreamReward:
  """Applies rewards one after another: each sees as `reward_t` what the one before it paid.

  Args:
    first: sees the world's reward.
    *later: a normaliser, a constraint, say.

  Returns:
    The reward; its state is the tuple of theirs.
  """
  parts = (first, *later)

  def apply(state, stream):
    states = []
    for part, inner in zip(parts, state, strict=True):
      reward, inner = part.apply(inner, stream)
      stream = stream.replace(reward_t=reward)
      states.append(inner)
    return stream.reward_t, tuple(states)

  return StreamReward(weighted(lambda *_: None, *parts).init, apply)
