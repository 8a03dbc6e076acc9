"""Contract rows of the control theme: attribution, graphs, constraints, imitation, latent codes and value targets."""

import functools

import numpy as np

from rlcore import advantages, losses, policies, rewards, segments
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
        ((np.full((2, 2), 7.0), _NONE[:2], np.full((2, 2), 7.0), _f32([1, 2]), 0),  # an unused slot holds no counts
         ([[1, 2], [7, 7]], [1, 0], [[0, 0], [0, 7]], 0)),
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



def _constraints(rng):
  return _f32(rng.normal(size=4)), _f32(rng.random(4)), _f32(rng.random(4)), np.float32(0.3)


def _paid(rng):
  return np.float32(2), _f32(rng.normal(size=4)), np.float32(0.4), _f32(rng.random(4)), _f32([1, 0, 1, 1])


_rate = functools.partial(rewards.cost_rate, discount=0.9)
_bootstrap = functools.partial(rewards.bootstrap_weight, bootstrap_index=1)

_CONSTRAINTS = [
    Row("cost_rate", _rate, lambda rng: (_f32(rng.random(_T)), _mask(rng)), stopped=(0,), masked={1: (0,)},
        low_precision=(0,), degenerate=(((_NAN, _NONE), (0.0,)), ((_ALL, _ALL), (1.0,)))),
    Row("normalized_multipliers", rewards.normalized_multipliers, lambda rng: _constraints(rng)[::3], grads=(0, 1),
        low_precision=(0,), degenerate=(((_NONE, 0.0), (0.2, np.full(4, 0.2))), ((np.zeros(0), 5.0), (1.0, [])),
                                        ((_f32([1e30, -1e30]), 0.0), (0.0, [1, 0])))),
    Row("bootstrap_weight", _bootstrap, lambda rng: (np.float32(0.1), _f32(0.2 + rng.random(4))), low_precision=(0, 1),
        degenerate=(((0.5, _NONE), (0.5,)), ((0.5, _ALL), (1.0,)))),
    Row("lagrangian_reward", rewards.lagrangian_reward, _paid, stopped=(0, 1, 2, 3), masked={4: (1, 3)},
        group=(1, 3, 4), order="invariant", low_precision=(0, 1, 2, 3), degenerate=(
            ((2.0, _NAN, 0.5, _NAN, _NONE), (1.0,)), ((2.0, np.zeros(0), 1.0, np.zeros(0), np.zeros(0)), (2.0,)))),
    Row("multiplier_loss", rewards.multiplier_loss, _constraints, grads=(0,), stopped=(1, 2, 3), group=(0, 1, 2),
        order="invariant", low_precision=(0, 1, 2), degenerate=(((_ALL, _ALL, _ALL, 0.0), (0.0,)),)),
    Row("multiplier_gradient", rewards.multiplier_gradient, _constraints, group=(0, 1, 2), order="equivariant",
        low_precision=(0, 1, 2), degenerate=(((_ALL, _ALL, _ALL, 0.0), (_NONE,)),)),
    Row("plain_multiplier_update", rewards.plain_multiplier_update, _constraints, stopped=(0, 1, 2), group=(0, 1, 2),
        order="equivariant", low_precision=(0, 1, 2), degenerate=(((_NONE, _NONE, _ALL, 0.5), (_NONE,)),)),
    Row("focus_reward", rewards.focus_reward, lambda rng: (_f32(1 + 0.1 * rng.random(4)), _ALL), stopped=(0, 1),
        group=(0, 1), order="invariant", low_precision=(0, 1), degenerate=(
            ((_NONE, _ALL), (0.0,)), ((_ALL, _NONE), (0.0,)), ((3 * _ALL, _ALL), (12.0,)),
            ((_ALL, _ALL, 1.0), (4.0,)), ((_f32([1, 0, 0, 0]), _ALL), (0.0,)))),
]


def _windows(rng):
  one = lambda n: (-_f32(rng.exponential(size=(n, _T))), -_f32(rng.exponential(size=(n, _T))),
                   _f32(rng.random((n, _T)) < 0.6))
  return *one(8), *one(8)


def _steps(rng):
  return _f32(rng.normal(size=8)), _mask(rng, 8)


