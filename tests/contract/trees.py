"""Contract rows of `rlcore.advantages.trees`."""

import numpy as np

from rlcore import types
from rlcore.advantages import trees
from tests.contract import Row


def _group(rng):
  """Six rows over two token ids (they share prefixes): a gap, observations (valid, not mask), an empty row."""
  tokens = rng.integers(0, 2, (6, 9)).astype(np.int32)
  valid = (np.arange(9) < rng.integers(3, 10, 6)[:, None]).astype(np.float32)
  valid[1, 4] = 0
  valid[2] = 0
  mask = valid * (rng.random((6, 9)) < 0.8)
  mask[0, 0] = valid[0, 0] = 1
  return tokens, rng.normal(size=6).astype(np.float32), mask.astype(np.float32), valid


def _tokens_mask_valid(rng):
  tokens, _, mask, valid = _group(rng)
  return tokens, mask, valid


def _tokens_valid(rng):
  tokens, _, _, valid = _group(rng)
  return tokens, valid


def _tempo(tokens, outcome, mask, valid, **settings):
  zeros = np.zeros(2, np.float32)
  batch = types.Rollouts(tokens, mask, log_probs=mask, prompt=zeros, prompt_mask=zeros, valid=valid)
  return trees.tempo(types.Rewards(outcome), batch, **settings)


def _case(rewards, valid=1.0):
  size = len(rewards)
  tokens = np.arange(size)[:, None] // 2 * np.ones((1, 4))
  valid = np.broadcast_to(np.asarray(valid, np.float32), (size, 4))
  return tokens.astype(np.int32), np.asarray(rewards, np.float32), valid, valid


_ZERO = lambda out: not np.any(np.asarray(out))
_ADVANTAGE = dict(
    example=_group, stopped=(1,), masked={3: (0,)}, group=(0, 1, 2, 3), order="equivariant", low_precision=(1,),
    degenerate=(
        (_case([0.7] * 7), _ZERO),
        (_case([3.0]), _ZERO),
        (_case([1.0, 0.0], valid=0.0), _ZERO),
        (_case([1.0, 0.0], valid=[1, 1, 0, 0]), (np.array([[1, 1, 0, 0], [-1, -1, 0, 0]]) * 0.5 / (0.5**0.5 + 1e-6),)),
    ))

ROWS = [
    Row("prefix_lcp", trees.prefix_lcp, _tokens_valid, masked={1: (0,)}),
    *(Row(f"prefix_lcp[{method}]", trees.prefix_lcp, _tokens_valid, kwargs={"method": method}, masked={1: (0,)})
      for method in ("refine", "pairwise", "scan", "sort")),
    Row("prefix_tree_values", trees.prefix_tree_values, _group, stopped=(1,), masked={3: (0,)}, group=(0, 1, 2, 3),
        order="equivariant", low_precision=(1,),
        degenerate=((_case([3.0]), (np.full((1, 4), 3.0),) * 2 + (np.ones((1, 4)),) * 2),
                    (_case([3.0, 1.0], valid=0.0), (np.zeros((2, 4)),) * 4))),
    Row("prefix_tree", trees.prefix_tree, _tokens_mask_valid, masked={2: (0,)}),
    Row("branch_mask", trees.branch_mask, _tokens_mask_valid, masked={2: (0,)}, group=(0, 1, 2), order="equivariant"),
    Row("tempo_advantage", trees.tempo_advantage, **_ADVANTAGE),
    Row("tempo_advantage[refine]", trees.tempo_advantage, kwargs={"method": "refine"}, **_ADVANTAGE),
    Row("tempo_advantage[unscaled]", trees.tempo_advantage, _group, {"normalize_std": False}, stopped=(1,)),
    Row("tempo", _tempo, **_ADVANTAGE),
]
