"""Divergence of a policy from a reference: estimates from sampled tokens, and exact ones from logits."""

from typing import Literal

import jax
import jax.numpy as jnp

from rlcore import checks, stats
from rlcore.losses.importance import LEAST_LOG_PROB
from rlcore.types import Array

KLEstimator = Literal["k1", "k2", "k3", "k1+", "k3+"]
_LOG_RATIO_LIMIT = 20.0  # exp of it is finite, and so is its square
_SQUARE_LIMIT = 1e18  # its square is finite


def kl_estimate(
    log_probs: Array, log_probs_ref: Array, mask: Array | None = None, *, estimator: KLEstimator = "k3"
) -> Array:
  """Estimates KL(policy || reference) at each sampled token, in nats.

  With d = log_probs - log_probs_ref of a token drawn from the policy:
    k1: d. Unbiased, can be negative. As a LOSS its gradient is zero in expectation: use it in the reward.
    k2: d^2 / 2. Biased value; as a loss its gradient is that of the reverse KL of each token.
    k3: exp(-d) - 1 + d. Unbiased and never negative; as a loss its gradient is that of the FORWARD KL.
    k1+, k3+: the value of k1 or k3 with the gradient of k2 (straight through).
  docs/losses.md tabulates bias and variance of each gradient in the loss and in the reward, on and off policy.

  k3 clips d to +-20 before the exponential, so that neither value nor gradient overflows; beyond, its gradient is 0.
  For the same reason k2 clips d to +-1e18, and a log-probability of -inf counts as -1e30.

  Args:
    log_probs: `[...]`, log-probabilities under the policy.
    log_probs_ref: `[...]`, under the reference; a constant.
    mask: `[...]`, 1 where a token counts; None counts all.
    estimator: static.

  Returns:
    `[...]` float32; 0 where `mask` is not set.

  Raises:
    ValueError: if `estimator` is unknown.

  Reference: J. Schulman, Approximating KL divergence (2020), k1 to k3; Comedy of Estimators, arXiv:2512.21852, for
  their gradients. The names with + are verl's.
  """
  log_probs, log_probs_ref = map(jnp.asarray, (log_probs, log_probs_ref))
  checks.same_shape(log_probs=log_probs, log_probs_ref=log_probs_ref, mask=mask)
  log_probs, log_probs_ref = (jnp.maximum(stats.masked(x, mask), LEAST_LOG_PROB) for x in (log_probs, log_probs_ref))
  log_ratio = log_probs - jax.lax.stop_gradient(log_probs_ref)
  if estimator in ("k1+", "k3+"):
    constant = jax.lax.stop_gradient(log_ratio)
    slope = jnp.clip(constant, -_SQUARE_LIMIT, _SQUARE_LIMIT)  # of k2; what it multiplies is 0
    return slope * (log_ratio - constant) + jax.lax.stop_gradient(_kl_of_log_ratio(log_ratio, estimator[:2]))
  return _kl_of_log_ratio(log_ratio, estimator)


def _kl_of_log_ratio(log_ratio: Array, estimator: str) -> Array:
  if estimator == "k1":
    return log_ratio
  if estimator == "k2":
    return jnp.square(jnp.clip(log_ratio, -_SQUARE_LIMIT, _SQUARE_LIMIT)) / 2
  if estimator == "k3":
    limited = jnp.clip(log_ratio, -_LOG_RATIO_LIMIT, _LOG_RATIO_LIMIT)
    return jnp.expm1(-limited) + limited
  raise ValueError(f'estimator={estimator!r} is none of "k1", "k2", "k3", "k1+", "k3+"')


def kl_exact(logits_p: Array, logits_q: Array, mask: Array | None = None) -> Array:
  """Computes KL(p || q) of two categorical distributions over the last axis, in nats.

  Logits of -inf are outcomes that cannot occur: where p has none of them the term is 0; where only q forbids an
  outcome that p allows, the divergence is inf. The gradient flows into both arguments.

  Args:
    logits_p: `[..., V]`, unnormalised.
    logits_q: `[..., V]`, unnormalised.
    mask: `[...]`, 1 where a distribution counts; None counts all.

  Returns:
    `[...]` float32; 0 where `mask` is not set.

  Reference: Kullback and Leibler, On Information and Sufficiency (1951), eq. 2.4.
  """
  logits_p, logits_q = map(jnp.asarray, (logits_p, logits_q))
  checks.same_shape(logits_p=logits_p, logits_q=logits_q)
  checks.nonempty(-1, logits_p=logits_p)
  log_p, log_q = _log_softmax(logits_p, mask), _log_softmax(logits_q, mask)
  p = jnp.exp(log_p)
  difference = jnp.where(p > 0, log_p, 0) - jnp.where(p > 0, log_q, 0)
  return jnp.sum(p * difference, axis=-1)


def gaussian_kl(
    mean: Array, log_var: Array, prior_mean: Array | None = None, prior_log_var: Array | None = None) -> Array:
  """Computes KL(q || prior) of two diagonal Gaussians, summed over dimensions, in nats.

  Args:
    mean: `[Z]`, of q.
    log_var: `[Z]`, log of the variances of q.
    prior_mean: `[Z]`; None for 0.
    prior_log_var: `[Z]`; None for 0, unit variance.

  Returns:
    float32[], differentiable in all four.

  Reference: Auto-Encoding Variational Bayes, arXiv:1312.6114, appendix B; Internal RL, arXiv:2512.20605; VPL,
  arXiv:2408.10075.
  """
  mean, log_var = jnp.asarray(mean, jnp.float32), jnp.asarray(log_var, jnp.float32)
  prior_mean, prior_log_var = (
      jnp.zeros_like(mean) if x is None else jnp.asarray(x, jnp.float32) for x in (prior_mean, prior_log_var))
  checks.rank(1, mean=mean)
  checks.same_shape(mean=mean, log_var=log_var, prior_mean=prior_mean, prior_log_var=prior_log_var)
  log_ratio = log_var - prior_log_var
  # exp(x) - 1 - x by expm1: where q and prior are almost the same, nothing is left to cancel.
  return jnp.sum(jnp.expm1(log_ratio) - log_ratio + jnp.square(mean - prior_mean) * jnp.exp(-prior_log_var)) / 2


def entropy(logits: Array, mask: Array | None = None) -> Array:
  """Computes the entropy of categorical distributions over the last axis, in nats.

  Args:
    logits: `[..., V]`, unnormalised; -inf is an outcome that cannot occur.
    mask: `[...]`, 1 where a distribution counts; None counts all.

  Returns:
    `[...]` float32; 0 where `mask` is not set.

  Reference: C. Shannon, A Mathematical Theory of Communication (1948), section 6.
  """
  log_p = _log_softmax(logits, mask)
  p = jnp.exp(log_p)
  return stats.masked(-jnp.sum(p * jnp.where(p > 0, log_p, 0), axis=-1), mask)


def _log_softmax(logits: Array, mask: Array | None) -> Array:
  """Log-probabilities in float32; uniform where `mask` is not set, so that junk there has no gradient."""
  logits = jnp.asarray(logits)
  checks.nonempty(-1, logits=logits)
  checks.shape(logits.shape[:-1], mask=mask)
  counted = True if mask is None else stats.as_mask(mask, logits[..., 0])[..., None]
  return jax.nn.log_softmax(jnp.where(counted, logits, 0).astype(jnp.float32), axis=-1)
