"""Rewards by linear programs: feasible, as good as claimed, better than random ones, and the worked example."""

from hypothesis import given, settings, strategies as st
import jax
import numpy as np
import pytest

from rlcore import reward_models, rewards, tabular
from tests.tolerance import close


def _line(size, discount):
  """Transitions, policy, optimal actions, margins and discount; self loops at the ends, right at the end pays 1."""
  transition, paid = np.zeros((size, 2, size)), np.zeros((size, 2))
  for s in range(size):
    transition[s, 0, max(s - 1, 0)] = transition[s, 1, min(s + 1, size - 1)] = 1
  paid[-1, 1] = 1
  policy, optimal = np.ones(size, int), np.tile([0, 1], (size, 1))
  gap = tabular.optimality_gap(paid, transition, policy, discount)
  margin = np.asarray(tabular.state_margin(gap, optimal), np.float64) / (1 + 1e-5)
  return transition, policy, optimal, margin, discount


_informativeness = jax.jit(rewards.informativeness, static_argnums=6)
_violation = jax.jit(rewards.invariance_violation)


def _measured(design, expert, terms):
  transition, policy, optimal, margin, discount = expert
  args = design, transition, policy, optimal, margin, discount
  return float(_informativeness(*args, terms)), float(_violation(*args))


def _random_expert(rng):
  """The optimal policy of a random process, whose own reward keeps it optimal with its margins."""
  size, actions, discount = 4, 3, rng.uniform(0.3, 0.8)
  transition, paid = rng.dirichlet(np.full(size, 0.3), (size, actions)), rng.uniform(-1, 1, (size, actions))
  policy = np.argmax(tabular.value_iteration(paid, transition, discount, 150), 1)
  optimal = np.arange(actions) == policy[:, None]
  gap = tabular.optimality_gap(paid, transition, policy, discount)
  margin = np.asarray(tabular.state_margin(gap, optimal), np.float64) / (1 + 1e-5)
  return paid, (transition, policy, optimal, margin, discount)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**31).map(np.random.default_rng))
def test_a_design_is_feasible_and_no_other_reward_is_better(rng):
  paid, expert = _random_expert(rng)
  terms, r_max, everywhere = (1, 3), 1.5, np.ones(len(paid))
  optimum = reward_models.exprd_optimum(*expert, terms, r_max, everywhere)
  design = reward_models.exprd_design(*expert, terms, r_max, everywhere)
  value, violation = _measured(design, expert, terms)
  close(value, optimum, r_max, rtol=1e-4)
  assert violation <= 1e-4 and np.abs(design).max() <= r_max
  original, _ = _measured(paid, expert, terms)
  assert original <= optimum + 1e-4
  for _ in range(20):  # the feasible rewards are convex, and around the original one
    other = np.clip(paid + rng.normal(size=paid.shape) * 0.3, -r_max, r_max)
    if _measured(other, expert, terms)[1] == 0:
      assert _measured(other, expert, terms)[0] <= optimum + 1e-4


def test_worked_example_and_sparse_designs():
  expert = _line(4, 0.9)
  optimum = lambda active, r_max=1.0: reward_models.exprd_optimum(*expert, (1, 2), r_max, active)
  np.testing.assert_allclose(optimum([1, 1, 1, 1]), 0, atol=1e-6)
  np.testing.assert_allclose(optimum([0, 1, 0, 1]), -0.631985, atol=1e-5)
  np.testing.assert_allclose(optimum([0, 0, 0, 1]), -0.88199, atol=1e-5)
  design = reward_models.exprd_design(*expert, (1, 2), 1.0, [0, 1, 0, 1])
  value, violation = _measured(design, expert, (1, 2))
  np.testing.assert_allclose(value, -0.631985, atol=1e-5)
  assert violation <= 1e-4 and not design[[0, 2]].any() and np.abs(design).max() <= 1


def test_what_cannot_be_done_is_nan():
  expert = _line(4, 0.9)
  for r_max, active in ((1.0, np.zeros(4)), (0.01, np.ones(4)), (0.0, np.ones(4))):
    assert np.isnan(reward_models.exprd_optimum(*expert, (1, 2), r_max, active))
    assert np.isnan(reward_models.exprd_design(*expert, (1, 2), r_max, active)).all()
  transition, policy, _, _, discount = expert
  nothing_worse = transition, policy, np.ones((4, 2)), np.zeros(4), discount
  assert reward_models.exprd_optimum(*nothing_worse, (1, 2), 1.0, np.zeros(4)) == 0
  assert not reward_models.exprd_design(*nothing_worse, (1, 2), 1.0, np.zeros(4)).any()
  tie_forgotten = transition * 0 + 0.25, policy, np.tile([0, 1], (4, 1)), np.full(4, 0.1), discount
  assert np.isnan(reward_models.exprd_optimum(*tie_forgotten, (1,), 1.0, np.zeros(4)))


