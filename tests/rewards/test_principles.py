"""Rewards of judged steps against loops in float64, and the numbers of the papers' worked examples."""

from hypothesis import given, settings, strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore import rewards

_few = settings(max_examples=25, deadline=None)
_seeds = st.integers(0, 2**31).map(np.random.default_rng)
_MODES = ("renorm", "add", "multiply", "outcome")
_S = 5


def _score_oracle(scores, maxima, applies):
  got = sum(float(s) for s, a in zip(scores, applies) if a > 0)
  possible = sum(float(m) for m, a in zip(maxima, applies) if a > 0)
  return min(max(got / possible, 0.0), 1.0) if possible > 0 else 0.0


@_few
@given(_seeds)
def test_principle_score(rng):
  maxima, applies = rng.integers(-1, 6, _S), rng.integers(0, 2, _S)
  scores = rng.uniform(-2, 6, _S).astype(np.float32)
  got = rewards.principle_score(np.where(applies, scores, np.nan), np.where(applies, maxima, np.inf), applies)
  np.testing.assert_allclose(got, _score_oracle(scores, maxima, applies), rtol=1e-5, atol=1e-6)


def _earned(mode, score, outcome):
  return {"renorm": (score - 0.5) + (outcome - 0.5), "add": score, "multiply": score * outcome, "outcome": 0.0}[mode]


def _steps_oracle(process, outcome, mask, mode, weight):
  steps = [s for s in range(len(mask)) if mask[s] > 0]
  out = [0.0] * len(mask)
  for s in steps[:-1]:
    out[s] = weight * _earned(mode, float(process[s]), outcome)
  if steps:
    out[steps[-1]] = outcome
  return out


@_few
@given(_seeds, st.sampled_from([0.0, 1.0, 0.25]), st.sampled_from([1.0, 0.3]))
@pytest.mark.parametrize("mode", _MODES)
def test_step_rewards(mode, rng, outcome, weight):
  mask = rng.integers(0, 2, _S)
  process = np.where(mask, rng.uniform(size=_S), np.nan).astype(np.float32)
  got = jax.jit(rewards.ppr_step_rewards, static_argnames="mode")(process, outcome, mask, mode=mode,
                                                                  process_weight=weight)
  np.testing.assert_allclose(got, _steps_oracle(process, outcome, mask, mode, weight), rtol=1e-5, atol=1e-6)
  want = [_earned("renorm", float(p), outcome) if m else 0.0 for p, m in zip(process, mask)]
  np.testing.assert_allclose(rewards.renorm(process, outcome, mask), want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("outcome, sign", [(0.0, -1), (1.0, 1)])
def test_renorm_agrees_in_sign_with_the_outcome(outcome, sign):
  process = np.random.default_rng(0).uniform(size=50).astype(np.float32)
  assert np.all(sign * rewards.renorm(process, outcome, np.ones(50)) >= 0)


def test_numbers_of_ppr():
  score = rewards.principle_score(jnp.array([3, 1, 4]), jnp.array([5, 2, 5]), jnp.array([1, 0, 1]))
  np.testing.assert_allclose(score, 0.7, atol=1e-6)
  process = jnp.array([0.7, 0.2, 0.9])
  np.testing.assert_allclose(rewards.ppr_step_rewards(process, 1.0, jnp.ones(3)), [0.7, 0.2, 1.0], atol=1e-6)
  np.testing.assert_allclose(rewards.ppr_step_rewards(process, 0.0, jnp.ones(3)), [-0.3, -0.8, 0.0], atol=1e-6)
  np.testing.assert_allclose(rewards.ppr_step_rewards(process[:1], 1.0, jnp.ones(1)), [1.0])


def test_the_last_step_is_the_last_that_exists():
  process = jnp.array([0.5, jnp.nan, 0.5, jnp.nan])
  got = rewards.ppr_step_rewards(process, 1, jnp.array([1, 0, 1, 0]), mode="multiply", process_weight=0.3)
  np.testing.assert_allclose(got, [0.15, 0, 1, 0], atol=1e-6)


def test_an_unknown_mode_is_named():
  with pytest.raises(ValueError, match="centre"):
    rewards.ppr_step_rewards(jnp.ones(2), 1.0, jnp.ones(2), mode="centre")


def test_numbers_of_slate():
  steps = [(1, 1, 0), (0, 1, 0), (1, 1, 1), (-1, 0, 0), (1, -1, 1)]
  got = [rewards.slate_step_reward(*step, 1) for step in steps]
  np.testing.assert_allclose(got, [2, 1, 2.075, -1, 0.075], atol=1e-6)


@_few
@given(st.integers(-1, 1), st.integers(-1, 1), st.booleans(), st.integers(0, 4), st.sampled_from([4, 5]))
def test_slate_step_reward(think, action, answers, step, budget):
  want = think + action + (0.2 * (budget - step) / budget if answers else 0.0)
  got = jax.jit(rewards.slate_step_reward)(think, action, answers, step, budget, 0.2)
  np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
