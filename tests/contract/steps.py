"""Contract rows of `rlcore.advantages.steps`."""

import numpy as np

from rlcore.advantages import steps
from tests.contract import Row


def _candidates(rng):
  mask = np.ones(8, np.float32)
  mask[[0, 5]] = 0
  return rng.normal(size=8).astype(np.float32), mask


def _choose(temperature):
  return lambda advantages, mask: steps.reward_weighted_probs(advantages, temperature, mask)


_COMMON = dict(example=_candidates, masked={1: (0,)}, stopped=(0,), group=(0, 1), order="equivariant",
               low_precision=(0,))
_NAN = np.full(3, np.nan, np.float32)
_NOBODY = ((_NAN, np.zeros(3)), lambda out: not np.any(out))
_ALONE = ((np.array([np.nan, -1e30, np.inf], np.float32), np.array([0, 1, 0])), ([0, 1, 0],))

ROWS = [
    Row("reward_weighted_probs", _choose(0.7), degenerate=(
        _NOBODY, _ALONE, ((np.full(4, 0.1, np.float32), np.array([1, 1, 0, 1])), ([1 / 3, 1 / 3, 0, 1 / 3],)),
        ((np.array([3e38, -3e38, 3e38], np.float32), np.ones(3)), ([0.5, 0, 0.5],))), **_COMMON),
    Row("reward_weighted_probs[greedy]", _choose(0), degenerate=(
        _NOBODY, _ALONE, ((np.array([5, 1, 2, 2], np.float32), np.array([0, 1, 1, 1])), ([0, 0, 1, 0],))), **_COMMON),
]
