"""Thoughts and their rewards against loops over the steps, and the two propositions that make them local."""

import functools

from hypothesis import given, settings
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore.advantages import steps
from rlcore.rewards import thoughts

G, S = 4, 5
FLAGS = np.array([[1, 0, 0, 1, 1], [1, 1, 0, 0, 1], [1, 0, 1, 1, np.nan], [0, 0, 1, 0, 1]], np.float32)
MASK = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 1, 1, 0], [1, 1, 1, 1, 1]], np.float32)
CORRECT = np.array([1, 1, 0, 1], np.float32)

thought_advantage = jax.jit(steps.thought_advantage)
step_level_advantage = jax.jit(steps.step_level_advantage)
merge = jax.jit(thoughts.merge_thoughts)
rewards_of = jax.jit(thoughts.thought_rewards)


def loop_thoughts(flags, mask):
  """Lists of steps, one a thought, with the thought's label; the flag of the answer is 1."""
  steps_, runs = [s for s in range(len(mask)) if mask[s] > 0], []
  for s in steps_:
    label = flags[s] > 0 or s == steps_[-1]
    if runs and runs[-1][0] == label:
      runs[-1][1].append(s)
    else:
      runs.append((label, [s]))
  return runs


def loop_outcome(correct, eps, ddof):
  values = [1.0 if c > 0 else 0.0 for c in correct]
  mean = sum(values) / len(values)
  if len(set(values)) == 1 or len(values) <= ddof:
    return [0.0] * len(values), mean
  std = (sum((v - mean)**2 for v in values) / (len(values) - ddof))**0.5
  return [(v - mean) / (std + eps) for v in values], mean


def loop_rewards(flags, mask, correct, r_out, r_c):
  out = [0.0] * len(mask)
  for label, members in loop_thoughts(flags, mask)[:-1]:
    size = r_c if correct else r_out
    out[members[-1]] = size if label else -size
  return out


def loop_thought_advantage(flags, mask, correct, alpha, eps, ddof):
  """The outcome, plus the rewards of a step's own thought and of the later ones, thought by thought."""
  ro, accuracy = loop_outcome(correct, eps, ddof)
  out = np.zeros(mask.shape)
  for i in range(len(mask)):
    runs = loop_thoughts(flags[i], mask[i])
    size = alpha * accuracy if correct[i] > 0 else ro[i]
    for k, (_, members) in enumerate(runs):
      later = sum(size if label else -size for label, _ in runs[k:-1])
      out[i, members] = ro[i] + later
  return out


def loop_step_level(flags, mask, correct, r_step, eps, ddof):
  ro, _ = loop_outcome(correct, eps, ddof)
  out = np.zeros(mask.shape)
  for i in range(len(mask)):
    members = [s for s in range(mask.shape[1]) if mask[i, s] > 0]
    for k, s in enumerate(members):
      total = ro[i]
      for later in members[k:-1]:
        good = flags[i, later] > 0
        total += (r_step if good else -r_step) if correct[i] > 0 else (-r_step if good else 0)
      out[i, s] = total
  return out


@st.composite
def group(draw):
  bits = lambda *shape: np.array(draw(st.lists(st.booleans(), min_size=int(np.prod(shape)), max_size=int(
      np.prod(shape))))).reshape(shape).astype(np.float32)
  mask = bits(G, S)
  return np.where(mask > 0, bits(G, S), np.nan).astype(np.float32), mask, bits(G)


@settings(max_examples=80, deadline=None)
@given(group(), st.floats(0.1, 3))
def test_thought_advantage_is_its_definition(case, alpha):
  flags, mask, correct = case
  want = loop_thought_advantage(flags, mask, correct, alpha, 1e-6, 1)
  np.testing.assert_allclose(thought_advantage(flags, mask, correct, alpha), want, rtol=1e-5, atol=1e-5)
  want = loop_step_level(flags, mask, correct, alpha, 1e-6, 1)
  np.testing.assert_allclose(step_level_advantage(flags, mask, correct, alpha), want, rtol=1e-5, atol=1e-5)


@settings(max_examples=80, deadline=None)
@given(group(), st.floats(-2, 0), st.floats(0.1, 2))
def test_thoughts_and_their_rewards_are_loops(case, r_out, r_c):
  flags, mask, correct = (x[0] for x in case)
  want = np.full(S, -1)
  for k, (_, members) in enumerate(loop_thoughts(flags, mask)):
    want[members] = k
  np.testing.assert_array_equal(merge(flags, mask), want)
  got = rewards_of(flags, mask, correct, r_out, r_c)
  np.testing.assert_allclose(got, loop_rewards(flags, mask, correct > 0, r_out, r_c), rtol=1e-6, atol=1e-30)


