"""Global and episodic bonuses, and their product, in one map or in many (arXiv:2306.03236).

PPO on streams; a step is paid for the cell that it led to. The arms differ in floats alone: the weights of the global
count, the episodic count, their product and the elliptical bonus.
"""

import functools

import jax
import jax.numpy as jnp
import ml_collections

from rlcore import exploration, policies, stats
from rlcore.envs import corridors, grids, random_maze
from rlcore.training import on_policy, on_policy_settings, stream_rewards
from rlcore.training import state as state_lib
from rlcore.types import Array, Experiment, Metrics, PyTree, Stream, StreamReward


def make_experiment(config: ml_collections.ConfigDict) -> Experiment:
  """Composes PPO with the bonuses on the corridors, or on mazes."""
  # A seed draws the goal or the contexts as well as the weights; it may be a tracer.
  context_key = jax.random.fold_in(jax.random.key(config.seed), 1)
  if config.world == "corridors":
    world, cells = corridors.make_corridors(), 90
    task = corridors.corridors_task(jax.random.randint(context_key, (), 0, 5))
    instances, pool = lambda key: task, 0
  elif config.world == "maze":
    world, cells = random_maze.make_random_maze(horizon=config.maze.horizon), (2 * config.maze.cells + 1)**2
    instances, pool = functools.partial(draw_context, context_key=context_key, **config.maze), config.pool
  else:
    raise ValueError(f"world={config.world!r} is neither corridors nor maze")
  return on_policy.make_on_policy_experiment(on_policy.OnPolicyParts(
      world=world, policy=policies.make_stream_policy(world, hidden=config.hidden), instances=instances,
      instance_pool=pool, optimizer=state_lib.make_optimizer(config.lr, b2=0.999, max_grad_norm=0.5),
      num_worlds=config.num_worlds, num_steps=config.num_steps, gamma=config.gamma,
      reward=bonus_reward(config.weights, cells), describe=describe, **on_policy_settings.ppo(
          lam=config.lam, entropy_coef=config.entropy_coef, epochs=config.epochs, minibatches=config.minibatches)))


def draw_context(
    key: Array, *, context_key: Array, contexts: int, cells: int, horizon: int) -> grids.GridTask:
  """Draws one of the run's mazes, or, with 0 contexts, one that was never seen."""
  del horizon
  if contexts:
    key = jax.random.fold_in(context_key, jax.random.randint(key, (), 0, contexts))
  return random_maze.draw_maze(key, cells=cells)


def bonus_reward(weights: ml_collections.ConfigDict, cells: int) -> StreamReward:
  """Adds the weighted bonuses to the reward of the task; the global table and the moments are the run's."""
  cell = lambda step: step.info["cell"]
  counts = (stream_rewards.global_count(cell, cells), stream_rewards.episodic_count(cell, cells))

  def init(key, num_worlds):
    return *(part.init(key, num_worlds) for part in counts), stats.running_stats_init()

  def apply(state: PyTree, stream: Stream):
    (g, table), (e, own) = (part.apply(inner, stream) for part, inner in zip(counts, state))
    elliptical = one_hot_elliptical(e, weights.ridge)
    moments = stats.running_stats_update(state[2], elliptical)
    scaled = exploration.scale_bonus(elliptical, stats.running_std(moments))
    bonus = weights.globally * g + weights.episodic * e + weights.product * g * e + weights.elliptical * scaled
    return exploration.augmented_reward(stream.reward_t, bonus, weights.coef), (table, own, moments)

  return StreamReward(init, apply)


def one_hot_elliptical(bonus: Array, ridge: Array | float) -> Array:
  """Turns one over the root of a count into the elliptical bonus of one-hot features, `1 / (ridge + earlier visits)`.

  With such features that is what `exploration.elliptical_bonus` computes with a matrix for every world.
  """
  return 1 / (ridge + 1 / jnp.square(bonus) - 1)


def describe(reward_state: PyTree, stream: Stream, paid: Array, advantages: Array) -> Metrics:
  """Reports the mean bonus, and how many cells have ever been entered."""
  del advantages
  return {"bonus": jnp.mean(paid - stream.reward_t), "cells_seen": jnp.sum(reward_state[0] > 0).astype(jnp.float32)}
