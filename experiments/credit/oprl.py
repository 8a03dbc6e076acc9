"""OPRL / iStar: a process reward model that learns online from outcomes, for credit to single turns (arXiv:2509.19199).

`make_experiment` trains on the key corridor; policy and reward model move in the same jitted update, the model being
the state of a reward transform. Numbers of the config choose the arm, so all are one compiled program: `alpha=0` is
RLOO, `mean` scores a trajectory by the mean of its rewards instead of the sum, `pointwise` fits outcomes (as PRIME
does) instead of pairs, `shuffled` permutes the rewards inside each trajectory, `judge_noise` blurs the outcome.
"""

import functools

import jax
import jax.numpy as jnp
import ml_collections
import optax

from rlcore import advantages, losses, reward_models, stats
from rlcore import rewards as reward_lib
from rlcore.envs import key_corridor
from rlcore.policies import actor_critic
from rlcore.training import control
from rlcore.training import state as state_lib
from rlcore.types import Agent, Array, Experiment, Metrics, PyTree, Rewards, RewardTransform, Trajectory


def make_experiment(config: ml_collections.ConfigDict) -> Experiment:
  """Composes OPRL (or another arm) on the key corridor with two MLPs."""
  # A seed draws the tasks as well as the weights; it may be a tracer.
  tasks = key_corridor.draw_tasks(jax.random.fold_in(jax.random.key(config.seed), 1), **config.tasks)
  size = dict(num_tasks=config.tasks.num_tasks, turns=config.tasks.turns)
  agent = actor_critic.make_actor_critic(key_corridor.make_key_corridor(**size), critic=False, zero_policy=True)
  log_probs = lambda params, episode: agent.score(params, episode).log_probs

  def transform(init_params):
    model = reward_models.implicit_process_reward(
        log_probs, init_params, state_lib.make_optimizer(config.lr, b2=0.999, max_grad_norm=10.0),
        functools.partial(preference_loss, mean=config.mean, pointwise=config.pointwise), beta=config.beta,
        axis_name=control.GROUPS)
    return reward_lib.chain(blurred(config.judge_noise), model, shuffled(config.shuffled))

  parts = control.ControlParts(
      agent=agent,
      instances=lambda key: tasks,
      group_size=config.group_size,
      min_group_size=2,
      optimizer=state_lib.make_optimizer(config.lr, b2=0.999, max_grad_norm=None),
      reward_transform=transform(agent.init),
      reward_state=lambda key, params: transform(lambda _: params).init(key, None),  # the model starts as the policy
      advantage_estimator=lambda rewards, batch: advantages.oprl_advantage(
          rewards.outcome, rewards.process, batch.mask, config.alpha),
      policy_loss=functools.partial(losses.clip_policy_loss, clip_low=config.clip, clip_high=config.clip),
      epochs=config.epochs)
  experiment = control.make_control_experiment(parts)

  def update(state):
    """Also measures the credit of the model, on fresh episodes before they teach anybody."""
    after, metrics = experiment.update(state)
    episodes = control.play(parts, state.params, jax.random.fold_in(state.key, 1), tasks)
    return after, metrics | credit_quality(agent, log_probs, size, tasks, state, episodes)

  return experiment._replace(update=update)


def preference_loss(step_rewards: Array, mask: Array, outcome: Array, *, mean: Array, pointwise: Array) -> Array:
  """Mixes the losses of the arms by their weights; with 0s and 1s it is one of them."""
  pairs = [losses.trajectory_dpo_loss(step_rewards, mask, outcome, aggregate) for aggregate in ("sum", "mean")]
  scores = reward_lib.trajectory_scores(step_rewards, mask)
  fit = jnp.mean(optax.sigmoid_binary_cross_entropy(scores, jnp.clip(outcome, 0, 1)))
  return pointwise * fit + (1 - pointwise) * (mean * pairs[1] + (1 - mean) * pairs[0])


def blurred(noise: Array) -> RewardTransform:
  """Replaces the outcome by the score of a noisy judge."""
  def apply(rewards, batch, key):
    drawn = noise * jax.random.normal(_own(key), rewards.outcome.shape)
    return rewards.replace(outcome=rewards.outcome + drawn), jax.random.split(key, 1)[0]

  return RewardTransform(lambda key, example: key, apply)


def shuffled(weight: Array) -> RewardTransform:
  """Permutes the rewards over the steps of each trajectory: the same magnitudes, and no credit."""
  def permute(key, values, mask):
    drawn = jnp.argsort(jnp.where(mask > 0, jax.random.uniform(key, mask.shape), 2))  # counted steps, in random order
    return stats.masked(values[drawn[jnp.cumsum(mask > 0) - 1]], mask)

  def apply(rewards, batch, key):
    keys = jax.random.split(_own(key), batch.mask.shape[0])
    mixed = jax.vmap(permute)(keys, rewards.process, batch.mask)
    process = weight * mixed + (1 - weight) * rewards.process
    return rewards.replace(process=process), jax.random.split(key, 1)[0]

  return RewardTransform(lambda key, example: key, apply)


def _own(key: Array) -> Array:
  """A key of this group's own, from one that all groups share."""
  return jax.random.fold_in(key, jax.lax.axis_index(control.GROUPS))


def credit_quality(agent: Agent, log_probs, size: dict[str, int], tasks: key_corridor.CorridorTask, state: PyTree,
                   episodes: Trajectory) -> Metrics:
  """Correlates the model's step rewards with the exact change of the policy's success probability.

  Args:
    agent: the policy.
    log_probs: of the reward model.
    size: of the world.
    tasks: `[P]` instances.
    state: training state whose parameters played the episodes.
    episodes: `[P, G, T]`.

  Returns:
    `credit_rank`, Spearman's correlation over all steps; `score_rank`, over trajectories, of their total with the
    outcome.
  """
  model = state.reward_state[1].params

  def one(task, group):
    values = key_corridor.success_values(task, policy_table(agent, size, state.params, task))
    change = jax.vmap(key_corridor.success_change, (None, None, 0, 0, 0, 0))
    turns = jnp.arange(group.action.shape[1])
    change = jax.vmap(lambda e: change(values, task, turns, e.info["room"], e.info["keys"], e.action))(group)
    reward = jax.vmap(lambda e: stats.masked(log_probs(model, e) - e.log_prob_old, e.mask))(group)
    return change, reward

  change, reward = jax.vmap(one)(tasks, episodes)
  outcome = jnp.sum(episodes.reward_t, -1)
  return {
      "credit_rank": stats.spearman_correlation(reward.ravel(), change.ravel(), episodes.mask.ravel()),
      "score_rank": stats.spearman_correlation(jnp.sum(reward, -1).ravel(), outcome.ravel())}


def policy_table(agent: Agent, size: dict[str, int], params: PyTree, task: key_corridor.CorridorTask) -> Array:
  """Reads off the policy's probabilities `[S, rooms, M]` in one task."""
  rooms, num_actions = task.table.shape
  turn, room, action = (x.ravel() for x in jnp.meshgrid(
      jnp.arange(size["turns"]), jnp.arange(rooms), jnp.arange(num_actions), indexing="ij"))
  seen = jax.vmap(lambda t, r: key_corridor.observe(task.task, t, r, **size, rooms=rooms))(turn, room)
  zero = jnp.zeros(turn.shape)
  every = Trajectory(seen, action, zero, zero, zero, zero, zero, zero)
  return jnp.exp(agent.score(params, every).log_probs).reshape(size["turns"], rooms, num_actions)
