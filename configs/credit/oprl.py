"""OPRL / iStar against RLOO in the key corridor (arXiv:2509.19199; spec: delayed reward, most turns do not matter).

    python -m experiments.run --config=configs/credit/oprl.py          one run
    python -m experiments.reproduce --config=configs/credit/oprl.py    the comparison and its verdict

Eight tasks of eight turns; three hidden (room, action) pairs must be found, a fourth ends the episode. Tasks, weights
and episodes are redrawn with each seed and are the same for all arms, which share one compiled program; the learning
rate, common to policy and reward model, is chosen for each arm on seeds 100 and 101, judged on seeds 0-9. Beside RLOO:
`shuffled` has OPRL's step rewards permuted inside each trajectory (the same magnitudes, no credit), `mean` scores
trajectories by the mean of their rewards as the paper's code does, `pointwise` fits outcomes as PRIME does. The
unverifiable case, where a judge blurs the outcome with noise of standard deviation 0.3 and pairs go by its score, is
told by `rloo_judged` and `oprl_judged`.

`credit_rank` is the rank correlation of the model's step rewards with the change of the current policy's success
probability, over 64 fresh episodes before each update. That probability is computed exactly (room, turn and keys are
few) where the original plan samples 64 continuations of every step. No size was cut.

What to know of it. The step rewards do find credit (rank correlation +0.15 for OPRL, 0 for the shuffled control), and
yet OPRL and the control end where RLOO ends, at a success of 0.73 to 0.75. OPRL and the control took the largest rate
of the grid, the best by area, so a wider grid may move them; at 3e-3 OPRL was slower, but ended at 0.99 on the two
seeds that were looked at in development (500 and 501), so early certainty may be what holds the plateau. Two tuning
seeds choose, and the seeds of the verdict spread widely: both intervals contain 0.

To be run again: the committed numbers are those of an earlier run with lr from 0.001, 0.003, 0.01, judged by today's
rule; the seeds and grids below are for the next one.
"""

import ml_collections

from rlcore.training import results, verdicts


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  """Returns the configuration; `arg` is None or "smoke"."""
  if arg not in (None, "", "smoke"):
    raise ValueError(f"configs/credit/oprl.py has no variant {arg!r}; it has: smoke")
  config = ml_collections.ConfigDict()
  config.experiment = "experiments.credit.oprl"
  config.seed = 0  # draws weights and tasks
  config.steps = 300
  config.log_every = 30
  config.eval_every = 0
  config.checkpoint_every = 300
  config.max_nonfinite = 5
  config.progress_metric = "success"

  config.tasks = ml_collections.ConfigDict(dict(num_tasks=8, turns=8, low=0.03, high=0.08, candidates=32))
  config.group_size = 8
  config.epochs = 2
  config.lr = 3e-3  # of policy and reward model
  config.clip = 0.2
  config.beta = 0.05
  config.alpha = 1.0  # 0 is RLOO
  config.mean = 0.0  # 1: a trajectory's score is the mean of its step rewards
  config.pointwise = 0.0  # 1: the model fits outcomes instead of pairs
  config.shuffled = 0.0  # 1: step rewards are permuted inside a trajectory
  config.judge_noise = 0.0

  if arg == "smoke":
    config.steps = config.log_every = config.checkpoint_every = 2
    config.tasks.update(dict(num_tasks=2, candidates=8))
  return config


_OPRL = dict(alpha=1.0, mean=0.0, pointwise=0.0, shuffled=0.0, judge_noise=0.0)
ARMS = {
    "rloo": _OPRL | dict(alpha=0.0),
    "oprl": _OPRL,
    "shuffled": _OPRL | dict(shuffled=1.0),
    "mean": _OPRL | dict(mean=1.0),
    "pointwise": _OPRL | dict(pointwise=1.0),
    "rloo_judged": _OPRL | dict(alpha=0.0, judge_noise=0.3),
    "oprl_judged": _OPRL | dict(judge_noise=0.3),
}
TUNE = dict(grid={"lr": (1e-3, 3e-3, 1e-2, 3e-2)}, seeds=(100, 101, 102, 103))
CLAIM = results.Claim(
    paper="OPRL",
    arxiv="2509.19199",
    statement="Step rewards of a process reward model that learns online from outcome preferences beat RLOO, GRPO and "
              "PRIME on agents of many turns (WebShop success 86.5 % with Qwen2.5-7B).",
    metric="mean:success",
    method="oprl",
    baselines=("rloo", "shuffled"),
    rival="rloo",
    rule="the 95 % intervals of the paired differences in area under the success curve to RLOO and to the shuffled "
         "control both lie above 0; not reproduced if either lies at or below 0; else inconclusive",
    seeds=tuple(range(10)),
    also=("to0.7:success", "tail:success", "mean:credit_rank", "tail:credit_rank", "mean:score_rank"),
)


def verdict(result) -> verdicts.Verdict:
  """Judges by the rule in `CLAIM`; the other arms are reported beside it."""
  over = lambda arm, baseline: verdicts.shown(verdicts.compare(result, baseline, method=arm))
  rank = verdicts.seed_values(result, "oprl", metric="mean:credit_rank").mean()
  return verdicts.decide(
      *(verdicts.Quantity(f"area, OPRL - {arm}", verdicts.difference(result, arm)) for arm in CLAIM.baselines),
      also=f"mean {over('mean', 'rloo')} and pointwise {over('pointwise', 'rloo')} over rloo; with a noisy judge "
           f"{over('oprl_judged', 'rloo_judged')}; rank correlation with the true credit {rank:+.2f}")