_NO_WINDOW = np.full((2, 3), np.nan), np.full((2, 3), np.nan), np.zeros((2, 3))
_IMITATION = [
    Row("asaf_log_discriminator", losses.asaf_log_discriminator,
        lambda rng: tuple(x[0] for x in _windows(rng)[:2]) + (_mask(rng),), grads=(0,), stopped=(1,),
        masked={2: (0, 1)}, group=(0, 1, 2), order="invariant", low_precision=(0, 1), degenerate=(
            ((_NAN, _NAN, _NONE), (np.log(0.5), np.log(0.5))), ((-9e2 * _ALL, _NONE, _ALL), lambda out: out[1] == 0))),
    Row("asaf_loss", losses.asaf_loss, _windows, grads=(0, 3), stopped=(1, 4), masked={2: (0, 1), 5: (3, 4)},
        group=(0, 1, 2), order="invariant", low_precision=(0, 1, 3, 4), split=(0, 1, 2, 3, 4, 5), split_out=("same",),
        degenerate=((_NO_WINDOW + _NO_WINDOW, (0.0,)),)),
    Row("behaviour_cloning_loss", losses.behaviour_cloning_loss, _steps, grads=(0,), masked={1: (0,)}, group=(0, 1),
        order="invariant", low_precision=(0,), split=(0, 1), split_out=("same",),
        degenerate=(((_NAN, _NONE), (0.0,)), ((-2 * _ALL, _ALL), (2.0,)))),
    Row("gail_discriminator_loss", losses.gail_discriminator_loss, lambda rng: (*_steps(rng), *_steps(rng)),
        grads=(0, 2), masked={1: (0,), 3: (2,)}, group=(0, 1), order="invariant", low_precision=(0, 2),
        split=(0, 1, 2, 3), split_out=("same",), degenerate=(
            ((_NAN, _NONE, _NAN, _NONE), (0.0,)), ((_NONE, _ALL, _NONE, _ALL), (2 * np.log(2),)))),
    Row("gail_reward", rewards.gail_reward, lambda rng: (_f32(rng.normal(size=_T)), _mask(rng)), stopped=(0,),
        masked={1: (0,)}, group=(0, 1), order="equivariant", low_precision=(0,),
        degenerate=(((_NAN, _NONE), _zeros), ((_NONE, _ALL), (np.log(2) * _ALL,)))),
    Row("split_windows", functools.partial(segments.split_windows, window=4),
        lambda rng: (_f32(rng.normal(size=_T)), _mask(rng)), grads=(0,), masked={1: (0,)}, low_precision=(0,),
        degenerate=(((_NAN, _NONE), _zeros), ((_ALL[:2], _ALL[:2]), ([[1, 1, 0, 0]], [[1, 1, 0, 0]])))),
    Row("team_predictability_loss", losses.team_predictability_loss,
        lambda rng: (_f32(rng.normal(size=(_T, 3, 3, 2))), _f32(rng.normal(size=(_T, 3, 2))), _mask(rng)), grads=(0, 1),
        masked={2: (0, 1)}, group=(0, 1, 2), order="invariant", low_precision=(0, 1), degenerate=(
            ((np.full((2, 3, 3, 2), np.nan), np.full((2, 3, 2), np.nan), np.zeros(2)), (0.0,)),
            ((np.full((2, 1, 1, 2), np.nan), np.ones((2, 1, 2)), np.ones(2)), (0.0,)))),
]



def _codes(rng):
  return (-_f32(rng.exponential(size=_T)), _f32(rng.normal(size=(_T, 3))), _f32(rng.normal(size=(_T, 3))),
          _f32(rng.random(_T)), _mask(rng))


def _gated(rng):
  log_probs, mean, log_var, _, mask = _codes(rng)
  return log_probs, mean, log_var, _f32(rng.random((_T, 3))), mask


def _chosen(rng):
  new, advantages = -rng.exponential(size=_T), rng.normal(size=_T)
  switch = (rng.random(_T) < 0.6).astype(np.float32)
  switch[1] = 1
  return _f32(new), _f32(new + 0.1 * rng.normal(size=_T)), _f32(advantages), switch, _mask(rng)


def _switched(rng):
  return _f32(rng.normal(size=_T)), *_chosen(rng)[3:], np.float32(0.9)


def _gaussian(rng):
  return tuple(_f32(rng.normal(size=3)) for _ in range(4))


_JUNK_CODES = _NAN, np.full((4, 2), np.nan), np.full((4, 2), np.nan), _NAN, _NONE

