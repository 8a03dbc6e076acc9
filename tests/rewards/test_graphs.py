"""Graphs of states against loops in float64, and the worked example of the dense-rewards proposal."""

from hypothesis import given, settings, strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore import losses, rewards
from tests.tolerance import close

_few = settings(max_examples=12, deadline=None)
_seeds = st.integers(0, 2**32 - 1)
_N, _D, _EPS = 4, 2, 0.6
_OBSERVE = jax.jit(rewards.graph_observe)
_TARGETS = jax.jit(rewards.connectivity_targets)
_LOSS = jax.jit(jax.value_and_grad(losses.connectivity_loss))
_A = np.array([[0, 2, 0], [2, 0, 1], [0, 1, 0]], np.float32)


def _walk(features):
  """Features, edges and the node of every step, by lists and a dictionary."""
  nodes, edges, path = [], {}, []
  for feature in features:
    distances = [np.sqrt(np.sum((np.float64(node) - feature)**2)) for node in nodes]
    nearest = int(np.argmin(distances)) if nodes else None
    if nearest is not None and (distances[nearest] <= _EPS or len(nodes) == _N):
      path.append(nearest)
    else:
      nodes.append(feature)
      path.append(len(nodes) - 1)
    if len(path) > 1 and path[-1] != path[-2]:
      for pair in (tuple(path[-2:]), tuple(path[:-3:-1])):
        edges[pair] = edges.get(pair, 0) + 1
  return nodes, edges, path


@_few
@given(_seeds)
def test_a_walk_builds_the_graph(seed):
  features = np.random.default_rng(seed).integers(-2, 3, (15, _D)).astype(np.float32) / 2
  nodes = jnp.full((_N, _D), jnp.nan)
  used, adjacency, previous = jnp.zeros(_N, bool), jnp.full((_N, _N), 77, jnp.int32), jnp.int32(-1)
  path = []
  for feature in features:
    nodes, used, adjacency, previous = _OBSERVE(nodes, used, adjacency, feature, previous, _EPS)
    path.append(int(previous))
  want_nodes, edges, want_path = _walk(features)
  assert path == want_path and used.sum() == len(want_nodes)
  assert used.dtype == bool and adjacency.dtype == jnp.int32 and previous.dtype == jnp.int32
  np.testing.assert_array_equal(nodes[:len(want_nodes)], want_nodes)
  want = np.zeros((_N, _N))
  for pair, count in edges.items():
    want[pair] = count
  size = len(want_nodes)
  np.testing.assert_array_equal(adjacency[:size, :size], want[:size, :size])


def test_ties_free_slots_and_what_is_no_node():
  nodes, used = jnp.array([[1.0, 0], [9, 9], [-1, 0], [9, 9]]), jnp.array([1, 0, 1, 0])
  counts = jnp.zeros((4, 4))
  same = _OBSERVE(nodes, used, counts, jnp.zeros(2), 2, 1.0)
  assert same[3] == 0  # both are 1 away
  np.testing.assert_array_equal(same[0], nodes)
  np.testing.assert_array_equal(same[2][0], [0, 0, 1, 0])
  for previous in (-1, 1, 4, 99, -3):  # 1 is free and becomes the new node itself
    new = _OBSERVE(nodes, used, counts, jnp.zeros(2), previous, 0.5)
    assert new[3] == 1 and new[1].tolist() == [1, 1, 1, 0] and not new[2].any()
  for previous in (3, -1, 4):  # a slot without a node is left by nobody
    assert not _OBSERVE(nodes, used, counts, jnp.zeros(2), previous, 1.0)[2].any()


