"""Turning a loss of every token into one number, and the denominator that makes accumulation exact."""

from typing import Literal

import jax.numpy as jnp

from rlcore import checks, stats
from rlcore.stats import AxisName
from rlcore.types import Array

Aggregation = Literal["token", "sequence", "constant"]


def aggregate(
    values: Array,
    mask: Array,
    *,
    mode: Aggregation = "token",
    length: float | Array | None = None,
    count_empty: bool = True,
    axis_name: AxisName = None,
) -> Array:
  """Averages the values of the counted tokens into one scalar.

  The three modes differ in how much one token weighs (N sequences, n_i counted tokens in sequence i):
    token: 1 / sum_j n_j. Every token alike, long sequences dominate. DAPO, verl's `token-mean`, TRL's `dapo`, `bnpo`.
    sequence: 1 / (N n_i). Every sequence alike, tokens of long ones count less. GRPO's eq. 3, GSPO, TRL's `grpo`,
      verl's `seq-mean-token-mean`.
    constant: 1 / (N length). Every token alike, whatever the other lengths. Dr. GRPO, TRL's `dr_grpo`, verl's
      `seq-mean-token-sum-norm`; `length=1` is `seq-mean-token-sum`.
  docs/losses.md has the numbers.

  Args:
    values: `[N, T]`, loss (or any quantity) of each token.
    mask: `[N, T]`, 1 where a token counts.
    mode: static.
    length: divisor of the mode "constant", the longest response that can occur; None takes T, so give it where T
      varies between batches. The other modes ignore it.
    count_empty: static; whether a sequence without counted tokens counts in N ("sequence" and "constant"). True is
      GRPO's 1/G, TRL and slime; False is verl without a global batch size.
    axis_name: mapped axis over which the sequences are spread.

  Returns:
    float32 scalar; 0 where nothing counts.

  Raises:
    ValueError: if `mode` is not one of the three, or a `length` that is read is not above 0.

  Reference: DAPO, arXiv:2503.14476, eq. 12 (token); GRPO, arXiv:2402.03300, eq. 3 (sequence); Dr. GRPO,
  arXiv:2503.20783, section 3 (constant).
  """
  values, mask = map(jnp.asarray, (values, mask))
  checks.rank(2, values=values)
  checks.same_shape(values=values, mask=mask)
  weight = aggregation_weight(mask, mode=mode, length=length, count_empty=count_empty, axis_name=axis_name)
  if mode == "sequence":
    total = stats.masked_sum(stats.masked_mean(values, mask, axis=1), axis_name=axis_name)
  else:
    total = stats.masked_sum(values, mask, axis_name=axis_name)
  return total / jnp.where(weight > 0, weight, 1)


def aggregation_weight(
    mask: Array,
    *,
    mode: Aggregation = "token",
    length: float | Array | None = None,
    count_empty: bool = True,
    axis_name: AxisName = None,
) -> Array:
  """Computes the denominator of `aggregate`, so that losses of pieces of a batch add up exactly.

  Whatever the mode, the loss of a batch cut into pieces is `sum_i loss_i * weight_i / sum_i weight_i`; the same holds
  for its gradient. The plain mean of the pieces' losses is wrong as soon as their weights differ.

  Args:
    mask: `[N, T]`, 1 where a token counts.
    mode: as in `aggregate`.
    length: as in `aggregate`.
    count_empty: as in `aggregate`.
    axis_name: as in `aggregate`.

  Returns:
    float32 scalar: the number of counted tokens ("token"), of sequences ("sequence"), or of sequences times `length`
    ("constant").

  Raises:
    ValueError: if `mode` is not one of the three, or a `length` that is read is not above 0.

  Reference: DAPO, arXiv:2503.14476, eq. 12; GRPO, arXiv:2402.03300, eq. 3; Dr. GRPO, arXiv:2503.20783, section 3.
  """
  mask = jnp.asarray(mask)
  checks.rank(2, mask=mask)
  if mode == "token":
    return stats.masked_count(mask, mask, axis_name=axis_name)
  if mode not in ("sequence", "constant"):
    raise ValueError(f'mode={mode!r} is none of "token", "sequence", "constant"')
  if mode == "constant":
    checks.above(0, length=length)
  nonempty = jnp.any(stats.as_mask(mask, mask), axis=1)
  sequences = stats.masked_count(nonempty, None if count_empty else nonempty, axis_name=axis_name)
  if mode == "sequence":
    return sequences
  # without tokens there is no longest response, and nothing to average
  return sequences * jnp.asarray(max(mask.shape[1], 1) if length is None else length, jnp.float32)
