"""The two ways of running an experiment: a host loop over compiled chunks, and a whole run as one pure function."""

import collections
from collections.abc import Callable, Mapping
import concurrent.futures
import contextlib
import errno
import pathlib
import signal
from typing import NamedTuple

import jax
import ml_collections
import numpy as np
import rich.console

from rlcore import assistants
from rlcore.training import checkpoints, compilation, programs, signals
from rlcore.training import metrics as metrics_lib
from rlcore.training import progress as progress_lib
from rlcore.training import state as state_lib
from rlcore.training.errors import NonFiniteError, RunError
from rlcore.training.workdir import CHECKPOINTS, CONFIG, RunOptions, claim_workdir
from rlcore.types import Array, Experiment, Metrics, PyTree

_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO}
_ENOUGH = 5  # main updates without any credit, after which it is said



class RunResult(NamedTuple):
  """What a run came to.

  Attributes:
    state: the final state.
    before: held-out metrics before the main updates, after the warm-up.
    after: held-out metrics at the end; None where the run was interrupted.
    step: updates done, the warm-up included.
    received: the signal that ended the run early, or None.
    seconds: wall time of this call.
    compile_seconds: the part of it that was compilation.
    paths: what was written, by name.
  """

  state: PyTree
  before: dict[str, float] | None
  after: dict[str, float] | None
  step: int
  received: signal.Signals | None
  seconds: float
  compile_seconds: float
  paths: dict[str, pathlib.Path]


def train(experiment: Experiment, steps: int) -> Callable[[Array], tuple[PyTree, Metrics]]:
  """Makes a whole run, warm-up included, one pure function of its key.

  Args:
    experiment: a jittable experiment.
    steps: main updates.

  Returns:
    `(key) -> (state, metrics)`, the metrics of the main updates stacked `[steps]`; `vmap` it over keys.

  Raises:
    ValueError: if the experiment calls host code.
  """
  if not experiment.jittable:
    raise ValueError("this experiment calls host code, so it cannot be scanned; use loop.run")

  def whole(key):
    state = programs.strengthen(experiment.init(key))
    scan = lambda update, state, length: jax.lax.scan(lambda s, _: update(s), state, None, length)
    if experiment.warmup is not None:
      state, _ = scan(experiment.warmup.update, state, experiment.warmup.steps)
    return scan(experiment.update, state, steps)

  return whole


def run(experiment: Experiment, config: ml_collections.ConfigDict, workdir: str | pathlib.Path, *,
        console: rich.console.Console | None = None) -> RunResult:
  """Trains an experiment and writes everything about it under `workdir`; resumes where a checkpoint is there.

  The first SIGTERM or SIGINT ends the run after the current chunk, with a checkpoint; the second, or one while nothing
  would be lost (before the first update, say), ends it at once: see `signals`. No other run may use the directory.

  Args:
    experiment: what to train.
    config: `RunOptions` are read from it, `seed` starts the run, all of it is written to `config.json`.
    workdir: directory of the run; created if missing.
    console: where progress is shown.

  Returns:
    `RunResult`.

  Raises:
    RunError: the directory cannot be written (any more), is in use, or belongs to another config, or no checkpoint in
      it is intact.
    NonFiniteError: too many updates in a row were not finite; the state is saved.
    AssistantError: a language model that judges did not answer; what the last checkpoint holds is saved.
  """
  options = RunOptions.from_config(config)
  with claim_workdir(workdir, config) as workdir, assistants.own_errors():
    return _Run(experiment, options, workdir, console).run(jax.random.key(config.seed))


