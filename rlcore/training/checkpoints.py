"""Checkpoints of a whole training state: arrays and PRNG keys, verified when they are read back."""

import concurrent.futures
import errno
import itertools
import os
import pathlib
import warnings
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from rlcore.training.errors import RunError
from rlcore.training.workdir import SET_ASIDE, check_path, set_aside
from rlcore.types import PyTree

# What says that a file cannot be read now, in the words of the system, TensorStore and XLA.
_PASSING = {number for name in (
    "EACCES EPERM EIO ESTALE EMFILE ENFILE ENOMEM ETIMEDOUT EBUSY EAGAIN EINTR ENXIO ENODEV EHOSTDOWN EHOSTUNREACH "
    "ENETDOWN ENETUNREACH ENOTCONN ECONNRESET ECONNREFUSED EREMOTEIO ENOLINK EDQUOT").split()
            if (number := getattr(errno, name, None)) is not None}
_PASSING_WORDS = (*map(os.strerror, sorted(_PASSING)), "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "UNAVAILABLE",
                  "DEADLINE_EXCEEDED")


def _is_key(leaf) -> bool:
  return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _pack(state: PyTree) -> dict[str, jax.Array]:
  """Flattens a state to named plain arrays: keys become their data, empty arrays (which hold nothing) are left out."""
  leaves = jax.tree_util.tree_flatten_with_path(state)[0]
  packed = {jax.tree_util.keystr(path): jax.random.key_data(x) if _is_key(x) else x for path, x in leaves}
  return {name: x for name, x in packed.items() if x.size}


def _unpack(packed: dict[str, jax.Array], template: PyTree) -> PyTree:
  def leaf(path, like):
    value = packed.get(jax.tree_util.keystr(path), like)
    if _is_key(like) and value is not like:
      return jax.random.wrap_key_data(value, impl=jax.random.key_impl(like))
    return value

  return jax.tree_util.tree_map_with_path(leaf, template)


def _layout(packed: dict[str, jax.Array]) -> dict[str, str]:
  return {name: f"{x.dtype}{list(x.shape)}" for name, x in packed.items()}


def _checksum(packed: dict[str, jax.Array]) -> int:
  """CRC of all bytes; on several hosts each sees only its part, so nothing is summed there."""
  total = 0
  for name in sorted(packed):
    if getattr(packed[name], "is_fully_addressable", True):
      total = zlib.crc32(np.ascontiguousarray(packed[name]).tobytes(), total)
  return total


def _reason(error: BaseException) -> str:
  """Returns the first line of an error that says something, shortened."""
  return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def _passing(error: BaseException | None) -> str:
  """Names what kept a file from being read without saying anything of its contents; "" where nothing did."""
  while error is not None:
    if isinstance(error, MemoryError):
      return "out of memory"
    if isinstance(error, OSError) and error.errno in _PASSING:
      return _reason(error)
    found = next((word for word in _PASSING_WORDS if word in str(error)), "")
    if found:
      return found
    error = error.__cause__ or error.__context__
  return ""


def _unreadable(directory: pathlib.Path) -> str:
  """Reads every file below a directory; returns the first error of the system, "" for none."""
  def fail(error):
    raise error

  try:
    for folder, _, names in os.walk(directory, onerror=fail):
      for name in names:
        with open(os.path.join(folder, name), "rb") as file:
          while file.read(2**20):
            continue
  except OSError as error:
    return _passing(error)
  return ""


