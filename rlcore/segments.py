"""Steps, turns and sub-sentences inside a token sequence: their ids, their ends, and the way between steps and tokens.

One sequence of T tokens with at most S steps. `mask` is 1 where a token counts and may have holes; a step id (or an
end) outside its range belongs to nobody: it is dropped and never wraps around.
"""

import jax
import jax.numpy as jnp

from rlcore import checks, stats
from rlcore.types import Array


def segment_ids(boundary: Array, mask: Array, *, starts: bool = False) -> Array:
  """Numbers the segments of a sequence.

  Args:
    boundary: `[T]`, 1 on the last token of each segment or, with `starts`, on its first one.
    mask: `[T]`, 1 where a token counts; a boundary on another token is ignored.
    starts: static. False (Fine-Grained RLHF): the first counted token opens segment 0. True (Internal RL): segment 0
      opens at the first boundary, and the tokens before it have id -1.

  Returns:
    `[T]` int32, -1 in masked places.

  Reference: Fine-Grained RLHF, arXiv:2306.01693; Internal RL, arXiv:2512.20605.
  """
  boundary, mask = map(jnp.asarray, (boundary, mask))
  checks.rank(1, boundary=boundary)
  checks.same_shape(boundary=boundary, mask=mask)
  keep = mask > 0
  marks = ((boundary > 0) & keep).astype(jnp.int32)
  return jnp.where(keep, jnp.cumsum(marks) - (1 if starts else marks), -1)


def segment_end_mask(boundary: Array, mask: Array) -> Array:
  """Marks the last token of every segment; the last counted token closes a segment in any case.

  Args:
    boundary: `[T]`, 1 on the last token of each segment.
    mask: `[T]`, 1 where a token counts.

  Returns:
    `[T]` float32 of 0 and 1, 0 in masked places.

  Reference: Fine-Grained RLHF, arXiv:2306.01693.
  """
  boundary, mask = map(jnp.asarray, (boundary, mask))
  checks.rank(1, boundary=boundary)
  checks.same_shape(boundary=boundary, mask=mask)
  keep = mask > 0
  return (keep & ((boundary > 0) | is_last_counted(mask))).astype(jnp.float32)


def next_counted(mask: Array) -> Array:
  """Finds for every token the next counted one after it.

  Args:
    mask: `[T]`, 1 where a token counts.

  Returns:
    `[T]` int32, T where none follows; masked tokens have a next one too.

  Reference: n-step returns and differences of step scores (Clip-Delta, arXiv:2410.15115) step over holes with it.
  """
  mask = jnp.asarray(mask)
  checks.rank(1, mask=mask)
  length = mask.shape[0]
  places = jnp.where(mask > 0, jnp.arange(length, dtype=jnp.int32), length)
  return jnp.append(jax.lax.cummin(places, reverse=True), jnp.int32(length))[1:]


def is_last_counted(mask: Array) -> Array:
  """Marks the last counted token.

  Args:
    mask: `[T]`, > 0 where a token counts.

  Returns:
    `[T]` bool, True in one place at most.

  Reference: PPR, arXiv:2509.25598 (the outcome sits on the last step).
  """
  mask = jnp.asarray(mask)
  checks.rank(1, mask=mask)
  keep, places = mask > 0, jnp.arange(mask.shape[0], dtype=jnp.int32)
  return places == jnp.max(jnp.where(keep, places, -1), initial=-1)


def _slots(index: Array, keep: Array, size: int) -> Array:
  """Returns `index` where it counts and lies in [0, size), else `size`, which a scatter with mode="drop" ignores."""
  return jnp.where(keep & (index >= 0) & (index < size), index, size)


def last_token_of_steps(step_id: Array, mask: Array, num_steps: int) -> Array:
  """Finds the last counted token of every step.

  Args:
    step_id: `[T]` int32.
    mask: `[T]`, 1 where a token counts.
    num_steps: static, S.

  Returns:
    `[S]` int32, -1 for a step without a counted token.

  Reference: SPA-RL, arXiv:2505.20732.
  """
  step_id, mask = map(jnp.asarray, (step_id, mask))
  checks.rank(1, step_id=step_id)
  checks.same_shape(step_id=step_id, mask=mask)
  slots = _slots(step_id, mask > 0, num_steps)
  positions = jnp.arange(step_id.shape[0], dtype=jnp.int32)
  return jnp.full(num_steps, -1, jnp.int32).at[slots].max(positions, mode="drop")


def step_rewards_to_tokens(step_rewards: Array, step_end: Array, step_mask: Array, num_tokens: int) -> Array:
  """Puts the reward of every step on the token that ends it; steps that end on one token add up.

  Also known as: `turn_to_token_rewards`.

  Args:
    step_rewards: `[S]`.
    step_end: `[S]` int32, index of the step's last token; below 0 or beyond the sequence drops the reward.
    step_mask: `[S]`, 1 where a step counts.
    num_tokens: static, T.

  Returns:
    `[T]` float32, 0 on all other tokens; no gradient flows.

  Reference: SPA-RL, arXiv:2505.20732; multi-turn guide, arXiv:2510.01132.
  """
  step_rewards, step_end, step_mask = map(jnp.asarray, (step_rewards, step_end, step_mask))
  checks.rank(1, step_rewards=step_rewards)
  checks.same_shape(step_rewards=step_rewards, step_end=step_end, step_mask=step_mask)
  keep = step_mask > 0
  rewards = jax.lax.stop_gradient(stats.masked(step_rewards, keep))
  return jnp.zeros(num_tokens, jnp.float32).at[_slots(step_end, keep, num_tokens)].add(rewards, mode="drop")


