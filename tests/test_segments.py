"""`rlcore.segments` against loops over tokens, on random input, and the papers' worked examples."""

from hypothesis import given, settings, strategies as st
import jax
import jax.numpy as jnp
import numpy as np

from rlcore import segments

_few = settings(max_examples=20, deadline=None)
_T, _S = 9, 4
_bits = st.lists(st.booleans(), min_size=_T, max_size=_T).map(lambda bits: np.array(bits, np.float32))
_ids = st.lists(st.integers(-2, _S + 1), min_size=_T, max_size=_T).map(lambda ids: np.array(ids, np.int32))
_values = st.integers(0, 2**31).map(lambda seed: np.random.default_rng(seed).normal(size=_T).astype(np.float32))


@_few
@given(_bits, _bits)
def test_ids_and_ends(boundary, mask):
  by_end, by_start, ends, current, opened = [], [], [], 0, -1
  counted = [t for t in range(_T) if mask[t]]
  for t in range(_T):
    opened += int(boundary[t] and mask[t])
    by_end.append(current if mask[t] else -1)
    by_start.append(opened if mask[t] else -1)
    ends.append(float(bool(mask[t]) and (bool(boundary[t]) or t == counted[-1])))
    current += int(boundary[t] and mask[t])
  np.testing.assert_array_equal(segments.segment_ids(boundary, mask), by_end)
  np.testing.assert_array_equal(segments.segment_ids(boundary, mask, starts=True), by_start)
  np.testing.assert_array_equal(segments.segment_end_mask(boundary, mask), ends)


@_few
@given(_ids, _bits, _values)
def test_between_tokens_and_steps(step_id, mask, values):
  last, sums = [-1] * _S, [0.0] * _S
  spread = [0.0] * _T
  for t, step in enumerate(step_id):
    if mask[t] and 0 <= step < _S:
      last[step], spread[t] = t, float(values[step])
      sums[step] += float(values[t])
  np.testing.assert_array_equal(segments.last_token_of_steps(step_id, mask, _S), last)
  np.testing.assert_allclose(segments.step_sums(values, step_id, mask, _S), sums, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(segments.steps_to_tokens(values[:_S], step_id, mask), spread)


@_few
@given(st.lists(st.integers(-3, _T + 2), min_size=_S, max_size=_S), _bits, _values)
def test_rewards_on_the_ends_of_steps(ends, mask, rewards):
  want = [0.0] * _T
  for s, end in enumerate(ends):
    if mask[s] and 0 <= end < _T:
      want[end] += float(rewards[s])
  got = segments.step_rewards_to_tokens(rewards[:_S], np.array(ends), mask[:_S], _T)
  np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_worked_example_of_spa():
  step_id, mask = np.array([0, 0, 1, 1, 2, 2, 2]), np.array([1, 1, 0, 1, 1, 1, 0])
  ends = segments.last_token_of_steps(step_id, mask, 4)
  np.testing.assert_array_equal(ends, [1, 3, 5, -1])
  tokens = segments.step_rewards_to_tokens(np.array([0.8, -0.1, 1.1, 9.0]), ends, np.array([1, 1, 1, 0]), 7)
  np.testing.assert_allclose(tokens, [0, 0.8, 0, -0.1, 0, 1.1, 0], atol=1e-7)


def test_worked_examples_of_the_multi_turn_guide_and_oprl():
  tokens = segments.step_rewards_to_tokens(np.array([0.5, 0, 0.5, 0]), np.array([1, 4, 6, 9]), np.ones(4), 11)
  np.testing.assert_allclose(tokens, 0.5 * (np.eye(11)[1] + np.eye(11)[6]))
  ratio = 0.05 * (np.array([-1, -0.5, -2, -0.2]) - np.array([-1.5, -0.5, -1, -0.4]))
  np.testing.assert_allclose(
      segments.step_sums(ratio, np.array([0, 0, 1, 1]), np.ones(4), 2), [0.025, -0.04], atol=1e-7)


def test_gradient_of_a_step_sum_reaches_only_its_counted_tokens():
  step_id, mask = jnp.array([0, 1, 1, -1, 7]), jnp.array([1, 1, 0, 1, 1])
  weigh = lambda values: segments.step_sums(values, step_id, mask, 2) @ jnp.array([2.0, 3.0])
  np.testing.assert_array_equal(jax.grad(weigh)(jnp.full(5, jnp.nan).at[:2].set(1)), [2, 3, 0, 0, 0])


def test_the_last_counted_token_is_the_one_that_none_follows():
  for mask in np.random.default_rng(5).random((30, 9)) < np.linspace(0, 1, 30)[:, None]:
    want = [bool(mask[t]) and not any(mask[t + 1:]) for t in range(9)]
    np.testing.assert_array_equal(segments.is_last_counted(mask), want)
