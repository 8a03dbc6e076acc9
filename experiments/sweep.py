"""Runs a config's `sweep(add)` and tabulates it.

    python -m experiments.sweep --config=configs/quickstart.py
    python -m experiments.sweep --config=configs/quickstart.py --seeds=0,1,2 --metrics=tail:success,last:eval/solve_rate
    python -m experiments.sweep --config=configs/quickstart.py --slurm=partition=gpu,timeout_min=60

Every `add(lr=1e-3, seed=0)` is a run; keys with a dot are passed as `add(**{"warmup.lr": 1e-3})`. Runs that differ only
in seeds and float fields are one vmapped program; each other group is a process of its own, `--jobs` at a time, or a
Slurm job.

The directory keeps `sweep.csv` and `sweep.json`, a row a run, and of each group of runs `group-N.json` with its rows
and `group-N.npz` with its learning curves, not reduced: `np.load(path)["0 lr=0.001 seed=0/success"]` is the metric
"success" `[steps]` of row 0 of the group, "0 lr=0.001 seed=0/eval/solve_rate" `[2]` is from before and after the
updates (where --metrics names one of "eval/"). A sweep keeps no checkpoints, but a --workdir that holds finished groups
is gone on with: only those that are missing run. --fresh begins anew. However the sweep ends, its processes end with
it (Slurm jobs do not).
"""

from collections.abc import Mapping, Sequence
import concurrent.futures
import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from typing import Any

from absl import flags
import jax
import numpy as np
import rich.console
import rich.table

from experiments import launch
from rlcore.training import files, judging, locks, results, signals
from rlcore.training import sweep as sweep_lib
from rlcore.training.errors import RunError
from rlcore.training.progress import Progress, format_count
from rlcore.training.sweep import Group, Lane
from rlcore.training.workdir import RunOptions, claim_workdir, code_changed, redacted

SEEDS = flags.DEFINE_list("seeds", None, "Seeds of every point that names none; default the config's.")
METRICS = flags.DEFINE_list("metrics", None, 'What to tabulate, "reduction:key"; default mean and tail of the '
                                             "progress metric.")
JOBS = flags.DEFINE_integer("jobs", 1, "Processes at a time.")
SLURM = flags.DEFINE_list("slurm", None, "Submit with these parameters of sbatch (partition, qos ...) or "
                                      "submitit (timeout_min, mem_gb, cluster=local ...), key=value.")
FRESH = flags.DEFINE_bool("fresh", False, "Begin anew: forget the groups that an earlier sweep in --workdir finished.")
GROUP = flags.DEFINE_integer("group", None, "Run only this group of runs, in this process (what the others start).")

flags.adopt_module_key_flags(launch)

_FREE = frozenset(f"judge.{name}" for name in judging.TRANSPORT)  # what the groups of one sweep may differ in
_OWNED = "RLCORE_SWEEP"  # environment variable of the processes that the sweep ends
_PATIENCE = 3.0  # seconds
# What submitit calls the same on every kind of cluster; any other parameter is one of sbatch.
_OF_SUBMITIT = ("cluster", "name", "timeout_min", "mem_gb", "nodes", "cpus_per_task", "gpus_per_node", "tasks_per_node",
                "stderr_to_stdout")


def main(job: launch.Job) -> int:
  """Runs the sweep, or one group of it; returns the exit code."""
  lanes = collect(job)
  groups = sweep_lib.group_lanes(job.config, lanes)
  for metric in _metrics(job):
    results.check_metric(metric)
  name = f"sweep-{job.full_name}-{time.strftime('%Y%m%d-%H%M%S')}"
  workdir = pathlib.Path(launch.WORKDIR.value or f"runs/{name}")
  if GROUP.value is not None:
    _end_with_parent()
    with claim_workdir(workdir, job.config, lock=f".group-{GROUP.value}.lock", free=_FREE):
      run_group(job, groups[GROUP.value], workdir / f"group-{GROUP.value}.json")
    return 0
  with contextlib.ExitStack() as stack:
    if FRESH.value and workdir.is_dir():
      stack.enter_context(locks.hold(workdir))
      for path in workdir.glob("group-*"):
        path.unlink()
    stack.enter_context(claim_workdir(workdir, job.config, free=_FREE))
    _run_groups(job, groups, workdir)
  return 0


