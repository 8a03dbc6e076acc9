"""Losses, segments and switches of latent codes against loops in float64, and Internal RL's worked example."""

from hypothesis import given, settings, strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore import advantages, losses, segments
from tests.tolerance import close

_few = settings(max_examples=12, deadline=None)
_seeds = st.integers(0, 2**32 - 1)
_T, _Z = 7, 2
_KL = jax.jit(losses.gaussian_kl)
_DISCOVER = {gate: jax.jit(lambda *x, gate=gate: losses.discovery_loss(*x, kl_coef=0.3, gate_kl=gate))
             for gate in (False, True)}
_CHOOSE = jax.jit(jax.value_and_grad(losses.internal_policy_loss))
_SEGMENTS = jax.jit(advantages.segment_rewards)
_F1 = jax.jit(segments.switch_f1, static_argnums=3)


def _kl(mean, log_var, prior_mean=0.0, prior_log_var=0.0):
  mean, log_var, prior_mean, prior_log_var = np.broadcast_arrays(
      *(np.float64(x) for x in (mean, log_var, prior_mean, prior_log_var)))
  return sum((np.exp(v - w) + (m - p)**2 / np.exp(w) - 1 - v + w) / 2
             for m, v, p, w in zip(mean, log_var, prior_mean, prior_log_var))


@_few
@given(_seeds, st.sampled_from([1e-3, 1.0]))
def test_gaussian_kl(seed, scale):
  mean, log_var, prior_mean, prior_log_var = np.random.default_rng(seed).normal(size=(4, 3)).astype(np.float32)
  np.testing.assert_allclose(_KL(scale * mean, scale * log_var), _kl(scale * mean, scale * log_var), rtol=1e-4,
                             atol=1e-8)  # a small one is the difference of large numbers
  close(_KL(mean, log_var, prior_mean, prior_log_var), _kl(mean, log_var, prior_mean, prior_log_var), rtol=1e-4)


@_few
@given(_seeds, st.sampled_from([0.0, 0.6]))
def test_discovery(seed, density):
  rng = np.random.default_rng(seed)
  mask = rng.random(_T) < density
  log_probs, gate = -rng.exponential(size=_T).astype(np.float32), rng.random(_T).astype(np.float32)
  gates = rng.random((_T, _Z)).astype(np.float32)
  mean, log_var = rng.normal(size=(2, _T, _Z)).astype(np.float32)
  junk = lambda x: np.where(mask if x.ndim == 1 else mask[:, None], x, np.nan)
  for gated, beta, factor in ((False, gate, np.ones(_T)), (True, gate, gate), (True, gates, gates.mean(1))):
    terms = [0.3 * factor[t] * _kl(mean[t], log_var[t]) - np.float64(log_probs[t]) for t in range(_T) if mask[t]]
    got = _DISCOVER[gated](*map(junk, (log_probs, mean, log_var, beta)), mask)
    close(got, np.mean(terms) if terms else 0, *terms)


def _choice_loss(new, old, adv, chosen, clip):
  terms = []
  for n, o, a, c in zip(new, old, adv, chosen):
    if c:
      ratio = np.exp(np.float64(n) - np.float64(o))
      terms.append(-min(ratio * a, min(max(ratio, 1 - clip), 1 + clip) * a))
  return np.mean(terms) if terms else 0.0


@_few
@given(_seeds, st.sampled_from([0.0, 0.7]))
def test_choosing_codes(seed, density):
  rng = np.random.default_rng(seed)
  mask, switch = rng.random(_T) < density, rng.random(_T) < 0.7
  chosen = mask & switch
  new, old, adv = (np.where(chosen, x, np.nan).astype(np.float32) for x in 0.4 * rng.normal(size=(3, _T)))
  value, slope = _CHOOSE(new, old, adv, np.where(mask, switch, np.nan), mask, 0.2)
  np.testing.assert_allclose(value, _choice_loss(new, old, adv, chosen, 0.2), rtol=1e-5, atol=1e-6)
  for t in range(_T):
    step = 1e-6 * np.eye(_T)[t]
    up, down = (_choice_loss(new + s * step, old, adv, chosen, 0.2) for s in (1, -1))
    np.testing.assert_allclose(slope[t], (up - down) / 2e-6, atol=1e-4)


