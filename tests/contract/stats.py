"""Contract rows of `rlcore.stats`."""

import numpy as np

from rlcore import stats
from tests.contract import Row


def _values(rng):
  mask = (rng.random((8, 5)) < 0.7).astype(np.float32)
  return rng.normal(size=(8, 5)).astype(np.float32), mask


def _moments(rng, size=6):
  x = rng.normal(size=size)
  return [np.float32(v) for v in (size, x.mean(), x.var() * size, x.min(), x.max())]


def _record(count, mean, m2, low, high):
  return dict(count=count, mean=mean, m2=m2, min=low, max=high)


def _merge(*numbers):
  return stats.running_stats_merge(_record(*numbers[:5]), _record(*numbers[5:]))


def _update(values, mask, *numbers, **kwargs):
  return stats.running_stats_update(_record(*numbers), values, mask, **kwargs)


def _moments_update(values, mask, *numbers, **kwargs):
  return stats.running_moments_update(*numbers, values, mask, **kwargs)


def _prior(rng):
  return *_values(rng), *(np.float32(v) for v in (0.3, 1.1, 2.5))


def _pairs(rng):
  x, mask = _values(rng)
  return x, (0.5 * x + rng.normal(size=x.shape)).astype(np.float32), mask


def _vector(rng):
  values = rng.integers(0, 6, 16).astype(np.float32)
  return values, (rng.random(16) < 0.7).astype(np.float32)


_COMMON = dict(example=_values, masked={1: (0,)}, group=(0, 1), order="invariant", low_precision=(0,), split=(0, 1))
_EQUIVARIANT = {**_COMMON, "order": "equivariant"}
# Degenerate cases have the shape of the example, so that nothing is compiled for them alone.
_RAMP = np.arange(40, dtype=np.float32).reshape(8, 5)
_SEVEN = (_RAMP % 6 == 0).astype(np.float32)
_EMPTY = (np.full((8, 5), np.nan, np.float32), np.zeros((8, 5), np.float32))
_TIED = (np.where(_SEVEN, 0.7, np.nan).astype(np.float32), _SEVEN)
_ONE = (np.where(_RAMP == 1, 2.5, np.nan).astype(np.float32), (_RAMP == 1).astype(np.float32))
_NO_RANKS, _RISE = (np.full(16, np.nan, np.float32), np.zeros(16, np.float32)), np.arange(16, dtype=np.float32)
_START = tuple(np.float32(v) for v in (0, 0, 0, np.inf, -np.inf))
_SEEN = tuple(np.float32(v) for v in (3, 7 / 3, 14 / 3, 1, 4))
_SORTED_SEEN = tuple(_SEEN[i] for i in (0, 2, 4, 1, 3))  # the order of a dict's leaves: count, m2, max, mean, min


def _zeros(out):
  return not np.any(np.asarray(out))