def _run_groups(job: launch.Job, groups: Sequence[Group], workdir: pathlib.Path):
  """Checks all groups, runs them, and tabulates those that finished."""
  console = launch.console()
  lanes = sum(len(group.lanes) for group in groups)
  console.print(f"{format_count(lanes, 'run')} in {format_count(len(groups), 'program')}")
  alone = len(groups) == 1 and SLURM.value is None
  if not alone:
    jax.config.update("jax_platforms", "cpu")  # what is checked here must not take the groups' accelerator memory
  for group in groups:
    check_group(job, group)
  paths = [workdir / f"group-{i}.json" for i in range(len(groups))]
  missing = [i for i, path in enumerate(paths) if finished_rows(path, groups[i], _metrics(job)) is None]
  if len(missing) < len(groups):
    console.print(f"{len(groups) - len(missing)} of {format_count(len(groups), 'program')} finished before "
                  "(--fresh begins anew)")
  changed = code_changed(workdir, pathlib.Path(job.module.__file__))
  if changed:
    console.print(f"warning: code has changed since this sweep began, so its rows will mix two versions "
                  f"({', '.join(changed[:3])}); --fresh begins anew", soft_wrap=True)
  for i in missing:
    paths[i].unlink(missing_ok=True)  # of another sweep
  try:
    if alone and missing:
      run_group(job, groups[0], paths[0])
    elif missing:
      commands = [_command(workdir, i) for i in missing]
      (_run_processes if SLURM.value is None else _run_slurm)(commands, [paths[i] for i in missing], workdir, console)
  finally:  # where a group failed, the others are still worth their row
    _tabulate([row for path in paths if path.exists() for row in files.read_json(path)], workdir, console)


def finished_rows(path: pathlib.Path, group: Group, metrics: Sequence[str]) -> list[dict[str, Any]] | None:
  """Reads the rows of a group that was finished before.

  Args:
    path: the group's file.
    group: the group of this sweep.
    metrics: what its rows must have.

  Returns:
    The rows; None where there are none, they are damaged, or they are of other runs.
  """
  try:
    rows = files.read_json(path)
  except (FileNotFoundError, RunError):
    return None
  settings = json.loads(json.dumps(redacted(_settings(group))))
  if not isinstance(rows, list) or len(rows) != len(settings):
    return None
  for row, own in zip(rows, settings):
    if not isinstance(row, dict) or not set(metrics) <= set(row) or {k: row[k] for k in row if ":" not in k} != own:
      return None
  return rows


def _settings(group: Group) -> list[dict[str, Any]]:
  """Returns what distinguishes each lane of a group."""
  return [group.static | dict(lane.overrides) | {"seed": lane.seed} for lane in group.lanes]


def _tabulate(rows: Sequence[Mapping[str, Any]], workdir: pathlib.Path, console: rich.console.Console):
  if rows:
    write_tables(rows, workdir)
    _show(rows, console)
    console.print(f"{workdir / 'sweep.csv'}\n{workdir / 'sweep.json'}", soft_wrap=True)


def collect(job: launch.Job) -> list[Lane]:
  """Returns the runs of the config's `sweep(add)`.

  Raises:
    RunError: if the config file has none, or it adds nothing.
  """
  if not hasattr(job.module, "sweep"):
    raise RunError(f"{job.name}.py has no sweep(add): define def sweep(add): add(lr=1e-3)")
  points: list[dict[str, Any]] = []
  job.module.sweep(lambda **overrides: points.append(overrides))
  if not points:
    raise RunError(f"sweep(add) of {job.name}.py adds nothing")
  default_seeds = [int(seed) for seed in SEEDS.value or [job.config.seed]]
  known = sweep_lib.flatten(job.config)
  keys = dict.fromkeys(key for point in points for key in point if key != "seed")
  return [Lane({key: point.get(key, known.get(key)) for key in keys}, seed)
          for point in points for seed in ([point["seed"]] if "seed" in point else default_seeds)]


def _metrics(job: launch.Job) -> list[str]:
  shown = RunOptions.from_config(job.config).progress_metric
  return METRICS.value or [f"mean:{shown}", f"tail:{shown}"]


