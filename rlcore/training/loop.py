"""The two ways of running an experiment: a host loop over compiled chunks, and a whole run as one pure function."""

from collections.abc import Callable
import concurrent.futures
import contextlib
import pathlib
import signal
import threading
from typing import NamedTuple

import jax
import ml_collections
import numpy as np
import rich.console

from rlcore import assistants
from rlcore.training import checkpoints, compilation, programs
from rlcore.training import metrics as metrics_lib
from rlcore.training import progress as progress_lib
from rlcore.training.errors import NonFiniteError
from rlcore.training.workdir import CHECKPOINTS, RunOptions, prepare_workdir
from rlcore.types import Array, Experiment, Metrics, PyTree


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

  SIGTERM and SIGINT end the run after the current chunk, with a checkpoint.

  Args:
    experiment: what to train.
    config: `RunOptions` are read from it, `seed` starts the run, all of it is written to `config.json`.
    workdir: directory of the run; created if missing.
    console: where progress is shown.

  Returns:
    `RunResult`.

  Raises:
    RunError: the directory cannot be written or belongs to another config, or no checkpoint in it is intact.
    NonFiniteError: too many updates in a row were not finite; the state is saved.
    AssistantError: a language model that judges did not answer; what the last checkpoint holds is saved.
  """
  options = RunOptions.from_config(config)
  workdir = prepare_workdir(workdir, config)
  with assistants.own_errors():
    return _Run(experiment, options, workdir, console).run(jax.random.key(config.seed))


class _Interrupts:
  """Notes the first SIGTERM or SIGINT so that the loop can save; the second ends the process at once."""

  def __init__(self, say: Callable[[str], None]):
    self.received: signal.Signals | None = None
    self._say = say
    self._previous = {}

  def __enter__(self) -> "_Interrupts":
    if threading.current_thread() is threading.main_thread():
      self._previous = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)}
    return self

  def __exit__(self, *_):
    for number, handler in self._previous.items():
      signal.signal(number, handler)

  def _note(self, number, _):
    if self.received is not None:
      raise SystemExit(128 + number)
    self.received = signal.Signals(number)
    self._say(f"{self.received.name}: saving after this chunk (once more to quit at once)")


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
    self._credited: bool | None = None  # whether any main update of this call had an advantage that is not 0

  def run(self, key: Array) -> RunResult:
    with compilation.Stopwatch() as watch:
      self._train(key)
    finished = self._step >= self._total
    paths = {"curves": self._curves_path, "metrics": self._log.path, "tensorboard": self._log.tensorboard_dir,
             "checkpoints": self._checkpointer.directory, "config": self._workdir / "config.json"}
    return RunResult(
        state=self._state, before=self._evaluation(self._warmup_steps),
        after=self._evaluation(self._step) if finished else None, step=self._step,
        received=None if finished else self._interrupts.received, seconds=watch.seconds + watch.compile_seconds,
        compile_seconds=watch.compile_seconds, paths=paths)

  def _train(self, key: Array):
    if self._experiment.preparation:
      self._progress.message(f"preparing: {self._experiment.preparation}")
    self._state, self._step = programs.init_state(self._experiment, key), 0
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
      self._interrupts = stack.enter_context(_Interrupts(self._progress.message))
      pool = concurrent.futures.ThreadPoolExecutor(1)
      stack.callback(pool.shutdown, cancel_futures=True)
      self._programs.compile_ahead(self._needed(), self._state, pool)
      self._loop()
      if self._credited is False:
        self._progress.message(
            "warning: the advantages were 0 in every update, so nothing was learned. Are all rewards of a group equal, "
            "or does the estimator compare the members of groups of one (group_size)?")

  def _needed(self) -> list[str]:
    """Names the programs that this call will run, the first one first."""
    if self._step >= self._total:
      return [programs.EVALUATE] if self._evaluation_due() else []
    names = ["train", programs.EVALUATE] if self._options.steps else [programs.EVALUATE]
    if self._step <= self._warmup_steps:
      names.reverse()  # an evaluation comes before the main updates
    return [self._experiment.warmup.name, *names] if self._step < self._warmup_steps else names

  def _loop(self):
    while True:
      finished = self._step >= self._total
      stop = finished or self._interrupts.received is not None
      if (finished or not stop) and self._evaluation_due():
        told = self._programs.evaluate(self._state)
        if told.get("unfinished"):
          self._progress.message(f"warning: {told['unfinished']:.0%} of the episodes of this evaluation did not end "
                                 "within 8 horizons of the world, so their means are NaN")
        self._log.write(self._step, {f"eval/{k}": v for k, v in told.items()})
      if stop or self._due(self._options.checkpoint_every, self._step) or self._step == self._warmup_steps:
        self._save()
      if stop:
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
      self._state, rows = self._programs.advance(stage, self._state, count)
    for i, row in enumerate(rows, 1):
      self._log.write(self._step + i, {f"{stage}/{k}": v for k, v in row.items()} if in_warmup else row)
    self._step += count
    means = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    speeds = {"updates_per_second": count / max(watch.seconds, 1e-9)}
    if "tokens" in means:
      speeds[f"{self._experiment.unit}_per_second"] = speeds["updates_per_second"] * means["tokens"]
    self._log.write_speed(self._step, speeds)
    self._log.flush()
    self._progress.advance(count, means, watch.seconds)
    if "advantage_abs" in rows[0] and not in_warmup:
      self._credited = bool(self._credited) or any(row["advantage_abs"] != 0 for row in rows)
    self._watch(rows)

  def _watch(self, rows: list[dict[str, np.ndarray]]):
    """Stops the run where too many updates in a row were not finite."""
    for i, row in enumerate(rows):
      names = [name.removeprefix("nonfinite_") for name, value in row.items()
               if name.startswith("nonfinite_") and value > 0]
      if not names and not np.isfinite(row.get("loss", 0.0)):
        names = ["loss"]
      self._streak = self._streak + 1 if names else 0
      if self._streak >= self._options.max_nonfinite:
        step = self._step - len(rows) + i + 1
        self._save()
        raise NonFiniteError(
            f"stopped at update {step}: non-finite {' and '.join(names)} in {self._streak} updates in a row "
            f"(each was skipped); the state is saved in {self._checkpointer.directory}")
