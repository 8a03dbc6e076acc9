"""One run owns its directory: a lock that the system takes back when the process ends, however it ends."""

from collections.abc import Iterator
import contextlib
import errno
import json
import os
import pathlib
import socket
import threading
import time
import warnings

from rlcore.training.errors import RunError

try:
  import fcntl
except ImportError:  # Windows
  fcntl = None

LOCK = ".lock"
# What file systems answer that know no such locks.
_UNSUPPORTED = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL}
# Device and inode of a directory, and name of the lock -> the thread that holds it, as often as it has entered.
_holders: dict[tuple[int, int, str], list[int]] = {}
_handles: set[int] = set()
_guard = threading.Lock()


@contextlib.contextmanager
def hold(directory: pathlib.Path, name: str = LOCK) -> Iterator[None]:
  """Holds the lock of an existing directory for a `with` block; the thread that holds it may enter again.

  The lock is `flock` on the file `name` in it, which says who holds it and goes at the end. Where the file system knows
  no such locks, a warning says so and the block runs all the same.

  Raises:
    RunError: if another process, or another thread of this one, holds it.
    OSError: if the file cannot be written.
  """
  found = os.stat(directory)
  key, thread = (found.st_dev, found.st_ino, name), threading.get_ident()
  with _guard:
    entries = _holders.setdefault(key, [])
    if entries and entries[0] != thread:
      raise RunError(_taken(directory, os.getpid(), socket.gethostname()))
    entries.append(thread)
  handle = None
  try:
    if len(entries) == 1:
      handle = _acquire(directory, name)
    yield
  finally:
    if handle is not None:
      _release(handle, directory / name)
    with _guard:
      entries.pop()
      if not entries:
        del _holders[key]


def _acquire(directory: pathlib.Path, name: str) -> int | None:
  """Returns the open and locked file, None where there are no locks."""
  if fcntl is None:
    return _go_unlocked(directory, "this system has no flock")
  path = directory / name
  while True:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
      fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
      current = path.exists() and os.path.samestat(os.fstat(handle), os.stat(path))
      if current:
        _sign(handle)
        _handles.add(handle)
        return handle
    except BlockingIOError as error:
      raise RunError(_taken(directory, *_signature(handle))) from error
    except OSError as error:
      if error.errno in _UNSUPPORTED:
        return _go_unlocked(directory, error.strerror or str(error))
      raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
      if handle not in _handles:
        os.close(handle)
    # Its last holder took the file away between our opening and our locking it: the lock is that of the file there now.


def _sign(handle: int):
  started = time.strftime("%Y-%m-%dT%H:%M:%S%z")
  text = json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "started": started})
  os.ftruncate(handle, 0)
  os.pwrite(handle, text.encode() + b"\n", 0)


def _signature(handle: int) -> tuple[int | str, str]:
  """Reads process and host of who holds the lock, who may be about to write them."""
  try:
    entry = json.loads(os.pread(handle, 4096, 0))
    return entry["pid"], entry["host"]
  except (OSError, ValueError, KeyError, TypeError):
    return "unknown", "unknown"


def _taken(directory: pathlib.Path, process: int | str, host: str) -> str:
  return (f"the directory {directory} is in use by process {process} on host {host}; choose another --workdir, or wait "
          "until it has ended")


def _go_unlocked(directory: pathlib.Path, reason: str) -> None:
  warnings.warn(f"{directory} cannot be locked ({reason}): take care that no other run uses it", stacklevel=2)


def _release(handle: int, path: pathlib.Path):
  with contextlib.suppress(OSError):  # a disk that went read-only: the file stays, the lock goes all the same
    path.unlink()  # before the lock goes: afterwards it may be another's
  _handles.discard(handle)
  os.close(handle)


def _forget():
  """In a forked child: its copies of the open files would hold the locks beyond the life of this process."""
  for handle in _handles:
    os.close(handle)
  _handles.clear()
  _holders.clear()


if hasattr(os, "register_at_fork"):
  os.register_at_fork(after_in_child=_forget)
