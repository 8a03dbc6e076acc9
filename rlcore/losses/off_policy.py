"""Targets and losses of learning from replayed steps: double Q-learning, DDPG, TD3, SAC.

All take a batch of T independent steps, several critics along the last axis, and a mask of what counts.
"""

import jax
import jax.numpy as jnp

from rlcore import checks, stats
from rlcore.losses import value
from rlcore.types import Array


def double_q_target(rewards: Array, choosing_q: Array, next_q: Array, discounts: Array, mask: Array) -> Array:
  """Computes the targets of double Q-learning: one network chooses the next action, another one says its value.

  Args:
    rewards: `[T]`.
    choosing_q: `[T, A]`, of the network that is trained, after step t; a row is not read where the discount is 0.
    next_q: `[T, A]`, of the target network after step t; a row is not read where the discount is 0.
    discounts: `[T]`, gamma, or 0 where the episode terminates.
    mask: `[T]`, > 0 where a step counts.

  Returns:
    `[T]` float32, 0 where `mask` is not set; no gradient flows.

  Reference: Double DQN, arXiv:1509.06461.
  """
  choosing_q, next_q, discounts = map(jnp.asarray, (choosing_q, next_q, discounts))
  checks.rank(2, choosing_q=choosing_q)
  checks.same_shape(choosing_q=choosing_q, next_q=next_q)
  checks.nonempty(1, choosing_q=choosing_q)
  best = jnp.argmax(choosing_q, 1)[:, None]
  return value.greedy_td_target(rewards, jnp.take_along_axis(next_q, best, 1), discounts, mask)


def td3_target(rewards: Array, next_q: Array, discounts: Array, mask: Array) -> Array:
  """Computes `r_t + d_t min_c next_q[t, c]`: what the most cautious of the critics expects.

  One critic gives the target of DDPG.

  Args:
    rewards: `[T]`.
    next_q: `[T, C]`, of the target critics for the target policy's next action; a row is not read where the discount
      is 0.
    discounts: `[T]`, gamma, or 0 where the episode terminates.
    mask: `[T]`, > 0 where a step counts.

  Returns:
    `[T]` float32, 0 where `mask` is not set; no gradient flows.

  Reference: TD3, arXiv:1802.09477, eq. 10.
  """
  return sac_target(rewards, next_q, jnp.zeros_like(jnp.asarray(rewards)), 0.0, discounts, mask)


def sac_target(
    rewards: Array, next_q: Array, next_log_probs: Array, temperature: Array | float, discounts: Array,
    mask: Array) -> Array:
  """Computes `r_t + d_t (min_c next_q[t, c] - temperature * next_log_probs[t])`, the soft value of what comes next.

  Args:
    rewards: `[T]`.
    next_q: `[T, C]`, of the target critics for an action that the policy draws after step t; a row is not read where
      the discount is 0.
    next_log_probs: `[T]`, of these actions; not read where the discount is 0.
    temperature: `[]`.
    discounts: `[T]`, gamma, or 0 where the episode terminates.
    mask: `[T]`, > 0 where a step counts.

  Returns:
    `[T]` float32, 0 where `mask` is not set; no gradient flows.

  Reference: SAC, arXiv:1812.05905, eq. 3 and 5.
  """
  rewards, next_q, next_log_probs, discounts, mask = map(
      jnp.asarray, (rewards, next_q, next_log_probs, discounts, mask))
  checks.rank(2, next_q=next_q)
  checks.rank(1, rewards=rewards)
  checks.same_shape(rewards=rewards, next_log_probs=next_log_probs, discounts=discounts, mask=mask)
  checks.same_prefix(1, rewards=rewards, next_q=next_q)
  checks.nonempty(1, next_q=next_q)
  discounts = stats.masked(discounts, mask)
  worst = jnp.min(stats.masked(next_q, discounts[:, None]), 1)
  temperature = jnp.asarray(temperature).astype(jnp.float32)
  soft = worst - temperature * stats.masked(next_log_probs, discounts)
  return jax.lax.stop_gradient(stats.masked(rewards, mask) + discounts * soft)


