"""What the microscope's page shows of one group, as compact arrays. The tree itself is that of `rlcore.advantages`."""

import base64
from collections.abc import Callable, Mapping
from typing import Any
import zlib

import jax
import jax.numpy as jnp
import numpy as np

from rlcore import advantages as advantages_lib
from rlcore.types import Rollouts

COUNTED, BRANCH, VALID = 1, 2, 4  # bits of a token's flags
_MOST_CODES = 2**16


def pack(array: np.ndarray) -> str:
  """Packs an array's little-endian bytes: zlib, then base64."""
  array = np.ascontiguousarray(array)
  return base64.b64encode(zlib.compress(array.astype(array.dtype.newbyteorder("<")).tobytes(), 6)).decode()


def encode_values(values: np.ndarray, keep: np.ndarray) -> dict[str, Any]:
  """Codes float32 values as uint16 numbers into a table.

  Up to 65536 different values are kept exactly, more of them to 1 part in 65535 of their range; what does not count
  is 0. Values that are not finite are kept too.

  Args:
    values: `[...]` float32.
    keep: `[...]` bool, what counts.

  Returns:
    `codes` (packed uint16) and `table` (packed float32, entry c is the value of code c).
  """
  values = np.where(keep, values, 0).astype(np.float32)
  table, codes = np.unique(values, return_inverse=True)
  if len(table) > _MOST_CODES:
    finite = np.isfinite(table)
    low, high = table[finite][[0, -1]].astype(float)
    odd = table[~finite]  # -inf, inf, nan: at most three, they take the last codes
    grid = np.linspace(low, high, _MOST_CODES - len(odd))
    # Zero is what the picture calls neutral, so the grid has it.
    grid[np.argmin(np.abs(grid))] = 0.0 if low <= 0 <= high else grid[np.argmin(np.abs(grid))]
    right = np.clip(np.searchsorted(grid, table), 1, len(grid) - 1)
    nearest = right - (table - grid[right - 1] < grid[right] - table)
    nearest[~finite] = len(grid) + np.arange(len(odd))
    table, codes = np.concatenate([grid, odd]).astype(np.float32), nearest[codes]
  return {"codes": pack(codes.reshape(-1).astype(np.uint16)), "table": pack(table)}


def _blocks(flags: np.ndarray) -> list[tuple[int, int]]:
  """Starts and ends of the runs of True in `[T]`."""
  edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(int)))
  return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _segments(nodes: np.ndarray, n_prev: np.ndarray, n_next: np.ndarray) -> tuple[dict, list[list]]:
  """Folds the tree: `{(start, first row): end}` of its unbranched runs, and the path of every row through them."""
  segments, paths = {}, []
  for row, names in enumerate(nodes):
    run = int(np.sum(names >= 0))
    starts = np.flatnonzero((n_prev[row, :run] != n_next[row, :run]) | (np.arange(run) == 0)).tolist()
    path = [(start, int(names[start])) for start in starts]
    for key, end in zip(path, [*starts, run][1:], strict=True):
      segments[key] = end
    paths.append(path)
  return segments, paths


def fold(tokens: np.ndarray, rewards: np.ndarray, mask: np.ndarray, valid: np.ndarray) -> tuple[list[int], dict]:
  """Folds the prefix tree of a group: runs of tokens at which it does not branch become one segment.

  Args:
    tokens: `[G, T]` int32.
    rewards: `[G]`.
    mask: `[G, T]` bool.
    valid: `[G, T]` bool.

  Returns:
    `(order, columns)`. `order` lists the rows so that those of a node lie together, the better branch first. `columns`
    holds one list for each of `start`, `end` (positions), `top`, `bottom` (places in `order`), `parent` (-1 for a
    root), `v_prev`, `n_prev` (before its first token) and `v_next`, `n_next` (after it). Real tokens beyond a gap are
    outside of the tree: segments of one row with both n 0.
  """
  arrays = jnp.asarray(tokens), jnp.asarray(rewards, jnp.float32), jnp.asarray(mask), jnp.asarray(valid)
  v_prev, v_next, n_prev, n_next = jax.device_get(advantages_lib.prefix_tree_values(*arrays))
  nodes = jax.device_get(advantages_lib.prefix_tree(arrays[0], arrays[2], arrays[3]))
  segments, paths = _segments(nodes, n_prev, n_next)
  rank = lambda key: (-np.nan_to_num(float(v_next[key[1], key[0]])), key[1])
  order = sorted(range(len(paths)), key=lambda row: (not paths[row], [rank(key) for key in paths[row]], row))
  columns = {name: [] for name in (
      "start", "end", "top", "bottom", "parent", "v_prev", "v_next", "n_prev", "n_next")}

  def add(*values):
    for column, value in zip(columns.values(), values, strict=True):
      column.append(value)

  index = {}
  for place, row in enumerate(order):
    parent = -1
    for start, first in paths[row]:
      key = (start, first)
      if key not in index:
        index[key] = len(columns["start"])
        add(start, segments[key], place, place + 1, parent, float(v_prev[first, start]), float(v_next[first, start]),
            int(n_prev[first, start]), int(n_next[first, start]))
      parent = index[key]
      columns["bottom"][parent] = place + 1
    run = int(np.sum(nodes[row] >= 0))
    for start, end in _blocks(valid[row] & (np.arange(valid.shape[1]) >= run)):
      add(start, end, place, place + 1, -1, 0.0, 0.0, 0, 0)
  return order, columns


