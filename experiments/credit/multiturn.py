"""The multi-turn guide: estimators and reward density in a text world whose episodes are one token sequence each.

All estimators are computed and mixed by weights, dense and sparse rewards likewise, and instance sets are chosen by an
index: every arm, and every lane of the study, is the same program with other numbers (arXiv:2510.01132).
"""

from collections.abc import Callable
import functools

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from rlcore import advantages, losses, rewards, segments, stats
from rlcore.models import decoder
from rlcore.policies import multi_turn
from rlcore.tasks import quests
from rlcore.training import budget, control, loop, sweep
from rlcore.training import state as state_lib
from rlcore.types import Array, Experiment, Metrics, PyTree, Rewards, Trajectory

ESTIMATORS = ("ppo", "rloo", "grpo", "reinforce", "reinforce_fixed")


def make_experiment(config: ml_collections.ConfigDict) -> Experiment:
  """Composes one arm: `config.weights` picks the estimator, `config.dense` the density of the rewards."""
  world, train, test, plans = quests.make_quests(
      train=config.train, test=config.test, num_turns=config.num_turns, seed=config.instance_seed,
      sizes=tuple(map(tuple, config.sizes)), **config.world)
  turn = world.observation_length + world.action_length
  model = decoder.make_decoder(decoder.DecoderConfig(
      vocab_size=world.vocab_size, context=world.prompt_length + world.num_turns * turn, **config.model))

  def demonstrations(key):
    """Solutions of the first `config.demos` instances of the training set; with none the warm-up does nothing."""
    index = jax.random.uniform(key, (config.warmup.batch_size,)) * config.demos
    instances, actions = _chosen((train, plans), config.train_set, index)
    play = lambda instance, plan: multi_turn.replay(world, jax.random.key(0), instance, plan, jnp.sum(plan[:, 0] >= 0))
    shown = jax.vmap(multi_turn.as_trajectory)(jax.vmap(play)(instances, actions))
    shown = jax.tree.map(lambda x: x[:, 0], shown)
    return shown.replace(mask=shown.mask * (config.demos > 0))

  def draw(tree, chosen, total, count, key):
    return _chosen(tree, chosen, jax.random.permutation(key, total)[:count])

  grpo = config.weights.grpo  # the only estimator that has no credit for an episode without others
  parts = control.ControlParts(
      agent=multi_turn.make_token_agent(model, world, critic_dim=config.model.dim),
      instances=functools.partial(draw, train, config.train_set, config.train, config.groups),
      test_instances=functools.partial(draw, test, config.test_set, config.test, config.probe),
      probe=True,
      optimizer=state_lib.make_optimizer(config.lr, max_grad_norm=None),
      reward_transform=rewards.stateless(functools.partial(turn_rewards, config.dense)),
      advantage_estimator=functools.partial(mixed_advantage, config.weights),
      value_target=advantages.gae_returns,
      value_coef=config.value_coef * config.weights.ppo,
      policy_loss=functools.partial(losses.clip_policy_loss, clip_low=config.clip, clip_high=config.clip),
      entropy_coef=config.entropy_coef,
      group_size=config.group_size,
      min_group_size=1 if isinstance(grpo, (int, float)) and grpo == 0 else 2,  # a tracer may be any weight
      epochs=config.epochs,
      minibatches=config.minibatches,
      rollout=functools.partial(multi_turn.play_group, model, world, group_size=config.group_size),
      outcome=lambda episode: episode.info["won"].astype(jnp.float32),
      unit="tokens",
      describe=describe,
      warmup=None if plans is None else control.CloneWarmup(
          config.warmup.steps, state_lib.make_optimizer(config.warmup.lr, max_grad_norm=None), demonstrations))
  return control.make_control_experiment(parts)


def _chosen(tree: PyTree, chosen: Array | float, index: Array) -> PyTree:
  """Picks instances of one set; both may be float32, as numbers that a sweep traces are."""
  chosen, index = jnp.asarray(chosen).astype(jnp.int32), index.astype(jnp.int32)
  return jax.tree.map(lambda x: jnp.asarray(x)[chosen, index], tree)


