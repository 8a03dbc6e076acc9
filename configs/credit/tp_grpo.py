"""TP-GRPO against GRPO on the stack writer (arXiv:2507.23317; spec: errors that a response takes back itself).

    python -m experiments.run --config=configs/credit/tp_grpo.py          one run
    python -m experiments.reproduce --config=configs/credit/tp_grpo.py    the comparison and its verdict

A response writes a secret of 4 digits by pushing and popping; what it pops it took back, so the judge of thoughts is a
stack machine that sees nothing but the response and its outcome. All arms start from one clone of an imperfect script
per seed (it solves about a fifth) and share one compiled program; the learning rate of each is chosen on seeds 100 and
101, judged on seeds 0-7. Beside GRPO: `step` rewards steps without merging them, `fixed` makes a thought worth 1
whatever the group's accuracy, `flipped` is TP-GRPO with a judge that errs on 10 % of the steps.

`first:variance/...` and `first:label_correlation/...` are measured before the first update: the variance of the credit
and its correlation with the labels, merged and unmerged, both under the arm's own judge.

What to know of it. The clone learns from fresh episodes of the script at every step (16 a prompt, about 1,600 actions)
instead of a fixed set of 4,000. No size was cut. All arms chose the largest rate of the grid. Why labels hurt here:
what an incorrect response took back gets credit 0 where GRPO punishes it, so a failing policy learns to push and pop
in loops (8 pops a response at update 30, GRPO 0.7) before it unlearns that again. The text of a language model, which
is judged by its final answer after any number of reflections, may not have this way out.
"""

import ml_collections

from rlcore.training import judging, results, verdicts


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  """Returns the configuration; `arg` is None or "smoke"."""
  if arg not in (None, "", "smoke"):
    raise ValueError(f"configs/credit/tp_grpo.py has no variant {arg!r}; it has: smoke")
  config = ml_collections.ConfigDict()
  config.experiment = "experiments.credit.tp_grpo"
  config.seed = 0  # draws weights, secrets and hints
  config.steps = 200
  config.log_every = 20
  config.eval_every = 0
  config.checkpoint_every = 200
  config.max_nonfinite = 5
  config.progress_metric = "success"

  config.prompts = ml_collections.ConfigDict(dict(num_prompts=16, length=4, base=4))
  config.horizon = 14
  config.clone = ml_collections.ConfigDict(dict(steps=600, episodes=16, lr=3e-3))

  config.group_size = 8
  config.epochs = 4
  config.lr = 1e-3
  config.clip = 0.2
  config.judged = 1.0  # 0: every label is 1, which is GRPO
  config.merge = 1.0  # 0: rewards of steps instead of thoughts
  config.adaptive = 1.0  # 0: a thought is worth 1
  config.flip = 0.0  # error rate that is added to the judge's own
  config.judge = judging.judge_config()  # of correct responses what they took back, of others what led to the answer

  if arg == "smoke":
    config.steps = config.log_every = config.checkpoint_every = 2
    config.clone.update(dict(steps=2, episodes=1))
    config.prompts.num_prompts = 4
  return config


ARMS = {
    "grpo": dict(judged=0.0, merge=1.0, adaptive=1.0, flip=0.0),
    "tp_grpo": dict(judged=1.0, merge=1.0, adaptive=1.0, flip=0.0),
    "step": dict(judged=1.0, merge=0.0, adaptive=1.0, flip=0.0),
    "fixed": dict(judged=1.0, merge=1.0, adaptive=0.0, flip=0.0),
    "flipped": dict(judged=1.0, merge=1.0, adaptive=1.0, flip=0.1),
}
TUNE = dict(grid={"lr": (3e-4, 1e-3, 3e-3)}, seeds=(100, 101))
CLAIM = results.Claim(
    paper="TP-GRPO",
    arxiv="2507.23317",
    statement="Rewarding thoughts, labelled by the reflections that follow, reaches GRPO's accuracy with a sixth of "
              "its solutions (R1-Distill-Qwen-1.5B: 50.1 with 5.6K against 49.6 with 34K).",
    metric="mean:success",
    method="tp_grpo",
    baselines=("grpo",),
    rival="grpo",
    rule="the 95 % interval of the paired difference in area under the success curve lies above 0; not reproduced if"
         " it lies at or below 0; else inconclusive",
    seeds=tuple(range(8)),
    also=("to0.6:success", "tail:success", "first:success", "tail:pops", "first:pops", "first:variance/merged",
          "first:variance/unmerged", "first:label_correlation/merged", "first:label_correlation/unmerged"),
)


def verdict(result) -> verdicts.Verdict:
  """Judges by the rule in `CLAIM`; the other arms are reported beside it."""
  side = {arm: verdicts.compare(result, "grpo", method=arm) for arm in ARMS if arm not in ("grpo", "tp_grpo")}
  return verdicts.decide(
      verdicts.Quantity("area, TP-GRPO - GRPO", verdicts.difference(result, "grpo")),
      also="area - grpo of " + ", ".join(f"{arm} {verdicts.shown(x)}" for arm, x in side.items()))
