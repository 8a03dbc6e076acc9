"""Streams of blocks and Q-learning on them against loops in float64, and the worked example of PEL."""

from hypothesis import given, settings, strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore import advantages, losses, models
from tests.tolerance import close

_few = settings(max_examples=12, deadline=None)
_seeds = st.integers(0, 2**32 - 1)
_T, _A = 8, 3
_ENDS = jax.jit(advantages.block_lengths_to_ends, static_argnums=1)
_DISCOUNTS = jax.jit(advantages.hierarchical_discount)
_COVERAGE = jax.jit(advantages.action_coverage, static_argnums=1)
_TARGETS, _LOSS = jax.jit(losses.greedy_td_target), jax.jit(jax.value_and_grad(losses.dqn_loss))


@_few
@given(st.lists(st.integers(-1, 6), min_size=4, max_size=4))
def test_ends_of_blocks(lengths):
  want, place = np.zeros(_T, bool), 0
  for length in lengths:
    place += max(length, 0)
    if length > 0 and place <= _T:
      want[place - 1] = True
  want[-1] = True
  np.testing.assert_array_equal(_ENDS(np.array(lengths), _T), want)


@_few
@given(_seeds)
def test_discounts_and_coverage(seed):
  rng = np.random.default_rng(seed)
  done, ends, starts = (rng.random(_T) < 0.4 for _ in range(3))
  want = [0 if ends[t] else 0.9 if done[t] else 0.99 for t in range(_T)]
  close(_DISCOUNTS(done, ends, 0.99, 0.9), want, rtol=1e-6)
  actions, seen, counts = rng.integers(-1, _A + 1, _T), set(), []
  for action, start in zip(actions, starts):
    seen = set() if start else seen
    seen |= {action} & set(range(_A))
    counts.append(len(seen))
  np.testing.assert_array_equal(_COVERAGE(actions, _A, starts), counts)


@_few
@given(_seeds, st.sampled_from([0.0, 0.7]))
def test_targets_and_loss(seed, density):
  rng = np.random.default_rng(seed)
  mask, discounts = rng.random(_T) < density, rng.choice([0, 0.9], _T).astype(np.float32)
  rewards, (q, next_q) = rng.normal(size=_T).astype(np.float32), rng.normal(size=(2, _T, _A)).astype(np.float32)
  actions = np.where(mask, rng.integers(0, _A, _T), rng.choice([-5, 99], _T))
  targets, total, slope = np.zeros(_T), 0.0, np.zeros((_T, _A))
  for t in np.flatnonzero(mask):
    targets[t] = np.float64(rewards[t]) + np.float64(discounts[t]) * max(np.float64(next_q[t]))
    error = np.float64(q[t, actions[t]]) - targets[t]
    total += error**2 / 2
    slope[t, actions[t]] = error / mask.sum()
  next_q[~mask | (discounts == 0)], rewards[~mask], q[~mask], discounts[~mask] = np.nan, np.inf, np.nan, np.nan
  got = _TARGETS(rewards, next_q, discounts, mask)
  np.testing.assert_allclose(got, targets, rtol=1e-5, atol=1e-6)
  loss, grad = _LOSS(q, actions, np.where(mask, got, np.nan), mask)
  np.testing.assert_allclose(loss, total / max(mask.sum(), 1), rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(grad, slope, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("length, window", [(5, 1), (5, 3), (4, 4), (3, 9), (1, 1), (3, 0)])
def test_memory_windows(length, window):
  got = models.memory_window_mask(length, window)
  assert got.dtype == bool
  np.testing.assert_array_equal(got, [[0 <= i - j < window for j in range(length)] for i in range(length)])


def test_worked_example():
  discounts = advantages.hierarchical_discount([1, 1, 1], [0, 0, 1], 0.99, 0.9)
  np.testing.assert_allclose(discounts, [0.9, 0.9, 0], rtol=1e-6)
  targets = losses.greedy_td_target([1, 0, 0.5], [[0.2, 0.4], [0.1, 0.3], [5, 5]], discounts, [1, 1, 1])
  np.testing.assert_allclose(targets, [1.36, 0.27, 0.5], rtol=1e-6)
  loss = losses.dqn_loss([[1, 0], [0, 0.2], [0.5, 0]], [0, 1, 0], targets, [1, 1, 1])
  np.testing.assert_allclose(loss, 0.022417, rtol=1e-4)
  np.testing.assert_array_equal(advantages.action_coverage([0, 1, 1, 0, 2], 3, [1, 0, 0, 1, 0]), [1, 2, 2, 1, 2])
  np.testing.assert_array_equal(advantages.block_lengths_to_ends([2, 5], 5), [0, 1, 0, 0, 1])


def test_an_impossible_action_is_seen():
  for action in (-1, 2):
    assert np.isnan(losses.dqn_loss(np.ones((1, 2)), [action], [0.0], [1]))


def test_bad_input_is_named():
  with pytest.raises(AssertionError, match="advantages.hierarchical_discount: block_end has shape"):
    advantages.hierarchical_discount(np.zeros(3), np.zeros(2), 0.9, 0.5)
  with pytest.raises(AssertionError, match="advantages.action_coverage: actions has dtype float32"):
    advantages.action_coverage(jnp.zeros(3), 3, np.zeros(3))
  with pytest.raises(AssertionError, match="losses.dqn_loss: q has rank 1"):
    losses.dqn_loss(np.zeros(3), np.zeros(3, int), np.zeros(3), np.ones(3))
  with pytest.raises(AssertionError, match="losses.greedy_td_target: next_q has shape|greedy_td_target: next_q"):
    losses.greedy_td_target(np.zeros(3), np.zeros((2, 2)), np.zeros(3), np.ones(3))
