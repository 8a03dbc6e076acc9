"""Intervals, verdicts, result files and the README's table."""

import json
import pathlib

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from rlcore.training import results
from rlcore.training.errors import RunError

ROOT = pathlib.Path(__file__).parents[2]


def make_result(method, baseline, *, verdict="reproduced", **claim):
  claim = results.Claim("Toy | A", "0000.00000", "Good beats plain.", "mean:success", "good", ("plain",),
                        seeds=tuple(range(len(method))), **claim)
  arms = {"good": {"values": {"mean:success": list(method)}}, "plain": {"values": {"mean:success": list(baseline)}}}
  return json.loads(json.dumps({
      "claim": claim.__dict__, "variants": {"main": {"arms": arms}}, "verdict": verdict, "reason": "because",
      "seconds": 90.0}))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(-5, 5)), min_size=1, max_size=9))
def test_bootstrap_is_the_loop(pairs):
  method, baseline = zip(*pairs, strict=True)
  got = results.paired_bootstrap(method, baseline, resamples=200, seed=3)
  rng = np.random.default_rng(3)
  picks = rng.integers(0, len(pairs), (200, len(pairs)))
  means = sorted(sum(method[i] - baseline[i] for i in row) / len(pairs) for row in picks)
  position = 0.025 * 199
  below = int(position)
  low = means[below] + (position - below) * (means[below + 1] - means[below])
  assert got.mean == pytest.approx(sum(m - b for m, b in pairs) / len(pairs), abs=1e-9)
  assert got.low == pytest.approx(low, abs=1e-9)
  assert got.low <= got.high


def test_bootstrap_covers_the_truth_about_as_often_as_it_says():
  rng = np.random.default_rng(0)
  hits = 0
  for i in range(200):
    x = results.paired_bootstrap(rng.normal(0.3, 1, 30), np.zeros(30), resamples=500, seed=i)
    hits += x.low <= 0.3 <= x.high
  assert 0.88 <= hits / 200 <= 0.98


def test_bootstrap_refuses_unpaired_numbers():
  with pytest.raises(ValueError, match="as many numbers"):
    results.paired_bootstrap([1.0], [1.0, 2.0])


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


@pytest.mark.parametrize("method, claim, expected", [
    ([0.5, 0.6, 0.7], {}, "reproduced"),
    ([0.1, 0.2, 0.1], {}, "not reproduced"),
    ([0.5, 0.1, 0.5, 0.1], {}, "inconclusive"),
    ([0.5, 0.6, 0.7], {"margin": 0.5}, "not reproduced"),
    ([0.3, 0.3, 0.3], {}, "not reproduced"),  # no difference at all
    ([0.1, 0.2, 0.1], {"higher_is_better": False}, "reproduced"),
    ([0.9, 0.9], {}, "inconclusive"),  # two seeds
    ([0.9, float("nan"), 0.9], {}, "inconclusive"),
])
def test_verdicts(method, claim, expected):
  verdict, reason = results.default_verdict(make_result(method, [0.3] * len(method), **claim))
  assert verdict == expected and verdict in results.VERDICTS
  assert reason


def test_the_cost_of_a_level_is_read_off_the_curve():
  curve = {"seeds": [[0.0, 0.4, 0.8, 0.3], [0.7, 0.1, 0.9, 0.9], [0.1, 0.2, 0.3, 0.4]],
           "cost": [[10, 20, 30, 40], [1, 2, 3, 4], [5, 6, 7, 8]]}
  # Half way between two points; at the first point; never.
  assert results.cost_to_reach(curve, 0.6).tolist() == pytest.approx([25, 1, 8])


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
  results.write_result(tmp_path / "toy.json", make_result([0.5, 0.6, 0.7], [0.1, 0.2, 0.3]))
  results.update_readme(readme, tmp_path)
  results.update_readme(readme, tmp_path)
  lines = readme.read_text().splitlines()
  assert lines[0] == "before" and lines[-1] == "after" and "old" not in lines
  assert "Toy \\| A" in lines[4] and "+0.400 [+0.400, +0.400]" in lines[4] and "**reproduced**" in lines[4]
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