def check_group(job: launch.Job, group: Group):
  """Builds and traces the experiment of a group's first lane, so that what is wrong is told before anything trains.

  What an experiment that calls host code measures is only seen when it runs.

  Raises:
    RunError: if the experiment refuses its config, or a metric is asked for that its updates or evaluation do not have.
  """
  lane = group.lanes[0]
  config = sweep_lib.apply_overrides(job.config, {**group.static, **lane.overrides, "seed": lane.seed})
  try:
    experiment = launch.make_experiment(config)
  except ValueError as error:
    common = redacted(", ".join(f"{key}={value}" for key, value in group.static.items()))
    raise RunError(f"the runs with {common}: {error}" if common else str(error)) from error
  if not experiment.jittable:
    return
  metrics = _metrics(job)
  evaluated = _evaluated(metrics)

  def measure(key):
    state, measured = experiment.update(experiment.init(key))
    return measured | ({f"eval/{name}": x for name, x in experiment.evaluate(state).items()} if evaluated else {})

  shapes = jax.eval_shape(measure, jax.random.key(lane.seed))
  numbers = [name for name, x in shapes.items() if not x.shape]  # arrays are for figures
  for metric in metrics:
    results.check_metric(metric, numbers)


def _evaluated(metrics: Sequence[str]) -> bool:
  return any(":eval/" in metric for metric in metrics)


def run_group(job: launch.Job, group: Group, path: pathlib.Path):
  """Runs the lanes of one program; writes their histories beside `path`, and to it a row for each."""
  metrics = _metrics(job)
  floats = sorted({key for lane in group.lanes for key in lane.overrides})
  with Progress(RunOptions.from_config(job.config).progress_metric, launch.console()) as progress:
    runner = sweep_lib.LaneRunner(
        launch.make_experiment, sweep_lib.apply_overrides(job.config, group.static), floats,
        width=min(launch.LANES.value, len(group.lanes)), evaluate=_evaluated(metrics), progress=progress)
    histories = runner.run(group.lanes, "sweep")
  settings = redacted(_settings(group))
  names = [" ".join((str(i), *(f"{key}={value}" for key, value in own.items()))) for i, own in enumerate(settings)]
  files.replace_arrays(path.with_suffix(".npz"), {
      f"{name}/{key}": series for name, history in zip(names, histories, strict=True)
      for key, series in history.items()})
  rows = [own | {metric: float(results.reduce_history(metric, history)) for metric in metrics}
          for own, history in zip(settings, histories, strict=True)]
  files.replace_text(path, json.dumps(rows))


def _command(workdir: pathlib.Path, group: int) -> list[str]:
  ours = ("--group", "--workdir", "--jobs", "--slurm", "--fresh", "--nofresh")
  kept = [argument for argument in sys.argv[1:] if not argument.startswith(ours)]
  return [sys.executable, "-m", "experiments.sweep", *kept, f"--workdir={workdir}", f"--group={group}"]


def _run_processes(commands: Sequence[list[str]], paths: Sequence[pathlib.Path], workdir: pathlib.Path,
                   console: rich.console.Console):
  """Runs commands, `--jobs` at a time, each of which writes its path; they end when this process does."""
  running: list[subprocess.Popen] = []

  def run(path, command):
    log = path.with_suffix(".log")
    with log.open("w") as file:
      # Nothing is ever written to its standard input: that it ends tells the child that we are gone.
      process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=file, stderr=subprocess.STDOUT,
                                 start_new_session=True, env=os.environ | {_OWNED: "1"})
      running.append(process)
      code = process.wait()
      signals.wait_if_leaving()
      process.stdin.close()
    if code or not path.exists():
      raise RunError(f"{path.stem.replace('-', ' ')} failed with exit code {code}; see {log}: {_last_line(log)}")
    console.print(f"{path.stem.replace('-', ' ')} done")

  with signals.cleanup(lambda: _end(running)), concurrent.futures.ThreadPoolExecutor(JOBS.value) as pool:
    futures = [pool.submit(run, path, command) for path, command in zip(paths, commands, strict=True)]
    try:
      for future in concurrent.futures.as_completed(futures):
        future.result()
    except BaseException:
      pool.shutdown(wait=False, cancel_futures=True)
      _end(running)
      raise


def _end(processes: Sequence[subprocess.Popen]):
  """Ends processes with all that they started: by SIGTERM, and those that do not heed it by SIGKILL."""
  for number, patience in ((signal.SIGTERM, _PATIENCE), (signal.SIGKILL, 0.0)):
    for process in processes:
      with contextlib.suppress(ProcessLookupError):  # ended by itself
        if process.returncode is None:
          os.killpg(process.pid, number)
    end = time.monotonic() + patience
    while time.monotonic() < end and any(process.returncode is None and _lives(process.pid) for process in processes):
      time.sleep(0.02)


