"""Intervals that cover, comparisons that could not have told, and verdicts."""

import json
import re

import numpy as np
import pytest
import scipy.stats

from rlcore.training import results, verdicts
from rlcore.training.errors import RunError


def make_result(method, baseline, tuning=None, **claim):
  claim = {"rival": "plain"} | claim
  claim = results.Claim("Toy | A", "0000.00000", "Good beats plain.", "mean:success", "good", ("plain",),
                        seeds=tuple(range(len(method))), **claim)
  arms = {name: {"values": {"mean:success": list(values)}, "settings": {"lr": 0.02},
                 "tuning": [{"lr": lr, "score": score} for lr, score in (tuning or {}).get(name, {}).items()]}
          for name, values in (("good", method), ("plain", baseline))}
  return json.loads(json.dumps({"claim": claim.__dict__, "variants": {"main": {"arms": arms}}, "seconds": 90.0}))


def _percentile_bootstrap(draws, rng, resamples=400):
  picks = rng.integers(0, draws.shape[1], (resamples, draws.shape[1]))
  return np.quantile(draws[:, picks].mean(2), [0.025, 0.975], axis=1)


@pytest.mark.parametrize("count", [3, 5, 8, 10])
def test_the_interval_covers_where_the_percentile_bootstrap_does_not(count):
  rng = np.random.default_rng(count)
  kinds = {"normal": rng.normal(0.3, 1, (1500, count)), "uniform": rng.uniform(-0.7, 1.3, (1500, count)),
           "skewed": rng.gamma(4.0, 0.25, (1500, count)) - 0.7}  # all with mean 0.3
  covered = {}
  for name, draws in kinds.items():
    found = [verdicts.mean_interval(x) for x in draws]
    covered[name] = np.mean([x.low <= 0.3 <= x.high for x in found])
  assert covered["normal"] >= 0.94 and min(covered.values()) >= (0.91 if count == 3 else 0.925), covered
  low, high = _percentile_bootstrap(kinds["normal"], rng)
  bootstrap = np.mean((low <= 0.3) & (0.3 <= high))
  assert bootstrap < covered["normal"] - 0.02 and bootstrap < {3: 0.80, 5: 0.88, 8: 0.92, 10: 0.93}[count]


def test_the_interval_of_a_share_covers_at_least_as_often_as_it_says():
  for total in (8, 16):
    for share in (0.05, 0.3, 0.5, 0.9):
      chances = scipy.stats.binom.pmf(np.arange(total + 1), total, share)
      found = [verdicts.share_interval([1] * k + [0] * (total - k)) for k in range(total + 1)]
      assert sum(p for p, x in zip(chances, found, strict=True) if x.low <= share <= x.high) >= 0.95
  assert verdicts.share_interval([1] * 8) == pytest.approx((1.0, 0.6306, 1.0), abs=1e-4)  # 0.025 ** (1 / 8)
  with pytest.raises(ValueError, match="0 or 1"):
    verdicts.share_interval([0.5])


def test_paired_intervals_are_students():
  # By hand: differences .1 .2 .3 .4, mean .25, standard error .0645497, t_3(.975) = 3.182446.
  found = verdicts.paired_interval([0.5, 0.5, 0.5, 0.5], [0.4, 0.3, 0.2, 0.1])
  assert found == pytest.approx((0.25, 0.25 - 0.205426, 0.25 + 0.205426), abs=1e-6)
  assert verdicts.mean_interval([2.0]) == (2.0, -np.inf, np.inf)
  assert np.isnan(verdicts.mean_interval([1.0, np.nan])).all()
  with pytest.raises(ValueError, match="as many numbers"):
    verdicts.paired_interval([1.0], [1.0, 2.0])
  with pytest.raises(ValueError, match="needs numbers"):
    verdicts.mean_interval([])


_GAINS = [0.5, 0.6, 0.7, 0.6, 0.5, 0.6, 0.7, 0.6]