ROWS = [
    Row("as_mask", lambda mask, like: stats.as_mask(mask, like), lambda rng: _values(rng)[::-1], group=(0, 1),
        order="equivariant"),
    Row("masked", stats.masked, _values, grads=(0,), masked={1: (0,)}, group=(0, 1), order="equivariant",
        low_precision=(0,)),
    Row("masked_sum", stats.masked_sum, grads=(0,), split_out=("same",), degenerate=((_EMPTY, (0.0,)),), **_COMMON),
    Row("masked_mean", stats.masked_mean, grads=(0,), split_out=("same",), degenerate=((_EMPTY, (0.0,)),), **_COMMON),
    Row("masked_count", stats.masked_count, split_out=("same",), degenerate=((_EMPTY, (0.0,)),), **_COMMON),
    Row("masked_var", stats.masked_var, grads=(0,), split_out=("same",),
        degenerate=((_EMPTY, (0.0,)), (_TIED, _zeros), (_ONE, _zeros)), **_COMMON),
    Row("masked_std[ddof=1]", stats.masked_std, kwargs=dict(ddof=1), grads=(0,), split_out=("same",),
        degenerate=((_EMPTY, (0.0,)), (_TIED, _zeros), (_ONE, _zeros)), **_COMMON),
    Row("centred", stats.centred, grads=(0,), split_out=("split",),
        degenerate=((_EMPTY, _zeros), (_TIED, _zeros), (_ONE, _zeros)), **_EQUIVARIANT),
    Row("whiten", stats.whiten, stopped=(0,), split_out=("split",),
        degenerate=((_EMPTY, _zeros), (_TIED, _zeros), (_ONE, _zeros)), **_EQUIVARIANT),
    Row("whiten[shift_mean=False,power=0.5]", stats.whiten, kwargs=dict(shift_mean=False, power=0.5), stopped=(0,),
        split_out=("split",), degenerate=((_EMPTY, _zeros), (_TIED, (0.7 * _SEVEN,)), (_ONE, (2.5 * _ONE[1],))),
        **_EQUIVARIANT),
    Row("lookup", stats.lookup, lambda rng: (rng.normal(size=6).astype(np.float32), rng.integers(-2, 8, 9)), grads=(0,),
        group=(1,), order="equivariant", degenerate=(
            ((np.arange(1, 7, dtype=np.float32), np.arange(-2, 7)), ([0, 0, 1, 2, 3, 4, 5, 6, 0],)),
            ((np.zeros(0, np.float32), np.arange(9)), _zeros))),
    Row("euclidean_norm", stats.euclidean_norm, lambda rng: (rng.normal(size=7).astype(np.float32),), grads=(0,),
        group=(0,), order="invariant", low_precision=(0,), degenerate=(
            ((np.zeros(7, np.float32),), (0.0,)), ((np.eye(7, dtype=np.float32)[0] * 3e38,), (np.float32(3e38),)),
            ((np.full(7, 1e-30, np.float32),), lambda out: abs(out / 7**0.5 / 1e-30 - 1) < 1e-6))),
    Row("running_stats_init",
        lambda like: {k: stats.running_stats_init()[k] + 0 * like for k in ("count", "mean", "m2")},
        lambda rng: (np.float32(1),)),
    Row("running_stats_merge", _merge, lambda rng: (*_moments(rng), *_moments(rng, 9)),
        degenerate=(((*_SEEN, *_START), _SORTED_SEEN), ((*_START, *_SEEN), _SORTED_SEEN))),
    Row("running_stats_update", _update, lambda rng: (*_values(rng), *_moments(rng)), stopped=(0,), masked={1: (0,)},
        group=(0, 1), order="invariant", low_precision=(0,), split=(0, 1), split_out=("same",) * 5,
        degenerate=(((*_EMPTY, *_SEEN), _SORTED_SEEN),
                    ((2 ** _RAMP, (_RAMP < 3).astype(np.float32), *_START), _SORTED_SEEN))),
    Row("running_stats_update[ddof=1]", _update, lambda rng: (*_values(rng), *_moments(rng)), kwargs=dict(ddof=1),
        stopped=(0,), masked={1: (0,)}, group=(0, 1), order="invariant", split=(0, 1), split_out=("same",) * 5,
        degenerate=(((*_EMPTY, *_SEEN), _SORTED_SEEN), ((*_ONE, *_START), (1, 0, 2.5, 2.5, 2.5)))),
    Row("running_moments_update", _moments_update, _prior, stopped=(0, 2, 3, 4), masked={1: (0,)}, group=(0, 1),
        order="invariant", low_precision=(0,), split=(0, 1), split_out=("same",) * 3,
        degenerate=(((*_EMPTY, 0.3, 1.1, 1e-4), (0.3, 1.1, 1e-4)), ((*_EMPTY, 0.3, 1.1, 0.0), (0.3, 1.1, 0)),
                    ((*_ONE, 9.0, 1.0, 0.0), (2.5, 0, 1)))),
    Row("running_std", lambda *numbers: stats.running_std(_record(*numbers)), _moments, grads=(2,),
        degenerate=((_START, (0.0,)), ((7, 0.7, 1e-9, 0.7, 0.7), _zeros), ((1, 3, 0, 3, 3), _zeros),
                    (_SEEN, (1.247219,)))),
    Row("average_ranks", stats.average_ranks, _vector, stopped=(0,), masked={1: (0,)}, group=(0, 1),
        order="equivariant",
        degenerate=((_NO_RANKS, _zeros), ((_RISE // 8, _RISE > 4), ([0] * 5 + [2] * 3 + [7.5] * 8,)),
                    ((np.where(_RISE < 15, -_RISE, np.inf), _RISE > 13), ([0] * 14 + [1, 2],)))),
    Row("pearson_correlation", stats.pearson_correlation, _pairs, grads=(0, 1), masked={2: (0, 1)}, group=(0, 1, 2),
        order="invariant", low_precision=(0, 1), split=(0, 1, 2), split_out=("same",),
        degenerate=(((_EMPTY[0], *_EMPTY), _zeros), ((_TIED[0], _RAMP, _SEVEN), _zeros),
                    ((_TIED[0], *_TIED), (1.0,)), ((_ONE[0], *_ONE), _zeros),
                    ((1e4 + _RAMP, 3 - _RAMP, _SEVEN), (-1.0,)))),
    Row("spearman_correlation", stats.spearman_correlation, lambda rng: (_vector(rng)[0], *_vector(rng)),
        stopped=(0, 1), masked={2: (0, 1)}, group=(0, 1, 2), order="invariant",
        degenerate=(((0 * _RISE + 0.7, _RISE, _RISE > 3), _zeros), ((np.exp(_RISE), _RISE, _RISE > 3), (1.0,)),
                    ((np.exp(_RISE), -_RISE, _RISE > 3), (-1.0,)))),
]
