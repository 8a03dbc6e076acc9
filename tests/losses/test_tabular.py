"""Directions of a tabular softmax policy and their derivatives, against loops and differences in float64."""

from hypothesis import given, settings, strategies as st
import numpy as np
import pytest

from rlcore import advantages, losses

_S, _A, _T = 3, 2, 6
generators = st.integers(0, 2**31).map(np.random.default_rng)


def _close(got, want, tol=1e-4):
  np.testing.assert_allclose(got, want, rtol=tol, atol=tol)


def _returns(paid, mask, discount):
  return [sum(discount ** (j - t) * paid[j] for j in range(t, len(paid)) if mask[j]) for t in range(len(paid))]


def _direction(theta, states, actions, mask, paid, discount, ent_coef, outer=False, baseline=None):
  probs = np.exp(theta) / np.exp(theta).sum(1, keepdims=True)
  soft = [paid[t] - ent_coef * np.log(probs[states[t], actions[t]]) if mask[t] else 0 for t in range(_T)]
  returns, total = _returns(soft, mask, discount), np.zeros(theta.shape)
  for t in range(_T):
    if mask[t]:
      weight = (discount ** t if outer else 1) * (returns[t] - (0 if baseline is None else baseline[t]))
      total[states[t]] += weight * (np.eye(_A)[actions[t]] - probs[states[t]])
  return total


def _episode(rng):
  mask = rng.random(_T) < 0.7
  states, actions = rng.integers(0, _S, _T), rng.integers(0, _A, _T)
  return rng.normal(size=(_S, _A)), states, actions, mask, *rng.normal(size=(2, _T))


def _junk(mask, states, actions, *floats):
  return (np.where(mask, states, 999), np.where(mask, actions, -5), *(np.where(mask, x, np.nan) for x in floats))


@settings(max_examples=12, deadline=None)
@given(generators)
def test_directions(rng):
  theta, states, actions, mask, primary, baseline = _episode(rng)
  discount, ent_coef = rng.uniform(0.3, 1), rng.uniform(0, 0.5)
  hidden = _junk(mask, states, actions, primary, baseline)
  got = losses.tabular_inner_update(theta, *hidden[:2], mask, hidden[2], discount, ent_coef)
  _close(got, _direction(theta, states, actions, mask, primary, discount, ent_coef))
  got = losses.outer_objective_gradient(theta, *hidden[:2], mask, hidden[2], discount)
  _close(got, _direction(theta, states, actions, mask, primary, discount, 0, True))
  got = losses.outer_objective_gradient(theta, *hidden[:2], mask, hidden[2], discount, hidden[3])
  _close(got, _direction(theta, states, actions, mask, primary, discount, 0, True, baseline))
  soft = np.where(mask, primary - ent_coef * baseline, 0)
  got = advantages.regularized_returns(hidden[2], hidden[3], mask, discount, ent_coef)
  _close(got, np.where(mask, _returns(soft, mask, discount), 0))


@settings(max_examples=6, deadline=None)
@given(generators)
def test_jacobians(rng):
  theta, states, actions, mask, primary, aux = _episode(rng)
  phi, logit, ent_coef = rng.normal(size=3), rng.normal(), 0.2

  def update(x):
    flat, phi, logit = x[:_S * _A], x[_S * _A:-1], x[-1]
    paid = phi[0] + phi[1] * primary + phi[2] * aux
    return _direction(
        flat.reshape(_S, _A), states, actions, mask, paid, 1 / (1 + np.exp(-logit)), ent_coef).ravel()

  at = np.concatenate([theta.ravel(), phi, [logit]])
  steps = 1e-5 * np.eye(at.size)
  want = np.stack([(update(at + step) - update(at - step)) / 2e-5 for step in steps], 1)
  hidden = _junk(mask, states, actions, primary, aux)
  got = losses.tabular_inner_jacobians(theta, phi, logit, *hidden[:2], mask, *hidden[2:], ent_coef)
  _close(np.concatenate([got[0], got[1], got[2][:, None]], 1), want, 1e-3)


def test_worked_example():
  theta, states, actions, mask = [[0, 0], [0.5, -0.5]], [0, 1, 1], [0, 1, 0], [1, 1, 1]
  update = losses.tabular_inner_update(theta, states, actions, mask, [0.5, 0, 1], 0.880797, 0.1)
  _close(update, [[0.742546, -0.742546], [-0.482726, 0.482726]], 1e-5)
  jac_theta, jac_phi, jac_logit = losses.tabular_inner_jacobians(
      theta, [0, 1, 0.5], 2, states, actions, mask, [0, 0, 1], [1, 0, 0], 0.1)
  row = np.array([-0.396273, 0.396273, 0.021763, -0.021763])
  other = np.array([0, 0, -0.450552, 0.450552])
  _close(jac_theta, [row, -row, other, -other], 1e-5)
  row, other = np.array([1.3283, 0.387902, 0.5]), np.array([-1.106031, -0.374973, 0])
  _close(jac_phi, [row, -row, other, -other], 1e-5)
  _close(jac_logit, [0.102269, -0.102269, -0.079161, 0.079161], 1e-5)
  outer = lambda discount, baseline=None: np.ravel(losses.outer_objective_gradient(
      theta, states, actions, mask, [0, 0, 1], discount, baseline))
  _close(outer(1.0), [0.5, -0.5, -0.462117, 0.462117], 1e-5)
  _close(outer(0.9), [0.405, -0.405, -0.374315, 0.374315], 1e-5)
  _close(outer(0.9, [0.1, 0.2, 0.3]), [0.355, -0.355, -0.308077, 0.308077], 1e-5)


def test_bad_input_is_named():
  line, table = np.zeros(3, int), np.zeros((2, 2))
  with pytest.raises(AssertionError, match="losses.tabular_inner_update: theta has rank 1"):
    losses.tabular_inner_update(np.zeros(2), line, line, line, line, 0.9)
  with pytest.raises(AssertionError, match="states has dtype"):
    losses.tabular_inner_update(table, line + 0.5, line, line, line, 0.9)
  with pytest.raises(AssertionError, match="phi has shape"):
    losses.tabular_inner_jacobians(table, np.ones(4), 0, line, line, line, line, line)
  with pytest.raises(AssertionError, match="advantages.regularized_returns: log_probs has shape"):
    advantages.regularized_returns(np.ones(3), np.ones(2), np.ones(3), 0.9)
