"""Contract rows of `rlcore.segments`."""

import functools

import numpy as np

from rlcore import segments
from tests.contract import Row

_T, _S = 12, 4


def _boundary(rng):
  return (rng.random(_T) < 0.4).astype(np.float32), (rng.random(_T) < 0.7).astype(np.float32)


def _steps(rng):
  return rng.integers(-1, _S + 1, _T).astype(np.int32), (rng.random(_T) < 0.7).astype(np.float32)


def _ends(rng):
  return (rng.normal(size=_S).astype(np.float32), rng.integers(-2, _T + 2, _S).astype(np.int32),
          np.array([1, 1, 0, 1], np.float32))


def _spread(rng):
  step_id, mask = _steps(rng)
  return rng.normal(size=_S).astype(np.float32), step_id, mask


def _token_values(rng):
  return rng.normal(size=_T).astype(np.float32), *_steps(rng)


_MASK = np.array([1, 1, 0, 1, 1, 1, 0], np.float32)
_IDS = np.array([0, 0, 1, 1, 2, 2, 2], np.int32)
_CUT = (np.array([0, 1, 0, 0, 1, 0, 0]), np.array([1, 1, 1, 1, 1, 1, 0]))
_NONE = (np.ones(3), np.zeros(3))

ROWS = [
    Row("segment_ids", segments.segment_ids, _boundary, masked={1: (0,)},
        degenerate=((_CUT, ([0, 0, 1, 1, 1, 2, -1],)), (_NONE, ([-1] * 3,)), ((np.zeros(3), np.ones(3)), ([0] * 3,)))),
    Row("segment_ids[starts]", segments.segment_ids, _boundary, kwargs=dict(starts=True), masked={1: (0,)},
        degenerate=((_CUT, ([-1, 0, 0, 0, 1, 1, -1],)), (_NONE, ([-1] * 3,)), ((np.zeros(3), np.ones(3)), ([-1] * 3,)))),
    Row("segment_end_mask", segments.segment_end_mask, _boundary, masked={1: (0,)},
        degenerate=((_CUT, ([0, 1, 0, 0, 1, 1, 0],)), (_NONE, ([0] * 3,)), ((np.zeros(3), np.ones(3)), ([0, 0, 1],)))),
    Row("next_counted", segments.next_counted, lambda rng: (_boundary(rng)[1],),
        degenerate=(((_MASK,), ([1, 3, 3, 4, 5, 7, 7],)), ((np.zeros(3),), ([3] * 3,)), ((np.ones(1),), ([1],)),
                    ((np.zeros(0),), (np.zeros(0),)))),
    Row("last_token_of_steps", functools.partial(segments.last_token_of_steps, num_steps=_S), _steps, masked={1: (0,)},
        degenerate=(((_IDS, _MASK), ([1, 3, 5, -1],)), ((np.full(3, -1), np.ones(3)), ([-1] * _S,)),
                    ((np.full(3, _S), np.ones(3)), ([-1] * _S,)), ((_IDS, 0 * _MASK), ([-1] * _S,)))),
    Row("step_rewards_to_tokens", functools.partial(segments.step_rewards_to_tokens, num_tokens=_T), _ends, stopped=(0,),
        masked={2: (0, 1)}, group=(0, 1, 2), order="invariant", low_precision=(0,),
        degenerate=(((np.ones(3), np.array([-1, _T, 2]), np.ones(3)), (np.eye(_T)[2],)),
                    ((np.ones(3), np.array([5, 5, 5]), np.array([1, 0, 1])), (2 * np.eye(_T)[5],)))),
    Row("steps_to_tokens", segments.steps_to_tokens, _spread, stopped=(0,), masked={2: (1,)}, low_precision=(0,),
        degenerate=(((np.array([5.0, 7.0]), np.array([-1, 0, 1, 2]), np.ones(4)), ([0, 5, 7, 0],)),)),
    Row("step_sums", functools.partial(segments.step_sums, num_steps=_S), _token_values, grads=(0,), masked={2: (0, 1)},
        group=(0, 1, 2), order="invariant", low_precision=(0,),
        degenerate=(((np.ones(3), np.array([-1, _S, 2]), np.ones(3)), ([0, 0, 1, 0],)),)),
]
