"""Implicit process rewards, their loss and their advantage against loops in float64."""

import functools
import math

from hypothesis import given, settings
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore.advantages import steps
from rlcore.losses import reward_models
from rlcore.rewards import implicit

N, S, T = 4, 3, 9
REWARDS = np.array([[0.4, 0.1], [-0.2, np.nan], [0.3, -0.6]], np.float32)
MASK = np.array([[1, 1], [1, 0], [1, 1]], np.float32)
OUTCOME = np.array([1, 0, 0], np.float32)


def loop_scores(rewards, mask, aggregate):
  rows = [[float(r) for r, m in zip(*pair) if m > 0] for pair in zip(rewards, mask)]
  return [sum(row) / (max(len(row), 1) if aggregate == "mean" else 1) for row in rows]


def loop_loss(rewards, mask, outcome, aggregate):
  q, losses = loop_scores(rewards, mask, aggregate), []
  for i in range(len(q)):
    for j in range(len(q)):
      if (mask[i] > 0).any() and (mask[j] > 0).any() and outcome[i] > outcome[j]:
        losses.append(math.log1p(math.exp(-(q[i] - q[j]))))
  return sum(losses) / max(len(losses), 1)


def loop_compared(values, estimator, eps):
  n = len(values)
  if n == 1:
    return list(values)
  if n == 0 or max(values) == min(values):
    return [0.0] * n
  mean = sum(values) / n
  std = (sum((v - mean)**2 for v in values) / (n - 1))**0.5
  return [{"rloo": (v - mean) * n / (n - 1), "grpo": (v - mean) / (std + eps), "mean": v - mean}[estimator]
          for v in values]


def loop_advantage(outcome, rewards, mask, alpha, estimator, eps):
  rows = [i for i in range(len(mask)) if (mask[i] > 0).any()]
  places = [(i, s) for i in rows for s in range(mask.shape[1]) if mask[i, s] > 0]
  episode = dict(zip(rows, loop_compared([float(outcome[i]) for i in rows], estimator, eps)))
  step = dict(zip(places, loop_compared([float(rewards[p]) for p in places], estimator, eps)))
  out = np.zeros(mask.shape)
  for i, s in places:
    out[i, s] = episode[i] + alpha * step[i, s]
  return out


@st.composite
def case(draw):
  """Trajectories with ties as often as not, holes in the masks, and NaN behind them."""
  number = st.sampled_from([0.0, 0.7, -0.5]) if draw(st.booleans()) else st.floats(-4, 4, width=32)
  rewards = np.array(draw(st.lists(number, min_size=N * S, max_size=N * S)), np.float32).reshape(N, S)
  rewards = np.round(rewards, 2)
  mask = np.array(draw(st.lists(st.booleans(), min_size=N * S, max_size=N * S)), np.float32).reshape(N, S)
  outcome = np.array(draw(st.lists(st.sampled_from([0.0, 1.0, 0.7]), min_size=N, max_size=N)), np.float32)
  outcome = np.where(mask.any(1), outcome, np.nan).astype(np.float32)
  return np.where(mask > 0, rewards, np.nan).astype(np.float32), mask, outcome


dpo_loss = jax.jit(reward_models.trajectory_dpo_loss, static_argnames="aggregate")
scores = jax.jit(implicit.trajectory_scores, static_argnames="aggregate")
advantage = jax.jit(steps.oprl_advantage, static_argnames="estimator")


