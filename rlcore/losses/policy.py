"""The clip family: policy losses of sampled tokens, from arrays to a scalar.

Everything is to be MINIMISED. Advantages, old log-probabilities and weights are constants.
"""

import jax
import jax.numpy as jnp

from rlcore import checks, stats
from rlcore.losses import divergences
from rlcore.losses.aggregate import Aggregation, aggregate
from rlcore.losses.divergences import KLEstimator
from rlcore.losses.importance import importance_ratio, LEAST_LOG_PROB, Limits, LOG_RATIO_LIMITS, Ratio
from rlcore.stats import AxisName
from rlcore.types import Array, Metrics, Rollouts


def clipped_surrogate(
    ratio: Array,
    advantages: Array,
    *,
    clip_low: float | Array = 0.2,
    clip_high: float | Array | None = 0.28,
    dual_clip: float | Array | None = None,
) -> Array:
  """Computes min(ratio * A, clip(ratio, 1 - clip_low, 1 + clip_high) * A) elementwise, to be MAXIMISED.

  Where the clip acts the gradient is 0; on a bound itself it is not clipped. For negative A the minimum leaves a large
  ratio unbounded; `dual_clip` bounds it.

  Args:
    ratio: `[...]`, importance ratios.
    advantages: `[...]`, constants.
    clip_low: distance of the lower bound from 1.
    clip_high: distance of the upper bound from 1; None takes `clip_low` (PPO).
    dual_clip: largest ratio where A < 0, above 1; None for no such bound.

  Returns:
    `[...]` float32.

  Raises:
    ValueError: if `clip_low` or `clip_high` is a number below 0, or `dual_clip` one that is not above 1.

  Reference: PPO, arXiv:1707.06347, eq. 7; DAPO, arXiv:2503.14476, eq. 10 (clip-higher); dual-clip PPO,
  arXiv:1912.09729.
  """
  ratio = jnp.asarray(ratio, jnp.float32)
  advantages = jax.lax.stop_gradient(jnp.asarray(advantages, jnp.float32))
  checks.same_shape(ratio=ratio, advantages=advantages)
  low, high, cap = _bounds(clip_low, clip_high, dual_clip)
  upper = jnp.where(advantages > 0, high, jnp.where(advantages < 0, cap, jnp.inf))
  lower = jnp.where(advantages < 0, low, -jnp.inf)
  # `where`, not minimum and maximum: at a tie those would halve the gradient.
  bounded = jnp.where(ratio > upper, upper, jnp.where(ratio < lower, lower, ratio))
  return bounded * advantages


def _bounds(clip_low, clip_high, dual_clip):
  checks.at_least(0, clip_low=clip_low, clip_high=clip_high)
  if isinstance(dual_clip, (int, float)) and not dual_clip > 1:
    raise ValueError(f"dual_clip={dual_clip} must be above 1: it bounds the ratio of tokens with a negative advantage")
  return 1 - clip_low, 1 + (clip_low if clip_high is None else clip_high), jnp.inf if dual_clip is None else dual_clip


