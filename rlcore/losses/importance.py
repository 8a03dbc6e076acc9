"""Importance ratios of sampled tokens, and bounded weights made from them."""

from typing import Literal

import jax
import jax.numpy as jnp

from rlcore import checks, stats
from rlcore.types import Array

Ratio = Literal["token", "sequence", "product"]
Limits = tuple[float | Array, float | Array]
# exp(20) is 5e8: no policy gets there in earnest, and neither the ratio nor ratio * advantage can overflow.
LOG_RATIO_LIMITS = (-20.0, 20.0)
LEAST_LOG_PROB = -1e30  # stands for -inf, whose differences would be NaN


def importance_ratio(
    log_probs: Array,
    log_probs_old: Array,
    mask: Array,
    *,
    ratio: Ratio = "token",
    log_ratio_limits: Limits = LOG_RATIO_LIMITS,
) -> Array:
  """Computes the probability ratio of the new to the old policy at each token.

  Special cases of `ratio`:
    token: exp(log_prob - log_prob_old) of the token itself (PPO, GRPO).
    sequence: exp of the MEAN log-ratio of the counted tokens of the sequence, the same at each of them (GSPO).
    product: exp of the SUM of the log-ratios of the sequence, the unbiased weight of a whole response.
  The last two have the value of the sequence and, by a stop-gradient, the gradient of the token:
  d ratio[n, t] / d log_probs[n, t] = ratio[n, t]. With one advantage for all tokens of a sequence this is GSPO's
  gradient; with an advantage of each token it is GSPO-token.

  The log-ratio is clipped before the exponential (clipping the ratio afterwards comes too late: inf * 0 is NaN in the
  gradient). Where it is clipped the gradient is 0. The default changes nothing but absurd ratios; StableReinforce's
  Pre-CLIP is `log_ratio_limits=(log(1e-3), log(1e3))`.

  Args:
    log_probs: `[N, T]`, under the policy that is trained.
    log_probs_old: `[N, T]`, under the policy that sampled; a constant.
    mask: `[N, T]`, 1 where a token counts.
    ratio: static.
    log_ratio_limits: smallest and largest log-ratio.

  Returns:
    `[N, T]` float32; 1 where `mask` is not set.

  Raises:
    ValueError: if `ratio` is unknown.

  Reference: PPO, arXiv:1707.06347, eq. 6; GSPO, arXiv:2507.18071, eq. 7 (sequence) and 14 (its stop-gradient form);
  StableReinforce, arXiv:2505.02835 (limits).
  """
  log_probs, log_probs_old, mask = map(jnp.asarray, (log_probs, log_probs_old, mask))
  checks.rank(2, log_probs=log_probs)
  checks.same_shape(log_probs=log_probs, log_probs_old=log_probs_old, mask=mask)
  checks.ordered(**dict(zip(("the lower of log_ratio_limits", "the upper one"), log_ratio_limits)))
  new = jnp.maximum(stats.masked(log_probs, mask), LEAST_LOG_PROB)
  old = jax.lax.stop_gradient(jnp.maximum(stats.masked(log_probs_old, mask), LEAST_LOG_PROB))
  log_ratio = new - old
  if ratio != "token":
    if ratio not in ("sequence", "product"):
      raise ValueError(f'ratio={ratio!r} is none of "token", "sequence", "product"')
    reduce = stats.masked_mean if ratio == "sequence" else stats.masked_sum
    level = jax.lax.stop_gradient(reduce(log_ratio, mask, axis=1)[:, None])
    log_ratio = stats.masked(level + (new - jax.lax.stop_gradient(new)), mask)
  return jnp.exp(jnp.clip(log_ratio, *log_ratio_limits))


def truncated_importance_weights(
    log_probs: Array,
    log_probs_behaviour: Array,
    mask: Array,
    *,
    cap: float | Array = 2.0,
    floor: float | Array = 0.0,
    outside: Literal["truncate", "drop"] = "truncate",
    ratio: Ratio = "token",
    log_ratio_limits: Limits = LOG_RATIO_LIMITS,
) -> Array:
  """Computes bounded, constant importance weights for the `weights` of a loss.

  They correct for a sampler whose probabilities differ from the trainer's (other kernels, stale weights, low
  precision): `log_probs` is then the trainer's recomputation under the weights that sampled. Special cases: TIS
  (default); `cap=1` is V-trace's rho; `outside="drop"` with a floor is IcePop's mask; `ratio="product"` weighs whole
  responses; `cap=inf` is plain importance sampling, unbiased and of unbounded variance.

  Args:
    log_probs: `[N, T]`, under the policy that the gradient belongs to.
    log_probs_behaviour: `[N, T]`, under the distribution that the tokens were drawn from.
    mask: `[N, T]`, 1 where a token counts.
    cap: largest weight.
    floor: smallest weight.
    outside: static; weights outside `[floor, cap]` move to the bound ("truncate") or to 0 ("drop").
    ratio: as in `importance_ratio`.
    log_ratio_limits: as in `importance_ratio`.

  Returns:
    `[N, T]` float32 without gradient; 0 where `mask` is not set.

  Raises:
    ValueError: if `outside` or `ratio` is unknown.

  Reference: E. Ionides, Truncated Importance Sampling (2008); F. Yao et al., Your Efficient RL Framework Secretly
  Brings You Off-Policy RL Training (2025), TIS; IMPALA, arXiv:1802.01561, section 4.1 (V-trace); IcePop,
  arXiv:2510.18855.
  """
  checks.at_least(0, floor=floor, cap=cap)
  weights = importance_ratio(log_probs, log_probs_behaviour, mask, ratio=ratio, log_ratio_limits=log_ratio_limits)
  if outside == "truncate":
    weights = jnp.clip(weights, floor, cap)
  elif outside == "drop":
    weights = jnp.where((weights < floor) | (weights > cap), 0, weights)  # so that NaN stays NaN
  else:
    raise ValueError(f'outside={outside!r} is neither "truncate" nor "drop"')
  return jax.lax.stop_gradient(stats.masked(weights, mask))
