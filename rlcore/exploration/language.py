"""Rewards for what a language model finds helpful in an agent's messages, learned while the agent trains (ONI).

Three distillers of its annotations give the intrinsic reward of a message: a table, a classifier, a ranking model.
Compute the rewards once per rollout: an annotation that arrives later must not change rewards already learned from.
"""

import jax
import jax.numpy as jnp

from rlcore import checks, stats
from rlcore.exploration import combine
from rlcore.types import Array


def retrieval_reward(labels: Array, ids: Array, mask: Array | None = None) -> Array:
  """Looks up the annotation of every step's message; what is not annotated yet pays nothing.

  Args:
    labels: `[M]`, of each message: 1 helpful, 0 not, -1 not annotated.
    ids: `[T]` int32, message of each step; one outside [0, M) is not annotated.
    mask: `[T]`, 1 where a step counts; None counts all.

  Returns:
    `[T]` float32 of 0 and 1, 0 in masked places; no gradient flows.

  Reference: ONI, arXiv:2410.23022 (retrieval).
  """
  labels, ids = jnp.asarray(labels), jnp.asarray(ids)
  checks.rank(1, labels=labels, ids=ids)
  checks.integers(ids=ids)
  checks.same_shape(ids=ids, mask=mask)
  return stats.masked(stats.lookup((labels > 0).astype(jnp.float32), ids), mask)


def classification_reward(logits: Array, mask: Array | None = None, threshold: Array | float = 0.5) -> Array:
  """Pays 1 where a classifier finds a message helpful with a probability above a threshold.

  Args:
    logits: `[T, 2]`, not helpful and helpful.
    mask: `[T]`, 1 where a step counts; None counts all.
    threshold: strictly below the probability that is paid.

  Returns:
    `[T]` float32 of 0 and 1, 0 in masked places and where a logit is NaN; no gradient flows.

  Reference: ONI, arXiv:2410.23022 (classification).
  """
  logits = jax.lax.stop_gradient(jnp.asarray(logits)).astype(jnp.float32)
  checks.rank(2, logits=logits)
  checks.shape((logits.shape[0], 2), logits=logits)
  checks.rank(1, mask=mask)
  checks.same_prefix(1, logits=logits, mask=mask)
  helpful = jax.nn.softmax(logits)[:, 1] > jax.lax.stop_gradient(threshold)
  return stats.masked(helpful, mask)


def ranking_reward(
    scores: Array, mean: Array | float, var: Array | float, threshold: Array | float,
    mask: Array | None = None, eps: Array | float = 0.0) -> Array:
  """Pays the standardised score of a message where it exceeds a threshold.

  Args:
    scores: `[T]`, of a model that was trained with `losses.ranking_loss`.
    mean: `[]`, of all scores so far; the moments are those AFTER `stats.running_moments_update` with these scores.
    var: `[]`, of all scores so far. Where `var + eps` is 0 (or below) nothing is paid.
    threshold: strictly below what is paid; the released code's -0.5 pays (negative) scores a little below the mean too.
    mask: `[T]`, 1 where a step counts; None counts all.
    eps: added to the variance.

  Returns:
    `[T]` float32, 0 in masked places and where a score is NaN; no gradient flows.

  Reference: ONI, arXiv:2410.23022 (ranking).
  """
  scores = jnp.asarray(scores)
  checks.rank(1, scores=scores)
  checks.same_shape(scores=scores, mask=mask)
  checks.rank(0, mean=mean, var=var)
  var = jnp.asarray(var, jnp.float32) + eps
  spread = var > 0
  z = (stats.masked(scores, mask) - mean) / jnp.sqrt(jnp.where(spread, var, 1))
  return jax.lax.stop_gradient(stats.masked(z, stats.as_mask(mask, scores) & spread & (z > threshold)))


def oni_reward(
    extrinsic: Array, intrinsic: Array, counts: Array, extrinsic_coef: Array | float = 0.1,
    intrinsic_coef: Array | float = 0.4, count_exponent: Array | float = 3.0, clip: Array | float = 10.0) -> Array:
  """Adds to the reward of the task the reward of its message, which falls with every repetition in the episode.

  `extrinsic_coef * extrinsic + intrinsic_coef * intrinsic * counts ** -count_exponent`. `count_exponent=0` pays every
  repetition in full and invites farming; a negative one would pay repetitions more and more.

  Args:
    extrinsic: `[T]`, the reward of the task.
    intrinsic: `[T]`, of one of the three distillers.
    counts: `[T]`, of `episodic_message_count`; 0 (a masked step) pays no intrinsic reward.
    extrinsic_coef: weight; 0 without rewards of the task, 10 on the paper's sparse tasks.
    intrinsic_coef: weight; a negative one, of either, makes a penalty of what it weighs.
    count_exponent: by which power of the count the intrinsic reward falls.
    clip: bound on the absolute value of the sum; 0 or below for none.

  Returns:
    `[T]` float32; no gradient flows. NaN in a reward stays NaN.

  Reference: ONI, arXiv:2410.23022 (and its code).
  """
  extrinsic, intrinsic, counts = map(jnp.asarray, (extrinsic, intrinsic, counts))
  checks.rank(1, extrinsic=extrinsic)
  checks.same_shape(extrinsic=extrinsic, intrinsic=intrinsic, counts=counts)
  seen = counts > 0
  weight = jnp.where(seen, counts, 1).astype(jnp.float32) ** -jnp.asarray(count_exponent, jnp.float32)
  total = extrinsic_coef * stats.masked(extrinsic, None) + intrinsic_coef * stats.masked(intrinsic, seen) * weight
  return combine.clip_to_magnitude(total, clip)


def newest_first_batch(arrival: Array, pending: Array, batch_size: Array | int) -> Array:
  """Chooses what to annotate next: the newest of what waits, for early messages tell the least.

  Args:
    arrival: `[Q]`, when each slot of the queue was filled; of equal ones the larger slot is the newer.
    pending: `[Q]`, 1 (or True) where a slot waits.
    batch_size: `[]`, how many at most; may be traced.

  Returns:
    `[Q]` bool, True in `min(batch_size, pending slots)` places.

  Reference: ONI, arXiv:2410.23022 (its code).
  """
  arrival, pending = jnp.asarray(arrival), jnp.asarray(pending)
  checks.rank(1, arrival=arrival)
  checks.same_shape(arrival=arrival, pending=pending)
  checks.rank(0, batch_size=batch_size)
  waits = pending > 0
  order = jnp.lexsort((jnp.where(waits, arrival, 0), waits))[::-1]  # stable: the newest first
  chosen = jnp.zeros_like(waits).at[order].set(jnp.arange(order.size) < batch_size)
  return chosen & waits