def clip_loss(
    log_probs: Array,
    log_probs_old: Array,
    advantages: Array,
    mask: Array,
    *,
    clip_low: float | Array = 0.2,
    clip_high: float | Array | None = 0.28,
    dual_clip: float | Array | None = None,
    ratio: Ratio = "token",
    log_ratio_limits: Limits = LOG_RATIO_LIMITS,
    weights: Array | None = None,
    aggregation: Aggregation = "token",
    length: float | Array | None = None,
    count_empty: bool = True,
    axis_name: AxisName = None,
) -> tuple[Array, Metrics]:
  """Computes the clipped policy loss.

  Special cases: DAPO (the defaults); PPO (`clip_high=None`); GRPO (`clip_high=None, aggregation="sequence"`); Dr. GRPO
  (`clip_high=None, aggregation="constant", length=...`); GSPO (`ratio="sequence", clip_low=3e-4, clip_high=4e-4,
  aggregation="sequence"`); dual-clip PPO (`dual_clip=3.0`); StableReinforce (`log_ratio_limits`, see
  `importance_ratio`); TIS (`weights=truncated_importance_weights(...)`).

  Args:
    log_probs: `[N, T]`, under the policy that is trained.
    log_probs_old: `[N, T]`, when the tokens were sampled.
    advantages: `[N, T]`.
    mask: `[N, T]`, 1 where a token counts.
    clip_low: distance of the lower bound of the ratio from 1.
    clip_high: distance of the upper bound from 1; None takes `clip_low`.
    dual_clip: largest ratio where the advantage is negative, or None.
    ratio: as in `importance_ratio`.
    log_ratio_limits: as in `importance_ratio`.
    weights: `[N, T]`, factor of each token's loss, or None.
    aggregation: `mode` of `losses.aggregate`.
    length: as in `losses.aggregate`.
    count_empty: as in `losses.aggregate`.
    axis_name: mapped axis over which the sequences are spread.

  Returns:
    `(loss, metrics)`: a float32 scalar, 0 where nothing counts, and over the counted tokens `clip_fraction_high` (A > 0
    above the bound), `clip_fraction_low` (A < 0 below it), `clip_fraction_dual`, `ratio_mean`, `ratio_max` and
    `approx_kl`, the k3 estimate of KL(old || new).

  Raises:
    ValueError: on an unknown `ratio` or `aggregation`, or a `dual_clip` that is not above 1.

  Reference: PPO, arXiv:1707.06347, eq. 7; GRPO, arXiv:2402.03300, eq. 3; DAPO, arXiv:2503.14476, eq. 8; Dr. GRPO,
  arXiv:2503.20783; GSPO, arXiv:2507.18071, eq. 5; dual-clip PPO, arXiv:1912.09729. GSPO's bounds: section 5.1.
  """
  log_probs, log_probs_old, advantages, mask = map(jnp.asarray, (log_probs, log_probs_old, advantages, mask))
  checks.rank(2, log_probs=log_probs)
  checks.same_shape(log_probs=log_probs, log_probs_old=log_probs_old, advantages=advantages, mask=mask)
  advantages = jax.lax.stop_gradient(stats.masked(advantages, mask))
  ratios = importance_ratio(log_probs, log_probs_old, mask, ratio=ratio, log_ratio_limits=log_ratio_limits)
  surrogate = clipped_surrogate(ratios, advantages, clip_low=clip_low, clip_high=clip_high, dual_clip=dual_clip)
  loss = aggregate(_weighted(-surrogate, weights, mask), mask, mode=aggregation, length=length, count_empty=count_empty,
                   axis_name=axis_name)
  low, high, cap = _bounds(clip_low, clip_high, dual_clip)
  clipped = {
      "clip_fraction_high": (advantages > 0) & (ratios > high),
      "clip_fraction_low": (advantages < 0) & (ratios < low),
      "clip_fraction_dual": (advantages < 0) & (ratios > cap),
  }
  fractions = {name: stats.masked_mean(x, mask, axis_name=axis_name) for name, x in clipped.items()}
  return loss, fractions | _ratio_metrics(ratios, log_probs, log_probs_old, mask, axis_name)


def _weighted(losses: Array, weights: Array | None, mask: Array) -> Array:
  if weights is None:
    return losses
  checks.same_shape(mask=mask, weights=weights)
  return losses * jax.lax.stop_gradient(stats.masked(weights, mask))


def _ratio_metrics(ratios: Array, log_probs: Array, log_probs_old: Array, mask: Array, axis_name: AxisName) -> Metrics:
  # The tokens come from the old policy, so the divergence they estimate is the one FROM it.
  drift = divergences.kl_estimate(log_probs_old, log_probs, mask, estimator="k3")
  largest = jax.lax.stop_gradient(jnp.max(stats.masked(ratios, mask), initial=0))
  metrics = {
      "approx_kl": stats.masked_mean(drift, mask, axis_name=axis_name),
      "ratio_max": largest if axis_name is None else jax.lax.pmax(largest, axis_name),
      "ratio_mean": stats.masked_mean(ratios, mask, axis_name=axis_name),
  }
  return jax.lax.stop_gradient(metrics)


