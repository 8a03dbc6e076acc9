"""Result files and the README's table."""

import json
import pathlib

import numpy as np
import pytest

from rlcore.training import results, verdicts
from rlcore.training.errors import RunError
from tests.training.test_verdicts import make_result

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.parametrize("spec, expected", [("mean:x", 9.5), ("last:x", 19.0), ("tail:x", 18.5), ("max:x", 19.0),
                                            ("first:x", 0.0), ("to10:x", 13.0), ("to0:x", 1.0), ("to18.5:x", 20.0)])
def test_reductions(spec, expected):
  assert results.reduce_history(spec, {"x": np.arange(20.0)}) == expected
  assert results.reduce_history(spec, {"x": np.tile(np.arange(20.0), (3, 1))}).tolist() == [expected] * 3


def test_reductions_name_what_is_missing():
  with pytest.raises(RunError, match="one of mean, first, last, tail, max, to0.6"):
    results.reduce_history("median:x", {"x": np.ones(2)})
  with pytest.raises(RunError, match='the run has no "y"; it has x'):
    results.reduce_history("mean:y", {"x": np.ones(2)})


def test_result_files_are_read_back_and_lists_stay_on_a_line(tmp_path):
  path = tmp_path / "toy.json"
  result = make_result([0.5, 0.6, 0.7], [0.1, 0.2, 0.3])
  results.write_result(path, result)
  assert results.read_result(path) == {"schema": results.SCHEMA} | result
  assert '"mean:success": [0.5, 0.6, 0.7]' in path.read_text()
  path.write_text('{"schema": 0}')
  with pytest.raises(RunError, match="has schema 0"):
    results.read_result(path)
  path.write_text("{")
  with pytest.raises(RunError, match="not a result file"):
    results.read_result(path)


def test_the_table_goes_between_the_markers(tmp_path):
  readme = tmp_path / "README.md"
  readme.write_text(f"before\n{results.BEGIN}\nold\n{results.END}\nafter\n")
  result = make_result([0.5, 0.6, 0.7], [0.1, 0.2, 0.3])
  results.write_result(tmp_path / "toy.json", verdicts.judge(result) | result)
  results.update_readme(readme, tmp_path)
  results.update_readme(readme, tmp_path)
  lines = readme.read_text().splitlines()
  assert lines[0] == "before" and lines[-1] == "after" and "old" not in lines
  assert "Toy \\| A" in lines[4] and "good - plain +0.400 [+0.400, +0.400]" in lines[4]
  assert "**inconclusive**" in lines[4] and lines[4].endswith(": 3 seeds where 8 are needed |")
  readme.write_text("no markers")
  with pytest.raises(RunError, match="lacks the lines"):
    results.update_readme(readme, tmp_path)


def test_the_environment_names_no_place():
  described = results.environment()
  assert described["machine"]["cores"] >= 1 and described["versions"]["jax"]
  assert str(pathlib.Path.home()) not in json.dumps(described)


def test_the_readme_agrees_with_the_result_files():
  directory = ROOT / "experiments" / "results"
  if not any(directory.glob("*.json")):
    pytest.skip("no result file yet")
  table = (ROOT / "README.md").read_text().partition(results.BEGIN)[2].partition(results.END)[0]
  assert table.strip() == results.build_table(directory), "run: python -m experiments.reproduce --table"
