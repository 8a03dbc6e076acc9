"""What a comparison came to: claims, result files, and the table in the README; `verdicts` judges.

A result file is written by `experiments.reproduce` and never by hand. Its verdict follows from the numbers in it.
"""

from collections.abc import Collection, Mapping
import dataclasses
import importlib.metadata
import json
import os
import pathlib
import platform
import re
import subprocess
from typing import Any

import jax
import numpy as np

from rlcore.training import files, verdicts
from rlcore.training.errors import RunError

SCHEMA = 2
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"

_REDUCTIONS = {
    "mean": lambda x: np.mean(x, -1),
    "first": lambda x: x[..., 0],
    "last": lambda x: x[..., -1],
    "tail": lambda x: np.mean(x[..., -max(x.shape[-1] // 10, 1):], -1),
    "max": lambda x: np.max(x, -1),
}
_LEVEL = re.compile(r"to(\d*\.?\d+)")


@dataclasses.dataclass(frozen=True)
class Claim:
  """What a paper says and how a run of ours decides about it; written before the run that decides.

  Attributes:
    paper: short name.
    arxiv: identifier, "2509.18314".
    statement: the claim in one sentence, in the paper's own scale.
    metric: "reduction:key" of the metrics of an update ("mean:success" is the area under the success curve) or of the
      held-out evaluation ("last:eval/solve_rate"). Reductions: mean, first, last, tail (mean of the last tenth), max,
      and "to0.6" for any level: updates until the running mean of 5 reaches it, all of them if it never does.
    method: the arm that the paper proposes.
    baselines: the arms it is compared with; the claim must hold against each.
    rival: which of the baselines (or of `rival_metrics`) the paper itself compares with; without it nothing can be
      reproduced.
    rival_metrics: metrics of the method's own runs that say what a rival has in the same worlds.
    rule: the rule of the verdict in words.
    margin: how much better the method must be.
    seeds: the seeds of the verdict, at least `verdicts.FEWEST_SEEDS`; none of them may have been used for tuning.
    span: floor and ceiling of the metric; the strongest rival must lie between 10 and 90 % of it. None where the
      metric has no bounds.
    doubts: what is known beforehand to keep this comparison from telling, each in one sentence; any makes it
      inconclusive.
    higher_is_better: False where the metric is a cost.
    variant: the variant that is judged, the first by default.
    also: further metrics to report, written like `metric`.
    cost: key of a metric that says what an update costs (network evaluations, tokens), or ""; its running sum is then
      kept beside the curves.
    kept: arrays of the held-out evaluation ("eval/samples") of the first seed that the result keeps for its figure.
    curves: keys of further metrics of an update whose curves the result keeps for its figure.
  """

  paper: str
  arxiv: str
  statement: str
  metric: str
  method: str
  baselines: tuple[str, ...]
  rival: str | None = None
  rival_metrics: tuple[str, ...] = ()
  rule: str = "the 95 % interval of the paired difference lies above the margin"
  margin: float = 0.0
  seeds: tuple[int, ...] = tuple(range(8))
  higher_is_better: bool = True
  span: tuple[float, float] | None = (0.0, 1.0)
  doubts: tuple[str, ...] = ()
  variant: str | None = None
  also: tuple[str, ...] = ()
  cost: str = ""
  kept: tuple[str, ...] = ()
  curves: tuple[str, ...] = ()


def check_metric(metric: str, keys: Collection[str] | None = None):
  """Complains of a metric that `reduce_history` could not reduce.

  Args:
    metric: "reduction:key", see `Claim.metric`.
    keys: what a run's history has; None where that is not known yet, and only the reduction is checked.

  Raises:
    RunError: if there is no such reduction or key.
  """
  reduction, colon, key = metric.partition(":")
  if not colon or not (reduction in _REDUCTIONS or _LEVEL.fullmatch(reduction)):
    raise RunError(f'metric "{metric}": write "reduction:key" with one of {", ".join(_REDUCTIONS)}, to0.6')
  if keys is not None and key not in keys:
    raise RunError(f'metric "{metric}": the run has no "{key}"; it has {", ".join(sorted(keys))}')


def reduce_history(metric: str, history: Mapping[str, np.ndarray]) -> np.ndarray:
  """Reduces one metric of a run to a number.

  Args:
    metric: "reduction:key", see `Claim.metric`.
    history: series `[..., N]` by key.

  Returns:
    `[...]`.

  Raises:
    RunError: if there is no such reduction or key.
  """
  check_metric(metric, history)
  reduction, _, key = metric.partition(":")
  level = _LEVEL.fullmatch(reduction)
  values = np.asarray(history[key], float)
  return _updates_to(float(level[1]), values) if level else _REDUCTIONS[reduction](values)


def _updates_to(level: float, values: np.ndarray, window: int = 5) -> np.ndarray:
  """Counts the updates of `[..., N]` until the mean of the last `window` (or of all, while fewer) reaches a level."""
  sums = np.cumsum(np.insert(values, 0, 0, -1), -1)
  end = np.arange(1, values.shape[-1] + 1)
  start = np.maximum(end - window, 0)
  reached = (sums[..., end] - sums[..., start]) / (end - start) >= level
  return np.where(reached.any(-1), reached.argmax(-1) + 1, values.shape[-1]).astype(float)


def _git(*arguments: str) -> str | None:
  root = pathlib.Path(__file__).parents[2]
  try:
    done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True, timeout=30)
  except (OSError, subprocess.SubprocessError):
    return None  # not a checkout, or no git: the file says null
  return done.stdout.strip()


def _cpu_model() -> str:
  info = pathlib.Path("/proc/cpuinfo")
  found = re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.M) if info.exists() else None
  return found[1].strip() if found else platform.processor() or platform.machine()


def environment() -> dict[str, Any]:
  """Describes what computed a result: versions, commit, machine. No path, host or user name is in it."""
  version = importlib.metadata.version
  changed = _git("status", "--porcelain", "--untracked-files=no", "--", "rlcore", "experiments/*.py", "configs")
  return {
      "commit": _git("rev-parse", "HEAD"),
      "uncommitted_changes": None if changed is None else bool(changed),
      "python": platform.python_version(),
      "versions": {name: version(name) for name in ("jax", "jaxlib", "flax", "optax", "numpy")},
      "machine": {"cpu": _cpu_model(), "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity")
                  else os.cpu_count(), "system": platform.system(), "device": jax.devices()[0].device_kind,
                  "devices": jax.device_count()},
  }