def test_greedy_states_are_the_best_single_additions():
  expert = _line(5, 0.9)
  settings_ = (1, 2), 1.0
  goal = np.arange(5) == 4
  chosen = reward_models.greedy_active_states(*expert, *settings_, goal, 2)
  alone = [reward_models.exprd_optimum(*expert, *settings_, goal | (np.arange(5) == s)) for s in range(4)]
  assert chosen.tolist() == [s == int(np.argmax(alone)) or s == 4 for s in range(5)]
  grown = [reward_models.greedy_active_states(*expert, *settings_, goal, budget) for budget in (0, 1, 3, 9)]
  assert [int(g.sum()) for g in grown] == [1, 1, 3, 5] and all(g[4] for g in grown)
  assert (chosen <= grown[2]).all()
  values = [reward_models.exprd_optimum(*expert, *settings_, g) for g in (grown[1], chosen, grown[2], grown[3])]
  assert all(b >= a - 1e-9 for a, b in zip(values, values[1:]))
  hopeless = reward_models.greedy_active_states(*expert, (1, 2), 0.0, np.zeros(5), 2)
  assert hopeless.tolist() == [True, True, False, False, False]  # all infeasible: the lowest


def test_an_infeasible_candidate_comes_last():
  """With no goal, only the paying end can keep the policy optimal at this size of reward."""
  expert = _line(4, 0.9)
  alone = [reward_models.exprd_optimum(*expert, (1, 2), 1.0, np.arange(4) == s) for s in range(4)]
  assert np.isnan(alone[0]) and not np.isnan(alone[3])
  chosen = reward_models.greedy_active_states(*expert, (1, 2), 1.0, np.zeros(4), 1)
  assert chosen.tolist() == [s == int(np.nanargmax(alone)) for s in range(4)]


@settings(max_examples=4, deadline=None)
@given(st.integers(0, 2**31).map(np.random.default_rng))
def test_an_adaptive_design_is_feasible_and_no_other_reward_weighs_more(rng):
  paid, expert = _random_expert(rng)
  weights = rng.normal(size=paid.shape)
  active = np.append(np.ones(len(paid) - 1), rng.integers(2))
  design = reward_models.adaptive_design(weights * 1e-9, *expert, 1.5, active)
  if np.isnan(design).any():
    return  # one state less may be too few, and then no other reward will do either
  assert _measured(design, expert, (1,))[1] <= 1e-4 and np.abs(design).max() <= 1.5
  assert not design[active == 0].any()
  for _ in range(5):
    other = np.clip(design + rng.normal(size=paid.shape) * 0.3, -1.5, 1.5) * active[:, None]
    if _measured(other, expert, (1,))[1] == 0:
      assert np.sum(weights * other) <= np.sum(weights * design) + 1e-3


def test_adaptive_designs_of_a_line():
  """Where the largest rewards keep the margins, every learner of the line gets the same."""
  expert = _line(4, 0.9)
  weights = np.array([[-1.0, 1.0]] * 4) * [[4.0], [3.0], [2.0], [1.0]]
  np.testing.assert_allclose(reward_models.adaptive_design(weights, *expert, 1.0, np.ones(4)), [[-1, 1]] * 4)
  assert np.isnan(reward_models.adaptive_design(weights, *expert, 0.01, np.ones(4))).all()
  assert np.isnan(reward_models.adaptive_design(weights, *expert, 1.0, np.zeros(4))).all()
  kept = reward_models.adaptive_design(weights * 0, *expert, 1.0, np.ones(4))
  assert _measured(kept, expert, (1,))[1] <= 1e-4  # no learner to help: any reward that is true to the expert
  for bad in (weights[:3], weights * np.nan):
    with pytest.raises(ValueError, match="weights must be finite, of shape"):
      reward_models.adaptive_design(bad, *expert, 1.0, np.ones(4))


def test_bad_input_is_named():
  transition, policy, optimal, margin, discount = _line(3, 0.9)
  for args, message in (
      ((transition[:2], policy, optimal, margin, discount, (1,), 1.0, np.ones(3)), "transition has shape"),
      ((transition, policy, optimal, margin[:2], discount, (1,), 1.0, np.ones(3)), "margin has shape"),
      ((transition, policy, optimal, margin, discount, (), 1.0, np.ones(3)), "at least one horizon"),
      ((transition, policy, optimal, margin, discount, (1,), -1.0, np.ones(3)), "r_max=-1.0"),
      ((transition, policy, optimal, margin, discount, (1,), 1.0, np.ones(2)), "active")):
    with pytest.raises(ValueError, match=message):
      reward_models.exprd_optimum(*args)
