"""Rewards for messages, and the losses of their models, against loops in float64; ONI's worked example."""

from hypothesis import given, settings, strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore import exploration, losses, stats
from tests.tolerance import close

_T, _M = 8, 5
_few = settings(max_examples=25, deadline=None)
_seeds = st.integers(0, 2**31).map(np.random.default_rng)


@_few
@given(_seeds)
def test_retrieval(rng):
  labels, mask = rng.integers(-1, 2, _M), rng.random(_T) < 0.7
  ids = np.where(mask, rng.integers(0, _M, _T), rng.choice([-1, 10**9], _T))
  want = [float(labels[i] == 1) if keep else 0.0 for i, keep in zip(ids, mask)]
  np.testing.assert_array_equal(exploration.retrieval_reward(labels, ids, mask), want)


@_few
@given(_seeds)
def test_classification(rng):
  logits, mask = rng.normal(size=(_T, 2)).astype(np.float32), rng.random(_T) < 0.7
  threshold = rng.choice([0, 0.3, 0.5, 0.9, 1])
  powers = np.exp(logits.astype(np.float64))
  want = (powers[:, 1] / powers.sum(1) > threshold) & mask
  got = exploration.classification_reward(np.where(mask[:, None], logits, np.nan), mask, threshold)
  np.testing.assert_array_equal(got, want)


@_few
@given(_seeds)
def test_ranking(rng):
  scores, mask = rng.normal(1, 2, _T).astype(np.float32), rng.random(_T) < 0.7
  mean, var, eps = rng.normal(), rng.choice([0, 2.5]), rng.choice([0, 0.1])
  threshold = rng.choice([-0.5, 0, 0.5])
  if var + eps > 0:
    z = (scores.astype(np.float64) - mean) / np.sqrt(var + eps)
    want = np.where(mask & (z > threshold), z, 0)
  else:
    want = np.zeros(_T)
  got = exploration.ranking_reward(np.where(mask, scores, np.nan), mean, var, threshold, mask, eps)
  np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


@_few
@given(_seeds)
def test_reward_of_the_agent(rng):
  extrinsic, intrinsic = rng.normal(size=(2, _T)).astype(np.float32)
  counts, exponent, clip = rng.integers(1, 9, _T), rng.choice([0, 0.5, 3, -1]), rng.choice([-1, 0, 0.5])
  want = 0.1 * extrinsic.astype(np.float64) - 0.4 * intrinsic * counts ** -float(exponent)
  want = np.clip(want, -clip, clip) if clip > 0 else want
  got = exploration.oni_reward(extrinsic, intrinsic, counts, 0.1, -0.4, exponent, clip)
  np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)


def test_a_count_of_zero_pays_nothing_and_a_reward_that_is_nan_stays_so():
  got = exploration.oni_reward([1, 1, np.nan], [np.nan, 1, 1], [0, 1, 1], 1.0, 1.0, 3.0, 0)
  np.testing.assert_array_equal(got, [1, 2, np.nan])


@_few
@given(_seeds)
def test_newest_first(rng):
  arrival, pending, size = rng.integers(-3, 4, _T), rng.random(_T) < 0.6, rng.integers(0, _T + 2)
  queue = sorted((slot for slot in range(_T) if pending[slot]), key=lambda slot: (arrival[slot], slot), reverse=True)
  want = np.zeros(_T, bool)
  want[queue[:size]] = True
  got = exploration.newest_first_batch(np.where(pending, arrival, 10**9), pending, size)
  np.testing.assert_array_equal(got, want)
  floats = np.where(pending, arrival.astype(np.float32), np.nan)
  np.testing.assert_array_equal(exploration.newest_first_batch(floats, pending, size), want)


@_few
@given(_seeds)
def test_weighted_cross_entropy(rng):
  logits = (rng.normal(size=(_T, 3)) * 10 ** rng.uniform(-1, 2)).astype(np.float32)
  weights = rng.random(_T) * (rng.random(_T) < 0.6)
  labels = np.where(weights > 0, rng.integers(0, 3, _T), 99)
  exact = logits.astype(np.float64)
  top = exact.max(1)
  surprise = [np.log(np.exp(x - m).sum()) + m - x[k] if w else 0 for x, m, k, w in zip(exact, top, labels, weights)]
  want = weights @ surprise / weights.sum() if weights.any() else 0
  got = losses.classification_loss(np.where(weights[:, None] > 0, logits, np.nan), labels, weights)
  np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_a_label_that_is_no_class_is_told():
  logits = np.zeros((2, 2))
  assert np.isnan(losses.classification_loss(logits, [1, -1], [1, 1]))
  assert np.isnan(losses.classification_loss(logits, [2, 1], [1, 1]))
  close(losses.classification_loss(logits, [2, 1], [-1, 1]), np.log(2), rtol=1e-6)


