"""The directory of a run: what the host loop reads of a config, and whether a directory belongs to it."""

from collections.abc import Collection, Iterator, Mapping
import contextlib
import dataclasses
import json
import pathlib
import re
import tempfile
from typing import Any

import ml_collections

from rlcore.training import code, files, judging, locks
from rlcore.training.errors import RunError

CHECKPOINTS = "checkpoints"
CONFIG = "config.json"
CODE = "code.json"
SET_ASIDE = "corrupt-checkpoint-"
_GLOB = "[*?\\"
_USER = re.compile(r"(\w://)[^\s\"']*@")
_QUERY = re.compile(r"(\bhttps?://[^\s\"'?]*)\?[^\s\"']+")


@dataclasses.dataclass(frozen=True)
class RunOptions:
  """The part of a config that the host loop reads; all of it may change when a run is resumed.

  Attributes:
    steps: main updates, after the warm-up.
    log_every: updates of one compiled chunk; metrics reach the disk and the screen after each chunk.
    eval_every: main updates between evaluations, 0 for before and after only.
    checkpoint_every: updates between checkpoints, 0 for the end only.
    keep_checkpoints: how many of the newest checkpoints stay on the disk.
    max_nonfinite: stop after this many updates in a row with a non-finite loss, gradient or reward.
    progress_metric: shown live.
  """

  steps: int
  log_every: int = 10
  eval_every: int = 0
  checkpoint_every: int = 0
  keep_checkpoints: int = 3
  max_nonfinite: int = 5
  progress_metric: str = "success"

  def __post_init__(self):
    for name, least in (("steps", 0), ("log_every", 1), ("eval_every", 0), ("checkpoint_every", 0),
                        ("keep_checkpoints", 1), ("max_nonfinite", 1)):
      if getattr(self, name) < least:
        raise RunError(f"{name} must be at least {least}, not {getattr(self, name)}")

  @classmethod
  def from_config(cls, config: ml_collections.ConfigDict) -> "RunOptions":
    """Picks the loop's fields out of a config; those it lacks keep their defaults."""
    check_options(config)
    return cls(**{field.name: config[field.name] for field in dataclasses.fields(cls) if field.name in config})


FREE = frozenset(field.name for field in dataclasses.fields(RunOptions)) | {
    f"judge.{name}" for name in judging.TRANSPORT}


def check_options(config: ml_collections.ConfigDict):
  """Checks the types of `seed` and of the fields of `RunOptions` that a config has.

  Raises:
    RunError: for the first that is neither a whole number nor, for `progress_metric`, a text.
  """
  for name in ("seed", *(field.name for field in dataclasses.fields(RunOptions))):
    if name not in config:
      continue
    value = config[name]
    if name == "progress_metric":
      if not isinstance(value, str):
        raise RunError(f"{name}={value!r} is no name of a metric")
    elif isinstance(value, bool) or not hasattr(value, "__index__"):
      raise RunError(f"{name}={value!r} is no whole number")


def prepare_workdir(workdir: str | pathlib.Path, config: ml_collections.ConfigDict, *,
                    free: Collection[str] = FREE) -> pathlib.Path:
  """Creates a run's directory, or checks that an existing one belongs to this config.

  What a URL in the config carries beside host and path (a password, a key) is not written.

  Args:
    workdir: the directory.
    config: the config.
    free: dotted keys that may differ from those of the earlier run; by default `RunOptions` and how a judge is reached.

  Returns:
    The directory.

  Raises:
    RunError: if it cannot be written, cannot hold checkpoints, or its `config.json` is of another config.
  """
  workdir = check_path(workdir)
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=workdir):
      pass
  except OSError as error:
    raise RunError(f"cannot write the run directory {workdir}: {error.strerror or error}") from error
  mine = redacted(json.loads(config.to_json_best_effort(sort_keys=True)))
  path = workdir / CONFIG
  if path.exists():
    _check_config(workdir, mine, free)
  files.replace_text(path, _written(mine))
  return workdir


def check_path(workdir: str | pathlib.Path) -> pathlib.Path:
  """Returns a path as one.

  Raises:
    RunError: if it has characters with which no checkpoint in it could be read back.
  """
  workdir = pathlib.Path(workdir)
  whole = str(workdir.absolute())
  bad = sorted(set(whole) & set(_GLOB))
  if bad:
    raise RunError(f"the directory {whole} has {' and '.join(bad)} in its path, which Orbax takes for a pattern, so "
                   "that it could not read its checkpoints back: choose another --workdir")
  try:
    whole.encode()
  except UnicodeEncodeError as error:
    shown = whole.encode("utf-8", "backslashreplace").decode()
    raise RunError(f"the path {shown} is not UTF-8: choose another --workdir") from error
  return workdir


