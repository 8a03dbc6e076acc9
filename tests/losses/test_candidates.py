"""Objectives of branching rollouts against loops in float64."""

import math

from hypothesis import given, settings, strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore import losses
from tests.tolerance import close

S, K, T = 3, 4, 3


def _draw(seed):
  rng = np.random.default_rng(seed)
  logp = -rng.exponential(size=(S, K, T))
  old = logp + 0.4 * rng.normal(size=logp.shape)
  mask = (rng.random((S, K, T)) < 0.7) & (rng.random((S, K, 1)) < 0.8)
  return tuple(x.astype(np.float32) for x in (logp, old, rng.normal(size=(S, K)), mask, rng.random(S) < 0.7))


def _slate_oracle(logp, old, credit, mask, active, eps, level):
  """Value and gradient, candidate by candidate."""
  total, grad = 0.0, np.zeros(logp.shape)
  steps = [s for s in range(S) if active[s]]
  for s in steps:
    for j in range(K):
      tokens = [t for t in range(T) if mask[s, j, t]]
      a, share = float(credit[s, j]), 1 / (len(steps) * K)
      differences = [float(logp[s, j, t]) - float(old[s, j, t]) for t in tokens]
      units = [[t] for t in tokens] if level == "token" else [tokens] if tokens else []
      for unit in units:
        rho = math.exp(sum(differences[tokens.index(t)] for t in unit) / len(unit))
        total += share * min(rho * a, min(max(rho, 1 - eps), 1 + eps) * a) / len(units)
        if not (a > 0 and rho > 1 + eps or a < 0 and rho < 1 - eps):
          for t in unit:
            grad[s, j, t] += share * a * rho / len(units) / len(unit)
  return total, grad


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31))
@pytest.mark.parametrize("level", ["token", "sequence"])
def test_slate_objective_is_its_definition(level, seed):
  logp, old, credit, mask, active = _draw(seed)
  want, want_grad = _slate_oracle(logp, old, credit, mask, active, 0.1, level)
  hidden = (mask > 0) & (active[:, None, None] > 0)
  dirty = [np.where(hidden, x, np.nan) for x in (logp, old)]
  credit = np.where(hidden.any(-1), credit, np.inf).astype(np.float32)
  value = jax.jit(jax.value_and_grad(losses.slate_objective), static_argnames="ratio_level")
  got, grad = value(*dirty, credit, mask, active, 0.1, ratio_level=level)
  np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)
  np.testing.assert_allclose(grad, want_grad, rtol=1e-4, atol=1e-6)


def test_on_policy_the_value_is_the_mean_advantage():
  logp, _, credit, _, active = _draw(1)
  got = losses.slate_objective(logp, logp, credit, jnp.ones((S, K, T)), active)
  close(got, credit[active > 0].mean(), rtol=1e-5)


def test_an_unknown_level_is_named():
  logp, old, credit, mask, active = _draw(0)
  with pytest.raises(ValueError, match="turn"):
    losses.slate_objective(logp, old, credit, mask, active, ratio_level="turn")


def test_rows_of_candidates_in_the_clip_loss_are_the_same_objective():
  """As long as all candidates of a step have the same tokens; so it is where every step has two."""
  logp, old, credit, _, _ = _draw(2)
  active = jnp.array([1, 1, 0])
  rows = lambda x: jnp.moveaxis(jnp.broadcast_to(x, (S, K, T)), 1, 0).reshape(K, S * T)
  loss, _ = losses.clip_loss(
      rows(logp), rows(old), rows(credit[..., None]), rows(active[:, None, None]), clip_high=None,
      aggregation="sequence")
  want = losses.slate_objective(logp, old, credit, jnp.ones((S, K, T)), active)
  close(-loss, want, rtol=1e-5)
