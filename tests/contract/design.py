"""Contract rows of `rlcore.tabular`, of rewards that are learned or designed, and of gradients through a learner.

The linear programs of `rlcore.reward_models.design` are host code: their tests are in `tests/reward_models/`.
"""

import jax.numpy as jnp
import numpy as np

from rlcore import advantages, losses, rewards, tabular
from rlcore.training import bilevel
from tests.contract import Row

S, A, T, N = 5, 3, 8, 4


def _f32(x):
  return np.asarray(x, np.float32)


def _process(rng):
  """Rewards, transitions and a policy."""
  transition = rng.dirichlet(np.ones(S), (S, A))
  return _f32(rng.normal(size=(S, A))), _f32(transition), rng.integers(0, A, S).astype(np.int32)


def _probs(rng):
  return _f32(rng.dirichlet(np.ones(A), S))


def _optimal(rng, policy):
  return (rng.random((S, A)) < 0.3) | (np.arange(A) == policy[:, None])


def _expert(rng):
  process = _process(rng)
  optimal = _optimal(rng, process[2])
  return *process, optimal.astype(np.int32), _f32(rng.uniform(0.5, 1, S))


def _learner(rng):
  return _probs(rng), _f32(rng.normal(size=(S, A))), _f32(rng.dirichlet(np.ones(S))), _f32(rng.random((S, A)))


def _mask(rng, shape=T):
  mask = (rng.random(shape) < 0.7).astype(np.float32)
  mask[..., 2], mask[..., -1] = 1, 0
  return mask


def _mixed(rng):
  return *_f32(rng.normal(size=3)), *_f32(rng.normal(size=(2, T))), _mask(rng)


def _episode(rng):
  """Logits, states, actions, a mask, and rewards."""
  states, actions = rng.integers(0, S, T), rng.integers(0, A, T)
  return (_f32(rng.normal(size=(S, A))), states.astype(np.int32), actions.astype(np.int32), _mask(rng),
          _f32(rng.normal(size=T)))


def _weighted(rng):
  theta, states, actions, mask, primary = _episode(rng)
  return (theta, _f32(rng.normal(size=3)), _f32(1.0), states, actions, mask, primary, _f32(rng.normal(size=T)))


def _episodes(rng):
  states, actions = rng.integers(0, S, (N, T)), rng.integers(0, A, (N, T))
  return (_f32(rng.normal(size=(S, A))), _f32(rng.normal(size=S)), states.astype(np.int32), actions.astype(np.int32),
          _mask(rng, (N, T)), _f32(rng.dirichlet(np.ones(A), (N, T))), _f32(rng.normal(size=(N, T))))


def _system(rng):
  """An outer gradient, the inner update's derivative (its negative is positive) and that in 2 outer parameters."""
  root = rng.normal(size=(S, S))
  return (_f32(rng.normal(size=S)), _f32(-np.eye(S) - 0.1 * root @ root.T + 0.1 * rng.normal(size=(S, S))),
          _f32(rng.normal(size=(S, 2))))


def _steps(rng):
  return (_f32(rng.normal(size=T)), _f32(rng.normal(size=T)), rng.integers(0, 9, T).astype(np.int32),
          (rng.random(T) < 0.3).astype(np.int32), _f32(0.7), _f32(1.5))


def _tree_hypergradient(outer_grad, matrix, slope):
  """Of an update of a dictionary, whose derivatives are not constant."""
  def update(theta, phi):
    flat = np.float32(0.1) * (theta["a"] ** 2) + theta["b"]
    return {"a": matrix @ flat + slope @ phi, "b": -theta["b"] * phi[0]}
  theta = {"a": outer_grad, "b": outer_grad[::-1]}
  return bilevel.bilevel_hypergradient(update, {"a": outer_grad, "b": slope[:, 0]}, theta, slope[0])


def _arrays(fn):
  return lambda *args: fn(*map(jnp.asarray, args))