_LATENTS = [
    Row("gaussian_kl", losses.gaussian_kl, lambda rng: _gaussian(rng)[:2], grads=(0, 1), group=(0, 1),
        order="invariant", low_precision=(0, 1), degenerate=(((_NONE, _NONE), (0.0,)), ((_ALL, _NONE), (2.0,)))),
    Row("gaussian_kl[prior]", losses.gaussian_kl, _gaussian, grads=(0, 1, 2, 3), group=(0, 1, 2, 3), order="invariant",
        low_precision=(0, 1, 2, 3), degenerate=(((_ALL, 2 * _ALL, _ALL, 2 * _ALL), (0.0,)),)),
    Row("gaussian_log_prob", policies.gaussian_log_prob, lambda rng: _gaussian(rng)[:3], grads=(0, 1, 2),
        group=(0, 1, 2), order="invariant", low_precision=(0, 1, 2),
        degenerate=(((_ALL, _ALL, _NONE), (-2 * np.log(2 * np.pi),)),)),
    Row("discovery_loss", losses.discovery_loss, _codes, grads=(0, 1, 2), stopped=(3,), masked={4: (0, 1, 2, 3)},
        group=(0, 1, 2, 3, 4), order="invariant", low_precision=(0, 1, 2), degenerate=((_JUNK_CODES, (0.0,)),)),
    Row("discovery_loss[gated]", functools.partial(losses.discovery_loss, gate_kl=True), _gated, grads=(0, 1, 2, 3),
        masked={4: (0, 1, 2, 3)}, low_precision=(0, 1, 2, 3), degenerate=((_JUNK_CODES, (0.0,)),)),
    Row("internal_policy_loss", losses.internal_policy_loss, _chosen, grads=(0,), stopped=(1, 2),
        masked={4: (0, 1, 2, 3), 3: (0, 1, 2)}, group=(0, 1, 2, 3, 4), order="invariant", low_precision=(0, 1, 2),
        degenerate=(((_NAN, _NAN, _NAN, _ALL, _NONE), (0.0,)), ((_NAN, _NAN, _NAN, _NONE, _ALL), (0.0,)))),
    Row("segment_rewards", advantages.segment_rewards, _switched, stopped=(0, 3), masked={2: (0, 1)},
        low_precision=(0,), degenerate=(
            ((_NAN, _ALL, _NONE, 0.9), (_NONE,)), ((_ALL, _NONE, _ALL, 0.9), (_NONE,)),
            ((_ALL, _f32([0, 1, 0, 0]), _f32([1, 1, 0, 1]), 1.0), ([0, 1, 0, 0],)),
            ((_ALL, _ALL, _ALL, 0.9), (_ALL,)))),
    Row("switch_f1", segments.switch_f1, lambda rng: (*_chosen(rng)[3:][::-1], _mask(rng)), masked={2: (0, 1)},
        degenerate=(((_NAN, _NAN, _NONE), (0.0,)), ((_NONE, _ALL, _ALL), (0.0,)), ((_ALL, _NONE, _ALL), (0.0,)),
                    ((_ALL, _ALL, _ALL), (1.0,)), ((_f32([1, 0, 0, 0]), _f32([0, 0, 1, 0]), _ALL), (0.0,)))),
    Row("temporal_integration", policies.temporal_integration,
        lambda rng: (_f32(rng.normal(size=(_T, 3))), _f32(rng.random(_T)), _f32(rng.normal(size=3))), grads=(0, 1, 2),
        low_precision=(0, 1, 2), degenerate=(((np.ones((4, 1)), _NONE, [5]), (np.full((4, 1), 5),)),
                                             ((np.eye(4), _ALL, _ALL), (np.eye(4),)))),
    Row("temporal_integration[each]", policies.temporal_integration,
        lambda rng: (_f32(rng.normal(size=(_T, 3))), _f32(rng.random((_T, 3))), _f32(rng.normal(size=3))),
        grads=(0, 1, 2), low_precision=(0, 1, 2)),
    Row("apply_controller", policies.apply_controller,
        lambda rng: (_f32(rng.normal(size=5)), _f32(rng.normal(size=(5, 2))), _f32(rng.normal(size=(5, 2)))),
        grads=(0, 1, 2), low_precision=(0, 1, 2), degenerate=(((_ALL, np.zeros((4, 2)), np.ones((4, 2))), (_ALL,)),)),
    Row("harden_switch", policies.harden_switch, lambda rng: (_f32(rng.random(_T)), np.float32(0.5), _mask(rng)),
        stopped=(0, 1), masked={2: (0,)}, low_precision=(0,), degenerate=(
            ((_NAN, 0.5, _NONE), (_NONE,)), ((_NONE, 0.5, _f32([0, 1, 1, 0])), ([0, 1, 0, 0],)),
            ((_f32([0.1, 0.5, 0.6, 1]), 0.5, _ALL), ([1, 0, 1, 1],)))),
]


