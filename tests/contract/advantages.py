"""Contract rows of `rlcore.advantages.groups` and `rlcore.advantages.temporal`."""

import numpy as np

from rlcore import types
from rlcore.advantages import groups, temporal
from tests.contract import Row


def _group(rng):
  mask = np.ones(16, np.float32)
  mask[[1, 6, 11]] = 0
  return rng.normal(size=16).astype(np.float32), mask


def _tokens(rng):
  return rng.normal(size=6).astype(np.float32), (rng.random((6, 5)) < 0.7).astype(np.float32)


def _relative(outcome, process, mask, **settings):
  zeros = np.zeros(2, np.float32)
  batch = types.Rollouts(mask, mask, log_probs=mask, prompt=zeros, prompt_mask=zeros)
  return groups.group_relative(types.Rewards(outcome, process), batch, **settings)


def _records(rng):
  _, mask = _tokens(rng)
  return rng.normal(size=6).astype(np.float32), rng.normal(size=(6, 5)).astype(np.float32), mask


def _zeros(out):
  return not np.any(out)


def _unit_std(out):
  return np.isclose(np.std(out, ddof=1), 1, atol=1e-5)


_TIED = np.full(7, 0.7, np.float32), np.ones(7, np.float32)
_TIED_VALID = np.array([0.7, 0.7, np.nan, 0.7], np.float32), np.array([1, 1, 0, 1], np.float32)
_ALONE = np.array([3.0, np.inf], np.float32), np.array([1, 0], np.float32)
_NOBODY = np.full(3, np.nan, np.float32), np.zeros(3, np.float32)
_ONE_WINNER = np.array([0, 0, 1, 0, 0, 0, 0, 0], np.float32), np.ones(8, np.float32)
_CENTRED = tuple((case, _zeros) for case in (_TIED, _TIED_VALID, _ALONE, _NOBODY))
_COMMON = dict(
    example=_group, stopped=(0,), masked={1: (0,)}, group=(0, 1), order="equivariant", low_precision=(0,),
    split=(0, 1), split_out=("split",))


def _row(name, degenerate=_CENTRED, **kwargs):
  return Row(f"group_advantage[{name}]", groups.group_advantage, kwargs=kwargs, degenerate=degenerate, **_COMMON)


LENGTH = 16


def _steps(rng, *, count, positive=()):
  """`count` arrays and a mask with holes, its first and last step not counted."""
  mask = (rng.random(LENGTH) < 0.7).astype(np.float32)
  mask[[0, 5, LENGTH - 1]], mask[[3, 9]] = 0, 1
  arrays = [rng.normal(size=LENGTH).astype(np.float32) for _ in range(count)]
  for i in positive:
    arrays[i] = rng.uniform(0.2, 1, LENGTH).astype(np.float32)
  return *arrays, mask


def _truncated(rng, **kwargs):
  *arrays, mask = _steps(rng, **kwargs)
  return *arrays, mask, (rng.random(LENGTH) < 0.2).astype(np.float32)


_NO_STEP = np.zeros(LENGTH, np.float32)
_NAN = np.full(LENGTH, np.nan, np.float32)

