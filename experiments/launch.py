"""What the commands share: reading `--config`, finding the experiment, one clear line for every error."""

from collections.abc import Callable, Sequence
import importlib
import importlib.util
import math
import pathlib
import re
import sys
import traceback
import types
from typing import NamedTuple
import warnings

from absl import app
from absl import flags
from absl import logging
import ml_collections
from ml_collections import config_flags
import rich.console

from rlcore import assistants
from rlcore.training import compilation, judging, memory, signals
from rlcore.training.errors import NonFiniteError, RunError
from rlcore.training.workdir import check_options, redacted
from rlcore.types import Experiment

CONFIG = config_flags.DEFINE_config_file("config", None, "Config file, path.py or path.py:variant.")
WORKDIR = flags.DEFINE_string("workdir", None, "Directory of the run; default below runs/, after the config.")
LANES = flags.DEFINE_integer("lanes", 32, "Of comparisons and sweeps: the most runs in one call of a program; fewer "
                                          "need less memory.")
DEBUG = flags.DEFINE_bool("debug", False, "Show the traceback of an error.")

BAD_INPUT, NON_FINITE = 2, 1  # exit codes


class Job(NamedTuple):
  """What a command was asked to run.

  Attributes:
    config: the config with the overrides of the command line, locked.
    module: the config file as a module (`ARMS`, `CLAIM`, `sweep`, ... live there).
    name: stem of the config file.
    variant: what follows the colon, or "".
    overrides: paths of the keys set on the command line.
  """

  config: ml_collections.ConfigDict
  module: types.ModuleType
  name: str
  variant: str
  overrides: tuple[str, ...]

  @property
  def experiment_module(self) -> types.ModuleType:
    """The module that `config.experiment` names."""
    return import_experiment(self.config)

  @property
  def full_name(self) -> str:
    """Name with the variant, fit for a directory."""
    return f"{self.name}-{self.variant}" if self.variant else self.name


def import_experiment(config: ml_collections.ConfigDict) -> types.ModuleType:
  """Imports the module that `config.experiment` names.

  Raises:
    RunError: if there is none of that name.
  """
  if not all(part.isidentifier() for part in str(config.experiment).split(".")):
    raise RunError(f"config.experiment={config.experiment!r} is no name of a module (as experiments.credit.tempo)")
  try:
    return importlib.import_module(config.experiment)
  except ModuleNotFoundError as error:
    if error.name and config.experiment.startswith(error.name):
      raise RunError(f"config.experiment names {config.experiment!r}, but there is no such module") from error
    raise


def make_experiment(config: ml_collections.ConfigDict) -> Experiment:
  """Builds the experiment of a config.

  Raises:
    RunError: where a library that it needs is not installed; the error says which.
  """
  module = import_experiment(config)
  try:
    return module.make_experiment(config)
  except ImportError as error:
    raise RunError(str(error)) from error


def load_module(path: pathlib.Path) -> types.ModuleType:
  """Loads a config file as a module."""
  spec = importlib.util.spec_from_file_location(f"config_{path.stem}", path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def job() -> Job:
  """Returns the job that the parsed command line describes."""
  if CONFIG.value is None:
    raise RunError("which config? give --config=configs/quickstart.py")
  path, _, variant = config_flags.get_config_filename(flags.FLAGS["config"]).partition(":")
  config = CONFIG.value.lock()
  check_options(config)  # an experiment that is built of them would fail deeper
  overrides = tuple(sorted(config_flags.get_override_values(flags.FLAGS["config"])))
  return Job(config, load_module(pathlib.Path(path)), pathlib.Path(path).stem, variant, overrides)


def _check_arguments(argv: Sequence[str]):
  """Complains of what the flags would take in silence.

  Raises:
    RunError: for an argument that is no text, a number too large for a float, and a config file that is not there,
      which ml_collections would only say when the config is used.
  """
  for i, argument in enumerate(argv):
    if not argument.isprintable() and any("\ud800" <= c <= "\udfff" for c in argument):
      raise RunError(f"the argument {argument.encode('utf-8', 'backslashreplace').decode()} is not UTF-8")
    name, equals, value = argument.lstrip("-").partition("=")
    if argument.startswith("-") and name == "config":
      path = (value if equals else "".join(argv[i + 1:i + 2])).partition(":")[0]
      if not pathlib.Path(path).is_file():
        raise RunError(f"there is no config file {path!r}")
    value = value if equals else "".join(argv[i + 1:i + 2])
    if argument.startswith("--config.") and re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE]\+?\d+)?", value):
      if math.isinf(float(value)):
        raise RunError(f"{name}={value[:40]} is too large a number")