_GAMMA = dict(discount=0.9)
_NAN, _NO_STEP = np.full(T, np.nan, np.float32), np.zeros(T, np.float32)
_JUNK = np.full(T, 10**6, np.int32)
_TABLE = _f32([[0, 1, 2], [3, 4, 5]])
_LOOP = np.ones((1, 2, 1), np.float32)
_PAID = _f32([[1, 3]])
_ZERO, _ONES = np.zeros(S, np.float32), np.ones(S, np.float32)
_EYE = _f32(np.tile(np.eye(S)[:, None], (1, A, 1)))
_UNIFORM = _f32(np.full((S, A), 1 / A))
_Q = dict(grads=(0, 1), low_precision=(0, 1), rtol=1e-4, kwargs=_GAMMA)
_SOLVE = dict(grads=(0, 1, 2), low_precision=(0, 1, 2), rtol=1e-4)
_EMPTY = np.zeros((S, A), np.float32)
_still = lambda out: np.allclose(out[0], _TABLE) and np.allclose(out[1], 1)
_zeros = lambda out: not any(np.any(x) for x in (out if isinstance(out, tuple) else (out,)))

ROWS = [
    Row("policy_q", tabular.policy_q, _process, degenerate=(((_PAID, _LOOP, [1]), ([[28, 30]],)),), **_Q),
    Row("optimality_gap", tabular.optimality_gap, _process, degenerate=(((_PAID, _LOOP, [1]), ([[2, 0]],)),), **_Q),
    *(Row(f"{fn.__name__}[{n}]", fn, _process, **_Q | dict(
        kwargs=dict(num_terms=n, **_GAMMA), grads=(0, 1)[:n])) for fn in (tabular.horizon_q, tabular.horizon_gap)
      for n in (1, 4)),
    Row("horizon_qs", tabular.horizon_qs, _process, **_Q | dict(
        kwargs=dict(num_terms=(3, 0, 1), **_GAMMA),
        degenerate=(((_PAID, _LOOP, [1]), ([[[1 + 0.9 * 3 + 0.81 * 3, 3 * 2.71]], [[0, 0]], [[1, 3]]],)),))),
    Row("horizon_q[discounts]", lambda r, p, policy, discount: tabular.horizon_q(r, p, policy, discount, 3),
        lambda rng: (*_process(rng), _f32(rng.uniform(0, 0.9, (S, A)))), grads=(0, 1, 3), rtol=1e-4),
    Row("policy_q[discounts]", tabular.policy_q,
        lambda rng: (*_process(rng), _f32(rng.uniform(0, 0.9, (S, A)))), grads=(0, 1, 3), low_precision=(0, 1, 3),
        rtol=1e-4, degenerate=(((_PAID, _LOOP, [1], _f32([[0, 0]])), (_PAID,)),)),
    Row("policy_values", tabular.policy_values, lambda rng: (*_process(rng)[:2], _probs(rng), _f32(0.9)),
        degenerate=(((_PAID, _LOOP, [[0.5, 0.5]], 0.5), ([4],)),), **_SOLVE),
    Row("value_iteration", tabular.value_iteration, lambda rng: _process(rng)[:2],
        **_Q | dict(kwargs=dict(num_iterations=7, **_GAMMA)),
        degenerate=(((_PAID, _LOOP), ([[1 + 3 * (0.9 - 0.9 ** 7) / 0.1, 3 * (1 - 0.9 ** 7) / 0.1]],)),)),
    Row("soft_value_iteration", lambda r, p, t: tabular.soft_value_iteration(r, p, 0.9, t, num_iterations=7),
        lambda rng: (*_process(rng)[:2], _f32(0.5)), grads=(0, 1, 2), low_precision=(0, 1, 2), rtol=1e-4, degenerate=(
            ((_f32([[2, 2]]), _LOOP, _f32(0.5)), ([[2 * (1 - 0.9 ** 7) / 0.1] * 2],)),)),
    Row("state_margin", tabular.state_margin, lambda rng: (_f32(rng.normal(size=(S, A))), _expert(rng)[3]), grads=(0,),
        group=(0, 1), order="equivariant", low_precision=(0,),
        degenerate=(((_TABLE, np.ones((2, 3))), ([0, 0],)), ((_TABLE, [[1, 0, 0], [0, 1, 0]]), ([1, 3],)))),
    Row("discounted_occupancy", lambda p, probs, first, end: tabular.discounted_occupancy(p, probs, first, 0.9, end),
        lambda rng: (_process(rng)[1], _probs(rng), _f32(rng.dirichlet(np.ones(S))), np.arange(S) == 2), rtol=1e-4,
        grads=(0, 1, 2), low_precision=(0, 1, 2), degenerate=(
            ((_EYE, _UNIFORM, _ONES / S, _ONES), (_ZERO,)), ((_EYE, _UNIFORM, _ONES / S, _ZERO), (_ONES / S,)),
            ((_EYE, _UNIFORM, np.eye(S)[1], np.eye(S)[1]), (_ZERO,)))),
    Row("alignment_reward", rewards.alignment_reward, _mixed, grads=(0, 1, 2, 3, 4), masked={5: (3, 4)},
        low_precision=(0, 1, 2, 3, 4), degenerate=(((1.0, 1.0, 1.0, _NAN, _NAN, _NO_STEP), (_NO_STEP,)),)),
    Row("alignment_reward[of states]", rewards.alignment_reward,
        lambda rng: (*_f32(rng.normal(size=(5, T))), _mask(rng)), grads=(0, 1, 2, 3, 4), masked={5: (0, 1, 2, 3, 4)},
        group=(0, 1, 2, 3, 4, 5), order="equivariant"),
    Row("learned_discount", rewards.learned_discount, lambda rng: (_f32(rng.normal()),), grads=(0,),
        low_precision=(0,), degenerate=(((0.0,), (0.5,)), ((-200.0,), (0.0,)), ((200.0,), (1.0,)))),
    Row("regularized_returns", advantages.regularized_returns,
        lambda rng: (*_f32(rng.normal(size=(2, T))), _mask(rng), _f32(0.9), _f32(0.1)), grads=(0, 1, 3, 4),
        masked={2: (0, 1)}, low_precision=(0, 1, 3, 4), degenerate=(
            ((_NAN, _NAN, _NO_STEP, 0.9, 0.1), (_NO_STEP,)),
            (([1, 9, 1], [0, 9, -1], [1, 0, 1], 0.5, 1.0), ([1.5, 0, 2],)))),
    Row("tabular_inner_update", losses.tabular_inner_update, lambda rng: (*_episode(rng), _f32(0.9), _f32(0.1)),
        grads=(0, 4, 5, 6), masked={3: (1, 2, 4)}, low_precision=(0, 4, 5, 6),
        degenerate=(((_EMPTY, _JUNK, -_JUNK, _NO_STEP, _NAN, 0.9, 0.1), _zeros),)),
    Row("tabular_inner_jacobians", losses.tabular_inner_jacobians, _weighted, grads=(0, 1, 2, 6, 7),
        masked={5: (3, 4, 6, 7)}, low_precision=(0, 1, 2, 6, 7), rtol=1e-4, degenerate=(
            ((_EMPTY, [0, 1, 1], 2.0, _JUNK, -_JUNK, _NO_STEP, _NAN, _NAN), _zeros),)),
    Row("outer_objective_gradient", losses.outer_objective_gradient, lambda rng: (*_episode(rng), _f32(0.9)),
        grads=(0, 4, 5), masked={3: (1, 2, 4)}, low_precision=(0, 4, 5),
        degenerate=(((_EMPTY, _JUNK, -_JUNK, _NO_STEP, _NAN, 0.9), _zeros),)),
    Row("outer_objective_gradient[baseline]", losses.outer_objective_gradient,
        lambda rng: (*_episode(rng), _f32(0.9), _f32(rng.normal(size=T))), grads=(0, 4, 5), stopped=(6,),
        masked={3: (1, 2, 4, 6)}, low_precision=(0, 4, 5, 6)),
    Row("informativeness", rewards.informativeness, _expert, grads=(0, 1, 4),
        **{k: v for k, v in _Q.items() if k not in ("grads", "kwargs")}, kwargs=dict(num_terms=(4, 1), **_GAMMA),
        degenerate=(((_PAID, _LOOP, [1], [[1, 1]], [9]), (0.0,)), ((_PAID, _LOOP, [1], [[0, 1]], [5]), (-3,)))),
    Row("invariance_violation", rewards.invariance_violation, _expert, **_Q,
        degenerate=(((_PAID, _LOOP, [1], [[0, 1]], [1.9]), (0.0,)), ((_PAID, _LOOP, [0], [[1, 1]], [9]), (2,)),
                    ((_PAID, _LOOP, [1], [[0, 1]], [5]), (3,)))),
    Row("adaptive_informativeness", rewards.adaptive_informativeness,
        lambda rng: (_f32(rng.normal(size=(S, A))), *_learner(rng)), grads=(0, 1, 2, 3, 4), group=(0, 1, 2, 3, 4),
        order="invariant", low_precision=(0, 1, 2, 3, 4), rtol=1e-4),
    Row("adaptive_weights", rewards.adaptive_weights, _learner, grads=(0, 1, 2, 3), group=(0, 1, 2, 3),
        order="equivariant", low_precision=(0, 1, 2, 3), rtol=1e-4,
        degenerate=(((_UNIFORM, np.ones((S, A)), _ONES, _UNIFORM), (_EMPTY,)),)),
    Row("count_exploration_bonus", rewards.count_exploration_bonus, lambda rng: _steps(rng)[2:3] + _steps(rng)[4:],
        stopped=(1, 2), degenerate=(
            (([0, 1, 3], 1.0, 1.0), ([1, 0.5 ** 0.5, 0.5],)), (([0, 1], 0.0, 1.0), ([0, 0],)),
            (([0, 1], 1.0, 0.0), ([0, 0],)), (([0, 5], 2.0, 3.0), ([3, 2 / (4 / 9 + 5) ** 0.5],)))),
    Row("explors_reward", rewards.explors_reward, _steps, stopped=(0, 1, 4, 5), group=(0, 1, 2, 3),
        order="equivariant", low_precision=(0, 1),
        degenerate=(((_f32([1, 1]), _f32([0.5, 0]), [0, 0], [0, 1], 1.0, 1.0), ([2.5, 1],)),)),
    Row("selfrs_update", rewards.selfrs_update, _episodes, kwargs=dict(clip=0.5), stopped=(0, 1, 5, 6),
        masked={4: (2, 3, 5, 6)}, group=(2, 3, 4, 5, 6), order="invariant", low_precision=(0, 1, 5, 6), degenerate=(
            ((_TABLE, [1, 1], np.full((1, 2), 9), np.full((1, 2), -9), np.zeros((1, 2)), np.full((1, 2, 3), np.nan),
              np.full((1, 2), np.nan)), _still),)),
    Row("neumann_inverse_vector_product", bilevel.neumann_inverse_vector_product,
        lambda rng: (-_system(rng)[1], _system(rng)[0], _f32(0.1)), grads=(0, 1, 2), low_precision=(0, 1, 2),
        degenerate=(((np.eye(2), [1, 2], 1.0), ([1, 2],)), ((np.zeros((2, 2)), [1, 2], 0.5), ([3, 6],)))),
    Row("neumann_inverse_vector_product[one step]", bilevel.neumann_inverse_vector_product,
        lambda rng: (-_system(rng)[1], _system(rng)[0], _f32(0.1)), kwargs=dict(num_terms=0), grads=(1, 2),
        stopped=(0,), degenerate=(((np.eye(2), [1, 2], 0.5), ([0.5, 1],)),)),
    Row("neumann_inverse_vector_product_fn", _arrays(lambda matrix, vector: bilevel.neumann_inverse_vector_product_fn(
        lambda u: {"a": matrix @ u["a"], "b": 2 * u["b"]}, {"a": vector, "b": vector[:2]}, 0.1, 3)),
        lambda rng: (-_system(rng)[1], _system(rng)[0]), grads=(0, 1), low_precision=(1,)),
    Row("implicit_hypergradient", bilevel.implicit_hypergradient, _system, grads=(0, 1, 2), low_precision=(0, 1, 2)),
    Row("exact_hypergradient", bilevel.exact_hypergradient, _system, grads=(0, 1, 2), low_precision=(0, 1, 2),
        rtol=1e-4, degenerate=(((_f32([1, 2]), np.zeros((2, 2)), np.zeros((2, 3))), _zeros),
                               ((_f32([1, 2]), -np.eye(2), np.eye(2)), (_f32([1, 2]) / 1.01,)))),
    Row("bilevel_hypergradient", _arrays(_tree_hypergradient), _system, grads=(0, 1, 2)),
]
