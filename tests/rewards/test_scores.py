"""Array functions of rewards against loops in float64, and the numbers of the papers' worked examples."""

import math

from hypothesis import given, settings, strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore import rewards, segments, stats
from rlcore.types import Rewards, Rollouts

_few = settings(max_examples=20, deadline=None)
_G = 6
_KEY = jax.random.key(0)
_seeds = st.integers(0, 2**31).map(np.random.default_rng)
_PAR_STATS = stats.running_stats_update(stats.running_stats_init(), np.array([1.0, 2.0, 4.0]))


@_few
@given(_seeds, st.integers(1, 3))
def test_running_normalisers(rng, distinct):
  seen = rng.choice(rng.normal(2, 3, distinct).astype(np.float32), _G)
  reward = np.float32(rng.normal(2, 4))
  moments = stats.running_stats_update(stats.running_stats_init(), seen)
  xs = [float(x) for x in seen]
  mean, low, high = math.fsum(xs) / _G, min(xs), max(xs)
  std = math.sqrt(math.fsum((x - mean) ** 2 for x in xs) / _G) if high > low else 0.0
  r = float(reward)
  want = [(r - mean) / (std or 1), min(max(r, mean - std), mean + std), (r - low) / (high - low) if high > low else 0.0]
  functions = (rewards.meanstd_reward, rewards.clip_reward, rewards.minmax_reward)
  np.testing.assert_allclose([fn(reward, moments) for fn in functions], want, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("fn, want", [
    (rewards.meanstd_reward, 1.256128), (rewards.clip_reward, 3.580552), (rewards.minmax_reward, 0.966667)])
def test_running_normalisers_give_the_numbers_of_par(fn, want):
  np.testing.assert_allclose(fn(3.9, _PAR_STATS), want, atol=1e-6)


def _relative(reward, length):
  out = []
  for r, n in zip(reward, length):
    term = 0.0
    if max(length) > min(length):
      term = 0.5 - (n - min(length)) / (max(length) - min(length))
      term = term if r > 0 else min(term, 0.0)
    out.append(r + 0.3 * term)
  return out


def _overlong(r, n, longest, cache):
  if n <= longest - cache:
    return r
  return r + ((longest - cache - n) / cache if n <= longest else -1.0)


@_few
@given(_seeds)
def test_what_a_response_pays_for_its_length(rng):
  reward, length = rng.integers(0, 2, _G).astype(np.float32), rng.integers(1, 40, _G).astype(np.float32)
  fixed = [r - 0.02 * max(n - 10, 0) for r, n in zip(reward, length)]
  np.testing.assert_allclose(
      rewards.length_penalized_reward(reward, length, free_length=10, penalty=0.02), fixed, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(
      rewards.relative_length_reward(reward, length, weight=0.3), _relative(reward, length), rtol=1e-5, atol=1e-6)
  soft = [_overlong(r, n, 30, 12) for r, n in zip(reward, length)]
  np.testing.assert_allclose(
      rewards.overlong_reward(reward, length, max_length=30, cache_length=12), soft, rtol=1e-5, atol=1e-6)
  hard = [r - 2 * (n > 20) for r, n in zip(reward, length)]
  np.testing.assert_allclose(
      rewards.overlong_reward(reward, length, max_length=20, cache_length=0, penalty=2.0), hard)


@_few
@given(_seeds, st.integers(1, 5))
def test_sums_and_priorities(rng, count):
  values, weights = rng.normal(size=(count, _G)).astype(np.float32), rng.normal(size=count).astype(np.float32)
  want = [math.fsum(float(w) * float(v) for w, v in zip(weights, column)) for column in values.T]
  np.testing.assert_allclose(rewards.weighted_sum(values, weights), want, rtol=1e-4, atol=1e-5)
  levels, thresholds = rng.random(count).round(1).astype(np.float32), rng.choice([0.0, 0.5, 1.0], count)
  total = 0.0
  for level, threshold, weight in zip(levels, thresholds, weights):
    total += float(weight) * float(level)
    if level < threshold:
      break
  unread = np.where(np.cumsum(levels < thresholds) - (levels < thresholds) > 0, np.nan, levels)
  np.testing.assert_allclose(rewards.lexicographic_reward(unread, thresholds, weights), total, rtol=1e-4, atol=1e-5)


def test_normalising_each_reward_keeps_combinations_apart_that_the_sum_confounds():
  values = np.array([[0, 0, 1, 1, 1, 1], [0, 1, 0, 1, 1, 1]], np.float32)  # an easy and a slightly different reward
  each = rewards.weighted_sum(values, np.ones(2), each=stats.whiten)
  want = sum((v - v.mean()) / v.std() for v in values.astype(np.float64))
  np.testing.assert_allclose(each, want, rtol=1e-5, atol=1e-6)
  values[1] *= 100  # the scale of one reward decides over the sum, not over the normalised parts
  np.testing.assert_allclose(rewards.weighted_sum(values, np.ones(2), each=stats.whiten), each, rtol=1e-4, atol=1e-5)


def test_worked_example_of_fine_grained_rlhf():
  boundary, mask = np.array([0, 1, 0, 0, 1, 0, 0]), np.array([1, 1, 1, 1, 1, 1, 0])
  ends = segments.last_token_of_steps(segments.segment_ids(boundary, mask), mask, 3)
  parts = [np.array([0.3, -0.3, 0.3]), np.array([0.5, -0.5, -0.5]), np.array([0, 0, 0.12])]
  tokens = jnp.stack([segments.step_rewards_to_tokens(part, ends, np.ones(3), 7) for part in parts])
  combined = rewards.weighted_sum(tokens, np.ones(3))
  np.testing.assert_allclose(combined, [0, 0.8, 0, 0, -0.8, -0.08, 0], atol=1e-6)
  logp, ref_logp = np.log([0.5, 0.4, 0.3, 0.6, 0.7, 0.2, 0.9]), np.log([0.5, 0.5, 0.3, 0.5, 0.7, 0.4, 0.1])
  charged = rewards.kl_penalized_rewards(combined, logp, ref_logp, mask, 0.3)
  np.testing.assert_allclose(charged, [0, 0.866943, 0, -0.054696, -0.8, 0.127944, 0], atol=2e-6)


def _group(lengths, outcome, process=None):
  mask = (np.arange(4) < np.asarray(lengths)[:, None]).astype(np.float32)
  batch = Rollouts(mask, mask, 0 * mask - 1, mask[0], mask[0], ref_log_probs=0 * mask - 3)
  return Rewards(jnp.asarray(outcome), process), batch


def test_a_mixture_adds_what_its_sources_make_of_the_same_rewards():
  group, batch = _group([1, 3], [1.0, 4.0])
  sources = [rewards.identity(), rewards.with_running_stats(rewards.minmax_reward), rewards.kl_in_reward(0.5)]
  transform = rewards.mixture(sources, np.array([1.0, 10.0, 2.0]))
  result, state = transform.apply(group, batch, transform.init(_KEY, group))
  np.testing.assert_allclose(result.outcome, [1 + 0 + 2, 4 + 10 + 8])
  np.testing.assert_allclose(result.process, -2 * 0.5 * 2 * batch.mask)
  assert state[1]["count"] == 2
  with pytest.raises(AssertionError):
    rewards.mixture(sources, np.ones(2)).apply(group, batch, state)


def test_each_response_goes_one_of_two_ways():
  group, batch = _group([1, 3, 4], [0.0, 2.0, jnp.nan])
  correct = lambda r, _: r.outcome > 1
  bonus = rewards.chain(rewards.on_outcome(rewards.standardized_reward, scale=5.0), rewards.kl_in_reward(0.5))
  transform = rewards.only_where(correct, bonus)
  result, _ = transform.apply(group, batch, transform.init(_KEY, group))
  np.testing.assert_allclose(result.outcome, [0, 10, np.nan])
  np.testing.assert_allclose(result.process, -batch.mask * np.array([[0], [1], [0]]))
  process = jnp.where(batch.mask > 0, jnp.arange(4.0), jnp.nan)
  result, _ = transform.apply(group.replace(process=process), batch, transform.init(_KEY, group))
  np.testing.assert_allclose(result.process[1], [-1, 0, 1, 0])
  np.testing.assert_allclose(result.process[2], process[2])
  zeroed = rewards.only_where(correct, rewards.identity(), rewards.on_outcome(jnp.zeros_like))
  result, _ = zeroed.apply(group, batch, zeroed.init(_KEY, group))
  np.testing.assert_allclose(result.outcome, [0, 2, 0])
  assert result.process is None
