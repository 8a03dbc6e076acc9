"""Masked and cross-device statistics, the ones every other room uses.

`mask` is 1 where an element counts; whatever sits elsewhere, NaN and inf included, changes neither value nor gradient.
`axis_name` is one name or a tuple of names of mapped axes (`vmap`, `pmap`, `shard_map`) over which the statistic spans.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

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


def _psum(x: Array, axis_name: AxisName) -> Array:
  return x if axis_name is None else jax.lax.psum(x, axis_name)


def masked_sum(values: Array, mask: Array | None = None, *, axis=None, axis_name: AxisName = None) -> Array:
  """Sums the counted elements in float32 over `axis` (all by default) and `axis_name`."""
  return _psum(jnp.sum(masked(values, mask), axis), axis_name)


def masked_count(values: Array, mask: Array | None = None, *, axis=None, axis_name: AxisName = None) -> Array:
  """Counts the counted elements, as float32, over `axis` and `axis_name`."""
  return _psum(jnp.sum(as_mask(mask, values).astype(jnp.float32), axis), axis_name)


def masked_mean(values: Array, mask: Array | None = None, *, axis=None, axis_name: AxisName = None) -> Array:
  """Averages the counted elements in float32; 0 where nothing counts."""
  total = masked_sum(values, mask, axis=axis, axis_name=axis_name)
  return total / jnp.maximum(masked_count(values, mask, axis=axis, axis_name=axis_name), 1)
