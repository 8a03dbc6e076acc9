"""Credit by comparison inside a group: the GRPO family is one function with settings."""

import jax
import jax.numpy as jnp

from rlcore import checks, stats
from rlcore.types import Array, Rewards, Rollouts

_CENTERS = ("mean", "leave_one_out", "median", "none")
_SCALES = ("std", "mad", "mean_abs", "none")


def group_advantage(
    rewards: Array, mask: Array | None = None, *, center: str = "mean", scale: str = "std", ddof: int = 1,
    eps: float = 1e-6, axis_name: stats.AxisName = None) -> Array:
  """Compares every reward with those of its group: `(reward - center) / (scale + eps)`.

  | system | center | scale | more |
  |---|---|---|---|
  | GRPO, SLATE (`step_group_advantage`) | mean | std | |
  | Dr. GRPO | mean | none | |
  | RLOO | leave_one_out | none | `G / (G - 1)` times Dr. GRPO |
  | REINFORCE++, whole responses | mean | std | `axis_name`: the statistics of the batch, not of the group; paper and |
  | | | | verl whiten TOKENS, see `reinforce_pp_returns` |
  | REINFORCE++-baseline | mean | none, then std | a second call with `axis_name` takes what the first one returns |
  | MAD, for outliers | median | mad | |
  | REINFORCE | none | none | |

  Where there is no spread (all counted rewards equal in float32, a single one, or `n <= ddof` with the std) every
  advantage is exactly 0; with `center="none"`, whose subject is not the group, it is the raw reward. A counted reward
  that is NaN makes every advantage of the group NaN.

  Args:
    rewards: `[G]`.
    mask: `[G]` or None, > 0 where a member exists; the others get 0 and count nowhere.
    center: static. "mean"; "leave_one_out", the mean of the other members; "median"; "none".
    scale: static, the spread of the rewards, whatever the center. "std", about the mean; "mad", the median distance
      from the median; "mean_abs", the mean distance from the median; "none". More than half of the rewards being equal
      (one success in eight) makes mad 0; there mean_abs stands in, otherwise the rest would be divided by eps.
    ddof: the std's divisor is `n - ddof`; 1 as in torch, and in the GRPO implementations built on it.
    eps: added to the scale (not to "none").
    axis_name: mapped axes whose members all form one group.

  Returns:
    `[G]` float32, 0 where `mask` is not set; no gradient flows.

  Raises:
    ValueError: for an unknown center or scale.

  Reference: GRPO, arXiv:2402.03300, sec. 4.1.2; Dr. GRPO, arXiv:2503.20783; RLOO, arXiv:2402.14740; REINFORCE++,
    arXiv:2501.03262; SLATE, arXiv:2602.23440.
  """
  if center not in _CENTERS or scale not in _SCALES:
    raise ValueError(f"center={center!r} must be one of {_CENTERS} and scale={scale!r} one of {_SCALES}")
  rewards = jax.lax.stop_gradient(jnp.asarray(rewards).astype(jnp.float32))
  checks.rank(1, rewards=rewards)
  checks.same_shape(rewards=rewards, mask=mask)
  keep = stats.as_mask(mask, rewards)
  rewards = stats.masked(rewards, keep)
  span = _spans(rewards, keep, axis_name)
  flat = span <= 0
  if scale == "std":
    flat |= (stats.masked_count(rewards, keep, axis_name=axis_name) <= ddof) & ~jnp.isnan(span)
  numerator = _from_center(rewards, keep, center, axis_name)
  divisor = _scale(rewards, keep, scale, ddof, axis_name) + eps if scale != "none" else 1.0
  without_spread = rewards if center == "none" else 0.0
  compared = jnp.where(jnp.isnan(span), jnp.nan, numerator / jnp.where(flat, 1.0, divisor))
  return stats.masked(jnp.where(flat, without_spread, compared), keep)


