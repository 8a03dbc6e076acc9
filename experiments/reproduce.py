"""Runs a paper's comparison and judges its claim: every arm, every seed, tuned alike, an interval, a verdict.

    python -m experiments.reproduce --config=configs/credit/tempo.py
    python -m experiments.reproduce --config=configs/credit/tempo.py --resume     goes on where a killed one stopped
    python -m experiments.reproduce --config=configs/credit/tempo.py --judge      judges the committed numbers again
    python -m experiments.reproduce --table                                       rebuilds the table of the README

A config file says what is compared:
  ARMS      name -> overrides of the config. Arms that differ only in float fields share one compiled program.
  CLAIM     `results.Claim`: metric, method, baselines, seeds, rule.
  TUNE      optional, dict(grid={key: values}, seeds=...): each arm gets the point of the grid that is best for it on
            these seeds, which must not be seeds of the claim; an arm keeps what it sets itself.
  VARIANTS  optional, name -> variant of `get_config` (a string, or None for the default) or overrides (a dict): regimes
            that are all tuned and run; `CLAIM.variant` is judged, the others are reported beside it.
  STUDY     optional, dict(seeds=..., batch=...): `make_study(config)(key)` of the experiment's module runs once a seed,
            `batch` at a time, and its metrics are reported.
  verdict   optional, the rule, `(result) -> verdicts.Verdict`; without it `verdicts.default_rule`. Whatever it says, a
            comparison that could not have told is inconclusive (`verdicts.doubts`).
The experiment's module may have `figure(result, path)` to draw more than the default.

Only the config as it is committed writes into experiments/results; with a variant or an override on the command line
everything stays in the work directory. The variant `smoke` uses two seeds of each kind.
"""

from collections.abc import Mapping
import dataclasses
import json
import pathlib
import shutil
from typing import Any

from absl import flags
import jax
import jax.numpy as jnp
import ml_collections
from ml_collections import config_flags
import numpy as np
import rich.console
import rich.table
import rich.text

from experiments import launch
from rlcore.training import comparison, compilation, plots, results, verdicts
from rlcore.training import sweep as sweep_lib
from rlcore.training.errors import RunError
from rlcore.training.progress import Progress, format_count, format_seconds
from rlcore.training.workdir import RunOptions, claim_workdir, redacted

TABLE = flags.DEFINE_bool("table", False, "Only rebuild the table of the README.")
JUDGE = flags.DEFINE_bool("judge", False, "Judge the numbers of the result file again, by the rule of today, running "
                                          "nothing; the numbers stay as they are.")
RESUME = flags.DEFINE_bool("resume", False, "Keep the runs that a killed reproduction of the same commit finished.")

RESULTS = pathlib.Path(__file__).parent / "results"
README = pathlib.Path(__file__).parent.parent / "README.md"

flags.adopt_module_key_flags(launch)


def main(job: launch.Job | None) -> int:
  """Reproduces the job's paper, or rebuilds the table; returns the exit code."""
  if TABLE.value:
    results.update_readme(README, RESULTS)
    print(f"wrote the table of {len(list(RESULTS.glob('*.json')))} results into {README.name}")
    return 0
  if job is None:
    raise RunError("which config? give --config=configs/credit/tempo.py, or --table")
  if JUDGE.value:
    return judge_again(job, launch.console())
  with claim_workdir(launch.WORKDIR.value or f"runs/reproduce-{job.full_name}", job.config) as workdir:
    return _reproduce(job, workdir)


def _reproduce(job: launch.Job, workdir: pathlib.Path) -> int:
  console = launch.console()
  store = workdir / "lanes"
  if not RESUME.value:
    shutil.rmtree(store, ignore_errors=True)
  store.mkdir(exist_ok=True)
  protocol = read_protocol(job)
  environment = results.environment()  # of the code that is loaded now, whatever is committed meanwhile
  with compilation.Stopwatch() as watch, Progress(RunOptions.from_config(job.config).progress_metric, console) as live:
    result = {"claim": dataclasses.asdict(protocol.claim), "study": run_study(job, live)}
    result |= run_variants(job, protocol, store, live, salt=str(environment["commit"]))
  result |= {"seconds": round(watch.seconds + watch.compile_seconds, 1),
             "compile_seconds": round(watch.compile_seconds, 1), "config_file": config_file(job),
             "environment": environment}
  result = json.loads(json.dumps(result))  # judged as it will be read
  directory = workdir if job.variant or job.overrides else RESULTS
  conclude(job, result, directory / f"{job.name}.json", console)
  return 0


