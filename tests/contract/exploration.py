"""Contract rows of `rlcore.exploration` and the losses that train its message models."""

import numpy as np

from rlcore import exploration, losses
from tests.contract import Row

_T, _K, _D = 8, 5, 3


def _mask(rng):
  mask = (rng.random(_T) < 0.7).astype(np.float32)
  mask[[0, 3]], mask[[1, 4]] = 0, 1
  return mask


def _keys(rng):
  return rng.integers(0, _K, _T).astype(np.int32), _mask(rng)


def _table(rng):
  return rng.integers(0, 9, _K).astype(np.int32), *_keys(rng)


def _counts(rng):
  return rng.integers(0, 4, _T).astype(np.float32), _mask(rng)


def _pair(rng):
  return rng.normal(size=_D).astype(np.float32), rng.normal(size=_D).astype(np.float32)


def _novelty(rng):
  return rng.random(_T + 1).astype(np.float32), _mask(rng), np.float32(0.5)


def _square(rng):
  root = rng.normal(size=(_D, _D)).astype(np.float32)
  return root @ root.T + np.eye(_D, dtype=np.float32), rng.normal(size=_D).astype(np.float32)


def _features(rng):
  return rng.normal(size=(_T, _D)).astype(np.float32), _mask(rng), np.float32(0.3)


def _bonuses(rng):
  return rng.random(_T).astype(np.float32), rng.random(_T).astype(np.float32)


def _two(rng):
  return *_bonuses(rng), np.float32(0.7)


def _contexts(rng):
  return rng.normal(size=(4, _T)).astype(np.float32), (rng.random((4, _T)) < 0.6).astype(np.float32)


def _retrieval(rng):
  return rng.integers(-1, 2, _K).astype(np.int32), *_keys(rng)


def _logits(rng):
  return rng.normal(size=(_T, 2)).astype(np.float32), _mask(rng), np.float32(0.5)


def _labelled(rng):
  return rng.normal(size=(_T, 2)).astype(np.float32), rng.integers(0, 2, _T).astype(np.int32), rng.random() * _mask(rng)


def _scores(rng):
  scores = np.where(np.arange(_T) % 2, 1, -1) * (0.5 + rng.random(_T))
  return scores.astype(np.float32), np.float32(0.1), np.float32(1.7), np.float32(0), _mask(rng)


def _oni(rng):
  counts = rng.integers(0, 4, _T).astype(np.int32)
  counts[1] = 2
  return *_bonuses(rng), counts, np.float32(0.1), np.float32(0.4), np.float32(3), np.float32(10)


def _queue(rng):
  return rng.integers(0, 4, _T).astype(np.int32), _mask(rng), np.int32(3)


def _combined(mode):
  return lambda g, e, coef: exploration.combine_bonuses(g, e, mode, coef)


def _counted(counts, keys, mask, axis_name=None):
  """The table alone: under `axis_name` what a step sees of it lags, on purpose."""
  return exploration.global_count(counts, keys, mask, axis_name=axis_name)[1]


_NOBODY = np.full(3, np.nan, np.float32), np.zeros(3, np.float32)
_ZERO = (np.zeros(3),)
_NAN3 = np.full((3, 2), np.nan, np.float32)
_SAME_KEYS = np.array([7, 7, 7], np.int32), np.array([1, 0, 1])
_STEPS = dict(masked={1: (0,)}, low_precision=(0,))
_G, _E = np.array([0.5, 0, 2], np.float32), np.array([1, 3, 0.25], np.float32)


def _combine_row(mode, expected):
  used = {"mul": (0, 1), "add": (0, 1), "global": (0,), "episodic": (1,)}[mode]
  return Row(
      f"combine_bonuses[{mode}]", _combined(mode), _two, stopped=(0, 1, 2), group=(0, 1), order="equivariant",
      low_precision=used, degenerate=(((_G, _E, 2.0), (expected,)),))


