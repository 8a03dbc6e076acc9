"""Bonuses as sources of reward: transforms whose process rewards are a bonus for every step and whose outcome is 0.

The parts compose with those of `rewards`. The bonus of the study (E3B times global counts), in units of its running
standard deviation, added to the reward of the task with weight 0.1:

    bonus = exploration.combined(
        exploration.global_count_bonus(cell, num_keys=100, axis_name="groups"), exploration.elliptical_source(features))
    scaled = rewards.chain(bonus, exploration.scaled_by_std(axis_name="groups"))
    transform = rewards.mixture((rewards.identity(), scaled), (1.0, 0.1))

Every row of a group `[G, T]` is one whole episode, so what is counted within an episode needs no state.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from rlcore import rewards as reward_lib
from rlcore import checks, stats
from rlcore.exploration import combine, counts, elliptical
from rlcore.types import Array, RewardTransform, Trajectory


def hashed_keys(values: Array, num_keys: int) -> Array:
  """Hashes vectors of integers to keys of a table; different vectors may share a key, the same one never has two.

  Args:
    values: `[..., D]` integers; round a continuous observation to a grid first.
    num_keys: static, K.

  Returns:
    `[...]` int32 in [0, K), the same in every process and on every device.

  Raises:
    TypeError: for values that are not integers.

  Reference: FNV-1a by words and the finaliser of MurmurHash3; #Exploration, arXiv:1611.04717 (hashed counts).
  """
  checks.whole(1, num_keys=num_keys)
  values = jnp.asarray(values)
  if not jnp.issubdtype(values.dtype, jnp.integer):
    raise TypeError(f"hashed_keys takes integers, not {values.dtype}: round the observation to a grid first")
  state = jnp.full(values.shape[:-1], 2166136261, jnp.uint32)
  for column in range(values.shape[-1]):
    state = (state ^ values[..., column].astype(jnp.uint32)) * jnp.uint32(16777619)
    state = state ^ (state >> 15)
  for factor, shift in ((0x85EBCA6B, 13), (0xC2B2AE35, 16)):
    state = state * jnp.uint32(factor)
    state = state ^ (state >> shift)
  return (state % jnp.uint32(num_keys)).astype(jnp.int32)


def episodic_count_bonus(keys: Callable[[Trajectory], Array], *, kind: str = "isqrt") -> RewardTransform:
  """Makes the source that pays by the count of a step's key in its episode.

  Args:
    keys: `(Trajectory of [T]) -> [T]` int32; of the next state, in the study.
    kind: static, of `count_bonus`.

  Returns:
    The transform; its state is `()`.

  Reference: A Study of Global and Episodic Bonuses, arXiv:2306.03236.
  """
  return _of_episodes(
      lambda episode: counts.count_bonus(counts.episodic_count(keys(episode), episode.mask), episode.mask, kind))


def elliptical_source(
    features: Callable[[Trajectory], Array], *, ridge: Array | float = 0.1,
    zero_first: bool = False) -> RewardTransform:
  """Makes the source that pays the elliptical episodic bonus (E3B).

  Args:
    features: `(Trajectory of [T]) -> [T, D]`.
    ridge: of `elliptical_bonus`.
    zero_first: static, of `elliptical_bonus`.

  Returns:
    The transform; its state is `()`.

  Reference: E3B, arXiv:2210.05805.
  """
  return _of_episodes(
      lambda episode: elliptical.elliptical_bonus(features(episode), episode.mask, ridge, zero_first))


def global_count_bonus(
    keys: Callable[[Trajectory], Array], num_keys: int, *, kind: str = "isqrt",
    axis_name: stats.AxisName = None) -> RewardTransform:
  """Makes the source that pays by the count of a step's key in all training.

  The episodes of a group are taken to run side by side: the table is filled in the order of time.

  Args:
    keys: `(Trajectory of [T]) -> [T]` int32 in [0, num_keys), `hashed_keys` say.
    num_keys: static, K.
    kind: static, of `count_bonus`.
    axis_name: mapped axes over the groups of a batch; each group sees the others' steps a batch later.

  Returns:
    The transform; its state is the table, `[K]` int32.

  Reference: A Study of Global and Episodic Bonuses, arXiv:2306.03236.
  """
  checks.whole(1, num_keys=num_keys)

  def apply(rewards, batch, state):
    flat = lambda x: jnp.asarray(x).T.reshape(-1)
    at_t, state = counts.global_count(state, flat(jax.vmap(keys)(batch)), flat(batch.mask), axis_name=axis_name)
    bonus = counts.count_bonus(at_t, flat(batch.mask), kind).reshape(batch.mask.shape[::-1]).T
    return _only(rewards, bonus), state

  return RewardTransform(lambda key, example: jnp.zeros(num_keys, jnp.int32), apply)


def combined(
    global_source: RewardTransform, episodic_source: RewardTransform, *, mode: str = "mul",
    global_coef: Array | float = 1.0) -> RewardTransform:
  """Makes the source that combines two others step by step.

  Args:
    global_source: novelty in all training.
    episodic_source: novelty in the episode.
    mode: static, of `combine_bonuses`.
    global_coef: of `combine_bonuses`.

  Returns:
    The transform; its state is the pair of theirs.

  Reference: A Study of Global and Episodic Bonuses, arXiv:2306.03236.
  """
  sources = (global_source, episodic_source)

  def apply(rewards, batch, state):
    results = (source.apply(rewards, batch, inner) for source, inner in zip(sources, state, strict=True))
    (g, first), (e, second) = results
    pair = lambda g, e: combine.combine_bonuses(g, e, mode, global_coef)
    return _only(rewards, jax.vmap(pair)(g.process, e.process)), (first, second)

  return RewardTransform(reward_lib.chain(*sources).init, apply)


def scaled_by_std(*, axis_name: stats.AxisName = None) -> RewardTransform:
  """Makes the transform that divides bonuses by the standard deviation of all of them so far, this batch included.

  A bonus that is not finite is left out of the moments, so that it cannot spoil those that follow.

  Args:
    axis_name: mapped axes over the groups of a batch.

  Returns:
    The transform; its state is that of `stats.running_stats_init`.

  Reference: A Study of Global and Episodic Bonuses, arXiv:2306.03236 (its code, "int" normalisation).
  """
  def apply(rewards, batch, state):
    keep = (batch.mask > 0) & jnp.isfinite(rewards.process)
    state = stats.running_stats_update(state, rewards.process, keep, axis_name=axis_name)
    return rewards.replace(process=combine.scale_bonus(rewards.process, stats.running_std(state))), state

  return RewardTransform(lambda key, example: stats.running_stats_init(), apply)


def _of_episodes(bonus: Callable[[Trajectory], Array]) -> RewardTransform:
  return reward_lib.stateless(lambda rewards, batch: _only(rewards, jax.vmap(bonus)(batch)))


def _only(rewards, bonus):
  """The rewards of a source: the bonus and nothing else."""
  return rewards.replace(outcome=jnp.zeros_like(rewards.outcome, jnp.float32), process=bonus)
