"""An implicit process reward model that learns inside the training loop, from the outcomes of its own rollouts."""

from collections.abc import Callable

from flax import struct
import jax
import jax.numpy as jnp
import optax

from rlcore import rewards as reward_lib
from rlcore import stats
from rlcore.types import Array, PyTree, RewardTransform, Trajectory


@struct.dataclass
class ImplicitState:
  """The reward model: its parameters `params` and the state `opt_state` of their optimiser."""

  params: PyTree
  opt_state: PyTree


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
    The transform; its state is an `ImplicitState`.

  Reference: OPRL / iStar, arXiv:2509.19199, sec. 3.
  """
  def init(key, example):
    del example
    params = init_params(key)
    return ImplicitState(params, optimizer.init(params))

  def apply(rewards, batch, state):
    steps = jnp.arange(batch.mask.shape[1])

    def loss_and_rewards(params):
      def one(episode):
        return reward_lib.implicit_step_rewards(
            log_probs(params, episode), episode.log_prob_old, steps, episode.mask, steps.size, beta)
      step_rewards = jax.vmap(one)(batch)
      return loss(step_rewards, batch.mask, rewards.outcome), step_rewards

    (_, step_rewards), gradient = jax.value_and_grad(loss_and_rewards, has_aux=True)(state.params)
    if axis_name is not None:
      gradient = jax.lax.pmean(gradient, axis_name)
    updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
    after = ImplicitState(optax.apply_updates(state.params, updates), opt_state)
    finite = jnp.isfinite(optax.global_norm(gradient))
    state = jax.tree.map(lambda new, old: jnp.where(finite, new, old), after, state)
    process = reward_lib.normalize_step_rewards(step_rewards, batch.mask, axis_name=axis_name)
    return rewards.replace(process=process), state

  return RewardTransform(init, apply)
