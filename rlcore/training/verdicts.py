"""What a comparison shows: intervals that cover, whether the comparison could tell at all, and the verdict.

A rule is a few quantities, one number a seed each. The claim holds where every interval lies above its threshold, and
is refuted where one lies at or below its own. Anything else is inconclusive, and so is every comparison that could not
have told: too few seeds, a rival on the floor or at the ceiling, a tuned value at the edge of its grid.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import functools
from typing import Any, NamedTuple

import numpy as np
import scipy.stats

from rlcore.training.errors import RunError

VERDICTS = ("reproduced", "not reproduced", "inconclusive")
FEWEST_SEEDS = 8
ROOM = 0.1  # of the span of the metric: how far the strongest rival must stay from its floor and its ceiling


class Interval(NamedTuple):
  """A mean with the ends of its interval."""

  mean: float
  low: float
  high: float


def mean_interval(values: Sequence[float], *, level: float = 0.95) -> Interval:
  """Estimates a mean with Student's interval.

  It covers the mean of normal numbers as often as `level` says however few they are, where the percentile bootstrap of
  five numbers covers it in 84 % of cases instead of 95 % (`tests/training/test_verdicts.py` simulates both).

  Args:
    values: `[N]`, one number a seed.
    level: probability that the interval should cover.

  Returns:
    The mean with its interval: without bounds for a single number, NaN where a number is not finite.

  Raises:
    ValueError: if there is no number.
  """
  values = np.asarray(values, np.float64)
  if values.ndim != 1 or not len(values):
    raise ValueError(f"an interval needs numbers [N], not an array of shape {values.shape}")
  mean = float(values.mean())
  if not np.isfinite(mean):
    return Interval(np.nan, np.nan, np.nan)
  if len(values) == 1:
    return Interval(mean, -np.inf, np.inf)
  half = float(_student((1 + level) / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
  return Interval(mean, mean - half, mean + half)


@functools.cache
def _student(probability: float, freedom: int) -> float:
  return float(scipy.stats.t.ppf(probability, freedom))


def share_interval(values: Sequence[float], *, level: float = 0.95) -> Interval:
  """Estimates the share of seeds on which something is so, with the interval of Clopper and Pearson.

  Args:
    values: `[N]` of 0 and 1.
    level: probability that the interval should at least cover.

  Returns:
    The share with its interval, which has a width even where all seeds agree.

  Raises:
    ValueError: if there is no number, or one that is neither 0 nor 1.
  """
  values = np.asarray(values, np.float64)
  if not len(values) or not np.isin(values, (0, 1)).all():
    raise ValueError(f"a share needs numbers that are 0 or 1, not {values.tolist()}")
  count, total, tail = int(values.sum()), len(values), (1 - level) / 2
  low = scipy.stats.beta.ppf(tail, count, total - count + 1) if count else 0.0
  high = scipy.stats.beta.ppf(1 - tail, count + 1, total - count) if count < total else 1.0
  return Interval(count / total, float(low), float(high))


def paired_interval(method: Sequence[float], baseline: Sequence[float], *, level: float = 0.95) -> Interval:
  """Estimates the mean paired difference with Student's interval.

  Args:
    method: `[N]`, one number a seed.
    baseline: `[N]`, of the same seeds in the same order.
    level: probability that the interval should cover.

  Returns:
    Mean of `method - baseline` with its interval, as in `mean_interval`.

  Raises:
    ValueError: if the lengths differ or are 0.
  """
  if len(method) != len(baseline) or not len(method):
    raise ValueError(f"a paired comparison needs as many numbers on both sides, not {len(method)} and {len(baseline)}")
  return mean_interval(np.asarray(method, np.float64) - np.asarray(baseline, np.float64), level=level)


@dataclasses.dataclass(frozen=True)
class Quantity:
  """One number a seed that a rule looks at.

  Attributes:
    name: what it is, in words, signed so that more speaks for the claim.
    values: `[N]`.
    above: the claim needs the whole interval above this.
    refuted: the claim is refuted if the whole interval lies at or below this; None for `above`.
    share: whether the values are 0 or 1, and the interval is that of a share.
  """

  name: str
  values: Sequence[float]
  above: float = 0.0
  refuted: float | None = None
  share: bool = False

  @property
  def interval(self) -> Interval:
    """Mean and interval of the values."""
    return (share_interval if self.share else mean_interval)(self.values)

  def __str__(self) -> str:
    return f"{self.name} {shown(self.interval)}"


class Verdict(NamedTuple):
  """What a rule found.

  Attributes:
    verdict: one of `VERDICTS`.
    reason: one sentence why.
    judged: the quantities that the rule looked at.
  """

  verdict: str
  reason: str
  judged: tuple[Quantity, ...]


Rule = Callable[[Mapping[str, Any]], Verdict]


def shown(interval: Interval) -> str:
  """Writes an interval: `+0.012 [+0.003, +0.018]`."""
  return f"{interval.mean:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"


def decide(*quantities: Quantity, also: str = "") -> Verdict:
  """Judges by quantities that must all hold: reproduced if they do, not reproduced if one is refuted.

  Args:
    *quantities: what the rule looks at.
    also: what else the reason should say.

  Returns:
    The verdict; inconclusive where an interval contains its threshold or is not finite.
  """
  told = "; ".join(map(str, quantities)) + (f"; {also}" if also else "")
  refuted = lambda q: q.interval.high <= (q.above if q.refuted is None else q.refuted)
  if any(map(refuted, quantities)):
    return Verdict("not reproduced", told, quantities)
  holds = all(q.interval.low > q.above for q in quantities)
  return Verdict("reproduced" if holds else "inconclusive", told, quantities)


def judged_variant(result: Mapping[str, Any]) -> str:
  """Names the variant that the verdict is about."""
  chosen = result["claim"]["variant"]
  return next(iter(result["variants"])) if chosen is None else chosen


def seed_values(result: Mapping[str, Any], arm: str, *, variant: str | None = None,
                metric: str | None = None) -> np.ndarray:
  """Returns the numbers `[N]` of an arm, one a seed; by default the claim's metric in the judged variant."""
  arms = result["variants"][judged_variant(result) if variant is None else variant]["arms"]
  return np.asarray(arms[arm]["values"][metric or result["claim"]["metric"]], np.float64)


