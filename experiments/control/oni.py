"""ONI: rewards for what a language model finds helpful in an agent's messages, learned while it trains (2410.23022).

PPO on streams in `envs.caption_quest`, paid by `training.message_rewards`. The arms differ in floats alone: the weights
of the three distillers, whether all labels are there from the start, and by which power repetitions pay less. The
annotator is a table inside the program, or `config.annotator` chooses a language model, which is asked on the host while
training goes on.
"""

import functools

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from rlcore import policies
from rlcore.assistants import caption_quest as asking
from rlcore.envs import caption_quest
from rlcore.training import message_rewards, on_policy, on_policy_settings
from rlcore.training import state as state_lib
from rlcore.types import Array, Experiment, Metrics, PyTree, Stream


def make_experiment(config: ml_collections.ConfigDict) -> Experiment:
  """Composes PPO with the arm's reward."""
  world = caption_quest.make_caption_quest(horizon=config.horizon, variants=config.wordings)
  truth = annotations(config)
  reward = make_reward(config, truth)
  return on_policy.make_on_policy_experiment(on_policy.OnPolicyParts(
      world=world, policy=policies.make_stream_policy(world, hidden=config.hidden),
      instances=caption_quest.draw_caption_quest, instance_pool=config.pool,
      optimizer=state_lib.make_optimizer(config.lr, b2=0.999, max_grad_norm=0.5), num_worlds=config.num_worlds,
      num_steps=config.num_steps, gamma=config.gamma, reward=reward.stream_reward(),
      describe=functools.partial(describe, reward), **on_policy_settings.ppo(
          lam=config.lam, clip=config.clip, entropy_coef=config.entropy_coef, epochs=config.epochs,
          minibatches=config.minibatches)))


def annotations(config: ml_collections.ConfigDict) -> message_rewards.Truth:
  """Returns what the stand-in says of every caption."""
  texts = caption_quest.caption_texts()
  table = lambda function: jnp.array([function(text) for text in texts])
  labels = jnp.where(jnp.asarray(config.see_key) > 0,
                     table(functools.partial(asking.label_caption, helpful=(*asking.PROGRESS, asking.SIGHT))),
                     table(asking.label_caption))
  wrong = table(asking.flip_draw) < config.flip
  return message_rewards.Truth(jnp.where(wrong, 1 - labels, labels), table(asking.progress))


def make_reward(config: ml_collections.ConfigDict, truth: message_rewards.Truth) -> message_rewards.MessageReward:
  """Makes the arm's reward of captions."""
  settings = message_rewards.Settings(
      extrinsic_coef=config.extrinsic_coef, intrinsic_coef=config.intrinsic_coef, count_exponent=config.count_exponent,
      clip=config.clip_reward, class_threshold=config.class_threshold, rank_threshold=config.rank_threshold,
      lr=config.fit_lr, annotations=config.annotations, fit_steps=config.fit_steps, batch_size=config.fit_batch)
  return message_rewards.MessageReward(
      caption_quest.captions(), len(caption_quest.WORDS), message_rewards.Weights(**config.weights), settings,
      truth=truth, labels=jnp.where(jnp.asarray(config.all_labels) > 0, truth.labels, -1))


def describe(reward: message_rewards.MessageReward, reward_state: PyTree, stream: Stream, paid: Array,
             advantages: Array) -> Metrics:
  """Reports how captions are paid, and how often the agent is beside the key."""
  del paid, advantages
  helpful = np.array([asking.label_caption(text) for text in caption_quest.caption_texts()]) > 0
  beside = stream.info["caption"] // caption_quest.VARIANTS == caption_quest.SEE_KEY
  return reward.describe(reward_state, helpful) | {"beside_key": jnp.mean(beside.astype(jnp.float32))}