@settings(max_examples=80, deadline=None)
@given(group())
def test_sums_over_later_thoughts_telescope_to_the_local_rule(case):
  flags, mask, correct = case
  ro, accuracy = loop_outcome(correct, 1e-6, 1)
  local = np.asarray(thought_advantage(flags, mask, correct))
  for i in range(G):
    issued = np.asarray(rewards_of(flags[i], mask[i], correct[i], ro[i], accuracy), np.float64)
    ids = np.asarray(merge(flags[i], mask[i]))
    good = np.asarray(thoughts.good_steps(flags[i], mask[i]))
    for s in np.flatnonzero(mask[i]):
      summed = ro[i] + issued[(ids >= ids[s])].sum()
      np.testing.assert_allclose(local[i, s], summed, atol=1e-5)
      if correct[i] > 0:  # proposition 1
        np.testing.assert_allclose(local[i, s], ro[i] if good[s] else ro[i] - accuracy, atol=1e-5)
      else:  # proposition 2
        np.testing.assert_allclose(local[i, s], ro[i] if good[s] else 0, atol=1e-5)


@pytest.mark.parametrize("ddof", [0, 1, 4])
def test_degrees_of_freedom(ddof):
  want = loop_thought_advantage(FLAGS, MASK, CORRECT, 2.0, 1e-3, ddof)
  np.testing.assert_allclose(steps.thought_advantage(FLAGS, MASK, CORRECT, 2.0, 1e-3, ddof), want, atol=1e-5)
  want = loop_step_level(FLAGS, MASK, CORRECT, 2.0, 1e-3, ddof)
  np.testing.assert_allclose(steps.step_level_advantage(FLAGS, MASK, CORRECT, 2.0, 1e-3, ddof), want, atol=1e-5)


def test_worked_example():
  a, b, c = 0.499999, -0.250001, -1.499997
  np.testing.assert_allclose(thoughts.capability_reward(jnp.array(CORRECT)), 0.75)
  np.testing.assert_array_equal(thoughts.merge_thoughts(FLAGS[0], MASK[0]), [0, 1, 1, 2, 2])
  got = steps.thought_advantage(FLAGS, MASK, CORRECT)
  np.testing.assert_allclose(got, [[a, b, b, a, a], [a, a, b, b, a], [c, 0, c, c, 0], [b, b, a, b, a]], atol=2e-6)
  got = steps.step_level_advantage(FLAGS, MASK, CORRECT)
  np.testing.assert_allclose(got[0], [0.499999, -0.500001, 0.499999, 1.499999, 0.499999], atol=2e-6)
  np.testing.assert_allclose(got[2], [-3.499997, -2.499997, -2.499997, -1.499997, 0], atol=2e-6)


def test_a_response_without_steps_still_counts_in_its_group():
  mask = MASK.copy()
  mask[1] = 0
  flags = np.where(mask > 0, FLAGS, np.nan)
  got = steps.thought_advantage(flags, mask, CORRECT)
  assert not np.any(got[1])
  np.testing.assert_allclose(got[0], steps.thought_advantage(FLAGS, MASK, CORRECT)[0])


def test_all_flags_one_is_grpo():
  got = steps.thought_advantage(np.ones_like(FLAGS), MASK, CORRECT)
  want = np.array(loop_outcome(CORRECT, 1e-6, 1)[0])[:, None] * MASK
  np.testing.assert_allclose(got, want, atol=1e-6)


def test_reflections_against_a_loop():
  labels = jax.jit(functools.partial(thoughts.labels_from_reflections, num_steps=8))
  rng = np.random.default_rng(0)
  for _ in range(50):
    start, end = rng.integers(-3, 11, (2, 4)).astype(np.int32)
    valid = (rng.random(4) < 0.7).astype(np.float32)
    want = np.ones(8)
    for r in range(4):
      for s in range(max(start[r], 0), min(end[r], 8)):
        want[s] = 0 if valid[r] > 0 else want[s]
    np.testing.assert_array_equal(labels(start, end, valid), want)


def test_a_forgotten_vmap_fails():
  for wrong in (lambda: thoughts.merge_thoughts(FLAGS, MASK),
                lambda: steps.thought_advantage(FLAGS[0], MASK[0], CORRECT),
                lambda: steps.step_level_advantage(FLAGS, MASK, CORRECT[:2])):
    with pytest.raises(AssertionError):
      wrong()
