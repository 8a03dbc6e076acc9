"""The README's Python runs as printed, each block by itself, and says what it gives."""

import ast
import builtins
import importlib.util
import pathlib
import re

import numpy as np
import pytest

from rlcore import types

README = (pathlib.Path(__file__).parent.parent / "README.md").read_text()
BLOCKS = re.findall(r"```py\w*\n(.*?)```", README, re.DOTALL)


def _names(block):
  """Returns the names that a block reads, and those that it, or Python, has."""
  nodes = list(ast.walk(ast.parse(block)))
  read = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
  own = {node.id for node in nodes if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)}
  own |= {node.arg for node in nodes if isinstance(node, ast.arg)}
  own |= {node.name for node in nodes if isinstance(node, ast.FunctionDef)}
  own |= {(alias.asname or alias.name).split(".")[0] for node in nodes if isinstance(node, (ast.Import, ast.ImportFrom))
          for alias in node.names}
  return read, own | set(dir(builtins))


def _missing(block):
  """Returns the libraries of a block that are not installed."""
  found = (alias.name.split(".")[0] for node in ast.walk(ast.parse(block)) if isinstance(node, ast.Import)
           for alias in node.names)
  return [name for name in found if importlib.util.find_spec(name) is None]


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_a_block_runs_as_it_stands(number, tmp_path, monkeypatch):
  block, names = BLOCKS[number], {}
  read, known = _names(block)
  assert read <= known, f"not defined in the block: {read - known}"
  if _missing(block):
    pytest.skip(f"needs {', '.join(_missing(block))}; its adapters have tests of their own")
  monkeypatch.chdir(tmp_path)
  exec(block, names)
  if "tempo" in names:
    printed = [float(x) for x in re.search(r"row 0: \[(.*?)\]", README)[1].split(",")]
    np.testing.assert_allclose(names["tempo"][0], printed, rtol=1e-3, atol=1e-3)
  if "my_credit" in names:
    batch = types.Rollouts(*(np.ones((3, 2)),) * 3, prompt=np.ones(1), prompt_mask=np.ones(1))
    credit = names["my_credit"](types.Rewards(np.array([1.0, 0.0, 0.0])), batch)
    np.testing.assert_array_equal(credit, [[1, 1], [0, 0], [0, 0]])
  if "learnt" in names:
    assert names["metrics"]["reward"].shape == (10,) and names["learnt"].params is not None
  if "pictures" in names:
    assert (tmp_path / "maze.gif").read_bytes().startswith(b"GIF")


def test_all_that_matters_is_among_them():
  together = "\n".join(BLOCKS)
  for name in ("tempo =", "def my_credit", "learnt, metrics =", "adapt_gymnax", "maze.gif"):
    assert name in together
