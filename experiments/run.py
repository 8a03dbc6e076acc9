"""Trains one experiment: progress, logs, curves, checkpoints, and at the end what was learnt.

    python -m experiments.run --config=configs/quickstart.py
    python -m experiments.run --config=configs/quickstart.py:smoke --config.lr=1e-3 --workdir=runs/mine

A `--workdir` that holds a checkpoint is resumed. Ctrl-C and SIGTERM save first.
"""

import pathlib
import time

from absl import flags

from experiments import launch
from rlcore.training import examples, loop
from rlcore.training.progress import format_seconds
from rlcore.training.workdir import claim_workdir, code_changed

flags.adopt_module_key_flags(launch)


def main(job: launch.Job) -> int:
  """Runs the job and reports; returns the exit code."""
  console = launch.console()
  workdir = pathlib.Path(launch.WORKDIR.value or f"runs/{job.full_name}-{time.strftime('%Y%m%d-%H%M%S')}")
  with claim_workdir(workdir, job.config):  # a directory that will not do is told before anything is built
    experiment = launch.make_experiment(job.config)
    changed = code_changed(workdir, pathlib.Path(job.module.__file__))
    if changed:
      more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
      console.print(f"warning: code has changed since this run began, so its curves will mix two versions "
                    f"({', '.join(changed[:3])}{more}); choose another --workdir for a clean one", soft_wrap=True)
    result = loop.run(experiment, job.config, workdir, console=console)
  if result.received is not None:
    console.print(f"{result.received.name}: saved at update {result.step}; "
                  f"resume with --workdir={workdir}", soft_wrap=True)
    return 128 + result.received
  _report(console, experiment, result)
  return 0


def _report(console, experiment, result: loop.RunResult):
  console.print()
  console.print(examples.render_evaluation(result.before, result.after))
  if experiment.examples is not None:
    console.print()
    console.print(examples.render_examples(experiment.examples(result.state), console.width))
  console.print(f"{format_seconds(result.seconds)} in all, {format_seconds(result.compile_seconds)} of it compiling")
  for name, path in result.paths.items():
    console.print(f"{name:12s} {path}", soft_wrap=True)


if __name__ == "__main__":
  launch.launch(main)