def _parse(argv: Sequence[str]) -> list[str]:
  try:
    _check_arguments(argv)
    return flags.FLAGS(list(argv))
  except (flags.Error, AttributeError, KeyError, TypeError, ValueError, RunError) as error:
    fail(error)


def _explain(error: BaseException) -> str:
  """The one line that names the cause."""
  if isinstance(error, AttributeError):  # of ml_collections: a key that the config does not have
    words = str(error).replace("\\n", "\n").replace("\\'", "'")
    key = words.splitlines()[0].strip("\"'")
    near = re.search(r'Did you mean "(.+?)" instead', words)
    return f'the config has no key "{key}"' + (f'; did you mean "{near[1]}"?' if near else "")
  lines = [line.strip() for line in str(error).splitlines() if line.strip()]
  if isinstance(error, flags.Error):
    # absl puts the traceback of an error inside the config file into the message; its last line is the cause.
    causes = [line for line in lines if re.match(r"\w+Error: ", line)]
    return causes[-1].partition(": ")[2] if causes else lines[0]
  if isinstance(error, OSError) and error.filename:
    return f"{error.strerror}: {error.filename}"
  return "; ".join(lines[:2]) or type(error).__name__


def report(error: BaseException) -> int:
  """Prints one line that names the cause; returns the exit code."""
  if "--debug" in sys.argv:
    traceback.print_exception(error)
  print(f"error: {redacted(_explain(error))}", file=sys.stderr)
  return NON_FINITE if isinstance(error, NonFiniteError) else BAD_INPUT


def fail(error: BaseException):
  """Prints one line that names the cause and ends the process."""
  sys.exit(report(error))


def launch(main: Callable[[Job], int | None], *, needs_config: bool = True):
  """Runs a command: `main(job)` with the compilation cache on, errors of the user's making as one line.

  After an error, and at a signal that has nothing to save, the process ends at once, whatever its other threads (the
  compiler, a language model that answers) still do.

  Args:
    main: the command; returns its exit code.
    needs_config: False hands `main` None where no --config was given.
  """
  memory.keep_freed_memory()  # before the config's modules may compute something
  warnings.showwarning = lambda message, *_, **__: print(f"warning: {redacted(str(message))}", file=sys.stderr)

  def run(_):
    if not DEBUG.value:
      logging.set_verbosity(logging.WARNING)  # Orbax tells every step of a save at INFO
    compilation.enable_cache()
    with signals.watching():
      code = _attempt(lambda: main(job() if needs_config or CONFIG.value is not None else None))
      for line in judging.reports():
        print(line)
      judging.close()
      if code:
        signals.finish(code)
    sys.exit(code)

  app.run(run, flags_parser=_parse)


def _attempt(command: Callable[[], int | None]) -> int:
  """Runs a command and returns its exit code, whatever it raises."""
  try:
    with assistants.own_errors():
      return command() or 0
  except (assistants.AssistantError, RunError, ValueError, OSError) as error:
    return report(error)
  except ArithmeticError as error:  # of a size of 0, a number too large
    told = RunError(f"{type(error).__name__}: {error} (--debug shows where)")
    return report(told.with_traceback(error.__traceback__))
  except SystemExit as error:
    if isinstance(error.code, str):
      print(error.code, file=sys.stderr)
    return error.code if isinstance(error.code, int) else int(error.code is not None)
  except Exception as error:  # a fault of ours or of an experiment: the traceback is what helps
    traceback.print_exception(error)
    return 1


def console() -> rich.console.Console:
  """The console of the command's output, on which brackets in a path or a name are brackets."""
  return rich.console.Console(highlight=False, markup=False)
