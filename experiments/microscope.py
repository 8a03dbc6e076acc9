"""Puts a run's credit under the microscope: one HTML page with the prefix trees of a few of its groups.

    python -m experiments.microscope --run=runs/quickstart-20260101-120000
    python -m experiments.microscope --run=runs/mine --step=400 --out=credit.html
    python -m experiments.microscope --run=runs/mine --prompt=3

A run's directory names the module of its experiment. Only modules of `experiments` are imported on its word; for those
of your own say so: --trust=mine (several: --trust=mine,ours.credit). The run must be of a language experiment.

A checkpoint answers held-out problems; the page shows those whose rewards differ most, each token coloured by its
advantage under the run's own estimator and, side by side, under others. The experiment's module may name more of them:
`microscope_estimators(config) -> {name: AdvantageEstimator}`.
"""

from collections.abc import Mapping, Sequence
import pathlib
from typing import NamedTuple

from absl import flags
from absl import logging
import jax
import ml_collections
import numpy as np

from experiments import launch
from rlcore.training import checkpoints, files, microscope, programs
from rlcore.training.errors import RunError
from rlcore.training.workdir import CHECKPOINTS
from rlcore.types import AdvantageEstimator, Experiment, Inspection, PyTree, Rewards, Rollouts

RUN = flags.DEFINE_string("run", None, "Directory of a run, as `experiments.run` writes it.")
STEP = flags.DEFINE_integer("step", None, "Step of the checkpoint; default the latest.")
OUT = flags.DEFINE_string("out", None, "The page to write; default RUN/microscope-STEP.html.")
PROMPT = flags.DEFINE_integer("prompt", None, "Show this one of the held-out problems; default those whose rewards "
                                              "differ most.")
PROBLEMS = flags.DEFINE_integer("problems", 64, "Held-out problems that are answered.", lower_bound=1)
TRUST = flags.DEFINE_list("trust", [], "Packages or modules, beside experiments, that may be imported when the run's "
                                       "config names them.")
MOST_PROMPTS = 8  # of one page


class Look(NamedTuple):
  """Answers to held-out problems under the microscope.

  Attributes:
    rollouts: `[B, G, T]`.
    rewards: `[B, G]`.
    advantages: by the estimator's name, `[B, G, T]`.
    notes: what the page says of an estimator, by name.
    own: name of the run's own estimator.
  """

  rollouts: Rollouts
  rewards: Rewards
  advantages: Mapping[str, np.ndarray]
  notes: Mapping[str, str]
  own: str


def main(_) -> int:
  """Writes the page; returns the exit code."""
  run, config = read_run(RUN.value)
  check_trusted(config.experiment, TRUST.value, run)
  module = launch.import_experiment(config)
  experiment = module.make_experiment(config)
  if experiment.inspection is None:
    raise RunError(f"{run} is a run of {config.experiment}, which is no language experiment: "
                   "it has no groups of token responses to look at")
  state, step = restore(run, experiment, STEP.value, config.get("seed", 0))
  named = module.microscope_estimators(config) if hasattr(module, "microscope_estimators") else {}
  look = examine(experiment.inspection, state, named, PROBLEMS.value)
  page = write(experiment.inspection, look, PROMPT.value, title=run.name,
               subtitle=f"{config.experiment.removeprefix('experiments.')} · step {step:,}")
  out = pathlib.Path(OUT.value or run / f"microscope-{step}.html")
  out.parent.mkdir(parents=True, exist_ok=True)
  out.write_text(page, "utf-8")
  launch.console().print(f"{out}  ({out.stat().st_size / 1e6:.1f} MB, step {step})", soft_wrap=True)
  return 0


def read_run(directory: str | None) -> tuple[pathlib.Path, ml_collections.ConfigDict]:
  """Reads the config of a run's directory.

  Raises:
    RunError: if it is no directory of a run.
  """
  if directory is None:
    raise RunError("which run? give --run=runs/NAME, a directory that experiments.run has written")
  run = pathlib.Path(directory)
  if not run.is_dir():
    raise RunError(f"there is no run directory {run}")
  path = run / "config.json"
  if not path.is_file():
    raise RunError(f"{run} is no run directory: it has no config.json")
  config = files.read_json(path)
  if not isinstance(config, dict) or not isinstance(config.get("experiment"), str):
    raise RunError(f"{path} names no experiment, so it is not the config of a run")
  return run.resolve(), ml_collections.ConfigDict(config).lock()


