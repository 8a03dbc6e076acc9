"""Depth-wise credit against a tree of Python objects in float64."""

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore.advantages import depths
from tests.tolerance import close

TREES = ((4, (0, 2), 2), (5, (0, 1, 3), 3), (3, (), 2), (4, (3,), 4), (6, (1, 2), 2))


class Node:
  """A node of a tree that is built by following the steps."""

  def __init__(self, depth):
    self.depth, self.children, self.leaves = depth, [], []

  def grow(self, num_steps, splits, factor, counter):
    if self.depth == num_steps:
      self.leaves = [next(counter)]
      return self
    self.children = [Node(self.depth + 1).grow(num_steps, splits, factor, counter)
                     for _ in range(factor if self.depth in splits else 1)]
    self.leaves = [leaf for child in self.children for leaf in child.leaves]
    return self

  def walk(self):
    yield self
    for child in self.children:
      yield from child.walk()


@st.composite
def trees(draw):
  """A tree with rewards (tied, binary or normal) and edge log-probabilities."""
  num_steps, splits, factor = draw(st.sampled_from(TREES))
  root = Node(0).grow(num_steps, splits, factor, itertools.count())
  rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
  size = len(root.leaves)
  rewards = {"tied": np.full(size, 0.7), "binary": rng.integers(0, 2, size), "normal": rng.normal(size=size)}
  edges = np.zeros((num_steps, size))
  for node in root.walk():
    if node.depth:
      edges[node.depth - 1, node.leaves] = rng.normal() * draw(st.sampled_from((1.0, 30.0)))
  kind = draw(st.sampled_from(sorted(rewards)))
  nodes = depths.tree_nodes_per_depth(num_steps, splits, factor)
  return root, splits, nodes, np.float32(rewards[kind]), np.float32(edges)


_fuse = jax.jit(depths.fuse_rewards, static_argnums=2)
_advantage = jax.jit(depths.depthwise_advantage, static_argnames=("nodes_per_depth", "ddof"))
_width = jax.jit(depths.width_prune_mask, static_argnums=(1, 2, 3, 4))
_depth = jax.jit(depths.depth_prune_mask, static_argnums=(0, 1, 3, 4, 5))


@pytest.mark.parametrize("tree", TREES)
def test_node_counts(tree):
  root = Node(0).grow(*tree, itertools.count())
  counts = [sum(node.depth == d for node in root.walk()) for d in range(tree[0] + 1)]
  assert depths.tree_nodes_per_depth(*tree) == tuple(counts)


def test_the_paper_counts_219_nodes():
  nodes = depths.tree_nodes_per_depth(20, (0, 3, 6, 9))
  assert sum(nodes) == 219 and nodes[-1] == 16 and sum(nodes[:-1]) == 203
  assert [depths.tree_nodes_per_depth(20, (0, 3, 6, 9), k)[-1] for k in (3, 4)] == [81, 256]


@given(trees(), st.sampled_from((0.0, 0.5, 1.0)))
@settings(max_examples=60, deadline=None)
def test_values_equal_a_walk(tree, beta):
  root, _, nodes, rewards, edges = tree
  expected = np.zeros((len(nodes), len(rewards)))
  for node in root.walk():
    scores = np.array([beta * sum(float(edges[d, leaf]) for d in range(node.depth, len(nodes) - 1))
                       for leaf in node.leaves])
    weights = np.exp(scores - max(scores)) / sum(np.exp(scores - max(scores)))
    expected[node.depth, node.leaves] = sum(w * float(rewards[leaf]) for w, leaf in zip(weights, node.leaves))
  got = _fuse(rewards, edges, nodes, beta)
  np.testing.assert_allclose(got, expected, rtol=1e-4, atol=2e-5)
  np.testing.assert_array_equal(got[-1], rewards)


@given(trees(), st.sampled_from((0, 1)))
@settings(max_examples=60, deadline=None)
def test_advantages_equal_a_walk(tree, ddof):
  root, _, nodes, rewards, edges = tree
  values = np.asarray(_fuse(rewards, edges, nodes))
  expected = np.zeros_like(edges, np.float64)
  for depth in range(1, len(nodes)):
    here = [node for node in root.walk() if node.depth == depth]
    own = [float(values[depth, node.leaves[0]]) for node in here]
    mean = sum(own) / len(own)
    std = (sum((v - mean)**2 for v in own) / (len(own) - ddof))**0.5 if len(own) > ddof else 0.0
    for node, value in zip(here, own, strict=True):
      expected[depth - 1, node.leaves] = 0 if std < 1e-6 else min(max((value - mean) / (std + 1e-8), -1.2), 1.2)
  advantage, weight = _advantage(values, nodes, clip=1.2, ddof=ddof)
  np.testing.assert_allclose(advantage, expected, rtol=2e-4, atol=2e-4)
  close(weight.sum(1), nodes[1:], rtol=1e-6)
  if len(set(rewards.tolist())) == 1:
    assert not np.any(np.asarray(advantage))