def _written(config: Any) -> str:
  return json.dumps(config, indent=2, sort_keys=True) + "\n"


def _check_config(workdir: pathlib.Path, mine: Mapping[str, Any], free: Collection[str]):
  """Compares a config with that of the earlier run in a directory, if there is anything to go on from."""
  path = workdir / CONFIG
  begun = is_begun(workdir)
  try:
    theirs = files.read_json(path)
  except RunError as error:
    if begun:
      raise RunError(f"{error}; choose another --workdir") from error
    return
  clean = redacted(theirs)
  if clean != theirs:  # of an earlier version, which wrote passwords: not even a run that is refused leaves them there
    files.replace_text(path, _written(clean))
  changed = [text for name, text in _differences(clean, mine) if name not in free] if begun else []
  if changed:
    raise RunError(f"{workdir} is the run of another config; it differs in {', '.join(changed)} "
                   "(choose another --workdir, or the old values)")


def is_begun(workdir: pathlib.Path) -> bool:
  """Tells whether a directory holds anything to go on from: checkpoints, set aside or not, or groups of a sweep."""
  return bool(any((workdir / CHECKPOINTS).glob("[0-9]*")) or set_aside(workdir) or any(workdir.glob("group-*.json")))


def code_changed(workdir: pathlib.Path, *sources: pathlib.Path) -> list[str]:
  """Tells whether what would be resumed was begun by other code, and notes the code where nothing is there yet.

  Args:
    workdir: the run's directory, prepared.
    *sources: files that count beside the imported ones: the config's.

  Returns:
    The modules (or names of `sources`) that have changed since the directory's first run; empty where there is nothing
    to go on from, or where the note of it cannot be read.
  """
  note, now = workdir / CODE, code.imported(*sources)
  if is_begun(workdir) and note.exists():
    try:
      then = files.read_json(note)
      if "files" not in then:  # of an earlier version: one file
        return [name for name in (then["file"],) if then["sha256"] not in now.values()]
      return sorted(name for name, digest in then["files"].items() if now.get(name, digest) != digest)
    except (RunError, KeyError, TypeError, AttributeError):
      return []  # damaged; what the run was begun with can no longer be said
  files.replace_text(note, json.dumps(code.describe() | {"files": now}, indent=1) + "\n")
  return []


def set_aside(workdir: pathlib.Path) -> list[pathlib.Path]:
  """Returns the checkpoints that were found damaged and taken out of the run."""
  return sorted(workdir.glob(f"{SET_ASIDE}*"))


def redacted(value: Any) -> Any:
  """Returns a value of JSON, or a text, without the user, password and query of the URLs in it."""
  if isinstance(value, str):
    return _QUERY.sub(r"\1?***", _USER.sub(r"\1***@", value))
  if isinstance(value, Mapping):
    return {redacted(key): redacted(inner) for key, inner in value.items()}
  return [redacted(inner) for inner in value] if isinstance(value, list) else value


@contextlib.contextmanager
def claim_workdir(workdir: str | pathlib.Path, config: ml_collections.ConfigDict, *, lock: str = locks.LOCK,
                  free: Collection[str] = FREE) -> Iterator[pathlib.Path]:
  """Prepares a run's directory and locks it for a `with` block.

  A directory that was not there before is taken away again if the block fails before it wrote there.

  Args:
    workdir: the directory.
    config: the config.
    lock: name of the lock, where a directory has several.
    free: as in `prepare_workdir`.

  Yields:
    The directory.

  Raises:
    RunError: as `prepare_workdir` does, or if another process works in it.
  """
  workdir = check_path(workdir)
  is_new = not workdir.exists()
  with contextlib.ExitStack() as stack:
    try:
      workdir.mkdir(parents=True, exist_ok=True)
      stack.enter_context(locks.hold(workdir, lock))
    except OSError as error:
      raise RunError(f"cannot write the run directory {workdir}: {error.strerror or error}") from error
    try:
      yield prepare_workdir(workdir, config, free=free)
    except BaseException:
      if is_new and {path.name for path in workdir.iterdir()} <= {CONFIG, lock}:
        (workdir / CONFIG).unlink(missing_ok=True)
        stack.close()
        workdir.rmdir()
      raise


def _differences(old, new, name: str = "") -> list[tuple[str, str]]:
  """Returns the dotted key of every value that differs, with a text that shows both."""
  if not (isinstance(old, Mapping) and isinstance(new, Mapping)):
    return [] if old == new else [(name, f"{name} ({json.dumps(old)} there, {json.dumps(new)} here)")]
  found = []
  for key in sorted(old.keys() | new.keys()):
    inner = f"{name}.{key}" if name else key
    if key in old and key in new:
      found += _differences(old[key], new[key], inner)
    else:
      found.append((inner, f"{inner} (only {'here' if key in new else 'there'})"))
  return found
