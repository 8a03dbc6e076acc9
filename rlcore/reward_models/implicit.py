"""An implicit process reward model that learns inside the training loop, from the outcomes of its own rollouts."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from rlcore import rewards as reward_lib
from rlcore import stats
from rlcore.reward_models import learner
from rlcore.types import Array, PyTree, RewardTransform, Trajectory


def implicit_process_reward(
    log_probs: Callable[[PyTree, Trajectory], Array],
    init_params: Callable[[Array], PyTree],
    optimizer: optax.GradientTransformation,
    loss: Callable[[Array, Array, Array], Array],
    *,
    beta: float = 0.05,
    axis_name: stats.AxisName = None,
) -> RewardTransform:
  """Makes a transform that fills in the process rewards and trains the model that gives them.

  The reward of an action is `beta` times the log-ratio of the model to the policy that acted, scaled to [-1, 1] over
  the batch. `apply` first scores the episodes with the model as it is, then takes one gradient step on their outcomes:
  the rewards never come from a model that has seen the outcomes of these episodes. A gradient that is not finite leaves
  the model as it was. Every action is a step.

  Args:
    log_probs: `(params, Trajectory of [T]) -> [T]`, differentiable; an agent's `score` will do.
    init_params: `(key) -> params`; a copy of the policy's makes all first rewards 0.
    optimizer: of the model.
    loss: `(step_rewards [G, T], mask [G, T], outcome [G]) -> []` of one group, such as `losses.trajectory_dpo_loss`; it
      sees the rewards as they are, not scaled.
    beta: reward of one nat.
    axis_name: mapped axes over the groups of a batch; gradients are averaged over them, the scale spans them.

  Returns:
    The transform; its state is a `LearnerState`.

  Reference: OPRL / iStar, arXiv:2509.19199, sec. 3.
  """
  def init(key, example):
    del example
    return learner.start(init_params(key), optimizer)

  def apply(rewards, batch, state):
    steps = jnp.arange(batch.mask.shape[1])
    shown = learner.without_junk(batch)

    def loss_and_rewards(params):
      def one(episode):
        return reward_lib.implicit_step_rewards(
            log_probs(params, episode), episode.log_prob_old, steps, episode.mask, steps.size, beta)
      step_rewards = jax.vmap(one)(shown)
      return loss(step_rewards, batch.mask, rewards.outcome), step_rewards

    state, step_rewards, _ = learner.guarded_step(loss_and_rewards, optimizer, state, axis_name=axis_name)
    process = reward_lib.normalize_step_rewards(step_rewards, batch.mask, axis_name=axis_name)
    return rewards.replace(process=process), state

  return RewardTransform(init, apply)
