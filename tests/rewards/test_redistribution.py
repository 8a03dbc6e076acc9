"""Redistributed outcomes against loops in float64, the worked example, and what the estimator's loss identifies."""

from hypothesis import given, settings, strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore import losses, rewards, segments

_S = 6


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31).map(np.random.default_rng))
def test_sums_residuals_and_step_rewards(rng):
  mask = rng.random(_S) < 0.6
  contributions = np.where(mask, rng.normal(size=_S), np.nan).astype(np.float32)
  grounded, outcome, alpha, beta = rng.random(_S) < 0.5, np.float32(rng.normal()), rng.random(), rng.random()
  total, steps = 0.0, np.zeros(_S)
  for t in range(_S):
    if mask[t]:
      total += float(contributions[t])
      steps[t] = alpha * float(contributions[t]) + beta * bool(grounded[t])
  close = lambda got, want: np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
  close(rewards.predicted_outcome(contributions, mask), total)
  close(rewards.redistribution_residual(contributions, mask, outcome), outcome - total)
  close(losses.progress_loss(contributions, mask, outcome), (outcome - total) ** 2)
  close(rewards.spa_step_rewards(contributions, grounded, mask, alpha, beta), steps)
  gradient = jax.grad(losses.progress_loss)(contributions, mask, outcome)
  close(gradient, np.where(mask, 2 * (total - outcome), 0))


def test_worked_example():
  contributions, grounded = jnp.array([0.3, -0.1, 0.6, 0.0]), jnp.array([1, 0, 1, 1])
  mask = jnp.array([1, 1, 1, 0])
  np.testing.assert_allclose(rewards.predicted_outcome(contributions, mask), 0.8, atol=1e-6)
  np.testing.assert_allclose(losses.progress_loss(contributions, mask, 1), 0.04, atol=1e-6)
  np.testing.assert_allclose(rewards.redistribution_residual(contributions, mask, 1), 0.2, atol=1e-6)
  steps = rewards.spa_step_rewards(contributions, grounded, mask)
  np.testing.assert_allclose(steps, [0.8, -0.1, 1.1, 0], atol=1e-6)
  ends = segments.last_token_of_steps(jnp.array([0, 0, 1, 1, 2, 2, 2]), jnp.array([1, 1, 0, 1, 1, 1, 0]), 4)
  assert ends.tolist() == [1, 3, 5, -1]
  tokens = segments.step_rewards_to_tokens(steps, ends, mask, 7)
  np.testing.assert_allclose(tokens, [0, 0.8, 0, -0.1, 0, 1.1, 0], atol=1e-6)


def test_trajectories_that_differ_in_one_step_attribute_the_outcome_to_it():
  """A table of contributions, fitted to sums, finds the step that decides; a constant outcome is spread evenly."""
  rng = np.random.default_rng(0)
  kinds = rng.integers(0, 4, (200, 4))
  decided, constant = np.any(kinds == 3, 1).astype(np.float32), np.ones(200, np.float32)
  kinds = np.where(np.cumsum(kinds == 3, 1) > 1, 0, kinds)  # the deciding kind occurs once at most
  mask = jnp.ones(4)

  def fit(outcome):
    loss = lambda table: jnp.mean(jax.vmap(losses.progress_loss, (0, None, 0))(table[kinds], mask, outcome))
    step = lambda table, _: (table - 0.05 * jax.grad(loss)(table), None)
    return jax.lax.scan(step, jnp.zeros(4), None, length=400)[0]

  np.testing.assert_allclose(fit(decided), [0, 0, 0, 1], atol=0.02)
  np.testing.assert_allclose(fit(constant), [0.25] * 4, atol=0.02)


def test_a_forgotten_vmap_fails():
  many = jnp.ones((2, 3))
  for function in (rewards.predicted_outcome, lambda c, m: losses.progress_loss(c, m, 1.0),
                   lambda c, m: rewards.spa_step_rewards(c, m, m)):
    with pytest.raises(AssertionError):
      function(many, many)
  with pytest.raises(AssertionError):
    losses.progress_loss(many[0], many[0], many[0])
