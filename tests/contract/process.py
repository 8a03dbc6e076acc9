"""Contract rows of `rlcore.rewards.process`, `rlcore.rewards.redistribution` and the losses that fit them."""

import numpy as np

from rlcore import losses, rewards
from tests.contract import Row

_S = 9


def _scores(rng):
  mask = (rng.random(_S) < 0.7).astype(np.float32)
  mask[[0, 4, _S - 1]], mask[[2, 6]] = 0, 1
  return rng.random(_S).astype(np.float32), mask


def _shaped(rng):
  return *_scores(rng), np.float32(1.5), np.float32(0.7)


def _contributions(rng):
  contributions, mask = _scores(rng)
  return contributions, (rng.random(_S) < 0.5).astype(np.float32), mask


def _with_outcome(rng):
  return *_scores(rng), np.float32(2.0)


_P = np.array([0.9, 0.4, 0.8, 0.8, 0.7], np.float32)
_ALL = np.ones(5, np.float32)
_ONE = np.array([np.nan, 0.3, np.inf], np.float32), np.array([0, 1, 0], np.float32)
_TWO = np.array([0.3, np.nan, 0.9], np.float32), np.array([1, 0, 1], np.float32)
_NONE = np.full(3, np.nan, np.float32), np.zeros(3, np.float32)
_ZERO = (np.zeros(3),)
_COMMON = dict(masked={1: (0,)}, low_precision=(0,))
_REFINED = {
    "none": [0.9, 0.4, 0.8, 0.8, 0.7], "clip": [0, -0.1, 0, 0, 0], "delta": [0.5, -0.4, 0, 0.8, 0],
    "clip_delta": [0.1, -0.1, 0, 0, 0]}
_ALONE = {"none": [0, 0.3, 0], "clip": [0, -0.2, 0], "delta": [0, 0, 0], "clip_delta": [0, 0, 0]}
_PAIR = {"none": [0.3, 0, 0.9], "clip": [-0.2, 0, 0], "delta": [0.3, 0, 0], "clip_delta": [-0.2, 0, 0]}


def _refined(mode):
  return Row(
      f"refine_process_rewards[{mode}]", rewards.refine_process_rewards, _scores, kwargs=dict(mode=mode), stopped=(0,),
      degenerate=(((_P, _ALL), (_REFINED[mode],)), (_ONE, (_ALONE[mode],)), (_TWO, (_PAIR[mode],)), (_NONE, _ZERO)),
      **_COMMON)


def _shaped_row(mode):
  fn = lambda p, mask, success, alpha: rewards.shaped_step_rewards(p, mask, success, alpha, mode)
  total = np.array(_REFINED[mode]) + [0, 0, 0, 0, 1]
  return Row(
      f"shaped_step_rewards[{mode}]", fn, _shaped, stopped=(0, 2, 3),
      degenerate=(((_P, _ALL, 1.0, 1.0), (total,)), ((*_ONE, 2.0, 0.0), ([0, 2, 0],)), ((*_NONE, 1.0, 1.0), _ZERO)),
      **_COMMON)


def _bound_row(mode, long, short):
  fn = lambda success, alpha, eta, p_max, steps: rewards.return_upper_bound(success, alpha, mode, eta, p_max, steps)
  return Row(
      f"return_upper_bound[{mode}]", fn, lambda rng: (1.0, 0.7, 0.5, 0.4, 4), stopped=(0, 1, 2, 3),
      low_precision=(0, 1, 2, 3),
      degenerate=(((1.0, 1.0, 0.5, 0.9, 4), (1 + long,)), ((1.0, 2.0, 0.5, 0.2, 1), (1 + short,))))


ROWS = [
    Row("clip_rewards", rewards.clip_rewards, _scores, stopped=(0,),
        degenerate=(((_P, _ALL), (_REFINED["clip"],)), ((_P, _ALL, 0.75), ([0, -0.35, 0, 0, -0.05],)), (_NONE, _ZERO)),
        **_COMMON),
    Row("delta_rewards", rewards.delta_rewards, _scores, stopped=(0,),
        degenerate=(((_P, _ALL), (_REFINED["delta"],)), (_ONE, _ZERO), (_TWO, (_PAIR["delta"],)), (_NONE, _ZERO),
                    ((_P, np.array([1, 0, 0, 1, 1])), ([0.1, 0, 0, 0.8, 0],))), **_COMMON),
    *map(_refined, _REFINED),
    *map(_shaped_row, _REFINED),
    _bound_row("none", 3.6, 0.4),
    _bound_row("clip", 0, -0.6),
    _bound_row("delta", 0.9, 0),
    _bound_row("clip_delta", 0, 0),
    Row("predicted_outcome", rewards.predicted_outcome, _scores, grads=(0,), group=(0, 1), order="invariant",
        degenerate=((_NONE, (0,)), (_ONE, (0.3,))), **_COMMON),
    Row("redistribution_residual", rewards.redistribution_residual, _with_outcome, stopped=(0, 2), group=(0, 1),
        order="invariant", degenerate=(((*_NONE, 0.5), (0.5,)), ((*_ONE, 0.3), (0,))), **_COMMON),
    Row("spa_step_rewards", rewards.spa_step_rewards, _contributions, stopped=(0, 1), masked={2: (0, 1)},
        group=(0, 1, 2), order="equivariant", low_precision=(0, 1),
        degenerate=(((_P, _ALL, _ALL, 0.0, 0.5), (0.5 * _ALL,)), ((_P, _ALL > 0, _ALL, 2.0, 0.0), (2 * _P,)),
                    ((_NONE[0], *_NONE), _ZERO))),
    Row("progress_loss", losses.progress_loss, _with_outcome, grads=(0,), group=(0, 1), order="invariant",
        degenerate=(((*_NONE, 0.5), (0.25,)), ((*_ONE, 0.3), (0,))), **_COMMON),
]
