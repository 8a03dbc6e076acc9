"""The directory of a run: what the host loop reads of a config, and whether a directory belongs to it."""

from collections.abc import Iterator, Mapping
import contextlib
import dataclasses
import hashlib
import json
import pathlib
import tempfile

import ml_collections

from rlcore.training import judging
from rlcore.training.errors import RunError

CHECKPOINTS = "checkpoints"
CONFIG = "config.json"


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


def prepare_workdir(workdir: str | pathlib.Path, config: ml_collections.ConfigDict) -> pathlib.Path:
  """Creates a run's directory, or checks that an existing one belongs to this config.

  Args:
    workdir: the directory.
    config: the config; `RunOptions` and how a judge is reached may differ from those of the earlier run.

  Returns:
    The directory.

  Raises:
    RunError: if it cannot be written, or its `config.json` is of another config.
  """
  workdir = pathlib.Path(workdir)
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=workdir):
      pass
  except OSError as error:
    raise RunError(f"cannot write the run directory {workdir}: {error.strerror or error}") from error
  mine = json.loads(config.to_json_best_effort(sort_keys=True))
  path = workdir / CONFIG
  if path.exists() and any((workdir / CHECKPOINTS).glob("[0-9]*")):  # without a checkpoint nothing is resumed
    try:
      theirs = json.loads(path.read_text())
    except json.JSONDecodeError as error:
      raise RunError(f"{path} is not JSON ({error}); choose another --workdir") from error
    free = {field.name for field in dataclasses.fields(RunOptions)} | {f"judge.{name}" for name in judging.TRANSPORT}
    changed = [text for name, text in _differences(theirs, mine) if name not in free]
    if changed:
      raise RunError(f"{workdir} is the run of another config; it differs in {', '.join(changed)} "
                     "(choose another --workdir, or the old values)")
  path.write_text(json.dumps(mine, indent=2, sort_keys=True) + "\n")
  return workdir


def code_changed(workdir: pathlib.Path, source: pathlib.Path) -> bool:
  """Tells whether a run that would be resumed was begun by another version of a file, and notes the version.

  Args:
    workdir: the run's directory, prepared.
    source: the file that composes the experiment.

  Returns:
    True if there is a checkpoint and the file has changed since the directory's first run.
  """
  note, digest = workdir / "code.json", hashlib.sha256(source.read_bytes()).hexdigest()
  begun = any((workdir / CHECKPOINTS).glob("[0-9]*"))
  if begun and note.exists():
    return json.loads(note.read_text()).get("sha256") != digest
  note.write_text(json.dumps({"file": source.name, "sha256": digest}) + "\n")
  return False


@contextlib.contextmanager
def claim_workdir(workdir: str | pathlib.Path, config: ml_collections.ConfigDict) -> Iterator[pathlib.Path]:
  """Prepares a run's directory for a `with` block, and takes it away again if the block fails before it wrote there.

  A directory that was there before stays.

  Args:
    workdir: the directory.
    config: the config.

  Yields:
    The directory.

  Raises:
    RunError: as `prepare_workdir` does.
  """
  is_new = not pathlib.Path(workdir).exists()
  workdir = prepare_workdir(workdir, config)
  try:
    yield workdir
  except BaseException:
    if is_new and [path.name for path in workdir.iterdir()] == [CONFIG]:
      (workdir / CONFIG).unlink()
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