@_few
@given(_seeds, st.sampled_from([0.0, 0.5, 0.9]))
def test_rewards_of_segments(seed, density):
  rng = np.random.default_rng(seed)
  mask, switch = rng.random(_T) < density, rng.random(_T) < 0.4
  rewards = np.where(mask, rng.normal(size=_T), np.nan).astype(np.float32)
  want = np.zeros(_T)
  for s in range(_T):
    if mask[s] and switch[s]:
      for j in range(s, _T):
        if not mask[j] or j > s and switch[j]:
          break
        want[s] += 0.8**(j - s) * np.float64(rewards[j])
  np.testing.assert_allclose(_SEGMENTS(rewards, switch, mask, 0.8), want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("tolerance", [0, 1, 3, 99])
@_few
@given(_seeds)
def test_f1_of_switches(tolerance, seed):
  rng = np.random.default_rng(seed)
  mask, switch, boundary = (rng.random(_T) < p for p in (0.8, rng.random(), rng.random()))
  switches, boundaries = (np.flatnonzero(x & mask) for x in (switch, boundary))
  hit = lambda places, others: [any(abs(p - o) <= tolerance for o in others) for p in places]
  precision = np.mean(hit(switches, boundaries)) if len(switches) else 0
  recall = np.mean(hit(boundaries, switches)) if len(boundaries) else 0
  want = 2 * precision * recall / (precision + recall) if precision + recall else 0
  close(_F1(switch, boundary, mask, tolerance), want, rtol=1e-6)


def test_worked_example():
  np.testing.assert_allclose(losses.gaussian_kl([0.5, -0.2], [0, -1]), 0.32894, rtol=1e-5)
  switch, mask = [1, 0, 1], [1, 1, 1]
  np.testing.assert_array_equal(segments.segment_ids(switch, mask, starts=True), [0, 0, 1])
  np.testing.assert_allclose(advantages.segment_rewards([0, 1, 2], switch, mask, 0.9), [0.9, 0, 2], rtol=1e-6)
  loss = losses.internal_policy_loss([-1, -2, -1.5], [-1.4, -2, -1.4], [1, 1, -1], switch, mask, 0.2)
  np.testing.assert_allclose(loss, -0.147581, rtol=1e-5)
  loss = losses.discovery_loss(np.log([0.5, 0.25, 0.8]), [[0.5], [0], [1]], np.zeros((3, 1)), [1, 1, 1], [1, 1, 0], 0.1)
  np.testing.assert_allclose(loss, 1.045971, rtol=1e-6)


def test_every_step_a_switch_is_the_ordinary_loss():
  new, old, adv = jnp.asarray(np.random.default_rng(0).normal(size=(3, _T)), jnp.float32)
  want, _ = losses.clip_loss(new[None], old[None], adv[None], jnp.ones((1, _T)), clip_high=None)
  assert losses.internal_policy_loss(new, old, adv, jnp.ones(_T), jnp.ones(_T)) == want


def test_bad_input_is_named():
  with pytest.raises(AssertionError, match="losses.gaussian_kl: prior_mean has shape"):
    losses.gaussian_kl(np.zeros(3), np.zeros(3), np.zeros(2))
  with pytest.raises(AssertionError, match="losses.discovery_loss: beta has shape"):
    losses.discovery_loss(np.zeros(3), np.zeros((3, 2)), np.zeros((3, 2)), np.zeros((3, 1)), np.ones(3))
  with pytest.raises(AssertionError, match="losses.internal_policy_loss: switch has shape"):
    losses.internal_policy_loss(*[np.zeros(3)] * 3, np.zeros(2), np.zeros(3))
  with pytest.raises(AssertionError, match="segments.switch_f1: boundary has shape"):
    segments.switch_f1(np.zeros(3), np.zeros(2), np.zeros(3))
  with pytest.raises(AssertionError, match="advantages.segment_rewards: rewards has rank 2"):
    advantages.segment_rewards(np.zeros((2, 3)), np.zeros((2, 3)), np.zeros((2, 3)))
