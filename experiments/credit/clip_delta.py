"""Clip and Delta: refined process rewards that more steps cannot farm (arXiv:2410.15115).

PPO on the world of proofs. `config.weights` mixes the ways to refine the step scores, all of them floats, so that every
arm is a lane of one compiled program; all weights 0 is the success reward alone.
"""

import functools

import jax
import jax.numpy as jnp
import ml_collections

from rlcore import advantages, losses, policies, rewards, stats
from rlcore.envs import proof_steps
from rlcore.training import control
from rlcore.training import state as state_lib
from rlcore.types import Array, Experiment, Metrics, Rewards, RewardTransform, Trajectory


def make_experiment(config: ml_collections.ConfigDict) -> Experiment:
  """Composes PPO with a mixture of refined process rewards."""
  sizes = dict(num_problems=config.world.num_problems, num_moves=config.world.num_moves)
  world = proof_steps.make_proof_steps(**config.world)
  # A seed draws the right moves as well as the weights; it may be a tracer.
  problems = proof_steps.draw_problems(jax.random.fold_in(jax.random.key(config.seed), 1), **sizes)
  script = functools.partial(proof_steps.completer, num_moves=config.world.num_moves)

  def demonstrations(key):
    which_key, play_key = jax.random.split(key)
    which = jax.random.randint(which_key, (config.warmup.episodes,), 0, config.world.num_problems)
    chosen = jax.tree.map(lambda x: x[which], problems)
    keys = jax.random.split(play_key, config.warmup.episodes)
    return jax.vmap(lambda key, problem: policies.scripted_rollout(world, script, key, problem))(keys, chosen)

  lam = dict(gamma=1.0, lam=config.lam)
  parts = control.ControlParts(
      agent=policies.make_actor_critic(world, hidden=config.hidden),
      instances=lambda key: problems,
      group_size=config.samples,
      optimizer=state_lib.make_optimizer(config.lr, max_grad_norm=None),
      reward_transform=refinement(config.weights, config.alpha, config.eta),
      advantage_estimator=functools.partial(advantages.gae_advantages, **lam),
      value_target=functools.partial(advantages.gae_returns, **lam),
      policy_loss=functools.partial(losses.clip_policy_loss, clip_high=None),
      whiten=True,
      epochs=config.epochs,
      minibatches=config.minibatches,
      warmup=control.CloneWarmup(
          config.warmup.steps, state_lib.make_optimizer(config.warmup.lr, max_grad_norm=None), demonstrations),
      describe=functools.partial(describe, num_moves=config.world.num_moves))
  return control.make_control_experiment(parts)


def refinement(weights: ml_collections.ConfigDict, alpha: Array | float, eta: Array | float) -> RewardTransform:
  """Makes the transform that adds the weighted mixture of refined scores, times alpha, to the success reward."""
  def apply(group: Rewards, batch: Trajectory) -> Rewards:
    scores = batch.info["score"]
    refine = lambda mode: jax.vmap(functools.partial(rewards.refine_process_rewards, mode=mode, eta=eta))
    ways = {mode: refine(mode)(scores, batch.mask) for mode in ("none", "clip", "delta", "clip_delta")}
    length = stats.masked_count(batch.mask, batch.mask, axis=-1)[:, None]
    ways["per_length"] = ways["none"] / jnp.maximum(length, 1)  # the mitigation that does not help, says the paper
    mixed = rewards.weighted_sum(jnp.stack(list(ways.values())), jnp.stack([1.0 * weights[name] for name in ways]))
    return group.replace(process=alpha * mixed)

  return rewards.stateless(apply)


def describe(
    raw: Rewards, shaped: Rewards, episodes: Trajectory, advantage: Array, *, num_moves: int) -> Metrics:
  """Reports what a farming policy does: it restates, it does not finish, and its process return grows."""
  del raw, advantage
  restated = (episodes.action == num_moves).astype(jnp.float32)
  finished = stats.masked(episodes.action == num_moves + 1, episodes.mask)
  return {
      "restate": stats.masked_mean(restated, episodes.mask),
      "unfinished": 1 - jnp.mean(jnp.sum(finished, -1)),
      "process_return": jnp.mean(stats.masked_sum(shaped.process, episodes.mask, axis=-1))}
