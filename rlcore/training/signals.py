"""SIGTERM and SIGINT: the first lets a run save what it has, the second, or one with nothing to save, ends at once.

A compiled program, or the compiler, holds Python's main thread for seconds, in which no handler of Python runs. In a
command (`watching`) a thread of its own therefore learns of the signals, through a pipe that the C handler writes to,
and ends the process itself. A library call (`Interrupts` without `watching`) leaves the process to its owner: what a
command would end, raises KeyboardInterrupt or SystemExit as soon as Python gets to it.
"""

from collections.abc import Callable, Iterator
import contextlib
import os
import signal
import sys
import threading

NUMBERS = (signal.SIGTERM, signal.SIGINT)
_FLUSH_SECONDS = 0.2

_watched = False
_current: "Interrupts | None" = None
_cleanups: list[Callable[[], None]] = []
_leaving = threading.Lock()


class Interrupts:
  """Notes the first signal while there is something to save; a context manager.

  Attributes:
    received: the signal that was noted, or None.
  """

  def __init__(self, say: Callable[[str], None], standing: Callable[[], str] = lambda: ""):
    """`say` shows a line; `standing` tells in a few words what a process that is left at once leaves behind."""
    self.received: signal.Signals | None = None
    self._unsaved = False
    self._say, self._standing = say, standing
    self._previous = {}

  def __enter__(self) -> "Interrupts":
    global _current
    self._outer, _current = _current, self
    if not _watched and threading.current_thread() is threading.main_thread():
      self._previous = {number: signal.signal(number, self._handle) for number in NUMBERS}
    return self

  def __exit__(self, *_):
    global _current
    _current = self._outer
    for number, handler in self._previous.items():
      signal.signal(number, handler)

  def begin(self):
    """Says that from now on something would be lost."""
    self._unsaved = True

  def end(self):
    """Says that everything is saved."""
    self._unsaved = False

  def note(self, number: int) -> bool:
    """Takes a signal; False where it is the second one, or nothing would be lost."""
    if self.received is not None or not self._unsaved:
      return False
    self.received = signal.Signals(number)
    text = f"{self.received.name}: saving after this chunk (once more to quit at once)"
    threading.Thread(target=self._say, args=(text,), daemon=True).start()  # whoever prints now must not hold us up
    return True

  def standing(self) -> str:
    """Tells what is left behind, "" for nothing."""
    return self._standing()

  def _handle(self, number, _):
    if not self.note(number):
      raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)


@contextlib.contextmanager
def watching() -> Iterator[None]:
  """Takes the signals of this process for a `with` block: of a command, which may end the process."""
  global _watched
  if threading.current_thread() is not threading.main_thread():
    yield
    return
  source, sink = os.pipe()
  os.set_blocking(sink, False)
  threading.Thread(target=_watch, args=(source,), name="signals", daemon=True).start()
  before = signal.set_wakeup_fd(sink, warn_on_full_buffer=False)
  previous = {number: signal.signal(number, lambda *_: None) for number in NUMBERS}  # without one nothing is written
  _watched = True
  try:
    yield
  finally:
    _watched = False
    for number, handler in previous.items():
      signal.signal(number, handler)
    signal.set_wakeup_fd(before)
    os.close(sink)  # ends the thread


@contextlib.contextmanager
def cleanup(function: Callable[[], None]) -> Iterator[None]:
  """Has `function` called if a signal ends the process within the `with` block."""
  _cleanups.append(function)
  try:
    yield
  finally:
    _cleanups.remove(function)


def leave_with(descriptor: int, say: str):
  """Ends the process as soon as nobody has the other end of a pipe open any more: its parent is gone.

  Args:
    descriptor: of the end to read, on which nothing is ever written.
    say: why, for the log.
  """
  def wait():
    while os.read(descriptor, 4096):
      continue
    leave(128 + signal.SIGTERM, say)

  threading.Thread(target=wait, name="parent", daemon=True).start()


def leave(code: int, text: str):
  """Prints one line and ends the process at once, without unwinding; from any thread."""
  _leaving.acquire()  # and never let go: the first says why
  for function in reversed(_cleanups):
    function()
  _end(code, text)


def wait_if_leaving():
  """Blocks for ever once another thread ends the process: what its cleanup breaks is no news to anybody."""
  if _leaving.locked():
    threading.Event().wait()


def finish(code: int):
  """Ends the process whatever its other threads do, once what was printed is out; never returns."""
  _leaving.acquire()
  _end(code, "")


def _end(code: int, text: str):
  _kill_workers()
  _flush()
  cursor = "\x1b[?25h\n" if text and sys.stderr and sys.stderr.isatty() else ""  # a progress bar hides it
  if text:
    with contextlib.suppress(OSError):  # nobody reads it
      os.write(2, f"{cursor}{text}\n".encode("utf-8", "backslashreplace"))
  os._exit(code)


def _watch(source: int):
  while True:
    for number in os.read(source, 64) or (0,):
      if number == 0:
        os.close(source)
        return
      if number in NUMBERS and not (_current is not None and _current.note(number)):
        standing = _current.standing() if _current is not None else ""
        leave(128 + number, f"{signal.Signals(number).name}: left at once" + (f"; {standing}" if standing else ""))


def _flush():
  """Flushes stdout and stderr, unless somebody holds them."""
  def flush():
    for stream in (sys.stdout, sys.stderr):
      with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or nobody reads
        stream.flush()

  thread = threading.Thread(target=flush, daemon=True)
  thread.start()
  thread.join(_FLUSH_SECONDS)


def _kill_workers():
  """Ends the processes of pools, which would wait for their next task for ever."""
  if "multiprocessing" in sys.modules:
    for process in sys.modules["multiprocessing"].active_children():
      process.kill()
