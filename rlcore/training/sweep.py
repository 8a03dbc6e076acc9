"""Many runs in one program: arms, hyper-parameters and seeds that differ only in numbers are lanes of one `vmap`.

A lane is one run: a config with some overrides, and a seed. Overrides of float fields are traced, so that all lanes
that agree in everything else share one compiled program; other overrides make a program of their own. Experiments that
call host code run lane after lane.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import difflib
import itertools
import json
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from rlcore.training import compilation, programs
from rlcore.training.errors import RunError
from rlcore.training.progress import Progress, format_count
from rlcore.training.workdir import RunOptions
from rlcore.types import Array, Experiment, PyTree

MakeExperiment = Callable[[ml_collections.ConfigDict], Experiment]
LaneHistory = dict[str, np.ndarray]
_NEEDS_VALUE = (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError,
                jax.errors.TracerIntegerConversionError)


@dataclasses.dataclass(frozen=True)
class Lane:
  """One run of a sweep.

  Attributes:
    overrides: values by dotted key.
    seed: of the run.
  """

  overrides: Mapping[str, Any]
  seed: int


def apply_overrides(config: ml_collections.ConfigDict, overrides: Mapping[str, Any]) -> ml_collections.ConfigDict:
  """Returns a copy of a config with some values changed.

  Args:
    config: the config.
    overrides: values by dotted key.

  Returns:
    The copy, locked.

  Raises:
    RunError: for a key that the config does not have, or a value of another type.
  """
  config = config.copy_and_resolve_references()
  known = flatten(config)
  for key in overrides:
    if key not in known:
      near = difflib.get_close_matches(key, known, 1)
      raise RunError(f'the config has no key "{key}"' + (f'; did you mean "{near[0]}"?' if near else ""))
  try:
    config.update_from_flattened_dict(dict(overrides))
  except TypeError as error:
    raise RunError(f"an override has the wrong type: {error}") from error
  return config.lock()


def flatten(config: ml_collections.ConfigDict, prefix: str = "") -> dict[str, Any]:
  """Returns the values of a config by dotted key."""
  flat = {}
  for key, value in config.items():
    flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, ml_collections.ConfigDict) else {prefix + key: value}
  return flat


def split_overrides(config: ml_collections.ConfigDict,
                    overrides: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, float]]:
  """Splits overrides into those that need a program of their own and the numbers that can be traced.

  Args:
    config: the config.
    overrides: values by dotted key.

  Returns:
    `(static, floats)`; a value is a float where the config's own is one.
  """
  apply_overrides(config, overrides)
  known = flatten(config)
  floats = {key: float(value) for key, value in overrides.items() if isinstance(known[key], float)}
  return {key: value for key, value in overrides.items() if key not in floats}, floats


class Group(NamedTuple):
  """Lanes that share one program: what they have in common, and which they are.

  Attributes:
    static: the overrides that make the program.
    indices: places of the lanes in the sequence that was grouped.
    lanes: the lanes, with their traced overrides only.
  """

  static: dict[str, Any]
  indices: list[int]
  lanes: list[Lane]


def group_lanes(config: ml_collections.ConfigDict, lanes: Sequence[Lane]) -> list[Group]:
  """Groups lanes by the program they need, in the order in which the programs first occur."""
  groups: dict[str, Group] = {}
  for i, lane in enumerate(lanes):
    static, floats = split_overrides(config, lane.overrides)
    group = groups.setdefault(program_name(static), Group(static, [], []))
    group.indices.append(i)
    group.lanes.append(Lane(floats, lane.seed))
  return list(groups.values())


def program_name(static: Mapping[str, Any]) -> str:
  """Writes static overrides as text, the same for equal ones."""
  return json.dumps(dict(static), sort_keys=True, default=str)


class LaneRunner:
  """Runs lanes of one static config, `width` at a time, with the same compiled programs every time.

  There is a program for the main updates and one for the warm-up, beside small ones for initialisation and, if asked
  for, evaluation. Initialisation and warm-up run once a seed where the traced numbers do not reach them.
  """

  def __init__(self, make_experiment: MakeExperiment, config: ml_collections.ConfigDict, float_keys: Sequence[str], *,
               width: int, evaluate: bool = False, progress: Progress | None = None):
    """Prepares the programs.

    Args:
      make_experiment: builds an experiment from a config whose traced fields hold tracers.
      config: the config with all static overrides applied.
      float_keys: dotted keys of the traced fields.
      width: lanes of one call of a program; the last call is filled up with copies.
      evaluate: also evaluate before and after the main updates.
      progress: where to show how far it is, or None.
    """
    self._make_experiment, self._config, self._keys = make_experiment, config, tuple(float_keys)
    self._options = RunOptions.from_config(config)
    self._width, self._with_evaluation, self._progress = width, evaluate, progress
    self._length = self._options.log_every
    self._init = jax.jit(jax.vmap(self._init_one))
    self._warm_up = self._make_advance(lambda experiment: experiment.warmup.update)
    self._advance = self._make_advance(lambda experiment: experiment.update)
    self._evaluate = jax.jit(jax.vmap(lambda values, seed, state: self._build(values, seed).evaluate(state)))
    self._start_is_shared: bool | None = None

  def run(self, lanes: Sequence[Lane], label: str = "run",
          keep: Callable[[int, LaneHistory], None] = lambda index, history: None) -> list[LaneHistory]:
    """Runs lanes.

    Args:
      lanes: their overrides are of `float_keys` only.
      label: shown in the progress.
      keep: called with the place and the metrics of each lane as soon as it is finished.

    Returns:
      For each lane the metrics of its main updates `[steps]`, and `eval/...` `[2]`, before and after.

    Raises:
      RunError: if the experiment needs a traced number while it is built.
    """
    try:
      return self._run(lanes, label, keep)
    except _NEEDS_VALUE as error:
      traced = ", ".join((*self._keys, "seed"))
      raise RunError(f"{self._config.experiment} needs the value of one of {traced} in Python, where a sweep traces "
                     "it: use jnp.where, or make the field an int") from error

  def _run(self, lanes: Sequence[Lane], label: str, keep: Callable[[int, LaneHistory], None]) -> list[LaneHistory]:
    defaults = flatten(self._config)
    values = np.array([[float(lane.overrides.get(key, defaults[key])) for key in self._keys] for lane in lanes],
                      np.float32).reshape(len(lanes), len(self._keys))
    seeds = np.array([lane.seed for lane in lanes], np.int32)
    experiment = self._make_experiment(self._config)
    self._unit = experiment.unit
    if not experiment.jittable:
      histories = []
      for i, lane in enumerate(lanes):
        histories.append(self._run_on_host(lane, f"{label} {i + 1}/{len(lanes)}"))
        keep(i, histories[-1])
      return histories
    self._warmup_steps = experiment.warmup.steps if experiment.warmup else 0
    self._preparation = experiment.preparation
    starts = self._start_states(values, seeds, label)
    lots = [np.arange(len(lanes))[i:i + self._width] for i in range(0, len(lanes), self._width)]
    histories = []
    for i, lot in enumerate(lots):
      filled = np.resize(lot, self._width)
      state = starts(filled)
      name = label if len(lots) == 1 else f"{label} {i + 1}/{len(lots)}"
      history = self._run_lot(values[filled], seeds[filled], state, f"{name} ({format_count(len(lot), 'run')})")
      for k, index in enumerate(lot):
        histories.append({key: series[k] for key, series in history.items()})
        keep(int(index), histories[-1])
    return histories

  def _build(self, values: Array, seed: Array) -> Experiment:
    config = self._config.copy_and_resolve_references()
    with config.unlocked(), config.ignore_type():
      config.seed = seed
      for i, key in enumerate(self._keys):
        *parents, leaf = key.split(".")
        node = config
        for parent in parents:
          node = node[parent]
        with node.ignore_type():
          node[leaf] = values[i]
    return self._make_experiment(config)

  def _init_one(self, values: Array, seed: Array) -> PyTree:
    return programs.strengthen(self._build(values, seed).init(jax.random.key(seed)))

  def _warm_up_once(self, values: Array, seed: Array) -> PyTree:
    state = self._init_one(values, seed)
    return self._build(values, seed).warmup.update(state)[0] if self._warmup_steps else state

  def _make_advance(self, pick: Callable[[Experiment], programs.Update]) -> Callable[..., tuple[PyTree, PyTree]]:
    """Compiles chunks of an experiment's updates for all lanes."""
    def advance(values, seed, state, count):
      return programs.chunk(pick(self._build(values, seed)), self._length)(state, count)

    return jax.jit(jax.vmap(advance, (0, 0, 0, None)), donate_argnums=2)

  def _start_states(self, values: np.ndarray, seeds: np.ndarray, label: str) -> Callable[[np.ndarray], PyTree]:
    """Returns `(indices of lanes) -> their states` after the warm-up."""
    if self._start_is_shared is None:
      self._start_is_shared = not _depends_on_first(self._warm_up_once, values[0], seeds[0])
    if not self._start_is_shared:
      return lambda index: self._start(values[index], seeds[index], label)
    distinct, place = np.unique(seeds, return_inverse=True)
    width = min(self._width, len(distinct))
    lots = [np.resize(distinct[i:i + width], width) for i in range(0, len(distinct), width)]
    parts = [self._start(np.broadcast_to(values[0], (width, values.shape[1])), lot, label) for lot in lots]
    states = parts[0] if len(parts) == 1 else jax.tree.map(lambda *x: jnp.concatenate(x), *parts)
    return lambda index: jax.tree.map(lambda x: x[place[index]], states)

  def _start(self, values: np.ndarray, seeds: np.ndarray, label: str) -> PyTree:
    count = format_count(len(np.unique(seeds)), "seed")
    if self._preparation and self._progress is not None:
      self._progress.message(f"{label}: preparing {count}: {self._preparation}")
    state = self._init(values, seeds)
    if not self._warmup_steps:
      return state
    return self._run_stage(self._warm_up, values, seeds, state, self._warmup_steps, f"{label}: warm-up of {count}")[0]

  def _run_lot(self, values: np.ndarray, seeds: np.ndarray, state: PyTree, label: str) -> LaneHistory:
    evaluate = lambda: jax.device_get(self._evaluate(values, seeds, state)) if self._with_evaluation else {}
    before = evaluate()
    state, history = self._run_stage(self._advance, values, seeds, state, self._options.steps, label)
    after = evaluate()
    return history | {f"eval/{name}": np.stack([before[name], after[name]], 1) for name in after}

  def _run_stage(self, advance: Callable[..., tuple[PyTree, PyTree]], values: np.ndarray, seeds: np.ndarray,
                 state: PyTree, steps: int, label: str) -> tuple[PyTree, LaneHistory]:
    """Does `steps` updates of all lanes, chunk by chunk; returns the state and the metrics `[lanes, steps]`."""
    pieces, done = [], 0
    if self._progress is not None:
      self._progress.stage(label, steps, unit=self._unit)
    while done < steps:
      count = min(self._length, steps - done)
      with compilation.Stopwatch() as watch:
        state, metrics = advance(values, seeds, state, count)
        metrics = {name: np.asarray(x)[:, :count] for name, x in jax.device_get(metrics).items()}
      pieces.append(metrics)
      done += count
      if self._progress is not None:
        means = {name: float(x.mean()) for name, x in metrics.items()}
        means |= {"tokens": means["tokens"] * len(seeds)} if "tokens" in means else {}
        self._progress.advance(count, means, watch.seconds)
    return state, {name: np.concatenate([x[name] for x in pieces], 1) for name in (pieces[0] if pieces else ())}

  def _run_on_host(self, lane: Lane, label: str) -> LaneHistory:
    config = apply_overrides(self._config, {**lane.overrides, "seed": lane.seed})
    experiment = self._make_experiment(config)
    state = programs.init_state(experiment, jax.random.key(lane.seed))
    for _ in range(experiment.warmup.steps if experiment.warmup else 0):
      state, _ = experiment.warmup.update(state)
    evaluate = lambda: jax.device_get(experiment.evaluate(state)) if self._with_evaluation else {}
    before, rows = evaluate(), []
    if self._progress is not None:
      self._progress.stage(label, self._options.steps, unit=self._unit)
    for _ in range(self._options.steps):
      with compilation.Stopwatch() as watch:
        state, metrics = experiment.update(state)
        rows.append({name: float(x) for name, x in jax.device_get(metrics).items()})
      if self._progress is not None:
        self._progress.advance(1, rows[-1], watch.seconds)
    after = evaluate()
    history = {name: np.array([row[name] for row in rows]) for name in (rows[0] if rows else ())}
    return history | {f"eval/{name}": np.array([before[name], after[name]]) for name in after}


def _depends_on_first(function: Callable[..., PyTree], *arguments: Array) -> bool:
  """Tells whether any output is computed from the first argument; "yes" where only a look inside a loop could tell."""
  jaxpr = jax.make_jaxpr(function)(*arguments).jaxpr
  needed = {id(variable) for variable in jaxpr.outvars}
  for equation in reversed(jaxpr.eqns):
    if any(id(variable) in needed for variable in equation.outvars):
      needed |= {id(variable) for variable in equation.invars}
  return id(jaxpr.invars[0]) in needed


def grid(axes: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
  """Returns every combination of the axes' values, as overrides."""
  return [dict(zip(axes, point, strict=True)) for point in itertools.product(*axes.values())]