def cispo_loss(
    log_probs: Array,
    log_probs_old: Array,
    advantages: Array,
    mask: Array,
    *,
    clip_low: float | Array = 1.0,
    clip_high: float | Array | None = 4.0,
    ratio: Ratio = "token",
    log_ratio_limits: Limits = LOG_RATIO_LIMITS,
    weights: Array | None = None,
    aggregation: Aggregation = "token",
    length: float | Array | None = None,
    count_empty: bool = True,
    axis_name: AxisName = None,
) -> tuple[Array, Metrics]:
  """Computes CISPO's loss: REINFORCE whose importance weight is clipped, so that every token keeps a gradient.

  The loss of a token is -stop_gradient(clip(ratio, 1 - clip_low, 1 + clip_high)) * A * log_prob. The paper has no lower
  bound (`clip_low=1`) and tunes the upper one without printing it; the default caps the weight at 5. Other caps in use
  are 1.2 to 8. `clip_low=1` is truncated importance sampling of REINFORCE.

  Args:
    log_probs: `[N, T]`, under the policy that is trained.
    log_probs_old: `[N, T]`, when the tokens were sampled.
    advantages: `[N, T]`.
    mask: `[N, T]`, 1 where a token counts.
    clip_low: distance of the lower bound of the weight from 1.
    clip_high: distance of the upper bound from 1; None takes `clip_low`.
    ratio: as in `importance_ratio`.
    log_ratio_limits: as in `importance_ratio`.
    weights: `[N, T]`, further factor of each token's loss, or None.
    aggregation: `mode` of `losses.aggregate`.
    length: as in `losses.aggregate`.
    count_empty: as in `losses.aggregate`.
    axis_name: mapped axis over which the sequences are spread.

  Returns:
    `(loss, metrics)`: a float32 scalar, 0 where nothing counts, and over the counted tokens `clip_fraction_high`,
    `clip_fraction_low` (whatever the sign of A), `ratio_mean`, `ratio_max` and `approx_kl` as in `clip_loss`.

  Raises:
    ValueError: on an unknown `ratio` or `aggregation`.

  Reference: MiniMax-M1, arXiv:2506.13585, eq. 4 and 5.
  """
  log_probs, log_probs_old, advantages, mask = map(jnp.asarray, (log_probs, log_probs_old, advantages, mask))
  checks.rank(2, log_probs=log_probs)
  checks.same_shape(log_probs=log_probs, log_probs_old=log_probs_old, advantages=advantages, mask=mask)
  low, high, _ = _bounds(clip_low, clip_high, None)
  ratios = jax.lax.stop_gradient(
      importance_ratio(log_probs, log_probs_old, mask, ratio=ratio, log_ratio_limits=log_ratio_limits))
  clipped = jnp.clip(ratios, low, high)
  loss, _ = reinforce_loss(
      log_probs, advantages, mask, weights=_weighted(clipped, weights, mask), aggregation=aggregation, length=length,
      count_empty=count_empty, axis_name=axis_name)
  mean = lambda x: stats.masked_mean(x, mask, axis_name=axis_name)
  fractions = {"clip_fraction_high": mean(ratios > high), "clip_fraction_low": mean(ratios < low)}
  return loss, fractions | _ratio_metrics(ratios, log_probs, log_probs_old, mask, axis_name)


def reinforce_loss(
    log_probs: Array,
    advantages: Array,
    mask: Array,
    *,
    weights: Array | None = None,
    aggregation: Aggregation = "token",
    length: float | Array | None = None,
    count_empty: bool = True,
    axis_name: AxisName = None,
) -> tuple[Array, Metrics]:
  """Computes the score-function loss -A * log_prob, without a ratio.

  Its gradient is the policy gradient; its value says nothing about progress. On policy `clip_loss` has the same
  gradient. With `weights=truncated_importance_weights(...)` it is off-policy REINFORCE. A log-probability of -inf
  counts as -1e30 and has gradient 0.

  Args:
    log_probs: `[N, T]`, under the policy that is trained.
    advantages: `[N, T]`.
    mask: `[N, T]`, 1 where a token counts.
    weights: `[N, T]`, factor of each token's loss, or None.
    aggregation: `mode` of `losses.aggregate`.
    length: as in `losses.aggregate`.
    count_empty: as in `losses.aggregate`.
    axis_name: mapped axis over which the sequences are spread.

  Returns:
    `(loss, metrics)`: a float32 scalar, 0 where nothing counts, and `log_prob_mean` over the counted tokens.

  Raises:
    ValueError: on an unknown `aggregation`.

  Reference: R. Williams, Simple Statistical Gradient-Following Algorithms (1992), eq. 11; for language models,
  arXiv:2402.14740.
  """
  log_probs, advantages, mask = map(jnp.asarray, (log_probs, advantages, mask))
  checks.rank(2, log_probs=log_probs)
  checks.same_shape(log_probs=log_probs, advantages=advantages, mask=mask)
  log_probs = jnp.maximum(stats.masked(log_probs, mask), LEAST_LOG_PROB)  # -inf times 0 would be NaN
  advantages = jax.lax.stop_gradient(stats.masked(advantages, mask))
  loss = aggregate(_weighted(-advantages * log_probs, weights, mask), mask, mode=aggregation, length=length,
                   count_empty=count_empty, axis_name=axis_name)
  return loss, jax.lax.stop_gradient({"log_prob_mean": stats.masked_mean(log_probs, mask, axis_name=axis_name)})


