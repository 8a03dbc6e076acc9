"""Credit of players against every order in float64, and SCAR's worked example."""

import itertools

from hypothesis import given, settings, strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore import rewards, segments
from rlcore.reward_models import coalition_text
from tests.tolerance import close

_few = settings(max_examples=12, deadline=None)
_N = 4
_SHAPLEY = jax.jit(lambda v: rewards.shapley_values(v, _N))
_SAMPLED = jax.jit(rewards.shapley_from_permutations)
_VALUES = np.array([0, 1, 0, 4, 2, 3, 2, 7], np.float32)
_seeds = st.integers(0, 2**32 - 1)


def _contiguous(order, groups):
  runs = [key for key, _ in itertools.groupby(groups[i] for i in order)]
  return len(runs) == len(set(runs))


def _mean_marginal(values, orders, players):
  totals = np.zeros(players)
  for order in orders:
    coalition = 0
    for i in order:
      totals[i] += np.float64(values[coalition | 1 << i]) - np.float64(values[coalition])
      coalition |= 1 << i
  return totals / max(len(orders), 1)


@_few
@given(_seeds, st.sampled_from([0.0, 100.0]))
def test_shapley_is_the_mean_over_all_orders(seed, offset):
  values = (offset + np.random.default_rng(seed).normal(size=2**_N)).astype(np.float32)
  got = _SHAPLEY(values)
  want = _mean_marginal(values, list(itertools.permutations(range(_N))), _N)
  np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(np.sum(got), np.float64(values[-1]) - values[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("groups", [(0, 0, 1), (3, -2, 3, 3, -2), (1, 1, 1, 1), (4, 3, 2, 1), (0, 1, 2, 0, 1)])
def test_owen_is_the_mean_over_the_orders_that_keep_groups_together(groups):
  players = len(groups)
  values = np.random.default_rng(players).normal(size=2**players).astype(np.float32)
  orders = [order for order in itertools.permutations(range(players)) if _contiguous(order, groups)]
  got = rewards.owen_values(values, np.array(groups), players)
  np.testing.assert_allclose(got, _mean_marginal(values, orders, players), rtol=1e-5, atol=1e-5)
  np.testing.assert_array_equal(got, rewards.owen_values(values, groups, players))


@_few
@given(_seeds)
def test_sampled_orders(seed):
  rng = np.random.default_rng(seed)
  values = rng.normal(size=2**_N).astype(np.float32)
  orders = np.stack([rng.permutation(_N) for _ in range(6)])
  mask = rng.random(6) < rng.choice([0, 0.6])
  prefixes = np.array([[values[sum(1 << i for i in order[:k])] for k in range(_N + 1)] for order in orders])
  want = _mean_marginal(values, orders[mask], _N)
  orders[~mask], prefixes[~mask] = rng.integers(-9, 99, _N), np.nan
  got = _SAMPLED(orders, prefixes, mask)
  np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
  if mask.any():
    np.testing.assert_allclose(np.sum(got), np.float64(values[-1]) - values[0], rtol=1e-4, atol=1e-5)


def test_every_order_once_is_exact_and_many_players_do_not_overflow():
  orders = np.array(list(itertools.permutations(range(3))))
  prefixes = np.array([[_VALUES[sum(1 << i for i in order[:k])] for k in range(4)] for order in orders])
  want = rewards.shapley_values(_VALUES, 3)
  close(rewards.shapley_from_permutations(orders, prefixes, np.ones(6)), want, rtol=1e-6)
  sizes = np.array([bin(k).count("1") for k in range(2**14)])
  close(rewards.shapley_values(sizes**2, 14), np.full(14, 14), rtol=1e-4)  # 14! > 2**31


def test_worked_example():
  np.testing.assert_allclose(rewards.shapley_values(_VALUES, 3), [2.833333, 1.833333, 2.333333], rtol=1e-6)
  np.testing.assert_allclose(rewards.owen_values(_VALUES, (0, 0, 1), 3), [2.75, 1.75, 2.5], rtol=1e-6)
  tokens = segments.segment_to_token_rewards(rewards.shapley_values(_VALUES, 3), [0, 0, 1, 2, 2], [1] * 5)
  np.testing.assert_allclose(tokens, [0, 2.833333, 1.833333, 0, 2.333333], rtol=1e-6)
  mixed = rewards.mixed_token_rewards(tokens, 7.0, np.ones(5))
  np.testing.assert_allclose(mixed, [0, 2.266667, 1.466667, 0, 3.266667], rtol=1e-6)
  np.testing.assert_allclose(np.sum(mixed), 7, rtol=1e-6)


def test_coalitions_of_text():
  units = ["The ", "cat", " sat", "."]
  assert coalition_text(units, 0) == ""
  assert coalition_text(units, 0b1111) == "The cat sat."
  assert coalition_text(units, np.int64(0b1001)) == "The ."
  assert coalition_text(units, 0b10010) == "cat"
  with pytest.raises(ValueError, match="bits=-1"):
    coalition_text(units, -1)


def test_bad_input_is_named():
  with pytest.raises(AssertionError, match=r"shapley_values: coalition_values has shape \(7,\), expected \(8,\)"):
    rewards.shapley_values(np.zeros(7), 3)
  with pytest.raises(ValueError, match="num_players=-1"):
    rewards.shapley_values(np.zeros(1), -1)
  with pytest.raises(ValueError, match="num_players=3 integers"):
    rewards.owen_values(np.zeros(8), (0, 1), 3)
  with pytest.raises(ValueError, match="integers, not float64"):
    rewards.owen_values(np.zeros(8), (0.5, 1, 2), 3)
  with pytest.raises(AssertionError, match="prefix_values"):
    rewards.shapley_from_permutations(jnp.zeros((2, 3), int), jnp.zeros((2, 3)), jnp.ones(2))
  with pytest.raises(AssertionError, match="vmap"):
    rewards.mixed_token_rewards(np.zeros((2, 3)), 1.0, np.ones((2, 3)))