@pytest.mark.parametrize("method, claim, expected", [
    (_GAINS, {}, "reproduced"),
    ([0.1, 0.2] * 4, {}, "not reproduced"),
    ([0.5, 0.1] * 4, {}, "inconclusive"),
    ([0.3, 0.28, 0.31] * 3, {}, "inconclusive"),  # the mean is below 0, the interval contains it
    (_GAINS, {"margin": 0.5}, "not reproduced"),
    ([0.3] * 8, {}, "not reproduced"),  # no difference at all, and a baseline that could have been beaten
    ([0.1, 0.2] * 4, {"higher_is_better": False}, "reproduced"),
    (_GAINS[:7], {}, "inconclusive"),  # seven seeds
    ([*_GAINS[:7], float("nan")], {}, "inconclusive"),
    (_GAINS, {"doubts": ("it was too easy",)}, "inconclusive"),
    (_GAINS, {"rival": "other"}, "inconclusive"),
    (_GAINS, {"rival": None}, "inconclusive"),
    (_GAINS, {"span": (0.0, 10.0)}, "inconclusive"),  # a floor
    (_GAINS, {"span": (0.0, 0.32)}, "inconclusive"),  # a ceiling
    (_GAINS, {"span": None}, "reproduced"),
])
def test_verdicts(method, claim, expected):
  found = verdicts.judge(make_result(method, [0.3] * len(method), **claim))
  assert found["verdict"] == expected and found["reason"]
  assert list(found["judged"]) == ["good - plain"]


@pytest.mark.parametrize("plain, good, doubt", [
    ({0.01: 0.3, 0.02: 0.5, 0.04: 0.4}, {0.01: 0.3, 0.02: 0.6, 0.04: 0.5}, None),
    ({0.01: 0.3, 0.02: 0.5}, {}, r"plain: lr 0.02 is at the edge of its grid \(0.01 to 0.02\)"),
    ({}, {0.02: 0.5, 0.04: 0.4}, r"good: lr 0.02 is at the edge"),
    ({0.01: 0.3, 0.02: 0.97, 0.04: 0.4}, {}, r"plain, the strongest rival, is at the ceiling \(0.97 of 0 to 1\)"),
    ({0.01: 0.01, 0.02: 0.05, 0.04: 0.01}, {}, r"plain, the strongest rival, is at the floor \(0.05 of 0 to 1\)"),
])
def test_what_was_tuned_is_checked(plain, good, doubt):
  found = verdicts.judge(make_result(_GAINS, [0.3] * 8, {"plain": plain, "good": good}))
  assert found["verdict"] == ("inconclusive" if doubt else "reproduced")
  assert [bool(re.match(doubt, x)) for x in found["doubts"]] == [True] if doubt else found["doubts"] == []


def test_rivals_may_be_metrics_of_the_method():
  result = make_result(_GAINS, [0.0] * 8, rival="mean:other", rival_metrics=("mean:other",))
  result["variants"]["main"]["arms"]["good"]["values"]["mean:other"] = [0.4] * 8
  assert verdicts.judge(result)["verdict"] == "reproduced"
  result["variants"]["main"]["arms"]["good"]["values"]["mean:other"] = [0.99] * 8
  assert "mean:other, the strongest rival, is at the ceiling" in verdicts.judge(result)["doubts"][0]


def test_thresholds_of_their_own():
  low, high = [0.1, 0.2, 0.15] * 3, [0.6, 0.7, 0.65] * 3
  between = verdicts.Quantity("between", low, above=0.5, refuted=0.0)
  assert verdicts.decide(between).verdict == "inconclusive"
  assert verdicts.decide(verdicts.Quantity("under", low, above=0.5)).verdict == "not reproduced"
  assert verdicts.decide(verdicts.Quantity("over", high, above=0.5), between).verdict == "inconclusive"
  found = verdicts.decide(verdicts.Quantity("over", high, above=0.5), also="and more")
  assert found.verdict == "reproduced" and found.reason == "over +0.650 [+0.617, +0.683]; and more"
  assert verdicts.decide(verdicts.Quantity("all", [1] * 8, 0.8, share=True)).verdict == "inconclusive"


def test_a_verdict_is_one_of_three():
  with pytest.raises(RunError, match="'maybe' is none of reproduced"):
    verdicts.judge(make_result(_GAINS, [0.3] * 8), lambda result: verdicts.Verdict("maybe", "why not", ()))


def test_the_cost_of_a_level_is_read_off_the_curve():
  curve = {"seeds": [[0.0, 0.4, 0.8, 0.3], [0.7, 0.1, 0.9, 0.9], [0.1, 0.2, 0.3, 0.4]],
           "cost": [[10, 20, 30, 40], [1, 2, 3, 4], [5, 6, 7, 8]]}
  # Half way between two points; at the first point; never.
  assert verdicts.cost_to_reach(curve, 0.6).tolist() == pytest.approx([25, 1, 8])