ROWS = [
    _row("GRPO", degenerate=(*_CENTRED, (_ONE_WINNER, _unit_std))),
    _row("Dr. GRPO", scale="none"),
    _row("RLOO", center="leave_one_out", scale="none",
         degenerate=(*_CENTRED, (_ONE_WINNER, ([-1 / 7, -1 / 7, 1, -1 / 7, -1 / 7, -1 / 7, -1 / 7, -1 / 7],)))),
    _row("MAD", center="median", scale="mad",
         degenerate=(*_CENTRED, (_ONE_WINNER, ([0, 0, 1 / (0.125 + 1e-6), 0, 0, 0, 0, 0],)))),
    _row("mean_abs", center="median", scale="mean_abs", ddof=0),
    _row("uncentred", center="none", degenerate=(
        (_TIED, (_TIED[0],)), (_TIED_VALID, ([0.7, 0.7, 0, 0.7],)), (_ALONE, ([3, 0],)), (_NOBODY, _zeros))),
    _row("REINFORCE", center="none", scale="none", degenerate=((_ALONE, ([3, 0],)), (_NOBODY, _zeros))),
    Row("broadcast_to_tokens", groups.broadcast_to_tokens, _tokens, stopped=(0,), group=(0, 1), order="equivariant",
        low_precision=(0,), degenerate=((([np.nan, 2.0], np.array([[0, 0], [1, 0]])), ([[0, 0], [2, 0]],)),)),
    Row("degenerate_group", groups.degenerate_group, _group, masked={1: (0,)}, group=(0, 1), order="invariant",
        split=(0, 1), split_out=("same",),
        degenerate=tuple((case, bool) for case in (_TIED, _TIED_VALID, _ALONE, _NOBODY))
        + ((_ONE_WINNER, lambda out: not out), (([0.5, np.nan], [1, 1]), lambda out: not out))),
    Row("group_relative", _relative, _records, stopped=(0, 1), masked={2: (1,)}, group=(0, 1, 2), order="equivariant",
        low_precision=(0, 1), split=(0, 1, 2)[:0], degenerate=(
            ((np.full(3, 0.7, np.float32), np.zeros((3, 2)), np.ones((3, 2))), _zeros),)),
    Row("total_rewards", lambda outcome, process, mask: groups.total_rewards(types.Rewards(outcome, process), mask),
        _records, stopped=(0, 1), masked={2: (1,)}, group=(0, 1, 2), order="equivariant", low_precision=(0, 1),
        degenerate=((([1.0, 2.0], np.full((2, 2), np.nan), np.zeros((2, 2))), ([1, 2],)),)),
    Row("gae", temporal.gae, lambda rng: _steps(rng, count=2), kwargs=dict(gamma=0.9, lam=0.8, bootstrap_value=0.5),
        stopped=(0, 1), masked={2: (0, 1)}, low_precision=(0, 1),
        degenerate=(((_NAN, _NAN, _NO_STEP), (_NO_STEP, _NO_STEP)),)),
    Row("gae[discounts]", lambda r, v, gamma, lam, last: temporal.gae(r, v, None, gamma, lam, bootstrap_value=last),
        lambda rng: (*_steps(rng, count=3, positive=(2,))[:3], np.float32(0.7), np.float32(2.0)),
        stopped=(0, 1, 2, 3, 4), low_precision=(0, 1, 2)),
    Row("gae[truncated]",
        lambda r, v, v_tp1, mask, cut: temporal.gae(r, v, mask, 0.9, 0.8, value_tp1=v_tp1, truncated=cut),
        lambda rng: _truncated(rng, count=3), stopped=(0, 1, 2), masked={3: (0, 1, 2)}, low_precision=(0, 1, 2)),
    Row("lambda_returns", temporal.lambda_returns, lambda rng: _steps(rng, count=4, positive=(1, 3)),
        grads=(0, 1, 2, 3), masked={4: (0, 1, 2, 3)}, low_precision=(0, 1, 2, 3),
        degenerate=(((_NAN, _NAN, _NAN, _NAN, _NO_STEP), (_NO_STEP,)),)),
    Row("lambda_returns[truncated]", lambda r, d, v, cut: temporal.lambda_returns(r, d, v, 0.9, truncated=cut),
        lambda rng: (*_steps(rng, count=3, positive=(1,))[:3], _truncated(rng, count=0)[1]), grads=(0, 1, 2)),
    Row("n_step_returns", lambda r, d, v, mask: temporal.n_step_returns(r, d, v, 3, mask),
        lambda rng: _steps(rng, count=3, positive=(1,)), grads=(0, 1, 2), masked={3: (0, 1, 2)},
        low_precision=(0, 1, 2), degenerate=(((_NAN, _NAN, _NAN, _NO_STEP), (_NO_STEP,)),)),
    Row("reward_to_go", lambda r, mask, gamma, last: temporal.reward_to_go(r, mask, gamma, bootstrap_value=last),
        lambda rng: (*_steps(rng, count=2, positive=(1,))[::2], rng.uniform(0.2, 1, LENGTH), rng.normal()),
        grads=(0, 2, 3), masked={1: (0, 2)}, low_precision=(0, 2, 3),
        degenerate=(((_NAN, _NO_STEP, _NAN, 1.0), (_NO_STEP,)),)),
    Row("vtrace", lambda r, d, v, v_tp1, rho, mask, cut: temporal.vtrace(r, d, v, v_tp1, rho, 0.9, mask, truncated=cut),
        lambda rng: _truncated(rng, count=5, positive=(1, 4)), stopped=(0, 1, 2, 3, 4), masked={5: (0, 1, 2, 3, 4)},
        low_precision=(0, 1, 2, 3, 4),
        degenerate=(((_NAN, _NAN, _NAN, _NAN, _NAN, _NO_STEP, _NO_STEP), (_NO_STEP, _NO_STEP)),)),
]
