"""Tables against float64 NumPy: power series instead of solves, loops over states, and a chain in closed form."""

from hypothesis import given, settings, strategies as st
import jax
import numpy as np
import pytest

from rlcore import tabular

_horizon_q_of, _horizon_gap_of, _horizon_qs_of = (
    jax.jit(fn, static_argnums=4) for fn in (tabular.horizon_q, tabular.horizon_gap, tabular.horizon_qs))
processes = st.integers(0, 2**31).map(np.random.default_rng)


def _process(rng, size=4, actions=3):
  transition = rng.dirichlet(np.full(size, 0.5), (size, actions))
  return rng.normal(size=(size, actions)), transition, rng.integers(0, actions, size)


def _horizon_q(rewards, transition, policy, discount, terms):
  """Loops over what an action and the policy after it earn, n terms."""
  discount = np.broadcast_to(discount, rewards.shape)
  q = np.zeros(rewards.shape)
  for _ in range(terms):
    new = np.zeros(rewards.shape)
    for s in range(len(policy)):
      for a in range(rewards.shape[1]):
        ahead = sum(transition[s, a, z] * q[z, policy[z]] for z in range(len(policy)))
        new[s, a] = rewards[s, a] + discount[s, a] * ahead
    q = new
  return q


def _close(got, want):
  np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


@settings(max_examples=12, deadline=None)
@given(processes)
def test_action_values_and_gaps(rng):
  rewards, transition, policy = _process(rng)
  discount = rng.uniform(0, 0.8, rewards.shape)
  discount = discount if rng.random() < 0.5 else np.full_like(discount, discount[0, 0])
  args = rewards, transition, policy, discount
  states = np.arange(len(policy))
  lasting = _horizon_q(*args, 60)
  _close(tabular.policy_q(*args), lasting)
  _close(tabular.optimality_gap(*args), lasting[states, policy][:, None] - lasting)
  for terms in (0, 1, 3):
    q = _horizon_q(*args, terms)
    _close(_horizon_q_of(*args, terms), q)
    _close(_horizon_gap_of(*args, terms), q[states, policy][:, None] - q)
  many = _horizon_qs_of(*args, (4, 1))
  _close(many, [_horizon_q(*args, 4), rewards])


@settings(max_examples=12, deadline=None)
@given(processes)
def test_policy_values_occupancies_and_margins(rng):
  rewards, transition, _ = _process(rng)
  size, actions = rewards.shape
  probs, first = rng.dirichlet(np.ones(actions), size), rng.dirichlet(np.ones(size))
  terminal = rng.random(size) < 0.3
  discount, here = rng.uniform(0, 0.8), first
  values, spent = np.zeros(size), np.zeros(size)
  for t in range(60):
    spent += discount ** t * here
    here = np.einsum("s,sa,saz->z", here, probs, transition)
  for _ in range(60):
    values = np.array([
        sum(probs[s, a] * (rewards[s, a] + discount * transition[s, a] @ values) for a in range(actions))
        for s in range(size)])
  spent[terminal] = 0
  _close(tabular.policy_values(rewards, transition, probs, discount), values)
  got = tabular.discounted_occupancy(transition, probs, first, discount, terminal)
  _close(got, spent / spent.sum() if spent.any() else spent)
  optimal = rng.random((size, actions)) < 0.5
  margins = [min([rewards[s, a] for a in range(actions) if not optimal[s, a]], default=0) for s in range(size)]
  _close(tabular.state_margin(rewards, optimal), margins)


@settings(max_examples=6, deadline=None)
@given(processes)
def test_value_iteration_finds_the_best_of_all_policies(rng):
  rewards, transition, _ = _process(rng)
  size, actions = rewards.shape
  discount = rng.uniform(0, 0.6)  # what comes after 40 terms is below the tolerance
  policies = np.stack(np.meshgrid(*[range(actions)] * size), -1).reshape(-1, size)
  best = np.max([_horizon_q(rewards, transition, policy, discount, 40) for policy in policies], 0)
  _close(tabular.value_iteration(rewards, transition, discount, 60), best)