def difference(result: Mapping[str, Any], baseline: str, *, variant: str | None = None, method: str | None = None,
               metric: str | None = None) -> np.ndarray:
  """Subtracts one arm of a result from another, seed by seed.

  Args:
    result: a result, as in its file.
    baseline: name of the arm to subtract.
    variant: which variant, the judged one by default.
    method: the other arm, the claim's method by default.
    metric: which metric, the claim's by default.

  Returns:
    `[N]`, method minus baseline; the sign is turned where a low number is good, so that above 0 is always better.
  """
  values = lambda arm: seed_values(result, arm, variant=variant, metric=metric)
  gain = values(method or result["claim"]["method"]) - values(baseline)
  return gain if result["claim"]["higher_is_better"] else -gain


def compare(result: Mapping[str, Any], baseline: str, **which: Any) -> Interval:
  """Compares two arms of a result, seed by seed: the mean and the interval of `difference`."""
  return mean_interval(difference(result, baseline, **which))


def cost_to_reach(curve: Mapping[str, Any], level: float) -> np.ndarray:
  """Finds what each seed had spent when its curve first reached a level, between two points on the straight line.

  Args:
    curve: of an arm in a result whose claim has a `cost`.
    level: of the curve's metric.

  Returns:
    `[seeds]`, the cost of the last point where the level was never reached.
  """
  reached = []
  for values, costs in zip(np.array(curve["seeds"], float), np.array(curve["cost"], float), strict=True):
    above = np.flatnonzero(values >= level)
    if not len(above) or above[0] == 0:
      reached.append(costs[0 if len(above) else -1])
    else:
      i = above[0]
      reached.append(np.interp(level, values[i - 1:i + 1], costs[i - 1:i + 1]))
  return np.array(reached)


def default_rule(result: Mapping[str, Any]) -> Verdict:
  """Judges by the paired difference to every baseline, each above the claim's margin."""
  claim = result["claim"]
  return decide(*(Quantity(f"{claim['method']} - {baseline}", difference(result, baseline), claim["margin"])
                  for baseline in claim["baselines"]))


