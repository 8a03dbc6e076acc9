"""TP-GRPO: thoughts that a response itself took back lose credit, key ones keep GRPO's (arXiv:2507.23317).

`make_experiment` trains on the stack writer, from a policy that cloned an imperfect script. Four numbers of the config
choose the arm, so all are one compiled program: `judged=0` sets every label to 1 (GRPO), `merge=0` rewards steps
instead of thoughts, `adaptive=0` makes a thought worth 1 whatever the group's accuracy, `flip` is the judge's error
rate. Who that judge is, the section `judge` says.
"""

import functools

import jax
import jax.numpy as jnp
import ml_collections

from rlcore import advantages, losses, stats
from rlcore import rewards as reward_lib
from rlcore.assistants import stack_writer as asking
from rlcore.envs import stack_writer
from rlcore.policies import actor_critic
from rlcore.training import control, judging
from rlcore.training import state as state_lib
from rlcore.types import Array, Experiment, Metrics, Rewards, RewardTransform, Trajectory


def make_experiment(config: ml_collections.ConfigDict) -> Experiment:
  """Composes TP-GRPO (or another arm) on the stack writer with an MLP policy."""
  # A seed draws the secrets as well as the weights; it may be a tracer.
  prompts = stack_writer.draw_prompts(jax.random.fold_in(jax.random.key(config.seed), 1), **config.prompts)
  size = dict(length=config.prompts.length, base=config.prompts.base)
  world = stack_writer.make_stack_writer(num_prompts=config.prompts.num_prompts, horizon=config.horizon, **size)
  model = judging.make_judge(config.judge, functools.partial(asking.judge_response, **size))
  label = (functools.partial(stack_writer.stack_labels, **size) if model is None else
           asking.make_labels(model, config.horizon, **size))
  parts = control.ControlParts(
      agent=actor_critic.make_actor_critic(world, critic=False),
      instances=lambda key: prompts,
      group_size=config.group_size,
      min_group_size=2,
      optimizer=state_lib.make_optimizer(config.lr, b2=0.999, max_grad_norm=None),
      reward_transform=judge(label, config.flip),
      advantage_estimator=functools.partial(
          thoughts, judged=config.judged, merge=config.merge, adaptive=config.adaptive),
      policy_loss=functools.partial(losses.clip_policy_loss, clip_low=config.clip, clip_high=config.clip),
      epochs=config.epochs,
      describe=functools.partial(describe, pop=config.prompts.base),
      warmup=control.CloneWarmup(
          config.clone.steps, state_lib.make_optimizer(config.clone.lr, b2=0.999, max_grad_norm=None),
          functools.partial(demonstrate, world, prompts, config.clone.episodes)))
  return control.make_control_experiment(parts)


def judge(label, flip: Array) -> RewardTransform:
  """Puts the labels of the steps, each flipped with probability `flip`, where process rewards go."""
  def apply(rewards, batch, key):
    labels = jax.vmap(label)(batch.action, batch.mask, rewards.outcome)
    own_key = jax.random.fold_in(key, jax.lax.axis_index(control.GROUPS))
    wrong = jax.random.bernoulli(own_key, flip, labels.shape)
    return rewards.replace(process=jnp.where(wrong, 1 - labels, labels)), jax.random.split(key, 1)[0]

  return RewardTransform(lambda key, example: key, apply)


def thoughts(rewards: Rewards, batch: Trajectory, *, judged: Array, merge: Array, adaptive: Array) -> Array:
  """Mixes the arms by their weights; with 0s and 1s it is one of them."""
  flags = rewards.process + (1 - judged)  # without a judge every step is good
  # Over the group's accuracy, so that a thought is worth 1. Without a correct response no thought is paid by it.
  fixed = 1 / jnp.maximum(reward_lib.capability_reward(rewards.outcome), 1 / rewards.outcome.size)
  by_thought = advantages.thought_advantage(flags, batch.mask, rewards.outcome, adaptive + (1 - adaptive) * fixed)
  by_step = advantages.step_level_advantage(flags, batch.mask, rewards.outcome)
  return merge * by_thought + (1 - merge) * by_step


def demonstrate(world, prompts, episodes: int, key: Array) -> Trajectory:
  """Plays the script on every prompt: `[P * episodes, T]` demonstrations."""
  def script(key, state, prompt):
    return jax.random.categorical(key, stack_writer.script_logits(state, prompt))

  keys = jax.random.split(key, (prompts.prompt.size, episodes))
  one = functools.partial(actor_critic.scripted_rollout, world, script)
  played = jax.vmap(jax.vmap(one, (0, None)))(keys, prompts)
  return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), played)


def describe(raw: Rewards, rewards: Rewards, episodes: Trajectory, credit: Array, *, pop: int) -> Metrics:
  """Counts pops, and measures both forms of credit on these episodes, whichever of them trains."""
  del credit
  metrics = {"pops": jnp.mean(jnp.sum((episodes.action == pop) & (episodes.mask > 0), -1).astype(jnp.float32))}
  for name, form in (("merged", advantages.thought_advantage), ("unmerged", advantages.step_level_advantage)):
    values = jax.vmap(form)(rewards.process, episodes.mask, raw.outcome)
    metrics |= {f"variance/{name}": stats.masked_var(values, episodes.mask),
                f"label_correlation/{name}": stats.pearson_correlation(values, rewards.process, episodes.mask)}
  return metrics
