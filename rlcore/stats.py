"""Masked and cross-device statistics, the ones every other room uses.

`mask` is 1 where an element counts; whatever sits elsewhere, NaN and inf included, changes neither value nor gradient.
It has the shape of the values: a `[G, 1]` mask of `[G, T]` values would count T times what it means to count once. Only
`as_mask` and `masked`, which count nothing, broadcast it.
`axis_name` is one name or a tuple of names of mapped axes (`vmap`, `pmap`, `shard_map`) over which the statistic spans.

Deviations are taken from a counted element before anything is averaged, so that equal values have a spread of exactly
0 (in float32 the plain mean of seven times 0.7 is not 0.7, and a normaliser turns that difference into noise). They are
scaled before they are squared: the standard deviation of rewards around 1e20 is a float32, their squares are not.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from rlcore import checks
from rlcore.types import Array

AxisName = str | Sequence[str] | None


def as_mask(mask: Array | None, like: Array) -> Array:
  """Returns `mask > 0` broadcast to the shape of `like`; all True for None."""
  if mask is None:
    return jnp.ones(jnp.shape(like), bool)
  return jnp.broadcast_to(jnp.asarray(mask) > 0, jnp.shape(like))


def masked(values: Array, mask: Array | None) -> Array:
  """Returns `values` in float32 with 0 wherever `mask` is not set (junk there has gradient 0)."""
  values = jnp.asarray(values)
  return jnp.where(as_mask(mask, values), values, 0).astype(jnp.float32)


def _counted(values: Array, mask: Array | None) -> Array:
  """Returns `mask > 0`, asserting that a mask has the shape of the values that it counts."""
  checks.same_shape(values=values, mask=mask)
  return as_mask(mask, values)


def lookup(table: Array, index: Array, fill: float = 0) -> Array:
  """Looks entries `[...]` of a table `[K]` up; an index outside of it, a negative one too, finds `fill`."""
  table, index = jnp.asarray(table), jnp.asarray(index)
  if not table.shape[0]:
    return jnp.full(index.shape, fill, table.dtype)
  inside = (index >= 0) & (index < table.shape[0])
  return jnp.where(inside, table[jnp.where(inside, index, 0)], jnp.asarray(fill, table.dtype))


def _psum(x: Array, axis_name: AxisName) -> Array:
  return x if axis_name is None else jax.lax.psum(x, axis_name)


def _pmin(x: Array, axis_name: AxisName) -> Array:
  return x if axis_name is None else jax.lax.pmin(x, axis_name)


def _unit(size: Array) -> Array:
  """Returns what to divide numbers of this size by, so that their squares stay in range: 1 for all ordinary sizes."""
  far = 2.0**80  # a power of two: scaling by it loses no digit
  return jnp.where(size > 2.0**40, far, jnp.where((size > 0) & (size < 2.0**-40), 1 / far, 1)).astype(jnp.float32)


def _units(values: Array, axis, axis_name: AxisName = None) -> Array:
  """Returns the `_unit` of the largest of the values over `axis`, which is kept."""
  size = jnp.max(jnp.abs(jax.lax.stop_gradient(values)), axis, keepdims=True, initial=0)
  return _unit(-_pmin(-size, axis_name))


def euclidean_norm(values: Array, *, axis=None) -> Array:
  """Computes the length of a vector in float32, over `axis` (all by default); no square overflows, 0 has gradient 0."""
  values = jnp.asarray(values).astype(jnp.float32)
  scale = _units(values, axis)
  return _sqrt(jnp.sum(jnp.square(values / scale), axis)) * jnp.squeeze(scale, axis)


def masked_sum(values: Array, mask: Array | None = None, *, axis=None, axis_name: AxisName = None) -> Array:
  """Sums the counted elements in float32 over `axis` (all by default) and `axis_name`."""
  checks.same_shape(values=values, mask=mask)
  return _psum(jnp.sum(masked(values, mask), axis), axis_name)


def masked_count(values: Array, mask: Array | None = None, *, axis=None, axis_name: AxisName = None) -> Array:
  """Counts the counted elements, as float32, over `axis` and `axis_name`."""
  return _psum(jnp.sum(_counted(values, mask).astype(jnp.float32), axis), axis_name)


def masked_mean(values: Array, mask: Array | None = None, *, axis=None, axis_name: AxisName = None) -> Array:
  """Averages the counted elements in float32; 0 where nothing counts."""
  total = masked_sum(values, mask, axis=axis, axis_name=axis_name)
  return total / jnp.maximum(masked_count(values, mask, axis=axis, axis_name=axis_name), 1)


def _deviations(values: Array, mask: Array | None, axis, axis_name: AxisName) -> tuple[Array, Array]:
  """Returns the mean (its axes kept) and the deviations from it, exactly 0 where all counted values are equal."""
  keep = _counted(values, mask)
  values = masked(values, keep)
  lowest = jax.lax.stop_gradient(jnp.where(keep, values, jnp.inf))
  lowest = _pmin(jnp.min(lowest, axis, keepdims=True, initial=jnp.inf), axis_name)
  lowest = jnp.where(lowest < jnp.inf, lowest, 0)
  above = masked(values - lowest, keep)
  count = _psum(jnp.sum(keep.astype(jnp.float32), axis, keepdims=True), axis_name)
  mean = _psum(jnp.sum(above, axis, keepdims=True), axis_name) / jnp.maximum(count, 1)
  return lowest + mean, masked(above - mean, keep)


def _sqrt(x: Array) -> Array:
  """Square root whose gradient at 0 is 0."""
  nothing = x <= 0  # NaN is not nothing, and must come out as NaN
  return jnp.where(nothing, 0, jnp.sqrt(jnp.where(nothing, 1, x)))


def centred(values: Array, mask: Array | None = None, *, axis=None, axis_name: AxisName = None) -> Array:
  """Subtracts the mean of the counted elements; 0 in masked places, exactly 0 everywhere if they are all equal."""
  return _deviations(values, mask, axis, axis_name)[1]


def _scaled_var(values: Array, mask: Array | None, axis, ddof: int, axis_name: AxisName) -> tuple[Array, Array]:
  """Returns the variance of the counted elements divided by a scale, and the scale."""
  deviation = centred(values, mask, axis=axis, axis_name=axis_name)
  scale = _units(deviation, axis, axis_name)
  squares = masked_sum(jnp.square(deviation / scale), mask, axis=axis, axis_name=axis_name)
  count = masked_count(values, mask, axis=axis, axis_name=axis_name)
  counted = (count > ddof) | jnp.isnan(squares)
  return jnp.where(counted, squares / jnp.maximum(count - ddof, 1), 0), jnp.squeeze(scale, axis)


def masked_var(
    values: Array, mask: Array | None = None, *, axis=None, ddof: int = 0, axis_name: AxisName = None) -> Array:
  """Variance of the counted elements, divisor `count - ddof`; 0 where no more than `ddof` elements count."""
  var, scale = _scaled_var(values, mask, axis, ddof, axis_name)
  return var * scale * scale


def masked_std(
    values: Array, mask: Array | None = None, *, axis=None, ddof: int = 0, axis_name: AxisName = None) -> Array:
  """Standard deviation of the counted elements, divisor `count - ddof`; 0 with gradient 0 where there is no spread."""
  var, scale = _scaled_var(values, mask, axis, ddof, axis_name)
  return _sqrt(var) * scale


def whiten(
    values: Array, mask: Array | None = None, *, shift_mean: bool = True, power: float = 1.0, eps: float = 1e-8,
    axis_name: AxisName = None) -> Array:
  """Scales the counted elements to unit variance and, unless told otherwise, to mean 0.

  `shift_mean=False` adds the mean back, which keeps the sign of rewards. `power=0.5` divides by the root of the
  standard deviation, as a slip in the released code of Fine-Grained RLHF does. Equal values become 0 (or their mean).

  Args:
    values: `[...]`, any shape; the statistics run over all of it.
    mask: `[...]`, 1 where an element counts; None counts all.
    shift_mean: static, whether the result has mean 0.
    power: exponent of the standard deviation in the divisor.
    eps: added to the variance (divisor n).
    axis_name: mapped axes over which the statistics span.

  Returns:
    `[...]` float32, 0 in masked places; no gradient flows.

  Reference: Fine-Grained RLHF, arXiv:2306.01693.
  """
  values = jax.lax.stop_gradient(jnp.asarray(values))
  mean, deviation = _deviations(values, mask, None, axis_name)
  scale = _units(deviation, None, axis_name)
  scale = jnp.where(eps > 0, jnp.maximum(scale, 1), scale)  # what is small beside eps needs no digits
  var = masked_mean(jnp.square(deviation / scale), mask, axis_name=axis_name) + eps / scale / scale
  whitened = deviation * scale**-power * jnp.where(var > 0, var, 1) ** (-power / 2)
  return whitened if shift_mean else masked(whitened + mean, as_mask(mask, values))


def running_stats_init() -> dict[str, Array]:
  """Returns the moments of no value: count, mean, m2 (sum of squared deviations), min and max, each float32[].

  Where max - min exceeds 2**40, m2 is kept in units of 2**160, which no float32 could hold; `running_std` knows.
  """
  zero = jnp.zeros((), jnp.float32)
  return dict(count=zero, mean=zero, m2=zero, min=zero + jnp.inf, max=zero - jnp.inf)


def running_stats_merge(stats: dict[str, Array], other: dict[str, Array]) -> dict[str, Array]:
  """Merges the moments of two disjoint sets (Chan, Golub and LeVeque, 1979); an empty set changes nothing."""
  stats, other = ({name: jnp.asarray(x).astype(jnp.float32) for name, x in x.items()} for x in (stats, other))
  count = stats["count"] + other["count"]
  share = other["count"] / jnp.maximum(count, 1)
  delta = other["mean"] - stats["mean"]
  low, high = jnp.minimum(stats["min"], other["min"]), jnp.maximum(stats["max"], other["max"])
  unit = _range_unit(low, high)
  squares = lambda x: x["m2"] * jnp.square(_range_unit(x["min"], x["max"]) / unit)
  between = jnp.where(stats["count"] > 0, jnp.square(delta / unit) * stats["count"] * share, 0)  # no mean of nothing
  return dict(
      count=count, mean=stats["mean"] + delta * share, m2=squares(stats) + squares(other) + between, min=low, max=high)


def _range_unit(low: Array, high: Array) -> Array:
  """Returns the unit whose square m2 is counted in, see `running_stats_init`."""
  return jnp.maximum(_unit(high - low), 1)


def running_stats_update(
    stats: dict[str, Array], values: Array, mask: Array | None = None, *, ddof: int = 0,
    axis_name: AxisName = None) -> dict[str, Array]:
  """Merges the counted elements of a batch into running moments.

  With `axis_name` the batch is that of all mapped places together, and every place gets the same moments.

  Args:
    stats: what `running_stats_init` or an earlier update returned.
    values: `[...]`, any shape.
    mask: `[...]`, 1 where an element counts; None counts all. A batch in which nothing counts changes nothing.
    ddof: 0 for the moments of everything seen; 1 lets a batch enter with its unbiased variance (0 for one element)
      in place of its own, as ONI and many normalisers do.
    axis_name: mapped axes that the batch spans.

  Returns:
    The new moments, float32[] each, without gradient.

  Reference: PAR, arXiv:2502.18770 (its code); Chan, Golub and LeVeque, 1979.
  """
  values = jax.lax.stop_gradient(jnp.asarray(values))
  keep = _counted(values, mask)
  mean, deviation = _deviations(values, keep, None, axis_name)
  values, count = masked(values, keep), masked_count(values, keep, axis_name=axis_name)
  low = _pmin(jnp.min(jnp.where(keep, values, jnp.inf), initial=jnp.inf), axis_name)
  high = -_pmin(jnp.min(jnp.where(keep, -values, jnp.inf), initial=jnp.inf), axis_name)
  squares = masked_sum(jnp.square(deviation / _range_unit(low, high)), keep, axis_name=axis_name)
  batch = dict(
      count=count, mean=mean.reshape(()), m2=squares * (count / jnp.maximum(count - ddof, 1)), min=low, max=high)
  return running_stats_merge(stats, batch)


def running_moments_update(
    mean: Array | float, var: Array | float, count: Array | float, batch: Array, mask: Array | None = None, *,
    axis_name: AxisName = None) -> tuple[Array, Array, Array]:
  """Merges a batch into a running mean and variance that may start from a prior, (0, 1, 1e-4) say.

  It is `running_stats_update` with `ddof=1` of moments written as three numbers: the batch enters with its unbiased
  variance, the merged variance has divisor `count`.

  Args:
    mean: `[]`, of what was seen.
    var: `[]`, of what was seen.
    count: `[]`, how many were seen, or what the prior weighs.
    batch: `[...]`, any shape.
    mask: `[...]`, 1 where an element counts; None counts all. A batch in which nothing counts changes nothing.
    axis_name: mapped axes that the batch spans.

  Returns:
    `(mean, var, count)`, float32[] each, without gradient.

  Reference: ONI, arXiv:2410.23022 (its code).
  """
  mean, var, count = (jax.lax.stop_gradient(jnp.asarray(x)).astype(jnp.float32) for x in (mean, var, count))
  checks.rank(0, mean=mean, var=var, count=count)
  before = running_stats_init() | dict(count=count, mean=mean, m2=var * count)
  after = running_stats_update(before, batch, mask, ddof=1, axis_name=axis_name)
  grown = after["count"] > count
  unit = _range_unit(after["min"], after["max"])
  var = jnp.where(grown, after["m2"] / jnp.where(grown, after["count"], 1) * unit * unit, var)
  return after["mean"], var, after["count"]


def running_std(stats: dict[str, Array]) -> Array:
  """Standard deviation (divisor n) of running moments; 0 for fewer than two values and for a constant stream."""
  stats = {name: jnp.asarray(x).astype(jnp.float32) for name, x in stats.items()}
  flat = (stats["count"] <= 1) | (stats["max"] <= stats["min"])  # NaN is not flat, and must come out
  std = _sqrt(stats["m2"] / jnp.maximum(stats["count"], 1)) * _range_unit(stats["min"], stats["max"])
  return jnp.where(flat, 0, std)


def average_ranks(values: Array, mask: Array | None = None) -> Array:
  """Ranks the counted elements of a vector `[N]` from 1; ties share their average rank, masked places get 0.

  A NaN has no place in the order, so one that counts makes every rank NaN.
  """
  values = jnp.asarray(values)
  checks.rank(1, values=values)
  checks.same_shape(values=values, mask=mask)
  keep = as_mask(mask, values)
  values = jax.lax.stop_gradient(masked(values, keep))
  ordered = jnp.sort(jnp.where(keep, values, jnp.inf))
  below = jnp.searchsorted(ordered, values, side="left")
  up_to = jnp.minimum(jnp.searchsorted(ordered, values, side="right"), jnp.sum(keep))
  ranks = jnp.where(jnp.any(jnp.isnan(values)), jnp.nan, (below + up_to + 1) / 2)
  return masked(ranks, keep)


def pearson_correlation(
    x: Array, y: Array, mask: Array | None = None, *, eps: float = 1e-12, axis_name: AxisName = None) -> Array:
  """Correlates two arrays over their counted elements.

  In this order: fewer than two elements give 0; identical arrays give 1, constant ones too; a constant array gives 0
  with gradient 0. Constant means a centred sum of squares of at most `eps + 1e-10 * sum(x**2)`.

  Args:
    x: `[...]`, any shape.
    y: `[...]`, the shape of `x`.
    mask: `[...]`, 1 where an element counts; None counts all.
    eps: absolute part of the threshold below which an array is constant.
    axis_name: mapped axes over which the sums span.

  Returns:
    float32[] in [-1, 1].

  Reference: StateFactory, arXiv:2603.09400 (its code).
  """
  x, y = jnp.asarray(x), jnp.asarray(y)
  checks.same_shape(x=x, y=y, mask=mask)
  keep = as_mask(mask, x)
  total = lambda values: masked_sum(values, keep, axis_name=axis_name)
  x, y = masked(x, keep), masked(y, keep)
  differ = total(x != y) > 0
  scale_x, scale_y = (jnp.maximum(jnp.squeeze(_units(z, None, axis_name)), 1) for z in (x, y))
  x, y = x / scale_x, y / scale_y
  u, v = centred(x, keep, axis_name=axis_name), centred(y, keep, axis_name=axis_name)
  var_u, var_v = total(u * u), total(v * v)
  # comparisons are such that NaN does not count as constant: it is to come out
  constant = (var_u <= eps / scale_x / scale_x + 1e-10 * total(x * x))
  constant |= var_v <= eps / scale_y / scale_y + 1e-10 * total(y * y)
  scale = _sqrt(jnp.where(constant, 1, var_u)) * _sqrt(jnp.where(constant, 1, var_v))
  rho = jnp.where(constant, 0, jnp.clip(total(u * v) / scale, -1, 1))
  rho = jnp.where(differ, rho, 1)
  return jnp.where(total(jnp.ones_like(x)) > 1, rho, 0)


def spearman_correlation(x: Array, y: Array, mask: Array | None = None) -> Array:
  """Correlates the ranks of two vectors `[N]`, ties at their average rank; no gradient, constants as in Pearson's."""
  x, y = jnp.asarray(x), jnp.asarray(y)
  checks.same_shape(x=x, y=y, mask=mask)
  return pearson_correlation(average_ranks(x, mask), average_ranks(y, mask), mask)
