"""`metrics.jsonl`: exact numbers, cut back to the checkpoint."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from rlcore.training import metrics
from rlcore.training.errors import RunError


def test_lines_after_the_checkpoint_and_half_lines_are_cut_off(tmp_path):
  path = tmp_path / "metrics.jsonl"
  path.write_text('{"step": 1, "loss": 0.5}\n{"step": 2, "loss": 0.25}\n{"step": 2, "eval/x": 1.0}\n'
                  '{"step": 3, "loss": 0.1}\n{"step": 4, "lo')
  log = metrics.MetricsLog(tmp_path, step=2)
  assert log.evaluations == {2: {"step": 2, "eval/x": 1.0}}
  log.write(3, {"loss": np.float32(0.125)})
  log.close()
  assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2, 2, 3]


def test_a_broken_line_is_named(tmp_path):
  (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step" 2}\n')
  with pytest.raises(RunError, match="metrics.jsonl, line 2 is not JSON"):
    metrics.read_history(tmp_path / "metrics.jsonl")


def test_not_a_number_is_null_and_reads_back_as_nan(tmp_path):
  log = metrics.MetricsLog(tmp_path)
  log.write(1, {"a": np.nan, "b": np.inf, "c": 2})
  log.close()
  assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1, "a": null, "b": null, "c": 2.0}\n'
  history = metrics.read_history(tmp_path / "metrics.jsonl")
  assert np.isnan(history["a"][1]).all() and history["c"][1].tolist() == [2.0]


@settings(max_examples=50, deadline=None)
@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_a_number_reads_back_as_the_same_float32(value):
  text = json.dumps(metrics._number(np.float32(value)))
  assert np.float32(json.loads(text)).tobytes() == np.float32(value).tobytes()