@given(trees(), st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_width_masks_equal_a_sort(tree, keep):
  root, splits, nodes, rewards, _ = tree
  extreme = np.ones((len(nodes) - 1, len(rewards)))
  top = extreme.copy()
  if splits:
    order = range(len(rewards))
    best = sorted(order, key=lambda leaf: (-rewards[leaf], leaf))[:keep]
    worst = sorted(order, key=lambda leaf: (rewards[leaf], leaf))[:keep]
    parents = [node for node in root.walk() if node.depth == max(splits)]
    tops = [min(node.leaves, key=lambda leaf: (-rewards[leaf], leaf)) for node in parents]
    for depth, leaf in itertools.product(range(max(splits) + 2, len(nodes)), order):
      extreme[depth - 1, leaf] = leaf in best or leaf in worst
      top[depth - 1, leaf] = leaf in tops
  np.testing.assert_array_equal(_width(rewards, nodes, splits, "extreme", keep), extreme)
  np.testing.assert_array_equal(_width(rewards, nodes, splits, "parent_top1", keep), top)


@given(st.integers(0, 400), st.sampled_from(((15, 16, 17, 18), (3, 12), (10,), (19, 20, 21))), st.booleans())
@settings(max_examples=60, deadline=None)
def test_depth_masks_equal_a_loop(step, window, slide):
  shift = min(step // 30, max(0, min(window) - 9)) if slide else 0
  expected = [0.0 if depth + shift in window else 1.0 for depth in range(1, 21)]
  np.testing.assert_array_equal(_depth(20, window, step, 30, 9, slide), expected)


def test_a_window_beyond_the_root_prunes_nothing_else():
  np.testing.assert_array_equal(depths.depth_prune_mask(4, (1, 2), 9, interval=1, stop_depth=-5), np.ones(4))


def test_worked_example():
  nodes = depths.tree_nodes_per_depth(4, (0, 2), 2)
  assert nodes == (1, 2, 2, 4, 4)
  rewards = np.array([1, 0, 0.5, -0.5], np.float32)
  edges = np.zeros((4, 4), np.float32)
  values = _fuse(rewards, edges, nodes)
  np.testing.assert_allclose(values, [[0.25] * 4, [0.5, 0.5, 0, 0], [0.5, 0.5, 0, 0], rewards, rewards], atol=1e-7)
  advantage, weight = _advantage(values, nodes)
  half, leaf = [0.707107, 0.707107, -0.707107, -0.707107], [1.161895, -0.387298, 0.387298, -1.161895]
  np.testing.assert_allclose(advantage, [half, half, leaf, leaf], atol=1e-6)
  np.testing.assert_allclose(weight, np.array([0.5, 0.5, 1, 1])[:, None] * np.ones(4))
  edges[2] = [0.3, -0.2, 0.1, 0.4]
  values = _fuse(rewards, edges, nodes, 1.0)
  np.testing.assert_allclose(values[1], [0.622459, 0.622459, -0.074443, -0.074443], atol=1e-6)
  np.testing.assert_allclose(values[0], 0.242684, atol=1e-6)
  mask = depths.width_prune_mask(rewards, nodes, (0, 2), "parent_top1")
  np.testing.assert_array_equal(mask, [[1] * 4] * 3 + [[1, 0, 1, 0]])


def test_chains_are_grpo():
  rewards = np.random.default_rng(0).normal(size=8).astype(np.float32)
  nodes = (8,) * 4
  advantage, weight = _advantage(_fuse(rewards, np.zeros((3, 8)), nodes), nodes)
  expected = (rewards - rewards.mean()) / (rewards.std(ddof=1) + 1e-8)
  close(advantage, np.tile(expected, (3, 1)), rtol=1e-5)
  assert np.all(weight == 1)


def test_the_pruned_edges_of_the_paper():
  nodes = np.array(depths.tree_nodes_per_depth(20, (0, 3, 6, 9)))
  trained = lambda step: 219 - int(nodes[1:] @ (1 - np.asarray(_depth(20, (15, 16, 17, 18), step, 30, 9, True))))
  assert trained(0) == 155 and trained(10**4) == 163


def test_bad_trees_are_refused():
  rewards, edges = np.zeros(4), np.zeros((2, 4))
  for nodes in ((1, 2, 2), (1, 3, 4), (0, 2, 4)):
    with pytest.raises(ValueError, match="is no tree with 4 leaves"):
      depths.fuse_rewards(rewards, edges, nodes)
  with pytest.raises(ValueError, match=r"\[4\] are not among the steps 0 to 3"):
    depths.tree_nodes_per_depth(4, (0, 4))
  with pytest.raises(ValueError, match="mode='best'"):
    depths.width_prune_mask(rewards, (1, 2, 4), (0, 1), "best")
  with pytest.raises(AssertionError):
    depths.fuse_rewards(rewards, edges[None], (1, 2, 4))
  with pytest.raises(AssertionError):
    depths.depthwise_advantage(jnp.zeros((2, 4)), (1, 2, 4))
