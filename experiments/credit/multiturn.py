"""The multi-turn guide: estimators and reward density on a text adventure whose episodes are one token sequence each.

All estimators are computed and mixed by weights, dense and sparse rewards likewise, and instance sets are chosen by an
index: every arm is a lane of one compiled program (arXiv:2510.01132).
"""

import functools

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from rlcore import advantages, losses, rewards, segments, stats
from rlcore.envs import mini_quest
from rlcore.models import recurrent
from rlcore.policies import multi_turn
from rlcore.training import control
from rlcore.training import state as state_lib
from rlcore.types import Array, Experiment, PyTree, Rewards, Trajectory


@functools.cache
def instance_sets(sizes: tuple[tuple[int, int, int], ...], train: int, test: int, seed: int) -> PyTree:
  """Draws the instances of every size (rooms, objects, sub-goals): `(train, test, plans of train)`, sets first."""
  drawn = [mini_quest.draw_quests(seed, train + test, rooms=r, objects=o, goals=q) for r, o, q in sizes]
  quests, plans = jax.tree.map(lambda *x: np.stack(x), *drawn)
  part = lambda tree, where: jax.tree.map(lambda x: x[:, where], tree)
  return part(quests, slice(train)), part(quests, slice(train, None)), plans[:, :train]


def make_experiment(config: ml_collections.ConfigDict) -> Experiment:
  """Composes one arm: `config.weights` picks the estimator, `config.dense` the density of the rewards."""
  world = mini_quest.make_mini_quest()
  turn = world.observation_length + world.action_length
  model = recurrent.make_gru(recurrent.GRUConfig(
      vocab_size=mini_quest.DRAWABLE, input_size=world.vocab_size,
      context=world.prompt_length + world.num_turns * turn, dim=config.dim))
  agent = multi_turn.make_token_agent(model, world, critic_dim=config.dim)
  train, test, plans = instance_sets(tuple(map(tuple, config.sizes)), config.train, config.test, config.instance_seed)
  pick = lambda tree, chosen: jax.tree.map(lambda x: jnp.asarray(x)[jnp.asarray(chosen, jnp.int32)], tree)

  def draw(tree, chosen, count, key):
    """Draws `count` different instances of the chosen set."""
    own = pick(tree, chosen)
    index = jax.random.permutation(key, jax.tree.leaves(own)[0].shape[0])[:count]
    return jax.tree.map(lambda x: x[index], own)

  def demonstrations(key):
    """The first `config.demos` solutions of the train set, all of them every time."""
    del key
    own, actions = pick((train, plans), config.train_set)
    most = config.most_demos
    play = lambda quest, plan: multi_turn.replay(world, jax.random.key(0), quest, plan, jnp.sum(plan[:, 0] >= 0))
    shown = jax.vmap(play)(*jax.tree.map(lambda x: x[:most], (own, actions)))
    shown = jax.tree.map(lambda x: x[:, 0], jax.vmap(multi_turn.as_trajectory)(shown))
    return shown.replace(mask=shown.mask * (jnp.arange(most) < config.demos)[:, None])

  ppo = lambda rewards, batch: jax.vmap(functools.partial(advantages.gae, gamma=1.0, lam=1.0))(
      rewards.process, batch.value_t, batch.mask)
  parts = control.ControlParts(
      agent=agent,
      instances=functools.partial(draw, train, config.train_set, config.groups),
      test_instances=functools.partial(draw, test, config.test_set, config.probe),
      probe=config.probe > 0,
      optimizer=state_lib.make_optimizer(config.lr, max_grad_norm=None),
      reward_transform=rewards.stateless(functools.partial(turn_rewards, config.dense)),
      advantage_estimator=functools.partial(mixed_advantage, config.weights),
      value_target=lambda rewards, batch: ppo(rewards, batch)[1],
      value_coef=config.value_coef * config.weights.ppo,
      policy_loss=functools.partial(losses.clip_policy_loss, clip_low=config.clip, clip_high=config.clip),
      entropy_coef=config.entropy_coef,
      group_size=config.group_size,
      epochs=config.epochs,
      minibatches=config.minibatches,
      rollout=functools.partial(multi_turn.play_group, model, world, group_size=config.group_size),
      outcome=lambda episode: episode.info["won"].astype(jnp.float32),
      describe=describe,
      warmup=control.CloneWarmup(
          config.warmup.steps, state_lib.make_optimizer(config.warmup.lr, max_grad_norm=None), demonstrations))
  return control.make_control_experiment(parts)


def turn_rewards(dense: Array | float, raw: Rewards, batch: Trajectory) -> Rewards:
  """Puts sparse rewards (`dense` 0) or dense ones (1) on the last tokens of the turns of a group."""
  info, tokens = batch.info, batch.mask.shape[1]

  def one(final, turns, mask, ends):
    sparse = rewards.sparse_turn_rewards(final, mask)
    each = rewards.dense_turn_rewards(turns, mask, final > 0, mini_quest.GOALS)
    return segments.step_rewards_to_tokens(dense * each + (1 - dense) * sparse, ends, mask, tokens)

  process = jax.vmap(one)(raw.outcome, info["turn_rewards"], info["turn_mask"], info["turn_end"])
  return raw.replace(process=process)


def mixed_advantage(weights: ml_collections.ConfigDict, rewards: Rewards, batch: Trajectory) -> Array:
  """Computes every estimator of a group and adds them up by weight.

  Those that do not compare a group are whitened over the action tokens of the whole batch.
  """
  tokens, mask = rewards.process, batch.mask
  whiten = functools.partial(stats.whiten, mask=mask, axis_name=control.GROUPS)
  returns = stats.masked_sum(tokens, mask, axis=1)
  kinds = dict(
      ppo=whiten(jax.vmap(advantages.gae)(tokens, batch.value_t, mask)[0]),
      rloo=advantages.trajectory_rloo(tokens, mask),
      grpo=advantages.broadcast_to_tokens(advantages.group_advantage(returns), mask),
      reinforce=whiten(jax.vmap(advantages.reinforce_pp_returns)(tokens, mask)),
      reinforce_fixed=whiten(jax.vmap(advantages.reward_to_go)(tokens, mask)))
  return sum(weights[name] * value for name, value in kinds.items())


def describe(raw: Rewards, shaped: Rewards, batch: Trajectory, credit: Array) -> dict[str, Array]:
  """Reports turns and sub-goals of an episode."""
  del raw, shaped, credit
  total = lambda name: jnp.mean(jnp.sum(batch.info[name], -1))
  return {"turns": total("turn_mask"), "goals": total("turn_rewards")}
