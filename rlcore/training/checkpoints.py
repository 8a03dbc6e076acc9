"""Checkpoints of a whole training state: arrays and PRNG keys, verified when they are read back."""

import pathlib
import warnings
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from rlcore.training.errors import RunError
from rlcore.types import PyTree


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


class Checkpointer:
  """Saves and restores states under one directory, the last `keep` of them.

  A save is finished when `save` returns: the training loop donates its state, so nothing may read it later.
  """

  def __init__(self, directory: pathlib.Path, keep: int = 3, *, read_only: bool = False):
    """Opens `directory`, and creates it unless `read_only`; `keep` is the number of newest checkpoints that stay."""
    self.directory = pathlib.Path(directory).absolute()
    options = ocp.CheckpointManagerOptions(
        max_to_keep=None if read_only else keep, enable_async_checkpointing=False, create=not read_only,
        read_only=read_only)
    self._manager = ocp.CheckpointManager(self.directory, options=options)

  def save(self, step: int, state: PyTree):
    """Writes `state` as checkpoint number `step`."""
    packed = _pack(state)
    meta = {"layout": _layout(packed), "checksum": _checksum(packed)}
    items = ocp.args.Composite(state=ocp.args.StandardSave(packed), meta=ocp.args.JsonSave(meta))
    self._manager.save(step, args=items)

  def steps(self) -> list[int]:
    """Returns the numbers of the finished checkpoints, oldest first."""
    return sorted(self._manager.all_steps())

  def restore_latest(self, template: PyTree) -> tuple[PyTree, int] | None:
    """Returns the newest intact state and its step, or None where there is no checkpoint.

    A checkpoint that cannot be read is moved aside with a warning and the one before it is tried.

    Args:
      template: a state of the same structure, shapes and shardings.

    Raises:
      RunError: no checkpoint is intact, or the newest belongs to a state of another structure.
    """
    found = self.steps()
    for step in reversed(found):
      try:
        return self._restore(step, template), step
      except RunError:
        raise
      except Exception as error:  # Orbax and TensorStore raise many types; each means that this checkpoint is lost.
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        warnings.warn(f"checkpoint {step} cannot be read and is set aside ({reason[:200]})", stacklevel=2)
        self._set_aside(step)
    if found:
      raise RunError(f"no intact checkpoint in {self.directory}; delete that directory to start the run anew")
    return None

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
      reason = (str(error).strip() or type(error).__name__).splitlines()[0]
      raise RunError(f"checkpoint {step} in {self.directory} cannot be read ({reason[:200]})") from error

  def close(self):
    """Releases Orbax's threads."""
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
    target = self.directory.parent / f"corrupt-checkpoint-{step}"
    number = 0
    while target.exists():
      number += 1
      target = self.directory.parent / f"corrupt-checkpoint-{step}-{number}"
    (self.directory / str(step)).rename(target)
    self._manager.reload()
