"""The group-relative family against loops in float64."""

import functools
import statistics

from hypothesis import given, settings
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore import types
from rlcore.advantages import groups, trees
from tests.tolerance import close

CENTERS = ("mean", "leave_one_out", "median", "none")
SCALES = ("std", "mad", "mean_abs", "none")
SIZES = (1, 2, 5, 8)


def oracle(rewards, mask, center, scale, ddof, eps):
  """Every member by itself, from the definitions."""
  rewards = [float(r) for r in rewards]
  members = [i for i in range(len(rewards)) if mask[i] > 0]
  values = [rewards[i] for i in members]
  out = [0.0] * len(rewards)
  for i in members:
    others = [rewards[j] for j in members if j != i]
    if len(set(values)) == 1 or scale == "std" and len(values) <= ddof:
      out[i] = rewards[i] if center == "none" else 0.0
      continue
    base = {
        "mean": lambda: statistics.fmean(values), "leave_one_out": lambda: statistics.fmean(others),
        "median": lambda: statistics.median(values), "none": lambda: 0.0}[center]()
    distances = [abs(v - statistics.median(values)) for v in values]
    if scale == "std":
      mean = statistics.fmean(values)
      divisor = (sum((v - mean)**2 for v in values) / (len(values) - ddof))**0.5 + eps
    elif scale == "none":
      divisor = 1.0
    else:
      divisor = statistics.median(distances) if scale == "mad" else 0.0
      divisor = (divisor or statistics.fmean(distances)) + eps
    out[i] = (rewards[i] - base) / divisor
  return np.array(out)


@st.composite
def group(draw):
  """Rewards with ties as often as not, members that do not exist, and NaN in their places."""
  size = draw(st.sampled_from(SIZES))
  reward = st.sampled_from([0.0, 1.0, 0.7, -2.5]) if draw(st.booleans()) else st.floats(-100, 100, width=32)
  rewards = np.array(draw(st.lists(reward, min_size=size, max_size=size)), np.float32)
  rewards[np.abs(rewards) < 1e-3] = 0
  mask = np.array(draw(st.lists(st.booleans(), min_size=size, max_size=size)), np.float32)
  return np.where(mask > 0, rewards, np.nan).astype(np.float32), mask


@functools.partial(jax.jit, static_argnames=("center", "scale"))
def advantage(rewards, mask, ddof, center, scale):
  return groups.group_advantage(rewards, mask, center=center, scale=scale, ddof=ddof, eps=1e-3)


