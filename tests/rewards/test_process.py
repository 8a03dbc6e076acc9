"""Refined step scores against loops in float64, the paper's worked example, and what a policy gradient sees of them."""

import functools

from hypothesis import given, settings, strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore import advantages, rewards
from rlcore.rewards import process
from tests.tolerance import close

_S = 7
_few = settings(max_examples=25, deadline=None)
_seeds = st.integers(0, 2**31).map(np.random.default_rng)
_modes = pytest.mark.parametrize("mode", process.MODES)


def oracle(scores, mask, success, alpha, mode, eta):
  """The paper's rules on the list of the steps that exist."""
  valid = [i for i in range(len(scores)) if mask[i] > 0]
  values = [float(scores[i]) for i in valid]
  if mode in ("clip", "clip_delta"):
    values = [min(v - eta, 0.0) for v in values]
  if mode in ("delta", "clip_delta"):
    count = len(values)
    values = [0.0 if k == count - 1 else values[k] if k == count - 2 else values[k] - values[k + 1]
              for k in range(count)]
  out = np.zeros(len(scores))
  for k, i in enumerate(valid):
    out[i] = alpha * values[k] + (success if k == len(valid) - 1 else 0.0)
  return out


@functools.partial(jax.jit, static_argnames="mode")
def shaped(scores, mask, success, alpha, eta, mode):
  return rewards.shaped_step_rewards(scores, mask, success, alpha, mode, eta)


def _solution(rng):
  mask = rng.random(_S) < rng.random()
  return np.where(mask, rng.random(_S), np.nan).astype(np.float32), mask


@_modes
@_few
@given(_seeds)
def test_every_mode_is_its_rule(mode, rng):
  scores, mask = _solution(rng)
  success, alpha, eta = rng.integers(0, 2), rng.uniform(0, 2), rng.random()
  want = oracle(scores, mask, success, alpha, mode, eta)
  close(shaped(scores, mask, float(success), alpha, eta, mode), want, 1.0, alpha, rtol=1e-6)


@_modes
@_few
@given(_seeds)
def test_no_return_exceeds_the_bound(mode, rng):
  scores, mask = _solution(rng)
  mask[rng.integers(_S)] = True
  scores = np.nan_to_num(scores)
  top = scores[mask].max()
  total = np.sum(shaped(scores, mask, 1.0, 0.8, 0.5, mode))
  assert total <= rewards.return_upper_bound(1.0, 0.8, mode, 0.5, top, mask.sum()) + 1e-5
  same = np.sum(shaped(np.full(_S, top), mask, 1.0, 0.8, 0.5, mode))
  close(same, rewards.return_upper_bound(1.0, 0.8, mode, 0.5, top, mask.sum()))


@pytest.mark.parametrize("mode, want, total", [
    ("none", [0.9, 0.4, 0.8, 0.8, 1.7], 4.6), ("clip", [0, -0.1, 0, 0, 1], 0.9), ("delta", [0.5, -0.4, 0, 0.8, 1], 1.9),
    ("clip_delta", [0.1, -0.1, 0, 0, 1], 1.0)])
def test_worked_example(mode, want, total):
  got = rewards.shaped_step_rewards(jnp.array([0.9, 0.4, 0.8, 0.8, 0.7]), jnp.ones(5), 1, 1.0, mode)
  np.testing.assert_allclose(got, want, atol=1e-6)
  np.testing.assert_allclose(jnp.sum(got), total, atol=1e-6)


@pytest.mark.parametrize("mode, total", [("none", 9.0), ("clip", 0.0), ("delta", 0.9), ("clip_delta", 0.0)])
def test_repeating_a_harmless_step_pays_only_unrefined(mode, total):
  scores, steps = jnp.append(jnp.full(10, 0.9), jnp.nan), jnp.append(jnp.ones(10), 0)
  got = jnp.sum(rewards.refine_process_rewards(scores, steps, mode))
  np.testing.assert_allclose(got, total, atol=1e-6)


@_few
@given(_seeds)
def test_with_differences_the_return_from_a_step_is_its_own_score(rng):
  scores, mask = _solution(rng)
  valid = np.flatnonzero(mask)
  for mode, own in (("delta", scores), ("clip_delta", np.minimum(scores - 0.5, 0))):
    got = advantages.reward_to_go(shaped(scores, mask, 1.0, 0.7, 0.5, mode), mask)
    assert got.dtype == jnp.float32
    want = np.zeros(_S)
    want[valid] = 1 + 0.7 * own[valid]
    want[valid[-1:]] = 1
    close(got, want, 1.0)


def test_delta_alone_pays_for_not_stopping_and_clipping_first_does_not():
  def gain(mode, score):
    """Reward-to-go of the second step where a third follows, minus where the solution ends there."""
    longer, ends = (rewards.shaped_step_rewards(jnp.full(3, score), mask, 0.0, mode=mode)
                    for mask in (jnp.ones(3), jnp.array([1, 1, 0])))
    return float(advantages.reward_to_go(longer)[1] - advantages.reward_to_go(ends)[1])

  assert gain("delta", 0.9) == pytest.approx(0.9)
  assert gain("clip_delta", 0.9) == 0
  assert gain("clip_delta", 0.1) == pytest.approx(-0.4)


def test_what_is_refused():
  for function in (lambda m: rewards.refine_process_rewards(jnp.ones(3), jnp.ones(3), m),
                   lambda m: rewards.return_upper_bound(1.0, 1.0, m, 0.5, 1.0, 3)):
    with pytest.raises(ValueError, match="mode must be one of none, clip, delta, clip_delta, not 'progress'"):
      function("progress")
  with pytest.raises(AssertionError):
    rewards.delta_rewards(jnp.ones((2, 3)), jnp.ones((2, 3)))
  with pytest.raises(AssertionError):
    rewards.clip_rewards(jnp.ones(3), jnp.ones(4))
  with pytest.raises(AssertionError):
    rewards.shaped_step_rewards(jnp.ones(3), jnp.ones(3), jnp.ones(3))