@settings(max_examples=60, deadline=None)
@given(case())
@pytest.mark.parametrize("aggregate", ["sum", "mean"])
def test_scores_and_loss_are_their_definitions(aggregate, case):
  rewards, mask, outcome = case
  np.testing.assert_allclose(scores(rewards, mask, aggregate=aggregate), loop_scores(rewards, mask, aggregate),
                             rtol=1e-5, atol=1e-6)
  want = loop_loss(rewards, mask, outcome, aggregate)
  np.testing.assert_allclose(dpo_loss(rewards, mask, outcome, aggregate=aggregate), want, rtol=1e-5, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(case(), st.floats(0, 2))
@pytest.mark.parametrize("estimator", ["rloo", "grpo", "mean"])
def test_advantage_is_its_definition(estimator, case, alpha):
  rewards, mask, outcome = case
  want = loop_advantage(outcome, rewards, mask, alpha, estimator, 1e-6)
  np.testing.assert_allclose(advantage(outcome, rewards, mask, alpha, estimator=estimator), want, rtol=1e-4, atol=1e-4)


def test_step_rewards_against_a_loop():
  fn = jax.jit(functools.partial(implicit.implicit_step_rewards, num_steps=S))
  rng = np.random.default_rng(0)
  for _ in range(30):
    prm, old = rng.normal(-1, 1, (2, T)).astype(np.float32)
    ids, mask = rng.integers(-2, S + 2, T).astype(np.int32), (rng.random(T) < 0.7).astype(np.float32)
    want = np.zeros(S)
    for t in range(T):
      if mask[t] > 0 and 0 <= ids[t] < S:
        want[ids[t]] += 0.05 * (float(prm[t]) - float(old[t]))
    prm, old = np.where(mask > 0, prm, np.nan), np.where(mask > 0, old, np.inf)
    np.testing.assert_allclose(fn(prm, old, ids, mask), want, rtol=1e-4, atol=1e-6)


def test_worked_example():
  got = implicit.implicit_step_rewards(
      jnp.array([-1, -0.5, -2, -0.2]), jnp.array([-1.5, -0.5, -1, -0.4]), jnp.array([0, 0, 1, 1]), jnp.ones(4), 2)
  np.testing.assert_allclose(got, [0.025, -0.04], atol=1e-7)
  np.testing.assert_allclose(reward_models.trajectory_dpo_loss(REWARDS, MASK, OUTCOME), 0.387143, atol=1e-6)
  np.testing.assert_allclose(reward_models.trajectory_dpo_loss(REWARDS, MASK, OUTCOME, "mean"), 0.503132, atol=1e-6)
  normal = implicit.normalize_step_rewards(REWARDS, MASK)
  np.testing.assert_allclose(normal, [[0.666666, 0.166666], [-0.333333, 0], [0.499999, -0.999998]], atol=1e-6)
  got = steps.oprl_advantage(OUTCOME, REWARDS, MASK)
  np.testing.assert_allclose(got, [[1.5, 1.125], [-0.75, 0], [-0.125, -1.25]], atol=5e-6)
  got = steps.oprl_advantage(OUTCOME, REWARDS, MASK, estimator="grpo")
  np.testing.assert_allclose(got, [[2.139428, 1.400881], [-1.069714, 0], [0.161198, -2.054444]], atol=5e-6)


def test_the_normaliser_spans_the_batch():
  rewards = np.random.default_rng(1).normal(size=(3, N, S)).astype(np.float32)
  mask = np.ones_like(rewards)
  mask[1, 2, 0] = 0
  rewards[1, 2, 0] = 99
  normalize = functools.partial(implicit.normalize_step_rewards, axis_name="groups")
  got = jax.vmap(normalize, axis_name="groups")(rewards, mask)
  want = rewards * mask / np.abs(rewards * mask).max()
  np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_the_loss_teaches_through_the_model_only():
  old, ids, mask = jnp.full((2, 3), -1.0), jnp.arange(3), jnp.array([[1, 1, 1], [1, 0, 1.0]])
  def loss(prm, old):
    rewards = jax.vmap(lambda p, o, m: implicit.implicit_step_rewards(p, o, ids, m, 3, 1.0))(prm, old, mask)
    return reward_models.trajectory_dpo_loss(rewards, mask, jnp.array([1.0, 0.0]))
  to_prm, to_old = jax.grad(loss, (0, 1))(old, old)
  assert not np.any(to_old)
  np.testing.assert_allclose(to_prm, [[-0.5] * 3, [0.5, 0, 0.5]], atol=1e-6)


@pytest.mark.parametrize("call, name", [
    (lambda: implicit.trajectory_scores(REWARDS, MASK, "max"), "max"),
    (lambda: reward_models.trajectory_dpo_loss(REWARDS, MASK, OUTCOME, "max"), "max"),
    (lambda: steps.oprl_advantage(OUTCOME, REWARDS, MASK, estimator="gae"), "gae")])
def test_unknown_settings_are_named(call, name):
  with pytest.raises(ValueError, match=name):
    call()


def test_a_forgotten_vmap_fails():
  for wrong in (lambda: implicit.trajectory_scores(REWARDS[0], MASK[0]),
                lambda: steps.oprl_advantage(OUTCOME[:2], REWARDS, MASK),
                lambda: implicit.normalize_step_rewards(REWARDS[0], MASK[0])):
    with pytest.raises(AssertionError):
      wrong()
