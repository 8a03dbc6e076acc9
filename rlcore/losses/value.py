"""Losses of a value function, and the targets of Q-learning."""

import jax
import jax.numpy as jnp

from rlcore import checks, stats
from rlcore.losses.aggregate import Aggregation, aggregate
from rlcore.stats import AxisName
from rlcore.types import Array, Metrics


def value_loss(
    values: Array,
    targets: Array,
    mask: Array,
    values_old: Array | None = None,
    *,
    clip: float | Array = 0.2,
    huber_delta: float | Array | None = None,
    aggregation: Aggregation = "token",
    length: float | Array | None = None,
    count_empty: bool = True,
    axis_name: AxisName = None,
) -> tuple[Array, Metrics]:
  """Penalises the distance of predicted values from their targets.

  Special cases: half the squared error (the default); PPO's clipped value loss (give `values_old`): the larger of the
  error of the value and of the value moved no further than `clip` from the old one; Huber (`huber_delta`): quadratic up
  to `huber_delta`, linear beyond. Clip and Huber combine.

  Args:
    values: `[N, T]`, predicted values.
    targets: `[N, T]`, returns to predict; constants.
    mask: `[N, T]`, 1 where a step counts.
    values_old: `[N, T]`, the values when the batch was sampled, or None for no clipping; constants.
    clip: largest move that pays, in units of value; read only with `values_old`.
    huber_delta: error at which the loss turns linear, or None (static).
    aggregation: `mode` of `losses.aggregate`.
    length: as in `losses.aggregate`.
    count_empty: as in `losses.aggregate`.
    axis_name: mapped axis over which the sequences are spread.

  Returns:
    `(loss, metrics)`: a float32 scalar, 0 where nothing counts, and the token means `value_error` (absolute error) and
    `value_clip_fraction` (share where the clipped error is the larger one, so that the gradient is 0).

  Reference: PPO, arXiv:1707.06347, whose official code has the clip (the paper does not state it); P. Huber, Robust
  Estimation of a Location Parameter (1964), for `huber_delta`.
  """
  values, targets, mask = map(jnp.asarray, (values, targets, mask))
  checks.rank(2, values=values)
  checks.same_shape(values=values, targets=targets, mask=mask, values_old=values_old)
  checks.at_least(0, clip=clip)
  checks.above(0, huber_delta=huber_delta)
  values = stats.masked(values, mask)
  targets = jax.lax.stop_gradient(stats.masked(targets, mask))
  error = values - targets
  losses, clipped = _penalty(error, huber_delta), jnp.zeros_like(error)
  if values_old is not None:
    old = jax.lax.stop_gradient(stats.masked(values_old, mask))
    near = _penalty(old + jnp.clip(values - old, -clip, clip) - targets, huber_delta)
    # Within the clip both are the same up to rounding: the gradient must not hang on that.
    active = ((jnp.abs(values - old) > clip) & (near > losses)) | jnp.isnan(near)
    losses, clipped = jnp.where(active, near, losses), active.astype(jnp.float32)
  mean = lambda x: stats.masked_mean(x, mask, axis_name=axis_name)
  metrics = {"value_clip_fraction": mean(clipped), "value_error": mean(jnp.abs(error))}
  loss = aggregate(losses, mask, mode=aggregation, length=length, count_empty=count_empty, axis_name=axis_name)
  return loss, jax.lax.stop_gradient(metrics)


def greedy_td_target(rewards: Array, next_q: Array, discounts: Array, mask: Array) -> Array:
  """Computes the targets of Q-learning, `r_t + d_t max_a next_q[t, a]`.

  Args:
    rewards: `[T]`.
    next_q: `[T, A]`, of a target network after step t; a row is not read where the discount is 0.
    discounts: `[T]`, see `advantages.hierarchical_discount`.
    mask: `[T]`, > 0 where a step counts.

  Returns:
    `[T]` float32, 0 where `mask` is not set; no gradient flows.

  Reference: DQN, arXiv:1312.5602, eq. 2; on streams of episodes: arXiv:2508.01287.
  """
  rewards, next_q, discounts, mask = map(jnp.asarray, (rewards, next_q, discounts, mask))
  checks.rank(2, next_q=next_q)
  checks.rank(1, rewards=rewards)
  checks.same_shape(rewards=rewards, discounts=discounts, mask=mask)
  checks.same_prefix(1, rewards=rewards, next_q=next_q)
  checks.nonempty(1, next_q=next_q)
  discounts = stats.masked(discounts, mask)
  best = jnp.max(stats.masked(next_q, discounts[:, None]), 1)
  return jax.lax.stop_gradient(stats.masked(rewards, mask) + discounts * best)


def dqn_loss(q: Array, actions: Array, targets: Array, mask: Array) -> Array:
  """Averages half the squared distance of the values of the actions taken from their targets.

  Args:
    q: `[T, A]`, of the network that is trained.
    actions: `[T]` int32; one outside of [0, A) in a counted step makes the loss NaN.
    targets: `[T]`, from `greedy_td_target`; constants.
    mask: `[T]`, > 0 where a step counts.

  Returns:
    float32 scalar, 0 where nothing counts; differentiable in `q`.

  Reference: DQN, arXiv:1312.5602, eq. 2.
  """
  q, actions, targets, mask = map(jnp.asarray, (q, actions, targets, mask))
  checks.rank(2, q=q)
  checks.rank(1, actions=actions)
  checks.integers(actions=actions)
  checks.same_shape(actions=actions, targets=targets, mask=mask)
  checks.same_prefix(1, actions=actions, q=q)
  counted = mask > 0
  actions = jnp.where(counted & (actions < 0), q.shape[1], jnp.where(counted, actions, 0))  # negative ones would wrap
  chosen = jnp.take_along_axis(q, actions[:, None], 1, mode="fill", fill_value=jnp.nan)
  return value_loss(chosen.T, targets[None], counted[None])[0]


def _penalty(error: Array, huber_delta: float | Array | None) -> Array:
  if huber_delta is None:
    return jnp.square(error) / 2
  inner = jnp.clip(error, -huber_delta, huber_delta)
  return inner * (error - inner / 2)