ROWS = [
    Row("episodic_count", exploration.episodic_count, _keys, masked={1: (0,)}, degenerate=(
        (_SAME_KEYS, ([1, 0, 2],)), ((np.array([-5, 2**31 - 1, -5], np.int32), np.ones(3)), ([1, 1, 2],)),
        ((np.zeros(3, np.int32), np.zeros(3)), _ZERO))),
    Row("episodic_message_count", exploration.episodic_message_count, _keys, degenerate=(
        ((np.full(5, 2, np.int32), np.array([0, 0, 1, 0, 1])), ([1, 2, 1, 2, 1],)),
        ((np.array([1, 2, 1], np.int32), np.array([1, 0, 0])), ([1, 1, 2],)))),
    Row("global_count", exploration.global_count, _table, masked={2: (1,)}, degenerate=(
        ((np.array([0, 2, 0]), np.array([1, 1, 0]), np.array([1, 1, 0])), ([3, 4, 0], [0, 4, 0])),
        ((np.array([4, 2]), np.array([-1, 2, 1], np.int32), np.ones(3)), ([0, 0, 3], [4, 3])),
        ((np.array([4, 2]), np.zeros(3, np.int32), np.zeros(3)), (np.zeros(3), [4, 2])))),
    Row("global_count[axis_name]", _counted, _table, masked={2: (1,)}, group=(1, 2), order="invariant", split=(1, 2),
        split_out=("same",)),
    Row("count_bonus", exploration.count_bonus, _counts, stopped=(0,), group=(0, 1), order="equivariant", degenerate=(
        (_NOBODY, _ZERO), ((np.array([0, 4, 1]), np.ones(3)), ([0, 0.5, 1],))), **_STEPS),
    Row("count_bonus[indicator]", exploration.count_bonus, _counts, kwargs=dict(kind="indicator"), stopped=(0,),
        group=(0, 1), order="equivariant", degenerate=(
            (_NOBODY, _ZERO), ((np.array([0, 4, 1]), np.ones(3)), ([0, 0, 1],))), **_STEPS),
    Row("rnd_novelty", exploration.rnd_novelty, _pair, grads=(0,), stopped=(1,), group=(0, 1), order="invariant",
        low_precision=(0, 1), degenerate=(
            ((np.ones(3), np.ones(3)), (0.0,)), ((np.array([3, 0, 4.0]), np.zeros(3)), (5.0,)))),
    Row("noveld_bonus", exploration.noveld_bonus, _novelty, stopped=(0, 2), low_precision=(0,), degenerate=(
        ((np.array([0.5, 0.6, 0.1, 0.9, 0.9]), np.ones(4), 0.5), ([0.35, 0, 0.85, 0.45],)),
        ((np.array([0.5, 0.6, np.nan, np.inf]), np.array([1, 0, 0]), 0.0), ([0.6, 0, 0],)),
        ((np.array([0.5, 0.6, 0.1]), np.ones(2), 1.0), ([0.1, 0],)),
        ((np.full(4, np.nan), np.zeros(3), 0.5), _ZERO))),
    Row("elliptical_inverse_update", exploration.elliptical_inverse_update, _square, stopped=(0, 1),
        low_precision=(0, 1), degenerate=(
            ((10 * np.eye(2), np.zeros(2)), (0, 10 * np.eye(2))),
            ((10 * np.eye(2), np.array([1, 0.0])), (10, [[10 / 11, 0], [0, 10]])))),
    Row("elliptical_root_update", exploration.elliptical_root_update, _square, stopped=(0, 1),
        low_precision=(0, 1), degenerate=(
            ((2 * np.eye(2), np.zeros(2)), (0, 2 * np.eye(2))),
            ((2 * np.eye(2), np.array([1, 0.0])), (4, [[2 / 5**0.5, 0], [0, 2]])))),
    Row("elliptical_pair_update", exploration.elliptical_pair_update,
        lambda rng: (np.eye(_D, dtype=np.float32), *_square(rng)), stopped=(0, 1, 2), low_precision=(0, 1, 2),
        degenerate=(
            ((2 * np.eye(2), np.eye(2), np.zeros(2)), (0, np.eye(2))),
            ((2 * np.eye(2), np.eye(2), np.array([1, 0.0])), (4, [[1 / 5**0.5, 0], [0, 1]])))),
    Row("elliptical_join", exploration.elliptical_join,
        lambda rng: (np.eye(_D, dtype=np.float32), np.float32(0.3 * rng.normal(size=(_D, _D)))), stopped=(0, 1),
        low_precision=(0, 1), degenerate=(
            ((2 * np.eye(2), np.eye(2)), (2 * np.eye(2),)),
            ((2 * np.eye(2), np.diag([0.1, 1])), lambda out: np.allclose(np.abs(out), [[0.2, 0], [0, 2]])))),
    Row("elliptical_bonus", exploration.elliptical_bonus, _features, stopped=(0, 2), degenerate=(
        ((_NAN3, np.zeros(3), 0.1), _ZERO), ((np.ones((3, 2)), np.array([1, 0, 1]), 0.5), ([4, 0, 0.8],)),
        ((np.zeros((3, 2)), np.ones(3), 0.1), _ZERO)), **_STEPS),
    Row("elliptical_bonus[zero_first]", exploration.elliptical_bonus, _features, kwargs=dict(zero_first=True),
        stopped=(0, 2), degenerate=(
            ((_NAN3, np.zeros(3), 0.1), _ZERO), ((np.ones((3, 2)), np.array([0, 1, 1]), 0.5), ([0, 0, 0.8],))),
        **_STEPS),
    _combine_row("mul", [0.5, 0, 0.5]),
    _combine_row("add", [2, 3, 4.25]),
    _combine_row("global", _G),
    _combine_row("episodic", _E),
    Row("scale_bonus", exploration.scale_bonus, lambda rng: (_bonuses(rng)[0], np.float32(0.4)), stopped=(0, 1),
        low_precision=(0, 1), degenerate=(((_G, 2.0), (_G / 2,)), ((_G, 0.0), (_G,)), ((_G, -1.0), (_G,)),
                                          ((_G, np.nan), (_G,)))),
    Row("augmented_reward", exploration.augmented_reward, lambda rng: (*_two(rng), np.float32(0.9)),
        stopped=(0, 1, 2, 3), low_precision=(0, 1), degenerate=(
            ((_G, _E, 1.0, 1.0), (np.ones(3),)), ((_G, _E, -1.0, 0.0), (_G - _E,)),
            ((_G, _E, -1.0, 2.0), ([-0.5, -2, 1.75],)),
            ((_G, np.array([np.inf, -np.inf, 0]), 1.0, 5.0), ([5, -5, 2],)))),
    Row("value_context_variance", exploration.value_context_variance, _contexts, grads=(0,), masked={1: (0,)},
        group=(0, 1), order="invariant", low_precision=(0,), degenerate=(
            ((np.full((2, 3), np.nan), np.zeros((2, 3))), (0.0,)), ((np.ones((1, 3)), np.ones((1, 3))), (0.0,)),
            ((np.array([[1, 2, 9], [3, 2, np.nan]]), np.array([[1, 1, 1], [1, 1, 0]])), (0.5,)),
            ((np.zeros((0, 3)), np.zeros((0, 3))), (0.0,)))),
    Row("retrieval_reward", exploration.retrieval_reward, _retrieval, masked={2: (1,)}, group=(1, 2),
        order="equivariant", degenerate=(
            ((np.array([0, 1, -1]), np.array([0, 1, 1, 2, 1]), np.ones(5)), ([0, 1, 1, 0, 1],)),
            ((np.array([1, 1]), np.array([-1, 2, 1], np.int32), np.ones(3)), ([0, 0, 1],)))),
    Row("classification_reward", exploration.classification_reward, _logits, stopped=(0, 2), group=(0, 1),
        order="equivariant", degenerate=(
            ((np.array([[1, 1], [0, 900], [900, 0]]), np.ones(3), 0.5), ([0, 1, 0],)),
            ((_NAN3, np.zeros(3), 0.5), _ZERO), ((_NAN3, np.ones(3), -1.0), _ZERO)), **_STEPS),
    Row("ranking_reward", exploration.ranking_reward, _scores, stopped=(0, 1, 2, 3), masked={4: (0,)}, group=(0, 4),
        order="equivariant", low_precision=(0, 1, 2), degenerate=(
            ((np.array([1, 3, 2.0]), 1.0, 4.0, 0.0, np.ones(3)), ([0, 1, 0.5],)),
            ((np.array([1, 3, 0.0]), 1.0, 4.0, -0.75, np.ones(3)), ([0, 1, -0.5],)),
            ((np.array([1, 3, 2.0]), 1.0, 0.0, -1.0, np.ones(3)), _ZERO),
            ((_NOBODY[0], 0.0, 1.0, -9.0, np.zeros(3)), _ZERO))),
    Row("oni_reward", exploration.oni_reward, _oni, stopped=(0, 1, 3, 4, 5, 6), group=(0, 1, 2), order="equivariant",
        low_precision=(0, 1), degenerate=(
            ((_G, np.array([1, np.nan, 1]), np.array([1, 0, 2]), 1.0, 4.0, 2.0, 0.0), ([4.5, 0, 3],)),
            ((_G, np.ones(3), np.array([1, 2, 2]), 0.0, 4.0, -1.0, 6.0), ([4, 6, 6],)),
            ((_G, np.ones(3), np.array([1, 2, 9]), 0.0, -1.0, 0.0, 0.5), ([-0.5] * 3,)))),
    Row("newest_first_batch", exploration.newest_first_batch, _queue, masked={1: (0,)}, degenerate=(
        ((np.array([3, 5, 5, 1]), np.ones(4), 2), ([0, 1, 1, 0],)),
        ((np.array([5, 5, 5, 1]), np.ones(4), 2), ([0, 1, 1, 0],)),
        ((np.array([3, 5, -5, 1]), np.array([0, 0, 1, 0]), 2), ([0, 0, 1, 0],)),
        ((np.array([3, 5, 5, 1]), np.ones(4), 0), (np.zeros(4),)), ((np.array([3, 5]), np.ones(2), 9), (np.ones(2),)))),
    Row("classification_loss", losses.classification_loss, _labelled, grads=(0,), stopped=(2,), masked={2: (0, 1)},
        group=(0, 1, 2), order="invariant", low_precision=(0,), degenerate=(
            ((np.array([[0, 1], [2, 0.0]]), np.array([1, 1]), np.array([1, 3.0])), (1.673511,)),
            ((_NAN3, np.full(3, 7), np.zeros(3)), (0.0,)),
            ((np.array([[0, 0], [2, 0.0]]), np.array([1, 1]), np.array([2, -3.0])), (np.log(2),)))),
    Row("ranking_loss", losses.ranking_loss, lambda rng: (*(np.float32(x) for x in rng.normal(size=2)), np.int32(1)),
        grads=(0, 1), low_precision=(0, 1), degenerate=(
            ((1.0, 0.5, 0), (0.474077,)), ((1.0, 0.5, 1), (0.974077,)), ((1.0, 0.5, 2), (0.724077,)),
            ((500.0, -500.0, 0), (0.0,)), ((500.0, -500.0, 1), (1000.0,)), ((-500.0, 500.0, 2), (500.0,)))),
]
