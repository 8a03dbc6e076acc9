"""Contract rows of `rlcore.rewards.thoughts` and of the thought-level part of `rlcore.advantages.steps`."""

import functools

import numpy as np

from rlcore.advantages import steps
from rlcore.rewards import thoughts
from tests.contract import Row

_G, _S = 6, 9
_NAN = np.full(4, np.nan, np.float32)


def _flags(rng, shape):
  mask = (rng.random(shape) < 0.7).astype(np.float32)
  mask[..., 3], mask[..., 6] = 1, 1
  return (rng.random(shape) < 0.5).astype(np.float32), mask


def _response(rng):
  return _flags(rng, (_S,))


def _paid(rng):
  return *_response(rng), np.float32(rng.random() < 0.5), np.float32(rng.normal()), np.float32(rng.uniform(0.1, 1))


def _group(rng):
  correct = np.zeros(_G, np.float32)
  correct[:3] = 1
  return *_flags(rng, (_G, _S)), rng.permutation(correct)


def _reflections(rng):
  start = rng.integers(-2, _S, 4)
  return start.astype(np.int32), (start + rng.integers(-1, 5, 4)).astype(np.int32), np.array([1, 0, 1, 1], np.float32)


def _zeros(out):
  return not np.any(out)


_NOBODY = np.full((3, 4), np.nan, np.float32), np.zeros((3, 4), np.float32), np.array([1, 0, 1], np.float32)
_TWO = np.array([[1, 0, 0], [0, 0, 1]], np.float32), np.ones((2, 3), np.float32)
_ALL_WRONG = (*_TWO, np.zeros(2, np.float32))
_ALL_RIGHT = (*_TWO, np.ones(2, np.float32))
_ALONE = np.array([[0, 1, 1]], np.float32), np.ones((1, 3), np.float32), np.ones(1, np.float32)
_GROUP = dict(example=_group, stopped=(0, 2), masked={1: (0,)}, group=(0, 1, 2), order="equivariant",
              low_precision=(0, 2))

ROWS = [
    Row("labels_from_reflections", functools.partial(thoughts.labels_from_reflections, num_steps=_S), _reflections,
        masked={2: (0, 1)}, group=(0, 1, 2), order="invariant", degenerate=(
            ((np.array([2]), np.array([2]), np.ones(1)), ([1] * _S,)),
            ((np.array([-3, 7]), np.array([1, 99]), np.ones(2)), ([0, 1, 1, 1, 1, 1, 1, 0, 0],)),
            ((np.array([1, 3]), np.array([4, 6]), np.ones(2)), ([1, 0, 0, 0, 0, 0, 1, 1, 1],)),
            ((np.array([1]), np.array([4]), np.zeros(1)), ([1] * _S,)))),
    Row("merge_thoughts", thoughts.merge_thoughts, _response, masked={1: (0,)}, degenerate=(
        ((_NAN, np.zeros(4)), ([-1] * 4,)), ((np.zeros(4), np.ones(4)), ([0, 0, 0, 1],)),
        ((np.array([1, 0, 1, 0.0]), np.array([1, 0, 1, 0])), ([0, -1, 0, -1],)))),
    Row("good_steps", thoughts.good_steps, _response, masked={1: (0,)}, degenerate=(
        ((_NAN, np.zeros(4)), ([False] * 4,)),
        ((np.zeros(4), np.array([0, 1, 1, 0])), ([False, False, True, False],)))),
    Row("capability_reward", thoughts.capability_reward, lambda rng: (_group(rng)[2], np.float32(0.5)), stopped=(0, 1),
        group=(0,), order="invariant", low_precision=(0,),
        degenerate=(((np.zeros(3), 2.0), (0,)), ((np.ones(3), 2.0), (2,)))),
    Row("thought_rewards", thoughts.thought_rewards, _paid, stopped=(0, 2, 3, 4), masked={1: (0,)},
        low_precision=(0, 3), degenerate=(
            ((_NAN, np.zeros(4), 1.0, 0.5, 0.5), _zeros), ((np.ones(4), np.ones(4), 0.0, -2.0, 0.5), _zeros),
                    ((np.zeros(4), np.array([0, 0, 1, 0]), 1.0, 0.5, 0.5), _zeros))),
    Row("thought_advantage", steps.thought_advantage, degenerate=(
        (_NOBODY, _zeros), (_ALL_WRONG, _zeros), (_ALL_RIGHT, ([[0, -1, 0], [-1, -1, 0]],)), (_ALONE, ([[-1, 0, 0]],))),
        **_GROUP),
    Row("step_level_advantage", steps.step_level_advantage, degenerate=(
        (_NOBODY, _zeros), (_ALL_WRONG, ([[-1, 0, 0], [0, 0, 0]],)), (_ALL_RIGHT, ([[0, -1, 0], [-2, -1, 0]],)),
        (_ALONE, ([[0, 1, 0]],))), **_GROUP),
]
