"""What a run shows while it works: one live line in a terminal, plain lines anywhere else."""

from collections.abc import Mapping
import functools
import time

import rich.console
import rich.progress

PLAIN_SECONDS = 10.0  # in a log file: at most one line in this time


def format_count(number: int, noun: str) -> str:
  """Writes how many of something there are, "1 run" or "4 runs"."""
  return f"{number} {noun}" + ("" if number == 1 else "s")


def format_seconds(seconds: float) -> str:
  """Writes a duration as `0:07`, `12:34` or `1:02:03`."""
  minutes, rest = divmod(int(seconds + 0.5), 60)
  hours, minutes = divmod(minutes, 60)
  return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class Progress:
  """Shows the stage, how far it is, the live metric, the speed and the time left; a context manager."""

  def __init__(self, metric: str = "success", console: rich.console.Console | None = None):
    """`metric` is shown live where an update reports it, else the loss."""
    self._metric = metric
    self.console = console or rich.console.Console()
    self._live = None
    self._last_line = 0.0
    if self.console.is_terminal:
      column = functools.partial(rich.progress.TextColumn, markup=False)  # a bracket in a name is a bracket
      self._live = rich.progress.Progress(
          column("{task.description}", style="bold"), rich.progress.BarColumn(), rich.progress.MofNCompleteColumn(),
          column("{task.fields[text]}"), console=self.console)
    self._task = None

  def __enter__(self) -> "Progress":
    if self._live is not None:
      self._live.start()
    return self

  def __exit__(self, *_):
    if self._live is not None:
      self._live.stop()

  def stage(self, name: str, total: int, done: int = 0, unit: str = "tokens"):
    """Begins a stage of `total` updates, `done` of them done already; `unit` is what the metric `tokens` counts."""
    self._name, self._total, self._done, self._unit = name, total, done, unit
    self._seconds = self._timed = 0.0
    if self._live is not None:
      self._task = self._live.add_task(name, total=total, completed=done, text="compiling ...")
    else:
      self._say(f"{name}: {total} updates" + (f", {done} done" if done else "") + " (the first ones compile)")
      self._last_line = -PLAIN_SECONDS  # the first chunk is always told

  def advance(self, count: int, metrics: Mapping[str, float], seconds: float):
    """Shows that `count` updates more are done.

    Args:
      count: how many.
      metrics: their means; `tokens` is how many tokens (or what else the stage counts) an update handles.
      seconds: what they took, compilation left out.
    """
    self._done += count
    self._seconds += seconds
    self._timed += count
    text = self._describe(count, metrics, seconds)
    if self._live is not None:
      self._live.update(self._task, completed=self._done, text=text)
    elif self._done >= self._total or time.monotonic() - self._last_line > PLAIN_SECONDS:
      self._say(f"{self._name} {self._done}/{self._total}  {text}")

  def message(self, text: str):
    """Prints a line of its own."""
    self._say(text)

  def _say(self, text: str):
    self._last_line = time.monotonic()
    self.console.print(text, markup=False, highlight=False, soft_wrap=True)

  def _describe(self, count: int, metrics: Mapping[str, float], seconds: float) -> str:
    parts = []
    name = self._metric if self._metric in metrics else "loss"
    if name in metrics:
      parts.append(f"{name} {metrics[name]:.3f}")
    if "tokens" in metrics and seconds > 0:
      parts.append(f"{metrics['tokens'] * count / seconds:,.0f} {self._unit}/s")
    skipped = sum(value * count for name, value in metrics.items() if name.startswith("nonfinite_"))
    if skipped:
      parts.append(f"{skipped:.0f} non-finite")
    left = (self._total - self._done) * self._seconds / self._timed
    parts.append(f"{format_seconds(left)} left" if self._done < self._total else "done")
    return "  ".join(parts)