def check_trusted(module: str, trusted: Sequence[str], run: pathlib.Path):
  """Refuses a module that a directory names and nobody vouches for: to import it is to run it.

  Raises:
    RunError: if it is neither below `experiments` nor one of `trusted` or below one.
  """
  if not any(module == name or module.startswith(f"{name}.") for name in ("experiments", *trusted)):
    raise RunError(f"{run} names the module {module!r}, which is none of experiments and is not imported on the word "
                   f"of a directory: if you trust it, say --trust={module.rpartition('.')[0] or module}")


def restore(run: pathlib.Path, experiment: Experiment, step: int | None, seed: int) -> tuple[PyTree, int]:
  """Reads a checkpoint (None: the latest) and leaves the run as it is: `(state, step)`.

  Raises:
    RunError: if there is none, or not the one asked for.
  """
  directory = run / CHECKPOINTS
  if not any(directory.glob("[0-9]*")):
    if (run / "sweep.json").exists() or any(run.glob("group-*")):
      raise RunError(f"{run} is the directory of a sweep, which keeps no checkpoints: train the run to look at with "
                     "experiments.run")
    raise RunError(f"{run} has no checkpoint yet; the first one is saved after the warm-up or checkpoint_every updates")
  if not launch.DEBUG.value:
    logging.set_verbosity(logging.FATAL)  # Orbax tells of what is asked of it, and of what ends in our one line
  checkpointer = checkpoints.Checkpointer(directory, read_only=True)
  try:
    step = checkpointer.latest() if step is None else checkpointer.check(step)
    return checkpointer.restore(step, programs.init_state(experiment, jax.random.key(seed))), step
  finally:
    checkpointer.close()


def examine(inspection: Inspection, state: PyTree, named: Mapping[str, AdvantageEstimator], problems: int) -> Look:
  """Answers held-out problems and credits them by the run's own estimator, `named` ones and the standard ones.

  Where the run's own is one of those, it goes by that name.
  """
  _, rollouts, rewards = inspection.answer(state, jax.random.key(2**22), problems)
  others = {**named, **microscope.STANDARD}
  names = [name for name, other in others.items() if microscope.same(other, inspection.estimator)]
  own = names[0] if names else microscope.describe(inspection.estimator)
  shown = {own: inspection.estimator, **others}
  advantages = {name: np.asarray(inspection.credit(state, rewards, rollouts, estimator))
                for name, estimator in shown.items()}
  notes = {name: microscope.describe(estimator) for name, estimator in shown.items() if name not in microscope.NOTES}
  return Look(jax.device_get(rollouts), jax.device_get(rewards), advantages, notes, own)


def write(inspection: Inspection, look: Look, prompt: int | None, *, title: str, subtitle: str) -> str:
  """Builds the page of the problem number `prompt`, or (None) of those whose rewards differ most.

  Raises:
    RunError: if there is no such problem.
  """
  outcome = np.asarray(look.rewards.outcome)
  if prompt is not None:
    if not 0 <= prompt < len(outcome):
      raise RunError(f"there is no held-out problem {prompt}: 0 to {len(outcome) - 1} were answered (--problems)")
    chosen = [prompt]
  else:
    chosen = choose_prompts(outcome, look.rollouts)
  groups = []
  for i in chosen:
    rollouts = jax.tree.map(lambda x: x[i], look.rollouts)
    rewards = ", ".join(f"{x:g}" for x in sorted(set(np.round(outcome[i], 3).tolist())))
    groups.append(microscope.prepare_group(
        rollouts, outcome[i], {name: x[i] for name, x in look.advantages.items()}, inspection.decode,
        label=f"problem {i} · rewards {rewards}"))
  return microscope.build_page(groups, title=title, subtitle=subtitle, own=look.own, notes=look.notes)


def choose_prompts(outcome: np.ndarray, rollouts: Rollouts) -> list[int]:
  """Picks the problems whose rewards differ, the widest spread first, each prompt once; the first one if none does.

  Args:
    outcome: `[B, G]` rewards.
    rollouts: `[B, ...]`.

  Returns:
    Numbers of problems, at least one.
  """
  spread = np.nan_to_num(outcome.std(1))
  order = [int(i) for i in (-spread).argsort(kind="stable") if spread[i] > 0] or [0]
  first = {}
  for i in order:
    first.setdefault(np.where(rollouts.prompt_mask[i] > 0, rollouts.prompt[i], -1).tobytes(), i)
  return list(first.values())[:MOST_PROMPTS]


if __name__ == "__main__":
  launch.launch(main, needs_config=False)
