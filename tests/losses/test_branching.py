"""Losses of branching rollouts and of flow matching against loops in float64."""

from hypothesis import given, settings
from hypothesis import strategies as st
import jax
import numpy as np
import pytest

from rlcore import losses
from tests.tolerance import close

NODES = (1, 2, 2, 4)

_value_and_grad = jax.jit(jax.value_and_grad(losses.branch_grpo_loss))


def _draw(seed, prune):
  """One number for each edge, and the same laid out by leaf with the weights of the edges."""
  rng = np.random.default_rng(seed)
  edges = [[(rng.normal(), rng.normal() * 0.2, rng.normal(), float(rng.random() > prune)) for _ in range(n)]
           for n in NODES[1:]]
  entry = lambda i: np.array([np.repeat([edge[i] for edge in row], 4 // len(row)) for row in edges], np.float32)
  weight = np.array([[n / 4] * 4 for n in NODES[1:]], np.float32)
  return edges, entry(0), entry(0) - entry(1), entry(2), weight, entry(3)


@given(st.integers(0, 2**32 - 1), st.sampled_from((0.0, 0.4, 1.0)))
@settings(max_examples=80, deadline=None)
def test_every_edge_counts_once(seed, prune):
  edges, logp, logp_old, adv, weight, keep = _draw(seed, prune)
  total, count, grad = 0.0, 0, np.zeros(logp.shape)
  for depth, row in enumerate(edges):
    for i, (_, log_ratio, advantage, kept) in enumerate(row):
      if not kept:
        continue
      ratio = np.exp(float(log_ratio))
      plain, clipped = -advantage * ratio, -advantage * min(max(ratio, 0.9), 1.1)
      total, count = total + max(plain, clipped), count + 1
      block = slice(i * 4 // len(row), (i + 1) * 4 // len(row))
      grad[depth, block] = (plain if plain >= clipped else 0) * len(row) / 4
  loss, got = _value_and_grad(logp, logp_old, adv, weight, keep, 0.1)
  np.testing.assert_allclose(loss, total / max(count, 1), rtol=1e-4, atol=1e-6)
  np.testing.assert_allclose(got, grad / max(count, 1), rtol=1e-3, atol=1e-5)


def test_a_depth_mask_broadcasts_and_none_keeps_all():
  _, logp, logp_old, adv, weight, _ = _draw(0, 0)
  mask = np.array([1, 0, 1], np.float32)
  loss = lambda keep: _value_and_grad(logp, logp_old, adv, weight, keep, 0.1)[0]
  assert loss(mask[:, None]) == loss(np.repeat(mask[:, None], 4, 1))
  assert loss(None) == loss(np.ones_like(logp)) != loss(mask[:, None])


def test_pruned_entries_may_be_junk():
  _, logp, logp_old, adv, weight, keep = _draw(1, 0.5)
  dirty = [np.where(keep > 0, x, np.nan) for x in (logp, logp_old, adv)]
  clean, clean_grad = _value_and_grad(logp, logp_old, adv, weight, keep, 0.1)
  loss, grad = _value_and_grad(*dirty, weight, keep, 0.1)
  assert loss == clean
  np.testing.assert_array_equal(grad, clean_grad)
  assert not np.any(grad[keep == 0])


def test_the_default_clip_is_a_thousandth():
  logp, adv, one = np.full((1, 1), 0.01), np.ones((1, 1)), np.ones((1, 1))
  assert losses.branch_grpo_loss(logp, 0 * logp, adv, one) == pytest.approx(-1.001)
  assert losses.branch_grpo_loss(logp, 0 * logp, -adv, one) == pytest.approx(np.exp(0.01))


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_flow_matching_equals_a_loop(seed):
  rng = np.random.default_rng(seed)
  velocity, data, noise = rng.normal(size=(3, 5, 2, 3)).astype(np.float32)
  mask = (rng.random(5) < 0.6).astype(np.float32)
  squares = [(float(v) - (float(n) - float(d)))**2 for i in range(5) if mask[i]
             for v, d, n in zip(velocity[i].flat, data[i].flat, noise[i].flat)]
  close(losses.flow_matching_loss(velocity, data, noise, mask), sum(squares) / max(len(squares), 1), *squares)
  np.testing.assert_allclose(losses.flow_matching_loss(noise - data, data, noise), 0, atol=1e-12)
