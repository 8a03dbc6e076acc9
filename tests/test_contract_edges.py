"""The edges of the contract, over all rows of the table: empty axes, masks that would broadcast, 64-bit JAX.

An empty axis of what is counted (tokens, steps, members, devices) is like one on which all is masked: the result is
defined, of the shape that follows, and finite. One over which something is chosen (actions, critics, classes, states)
has no answer, and one error names it.
"""

import functools
import os
import re
import subprocess
import sys
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import contract

ROWS = contract.all_rows()
# Rows whose own example, not the library, cannot be empty: a network of fixed width, a row that it reads by its index.
_FIXED = ("novelty_source", "with_potential", "bilevel_hypergradient", "empty_archive", "stateless", "identity",
          "on_outcome", "on_process", "with_lengths", "kl_in_reward", "with_running_stats", "chain", "mixture",
          "only_where", "scaled_by_std")
_NAMED = re.compile(r"^[a-z_]+\.[a-z_0-9]+: \w|^[a-z_]+=")  # "losses.td3_target: next_q ...", "nodes_per_depth=..."
# `as_mask` and `masked` broadcast by contract, and so does the depth mask of a tree; a transform that reads no mask
# cannot refuse one.
_BROADCASTS = ("as_mask", "masked", "branch_grpo_loss", "stateless", "identity", "on_outcome", "with_lengths")
# What is passed through, or kept in the dtype of what was given.
_PASSED = ("graph_observe", "elitist_update", "gaussian_mutation", "emitter_init", "emitter_update", "empty_archive",
           "insert", "append", "lookup", "progress_estimator", "implicit_process_reward", "identity", "on_process",
           "kl_in_reward", "with_running_stats", "running_stats_init")


def _name(row):
  return row.name.split("[")[0]


def _example(row):
  return [np.asarray(x) for x in row.example(np.random.default_rng(zlib.crc32(row.name.encode())))]


def _no_prose(error):
  """Returns the sentence of an error that is ours, and fails for any other."""
  said = str(error).partition("\n")[0]
  assert _NAMED.match(said), f"{type(error).__name__}: {said}"


@pytest.mark.parametrize("row", [r for r in ROWS if _name(r) not in _FIXED], ids=lambda row: row.name)
def test_an_empty_axis_is_defined_or_named(row):
  args, fn = _example(row), functools.partial(row.fn, **row.kwargs)
  for size in sorted({size for x in args for size in x.shape}):
    empty = [jnp.asarray(x[tuple(slice(0, 0) if s == size else slice(None) for s in x.shape)]) for x in args]
    try:
      shapes = jax.eval_shape(fn, *empty)
    except (AssertionError, ValueError) as error:
      _no_prose(error)
      continue
    if any(x.size and jnp.issubdtype(x.dtype, jnp.floating) for x in jax.tree.leaves(shapes)):
      for leaf in jax.tree.leaves(jax.jit(fn)(*empty)):
        assert not jnp.issubdtype(leaf.dtype, jnp.floating) or np.isfinite(leaf).all(), f"axes of size {size}"


@pytest.mark.parametrize("row", [r for r in ROWS if r.masked and _name(r) not in _BROADCASTS], ids=lambda row: row.name)
def test_a_mask_that_would_broadcast_is_refused(row):
  args, fn = _example(row), functools.partial(row.fn, **row.kwargs)
  for place in row.masked:
    for axis in [axis for axis, size in enumerate(args[place].shape) if size > 1]:
      narrow = [jnp.asarray(np.take(x, [0], axis) if i == place else x) for i, x in enumerate(args)]
      with pytest.raises((AssertionError, ValueError)):
        jax.eval_shape(fn, *narrow)


def main():
  """Run with JAX_ENABLE_X64=1: prints every row one of whose floating outputs is not float32."""
  for row in ROWS:
    fn = functools.partial(row.fn, **row.kwargs)
    for wide in (False, True):
      args = [x.astype(np.float64) if wide and x.dtype == np.float32 else x for x in _example(row)]
      try:
        leaves = jax.tree.leaves(jax.eval_shape(fn, *map(jnp.asarray, args)))
      except TypeError as error:
        print(f"{row.name}: {str(error).partition(chr(10))[0]}")
        continue
      passed = wide and _name(row) in _PASSED or _name(row) == "novelty_source"  # whose network is the example's
      if any(x.dtype == jnp.float64 for x in leaves) and not passed:
        print(f"{row.name}, {'float64' if wide else 'float32'} in: {[str(x.dtype) for x in leaves]}")
  print("rows:", len(ROWS))


def test_with_64_bits_every_function_returns_float32():
  environment = os.environ | {"JAX_ENABLE_X64": "1", "PYTHONWARNINGS": "ignore"}
  done = subprocess.run([sys.executable, "-m", "tests.test_contract_edges"], env=environment, capture_output=True,
                        text=True, check=True)
  assert done.stdout.strip() == f"rows: {len(ROWS)}", done.stdout


if __name__ == "__main__":
  main()
