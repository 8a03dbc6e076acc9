"""Losses that learn from demonstrations."""

import jax
import jax.numpy as jnp

from rlcore import checks, stats
from rlcore.losses.importance import LEAST_LOG_PROB
from rlcore.stats import AxisName
from rlcore.types import Array


def asaf_log_discriminator(new_log_probs: Array, old_log_probs: Array, mask: Array) -> tuple[Array, Array]:
  """Tells an expert's window from one of the generator's by two policies, `D = P_new / (P_new + P_old)`.

  P is the product over the counted steps of the probability of the action; how the world moves cancels.

  Args:
    new_log_probs: `[T]`, of the actions under the policy that is trained; differentiable.
    old_log_probs: `[T]`, under the frozen policy that generated the learner's data; constants.
    mask: `[T]`, > 0 where a step counts.

  Returns:
    `(log D, log(1 - D))`, float32 scalars; log 0.5 both if no step counts. Probabilities of 0 (-inf) stay finite.

  Reference: ASAF, arXiv:2006.13258.
  """
  new_log_probs, old_log_probs, mask = map(jnp.asarray, (new_log_probs, old_log_probs, mask))
  checks.rank(1, new_log_probs=new_log_probs)
  checks.same_shape(new_log_probs=new_log_probs, old_log_probs=old_log_probs, mask=mask)
  total = lambda x: jnp.sum(jnp.maximum(stats.masked(x, mask), LEAST_LOG_PROB))
  log_ratio = total(new_log_probs) - jax.lax.stop_gradient(total(old_log_probs))
  return jax.nn.log_sigmoid(log_ratio), jax.nn.log_sigmoid(-log_ratio)


def asaf_loss(
    expert_new: Array, expert_old: Array, expert_mask: Array, learner_new: Array, learner_old: Array,
    learner_mask: Array, *, axis_name: AxisName = None) -> Array:
  """Trains the policy as a part of its own discriminator: `-log D` of expert windows, `-log(1 - D)` of learner ones.

  A window is a whole trajectory, a piece of one (`segments.split_windows`) or a single transition (ASAF-1).

  Args:
    expert_new: `[N, T]`, log-probabilities of the expert's actions under the policy that is trained.
    expert_old: `[N, T]`, under the frozen generator, set once for all epochs of a round; constants.
    expert_mask: `[N, T]`, > 0 where a step counts.
    learner_new: `[M, U]`, as `expert_new`, of the generator's own actions.
    learner_old: `[M, U]`.
    learner_mask: `[M, U]`.
    axis_name: mapped axes over which the windows are spread.

  Returns:
    float32 scalar, ONE mean over all windows with a counted step; 0 without any.

  Reference: ASAF, arXiv:2006.13258.
  """
  expert = tuple(map(jnp.asarray, (expert_new, expert_old, expert_mask)))
  learner = tuple(map(jnp.asarray, (learner_new, learner_old, learner_mask)))
  checks.rank(2, expert_new=expert[0], learner_new=learner[0])
  checks.same_shape(expert_new=expert[0], expert_old=expert[1], expert_mask=expert[2])
  checks.same_shape(learner_new=learner[0], learner_old=learner[1], learner_mask=learner[2])
  discriminate = jax.vmap(asaf_log_discriminator)
  windows = jnp.concatenate([-discriminate(*expert)[0], -discriminate(*learner)[1]])
  exists = jnp.concatenate([jnp.any(mask > 0, 1) for mask in (expert[2], learner[2])])
  return stats.masked_mean(windows, exists, axis_name=axis_name)


def behaviour_cloning_loss(log_probs: Array, mask: Array, *, axis_name: AxisName = None) -> Array:
  """Averages the negative log-probability of demonstrated actions. Also known as: BC, maximum likelihood.

  Args:
    log_probs: `[T]`, of the expert's actions under the policy that is trained; differentiable.
    mask: `[T]`, > 0 where a step counts.
    axis_name: mapped axes over which the steps are spread.

  Returns:
    float32 scalar, 0 if no step counts.

  Reference: Pomerleau, Efficient training of artificial neural networks for autonomous navigation (1991).
  """
  log_probs, mask = map(jnp.asarray, (log_probs, mask))
  checks.rank(1, log_probs=log_probs)
  checks.same_shape(log_probs=log_probs, mask=mask)
  return -stats.masked_mean(log_probs, mask, axis_name=axis_name)


def gail_discriminator_loss(
    expert_logits: Array, expert_mask: Array, learner_logits: Array, learner_mask: Array, *,
    axis_name: AxisName = None) -> Array:
  """Teaches a discriminator the expert's steps from the learner's: mean of `-log D` plus mean of `-log(1 - D)`.

  D = sigmoid(logit) is the probability that a step is the EXPERT's (the paper's D is the learner's). Each side has a
  mean of its own, so that it does not matter how many steps there are of either.

  Args:
    expert_logits: `[N]`, of the expert's steps; differentiable.
    expert_mask: `[N]`, > 0 where a step counts.
    learner_logits: `[M]`, of the learner's steps; differentiable.
    learner_mask: `[M]`.
    axis_name: mapped axes over which the steps are spread.

  Returns:
    float32 scalar; a side without any step adds 0.

  Reference: GAIL, arXiv:1606.03476, algorithm 1.
  """
  expert_logits, expert_mask, learner_logits, learner_mask = map(
      jnp.asarray, (expert_logits, expert_mask, learner_logits, learner_mask))
  checks.rank(1, expert_logits=expert_logits, learner_logits=learner_logits)
  checks.same_shape(expert_logits=expert_logits, expert_mask=expert_mask)
  checks.same_shape(learner_logits=learner_logits, learner_mask=learner_mask)
  surprise = lambda logits, mask: stats.masked_mean(
      jax.nn.softplus(-stats.masked(logits, mask)), mask, axis_name=axis_name)
  return surprise(expert_logits, expert_mask) + surprise(-learner_logits, learner_mask)