@_few
@given(_seeds)
def test_ranking_loss_is_bradley_terry(rng):
  first, second = (rng.normal(size=2) * 10 ** rng.uniform(-1, 2)).astype(np.float32)
  lead = float(first) - float(second)
  for label, target in ((0, 0.0), (1, 1.0), (2, 0.5), (7, 0.5), (-1, 0.5)):
    want = (1 - target) * np.logaddexp(0, -lead) + target * np.logaddexp(0, lead)
    np.testing.assert_allclose(losses.ranking_loss(first, second, label), want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("label, slope", [(0, -1.0), (1, 0.0), (2, -0.5)])
def test_ranking_loss_is_stable_far_out(label, slope):
  value, gradient = jax.value_and_grad(losses.ranking_loss)(-500.0, 500.0, label)
  np.testing.assert_allclose(value, {0: 1000.0, 1: 0.0, 2: 500.0}[label])
  np.testing.assert_allclose(gradient, slope, atol=1e-6)


def test_worked_example():
  ids = [0, 1, 1, 2, 1]
  paid = exploration.retrieval_reward([0, 1, -1], ids, np.ones(5))
  counts = exploration.episodic_message_count(ids, [1, 0, 0, 0, 0])
  np.testing.assert_array_equal(paid, [0, 1, 1, 0, 1])
  got = exploration.oni_reward([0, 0, 0, 0, 2], paid, counts, 0.1, 0.4, 3, 10)
  np.testing.assert_allclose(got, [0, 0.4, 0.05, 0, 0.214815], rtol=1e-5)
  scores = jnp.arange(1.0, 5.0)
  mean, var, count = stats.running_moments_update(0, 1, 1e-4, scores, np.ones(4))
  np.testing.assert_allclose((mean, var, count), (2.499938, 1.666806, 4.0001), rtol=1e-6)
  np.testing.assert_allclose(
      exploration.ranking_reward(scores, mean, var, 0.5, np.ones(4)), [0, 0, 0, 1.161895], rtol=1e-5)
  for label, want in ((0, 0.474077), (1, 0.974077), (2, 0.724077)):
    close(losses.ranking_loss(1, 0.5, label), want, rtol=1e-5)
  np.testing.assert_array_equal(exploration.newest_first_batch([3, 5, 5, 1], [1] * 4, 2), [0, 1, 1, 0])
  np.testing.assert_allclose(losses.classification_loss([[0, 1], [2, 0]], [1, 1], [1, 3]), 1.673511, rtol=1e-6)


@pytest.mark.parametrize("call, match", [
    (lambda: exploration.retrieval_reward([1], [0.5], [1]), "ids has dtype"),
    (lambda: exploration.retrieval_reward([1], [0, 0], [1]), "exploration.retrieval_reward: mask has shape"),
    (lambda: exploration.classification_reward(np.ones((2, 3)), np.ones(2)), "logits has shape"),
    (lambda: exploration.classification_reward(np.ones((2, 2)), np.ones(3)), "mask has shape"),
    (lambda: exploration.ranking_reward([1, 2], 0, 1, 0, [1]), "mask has shape"),
    (lambda: exploration.ranking_reward([1, 2], [0, 0], 1, 0, [1, 1]), "mean has rank 1"),
    (lambda: exploration.oni_reward([1, 2], [1, 2], [1]), "counts has shape"),
    (lambda: exploration.newest_first_batch([1, 2], [1], 1), "pending has shape"),
    (lambda: losses.classification_loss(np.ones((2, 2)), [0.5, 1], [1, 1]), "labels has dtype"),
    (lambda: losses.classification_loss(np.ones((2, 2)), [0, 1, 1], [1, 1, 1]), "labels has shape"),
    (lambda: losses.classification_loss(np.ones((2, 2)), [0, 1], [1]), "weights has shape"),
    (lambda: losses.ranking_loss([1], [1], [1]), "jax.vmap"),
])
def test_bad_input(call, match):
  with pytest.raises(AssertionError, match=match):
    call()
