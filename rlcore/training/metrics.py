"""What a run writes of itself: `metrics.jsonl` (reproducible to the byte), `clock.jsonl` (with time) and TensorBoard.

Every update is one line `{"step": 7, "loss": ...}`, every evaluation one line `{"step": 7, "eval/success": ...}`.
Nothing that depends on the clock goes into that file, so a run that was killed and resumed writes the same bytes as
one that was not. Once a chunk, `clock.jsonl` has a line with the time (`wall_time`, seconds since 1970), the learning
rate and the speed, under the names they have in TensorBoard:
`{"step": 8, "wall_time": ..., "speed/updates_per_second": ..., "optimizer/learning_rate": ...}`.
"""

from collections.abc import Mapping
import contextlib
import json
import math
import os
import pathlib
import time

import numpy as np
import tensorboardX
from tensorboardX.proto import event_pb2

from rlcore.training import files
from rlcore.training.errors import RunError

History = dict[str, tuple[np.ndarray, np.ndarray]]


def _number(value) -> float | None:
  """Shortest decimal that reads back as the same float32; None (JSON null) where it is not finite."""
  value = np.float32(value)
  return float(str(value)) if np.isfinite(value) else None


def _lines(path: pathlib.Path) -> list[dict]:
  """Parses a metrics file; a last line that a killed run did not finish is left out."""
  if not path.exists():
    return []
  rows = []
  for number, line in enumerate(path.read_bytes().splitlines(keepends=True), 1):
    if line.endswith(b"\n"):
      try:
        rows.append(json.loads(line))
      except (ValueError, RecursionError) as error:
        raise RunError(f"{path}, line {number} is not JSON: {getattr(error, 'msg', error)}") from error
      if not isinstance(rows[-1], dict) or not isinstance(rows[-1].get("step"), int):
        raise RunError(f'{path}, line {number} is no line of metrics: it has no "step"')
  return rows


def read_history(path: str | pathlib.Path) -> History:
  """Reads a file of metrics.

  Args:
    path: the file, or `clock.jsonl`.

  Returns:
    For each metric its steps `[N]` int and values `[N]` float (NaN where the run wrote null).
  """
  series: dict[str, tuple[list, list]] = {}
  for row in _lines(pathlib.Path(path)):
    for name, value in row.items():
      if name != "step":
        steps, values = series.setdefault(name, ([], []))
        steps.append(row["step"])
        values.append(math.nan if value is None else value)
  return {name: (np.asarray(steps), np.asarray(values, float)) for name, (steps, values) in series.items()}


class MetricsLog:
  """Appends metrics of a run to `metrics.jsonl`, what depends on the clock to `clock.jsonl`, both to TensorBoard."""

  def __init__(self, workdir: pathlib.Path, step: int = 0):
    """Opens the log of a run that has done `step` updates; lines of later updates (a killed run's) are cut off."""
    self.path, self.clock_path = pathlib.Path(workdir) / "metrics.jsonl", pathlib.Path(workdir) / "clock.jsonl"
    kept = self._cut(self.path, step)
    self._cut(self.clock_path, step)
    self.evaluations = {row["step"]: row for row in kept if any(name.startswith("eval/") for name in row)}
    self._file, self._clock = self.path.open("a"), self.clock_path.open("a")
    self.tensorboard_dir = pathlib.Path(workdir) / "tensorboard"
    self._board = _Board(self.tensorboard_dir, step)

  @staticmethod
  def _cut(path: pathlib.Path, step: int) -> list[dict]:
    kept = [row for row in _lines(path) if step and row["step"] <= step]
    files.replace_text(path, "".join(json.dumps(row) + "\n" for row in kept))
    return kept

  def write(self, step: int, metrics: Mapping[str, float]):
    """Writes one line; `step` counts all updates done."""
    row = {"step": step} | {name: _number(value) for name, value in metrics.items()}
    self._file.write(json.dumps(row) + "\n")
    if any(name.startswith("eval/") for name in row):
      self.evaluations[step] = row
    self._board.write(step, time.time(), {name if "/" in name else f"train/{name}": value
                                          for name, value in row.items() if name != "step"})

  def write_clock(self, step: int, values: Mapping[str, float]):
    """Writes what depends on the clock, or on where chunks end, under the same names to `clock.jsonl` and TensorBoard.

    Args:
      step: as in `write`.
      values: by name, with a "/" in it: `speed/updates_per_second`, say.
    """
    now = time.time()
    values = {name: _number(value) for name, value in values.items()}
    self._clock.write(json.dumps({"step": step, "wall_time": round(now, 3)} | values) + "\n")
    self._board.write(step, now, values)

  def flush(self):
    """Hands everything written so far to the system, so that others can read it."""
    self._file.flush()
    self._clock.flush()

  def sync(self):
    """Puts everything written so far on the disk; called before a checkpoint, which must never be ahead of the log."""
    self.flush()
    os.fsync(self._file.fileno())

  def close(self):
    """Writes what is left and closes the files."""
    with contextlib.ExitStack() as stack:  # each is closed whatever the others say
      for file in (self._board, self._clock, self._file):
        stack.callback(file.close)
      self.sync()


class _Board:
  """TensorBoard's event file, written here and now: an error of the disk is ours, not that of a thread which dies."""

  def __init__(self, directory: pathlib.Path, step: int):
    """Opens a new file in `directory`; events after `step`, of a run that was killed, are hidden."""
    directory.mkdir(parents=True, exist_ok=True)
    self._writer = tensorboardX.event_file_writer.EventsWriter(str(directory / "events"), f".{os.getpid()}")
    start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
    self._writer.write_event(event_pb2.Event(wall_time=time.time(), step=step + 1, session_log=start))

  def write(self, step: int, wall_time: float, values: Mapping[str, float | None]):
    rows = [tensorboardX.summary.scalar(name, value).value[0] for name, value in values.items() if value is not None]
    self._writer.write_event(event_pb2.Event(
        wall_time=wall_time, step=step, summary=tensorboardX.proto.summary_pb2.Summary(value=rows)))

  def close(self):
    self._writer.close()