def _lives(pid: int) -> bool:
  """Tells whether a child still runs, without waiting for it: another thread does."""
  try:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
  except ChildProcessError:
    return False


def _end_with_parent():
  """Lets this process of a group end when the sweep that started it does."""
  if os.environ.pop(_OWNED, None):
    signals.leave_with(0, "the sweep that started this group is gone")


def _last_line(log: pathlib.Path) -> str:
  """Returns the last line of a log that says something: of a failed command, the cause."""
  if not log.exists():  # a job that never began, or was killed with its node
    return "it was never written"
  lines = [line.strip() for line in log.read_text("utf-8", "replace").splitlines() if line.strip()]
  return lines[-1].removeprefix("error: ") if lines else "it is empty"


def _run_slurm(commands: Sequence[list[str]], paths: Sequence[pathlib.Path], workdir: pathlib.Path,
               console: rich.console.Console):
  try:
    import submitit
  except ModuleNotFoundError as error:
    raise RunError("--slurm needs submitit: pip install 'rlcore[slurm]'") from error
  parameters = dict(_parameter(text) for text in SLURM.value)
  try:
    executor = submitit.AutoExecutor(folder=workdir / "slurm", cluster=parameters.pop("cluster", "slurm"))
    executor.update_parameters(**({"name": "rlcore-sweep"} | parameters))
  except (NameError, RuntimeError, TypeError, ValueError) as error:
    raise RunError(f"--slurm: {error} (cluster=local runs the groups on this machine)") from error
  jobs = [executor.submit(submitit.helpers.CommandFunction(command, cwd=os.getcwd())) for command in commands]
  console.print(f"submitted {format_count(len(jobs), 'job')}, logs in {workdir / 'slurm'}")
  failed = []
  for own, path in zip(jobs, paths, strict=True):
    name = path.stem.replace("-", " ")
    if own.exception() is None and path.exists():
      console.print(f"{name} done")
    else:
      failed.append(f"{name} failed; see {own.paths.stderr}: {_last_line(own.paths.stderr)}")
      console.print(failed[-1], soft_wrap=True)
  if failed:  # after the others, whose results are kept
    raise RunError(failed[0])


def _parameter(text: str) -> tuple[str, Any]:
  name, equals, value = text.partition("=")
  if not equals:
    raise RunError(f"--slurm takes key=value, not {text!r}")
  name = name if name in _OF_SUBMITIT or name.startswith(("slurm_", "local_")) else f"slurm_{name}"
  return name, int(value) if value.lstrip("-").isdigit() else value


def write_tables(rows: Sequence[Mapping[str, Any]], directory: pathlib.Path):
  """Writes the runs as `sweep.json` and `sweep.csv`, a row for each."""
  columns = list(dict.fromkeys(column for row in rows for column in row))
  cell = lambda value: json.dumps(str(value)) if isinstance(value, (list, tuple, str)) else str(value)
  lines = [",".join(columns)] + [",".join(cell(row.get(column, "")) for column in columns) for row in rows]
  files.replace_text(directory / "sweep.csv", "\n".join(lines) + "\n")
  files.replace_text(directory / "sweep.json", json.dumps(list(rows), indent=1) + "\n")


def _show(rows: Sequence[Mapping[str, Any]], console: rich.console.Console):
  """Prints one line a point, mean and standard deviation over its seeds."""
  metrics = [column for column in rows[0] if ":" in column]
  settings = list(dict.fromkeys(column for row in rows for column in row if column not in (*metrics, "seed")))
  points: dict[tuple, list[Mapping[str, Any]]] = {}
  for row in rows:
    points.setdefault(tuple(str(row.get(key, "-")) for key in settings), []).append(row)
  table = rich.table.Table(*settings, "seeds", *metrics, box=None, header_style="bold", pad_edge=False)
  for point, own in points.items():
    table.add_row(*point, str(len(own)), *(_spread([row[metric] for row in own]) for metric in metrics))
  console.print(table)


def _spread(values: Sequence[float]) -> str:
  deviation = f" ± {np.std(values, ddof=1):.4f}" if len(values) > 1 else ""
  return f"{np.mean(values):.4f}{deviation}"


if __name__ == "__main__":
  launch.launch(main)
