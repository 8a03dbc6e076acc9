"""TEMPO against GRPO on the signpost language (arXiv:2509.18314; spec: few early decisions matter, a free tail).

    python -m experiments.run --config=configs/credit/tempo.py                  one run, about a minute
    python -m experiments.run --config=configs/credit/tempo.py:all_relevant     every decision matters
    python -m experiments.reproduce --config=configs/credit/tempo.py            the comparison and its verdict

Two parts. (a) Gradient precision: the cosine of each estimator's gradient with the exact gradient of a tabular policy
on a binary tree of 7 decisions, where the relevant ones lie early, spread out or late. (b) Training: area under the
success curve, paired by seed, the learning rate of each arm chosen on seeds 100-107, judged on seeds 200-215.

How it was sized, on seeds 100-102. In the first version (6 prompts, 2 relevant decisions, 200 updates, rates up to
4e-3) both arms sat at the edge of the grid, with areas of 0.9. More prompts alone changed nothing: with 12 and 24 the
areas at 12e-3 are 0.94 to 0.96. With 12 prompts, 3 relevant decisions and 80 updates they are 0.57, 0.70, 0.74, 0.70,
0.45 (GRPO) and 0.60, 0.75, 0.70, 0.68, 0.57 (TEMPO) at 3, 6, 12, 18 and 24e-3: below 0.8, with the best rate inside.

What came of it. Both arms chose 8e-3, inside the grid, with areas of 0.70 (GRPO) and 0.72 (TEMPO): the interval
contains 0, so it is inconclusive. Where every decision matters the tree's term costs 0.16 of the area.

What to know of it. Where every decision matters (`all_relevant`) the tree's term is not expected to help; it is
reported beside the verdict. A response ends with its first EOS, where the original miniature draws a fixed number of
tokens; an early EOS is wrong either way.
"""

import ml_collections
import numpy as np

from rlcore.training import results, verdicts


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  """Returns the configuration; `arg` is None (the headline regime), "all_relevant" or "smoke"."""
  if arg not in (None, "", "all_relevant", "smoke"):
    raise ValueError(f"configs/credit/tempo.py has no variant {arg!r}; it has: all_relevant, smoke")
  config = ml_collections.ConfigDict()
  config.experiment = "experiments.credit.tempo"
  config.seed = 0  # draws weights and secrets
  config.steps = 80
  config.log_every = 20
  config.eval_every = 0
  config.checkpoint_every = 80
  config.max_nonfinite = 5
  config.progress_metric = "success"

  config.task = ml_collections.ConfigDict(dict(num_blocks=8, num_options=2, num_prompts=12, relevant=(0, 1, 2)))
  config.model = ml_collections.ConfigDict(dict(dim=48))
  config.warmup = ml_collections.ConfigDict(dict(steps=400, batch_size=64, lr=3e-3))

  config.group_size = 8
  config.lr = 6e-3
  config.td_coef = 1.0  # 0 is GRPO
  config.clip_low = 0.2
  config.clip_high = 0.28
  config.entropy_coef = 0.01

  config.study = ml_collections.ConfigDict(dict(depth=7, num_groups=1500, cases=(
      ((0, 1, 2), 4), ((0, 1, 2), 8), ((0, 1, 2), 16), ((0, 3, 6), 8), ((4, 5, 6), 8))))

  if arg == "all_relevant":
    config.task.update(dict(num_blocks=6, num_prompts=4, relevant=(0, 1, 2, 3, 4, 5)))
    config.group_size = 16
    config.steps = 250
  if arg == "smoke":
    config.steps = config.log_every = config.checkpoint_every = 2
    config.warmup.update(dict(steps=2, batch_size=4))
    config.study.num_groups = 20
  return config


ARMS = {"grpo": dict(td_coef=0.0), "tempo": dict(td_coef=1.0)}
TUNE = dict(grid={"lr": (2e-3, 3e-3, 4e-3, 6e-3, 8e-3, 12e-3, 18e-3)}, seeds=range(100, 108))
VARIANTS = {"headline": None, "all_relevant": "all_relevant"}
STUDY = dict(seeds=range(8), batch=1)
JUDGED_CASES = {"rel012_g8": "early", "rel036_g8": "spread out"}
CLAIM = results.Claim(
    paper="TEMPO",
    arxiv="2509.18314",
    statement="Prefix-tree credit beats GRPO's at equal rollouts (MATH 82 to 87 % for Qwen3-4B, up to 1.6x faster).",
    metric="mean:success",
    method="tempo",
    baselines=("grpo",),
    rival="grpo",
    rule="(a) the cosine with the exact gradient rises by more than 0.05 where the relevant decisions are early and "
         "where they are spread out (G = 8), and (b) the paired difference in area under the success curve lies "
         "above 0, all with their whole 95 % intervals; not reproduced if an interval of (a) or of (b) lies at or "
         "below 0; else inconclusive",
    seeds=tuple(range(200, 216)),
    variant="headline",
    also=("tail:success",),
)


def verdict(result) -> verdicts.Verdict:
  """Judges by the rule in `CLAIM`; the regime where every decision matters is reported, not judged."""
  study = result["study"]["metrics"]
  judged = [verdicts.Quantity(f"cosine, TEMPO - GRPO, relevant {words}", study[f"{case}/difference"], 0.05, 0.0)
            for case, words in JUDGED_CASES.items()]
  every = verdicts.compare(result, "grpo", variant="all_relevant")
  return verdicts.decide(
      *judged, verdicts.Quantity("area, TEMPO - GRPO", verdicts.difference(result, "grpo")),
      also=f"cosine {np.mean(study['rel456_g8/difference']):+.3f} where only late decisions matter; area "
           f"{verdicts.shown(every)} where every decision does")