def _stream(rng):
  return _f32(rng.random(_T) < 0.5), _f32(rng.random(_T) < 0.3), np.float32(0.99), np.float32(0.9)


def _bootstrapped(rng):
  discounts = _f32(rng.random(_T) * (rng.random(_T) < 0.7))
  return _f32(rng.normal(size=_T)), _f32(rng.normal(size=(_T, 3))), discounts, _mask(rng)


def _valued(rng):
  return (_f32(rng.normal(size=(_T, 3))), rng.integers(0, 3, _T).astype(np.int32), _f32(rng.normal(size=_T)),
          _mask(rng))


def _pulled(rng):
  return (np.float32(0.5), np.float32(1), np.float32(0.25), _f32(rng.integers(0, 5, 4)), _f32(rng.normal(size=4)))


_Q = _f32([[1, 2], [3, 4], [5, 6], [7, 8]])

_STREAMS = [
    Row("hierarchical_discount", advantages.hierarchical_discount, _stream, low_precision=(2, 3), degenerate=(
        ((_NONE, _NONE, 0.9, 0.5), (0.9 * _ALL,)), ((_ALL, _ALL, 0.9, 0.5), (_NONE,)),
        ((_NONE, _ALL, 0.9, 0.5), (_NONE,)))),
    Row("block_lengths_to_ends", functools.partial(advantages.block_lengths_to_ends, total=_T),
        lambda rng: (rng.integers(1, 5, 3).astype(np.int32),), degenerate=(
            ((np.array([99, 1]),), (np.arange(_T) == _T - 1,)), ((np.zeros(0, int),), (np.arange(_T) == _T - 1,)),
            ((np.array([0, 2, 0, 3, -1]),), (np.isin(np.arange(_T), [1, 4, _T - 1]),)),
            ((np.full(4, 2**31 - 1),), (np.arange(_T) == _T - 1,)))),
    Row("action_coverage", lambda actions, start: advantages.action_coverage(actions, 3, start),
        lambda rng: (rng.integers(-1, 4, _T).astype(np.int32), _f32(rng.random(_T) < 0.3)), degenerate=(
            ((np.zeros(4, int), _ALL), (_ALL,)), ((np.array([0, 1, 2, 0]), _NONE), ([1, 2, 3, 3],)),
            ((np.array([-1, 3, 99, 1]), _NONE), ([0, 0, 0, 1],)))),
    Row("greedy_td_target", losses.greedy_td_target, _bootstrapped, stopped=(0, 1, 2), masked={3: (0, 1, 2), 2: (1,)},
        low_precision=(0, 1, 2), degenerate=(
            ((_NAN, np.full((4, 2), np.nan), _NAN, _NONE), (_NONE,)),
            ((_ALL, np.full((4, 2), np.inf), _NONE, _ALL), (_ALL,)))),
    Row("dqn_loss", losses.dqn_loss, _valued, grads=(0,), stopped=(2,), masked={3: (0, 1, 2)}, group=(0, 1, 2, 3),
        order="invariant", low_precision=(0, 2), degenerate=(
            ((np.full((4, 2), np.nan), np.full(4, -7), _NAN, _NONE), (0.0,)),
            ((_Q, np.array([0, 1, 0, 1]), _f32([1, 4, 5, 8]), _ALL), (0.0,)))),
    Row("gaussian_posterior", policies.gaussian_posterior, _pulled, grads=(0, 1, 2, 4), low_precision=(0, 1, 2, 4),
        degenerate=(((0.5, 2.0, 0.25, _NONE, _NAN), (0.5 * _ALL, 2 * _ALL)), ((0.5, 2.0, 0.0, _ALL, 3 * _ALL), (
            3 * _ALL, _NONE)), ((0.5, 0.0, 0.0, _ALL, 3 * _ALL), (0.5 * _ALL, _NONE)))),
]

ROWS = _ATTRIBUTION + _GRAPHS + _CONSTRAINTS + _IMITATION + _LATENTS + _STREAMS