def write_result(path: pathlib.Path, result: Mapping[str, Any]):
  """Writes a result file: JSON, a list of numbers on one line, so that a diff of two runs can be read."""
  text = json.dumps({"schema": SCHEMA} | dict(result), indent=1, allow_nan=True)
  one_line = lambda found: re.sub(r"\s*\n\s*", " ", found[0]).replace("[ ", "[").replace(" ]", "]")
  text = re.sub(r"\[[^\[\]{}\"]*\]", one_line, text)
  path.parent.mkdir(parents=True, exist_ok=True)
  files.replace_text(path, text + "\n")


def read_result(path: pathlib.Path, *, schemas: Collection[int] = (SCHEMA,)) -> dict[str, Any]:
  """Reads a result file.

  Args:
    path: the file.
    schemas: which schemas will do.

  Returns:
    The result.

  Raises:
    RunError: if it is of another schema, or no result file at all.
  """
  result = files.read_json(path, "a result file")
  if not isinstance(result, dict):
    raise RunError(f"{path} is not a result file: it holds no object")
  if result.get("schema") not in schemas:
    raise RunError(f"{path} has schema {result.get('schema')}, this code reads {SCHEMA}: run its reproduction again")
  return result


def build_table(directory: pathlib.Path) -> str:
  """Builds the README's table from the result files of a directory, one row a file, in the order of their names."""
  rows = ["| paper | claim | what was judged, mean [95 %] | verdict |", "|---|---|---|---|"]
  rows += [_row(path.stem, read_result(path)) for path in sorted(directory.glob("*.json"))]
  return "\n".join(rows)


def _row(stem: str, result: Mapping[str, Any]) -> str:
  claim = result["claim"]
  judged = "; ".join(f"{name} {verdicts.shown(verdicts.Interval(x['mean'], x['low'], x['high']))}"
                     + (f" (above {x['above']:g}?)" if x["above"] else "") for name, x in result["judged"].items())
  minutes = result["seconds"] / 60
  links = f"[numbers](experiments/results/{stem}.json), [figure](experiments/results/{stem}.png)"
  doubts = f": {'; '.join(result['doubts'])}" if result["doubts"] else ""
  cells = (f"[{claim['paper']}](https://arxiv.org/abs/{claim['arxiv']})", claim["statement"],
           f"{judged} ({len(claim['seeds'])} seeds, {minutes:.0f} min)", f"**{result['verdict']}** ({links}){doubts}")
  return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def update_readme(readme: pathlib.Path, directory: pathlib.Path):
  """Puts the table of the result files between the README's markers.

  Raises:
    RunError: if the README lacks the markers.
  """
  before, begin, rest = readme.read_text().partition(BEGIN)
  _, end, after = rest.partition(END)
  if not begin or not end:
    raise RunError(f"{readme} lacks the lines {BEGIN} and {END}, between which the table goes")
  files.replace_text(readme, f"{before}{BEGIN}\n{build_table(directory)}\n{END}{after}")