def doubts(result: Mapping[str, Any]) -> list[str]:
  """Lists why a comparison could not have told, each in a few words; none for one that could.

  Args:
    result: a result without verdict. The strongest rival is the baseline that is best by the claim's metric on the
      tuning seeds, or on the judged ones where nothing was tuned.

  Returns:
    Too few seeds, the claim's own doubts, a rival nearer than a tenth of the metric's span to its floor or ceiling, a
    compared arm without a choice of the value that it was tuned in or with its choice at the edge.
  """
  claim, arms = result["claim"], result["variants"][judged_variant(result)]["arms"]
  found = list(claim["doubts"])
  if len(claim["seeds"]) < FEWEST_SEEDS:
    found.append(f"{len(claim['seeds'])} seeds where {FEWEST_SEEDS} are needed")
  scores = {name: _score(claim, arms[name]) for name in claim["baselines"]}
  scores |= {metric: float(np.mean(arms[claim["method"]]["values"][metric])) for metric in claim["rival_metrics"]}
  found += _no_room(claim, scores)
  found += [f"{arm}: {key} {chosen:g} {where}" for arm in (claim["method"], *claim["baselines"])
            for key, chosen, where in _edges(arms[arm])]
  return found


def _score(claim: Mapping[str, Any], arm: Mapping[str, Any]) -> float:
  scores = [point["score"] for point in arm.get("tuning", ()) if np.isfinite(point["score"])]
  best = max if claim["higher_is_better"] else min
  return best(scores) if scores else float(np.mean(arm["values"][claim["metric"]]))


def _no_room(claim: Mapping[str, Any], scores: Mapping[str, float]) -> list[str]:
  if claim["span"] is None or not scores:
    return []
  floor, ceiling = claim["span"]
  name = (max if claim["higher_is_better"] else min)(scores, key=scores.__getitem__)
  share = (scores[name] - floor) / (ceiling - floor)
  if ROOM <= share <= 1 - ROOM:
    return []
  end = "floor" if share < ROOM else "ceiling"
  return [f"{name}, the strongest rival, is at the {end} ({scores[name]:.3g} of {floor:g} to {ceiling:g})"]


def _edges(arm: Mapping[str, Any]) -> list[tuple[str, float, str]]:
  """Finds the values that were chosen at an end of their grid, or without a grid that has an inside."""
  found = []
  for key in {key: None for point in arm.get("tuning", ()) for key in point if key != "score"}:
    tried = sorted({point[key] for point in arm["tuning"]})
    if isinstance(arm["settings"][key], (int, float)) and arm["settings"][key] in (tried[0], tried[-1]):
      found.append((key, arm["settings"][key], f"is at the edge of its grid ({tried[0]:g} to {tried[-1]:g})"))
  return found


def judge(result: Mapping[str, Any], rule: Rule = default_rule) -> dict[str, Any]:
  """Judges a result: the rule decides, unless the comparison could not have told.

  Args:
    result: a result without verdict.
    rule: `(result) -> Verdict`.

  Returns:
    `verdict`, `reason`, `doubts` (see the function of that name) and `judged`, by name of a quantity its values, mean,
    interval and threshold: what goes into the result file.

  Raises:
    RunError: if the rule's verdict is none of `VERDICTS`.
  """
  found, why_not = rule(result), doubts(result)
  if found.verdict not in VERDICTS:
    raise RunError(f"the verdict {found.verdict!r} is none of {', '.join(VERDICTS)}")
  verdict, rival = found.verdict, result["claim"]["rival"]
  rivals = (*result["claim"]["baselines"], *result["claim"]["rival_metrics"])
  if verdict == "reproduced" and rivals and rival not in rivals:
    why_not.append(f"what the paper compares with ({rival}) is none of {', '.join(rivals)}")
  if why_not:
    verdict = "inconclusive"
  judged = {q.name: {"values": [float(x) for x in q.values], **q.interval._asdict(), "above": q.above}
            for q in found.judged}
  return {"verdict": verdict, "reason": found.reason, "doubts": why_not, "judged": judged}