class Checkpointer:
  """Saves and restores states under one directory, the last `keep` of them.

  The files of a save are finished when `save` returns: the training loop donates its state, so nothing may read it
  later. They are then read back on another thread, and older checkpoints go only once that has succeeded.
  """

  def __init__(self, directory: pathlib.Path, keep: int = 3, *, read_only: bool = False):
    """Opens `directory`, and creates it unless `read_only`; `keep` is the number of newest checkpoints that stay."""
    self.directory, self._keep = check_path(pathlib.Path(directory).absolute()), keep
    options = ocp.CheckpointManagerOptions(
        max_to_keep=None, enable_async_checkpointing=False, create=not read_only, read_only=read_only)
    self._manager = ocp.CheckpointManager(self.directory, options=options)
    self._pool = concurrent.futures.ThreadPoolExecutor(1, "read back")
    self._reading: tuple[int, concurrent.futures.Future] | None = None
    self._good: int | None = None  # the newest that was read back, or restored

  def save(self, step: int, state: PyTree):
    """Writes `state` as checkpoint number `step`.

    Raises:
      RunError: if it cannot be written (a full disk ...), or the one before cannot be read back; the message names the
        newest that is intact.
    """
    self.wait()
    packed = _pack(state)
    meta = {"layout": _layout(packed), "checksum": _checksum(packed)}
    items = ocp.args.Composite(state=ocp.args.StandardSave(packed), meta=ocp.args.JsonSave(meta))
    try:
      self._manager.save(step, args=items)
    except Exception as error:  # Orbax and TensorStore raise many types
      raise RunError(f"checkpoint {step} cannot be written to {self.directory} ({_reason(error)}); {self.standing()}"
                     ) from error
    if jax.process_count() == 1:  # elsewhere each process sees only its part
      self._reading = step, self._pool.submit(self._read_back, step, meta)
    else:
      self._finish(step)

  def wait(self):
    """Waits until the last save has been read back.

    Raises:
      RunError: if it could not be.
    """
    if self._reading is None:
      return
    (step, future), self._reading = self._reading, None
    try:
      future.result()
    except Exception as error:
      raise RunError(f"checkpoint {step} was written to {self.directory} and cannot be read back ({_reason(error)}); "
                     f"{self.standing()}") from error
    self._finish(step)

  def _finish(self, step: int):
    self._good = step
    for old in self.steps()[:-self._keep]:
      self._manager.delete(old)

  def standing(self) -> str:
    """Says which checkpoint a run can go on from."""
    reading, good = self._reading, self._good
    if reading is not None and reading[1].done() and reading[1].exception() is None:
      good = reading[0]
    return "there is no checkpoint yet" if good is None else f"the last good checkpoint is of update {good}"

  def _read_back(self, step: int, meta: dict):
    """Reads the arrays of a checkpoint into the host's memory and compares their checksum."""
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
      item = {name: ocp.RestoreArgs(restore_type=np.ndarray) for name in meta["layout"]}
      packed = reader.restore(self.directory / str(step) / "state", args=ocp.args.PyTreeRestore(item, item))
    if _layout(packed) != meta["layout"] or _checksum(packed) != meta["checksum"]:
      raise ValueError("it differs from what was saved")

  def steps(self) -> list[int]:
    """Returns the numbers of the finished checkpoints, oldest first."""
    return sorted(self._manager.all_steps())

  def restore_latest(self, template: PyTree) -> tuple[PyTree, int] | None:
    """Returns the newest intact state and its step, or None where there has never been a checkpoint.

    One that is damaged is moved aside with a warning and the one before it is tried; one that only cannot be read now
    (no right to, an error of the disk or the network, no memory) stays where it is.

    Args:
      template: a state of the same structure, shapes and shardings.

    Raises:
      RunError: no checkpoint is intact, one cannot be read now, or the newest belongs to a state of another structure.
    """
    found = self.steps()
    for step in reversed(found):
      try:
        state = self._restore_patiently(step, template)
      except RunError:
        raise
      except Exception as error:  # Orbax and TensorStore raise many types; each means that this checkpoint is lost.
        warnings.warn(f"checkpoint {step} cannot be read and is set aside ({_reason(error)})", stacklevel=2)
        self._set_aside(step)
      else:
        self._good = step
        return state, step
    aside = [path.name for path in set_aside(self.directory.parent)]
    if found or aside:
      raise RunError(
          f"no intact checkpoint in {self.directory} (set aside as damaged: {', '.join(aside) or 'none'}); to start "
          f"anew delete {self.directory.parent} or choose another --workdir")
    return None

  def _restore_patiently(self, step: int, template: PyTree) -> PyTree:
    """Restores a checkpoint, at the second try if need be; RunError where the failure says nothing of its contents."""
    try:
      return self._restore(step, template)
    except RunError:
      raise
    except Exception as error:
      passing = _passing(error) or _unreadable(self.directory / str(step))
      if not passing:
        try:
          return self._restore(step, template)  # what was not there for a moment
        except RunError:
          raise
        except Exception as again:
          error, passing = again, _passing(again)
          if not passing:
            raise
      raise RunError(f"checkpoint {step} in {self.directory} cannot be read now ({passing}); it may be whole and "
                     "stays: try again, or move it away to go on from the one before") from error

  def latest(self) -> int:
    """Returns the number of the newest checkpoint; RunError where there is none."""
    if not self.steps():
      raise RunError(f"there is no finished checkpoint in {self.directory}")
    return self.steps()[-1]

  def check(self, step: int) -> int:
    """Returns `step`; RunError, with those that exist, where there is no such checkpoint."""
    if step not in self.steps():
      there = ", ".join(map(str, self.steps())) or "none"
      raise RunError(f"there is no checkpoint of step {step} in {self.directory}; those that exist: {there}")
    return step

  def restore(self, step: int, template: PyTree) -> PyTree:
    """Returns the state of one checkpoint and leaves the directory as it is.

    Args:
      step: number of the checkpoint.
      template: a state of the same structure, shapes and shardings.

    Raises:
      RunError: there is no such checkpoint, it cannot be read, or it belongs to a state of another structure.
    """
    try:
      return self._restore(self.check(step), template)
    except RunError:
      raise
    except Exception as error:  # as in `restore_latest`
      raise RunError(f"checkpoint {step} in {self.directory} cannot be read ({_reason(error)})") from error

  def close(self):
    """Reads back what was saved last, with a warning where that fails, and releases the threads."""
    try:
      self.wait()
    except RunError as error:
      warnings.warn(str(error), stacklevel=2)
    self._pool.shutdown()
    self._manager.close()

  def _restore(self, step: int, template: PyTree) -> PyTree:
    meta = self._manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))["meta"]
    like = _pack(template)
    if meta["layout"] != _layout(like):
      changed = sorted(set(meta["layout"].items()) ^ set(_layout(like).items()))[0]
      raise RunError(f"checkpoint {step} in {self.directory} holds another state than this code builds "
                     f"({changed[0]}: {changed[1]} is on one side only)")
    abstract = {name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding) for name, x in like.items()}
    items = ocp.args.Composite(state=ocp.args.StandardRestore(abstract))
    packed = self._manager.restore(step, args=items)["state"]
    if _checksum(packed) != meta["checksum"]:
      raise ValueError("its checksum does not match its contents")
    return _unpack(packed, template)

  def _set_aside(self, step: int):
    names = itertools.chain([f"{SET_ASIDE}{step}"], (f"{SET_ASIDE}{step}-{i}" for i in itertools.count(1)))
    target = next(path for name in names if not (path := self.directory.parent / name).exists())
    (self.directory / str(step)).rename(target)
    self._manager.reload()
