"""ONI: rewards for what a language model finds helpful in an agent's messages, learned while it trains (2410.23022).

PPO on streams in `envs.caption_quest`, paid by `training.message_rewards`. The arms differ in floats alone: the weights
of the three distillers, whether all labels are there from the start, and by which power repetitions pay less. The
annotator is a table inside the program, or `config.judge` chooses a language model, which is asked on the host while
training goes on.
"""

import functools

import jax.numpy as jnp
import ml_collections
import numpy as np

from rlcore import assistants, policies
from rlcore.assistants import caption_quest as asking
from rlcore.envs import caption_quest
from rlcore.training import annotating, judging, message_rewards, on_policy, on_policy_settings
from rlcore.training import state as state_lib
from rlcore.training.errors import RunError
from rlcore.types import Array, Experiment, Metrics, PyTree, Stream


def make_experiment(config: ml_collections.ConfigDict) -> Experiment:
  """Composes PPO with the arm's reward, and with a language model where `config.judge` wants one."""
  world = caption_quest.make_caption_quest(horizon=config.horizon, variants=config.wordings)
  judge = judging.make_judge(config.judge, functools.partial(stand_in, config), tolerant=True)
  reward = make_reward(config, inside=judge is None)
  experiment = on_policy.make_on_policy_experiment(on_policy.OnPolicyParts(
      world=world, policy=policies.make_stream_policy(world, hidden=config.hidden),
      instances=caption_quest.draw_caption_quest, instance_pool=config.pool,
      optimizer=state_lib.make_optimizer(config.lr, b2=0.999, max_grad_norm=0.5), num_worlds=config.num_worlds,
      num_steps=config.num_steps, gamma=config.gamma, reward=reward.stream_reward(),
      describe=functools.partial(describe, reward), **on_policy_settings.ppo(
          lam=config.lam, clip=config.clip, entropy_coef=config.entropy_coef, epochs=config.epochs,
          minibatches=config.minibatches)))
  return experiment if judge is None else ask_on_host(config, experiment, reward, judge)


def make_reward(config: ml_collections.ConfigDict, *, inside: bool = True) -> message_rewards.MessageReward:
  """Makes the arm's reward of captions; `inside` annotates in the program, by the stand-in."""
  settings = message_rewards.Settings(
      extrinsic_coef=config.extrinsic_coef, intrinsic_coef=config.intrinsic_coef, count_exponent=config.count_exponent,
      clip=config.clip_reward, class_threshold=config.class_threshold, rank_threshold=config.rank_threshold,
      lr=config.fit_lr, annotations=config.annotations, fit_steps=config.fit_steps, batch_size=config.fit_batch,
      max_pairs=config.max_pairs)
  truth = annotations(config)
  return message_rewards.MessageReward(
      caption_quest.captions(), len(caption_quest.WORDS), message_rewards.Weights(**config.weights), settings,
      truth=truth if inside else None, labels=jnp.where(jnp.asarray(config.all_labels) > 0, truth.labels, -1))


def annotations(config: ml_collections.ConfigDict) -> message_rewards.Truth:
  """Returns what the stand-in says of every caption; the numbers in the config may be traced."""
  table = lambda function: jnp.array([function(text) for text in caption_quest.caption_texts()])
  labels = jnp.where(jnp.asarray(config.see_key) > 0,
                     table(functools.partial(asking.label_caption, helpful=(*asking.PROGRESS, asking.SIGHT))),
                     table(asking.label_caption))
  wrong = table(asking.flip_draw) < config.flip
  return message_rewards.Truth(jnp.where(wrong, 1 - labels, labels), table(asking.progress))


def stand_in(config: ml_collections.ConfigDict, facts: str | tuple[str, str]) -> int:
  """Says the same as `annotations`, of one caption or a pair, in place of a language model."""
  if isinstance(facts, tuple):
    return asking.prefer_caption(facts)
  helpful = (*asking.PROGRESS, asking.SIGHT) if config.see_key > 0 else asking.PROGRESS
  return asking.label_caption(facts, config.flip, helpful)


def ask_on_host(config: ml_collections.ConfigDict, experiment: Experiment, reward: message_rewards.MessageReward,
                judge: assistants.Judge) -> Experiment:
  """Asks the judge, beside the training, what the arm's distiller learns from."""
  weights = config.weights
  if config.all_labels > 0:
    raise RunError("all_labels=1 means the labels of the stand-in: leave judge.kind=jitted")
  asks = lambda wanted, ask: assistants.judge_annotator(judge, ask) if wanted else None
  return annotating.with_annotator(
      experiment, reward, caption_quest.caption_texts(),
      label=asks(weights.retrieval or weights.classification, asking.ask_about_caption),
      prefer=asks(weights.ranking, asking.ask_about_pair), batch_size=config.annotations, capacity=config.queue)


def describe(reward: message_rewards.MessageReward, reward_state: PyTree, stream: Stream, paid: Array,
             advantages: Array) -> Metrics:
  """Reports how captions are paid, and how often the agent is beside the key."""
  del paid, advantages
  helpful = np.array([asking.label_caption(text) for text in caption_quest.caption_texts()]) > 0
  beside = stream.info["caption"] // caption_quest.VARIANTS == caption_quest.SEE_KEY
  return reward.describe(reward_state, helpful) | {"beside_key": jnp.mean(beside.astype(jnp.float32))}
