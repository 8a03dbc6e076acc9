"""Aligned, designed and self-shaped rewards against loops in float64, the worked examples, and junk in masked steps."""

from hypothesis import given, settings, strategies as st
import jax
import numpy as np
import pytest

from rlcore import rewards

_S, _A, _N, _T = 4, 3, 2, 5
generators = st.integers(0, 2**31).map(np.random.default_rng)


def _close(got, want):
  np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def _q(paid, transition, policy, discount, terms):
  q = np.zeros(paid.shape)
  for _ in range(terms):
    q = paid + discount * transition @ q[np.arange(_S), policy]
  return q


@settings(max_examples=12, deadline=None)
@given(generators)
def test_informativeness_and_violation(rng):
  paid, transition = rng.normal(size=(_S, _A)), rng.dirichlet(np.ones(_S), (_S, _A))
  policy, margin, discount = rng.integers(0, _A, _S), rng.uniform(0, 1, _S), rng.uniform(0, 0.8)
  optimal = (rng.random((_S, _A)) < 0.4) | (np.arange(_A) == policy[:, None])
  total, violation = 0.0, 0.0
  for terms in (1, 3):
    q = _q(paid, transition, policy, discount, terms)
    for s in range(_S):
      total += max([0.0] + [margin[s] - (q[s, policy[s]] - q[s, a]) for a in range(_A) if not optimal[s, a]])
  q = _q(paid, transition, policy, discount, 80)
  for s in range(_S):
    for a in range(_A):
      violation = max(violation, (0 if optimal[s, a] else margin[s]) - (q[s, policy[s]] - q[s, a]))
  args = paid, transition, policy, optimal, margin, discount
  _close(rewards.informativeness(*args, (1, 3)), -total / (2 * _S))
  _close(rewards.invariance_violation(*args), violation)


@settings(max_examples=12, deadline=None)
@given(generators)
def test_adaptive_informativeness_and_its_weights(rng):
  paid, advantage = rng.normal(size=(2, _S, _A))
  probs, expert, learner = rng.dirichlet(np.ones(_A), _S), rng.dirichlet(np.ones(_S)), rng.random((_S, _A))
  total = 0.0
  for s in range(_S):
    for a in range(_A):
      total += expert[s] * learner[s, a] * probs[s, a] * (advantage[s, a] - probs[s] @ advantage[s]) * (
          paid[s, a] - probs[s] @ paid[s])
  args = probs, advantage, expert, learner
  _close(rewards.adaptive_informativeness(paid, *args), total)
  _close(rewards.adaptive_weights(*args), jax.grad(rewards.adaptive_informativeness)(paid.astype(np.float32), *args))


@settings(max_examples=12, deadline=None)
@given(generators)
def test_self_shaping_update(rng):
  phi, value = rng.normal(size=(_S, _A)) * 0.1, rng.normal(size=_S)
  states, actions = rng.integers(0, _S, (_N, _T)), rng.integers(0, _A, (_N, _T))
  probs, returns, mask = rng.dirichlet(np.ones(_A), (_N, _T)), rng.normal(size=(_N, _T)), rng.random((_N, _T)) < 0.7
  clip = rng.choice([0.05, 0.0, -1.0])
  new_phi, new_value, count = phi.copy(), value.copy(), max(mask.sum(), 1)
  for n, t in zip(*np.nonzero(mask)):
    s, a = states[n, t], actions[n, t]
    d = returns[n, t] - value[s]
    new_phi[s] += 0.3 * probs[n, t, a] * d * (np.eye(_A)[a] - probs[n, t])
    new_value[s] += 0.2 * d / count
  if clip > 0 and mask.any():
    new_phi = np.clip(new_phi, -clip, clip)
  states, actions = np.where(mask, states, 99), np.where(mask, actions, -7)
  probs, returns = np.where(mask[..., None], probs, np.nan), np.where(mask, returns, np.inf)
  got = rewards.selfrs_update(phi, value, states, actions, mask, probs, returns, 0.3, 0.2, clip)
  _close(got[0], new_phi)
  _close(got[1], new_value)


@settings(max_examples=12, deadline=None)
@given(generators)
def test_bonus_and_explored_reward(rng):
  count, terminal = rng.integers(0, 20, _T), rng.random(_T) < 0.4
  reward, phi = rng.normal(size=(2, _T))
  scale, most = rng.uniform(0.1, 2, 2)
  bonus = [scale / np.sqrt((scale / most) ** 2 + n) for n in count]
  _close(rewards.count_exploration_bonus(count, scale, most), bonus)
  _close(rewards.explors_reward(reward, phi, count, terminal, scale, most), reward + phi + np.where(terminal, 0, bonus))


