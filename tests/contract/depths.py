"""Contract rows of `rlcore.advantages.depths`, `rlcore.losses.branching` and `rlcore.losses.matching`."""

import functools

import numpy as np

from rlcore.advantages import depths
from rlcore.losses import branching, matching
from tests.contract import Row

NODES = (1, 2, 2, 4, 12)
SPLITS = (0, 2, 3)
N, L = len(NODES) - 1, NODES[-1]


def _f32(x):
  return np.asarray(x, np.float32)


def _tree(rng):
  """Leaf rewards, and edge log-probabilities that agree in all leaves below an edge."""
  edges = np.stack([np.repeat(rng.normal(size=n), L // n) for n in NODES[1:]])
  return _f32(rng.normal(size=L)), _f32(edges)


def _values(rng):
  return (np.stack([np.repeat(_f32(rng.normal(size=n)), L // n) for n in NODES]),)


def _entries(rng):
  logp = rng.normal(size=(N, L))
  weight = np.repeat(_f32(NODES[1:])[:, None] / L, L, 1)
  keep = (rng.random((N, L)) < 0.7).astype(np.float32)
  return _f32(logp), _f32(logp + 0.3 * rng.normal(size=(N, L))), _f32(rng.normal(size=(N, L))), weight, keep


def _pairs(rng):
  draw = lambda: _f32(rng.normal(size=(6, 3)))
  return draw(), draw(), draw(), _f32([1, 0, 1, 1, 0, 1])


_zeros = lambda out: not any(np.any(x) for x in out[:1])
_ones = lambda out: np.all(np.asarray(out) == 1)
_NAN = np.full((2, 3), np.nan, np.float32)
_ZERO = np.zeros((2, 3), np.float32)
_TIED = np.full((N + 1, L), 0.7, np.float32)
_fuse = functools.partial(depths.fuse_rewards, nodes_per_depth=NODES)
_width = functools.partial(depths.width_prune_mask, nodes_per_depth=NODES, split_steps=SPLITS[:2])
_advantage = functools.partial(depths.depthwise_advantage, nodes_per_depth=NODES)

ROWS = [
    Row("tree_nodes_per_depth", lambda like: like + np.asarray(depths.tree_nodes_per_depth(4, (0, 2))),
        lambda rng: (np.int32(0),), degenerate=(((np.int32(0),), ([1, 2, 2, 4, 4],)),)),
    Row("fuse_rewards", _fuse, _tree, stopped=(0, 1), low_precision=(0, 1), degenerate=(
        ((np.full(L, 0.7, np.float32), np.full((N, L), -np.inf, np.float32)), (_TIED,)),)),
    Row("fuse_rewards[path]", lambda rewards, edges, beta: _fuse(rewards, edges, beta=beta),
        lambda rng: (*_tree(rng), np.float32(1)), stopped=(0, 1, 2), low_precision=(0, 1), degenerate=(
            ((np.full(L, 0.7, np.float32), np.full((N, L), -np.inf, np.float32), np.float32(1)), (_TIED,)),)),
    Row("depthwise_advantage", _advantage, _values, stopped=(0,), low_precision=(0,), degenerate=(
        ((_TIED,), _zeros), ((_TIED + 1e-6 * (np.arange(L) < 6),), _zeros))),
    Row("depthwise_advantage[one node]", functools.partial(depths.depthwise_advantage, nodes_per_depth=(1, 1, 1)),
        lambda rng: (_f32(rng.normal(size=(3, 1))),), degenerate=((([[1], [2], [3]],), _zeros),)),
    Row("depthwise_advantage[no floor]", functools.partial(_advantage, eps=0.0, std_floor=0.0, ddof=0), _values,
        stopped=(0,), degenerate=(((_TIED,), _zeros),)),
    Row("depth_prune_mask", lambda step: depths.depth_prune_mask(20, (15, 16, 17, 18), step),
        lambda rng: (np.int32(75),), degenerate=(
            ((np.int32(10**6),), (1 - np.isin(np.arange(1, 21), (9, 10, 11, 12)),)),)),
    Row("depth_prune_mask[no window]", lambda step: depths.depth_prune_mask(4, (), step), lambda rng: (np.int32(3),),
        degenerate=(((np.int32(0),), _ones),)),
    Row("width_prune_mask", functools.partial(_width, mode="parent_top1"), lambda rng: _tree(rng)[:1], stopped=(0,),
        low_precision=(0,), degenerate=(((np.full(L, 0.7, np.float32),),
                                         (np.stack([np.ones(L)] * 3 + [np.arange(L) % 6 == 0]),)),)),
    Row("width_prune_mask[extreme]", functools.partial(_width, mode="extreme", keep=2), lambda rng: _tree(rng)[:1],
        stopped=(0,), degenerate=(((np.full(L, 0.7, np.float32),),
                                   (np.stack([np.ones(L)] * 3 + [np.arange(L) < 2]),)),)),
    Row("width_prune_mask[none]", _width, lambda rng: _tree(rng)[:1], degenerate=(((np.arange(L),), _ones),)),
    Row("branch_grpo_loss", functools.partial(branching.branch_grpo_loss, clip_range=0.2), _entries, grads=(0,),
        stopped=(1, 2, 3, 4), masked={4: (0, 1, 2)}, group=(0, 1, 2, 3, 4), order="invariant", low_precision=(0, 1, 2),
        degenerate=(((_NAN, _NAN, _NAN, _ZERO, _ZERO + 1), (0.0,)), ((_NAN, _NAN, _NAN, _ZERO + 1, _ZERO), (0.0,)))),
    Row("branch_grpo_loss[all]", functools.partial(branching.branch_grpo_loss, clip_range=0.2),
        lambda rng: _entries(rng)[:4], grads=(0,), stopped=(1, 2, 3), masked={3: (0, 1, 2)}, low_precision=(0, 1, 2)),
    Row("flow_matching_loss", matching.flow_matching_loss, _pairs, grads=(0,), stopped=(1, 2), masked={3: (0, 1, 2)},
        group=(0, 1, 2, 3), order="invariant", low_precision=(0, 1, 2),
        degenerate=(((_NAN, _NAN, _NAN, np.zeros(2)), (0.0,)),)),
]