@_few
@given(_seeds)
def test_targets_and_loss(seed):
  rng = np.random.default_rng(seed)
  counts = np.triu(rng.integers(0, 3, (_N, _N)), 1) * rng.integers(0, 2)
  counts = (counts + counts.T).astype(np.float32)
  used = rng.random(_N) < 0.7
  embeddings = rng.normal(size=(_N, 3)).astype(np.float32)
  counts[~used], counts[:, ~used], embeddings[~used] = np.nan, np.inf, np.nan
  taken = np.flatnonzero(used)
  most = max((counts[u, v] for u in taken for v in taken), default=0)
  want, total = np.zeros((_N, _N)), 0.0
  grad = np.zeros((_N, 3))
  for u in taken:
    for v in taken:
      want[u, v] = 1 if u == v else counts[u, v] / most if most else 0
      error = np.float64(embeddings[u]) @ np.float64(embeddings[v]) - want[u, v]
      total += error**2
      grad[u] += 2 * error * np.float64(embeddings[v])
      grad[v] += 2 * error * np.float64(embeddings[u])
  targets = _TARGETS(counts, used)
  close(targets, want, rtol=1e-6)
  junk = jnp.where(used[:, None] & used, targets, jnp.nan)
  got, slope = _LOSS(jnp.asarray(embeddings), junk, used)
  pairs = max(len(taken)**2, 1)
  np.testing.assert_allclose(got, total / pairs, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(slope, grad / pairs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("seed", range(6))
def test_laplacian_and_spectral_distance(seed):
  rng = np.random.default_rng(seed)
  graphs = []
  for _ in range(2):
    weights = np.triu(rng.random((5, 5)) * (rng.random((5, 5)) < 0.4), 1).astype(np.float32)
    graphs.append(weights + weights.T)
  spectra = []
  for a in graphs:
    want, degrees = np.zeros((5, 5)), a.sum(1, dtype=np.float64)
    for u, v in np.ndindex(5, 5):
      if degrees[u] > 0 and degrees[v] > 0:
        want[u, v] = (u == v) - a[u, v] / np.sqrt(degrees[u] * degrees[v])
    np.testing.assert_allclose(rewards.normalized_laplacian(a), want, atol=1e-6)
    spectra.append(np.linalg.eigvalsh(want)[:3])
  np.testing.assert_allclose(
      rewards.spectral_distance(*graphs, 3), np.linalg.norm(spectra[0] - spectra[1]), atol=2e-6)


def test_worked_example():
  targets = rewards.connectivity_targets(_A, np.ones(3))
  np.testing.assert_allclose(targets, [[1, 1, 0], [1, 1, 0.5], [0, 0.5, 1]])
  loss = losses.connectivity_loss([[1, 0], [0.8, 0.6], [0, 1]], targets, [1, 1, 1])
  np.testing.assert_allclose(loss, 0.011111, atol=1e-6)
  np.testing.assert_allclose(jnp.linalg.eigvalsh(rewards.normalized_laplacian(_A)), [0, 1, 2], atol=1e-6)
  np.testing.assert_allclose(rewards.spectral_distance(_A, 1 - np.eye(3), 3), 0.707107, rtol=1e-5)
  np.testing.assert_allclose(rewards.graph_guided_reward(2.0, [1, 2], [3, 4], 0.1), 3.1, rtol=1e-6)


def test_bad_input_is_named():
  with pytest.raises(ValueError, match="num_eigenvalues=4"):
    rewards.spectral_distance(_A, np.eye(9), 4)
  with pytest.raises(AssertionError, match=r"normalized_laplacian: adjacency has shape \(2, 3\)"):
    rewards.normalized_laplacian(np.zeros((2, 3)))
  with pytest.raises(AssertionError, match="rewards.graph_observe: feature has shape"):
    rewards.graph_observe(np.zeros((3, 2)), np.zeros(3), np.zeros((3, 3)), np.zeros(3), -1, 0.5)
  with pytest.raises(AssertionError, match="rewards.connectivity_targets: adjacency has shape"):
    rewards.connectivity_targets(np.zeros((3, 2)), np.zeros(3))
  with pytest.raises(AssertionError, match="previous has dtype float32, expected integers"):
    rewards.graph_observe(np.zeros((3, 2)), np.zeros(3), np.zeros((3, 3)), np.zeros(2), jnp.float32(1), 0.5)
