"""Turn rewards and multi-turn estimators against loops in float64, and the worked example of the multi-turn guide."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore import segments
from rlcore.advantages import groups, temporal
from rlcore.rewards import turns
from rlcore.training.budget import sft_rl_split
from tests.tolerance import close

MASK = np.array([1, 1, 0, 1, 1, 1, 1, 0, 1, 1, 0])
SEEDS = range(12)


def _sparse(final, mask):
  out = np.zeros(len(mask))
  valid = [s for s in range(len(mask)) if mask[s] > 0]
  if valid:
    out[valid[-1]] = final
  return out


def _dense(intermediate, mask, won, max_total):
  kept = [float(x) if m > 0 else 0.0 for x, m in zip(intermediate, mask)]
  divisor = sum(x > 0 for x in kept) if won else max_total
  return np.array(kept) / max(divisor, 1)


def _rloo(rewards, mask):
  returns = [sum(float(r) for r, m in zip(*row) if m > 0) for row in zip(rewards, mask)]
  out = np.zeros(mask.shape)
  for g in range(len(returns)):
    others = returns[:g] + returns[g + 1:]
    out[g] = (returns[g] - (sum(others) / len(others) if others else 0.0)) * (mask[g] > 0)
  return out


def _released(rewards, mask, gamma):
  out, running = np.zeros(len(mask)), 0.0
  for t in reversed(range(len(mask))):
    running = float(rewards[t]) + gamma * running if mask[t] > 0 else 0.0
    out[t] = running
  return out


@pytest.mark.parametrize("seed", SEEDS)
def test_turn_rewards_equal_the_loops(seed):
  rng = np.random.default_rng(seed)
  mask = rng.random(7) < rng.choice([0.0, 0.6, 1.0])
  intermediate = np.where(mask, rng.choice([-0.5, 0, 0, 1, 2.5], 7), np.nan).astype(np.float32)
  final, max_total = np.float32(rng.normal()), np.float32(rng.choice([0.0, 0.5, 3.0, 6.0]))
  close(turns.sparse_turn_rewards(final, mask), _sparse(final, mask), rtol=1e-6)
  for won in (True, False):
    want = _dense(intermediate, mask, won, max_total)
    close(turns.dense_turn_rewards(intermediate, mask, won, max_total), want, rtol=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
def test_estimators_equal_the_loops(seed):
  rng = np.random.default_rng(seed)
  group = rng.choice([1, 2, 5])
  mask = rng.random((group, 9)) < rng.choice([0.3, 0.8])
  rewards = np.where(mask, rng.normal(size=mask.shape), np.nan).astype(np.float32)
  np.testing.assert_allclose(groups.trajectory_rloo(rewards, mask), _rloo(rewards, mask), rtol=1e-5, atol=1e-5)
  for gamma in (1.0, 0.8):
    want = _released(rewards[0], mask[0], gamma)
    np.testing.assert_allclose(temporal.reinforce_pp_returns(rewards[0], mask[0], gamma), want, rtol=1e-5, atol=1e-5)


def test_worked_example():
  intermediate, every = np.array([1, 0, 1, 0]), np.ones(4)
  np.testing.assert_allclose(turns.dense_turn_rewards(intermediate, every, True, max_total=5), [0.5, 0, 0.5, 0])
  np.testing.assert_allclose(turns.dense_turn_rewards(intermediate, every, False, max_total=5), [0.2, 0, 0.2, 0])
  won = turns.dense_turn_rewards(intermediate, every, True, 5)
  tokens = segments.step_rewards_to_tokens(won, np.array([1, 4, 6, 9]), every, 11)
  np.testing.assert_allclose(tokens, 0.5 * np.isin(np.arange(11), [1, 6]))
  np.testing.assert_allclose(temporal.reinforce_pp_returns(tokens, MASK), [.5, .5, 0, .5, .5, .5, .5, 0, 0, 0, 0])
  np.testing.assert_allclose(temporal.reward_to_go(tokens, MASK), [1, 1, 0, .5, .5, .5, .5, 0, 0, 0, 0])
  assert sft_rl_split(1000, 60) == 400


def test_without_holes_the_released_returns_are_the_rewards_to_go():
  rewards = jax.random.normal(jax.random.key(0), (11,))
  close(temporal.reinforce_pp_returns(rewards, jnp.ones(11), 0.9), temporal.reward_to_go(rewards, None, 0.9), rtol=1e-6)


def test_rloo_hears_of_rewards_only_through_their_sum():
  early, late = np.zeros((3, 11)), np.zeros((3, 11))
  early[0, 1], late[0, 9] = 1.0, 1.0
  mask = np.tile(MASK, (3, 1))
  np.testing.assert_array_equal(groups.trajectory_rloo(early, mask), groups.trajectory_rloo(late, mask))
  lost = np.zeros((3, 11))
  lost[0, 2] = 1.0  # on an observation token
  assert not np.any(groups.trajectory_rloo(lost, mask))


def test_the_budget_is_never_overdrawn():
  assert sft_rl_split(12800, 0) == 12800
  assert sft_rl_split(100, 10) == sft_rl_split(100, 11) == 0
  assert sft_rl_split(100, 1, demo_cost=2.5, episode_cost=3) == 32
  with pytest.raises(ValueError, match="episode_cost"):
    sft_rl_split(100, 1, episode_cost=0)


def test_a_forgotten_vmap_is_refused():
  with pytest.raises(AssertionError):
    turns.sparse_turn_rewards(jnp.ones(2), jnp.ones((2, 3)))
  with pytest.raises(AssertionError):
    turns.dense_turn_rewards(jnp.ones((2, 3)), jnp.ones((2, 3)), jnp.ones(2))
  with pytest.raises(AssertionError):
    groups.trajectory_rloo(jnp.ones(3), jnp.ones(3))
  with pytest.raises(AssertionError):
    temporal.reinforce_pp_returns(jnp.ones((2, 3)), jnp.ones((2, 3)))