def turn_rewards(dense: Array | float, raw: Rewards, batch: Trajectory) -> Rewards:
  """Puts sparse rewards (`dense` 0) or dense ones (1) on the last tokens of the turns of a group."""
  info, tokens = batch.info, batch.mask.shape[1]

  def one(final, turns, mask, ends, possible):
    sparse = rewards.sparse_turn_rewards(final, mask)
    each = rewards.dense_turn_rewards(turns, mask, final > 0, possible)
    return segments.step_rewards_to_tokens(dense * each + (1 - dense) * sparse, ends, mask, tokens)

  process = jax.vmap(one)(
      raw.outcome, info["turn_rewards"], info["turn_mask"], info["turn_end"], info["num_goals"].astype(jnp.float32))
  return raw.replace(outcome=jnp.zeros_like(raw.outcome), process=process)


def mixed_advantage(weights: ml_collections.ConfigDict, rewards: Rewards, batch: Trajectory) -> Array:
  """Computes every estimator of a group and adds them up by weight.

  Those that do not compare a group are whitened over the action tokens of the whole batch.
  """
  tokens, mask = rewards.process, batch.mask
  whiten = functools.partial(stats.whiten, mask=mask, axis_name=control.GROUPS)
  kinds = dict(
      ppo=whiten(advantages.gae_advantages(rewards, batch)),
      rloo=advantages.trajectory_rloo(tokens, mask),
      grpo=advantages.group_relative(rewards, batch),
      reinforce=whiten(jax.vmap(advantages.reinforce_pp_returns)(tokens, mask)),
      reinforce_fixed=whiten(jax.vmap(advantages.reward_to_go)(tokens, mask)))
  return sum(weights[name] * kinds[name] for name in ESTIMATORS)


def describe(raw: Rewards, shaped: Rewards, batch: Trajectory, credit: Array) -> Metrics:
  """Reports turns and sub-goals of an episode."""
  del raw, shaped, credit
  total = lambda name: jnp.mean(jnp.sum(batch.info[name], -1))
  return {"turns": total("turn_mask"), "goals": total("turn_rewards")}


def make_study(config: ml_collections.ConfigDict) -> Callable[[Array], Metrics]:
  """Builds the runs that are reported beside the verdict: more estimators, transfer, and the SFT:RL budget.

  Args:
    config: reads `study.cases`, pairs of a name and pairs of a dotted key and its number; `study.steps`;
      `study.budget`, in episodes, from which a case that names `demos` pays for them by `sft_rl_split`; and what
      `make_experiment` reads.

  Returns:
    `study(key) -> metrics`: for each case the test success at the start (of the first tenth of the updates) and at the
    end (of the last tenth that its budget pays for), and the area under its curve up to there.
  """
  cases, base = {name: dict(case) for name, case in config.study.cases}, sweep.flatten(config)
  keys = sorted({key for case in cases.values() for key in case})
  values = np.array([[case.get(key, base[key]) for key in keys] for case in cases.values()], np.float32)
  steps, tenth = config.study.steps, max(config.study.steps // 10, 1)

  def success(values, key):
    own = config.copy_and_resolve_references()
    with own.unlocked(), own.ignore_type():
      own.update_from_flattened_dict(dict(zip(keys, values)))
    return loop.train(make_experiment(own), steps)(key)[1]["test_success"]

  def study(key: Array) -> Metrics:
    curves = jax.vmap(success, (0, None))(values, key)
    metrics = {}
    for (name, case), curve in zip(cases.items(), curves):
      episodes = budget.sft_rl_split(config.study.budget, case.get("demos", 0))
      stop = min(episodes // (config.groups * config.group_size), steps)
      metrics |= {f"{name}/start": jnp.mean(curve[:tenth]), f"{name}/end": jnp.mean(curve[max(stop - tenth, 0):stop]),
                  f"{name}/area": jnp.mean(curve[:stop])}
    return metrics

  return study
