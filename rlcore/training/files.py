"""Files that a later command reads: whole or not there at all, whatever stops the process that writes them."""

from collections.abc import Callable, Mapping
import json
import os
import pathlib
import secrets
from typing import Any, BinaryIO
import zipfile
import zlib

import numpy as np

from rlcore.training.errors import RunError

_TORN = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, KeyError, NotImplementedError)


def replace(path: str | os.PathLike, write: Callable[[BinaryIO], object]):
  """Writes a file under a temporary name beside it, puts it on the disk and gives it its name.

  Until then a file of that name stays as it was; one that a symbolic link points to is replaced, not the link.

  Args:
    path: the file.
    write: called with the open binary file.

  Raises:
    OSError: if it cannot be written; nothing is left of the attempt. Its `filename` is `path`.
  """
  target = pathlib.Path(os.path.realpath(path))
  # No suffix of its own: whoever lists "*.json" meanwhile must not find it.
  temporary = target.with_name(f".{target.name[:100]}.{secrets.token_hex(4)}.partial")
  try:
    try:
      with open(temporary, "xb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
      os.replace(temporary, target)
    except BaseException:
      temporary.unlink(missing_ok=True)
      raise
  except OSError as error:
    raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def replace_text(path: str | os.PathLike, text: str):
  """Writes a text file as `replace` does, in UTF-8."""
  replace(path, lambda file: file.write(text.encode()))


def replace_arrays(path: str | os.PathLike, arrays: Mapping[str, np.ndarray]):
  """Writes an `.npz` file as `replace` does."""
  replace(path, lambda file: np.savez(file, **arrays))


def read_json(path: str | os.PathLike, what: str = "JSON") -> Any:
  """Reads a JSON file; `what` it should be is said where it is none.

  Raises:
    RunError: if it is none; the message names the file.
    OSError: if it cannot be opened or read.
  """
  try:
    return json.loads(pathlib.Path(path).read_bytes())
  except (ValueError, RecursionError) as error:  # ValueError: no JSON, or no text
    raise RunError(f"{path} is not {what} ({error})") from error


def read_arrays(path: str | os.PathLike) -> dict[str, np.ndarray] | None:
  """Reads an `.npz` file; None where there is none, or one that is torn or damaged.

  Raises:
    OSError: if it cannot be opened or read for a reason that says nothing of what is in it.
  """
  try:
    with open(path, "rb") as file, np.lib.npyio.NpzFile(file) as archive:
      return dict(archive)
  except FileNotFoundError:
    return None
  except _TORN:
    return None