def step_group_advantage(rewards: Array, eps: float = 1e-6, mask: Array | None = None) -> Array:
  """Compares the candidates for ONE step with each other: `group_advantage` with the order of SLATE's arguments.

  Args:
    rewards: `[k]`, of the candidates that share a prefix.
    eps: added to the standard deviation (divisor k - 1).
    mask: `[k]` or None, > 0 where a candidate exists.

  Returns:
    `[k]` float32, 0 where `mask` is not set, for a single candidate and for equal rewards; no gradient flows.

  Reference: SLATE, arXiv:2602.23440 (step-level advantage).
  """
  return group_advantage(rewards, mask, eps=eps)


def broadcast_to_tokens(advantages: Array, mask: Array) -> Array:
  """Gives every counted token of a response the advantage of the response.

  Args:
    advantages: `[G]`.
    mask: `[G, T]`, > 0 where a token counts.

  Returns:
    `[G, T]` float32, 0 where `mask` is not set; no gradient flows.

  Reference: GRPO, arXiv:2402.03300, sec. 4.1.2 (outcome supervision).
  """
  advantages, mask = jax.lax.stop_gradient(jnp.asarray(advantages)), jnp.asarray(mask)
  checks.rank(1, advantages=advantages)
  checks.rank(2, mask=mask)
  checks.same_prefix(1, mask=mask, advantages=advantages)
  return stats.masked(jnp.broadcast_to(advantages[:, None], mask.shape), mask)


def degenerate_group(
    rewards: Array, mask: Array | None = None, tol: float = 0.0, *, axis_name: stats.AxisName = None) -> Array:
  """Says whether a group teaches a centred estimator nothing, because its rewards do not differ.

  Dynamic sampling drops such groups and draws new ones; keep the others by `~degenerate_group(...)`.

  Args:
    rewards: `[G]`.
    mask: `[G]` or None, > 0 where a member exists.
    tol: largest difference between two rewards that does not count as one.
    axis_name: mapped axes whose members all form one group.

  Returns:
    bool[], True where all counted rewards lie within `tol`, so also where at most one counts. A reward that is not a
    number makes it False.

  Reference: DAPO, arXiv:2503.14476, sec. 3.2 (dynamic sampling).
  """
  rewards = jax.lax.stop_gradient(jnp.asarray(rewards).astype(jnp.float32))
  checks.rank(1, rewards=rewards)
  checks.same_shape(rewards=rewards, mask=mask)
  return _spans(rewards, stats.as_mask(mask, rewards), axis_name) <= tol


def group_relative(rewards: Rewards, batch: Rollouts, **settings) -> Array:
  """Applies `group_advantage` to the records of one group; a `functools.partial` of it is an `AdvantageEstimator`.

  Token rewards reach such an estimator only through their sum over a response, which is added to its outcome.

  Args:
    rewards: `outcome` `[G]` and, where there are any, `process` `[G, T]` and `valid` `[G]` are used: a response that is
      not valid gets 0 and has no part in the statistics.
    batch: `mask` is used. A response without a counted token still counts in its group.
    **settings: keyword arguments of `group_advantage`, a `mask` `[G]` of its own among them.

  Returns:
    `[G, T]` float32, 0 where `batch.mask` is not set; no gradient flows.

  Reference: GRPO, arXiv:2402.03300, sec. 4.1.2.
  """
  settings = dict(mask=rewards.valid) | settings
  return broadcast_to_tokens(group_advantage(total_rewards(rewards, batch.mask), **settings), batch.mask)


def total_rewards(rewards: Rewards, mask: Array) -> Array:
  """Adds the counted process rewards of every response to its outcome; what a response as a whole has earned.

  Args:
    rewards: `outcome` `[G]` and, where there is one, `process` `[G, T]` are used.
    mask: `[G, T]`, > 0 where a token counts.

  Returns:
    `[G]` float32; no gradient flows.

  Reference: multi-turn guide, arXiv:2510.01132, sec. 3 (RLOO and GRPO see dense rewards through their sum only).
  """
  outcome, process = jax.lax.stop_gradient((rewards.outcome, rewards.process))
  outcome, mask = jnp.asarray(outcome, jnp.float32), jnp.asarray(mask)
  checks.rank(1, **{"rewards.outcome": outcome})
  checks.rank(2, mask=mask)
  checks.same_prefix(1, **{"mask": mask, "rewards.outcome": outcome})
  checks.same_shape(**{"mask": mask, "rewards.process": process})
  return outcome if process is None else outcome + stats.masked_sum(process, mask, axis=1)