class _Run:
  """One call of `run`: the state, where it stands, and everything it is written to."""

  def __init__(self, experiment: Experiment, options: RunOptions, workdir: pathlib.Path,
               console: rich.console.Console | None):
    self._experiment, self._options, self._workdir = experiment, options, workdir
    self._warmup_steps = experiment.warmup.steps if experiment.warmup else 0
    self._total = self._warmup_steps + options.steps
    self._progress = progress_lib.Progress(options.progress_metric, console)
    self._stage = ""
    self._streak = 0
    self._uncredited = 0  # main updates of this call, as long as every one had advantages of 0 and was finite
    self._nonfinite = collections.Counter()  # updates of this call in which a quantity was not finite, by its name
    self._done = 0  # updates of this call
    self._step = 0
    self._checkpointer: checkpoints.Checkpointer | None = None
    self._interrupts = signals.Interrupts(self._progress.message, self._standing)

  def run(self, key: Array) -> RunResult:
    with compilation.Stopwatch() as watch:
      try:
        with self._interrupts:
          self._train(key)
      except OSError as error:  # of the log or a picture; checkpoints say it themselves
        if error.errno not in _DISK:
          raise
        raise RunError(f"cannot write {error.filename or self._workdir} ({error.strerror or error}) at update "
                       f"{self._step}; {self._standing()}") from error
    finished = self._step >= self._total
    paths = {"curves": self._curves_path, "metrics": self._log.path, "clock": self._log.clock_path,
             "tensorboard": self._log.tensorboard_dir, "checkpoints": self._checkpointer.directory,
             "config": self._workdir / CONFIG}
    return RunResult(
        state=self._state, before=self._evaluation(self._warmup_steps),
        after=self._evaluation(self._step) if finished else None, step=self._step,
        received=None if finished else self._interrupts.received, seconds=watch.seconds + watch.compile_seconds,
        compile_seconds=watch.compile_seconds, paths=paths)

  def _train(self, key: Array):
    if self._experiment.preparation:
      self._progress.message(f"preparing: {self._experiment.preparation}")
    self._state = programs.init_state(self._experiment, key)
    self._checkpointer = checkpoints.Checkpointer(self._workdir / CHECKPOINTS, self._options.keep_checkpoints)
    restored = self._checkpointer.restore_latest(self._state)
    if restored is not None:
      self._state, self._step = restored
      self._progress.message(f"resumed at update {self._step} from {self._checkpointer.directory}")
    self._log = metrics_lib.MetricsLog(self._workdir, self._step)
    self._programs = programs.Programs(self._experiment, self._options.log_every, self._state)
    with contextlib.ExitStack() as stack:
      stack.callback(self._checkpointer.close)
      stack.callback(self._plot)
      stack.callback(self._log.close)
      stack.enter_context(self._progress)
      pool = concurrent.futures.ThreadPoolExecutor(1)
      stack.callback(pool.shutdown, wait=False, cancel_futures=True)  # nobody waits for the compiler
      self._programs.compile_ahead(self._needed(), self._state, pool)
      self._loop()
      self._warn()

  def _warn(self):
    """Says what of this call was in vain."""
    if self._nonfinite:
      told = ", ".join(f"{name} in {count}" for name, count in self._nonfinite.items())
      self._progress.message(f"warning: non-finite {told} of {self._done} updates, each of which was skipped")
    if self._uncredited >= _ENOUGH and not self._nonfinite:
      self._progress.message(
          "warning: the advantages were 0 in every update, so nothing was learned. Are all rewards of a group equal, "
          "or does the estimator compare the members of groups of one (group_size)?")

  def _standing(self) -> str:
    """Says what the directory holds, for whoever ends the run."""
    if self._checkpointer is None:
      return f"{self._workdir} is as it was"
    return f"{self._checkpointer.standing()}; resume with --workdir={self._workdir}"

  def _needed(self) -> list[str]:
    """Names the programs that this call will run, the first one first."""
    if self._step >= self._total:
      return [programs.EVALUATE] if self._evaluation_due() else []
    names = ["train", programs.EVALUATE] if self._options.steps else [programs.EVALUATE]
    if self._step <= self._warmup_steps:
      names.reverse()  # an evaluation comes before the main updates
    return [self._experiment.warmup.name, *names] if self._step < self._warmup_steps else names

  def _warn_of(self, told: Mapping[str, float]):
    """Says in a line why an evaluation has no number."""
    lost = [name for name, value in told.items() if np.isnan(value)]
    if told.get("unfinished"):
      self._progress.message(f"warning: {told['unfinished']:.0%} of the episodes of this evaluation did not end "
                             "within 8 horizons of the world, so their means are NaN")
    elif lost:
      self._progress.message(f"warning: this evaluation has no number for {', '.join(lost)}"
                             + (": it played no episode" if "unfinished" in told else ""))

  def _loop(self):
    while True:
      finished = self._step >= self._total
      stop = finished or self._interrupts.received is not None
      if (finished or not stop) and self._evaluation_due():
        told = self._programs.evaluate(self._state)
        self._warn_of(told)
        self._log.write(self._step, {f"eval/{k}": v for k, v in told.items()})
      if stop or self._due(self._options.checkpoint_every, self._step) or self._step == self._warmup_steps:
        self._save()
      if stop:
        self._checkpointer.wait()
        return
      self._advance()

  @property
  def _curves_path(self) -> pathlib.Path:
    return self._workdir / "curves.png"

  def _plot(self):
    from rlcore.training import plots  # Matplotlib takes a second to import, which nothing before the end needs.
    plots.plot_run(metrics_lib.read_history(self._log.path), self._curves_path, warmup_steps=self._warmup_steps)

  def _evaluation(self, step: int) -> dict[str, float] | None:
    row = self._log.evaluations.get(step)
    return row and {name.removeprefix("eval/"): value for name, value in row.items() if name.startswith("eval/")}

  def _due(self, every: int, step: int) -> bool:
    return every > 0 and step > 0 and step % every == 0

  def _evaluation_due(self) -> bool:
    main = self._step - self._warmup_steps
    due = main == 0 or self._step == self._total or self._due(self._options.eval_every, main)
    return due and main >= 0 and self._step not in self._log.evaluations

  def _save(self):
    if self._step and self._step not in self._checkpointer.steps():
      self._log.sync()
      self._checkpointer.save(self._step, self._state)
    self._interrupts.end()

  def _enter_stage(self) -> str:
    """Returns the name of the stage of the next update; the first time, it is announced."""
    if self._step < self._warmup_steps:
      name, total, done = self._experiment.warmup.name, self._warmup_steps, self._step
    else:
      name, total, done = "train", self._options.steps, self._step - self._warmup_steps
    if name != self._stage:
      self._stage = name
      self._progress.stage(name, total, done, self._experiment.unit)
    return name

  def _advance(self):
    stage = self._enter_stage()
    main_start = self._warmup_steps
    in_warmup = self._step < main_start
    ends = [main_start if in_warmup else self._total]
    grids = [(self._options.log_every, 0), (self._options.checkpoint_every, 0)]
    grids += [] if in_warmup else [(self._options.eval_every, main_start)]
    ends += [start + ((self._step - start) // every + 1) * every for every, start in grids if every]
    count = min(ends) - self._step

    with compilation.Stopwatch() as watch:
      self._state, rows = self._programs.advance(stage, self._state, count, self._interrupts.begin)
    for i, row in enumerate(rows, 1):
      self._log.write(self._step + i, {f"{stage}/{k}": v for k, v in row.items()} if in_warmup else row)
    self._step += count
    self._done += count
    means = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    speed = count / max(watch.seconds, 1e-9)
    clock = {"speed/updates_per_second": speed} | state_lib.learning_rates(self._state)
    if "tokens" in means:
      clock[f"speed/{self._experiment.unit}_per_second"] = speed * means["tokens"]
    self._log.write_clock(self._step, clock)
    self._log.flush()
    self._progress.advance(count, means, watch.seconds)
    if not in_warmup:
      self._count_uncredited(rows)
    self._watch(rows)

  def _count_uncredited(self, rows: list[dict[str, np.ndarray]]):
    """Counts updates whose advantages were all 0; from the first that had credit on, none counts."""
    if all(row.get("advantage_abs") == 0 for row in rows) and self._uncredited >= 0:
      self._uncredited += len(rows)
    else:
      self._uncredited = -1

  def _watch(self, rows: list[dict[str, np.ndarray]]):
    """Stops the run where too many updates in a row were not finite."""
    for i, row in enumerate(rows):
      names = _not_finite(row)
      self._nonfinite.update(names)
      self._streak = self._streak + 1 if names else 0
      if self._streak >= self._options.max_nonfinite:
        step = self._step - len(rows) + i + 1
        rest = f"and with it {', '.join(names[1:])}; " if names[1:] else ""
        self._save()
        raise NonFiniteError(
            f"stopped at update {step}: non-finite {names[0]} in {self._streak} updates in a row "
            f"({rest}each was skipped); the state is saved in {self._checkpointer.directory}")


_CAUSES = ("observation", "shaped reward", "reward", "reward state", "advantage", "loss", "grad")


def _not_finite(row: dict[str, np.ndarray]) -> list[str]:
  """Names what was not finite in an update, what comes first in it first: the rest follows from that as a rule."""
  names = [name.removeprefix("nonfinite_").replace("_", " ") for name, value in row.items()
           if name.startswith("nonfinite_") and value > 0]
  if "shaped reward" in names and "reward" in names:  # the verifier's was finite, the transform's was not
    names.remove("reward")
  if not names and not np.isfinite(row.get("loss", 0.0)):
    names = ["loss"]
  rank = lambda name: _CAUSES.index(name) if name in _CAUSES else -1
  return sorted(names, key=rank)
