"""Thoughts: runs of reasoning steps that a judge labels alike, and the rewards that are issued per thought.

One response of S steps. `flags` say of each step whether it is good (> 0): in a correct response that it is right, in
an incorrect one that it matches the wrong answer. The last counted step holds the answer; its flag is 1 by definition.
"""

import jax
import jax.numpy as jnp

from rlcore import checks, segments, stats
from rlcore.types import Array


def labels_from_reflections(error_start: Array, reflection: Array, valid: Array, num_steps: int) -> Array:
  """Labels the steps of a correct response: wrong are those that a later reflection takes back.

  Args:
    error_start: `[R]` int32, first step that the reflection blames.
    reflection: `[R]` int32, the step that reflects; it is right itself unless another interval covers it. An interval
      that is empty, or reaches beyond the response, blames nobody there.
    valid: `[R]`, > 0 where a reflection exists.
    num_steps: static, S.

  Returns:
    `[S]` float32, 0 where `error_start <= s < reflection` for some valid reflection, else 1.

  Reference: TP-GRPO, arXiv:2507.23317, sec. 3 (the judge's protocol for correct responses).
  """
  error_start, reflection, valid = map(jnp.asarray, (error_start, reflection, valid))
  checks.rank(1, error_start=error_start)
  checks.same_shape(error_start=error_start, reflection=reflection, valid=valid)
  steps = jnp.arange(num_steps)[:, None]
  blamed = (error_start <= steps) & (steps < reflection) & (valid > 0)
  return 1 - jnp.any(blamed, 1).astype(jnp.float32)


def merge_thoughts(flags: Array, step_mask: Array) -> Array:
  """Numbers the thoughts of a response: maximal runs of counted steps with equal flags.

  Args:
    flags: `[S]`, > 0 where a step is good; the flag of the last counted step is taken to be 1.
    step_mask: `[S]`, > 0 where a step counts; a hole does not end a run.

  Returns:
    `[S]` int32 from 0, -1 in masked places; the thought of the answer has the largest number.

  Reference: TP-GRPO, arXiv:2507.23317, sec. 3 (thought-level merging).
  """
  flags, step_mask = map(jnp.asarray, (flags, step_mask))
  checks.rank(1, flags=flags)
  checks.same_shape(flags=flags, step_mask=step_mask)
  keep = step_mask > 0
  good = good_steps(flags, step_mask)
  positions = jnp.arange(keep.shape[0])
  upto = jax.lax.cummax(jnp.where(keep, positions, -1))
  before = jnp.concatenate([jnp.full(1, -1), upto])[:-1]  # the last counted step before each step
  changes = keep & (before >= 0) & (good != good[jnp.maximum(before, 0)])
  return jnp.where(keep, jnp.cumsum(changes), -1).astype(jnp.int32)


def capability_reward(correct: Array, alpha: float | Array = 1.0) -> Array:
  """Scales the reward of a thought by how able the policy is: `alpha` times the accuracy of the prompt's group.

  Args:
    correct: `[G]`, > 0 where a response is correct.
    alpha: the reward of a thought in an all-correct group.

  Returns:
    float32[]; no gradient flows.

  Reference: TP-GRPO, arXiv:2507.23317, sec. 3 (capability-adaptive reward).
  """
  correct = jnp.asarray(correct)
  checks.rank(1, correct=correct)
  return jax.lax.stop_gradient(jnp.asarray(alpha, jnp.float32) * stats.masked_mean(read_correct(correct)))


def read_correct(correct: Array) -> Array:
  """Reads `> 0` as 1 and everything else as 0, float32; NaN, which says neither, stays NaN."""
  correct = jnp.asarray(correct)
  return jnp.where(jnp.isnan(correct), jnp.nan, (correct > 0).astype(jnp.float32))


def thought_rewards(flags: Array, step_mask: Array, is_correct: Array, r_out: Array, r_c: Array) -> Array:
  """Issues one process reward per thought, on its last counted step; the thought of the answer gets none.

  A thought of a correct response earns `r_c` if it is right, else `-r_c`; one of an incorrect response `r_out` if it
  matches the answer, else `-r_out`. With the outcome added, the sums over later thoughts telescope to a local rule:
  `r_out` for every good thought, and for the others `r_out - r_c` in a correct response, 0 in an incorrect one.

  Args:
    flags: `[S]`, > 0 where a step is good; the flag of the last counted step is taken to be 1.
    step_mask: `[S]`, > 0 where a step counts.
    is_correct: scalar, > 0 if the response is correct.
    r_out: scalar, the standardised outcome reward of the response, which is not part of the result.
    r_c: scalar, `capability_reward` of the response's group.

  Returns:
    `[S]` float32; no gradient flows.

  Reference: TP-GRPO, arXiv:2507.23317, propositions 1 and 2.
  """
  flags, step_mask = map(jnp.asarray, (flags, step_mask))
  checks.rank(0, is_correct=is_correct, r_out=r_out, r_c=r_c)
  ids = merge_thoughts(flags, step_mask)
  keep, good = step_mask > 0, good_steps(flags, step_mask)
  nobody = keep.shape[0]
  following = jax.lax.cummin(jnp.where(keep, ids, nobody), reverse=True)
  following = jnp.concatenate([following, jnp.full(1, nobody, ids.dtype)])[1:]  # thought of the next counted step
  paid = keep & (following < nobody) & (following > ids)
  reward = jnp.where(jnp.asarray(is_correct) > 0, r_c, r_out) + 0 * read_correct(is_correct)
  reward = jnp.where(good, reward, -reward).astype(jnp.float32)
  return jax.lax.stop_gradient(jnp.where(paid, reward, 0))


def good_steps(flags: Array, step_mask: Array) -> Array:
  """Reads flags as booleans, that of the last counted step, which holds the answer, being True.

  Args:
    flags: `[S]`, > 0 where a step is good.
    step_mask: `[S]`, > 0 where a step counts.

  Returns:
    `[S]` bool, False in masked places.

  Reference: TP-GRPO, arXiv:2507.23317, sec. 3.
  """
  flags, step_mask = map(jnp.asarray, (flags, step_mask))
  checks.same_shape(flags=flags, step_mask=step_mask)
  return (step_mask > 0) & ((flags > 0) | segments.is_last_counted(step_mask))
