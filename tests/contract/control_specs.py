"""Contract rows of the control theme: attribution, graphs, constraints, imitation, latent codes and value targets."""

import functools

import numpy as np

from rlcore import losses, rewards, segments
from tests.contract import Row

_T, _N = 9, 5
_NAN = np.full(4, np.nan, np.float32)
_NONE, _ALL = np.zeros(4, np.float32), np.ones(4, np.float32)


def _f32(x):
  return np.asarray(x, np.float32)


def _mask(rng, size=_T):
  mask = (rng.random(size) < 0.7).astype(np.float32)
  mask[1] = 1
  return mask


def _zeros(out):
  return not np.any(out)


def _orders(rng):
  orders = np.stack([rng.permutation(_N) for _ in range(4)]).astype(np.int32)
  return orders, _f32(rng.normal(size=(4, _N + 1))), _f32([1, 0, 1, 1])


def _spans(rng):
  return _f32(rng.normal(size=4)), rng.integers(-2, 6, _T).astype(np.int32), _mask(rng)


def _counts(rng):
  counts = rng.integers(0, 4, (_N, _N))
  return _f32(np.triu(counts, 1) + np.triu(counts, 1).T)


def _graph(rng):
  return _f32(rng.normal(size=(_N, 3))), _f32([1, 1, 0, 1, 0]), _counts(rng), _f32(rng.normal(size=3)), np.int32(1)


def _embedded(rng):
  return _f32(rng.normal(size=(_N, 3))), _f32(rng.random((_N, _N))), _f32([1, 1, 0, 1, 0])


_GAME = _f32([0, 1, 0, 4, 2, 3, 2, 7])
_EMPTY = np.full((2, 2), np.nan, np.float32), _f32([0, 0]), np.full((2, 2), np.nan, np.float32)
_observe = functools.partial(rewards.graph_observe, threshold=0.5)

_ATTRIBUTION = [
    Row("shapley_values", rewards.shapley_values, lambda rng: (_f32(rng.normal(size=2**_N)),),
        kwargs=dict(num_players=_N), stopped=(0,), low_precision=(0,), degenerate=(
            ((np.full(2**_N, 3.0),), _zeros), ((_f32(np.arange(2**_N) > 0),), (np.full(_N, 1 / _N),)))),
    Row("shapley_values[one]", functools.partial(rewards.shapley_values, num_players=1),
        lambda rng: (_f32(rng.normal(size=2)),), stopped=(0,), degenerate=(((_f32([2, 5]),), ([3],)),)),
    Row("owen_values", rewards.owen_values, lambda rng: (_f32(rng.normal(size=2**_N)),),
        kwargs=dict(groups=(7, 7, -1, 7, -1), num_players=_N), stopped=(0,), low_precision=(0,),
        degenerate=(((np.full(2**_N, 3.0),), _zeros),)),
    Row("owen_values[torn]", functools.partial(rewards.owen_values, groups=(0, 0, 1, 1), num_players=4),
        lambda rng: (_f32(rng.normal(size=16)),), stopped=(0,), degenerate=(
            # coalitions with a part of either group are in no order
            ((_f32([np.nan if k & 3 in (1, 2) and k >> 2 in (1, 2) else bin(k).count("1") for k in range(16)]),),
             (_ALL,)),)),
    Row("shapley_from_permutations", rewards.shapley_from_permutations, _orders, stopped=(1,), masked={2: (0, 1)},
        group=(0, 1, 2), order="invariant", low_precision=(1,), degenerate=(
            ((np.zeros((2, 4), int), np.full((2, 5), np.nan), np.zeros(2)), (_NONE,)),
            ((np.zeros((0, 4), int), np.zeros((0, 5)), np.zeros(0)), (_NONE,)),
            ((np.array([[1, 0]]), _f32([[1, 4, 4]]), np.ones(1)), ([0, 3],)))),
    Row("mixed_token_rewards", rewards.mixed_token_rewards,
        lambda rng: (_f32(rng.normal(size=_T)), np.float32(1.5), _mask(rng)), stopped=(0, 1), masked={2: (0,)},
        low_precision=(0, 1), degenerate=(
            ((_NAN, 3.0, _NONE), (_NONE,)), ((_NONE, 3.0, _f32([0, 1, 1, 0])), ([0, 0, 0.6, 0],)))),
    Row("segment_to_token_rewards", segments.segment_to_token_rewards, _spans, stopped=(0,), masked={2: (1,)},
        low_precision=(0,), degenerate=(
            ((_f32([1, np.nan]), np.array([0, 0, 2, -1]), _ALL), ([0, 1, 0, 0],)),
            ((_ALL, np.array([0, 1, 2, 3]), _NONE), (_NONE,)))),
]

