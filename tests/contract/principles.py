"""Contract rows of `rlcore.rewards.principles` and of what SLATE adds to the advantages and losses."""

import numpy as np

from rlcore import advantages, losses, rewards
from tests.contract import Row

S, K, T, P = 4, 3, 2, 8


def _f32(x):
  return np.asarray(x, np.float32)


def _principles(rng):
  return _f32(rng.uniform(0, 1, P)), _f32(rng.uniform(1, 3, P)), _f32([1, 1, 0, 1, 0, 1, 0, 1])


def _process(rng):
  return _f32(rng.uniform(size=P)), _f32(rng.uniform()), _f32([0, 1, 1, 0, 1, 1, 1, 0])


def _scalars(rng):
  return _f32(rng.integers(-1, 2)), _f32(rng.integers(-1, 2)), _f32(1), _f32(rng.integers(4)), _f32(4), _f32(0.3)


def _candidates(rng):
  return _f32(rng.normal(size=P)), _f32([1, 0, 1, 1, 1, 0, 1, 1])


def _branches(rng):
  """Ratios inside and outside the clip; in the first step a candidate without tokens, the second not active."""
  logp = -rng.exponential(size=(S, K, T))
  mask = np.ones((S, K, T))
  mask[0, 1], mask[2, 0, 1] = 0, 0
  return _f32(logp), _f32(logp + 0.3 * rng.normal(size=logp.shape)), _f32(rng.normal(size=(S, K))), mask, _f32(
      [1, 0, 1, 1])


_NAN = np.full(P, np.nan, np.float32)
_NONE = np.zeros(P, np.float32)
_NO_STEP = ((_NAN, np.float32(np.nan), _NONE), (_NONE,))
_ONE = (_f32([0.7, np.nan]), _f32(1), _f32([1, 0]))
_JUNK = np.full((S, K, T), np.nan, np.float32)
_TIED = _f32(np.full(7, 0.7)), np.ones(7, np.float32)
_ALONE = _f32([3, np.inf]), _f32([1, 0])
_MODE = dict(example=_process, stopped=(0, 1), masked={2: (0,)}, low_precision=(0, 1))
_SLATE = dict(grads=(0,), stopped=(1, 2), low_precision=(0, 1, 2), degenerate=(
    ((_JUNK, _JUNK, _JUNK[..., 0], np.zeros((S, K, T)), np.ones(S)), (0.0,)),
    ((_JUNK, _JUNK, _JUNK[..., 0], np.ones((S, K, T)), np.zeros(S)), (0.0,))))

ROWS = [
    Row("principle_score", rewards.principle_score, _principles, stopped=(0, 1), masked={2: (0, 1)}, group=(0, 1, 2),
        order="invariant", low_precision=(0, 1), degenerate=(
            ((_NAN, _NAN, _NONE), (0,)), ((np.ones(2), np.zeros(2), np.ones(2)), (0,)),
            ((np.full(2, 9.0), np.ones(2), np.ones(2)), (1,)), ((np.full(2, -9.0), np.ones(2), np.ones(2)), (0,)))),
    Row("renorm", rewards.renorm, degenerate=(_NO_STEP, (_ONE, ([0.7, 0],))), **_MODE),
    *(Row(f"ppr_step_rewards[{mode}]", rewards.ppr_step_rewards, kwargs=dict(mode=mode, process_weight=0.3),
          degenerate=(_NO_STEP, (_ONE, ([1, 0],))), **_MODE) for mode in ("renorm", "add", "multiply", "outcome")),
    Row("slate_step_reward", rewards.slate_step_reward, _scalars, stopped=(0, 1, 2, 3, 4, 5), low_precision=(0, 1),
        degenerate=((_f32([1, -1, 1, 0]), (0.1,)), (_f32([1, -1, 0, 0]), (0.0,)), (_f32([1, 1, 1, 3]), (2.025,)))),
    Row("step_group_advantage", lambda rewards, mask: advantages.step_group_advantage(rewards, 1e-6, mask), _candidates,
        stopped=(0,), masked={1: (0,)}, group=(0, 1), order="equivariant", low_precision=(0,),
        degenerate=tuple((case, lambda out: not np.any(out)) for case in (_TIED, _ALONE, (_NAN, _NONE)))),
    Row("slate_objective", losses.slate_objective, _branches, masked={3: (0, 1), 4: (0, 1, 2)}, group=(0, 1, 2, 3, 4),
        order="invariant", **_SLATE),
    Row("slate_objective[sequence]", losses.slate_objective, _branches, kwargs=dict(ratio_level="sequence"),
        masked={3: (0, 1), 4: (0, 1, 2)}, group=(0, 1, 2, 3, 4), order="invariant", **_SLATE),
    Row("slate_objective[steps spread]", losses.slate_objective, lambda rng: tuple(
        np.concatenate([x, x]) for x in _branches(rng)), grads=(0,), split=(0, 1, 2, 3, 4), split_out=("same",)),
]