def segment_to_token_rewards(segment_values: Array, segment_ids: Array, mask: Array) -> Array:
  """Puts the value of every segment on its last counted token.

  What a segment without a counted token is worth is lost: `sum(segment_values) - sum(result)`.

  Args:
    segment_values: `[S]`.
    segment_ids: `[T]` int32.
    mask: `[T]`, 1 where a token counts.

  Returns:
    `[T]` float32, 0 on all other tokens; no gradient flows.

  Reference: SCAR, arXiv:2505.20417.
  """
  segment_values, mask = map(jnp.asarray, (segment_values, mask))
  checks.rank(1, segment_values=segment_values)
  ends = last_token_of_steps(segment_ids, mask, segment_values.shape[0])
  return step_rewards_to_tokens(segment_values, ends, jnp.ones(ends.shape), mask.shape[0])


def steps_to_tokens(step_values: Array, step_id: Array, mask: Array) -> Array:
  """Gives every counted token the value of its step.

  Args:
    step_values: `[S]`.
    step_id: `[T]` int32.
    mask: `[T]`, 1 where a token counts.

  Returns:
    `[T]` float32, 0 on masked tokens and where `step_id` is no step; no gradient flows.

  Reference: TP-GRPO, arXiv:2507.23317.
  """
  step_values, step_id, mask = map(jnp.asarray, (step_values, step_id, mask))
  checks.rank(1, step_values=step_values, step_id=step_id, mask=mask)
  checks.same_shape(step_id=step_id, mask=mask)
  slots = _slots(step_id, mask > 0, step_values.shape[0])
  values = jax.lax.stop_gradient(jnp.asarray(step_values, jnp.float32))
  return stats.lookup(values, slots)


def step_sums(values: Array, step_id: Array, mask: Array, num_steps: int) -> Array:
  """Sums a token value over the counted tokens of every step.

  Args:
    values: `[T]`.
    step_id: `[T]` int32.
    mask: `[T]`, 1 where a token counts.
    num_steps: static, S.

  Returns:
    `[S]` float32, 0 for a step without a counted token; differentiable in `values`.

  Reference: OPRL, arXiv:2509.19199.
  """
  values, step_id, mask = map(jnp.asarray, (values, step_id, mask))
  checks.rank(1, values=values)
  checks.same_shape(values=values, step_id=step_id, mask=mask)
  keep = mask > 0
  slots = _slots(step_id, keep, num_steps)
  return jnp.zeros(num_steps, jnp.float32).at[slots].add(stats.masked(values, keep), mode="drop")


def split_windows(values: Array, mask: Array, window: int) -> tuple[Array, Array]:
  """Cuts a sequence into windows side by side; the last one is filled up at its end.

  Args:
    values: `[T]`.
    mask: `[T]`, 1 where a step counts.
    window: static, steps in a window, at least 1.

  Returns:
    `(values, mask)`, `[W, window]` float32 each with W = ceil(T / window); both are 0 in masked places and in the
    filling. Differentiable in `values`.

  Raises:
    ValueError: for a window below 1.

  Reference: ASAF, arXiv:2006.13258 (ASAF-w, its stride the window).
  """
  if window < 1:
    raise ValueError(f"window={window} must be at least 1")
  values, mask = map(jnp.asarray, (values, mask))
  checks.rank(1, values=values)
  checks.same_shape(values=values, mask=mask)
  cut = lambda x: jnp.pad(x, (0, -x.shape[0] % window)).reshape(-1, window)
  return cut(stats.masked(values, mask)), cut((mask > 0).astype(jnp.float32))


def switch_f1(switch: Array, boundary: Array, mask: Array, tolerance: int = 1) -> Array:
  """Scores how well switches hit given boundaries, some steps early or late.

  Precision is the share of switches with a boundary at most `tolerance` steps away, recall the share of boundaries with
  such a switch; one may serve several of the other.

  Args:
    switch: `[T]`, > 0 where a policy switched.
    boundary: `[T]`, > 0 where it should have.
    mask: `[T]`, 1 where a step counts; others are neither.
    tolerance: in steps, masked ones included; at least 0.

  Returns:
    float32[], `2 P R / (P + R)`; 0 without a switch, without a boundary or if none is hit. No gradient flows.

  Reference: Internal RL, arXiv:2512.20605 (alignment of switches with subgoals).
  """
  switch, boundary, mask = map(jnp.asarray, (switch, boundary, mask))
  checks.rank(1, switch=switch)
  checks.same_shape(switch=switch, boundary=boundary, mask=mask)
  switch, boundary = ((x > 0) & (mask > 0) for x in (switch, boundary))
  places = jnp.arange(mask.shape[0])
  first = jnp.maximum(places - tolerance, 0)
  after = jnp.minimum(places + tolerance + 1, mask.shape[0])

  def near(marks):
    before = jnp.append(0, jnp.cumsum(marks))
    return before[after] > before[first]

  precision = stats.masked_mean(near(boundary), switch)
  recall = stats.masked_mean(near(switch), boundary)
  total = precision + recall
  return 2 * precision * recall / jnp.where(total > 0, total, 1)
