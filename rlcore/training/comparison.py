"""One regime of a paper's comparison: tune every arm alike, run every arm on the seeds of the verdict."""

from collections.abc import Mapping, Sequence
import dataclasses
import hashlib
import pathlib
from typing import Any

import ml_collections
import numpy as np

from rlcore.training import files, results
from rlcore.training import sweep as sweep_lib
from rlcore.training.errors import RunError
from rlcore.training.progress import Progress
from rlcore.training.sweep import Lane, LaneHistory, LaneRunner, MakeExperiment

CURVE_POINTS = 50


@dataclasses.dataclass(frozen=True)
class Protocol:
  """What a config file says of its comparison.

  Attributes:
    claim: the claim.
    arms: overrides by name.
    tune_grid: values by dotted key; each arm gets the best point of their product, over the keys that it does not set
      itself. Empty for no tuning.
    tune_seeds: seeds on which the best is chosen.
  """

  claim: results.Claim
  arms: Mapping[str, Mapping[str, Any]]
  tune_grid: Mapping[str, Sequence[Any]] = dataclasses.field(default_factory=dict)
  tune_seeds: tuple[int, ...] = ()

  def __post_init__(self):
    missing = [name for name in (self.claim.method, *self.claim.baselines) if name not in self.arms]
    if missing:
      raise RunError(f"CLAIM compares {', '.join(missing)}, but ARMS has only {', '.join(self.arms)}")
    shared = sorted(set(self.tune_seeds) & set(self.claim.seeds))
    if shared:
      raise RunError(f"seeds {shared} are used for tuning and for the verdict; take others for TUNE")
    if self.tune_grid and not self.tune_seeds:
      raise RunError("TUNE has a grid but no seeds")

  @property
  def keys(self) -> tuple[str, ...]:
    """All dotted keys that some run overrides."""
    return tuple(sorted({key for arm in self.arms.values() for key in arm} | set(self.tune_grid)))

  @property
  def metrics(self) -> tuple[str, ...]:
    """The claim's metric and those that are reported beside it."""
    return (self.claim.metric, *self.claim.also)

  @property
  def needs_evaluation(self) -> bool:
    """Whether a metric is one of the held-out evaluation."""
    return bool(self.claim.kept) or any(metric.partition(":")[2].startswith("eval/") for metric in self.metrics)


