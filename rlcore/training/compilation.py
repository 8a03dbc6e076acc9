"""Compilation as the user meets it: cached on disk between runs, and its time counted apart from the work."""

from collections.abc import Iterator
import contextlib
import os
import pathlib
import threading
import time

import jax


def enable_cache() -> str:
  """Turns JAX's persistent compilation cache on and returns its directory.

  `$JAX_COMPILATION_CACHE_DIR` wins, the default is `~/.cache/rlcore/jax`. Programs that compile faster than 0.3 s are
  not worth a file.
  """
  directory = os.environ.get("JAX_COMPILATION_CACHE_DIR") or str(pathlib.Path.home() / ".cache" / "rlcore" / "jax")
  jax.config.update("jax_compilation_cache_dir", directory)
  if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
  return directory


class _CompileClock:
  """Adds up the time spent tracing, lowering and compiling, each moment once (JAX reports nested intervals)."""

  def __init__(self):
    self._intervals: list[tuple[float, float]] = []
    self._listening = False

  def listen(self):
    if not self._listening:
      jax.monitoring.register_event_duration_secs_listener(self._record)
      self._listening = True

  def _record(self, event: str, duration: float, **_):
    # What other threads compile costs time only where the main thread waits for it.
    if event.startswith("/jax/core/compile/") and threading.current_thread() is threading.main_thread():
      self.add(duration)

  def add(self, duration: float):
    """Counts an interval that ends now."""
    start = time.monotonic() - duration
    # An inner interval is reported before the one around it.
    while self._intervals and self._intervals[-1][0] >= start:
      self._intervals.pop()
    self._intervals.append((start, duration))

  def seconds(self) -> float:
    return sum(duration for _, duration in self._intervals)


_CLOCK = _CompileClock()


def compile_seconds() -> float:
  """Returns the seconds this process has spent compiling since the first call of this function."""
  _CLOCK.listen()
  return _CLOCK.seconds()


@contextlib.contextmanager
def waiting() -> Iterator[None]:
  """Counts a block that waits for another thread's compilation."""
  start = time.monotonic()
  yield
  _CLOCK.add(time.monotonic() - start)


class Stopwatch:
  """Measures a block: `seconds` without compilation, `compile_seconds` the rest."""

  def __enter__(self) -> "Stopwatch":
    self._start, self._compiled = time.monotonic(), compile_seconds()
    return self

  def __exit__(self, *_):
    self.compile_seconds = compile_seconds() - self._compiled
    self.seconds = time.monotonic() - self._start - self.compile_seconds