@settings(max_examples=6, deadline=None)
@given(processes)
def test_soft_values_are_the_most_that_reward_less_divergence_can_be(rng):
  rewards, transition, _ = _process(rng)
  size, actions = rewards.shape
  discount, temperature = rng.uniform(0, 0.6), rng.uniform(0.2, 2)
  q = np.zeros(rewards.shape)
  for _ in range(60):
    values = [temperature * np.log(np.mean(np.exp(q[s] / temperature))) for s in range(size)]
    q = rewards + discount * transition @ values
  got = np.asarray(tabular.soft_value_iteration(rewards, transition, discount, temperature, 60), float)
  _close(got, q)

  def worth(probs):
    paid = np.sum(probs * (rewards - temperature * np.log(probs * actions)), 1)
    return np.linalg.solve(np.eye(size) - discount * np.einsum("sa,saz->sz", probs, transition), paid)

  best = np.exp(got / temperature) / np.exp(got / temperature).sum(1, keepdims=True)
  _close(worth(best), values)
  for _ in range(5):
    assert np.all(worth(rng.dirichlet(np.ones(actions), size) + 1e-9) <= worth(best) + 1e-4)


def test_without_temperature_soft_values_are_the_plain_ones():
  rewards, transition, _ = _process(np.random.default_rng(0))
  hard = tabular.value_iteration(rewards, transition, 0.7, 40)
  np.testing.assert_allclose(tabular.soft_value_iteration(rewards, transition, 0.7, 1e-4, 40), hard, atol=1e-3)


def test_one_state_and_one_action():
  args = [[2.0]], [[[1.0]]], [0], 0.5
  _close(tabular.policy_q(*args), [[4]])
  _close(tabular.optimality_gap(*args), [[0]])
  _close(tabular.horizon_q(*args, 2), [[3]])


def _line(size):
  """Self loops at the ends; right in the last state pays 1."""
  transition, rewards = np.zeros((size, 2, size)), np.zeros((size, 2))
  for s in range(size):
    transition[s, 0, max(s - 1, 0)] = transition[s, 1, min(s + 1, size - 1)] = 1
  rewards[-1, 1] = 1
  return rewards, transition


def test_worked_example():
  rewards, transition = _line(4)
  gap = tabular.optimality_gap(rewards, transition, [1] * 4, 0.9)
  _close(gap, [[0.729, 0], [1.539, 0], [1.71, 0], [1.9, 0]])
  _close(tabular.state_margin(gap, [[0, 1]] * 4), [0.729, 1.539, 1.71, 1.9])


def test_an_action_that_terminates_and_one_that_goes_on_in_closed_form():
  """Right in the last state ends the episode if its discount is 0, else it pays for ever."""
  rewards, transition = _line(4)
  forever = tabular.value_iteration(rewards, transition, 0.9, 200)
  _close(forever[:, 1], [0.9 ** (3 - s) * 10 for s in range(4)])
  discount = np.full((4, 2), 0.9)
  discount[3, 1] = 0
  once = tabular.value_iteration(rewards, transition, discount, 200)
  _close(once[:, 1], [0.9 ** (3 - s) for s in range(4)])
  _close(tabular.policy_q(rewards, transition, [1] * 4, discount), once)
  absorbing = np.zeros((5, 2, 5))
  absorbing[:4, :, :4], absorbing[3, 1], absorbing[4, :, 4] = transition, np.eye(5)[4], 1
  with_state = tabular.value_iteration(np.append(rewards, [[0, 0]], 0), absorbing, 0.9, 200)
  _close(with_state[:4], once)
  _close(with_state[4], 0)


def test_bad_input_is_named():
  rewards, transition = _line(3)
  with pytest.raises(AssertionError, match="tabular.policy_q: transition has shape"):
    tabular.policy_q(rewards, transition[:2], [1] * 3, 0.9)
  with pytest.raises(AssertionError, match="policy has dtype float32, expected integers"):
    tabular.policy_q(rewards, transition, [1.0] * 3, 0.9)
  with pytest.raises(AssertionError, match="did you forget a jax.vmap"):
    tabular.value_iteration(rewards[None], transition, 0.9, 3)
  with pytest.raises(ValueError, match="must not be negative"):
    tabular.horizon_q(rewards, transition, [1] * 3, 0.9, -1)


def test_seeds_are_lanes():
  rng = np.random.default_rng(0)
  rewards, transition = rng.normal(size=(6, 3, 2)), rng.dirichlet(np.ones(3), (6, 3, 2))
  discount = np.linspace(0.1, 0.9, 6)
  many = jax.vmap(lambda *args: tabular.value_iteration(*args, 20))(rewards, transition, discount)
  for i in range(6):
    _close(many[i], tabular.value_iteration(rewards[i], transition[i], discount[i], 20))