def conclude(job: launch.Job, result: Mapping[str, Any], path: pathlib.Path, console: rich.console.Console):
  """Judges a result, writes its file and its figure, and prints it."""
  result = verdicts.judge(result, getattr(job.module, "verdict", verdicts.default_rule)) | result
  results.write_result(path, result)
  getattr(job.experiment_module, "figure", plots.plot_result)(result, path.with_suffix(".png"))
  report(console, result)
  console.print(f"{path}\n{path.with_suffix('.png')}", soft_wrap=True)


def judge_again(job: launch.Job, console: rich.console.Console) -> int:
  """Judges the numbers of a result file by the config's rule of today; returns the exit code.

  The file keeps its numbers, its seeds and what it says of the run; only the words of the claim, the intervals and the
  verdict are new, and `judged_by` says by which commit.
  """
  if job.variant or job.overrides:
    raise RunError("--judge reads the committed result of a config as it stands: give no variant and no override")
  path = RESULTS / f"{job.name}.json"
  if not path.exists():
    raise RunError(f"there is no {path.name} to judge; run the reproduction first")
  result = results.read_result(path, schemas=(1, results.SCHEMA))
  claim = dataclasses.asdict(read_protocol(job).claim) | {"seeds": result["claim"]["seeds"]}
  claim = json.loads(json.dumps(claim))
  measured = ("metric", "variant", "cost", "kept", "curves")
  changed = [key for key in measured if (claim[key] or None) != (result["claim"].get(key) or None)]
  if changed:
    raise RunError(f"the claim's {', '.join(sorted(changed))} changed since {path.name} was run: run it again")
  result = {k: x for k, x in result.items() if k not in ("schema", "verdict", "reason", "doubts", "judged")}
  environment = results.environment()
  result |= {"claim": claim, "judged_by": {k: environment[k] for k in ("commit", "uncommitted_changes")}}
  add_differences(claim, result["variants"])
  conclude(job, json.loads(json.dumps(result)), path, console)
  return 0


def config_file(job: launch.Job) -> str:
  """The config file with its variant, relative to the repository."""
  path = pathlib.Path(job.module.__file__).resolve()
  root = README.parent.resolve()
  shown = path.relative_to(root) if path.is_relative_to(root) else pathlib.Path(path.name)
  return f"{shown}:{job.variant}" if job.variant else str(shown)


def read_protocol(job: launch.Job) -> comparison.Protocol:
  """Reads the comparison from the config file.

  Raises:
    RunError: if the file has no `ARMS` or `CLAIM`, or they do not fit together.
  """
  for name in ("ARMS", "CLAIM"):
    if not hasattr(job.module, name):
      raise RunError(f"{job.name}.py has no {name}, so there is nothing to compare")
  tune = getattr(job.module, "TUNE", {})
  claim, tune_seeds = job.module.CLAIM, tuple(tune.get("seeds", ()))
  if job.variant == "smoke":
    claim, tune_seeds = dataclasses.replace(claim, seeds=tuple(claim.seeds[:2])), tune_seeds[:2]
  return comparison.Protocol(claim, job.module.ARMS, tune.get("grid", {}), tune_seeds)


def variant_configs(job: launch.Job) -> dict[str, ml_collections.ConfigDict]:
  """Returns the config of every variant, with the overrides of the command line."""
  values = config_flags.get_override_values(flags.FLAGS["config"])
  configs = {}
  for name, what in getattr(job.module, "VARIANTS", {"default": None}).items():
    if isinstance(what, Mapping):
      configs[name] = sweep_lib.apply_overrides(job.config, what)
    elif what is None or job.variant:  # a variant asked for on the command line replaces the default
      configs[name] = job.config
    else:
      configs[name] = sweep_lib.apply_overrides(job.module.get_config(what), values)
  return configs


