"""Contract rows of `rlcore.stats`."""

import numpy as np

from rlcore import stats
from tests.contract import Row


def _values(rng):
  mask = (rng.random((8, 5)) < 0.7).astype(np.float32)
  return rng.normal(size=(8, 5)).astype(np.float32), mask


_COMMON = dict(example=_values, masked={1: (0,)}, group=(0, 1), order="invariant", low_precision=(0,), split=(0, 1))
_EMPTY = (np.full((2, 3), np.nan, np.float32), np.zeros((2, 3), np.float32))

ROWS = [
    Row("as_mask", lambda mask, like: stats.as_mask(mask, like), lambda rng: _values(rng)[::-1], group=(0, 1), order="equivariant"),
    Row("masked", stats.masked, _values, grads=(0,), masked={1: (0,)}, group=(0, 1), order="equivariant", low_precision=(0,)),
    Row("masked_sum", stats.masked_sum, grads=(0,), split_out=("same",), degenerate=((_EMPTY, (0.0,)),), **_COMMON),
    Row("masked_mean", stats.masked_mean, grads=(0,), split_out=("same",), degenerate=((_EMPTY, (0.0,)),), **_COMMON),
    Row("masked_count", stats.masked_count, split_out=("same",), degenerate=((_EMPTY, (0.0,)),), **_COMMON),
]
