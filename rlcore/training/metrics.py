"""What a run writes of itself: `metrics.jsonl` (numbers only, reproducible to the byte) and TensorBoard (with time).

Every update is one line `{"step": 7, "loss": ...}`, every evaluation one line `{"step": 7, "eval/success": ...}`.
Nothing that depends on the clock goes into that file, so a run that was killed and resumed writes the same bytes as
one that was not.
"""

from collections.abc import Mapping
import json
import math
import os
import pathlib

import numpy as np
import tensorboardX

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
  for number, line in enumerate(path.read_text().splitlines(keepends=True), 1):
    if line.endswith("\n"):
      try:
        rows.append(json.loads(line))
      except json.JSONDecodeError as error:
        raise RunError(f"{path}, line {number} is not JSON: {error.msg}") from error
  return rows


def read_history(path: str | pathlib.Path) -> History:
  """Reads `metrics.jsonl`.

  Args:
    path: the file.

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
  """Appends metrics of a run to `metrics.jsonl` and TensorBoard."""

  def __init__(self, workdir: pathlib.Path, step: int = 0):
    """Opens the log of a run that has done `step` updates; lines of later updates (a killed run's) are cut off."""
    self.path = pathlib.Path(workdir) / "metrics.jsonl"
    kept = [row for row in _lines(self.path) if step and row["step"] <= step]
    temporary = self.path.with_suffix(".tmp")
    temporary.write_text("".join(json.dumps(row) + "\n" for row in kept))
    os.replace(temporary, self.path)
    self.evaluations = {row["step"]: row for row in kept if any(name.startswith("eval/") for name in row)}
    self._file = self.path.open("a")
    self.tensorboard_dir = pathlib.Path(workdir) / "tensorboard"
    self._board = tensorboardX.SummaryWriter(str(self.tensorboard_dir), purge_step=step + 1)

  def write(self, step: int, metrics: Mapping[str, float]):
    """Writes one line; `step` counts all updates done."""
    row = {"step": step} | {name: _number(value) for name, value in metrics.items()}
    self._file.write(json.dumps(row) + "\n")
    if any(name.startswith("eval/") for name in row):
      self.evaluations[step] = row
    for name, value in row.items():
      if name != "step" and value is not None:
        self._board.add_scalar(name if "/" in name else f"train/{name}", value, step)

  def write_speed(self, step: int, speeds: Mapping[str, float]):
    """Writes what depends on the clock, to TensorBoard only."""
    for name, value in speeds.items():
      self._board.add_scalar(f"speed/{name}", value, step)

  def flush(self):
    """Hands everything written so far to the system, so that others can read it."""
    self._file.flush()

  def sync(self):
    """Puts everything written so far on the disk; called before a checkpoint, which must never be ahead of the log."""
    self._file.flush()
    os.fsync(self._file.fileno())

  def close(self):
    """Writes what is left and closes the files."""
    self.sync()
    self._file.close()
    self._board.close()