def run_variants(job: launch.Job, protocol: comparison.Protocol, store: pathlib.Path, live: Progress, *,
                 salt: str) -> dict[str, Any]:
  """Runs the comparison in every variant; returns `variants` and the number of `programs`."""
  configs = variant_configs(job)
  judged = protocol.claim.variant
  if judged is not None and judged not in configs:
    raise RunError(f'CLAIM.variant is "{judged}", but VARIANTS has only {", ".join(configs)}')
  variants, programs = {}, 0
  for name, config in configs.items():
    pool = comparison.LanePool(launch.make_experiment, config, protocol, store, max_width=launch.LANES.value,
                               salt=salt, progress=live)
    variants[name] = comparison.run_comparison(pool, protocol, name) | {"config": redacted(json.loads(
        config.to_json_best_effort()))}
    programs += pool.programs
  add_differences(dataclasses.asdict(protocol.claim), variants)
  return {"variants": variants, "programs": programs}


def add_differences(claim: Mapping[str, Any], variants: Mapping[str, dict[str, Any]]):
  """Adds to every variant the paired difference of the method to every baseline, with its interval."""
  for name, variant in variants.items():
    whole = {"claim": claim, "variants": variants}
    variant["differences"] = {
        baseline: verdicts.compare(whole, baseline, variant=name)._asdict() for baseline in claim["baselines"]}


def run_study(job: launch.Job, live: Progress) -> dict[str, Any] | None:
  """Runs the study without training; returns its metrics, one number a seed."""
  study = getattr(job.module, "STUDY", None)
  if study is None:
    return None
  seeds = tuple(study.get("seeds", (0,)))[:2 if job.variant == "smoke" else None]
  live.message(f"study: {len(seeds)} seeds")
  keys = jax.vmap(jax.random.key)(jnp.asarray(seeds))
  run = job.experiment_module.make_study(job.config)
  metrics = jax.jit(lambda keys: jax.lax.map(run, keys, batch_size=study.get("batch", len(seeds))))(keys)
  return {"seeds": list(seeds), "metrics": {name: np.asarray(x, float).tolist() for name, x in metrics.items()}}


def report(console: rich.console.Console, result: Mapping[str, Any]):
  """Prints what was measured."""
  claim = result["claim"]
  if result["study"]:
    table = rich.table.Table("study", "mean", "sd over seeds", box=None, header_style="bold", pad_edge=False)
    for name, values in result["study"]["metrics"].items():
      table.add_row(name, f"{np.mean(values):.4f}", f"{np.std(values, ddof=1):.4f}" if len(values) > 1 else "-")
    console.print("", table)
  for name, variant in result["variants"].items():
    judged = name == verdicts.judged_variant(result)
    arms = variant["arms"]
    first = rich.table.Column(f"{name}{' (judged)' if judged else ''}", no_wrap=True)
    table = rich.table.Table(first, *(rich.table.Column(arm, overflow="fold") for arm in arms), box=None,
                             header_style="bold", pad_edge=False)
    for key in sorted({key for entry in arms.values() for key in entry["settings"]}):
      table.add_row(key, *(f"{entry['settings'].get(key, '')}" for entry in arms.values()), style="dim")
    for metric in (claim["metric"], *claim["also"]):  # a row each: there are more metrics than arms, with longer names
      table.add_row(metric, *(f"{np.mean(entry['values'][metric]):.4f}" for entry in arms.values()))
    console.print("", table)
    for baseline, x in variant["differences"].items():
      console.print(f"{claim['method']} better than {baseline} by {x['mean']:+.4f} [{x['low']:+.4f}, {x['high']:+.4f}]")
  console.print(rich.text.Text.assemble("\n", (result["verdict"], "bold"), f": {result['reason']}"), soft_wrap=True)
  if result["doubts"]:
    console.print(rich.text.Text(f"could not have told: {'; '.join(result['doubts'])}"), soft_wrap=True)
  console.print(f"{format_seconds(result['seconds'])} in all, {format_seconds(result['compile_seconds'])} of it "
                f"compiling {format_count(result['programs'], 'training program')}")


if __name__ == "__main__":
  launch.launch(main, needs_config=False)