def trajectory_rloo(token_rewards: Array, mask: Array) -> Array:
  """Compares the returns of whole trajectories, leaving one out: when a reward fell makes no difference.

  This is `group_advantage(center="leave_one_out", scale="none")` of the sums of the rewards on counted tokens, except
  that a group of one, which has nobody to be compared with, keeps its return.

  Args:
    token_rewards: `[G, T]`.
    mask: `[G, T]`, > 0 where a token counts. A trajectory without any has return 0 and stays in the others' mean.

  Returns:
    `[G, T]` float32, 0 where `mask` is not set; no gradient flows.

  Reference: RLOO, arXiv:2402.14740, in the multi-turn form of arXiv:2510.01132.
  """
  token_rewards, mask = jnp.asarray(token_rewards), jnp.asarray(mask)
  checks.rank(2, token_rewards=token_rewards)
  checks.same_shape(token_rewards=token_rewards, mask=mask)
  returns = stats.masked_sum(token_rewards, mask, axis=1)
  center = "leave_one_out" if len(returns) > 1 else "none"
  return broadcast_to_tokens(group_advantage(returns, center=center, scale="none"), mask)


def _from_center(rewards: Array, keep: Array, center: str, axis_name: stats.AxisName) -> Array:
  if center == "none":
    return rewards
  if center == "median":
    return rewards - _median(rewards, keep, axis_name)
  deviation = stats.centred(rewards, keep, axis_name=axis_name)
  if center == "mean":
    return deviation
  count = stats.masked_count(rewards, keep, axis_name=axis_name)
  return deviation * count / jnp.maximum(count - 1, 1)


def _scale(rewards: Array, keep: Array, scale: str, ddof: int, axis_name: stats.AxisName) -> Array:
  if scale == "std":
    return stats.masked_std(rewards, keep, ddof=ddof, axis_name=axis_name)
  distance = jnp.abs(rewards - _median(rewards, keep, axis_name))
  mean_abs = stats.masked_mean(distance, keep, axis_name=axis_name)
  if scale == "mean_abs":
    return mean_abs
  mad = _median(distance, keep, axis_name)
  return jnp.where(mad > 0, mad, mean_abs)


def _median(values: Array, keep: Array, axis_name: stats.AxisName) -> Array:
  """Median of the counted values, the middle between two where their number is even; 0 if none counts."""
  ordered = jnp.where(keep, values, jnp.inf)
  if not ordered.size:
    return jnp.zeros((), jnp.float32)
  if axis_name is not None:
    ordered = jax.lax.all_gather(ordered, axis_name, tiled=True)
  ordered = jnp.sort(ordered)
  count = stats.masked_count(values, keep, axis_name=axis_name).astype(jnp.int32)
  low, high = ordered[jnp.maximum(count - 1, 0) // 2], ordered[count // 2]
  return jnp.where(count > 0, low + (high - low) / 2, 0)  # a NaN sorts last: the caller looks for it


def _spans(rewards: Array, keep: Array, axis_name: stats.AxisName) -> Array:
  """Largest minus smallest counted reward, -inf if none counts, NaN if one of them is."""
  high = jnp.max(jnp.where(keep, rewards, -jnp.inf), initial=-jnp.inf)
  low = jnp.min(jnp.where(keep, rewards, jnp.inf), initial=jnp.inf)
  if axis_name is not None:
    high, low = jax.lax.pmax(high, axis_name), jax.lax.pmin(low, axis_name)
  return high - low
