"""Answers of a language model on disk, one file a request."""

from collections.abc import Mapping
import hashlib
import json
import logging
import os
import pathlib
import tempfile
from typing import Any

_LOG = logging.getLogger(__name__)


def request_key(request: Mapping[str, Any]) -> str:
  """Hashes a request: model, messages, sampling settings and seed, whatever the order of its fields."""
  return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()


def _digest(text: str) -> str:
  return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class CallCache:
  """A directory of answers; any number of threads and processes may use it at a time.

  A file appears whole or not at all. One that is damaged is not used, and said to be so; a directory that cannot be
  written costs the memory of the answer, never the answer.
  """

  def __init__(self, directory: str | os.PathLike):
    self.directory = pathlib.Path(directory)

  def path(self, request: Mapping[str, Any]) -> pathlib.Path:
    """Returns where the answer to a request is kept."""
    key = request_key(request)
    return self.directory / key[:2] / f"{key}.json"

  def get(self, request: Mapping[str, Any]) -> str | None:
    """Returns the answer to a request, None where there is none that can be trusted."""
    path = self.path(request)
    try:
      entry = json.loads(path.read_text(encoding="ascii"))
      if entry["sha256"] == _digest(entry["answer"]) and entry["request"] == request:
        return entry["answer"]
      reason = "its checksum or its request is another"
    except FileNotFoundError:
      return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
      reason = f"{type(error).__name__}: {error}"
    _LOG.warning("the cached answer %s is damaged and is asked for again (%s)", path, reason)
    return None

  def put(self, request: Mapping[str, Any], answer: str):
    """Keeps an answer."""
    path = self.path(request)
    text = json.dumps({"request": request, "answer": answer, "sha256": _digest(answer)})
    try:
      path.parent.mkdir(parents=True, exist_ok=True)
      handle, name = tempfile.mkstemp(dir=path.parent, suffix=".partial")
      try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
          file.write(text)
        os.replace(name, path)
      except OSError:
        os.unlink(name)
        raise
    except OSError as error:
      _LOG.warning("the answer could not be cached in %s: %s", self.directory, error)
