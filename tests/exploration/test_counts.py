"""Counts of keys against dictionaries, on random streams; the worked examples of both papers."""

import collections

from hypothesis import given, settings, strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore import exploration
from tests.tolerance import close

_T, _K = 12, 4
_few = settings(max_examples=30, deadline=None)
_seeds = st.integers(0, 2**31).map(np.random.default_rng)
count = jax.jit(exploration.episodic_count)
stream = jax.jit(exploration.episodic_message_count)
table = jax.jit(exploration.global_count)


def _steps(rng):
  mask = rng.random(_T) < rng.random()
  keys = rng.integers(0, _K, _T)
  return np.where(mask, keys, rng.choice([-1, 10**9], _T)).astype(np.int32), mask


@_few
@given(_seeds)
def test_an_episode_is_a_dictionary(rng):
  keys, mask = _steps(rng)
  seen, want = collections.Counter(), []
  for key, keep in zip(keys, mask):
    seen[key] += int(keep)
    want.append(seen[key] if keep else 0)
  np.testing.assert_array_equal(count(keys, mask), want)


@_few
@given(_seeds)
def test_a_stream_is_a_dictionary_that_resets_clear(rng):
  ids, is_first = rng.integers(0, _K, _T).astype(np.int32), (rng.random(_T) < 0.3).astype(np.float32)
  seen, want = collections.Counter(), []
  for key, first in zip(ids, is_first):
    if first:
      seen.clear()
    seen[key] += 1
    want.append(seen[key])
  np.testing.assert_array_equal(stream(ids, is_first), want)


@_few
@given(_seeds)
def test_training_is_one_table(rng):
  """Batch after batch, in the order of time; a key without a place counts for nobody."""
  counts, seen = jnp.asarray(rng.integers(0, 5, _K), jnp.int32), {}
  seen = dict(enumerate(np.asarray(counts).tolist()))
  for _ in range(3):
    keys, mask = _steps(rng)
    if rng.random() < 0.5:
      mask[:] = True
    want = []
    for key, keep in zip(keys.tolist(), mask):
      if keep and key in seen:
        seen[key] += 1
      want.append(seen[key] if keep and key in seen else 0)
    got, counts = table(counts, keys, mask)
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(counts, [seen[k] for k in range(_K)])


def test_places_share_the_table_and_lag_by_one_batch():
  counts, keys = jnp.array([5, 0]), jnp.array([[0, 0], [0, 1]])
  shared = jax.vmap(
      lambda counts, keys: exploration.global_count(counts, keys, axis_name="d"), (None, 0), axis_name="d")
  at_t, new = shared(counts, keys)
  np.testing.assert_array_equal(at_t, [[6, 7], [6, 1]])
  np.testing.assert_array_equal(new, [[8, 1], [8, 1]])


@pytest.mark.parametrize("dtype, at_t", [(jnp.int32, jnp.int32), (jnp.float32, jnp.float32), (jnp.uint8, jnp.int32),
                                         (jnp.bfloat16, jnp.float32)])
def test_the_table_keeps_its_dtype(dtype, at_t):
  got, new = exploration.global_count(jnp.array([0, 2, 0], dtype), [1, 1, 0], [1, 1, 0])
  assert new.dtype == dtype and got.dtype == at_t
  np.testing.assert_array_equal(got, [3, 4, 0])
  np.testing.assert_array_equal(new.astype(jnp.float32), [0, 4, 0])


def test_worked_examples():
  counts = exploration.episodic_count([3, 3, 1, 3], [1, 1, 1, 1])
  np.testing.assert_array_equal(counts, [1, 2, 1, 3])
  np.testing.assert_allclose(exploration.count_bonus(counts, np.ones(4)), [1, 0.707107, 1, 0.57735], rtol=1e-5)
  np.testing.assert_array_equal(exploration.count_bonus(counts, np.ones(4), "indicator"), [1, 0, 1, 0])
  np.testing.assert_array_equal(exploration.episodic_message_count([0, 1, 1, 2, 1], [1, 0, 0, 0, 0]), [1, 1, 2, 1, 3])


@_few
@given(_seeds)
def test_bonus_of_counts(rng):
  counts, mask = rng.integers(0, 9, _T), rng.random(_T) < 0.7
  want = [c**-0.5 if keep and c else 0.0 for c, keep in zip(counts.tolist(), mask)]
  close(exploration.count_bonus(counts, mask), want, rtol=1e-6)


@pytest.mark.parametrize("call, error, match", [
    (lambda: exploration.count_bonus([1], [1], "root"), ValueError, "isqrt, indicator"),
    (lambda: exploration.count_bonus([1, 2], [1]), AssertionError, "exploration.count_bonus: mask has shape"),
    (lambda: exploration.episodic_count([0.5], [1]), AssertionError, "keys has dtype float32, expected integers"),
    (lambda: exploration.episodic_count([[1]], [[1]]), AssertionError, "jax.vmap"),
    (lambda: exploration.episodic_message_count([1, 2], [1]), AssertionError, "is_first has shape"),
    (lambda: exploration.global_count([[0]], [0], [1]), AssertionError, "counts has rank 2"),
])
def test_bad_input(call, error, match):
  with pytest.raises(error, match=match):
    call()