def critics_loss(q: Array, targets: Array, mask: Array) -> Array:
  """Averages half the squared distance from the targets over the steps, and sums it over the critics.

  Args:
    q: `[T, C]`, of the critics that are trained, for the actions taken.
    targets: `[T]`, the same for all critics; constants.
    mask: `[T]`, > 0 where a step counts.

  Returns:
    float32 scalar, 0 where nothing counts; differentiable in `q`.

  Reference: TD3, arXiv:1802.09477; SAC, arXiv:1812.05905, eq. 5.
  """
  q, targets, mask = map(jnp.asarray, (q, targets, mask))
  checks.rank(2, q=q)
  checks.rank(1, targets=targets)
  checks.same_shape(targets=targets, mask=mask)
  checks.same_prefix(1, targets=targets, q=q)
  error = stats.masked(q, mask[:, None]) - jax.lax.stop_gradient(stats.masked(targets, mask))[:, None]
  return stats.masked_mean(jnp.sum(jnp.square(error), 1) / 2, mask)


def deterministic_policy_loss(q: Array, mask: Array) -> Array:
  """Averages the negative value of the policy's own actions.

  Args:
    q: `[T]`, of a critic for the policy's actions, through which the gradient reaches the policy.
    mask: `[T]`, > 0 where a step counts.

  Returns:
    float32 scalar, 0 where nothing counts; differentiable in `q`.

  Reference: DDPG, arXiv:1509.02971, eq. 6.
  """
  q, mask = map(jnp.asarray, (q, mask))
  checks.rank(1, q=q)
  checks.same_shape(q=q, mask=mask)
  return -stats.masked_mean(q, mask)


def sac_policy_loss(log_probs: Array, q: Array, temperature: Array | float, mask: Array) -> Array:
  """Averages `temperature * log_probs[t] - min_c q[t, c]` of actions that the policy has drawn.

  Args:
    log_probs: `[T]`, of the drawn actions, which depend on the policy through the noise (reparametrised).
    q: `[T, C]`, of the critics for these actions.
    temperature: `[]`, a constant.
    mask: `[T]`, > 0 where a step counts.

  Returns:
    float32 scalar, 0 where nothing counts; differentiable in `log_probs` and `q`.

  Reference: SAC, arXiv:1812.05905, eq. 9.
  """
  log_probs, q, mask = map(jnp.asarray, (log_probs, q, mask))
  checks.rank(2, q=q)
  checks.rank(1, log_probs=log_probs)
  checks.same_shape(log_probs=log_probs, mask=mask)
  checks.same_prefix(1, log_probs=log_probs, q=q)
  checks.nonempty(1, q=q)
  temperature = jax.lax.stop_gradient(jnp.asarray(temperature).astype(jnp.float32))
  worst = jnp.min(stats.masked(q, mask[:, None]), 1)
  return stats.masked_mean(temperature * stats.masked(log_probs, mask) - worst, mask)


def temperature_loss(log_temperature: Array, log_probs: Array, target_entropy: Array | float, mask: Array) -> Array:
  """Raises the temperature where the policy has less entropy than wanted, and lowers it where it has more.

  Args:
    log_temperature: `[]`.
    log_probs: `[T]`, of actions that the policy has drawn; constants.
    target_entropy: `[]`, in nats; minus the number of dimensions of the action is usual. A constant.
    mask: `[T]`, > 0 where a step counts.

  Returns:
    float32 scalar, 0 where nothing counts; differentiable in `log_temperature`.

  Reference: SAC, arXiv:1812.05905, eq. 18.
  """
  log_temperature, log_probs, target_entropy, mask = map(
      jnp.asarray, (log_temperature, log_probs, target_entropy, mask))
  checks.rank(0, log_temperature=log_temperature, target_entropy=target_entropy)
  checks.rank(1, log_probs=log_probs)
  checks.same_shape(log_probs=log_probs, mask=mask)
  gap = stats.masked(log_probs, mask) + target_entropy.astype(jnp.float32)
  return -jnp.exp(log_temperature.astype(jnp.float32)) * jax.lax.stop_gradient(stats.masked_mean(gap, mask))
