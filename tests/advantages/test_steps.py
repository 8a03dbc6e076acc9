"""The choice among candidates for a step against a loop in float64."""

import math

from hypothesis import given, settings
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore.advantages import groups, steps


def oracle(advantages, temperature, mask):
  members = [i for i in range(len(advantages)) if mask[i] > 0]
  out = [0.0] * len(advantages)
  if not members:
    return out
  best = max(float(advantages[i]) for i in members)
  if temperature <= 0:
    out[next(i for i in members if advantages[i] == best)] = 1.0
    return out
  weights = {i: math.exp((float(advantages[i]) - best) / temperature) for i in members}
  for i in members:
    out[i] = weights[i] / sum(weights.values())
  return out


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(-5, 5, width=32, allow_subnormal=False), st.booleans()), min_size=5, max_size=5))
@pytest.mark.parametrize("temperature", [0.7, 1e-3, 10.0, 0.0, -1.0])
def test_against_the_loop(temperature, candidates):
  mask = np.array([m for _, m in candidates], np.float32)
  advantages = np.array([a if m else np.nan for a, m in candidates], np.float32)
  got = steps.reward_weighted_probs(advantages, temperature, mask)
  np.testing.assert_allclose(got, oracle(advantages, temperature, mask), rtol=1e-5, atol=1e-6)


def test_worked_example():
  advantages = groups.group_advantage(jnp.array([2, 1, 2.075, -1, 0.075]))
  want = [0.387314, 0.130179, 0.420318, 0.014706, 0.047482]
  np.testing.assert_allclose(steps.reward_weighted_probs(advantages), want, atol=2e-6)


def test_masked_candidates_are_never_drawn():
  probs = steps.reward_weighted_probs(jnp.array([0.0, jnp.nan, 1.0]), 0.7, jnp.array([1, 0, 1]))
  drawn = jax.random.categorical(jax.random.key(0), jnp.log(probs), shape=(2000,))
  share = np.bincount(drawn, minlength=3) / 2000
  assert share[1] == 0
  np.testing.assert_allclose(share, probs, atol=0.04)


def test_a_forgotten_vmap_fails():
  with pytest.raises(AssertionError):
    steps.reward_weighted_probs(jnp.ones((2, 3)))