def clip_policy_loss(
    log_probs: Array,
    batch: Rollouts,
    advantages: Array,
    *,
    kl_coef: float | Array = 0.0,
    kl: KLEstimator = "k3",
    kl_weighted: bool = False,
    **settings,
) -> tuple[Array, Metrics]:
  """Computes `clip_loss` of a batch, plus `kl_coef` times the divergence from the reference policy.

  This is `clip_loss` in the shape of `types.PolicyLoss`. The divergence is averaged as the loss is, and neither clipped
  nor multiplied by `weights`. Special cases: DAPO (the defaults); GRPO (`clip_high=None, aggregation="sequence",
  kl_coef=0.04`), whose k3 has the gradient of the forward KL; `kl="k2"` has that of the reverse KL of each token;
  `kl_weighted=True` is DeepSeek-V3.2's estimate, unbiased off policy too (docs/losses.md has the numbers).

  Args:
    log_probs: `[N, T]`, under the policy that is trained.
    batch: rollouts flattened to `[N, T]`; reads `log_probs`, `mask` and `ref_log_probs`.
    advantages: `[N, T]`.
    kl_coef: weight of the divergence; may be traced.
    kl: `estimator` of `losses.kl_estimate`.
    kl_weighted: static; multiplies each token's divergence by its importance ratio, gradient included.
    **settings: of `clip_loss`.

  Returns:
    `(loss, metrics)`: a float32 scalar and the metrics of `clip_loss`, with `policy_loss` and `reference_kl` (the two
    terms) beside them where the batch has `ref_log_probs`.

  Raises:
    ValueError: if `kl_coef` is not the number 0 and the batch has no `ref_log_probs`; and as `clip_loss`.

  Reference: GRPO, arXiv:2402.03300, eq. 3 and 4; DAPO, arXiv:2503.14476, eq. 8; DeepSeek-V3.2, arXiv:2512.02556, eq. 7.
  """
  loss, metrics = clip_loss(log_probs, batch.log_probs, advantages, batch.mask, **settings)
  return _add_reference_kl(loss, metrics, log_probs, batch, kl_coef, kl, kl_weighted, settings)


def cispo_policy_loss(
    log_probs: Array,
    batch: Rollouts,
    advantages: Array,
    *,
    kl_coef: float | Array = 0.0,
    kl: KLEstimator = "k3",
    kl_weighted: bool = False,
    **settings,
) -> tuple[Array, Metrics]:
  """Computes `cispo_loss` of a batch, plus `kl_coef` times the divergence from the reference policy.

  Args:
    log_probs: `[N, T]`, under the policy that is trained.
    batch: rollouts flattened to `[N, T]`.
    advantages: `[N, T]`.
    kl_coef: as in `clip_policy_loss`.
    kl: as in `clip_policy_loss`.
    kl_weighted: as in `clip_policy_loss`.
    **settings: of `cispo_loss`.

  Returns:
    `(loss, metrics)` as `clip_policy_loss`.

  Raises:
    ValueError: as `clip_policy_loss` and `cispo_loss`.

  Reference: MiniMax-M1, arXiv:2506.13585, eq. 4 and 5.
  """
  loss, metrics = cispo_loss(log_probs, batch.log_probs, advantages, batch.mask, **settings)
  return _add_reference_kl(loss, metrics, log_probs, batch, kl_coef, kl, kl_weighted, settings)


def reinforce_policy_loss(
    log_probs: Array,
    batch: Rollouts,
    advantages: Array,
    *,
    kl_coef: float | Array = 0.0,
    kl: KLEstimator = "k3",
    kl_weighted: bool = False,
    **settings,
) -> tuple[Array, Metrics]:
  """Computes `reinforce_loss` of a batch, plus `kl_coef` times the divergence from the reference policy.

  Args:
    log_probs: `[N, T]`, under the policy that is trained.
    batch: rollouts flattened to `[N, T]`.
    advantages: `[N, T]`.
    kl_coef: as in `clip_policy_loss`.
    kl: as in `clip_policy_loss`.
    kl_weighted: as in `clip_policy_loss`.
    **settings: of `reinforce_loss`.

  Returns:
    `(loss, metrics)` as `clip_policy_loss`.

  Raises:
    ValueError: as `clip_policy_loss` and `reinforce_loss`.

  Reference: R. Williams, Simple Statistical Gradient-Following Algorithms (1992), eq. 11.
  """
  loss, metrics = reinforce_loss(log_probs, advantages, batch.mask, **settings)
  return _add_reference_kl(loss, metrics, log_probs, batch, kl_coef, kl, kl_weighted, settings)


_AGGREGATION = {"aggregation": "mode", "length": "length", "count_empty": "count_empty", "axis_name": "axis_name"}


def _add_reference_kl(loss, metrics, log_probs, batch, kl_coef, kl, kl_weighted, settings):
  if batch.ref_log_probs is None:
    if not (isinstance(kl_coef, (int, float)) and kl_coef == 0):
      raise ValueError(f"kl_coef={kl_coef} needs a reference policy, but the batch has no ref_log_probs")
    return loss, metrics
  divergence = divergences.kl_estimate(log_probs, batch.ref_log_probs, batch.mask, estimator=kl)
  if kl_weighted:
    divergence *= importance_ratio(log_probs, batch.log_probs, batch.mask)
  how = {_AGGREGATION[name]: value for name, value in settings.items() if name in _AGGREGATION}
  divergence = aggregate(divergence, batch.mask, **how)
  terms = jax.lax.stop_gradient({"policy_loss": loss, "reference_kl": divergence})
  return loss + kl_coef * divergence, metrics | terms