@settings(max_examples=12, deadline=None)
@given(generators)
def test_alignment_reward(rng):
  mask = rng.random(_T) < 0.7
  bias, w_primary, w_aux, primary, aux = np.where(mask, rng.normal(size=(5, _T)), np.nan)
  want = [bias[t] + w_primary[t] * primary[t] + w_aux[t] * aux[t] if mask[t] else 0 for t in range(_T)]
  _close(rewards.alignment_reward(bias, w_primary, w_aux, primary, aux, mask), want)
  want = [0.3 - primary[t] + 2 * aux[t] if mask[t] else 0 for t in range(_T)]
  _close(rewards.alignment_reward(0.3, -1, 2, primary, aux, mask), want)
  logit = rng.normal() * 4
  _close(rewards.learned_discount(logit), 1 / (1 + np.exp(-logit)))


def test_worked_examples():
  _close(rewards.alignment_reward(0, 1, 0.5, [0, 0, 1], [1, 0, 0], [1, 1, 1]), [0.5, 0, 1])
  _close(rewards.learned_discount(2), 0.880797)
  transition = np.zeros((4, 2, 4))
  for s in range(4):
    transition[s, 0, max(s - 1, 0)] = transition[s, 1, min(s + 1, 3)] = 1
  paid, margin = np.array([[0, 0]] * 3 + [[0, 1]]), np.array([0.729, 1.539, 1.71, 1.9])
  expert = paid, transition, [1] * 4, [[0, 1]] * 4, margin, 0.9
  _close(rewards.informativeness(*expert, (1, 2)), -0.9945)
  _close(rewards.invariance_violation(*expert), 0)
  half, right = np.full((4, 2), 0.5), [0.005695, 0.012023, 0.013359, 0.014844]
  weights = rewards.adaptive_weights(half, np.stack([-margin, 0 * margin], 1), np.full(4, 0.25), half / 4)
  np.testing.assert_allclose(weights, np.stack([-np.array(right), right], 1), atol=1e-6)
  _close(rewards.count_exploration_bonus([0, 1, 3]), [1, 0.707107, 0.5])
  phi, value = rewards.selfrs_update(
      np.zeros((2, 2)), [0, 0], [[0, 1]], [[1, 0]], [[1, 1]], np.full((1, 2, 2), 0.5), [[0.9, 1]], 0.01, 0.01)
  np.testing.assert_allclose(phi, [[-0.00225, 0.00225], [0.0025, -0.0025]], atol=1e-7)
  np.testing.assert_allclose(value, [0.0045, 0.005], atol=1e-7)


def test_phi_itself_is_clipped_but_not_without_a_step():
  phi, nothing = np.full((2, 2), 0.5), np.zeros((1, 2), int)
  args = nothing, nothing, nothing, np.full((1, 2, 2), 0.5), np.zeros((1, 2)), 0.01, 0.01
  assert (rewards.selfrs_update(phi, [0, 0], *args, 0.01)[0] == 0.5).all()
  seen = nothing, nothing, nothing + 1, *args[3:]
  assert np.allclose(rewards.selfrs_update(phi, [0, 0], *seen, 0.01)[0], 0.01)
  assert np.allclose(rewards.selfrs_update(phi, [0, 0], *seen, -1)[0], 0.5)


def test_bad_input_is_named():
  table, line = np.ones((2, 3)), np.ones(2)
  with pytest.raises(AssertionError, match="rewards.alignment_reward: w_aux has shape"):
    rewards.alignment_reward(0, 1, np.ones(3), line, line, line)
  with pytest.raises(AssertionError, match="rewards.informativeness: margin has shape"):
    rewards.informativeness(table, np.ones((2, 3, 2)) / 2, [0, 0], table, np.ones(3), 0.9, (1,))
  with pytest.raises(ValueError, match="at least one horizon"):
    rewards.informativeness(table, np.ones((2, 3, 2)) / 2, [0, 0], table, line, 0.9, ())
  with pytest.raises(AssertionError, match="rewards.explors_reward: phi_sa has shape"):
    rewards.explors_reward(line, np.ones(3), [1, 1], [0, 0])
  with pytest.raises(AssertionError, match="rewards.selfrs_update: states has dtype"):
    rewards.selfrs_update(table, line, table, table, table, np.ones((2, 3, 3)), table)
