"""A counted NaN comes out as NaN: no estimator and no statistic turns it into 0."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from rlcore import advantages, losses, rewards, stats, tabular
from rlcore.types import Rewards, Rollouts

NAN = np.float32(np.nan)
GROUP = np.array([0.5, NAN, 2.0, 2.0], np.float32)
TOKENS = np.array([[1, 2, 3], [1, 2, 4], [1, 5, 3], [6, 2, 3]], np.int32)
ONES = np.ones((4, 3), np.float32)


def _all_nan(x):
  return bool(np.isnan(np.asarray(x)).all())


@pytest.mark.parametrize("center, scale", itertools.product(
    ("mean", "leave_one_out", "median", "none"), ("std", "mad", "mean_abs", "none")))
def test_a_group(center, scale):
  settings = dict(center=center, scale=scale)
  assert _all_nan(advantages.group_advantage(GROUP, **settings))
  assert _all_nan(advantages.group_advantage(GROUP[1:2], **settings))  # alone, where there is no spread
  masked = advantages.group_advantage(GROUP, np.array([1, 0, 1, 1]), **settings)
  assert np.isfinite(masked).all() and masked[1] == 0


def test_estimators_of_tokens_and_trees():
  batch = Rollouts(*map(jnp.asarray, (TOKENS, ONES, ONES, np.zeros(2), np.zeros(2))))
  for estimator in (advantages.group_relative, advantages.tempo):
    assert _all_nan(estimator(Rewards(jnp.asarray(GROUP)), batch))
  assert _all_nan(advantages.trajectory_rloo(np.where(TOKENS == 5, NAN, ONES), ONES))
  for estimator in ("rloo", "grpo", "mean"):
    assert _all_nan(advantages.oprl_advantage(GROUP, ONES, ONES, estimator=estimator))
  nodes = np.array([[1, 1], [2, NAN]], np.float32)
  assert _all_nan(advantages.depthwise_advantage(nodes, (1, 2))[0])
  assert _all_nan(advantages.depthwise_advantage(np.full((2, 1), NAN), (1, 1))[0])  # a depth of one node
  for estimator in (advantages.thought_advantage, advantages.step_level_advantage):
    assert _all_nan(estimator(ONES, ONES, GROUP))
  assert _all_nan(advantages.reward_weighted_probs(GROUP, 0.0)) and _all_nan(advantages.reward_weighted_probs(GROUP))


def test_statistics():
  assert _all_nan(stats.masked_std(GROUP)) and _all_nan(stats.masked_std(GROUP[1:2], ddof=1))
  assert _all_nan(stats.whiten(GROUP)) and _all_nan(stats.centred(GROUP)) and _all_nan(stats.average_ranks(GROUP))
  other = np.arange(4, dtype=np.float32)
  assert _all_nan(stats.pearson_correlation(GROUP, other)) and _all_nan(stats.spearman_correlation(GROUP, other))
  running = stats.running_stats_update(stats.running_stats_init(), GROUP)
  assert _all_nan(stats.running_std(running))
  for normalise in (rewards.meanstd_reward, rewards.minmax_reward, rewards.clip_reward):
    assert _all_nan(normalise(other, running))
  counted = np.array([1, 0, 1, 1])
  assert np.isfinite(stats.average_ranks(GROUP, counted)).all()
  assert np.isfinite(stats.pearson_correlation(GROUP, other, counted))


def test_what_reads_outcomes():
  assert _all_nan(rewards.capability_reward(GROUP))
  assert _all_nan(losses.trajectory_dpo_loss(ONES, ONES, GROUP))
  assert np.isfinite(losses.trajectory_dpo_loss(ONES, ONES * [[1], [0], [1], [1]], GROUP))  # does not exist
  policy, stay = np.full((2, 1), 1.0, np.float32), np.array([[[0.0, 1.0]], [[0.0, 1.0]]], np.float32)
  assert _all_nan(tabular.discounted_occupancy(stay * NAN, policy, np.array([1.0, 0.0]), 0.9, np.zeros(2)))