def _finite(x: float) -> float | None:
  return float(x) if np.isfinite(x) else None


def prepare_group(rollouts: Rollouts, rewards: Any, advantages: Mapping[str, Any], decode: Callable[[Any], str], *,
                  label: str = "") -> dict[str, Any]:
  """Gathers what the page shows of one group.

  Args:
    rollouts: one group, `[G, T]`.
    rewards: `[G]`, the outcome of each response.
    advantages: by the estimator's name, `[G, T]` each.
    decode: `(token ids) -> str`.
    label: name of the prompt in the page's list.

  Returns:
    A dict that JSON can hold; rows lie in the order of `fold`.

  Raises:
    ValueError: if shapes do not fit, or there is no response.
  """
  host = lambda x: np.asarray(jax.device_get(x))
  tokens, mask = host(rollouts.tokens), host(rollouts.mask) > 0
  if tokens.ndim != 2 or not tokens.shape[0]:
    raise ValueError(f"the microscope shows one group of token rollouts [G, T] with G >= 1, not {list(tokens.shape)}")
  valid = mask if rollouts.valid is None else (host(rollouts.valid) > 0) | mask
  in_tree = mask if rollouts.valid is None else host(rollouts.valid) > 0
  rewards = host(rewards).astype(np.float32)
  given = {name: host(x).astype(np.float32) for name, x in advantages.items()}
  for name, x, shape in (("rewards", rewards, tokens.shape[:1]), *((n, x, tokens.shape) for n, x in given.items())):
    if x.shape != shape:
      raise ValueError(f"{name}: shape {list(x.shape)}, but the group needs {list(shape)}")
  order, segments = fold(tokens, rewards, mask, in_tree)
  branches = host(advantages_lib.branch_mask(tokens, mask, in_tree))
  flags = COUNTED * mask + BRANCH * branches + VALID * valid
  vocab, codes = np.unique(np.where(valid, tokens, -1), return_inverse=True)
  codes = codes.reshape(tokens.shape)[order]
  used = valid.any(0)
  length = int(np.flatnonzero(used)[-1]) + 1 if used.any() else 0  # columns that hold nothing are not shown
  cut = lambda x: x[order][:, :length]
  values = lambda x: encode_values(cut(x), cut(mask))
  prompt = host(rollouts.prompt)[host(rollouts.prompt_mask) > 0]
  return {
      "label": label,
      "prompt": decode(prompt),
      "size": tokens.shape[0],
      "length": length,
      "rows": order,
      "rewards": [_finite(rewards[row]) for row in order],
      "vocab": vocab.tolist(),
      "texts": ["" if i < 0 else decode([i]) for i in vocab.tolist()],
      "wide": len(vocab) > _MOST_CODES,
      "tokens": pack(codes[:, :length].astype(np.uint32 if len(vocab) > _MOST_CODES else np.uint16)),
      "flags": pack(cut(flags).astype(np.uint8)),
      "log_probs": values(host(rollouts.log_probs).astype(np.float32)),
      "segments": {name: [_finite(x) if name.startswith("v_") else x for x in column]
                   for name, column in segments.items()},
      "advantages": {name: values(x) for name, x in given.items()},
  }