class LanePool:
  """Runs lanes through programs that are compiled once, and keeps every finished one on the disk."""

  def __init__(self, make_experiment: MakeExperiment, config: ml_collections.ConfigDict, protocol: Protocol,
               store: pathlib.Path, *, max_width: int, salt: str = "", progress: Progress | None = None):
    """Prepares for one config.

    Args:
      make_experiment: builds an experiment from a config.
      config: the config that arms override.
      protocol: the comparison.
      store: directory of finished runs; those found there are not run again.
      max_width: the most lanes in one call of a program.
      salt: distinguishes runs of different code in `store`.
      progress: where to show how far it is.
    """
    self._make_experiment, self._config, self._protocol, self._store = make_experiment, config, protocol, store
    self._max_width, self._salt, self._progress = max_width, salt, progress
    known = sweep_lib.flatten(config)
    _, floats = sweep_lib.split_overrides(config, {key: known.get(key) for key in protocol.keys})
    self._float_keys = tuple(floats)
    self._runners: dict[str, LaneRunner] = {}

  @property
  def programs(self) -> int:
    """How many different programs of main updates have been needed so far."""
    return len(self._runners)

  def run(self, lanes: Sequence[Lane], label: str) -> list[LaneHistory]:
    """Returns the metrics of every lane."""
    paths = [self._store / f"{self._name(lane)}.npz" for lane in lanes]
    found = [files.read_arrays(path) for path in paths]
    missing = [i for i, history in enumerate(found) if history is None]
    if len(missing) < len(lanes) and self._progress is not None:
      self._progress.message(f"{label}: {len(lanes) - len(missing)} of {len(lanes)} runs were finished before")
    for group in sweep_lib.group_lanes(self._config, [lanes[i] for i in missing]):
      def keep(index, history, group=group):
        files.replace_arrays(paths[missing[group.indices[index]]], history)
        found[missing[group.indices[index]]] = history
      self._runner(group.static).run(group.lanes, label, keep)
    return found

  def _runner(self, static: Mapping[str, Any]) -> LaneRunner:
    name = sweep_lib.program_name(static)
    if name not in self._runners:
      # As wide as the runs of the verdict that share this program; tuning goes through it in several lots.
      statics = [sweep_lib.split_overrides(self._config, arm)[0] for arm in self._protocol.arms.values()]
      arms = sum(all(key in static and static[key] == arm[key] for key in arm) for arm in statics)
      self._runners[name] = LaneRunner(
          self._make_experiment, sweep_lib.apply_overrides(self._config, static), self._float_keys,
          width=min(self._max_width, arms * len(self._protocol.claim.seeds)),
          evaluate=self._protocol.needs_evaluation, progress=self._progress)
    return self._runners[name]

  def _name(self, lane: Lane) -> str:
    config = sweep_lib.apply_overrides(self._config, {**lane.overrides, "seed": lane.seed})
    text = f"{config.to_json_best_effort(sort_keys=True)} {self._protocol.needs_evaluation} {self._salt}"
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def run_comparison(pool: LanePool, protocol: Protocol, name: str) -> dict[str, Any]:
  """Tunes and runs every arm.

  Args:
    pool: what runs the lanes.
    protocol: the comparison.
    name: of the variant, for the progress.

  Returns:
    The entry of the variant in a result file: `arms` by name with their settings, tuning scores, one number a seed for
    each metric and binned curves; `comparisons` by baseline.
  """
  tuned = _tune(pool, protocol, name)
  seeds = protocol.claim.seeds
  settings = {arm: {**overrides, **tuned[arm][0]} for arm, overrides in protocol.arms.items()}
  lanes = [Lane(settings[arm], seed) for arm in protocol.arms for seed in seeds]
  histories = pool.run(lanes, f"{name}: the verdict's seeds")
  arms = {}
  for i, arm in enumerate(protocol.arms):
    own = histories[i * len(seeds):(i + 1) * len(seeds)]
    arms[arm] = {
        "settings": settings[arm], "tuning": tuned[arm][1],
        "values": {metric: [float(results.reduce_history(metric, h)) for h in own] for metric in protocol.metrics},
        "curve": _curve(protocol.claim.metric.partition(":")[2], own, protocol.claim.cost),
        "nonfinite_updates": int(sum(np.sum(h[k]) for h in own for k in h if k.startswith("nonfinite_")))}
    if protocol.claim.curves:
      arms[arm]["curves"] = {key: _curve(key, own, protocol.claim.cost) for key in protocol.claim.curves}
    if protocol.claim.kept:
      arms[arm]["kept"] = {key: np.round(own[0][key].astype(float), 3).tolist() for key in protocol.claim.kept}
  return {"arms": arms}


def _tune(pool: LanePool, protocol: Protocol, name: str) -> dict[str, tuple[dict[str, Any], list[dict[str, Any]]]]:
  """Returns for each arm its best point of the grid, and the mean score of every point."""
  tuned = {arm: ({}, []) for arm in protocol.arms}
  free = {arm: {key: values for key, values in protocol.tune_grid.items() if key not in overrides}
          for arm, overrides in protocol.arms.items()}
  cases = [(arm, point) for arm in protocol.arms if free[arm] for point in sweep_lib.grid(free[arm])]
  if not cases:
    return tuned
  lanes = [Lane({**protocol.arms[arm], **point}, seed) for arm, point in cases for seed in protocol.tune_seeds]
  scores = [float(results.reduce_history(protocol.claim.metric, h)) for h in pool.run(lanes, f"{name}: tuning")]
  means = np.array(scores).reshape(len(cases), -1).mean(1)
  for arm in dict(cases):
    own = [(point, float(mean)) for (case, point), mean in zip(cases, means, strict=True) if case == arm]
    good = [(mean if protocol.claim.higher_is_better else -mean, point) for point, mean in own if np.isfinite(mean)]
    if not good:
      raise RunError(f"{name}: no point of the grid gave arm {arm} a finite {protocol.claim.metric}")
    tuned[arm] = (max(good, key=lambda pair: pair[0])[1], [point | {"score": mean} for point, mean in own])
  return tuned


def _curve(key: str, histories: Sequence[LaneHistory], cost: str = "") -> dict[str, Any]:
  """Bins the series of every seed to at most `CURVE_POINTS` means; an evaluation keeps its two points.

  With `cost`, the key of what each update costs, the cost spent so far is binned alike.
  """
  def binned(values):
    stride = -(-values.shape[1] // CURVE_POINTS)
    whole = values.shape[1] // stride * stride
    means = values[:, :whole].reshape(len(values), -1, stride).mean(2)
    return stride, [[round(float(x), 4) for x in row] for row in means]

  stride, seeds = binned(np.stack([h[key] for h in histories]))
  curve = {"key": key, "stride": stride, "seeds": seeds}
  return curve | {"cost": binned(np.stack([np.cumsum(h[cost], dtype=float) for h in histories]))[1]} if cost else curve
