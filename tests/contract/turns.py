"""Contract rows of multi-turn credit: `rlcore.rewards.turns` and what belongs to it in `rlcore.advantages`."""

import numpy as np

from rlcore.advantages import groups, temporal
from rlcore.rewards import turns
from tests.contract import Row

_S, _G, _T = 6, 5, 9


def _turns(rng):
  mask = np.ones(_S, np.float32)
  mask[[2, 5]] = 0
  rewards = rng.normal(size=_S).astype(np.float32)
  rewards[0] = 3.0
  return rewards, mask


def _final(rng):
  return rng.normal(), _turns(rng)[1]


def _won(rng):
  return *_turns(rng), np.float32(1), np.float32(4)


def _lost(rng):
  return *_turns(rng), np.float32(0), np.float32(4)


def _group(rng):
  mask = (rng.random((_G, _T)) < 0.6).astype(np.float32)
  mask[:, 0] = 1
  return rng.normal(size=(_G, _T)).astype(np.float32), mask


def _holes(rng):
  mask = np.array([1, 1, 0, 1, 1, 1, 0, 0, 1], np.float32)
  return rng.normal(size=_T).astype(np.float32), mask


_REWARDS = np.array([1, 0, 1, 0], np.float32)
_ALL = np.ones(4, np.float32)
_JUNK = np.full(3, np.nan, np.float32)
_NONE = np.zeros(3, np.float32)

ROWS = [
    Row("sparse_turn_rewards", turns.sparse_turn_rewards, _final, stopped=(0,), low_precision=(0,), degenerate=(
        ((2.0, _NONE), (_NONE,)), ((2.0, np.array([0, 1, 1, 0])), ([0, 0, 2, 0],)),
        ((2.0, np.array([1, 0, 0.5, 0, 0])), ([0, 0, 2, 0, 0],)))),
    Row("dense_turn_rewards[won]", turns.dense_turn_rewards, _won, stopped=(0, 3), masked={1: (0,)},
        low_precision=(0,), degenerate=(
            ((_REWARDS, _ALL, True, 5.0), ([0.5, 0, 0.5, 0],)), ((_JUNK, _NONE, True, 5.0), (_NONE,)),
            ((-_REWARDS, _ALL, True, 5.0), (-_REWARDS,)),
            ((_REWARDS, np.array([1, 1, 0, 1]), 1, 5.0), ([1, 0, 0, 0],)))),
    Row("dense_turn_rewards[lost]", turns.dense_turn_rewards, _lost, stopped=(0, 3), masked={1: (0,)},
        low_precision=(0,), degenerate=(
            ((_REWARDS, _ALL, False, 5.0), ([0.2, 0, 0.2, 0],)), ((_JUNK, _NONE, False, 0.0), (_NONE,)),
            ((_REWARDS, _ALL, 0, 0.5), (_REWARDS,)))),
    Row("trajectory_rloo", groups.trajectory_rloo, _group, stopped=(0,), masked={1: (0,)}, group=(0, 1),
        order="equivariant", low_precision=(0,), degenerate=(
            ((np.array([[1.0, 2.0, np.nan]]), np.array([[1, 1, 0]])), ([[3, 3, 0]],)),
            ((np.array([[1.0, 2.0], [np.nan, np.nan]]), np.array([[0, 1], [0, 0]])), ([[0, 2], [0, 0]],)),
            ((np.full((4, 3), 0.7, np.float32), np.ones((4, 3))), lambda out: not np.any(out)),
            ((np.full((2, 3), np.nan), np.zeros((2, 3))), lambda out: not np.any(out)))),
    Row("reinforce_pp_returns", temporal.reinforce_pp_returns, _holes, kwargs=dict(gamma=0.9), stopped=(0,),
        masked={1: (0,)}, low_precision=(0,), degenerate=(
            ((_JUNK, _NONE), (_NONE,)), ((_REWARDS, np.array([1, 1, 0, 1])), ([1, 0, 0, 0],)))),
]