_GRAPHS = [
    Row("graph_observe", _observe, _graph, stopped=(0, 2, 3), degenerate=(
        ((_EMPTY[0], _EMPTY[1], _EMPTY[2], _f32([1, 2]), 0), lambda out: out[3] == 0 and out[1].tolist() == [1, 0]),
        ((_f32([[0, 0], [0, 0]]), _ALL[:2], np.zeros((2, 2)), _f32([9, 9]), 1),
         ([[0, 0], [0, 0]], [1, 1], [[0, 1], [1, 0]], 0)))),
    Row("connectivity_targets", rewards.connectivity_targets, lambda rng: (_counts(rng), _f32([1, 1, 0, 1, 0])),
        stopped=(0,), low_precision=(0,), degenerate=(
            ((np.full((3, 3), np.nan), np.zeros(3)), _zeros), ((np.zeros((3, 3)), [1, 0, 1]), (np.diag([1, 0, 1]),)))),
    Row("connectivity_loss", losses.connectivity_loss, _embedded, grads=(0,), stopped=(1,), masked={2: (0, 1)},
        low_precision=(0, 1), degenerate=(((_EMPTY[0], _EMPTY[2], _EMPTY[1]), (0.0,)),)),
    Row("graph_guided_reward", rewards.graph_guided_reward,
        lambda rng: (np.float32(1), _f32(rng.normal(size=3)), _f32(rng.normal(size=3)), np.float32(0.3)),
        stopped=(0, 1, 2), low_precision=(0, 1, 2), degenerate=(((2.0, _ALL, _NONE, 5.0), (2.0,)),)),
    Row("normalized_laplacian", rewards.normalized_laplacian, lambda rng: (_counts(rng) + _f32(np.ones((_N, _N))),),
        grads=(0,), low_precision=(0,), degenerate=(
            ((np.zeros((3, 3)),), _zeros), ((np.diag([1, 1], 1)[:2, :2] + np.diag([1], -1),), ([[1, -1], [-1, 1]],)))),
    Row("spectral_distance", functools.partial(rewards.spectral_distance, num_eigenvalues=3),
        lambda rng: (_counts(rng), _f32(np.ones((4, 4)) - np.eye(4))), stopped=(0, 1), low_precision=(0, 1), rtol=1e-4,
        degenerate=(((_ALL * np.ones((4, 1)), _ALL * np.ones((4, 1))), (0.0,)),
                    ((np.zeros((3, 3)), np.zeros((4, 4))), (0.0,)))),
]

_IMITATION = [
    Row("team_predictability_loss", losses.team_predictability_loss,
        lambda rng: (_f32(rng.normal(size=(_T, 3, 3, 2))), _f32(rng.normal(size=(_T, 3, 2))), _mask(rng)), grads=(0, 1),
        masked={2: (0, 1)}, group=(0, 1, 2), order="invariant", low_precision=(0, 1), degenerate=(
            ((np.full((2, 3, 3, 2), np.nan), np.full((2, 3, 2), np.nan), np.zeros(2)), (0.0,)),
            ((np.full((2, 1, 1, 2), np.nan), np.ones((2, 1, 2)), np.ones(2)), (0.0,)))),
]

ROWS = _ATTRIBUTION + _GRAPHS + _IMITATION
