"""`metrics.jsonl`: exact numbers, cut back to the checkpoint."""

import json
import time

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
from tensorboardX.proto import event_pb2

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


@pytest.mark.parametrize("line", [b'{"step" 2}', b"\xff", b"[" * 100_000, b"\0" * 50, b"[2]", b'{"loss": 1.0}'],
                         ids=lambda line: str(line[:10]))
def test_a_broken_line_is_named(tmp_path, line):
  (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 1}\n' + line + b"\n")
  with pytest.raises(RunError, match="metrics.jsonl, line 2 is no"):
    metrics.read_history(tmp_path / "metrics.jsonl")


def _events(directory):
  """Reads what TensorBoard would: `(step, wall time, {tag: value})` of every event."""
  events = []
  for path in directory.glob("events*"):
    data = path.read_bytes()
    while data:
      size = int.from_bytes(data[:8], "little")
      event = event_pb2.Event.FromString(data[12:12 + size])
      events.append((event.step, event.wall_time, {value.tag: value.simple_value for value in event.summary.value}))
      data = data[16 + size:]
  return events


def test_time_rate_and_speed_go_by_the_same_names_to_the_file_and_to_tensorboard(tmp_path):
  begun = time.time()
  log = metrics.MetricsLog(tmp_path)
  log.write(1, {"loss": 0.5})
  log.write_clock(1, {"speed/updates_per_second": 2.0, "optimizer/learning_rate": 0.25})
  log.close()
  row, = map(json.loads, (tmp_path / "clock.jsonl").read_text().splitlines())
  wall = row.pop("wall_time")
  assert begun - 1 <= wall <= time.time() + 1
  assert row == {"step": 1, "speed/updates_per_second": 2.0, "optimizer/learning_rate": 0.25}
  found = _events(tmp_path / "tensorboard")
  (step, at, tags), = [event for event in found if "speed/updates_per_second" in event[2]]
  assert step == 1 and at == pytest.approx(wall, abs=0.01) and {"step": 1} | tags == row
  assert {"train/loss": 0.5} in [tags for *_, tags in found]
  metrics.MetricsLog(tmp_path, step=0).close()
  assert (tmp_path / "clock.jsonl").read_text() == "", "cut like the other"


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