@settings(max_examples=60, deadline=None)
@given(group(), st.sampled_from([0, 1, 2]))
@pytest.mark.parametrize("center", CENTERS)
@pytest.mark.parametrize("scale", SCALES)
def test_every_setting_is_its_definition(center, scale, case, ddof):
  rewards, mask = case
  want = oracle(rewards, mask, center, scale, ddof, 1e-3)
  np.testing.assert_allclose(advantage(rewards, mask, ddof, center, scale), want, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("offset", [0.0, 1e4, -3e6])
def test_a_common_offset_does_not_blur_the_comparison(offset):
  rewards = jnp.array([0.0, 1.0, 4.0, 1.0], jnp.float32) + offset
  want = oracle([0, 1, 4, 1], np.ones(4), "mean", "std", 1, 1e-6)
  close(groups.group_advantage(rewards), want, rtol=1e-5)


@pytest.mark.parametrize("value", [0.7, 0.1, 1 / 3, 1e-30, 3e7])
@pytest.mark.parametrize("size", [3, 7, 11])
@pytest.mark.parametrize("center, scale", [("mean", "std"), ("leave_one_out", "none"), ("median", "mad")])
def test_tied_rewards_give_exactly_zero(value, size, center, scale):
  rewards = jnp.full(size, value, jnp.float32)
  assert not np.any(groups.group_advantage(rewards, center=center, scale=scale, eps=0.0))


def test_worked_examples():
  slate = groups.group_advantage(jnp.array([2, 1, 2.075, -1, 0.075]))
  np.testing.assert_allclose(slate, [0.892976, 0.129749, 0.950218, -1.396706, -0.576237], atol=2e-6)
  tp_grpo = groups.group_advantage(jnp.array([1, 1, 0, 1]))
  np.testing.assert_allclose(tp_grpo, [0.499999, 0.499999, -1.499997, 0.499999], atol=2e-6)
  rloo = groups.group_advantage(jnp.array([1.0, 0.0, 0.0]), center="leave_one_out", scale="none")
  np.testing.assert_allclose(rloo, [1, -0.5, -0.5], atol=1e-6)
  assert not np.any(groups.group_advantage(jnp.array([1.0, 2.0]), ddof=2))


def test_reinforce_pp_takes_its_statistics_from_the_batch():
  rewards = np.random.default_rng(0).normal(size=(3, 2, 4)).astype(np.float32)
  batch = functools.partial(groups.group_advantage, axis_name=("a", "b"))
  got = jax.vmap(jax.vmap(batch, axis_name="b"), axis_name="a")(rewards)
  flat = rewards.astype(np.float64)
  np.testing.assert_allclose(got, (flat - flat.mean()) / (flat.std(ddof=1) + 1e-6), rtol=1e-5, atol=1e-6)

  def with_baseline(rewards):
    return batch(groups.group_advantage(rewards, scale="none"))

  flat = flat - flat.mean(-1, keepdims=True)
  got = jax.vmap(jax.vmap(with_baseline, axis_name="b"), axis_name="a")(rewards)
  np.testing.assert_allclose(got, (flat - flat.mean()) / (flat.std(ddof=1) + 1e-6), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("settings", [dict(center="average"), dict(scale="var")])
def test_unknown_settings_are_named(settings):
  with pytest.raises(ValueError, match=next(iter(settings.values()))):
    groups.group_advantage(jnp.ones(3), **settings)


def test_a_forgotten_vmap_fails():
  with pytest.raises(AssertionError):
    groups.group_advantage(jnp.ones((2, 3)))
  with pytest.raises(AssertionError):
    groups.broadcast_to_tokens(jnp.ones(2), jnp.ones((3, 4)))


@pytest.mark.parametrize("rewards, tol, want", [
    ([1, 1, 1], 0.0, True), ([1, 0, 1], 0.0, False), ([0.5, 0.6], 0.2, True), ([0.5, 0.6], 0.05, False),
    ([4], 0.0, True)])
def test_degenerate_groups(rewards, tol, want):
  assert bool(groups.degenerate_group(jnp.array(rewards, jnp.float32), tol=tol)) is want


def test_the_estimator_sums_token_rewards_onto_the_outcome():
  rng = np.random.default_rng(1)
  outcome, process = rng.normal(size=4).astype(np.float32), rng.normal(size=(4, 5)).astype(np.float32)
  mask = (rng.random((4, 5)) < 0.6).astype(np.float32)
  batch = types.Rollouts(mask, mask, log_probs=mask, prompt=np.zeros(1), prompt_mask=np.zeros(1))
  for rewards, total in (
      (types.Rewards(outcome), outcome), (types.Rewards(outcome, process), outcome + (process * mask).sum(1))):
    want = oracle(total, np.ones(4), "leave_one_out", "none", 1, 0)[:, None] * mask
    got = groups.group_relative(rewards, batch, center="leave_one_out", scale="none")
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("estimator", [
    groups.group_advantage,
    lambda rewards: trees.tempo_advantage(np.arange(4)[:, None], rewards, np.ones((4, 1)), td_coef=0.0)[:, 0]])
def test_rewards_of_any_size_have_the_same_advantages(estimator):
  rewards = np.float32([0, 1, 1, 3])
  want = (rewards - 1.25) / rewards.std(ddof=1)
  for size in (1e3, 1e20, 1e37):
    np.testing.assert_allclose(estimator(np.float32(size) * rewards), want, rtol=1e-5)
