"""Contract rows of `rlcore.losses.off_policy`."""

import numpy as np

from rlcore import losses
from tests.contract import Row

T, C = 8, 2


def _f32(x):
  return np.asarray(x, np.float32)


def _mask(rng):
  return _f32([1, 0, 1, 1, 0, 1, 1, 0])


def _discounts(rng):
  return _f32([0.9, 0.9, 0, 0.9, 0, 0.9, 0.9, 0.9])


def _row(rng, *shape):
  return _f32(rng.normal(size=(T, *shape)))


_NAN, _NAN2 = _f32(np.full(4, np.nan)), _f32(np.full((4, 2), np.nan))
_NONE, _ALL = _f32(np.zeros(4)), _f32(np.ones(4))

ROWS = [
    Row("double_q_target", losses.double_q_target,
        lambda rng: (_row(rng), _row(rng, 3), _row(rng, 3), _discounts(rng), _mask(rng)), stopped=(0, 1, 2, 3),
        masked={4: (0, 1, 2, 3), 3: (1, 2)}, group=(0, 1, 2, 3, 4), order="equivariant", low_precision=(0, 2, 3),
        degenerate=(((_NAN, _NAN2, _NAN2, _NAN, _NONE), (_NONE,)), ((_ALL, _NAN2, _NAN2, _NONE, _ALL), (_ALL,)))),
    Row("td3_target", losses.td3_target, lambda rng: (_row(rng), _row(rng, C), _discounts(rng), _mask(rng)),
        stopped=(0, 1, 2), masked={3: (0, 1, 2), 2: (1,)}, group=(0, 1, 2, 3), order="equivariant",
        low_precision=(0, 1, 2), degenerate=(
            ((_NAN, _NAN2, _NAN, _NONE), (_NONE,)), ((_ALL, _NAN2, _NONE, _ALL), (_ALL,)))),
    Row("sac_target", losses.sac_target,
        lambda rng: (_row(rng), _row(rng, C), _row(rng), _f32(0.3), _discounts(rng), _mask(rng)),
        stopped=(0, 1, 2, 3, 4), masked={5: (0, 1, 2, 4), 4: (1, 2)}, group=(0, 1, 2, 4, 5), order="equivariant",
        low_precision=(0, 1, 2, 4), degenerate=(
            ((_NAN, _NAN2, _NAN, _f32(0.3), _NAN, _NONE), (_NONE,)),
            ((_ALL, _NAN2, _NAN, _f32(0.3), _NONE, _ALL), (_ALL,)))),
    Row("critics_loss", losses.critics_loss, lambda rng: (_row(rng, C), _row(rng), _mask(rng)), grads=(0,),
        stopped=(1,), masked={2: (0, 1)}, group=(0, 1, 2), order="invariant", low_precision=(0, 1),
        degenerate=(((_NAN2, _NAN, _NONE), (0.0,)),)),
    Row("deterministic_policy_loss", losses.deterministic_policy_loss, lambda rng: (_row(rng), _mask(rng)), grads=(0,),
        masked={1: (0,)}, group=(0, 1), order="invariant", low_precision=(0,), degenerate=(((_NAN, _NONE), (0.0,)),)),
    Row("sac_policy_loss", losses.sac_policy_loss,
        lambda rng: (_row(rng), _row(rng, C), _f32(0.3), _mask(rng)), grads=(0, 1), stopped=(2,), masked={3: (0, 1)},
        group=(0, 1, 3), order="invariant", low_precision=(0, 1),
        degenerate=(((_NAN, _NAN2, _f32(0.3), _NONE), (0.0,)),)),
    Row("temperature_loss", losses.temperature_loss,
        lambda rng: (_f32(-0.5), _row(rng), _f32(-1.0), _mask(rng)), grads=(0,), stopped=(1,), masked={3: (1,)},
        group=(1, 3), order="invariant", low_precision=(0, 1), degenerate=(
            ((_f32(0.0), _NAN, _f32(-1.0), _NONE), (0.0,)),)),
]
