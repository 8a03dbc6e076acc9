"""Contract rows of implicit process rewards: `rlcore.rewards.implicit`, their loss and their advantage."""

import functools

import numpy as np

from rlcore.advantages import steps
from rlcore.losses import reward_models
from rlcore.rewards import implicit
from tests.contract import Row

_N, _S, _T = 8, 5, 12


def _tokens(rng):
  prm, old = rng.normal(-1, 0.5, (2, _T)).astype(np.float32)
  return prm, old, rng.integers(-1, _S + 1, _T).astype(np.int32), (rng.random(_T) < 0.7).astype(np.float32)


def _steps(rng):
  mask = (rng.random((_N, _S)) < 0.7).astype(np.float32)
  mask[2], mask[5, 1], mask[6, :2] = 0, 1, 1
  return rng.normal(size=(_N, _S)).astype(np.float32), mask


def _judged(rng):
  rewards, mask = _steps(rng)
  outcome = np.array([1, 0, 1, 0, 0, 1, 0, 0.5], np.float32)
  return rewards, mask, outcome


def _episodes(rng):
  rewards, mask, outcome = _judged(rng)
  return outcome, rewards, mask


def _zeros(out):
  return not np.any(out)


_NOBODY = np.full((2, 3), np.nan, np.float32), np.zeros((2, 3), np.float32)
_TIED = np.full(7, 0.7, np.float32), np.full((7, 3), 0.1, np.float32), np.ones((7, 3), np.float32)
_ALONE = (np.array([0.7, np.nan], np.float32), np.array([[0.2, np.nan], [np.nan, np.inf]], np.float32),
          np.array([[1, 0], [0, 0]], np.float32))
_LOG2 = np.log(2)


def _scores(aggregate):
  return Row(f"trajectory_scores[{aggregate}]", implicit.trajectory_scores, _steps, kwargs=dict(aggregate=aggregate),
             grads=(0,), masked={1: (0,)}, group=(0, 1), order="equivariant", low_precision=(0,),
             degenerate=((_NOBODY, _zeros),))


def _loss(aggregate):
  return Row(f"trajectory_dpo_loss[{aggregate}]", reward_models.trajectory_dpo_loss, _judged,
             kwargs=dict(aggregate=aggregate), grads=(0,), masked={1: (0,)}, group=(0, 1, 2), order="invariant",
             low_precision=(0, 2), degenerate=(
                 ((*_NOBODY, np.array([np.nan, 1.0])), _zeros),
                 ((np.ones((3, 2)), np.ones((3, 2)), np.full(3, 0.7)), _zeros),
                 ((np.ones((1, 2)), np.ones((1, 2)), np.ones(1)), _zeros),
                 ((np.zeros((3, 1)), np.array([[1], [1], [0]]), np.array([1, 0, np.nan])), (_LOG2,))))


def _advantage(estimator):
  return Row(f"oprl_advantage[{estimator}]", steps.oprl_advantage, _episodes, kwargs=dict(estimator=estimator),
             stopped=(0, 1), masked={2: (1,)}, group=(0, 1, 2), order="equivariant", low_precision=(0, 1), degenerate=(
                 (_TIED, _zeros), ((np.ones(2, np.float32), *_NOBODY), _zeros), (_ALONE, ([[0.9, 0], [0, 0]],))))


ROWS = [
    Row("implicit_step_rewards", functools.partial(implicit.implicit_step_rewards, num_steps=_S), _tokens, grads=(0,),
        masked={3: (0, 1, 2)}, group=(0, 1, 2, 3), order="invariant", low_precision=(0, 1), degenerate=(
            ((np.ones(3), np.zeros(3), np.array([-1, _S, 2]), np.ones(3)), ([0, 0, 0.05, 0, 0],)),
            ((np.ones(3), np.zeros(3), np.arange(3), np.zeros(3)), _zeros))),
    Row("implicit_step_rewards[old]", lambda old, prm: implicit.implicit_step_rewards(
        prm, old, np.arange(3), np.ones(3), 3), lambda rng: tuple(rng.normal(size=(2, 3)).astype(np.float32)),
        stopped=(0,), grads=(1,)),
    _scores("sum"), _scores("mean"), _loss("sum"), _loss("mean"),
    Row("normalize_step_rewards", implicit.normalize_step_rewards, _steps, stopped=(0,), masked={1: (0,)}, group=(0, 1),
        order="equivariant", low_precision=(0,), split=(0, 1), split_out=("split",),
        degenerate=((_NOBODY, _zeros), ((np.zeros((2, 2)), np.ones((2, 2))), _zeros),
                    ((np.array([[-4.0, 1e9]]), np.array([[1, 0]])), ([[-1, 0]],)))),
    _advantage("rloo"), _advantage("grpo"), _advantage("mean"),
]
