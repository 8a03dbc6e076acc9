"""What a response pays for its length and for leaving the reference policy.

The functions of a length become transforms by `rewards.with_lengths`.
"""

import functools

import jax
import jax.numpy as jnp

from rlcore import checks, stats
from rlcore.rewards import transforms
from rlcore.types import Array, RewardTransform


def length_penalized_reward(
    reward: Array, length: Array, *, free_length: float = 300.0, penalty: float = 0.01) -> Array:
  """Subtracts a fixed price for every token beyond a free length.

  Args:
    reward: any shape.
    length: the same shape, in tokens.
    free_length: tokens that cost nothing.
    penalty: price of a further token.

  Returns:
    float32 of the same shape; no gradient flows.

  Reference: PAR, arXiv:2502.18770 (its code).
  """
  reward, length = jnp.asarray(reward, jnp.float32), jnp.asarray(length, jnp.float32)
  checks.same_shape(reward=reward, length=length)
  paid = jnp.maximum(length - free_length, 0)
  return jax.lax.stop_gradient(reward - penalty * paid)


def relative_length_reward(
    reward: Array, length: Array, *, weight: float = 1.0, correct_above: float = 0.0) -> Array:
  """Adds to every reward of a group how short the response is among its siblings.

  The term is `0.5 - (length - shortest) / (longest - shortest)` for a correct response; for a wrong one it is that, but
  at most 0. Where all lengths are equal it is 0.

  Args:
    reward: `[G]`.
    length: `[G]`, in tokens.
    weight: factor of the term.
    correct_above: a response is correct if its reward is greater than this.

  Returns:
    `[G]` float32; no gradient flows.

  Reference: Kimi k1.5, arXiv:2501.12599, section 2.3.3.
  """
  reward, length = jnp.asarray(reward, jnp.float32), jnp.asarray(length, jnp.float32)
  checks.rank(1, reward=reward)
  checks.same_shape(reward=reward, length=length)
  shortest, longest = jnp.min(length, initial=jnp.inf), jnp.max(length, initial=-jnp.inf)
  differ = longest > shortest
  term = 0.5 - (length - shortest) / jnp.where(differ, longest - shortest, 1)
  term = jnp.where(reward > correct_above, term, jnp.minimum(term, 0))
  return jax.lax.stop_gradient(reward + weight * jnp.where(differ, term, 0))


def overlong_reward(
    reward: Array, length: Array, *, max_length: float = 20480, cache_length: float = 4096,
    penalty: float = 1.0) -> Array:
  """Adds the soft overlong punishment, which grows linearly over the last stretch before the longest length allowed.

  It is 0 up to `max_length - cache_length`, `-penalty` from `max_length` on. `cache_length=0` punishes only a response
  longer than `max_length`.

  Args:
    reward: any shape.
    length: the same shape, in tokens.
    max_length: longest length allowed, the stretch included.
    cache_length: length of the stretch.
    penalty: punishment at the end of the stretch.

  Returns:
    float32 of the same shape; no gradient flows.

  Reference: DAPO, arXiv:2503.14476, eq. 13.
  """
  reward, length = jnp.asarray(reward, jnp.float32), jnp.asarray(length, jnp.float32)
  checks.same_shape(reward=reward, length=length)
  excess = length - (max_length - cache_length)
  hard = jnp.equal(cache_length, 0)
  share = jnp.where(hard, excess > 0, jnp.clip(excess / jnp.where(hard, 1, cache_length), 0, 1))
  return jax.lax.stop_gradient(reward - penalty * share)


def kl_penalized_rewards(rewards: Array, logp: Array, ref_logp: Array, mask: Array, kl_coef: float | Array) -> Array:
  """Subtracts from every token reward the token's log-ratio to the reference policy (the k1 estimator of the KL).

  Args:
    rewards: `[T]`, 0 where a token earns nothing.
    logp: `[T]`, log-probabilities under the policy that drew the tokens.
    ref_logp: `[T]`, log-probabilities under the reference policy.
    mask: `[T]`, 1 where a token counts.
    kl_coef: price of one nat.

  Returns:
    `[T]` float32, 0 in masked places; no gradient flows (the penalty acts through the reward).

  Reference: Fine-Grained RLHF, arXiv:2306.01693; PAR, arXiv:2502.18770.
  """
  rewards, logp, ref_logp, mask = map(jnp.asarray, (rewards, logp, ref_logp, mask))
  checks.rank(1, rewards=rewards)
  checks.same_shape(rewards=rewards, logp=logp, ref_logp=ref_logp, mask=mask)
  rewards, logp, ref_logp = (stats.masked(x, mask) for x in (rewards, logp, ref_logp))
  return jax.lax.stop_gradient(rewards - kl_coef * (logp - ref_logp))


def kl_in_reward(kl_coef: float | Array) -> RewardTransform:
  """Makes the transform that charges every token its log-ratio to the reference policy, in `rewards.process`.

  Args:
    kl_coef: price of one nat.

  Returns:
    The transform; its state is `()`. Missing `process` rewards count as 0. Its `apply` raises ValueError if the batch
    has no `ref_log_probs`.

  Reference: Fine-Grained RLHF, arXiv:2306.01693.
  """
  def apply(rewards, batch):
    if batch.ref_log_probs is None:
      raise ValueError("kl_in_reward needs `ref_log_probs` in the batch, but it is None")
    checks.same_shape(**{
        "batch.mask": batch.mask, "batch.log_probs": batch.log_probs, "batch.ref_log_probs": batch.ref_log_probs,
        "rewards.process": rewards.process})
    log_probs, ref_log_probs, mask = map(jnp.asarray, (batch.log_probs, batch.ref_log_probs, batch.mask))
    process = jnp.zeros_like(log_probs) if rewards.process is None else jnp.asarray(rewards.process)
    charge = jax.vmap(functools.partial(kl_penalized_rewards, kl_coef=kl_coef))
    return rewards.replace(process=charge(process, log_probs, ref_log_probs, mask))

  return transforms.stateless(apply)
