"""Rules as constraints with learned weights (arXiv:2412.07177, its part from arXiv:2112.12228), on a 7 x 7 grid.

    python -m experiments.run --config=configs/control/reward_specification.py           one run of our method
    python -m experiments.reproduce --config=configs/control/reward_specification.py     the comparison and its verdict

Part B of the miniature: an agent must reach a goal and keep four rules, of which the reward knows nothing: hardly ever
on lava, seldom running, a tenth of the time in column 0, seldom standing still. PPO, 64 worlds x 32 steps an update,
500 thousand steps. Arms: normalised multipliers with the bootstrap constraint (success at least 0.8), the same without
it, plain multipliers that start at 0, the reward alone. Beside them 27 settings of fixed penalties, drawn once from
{0.1, 1, 10}^4 and run for the full 500 thousand steps with one seed each: the verdict's five seeds in turn, so that
the maps are those of the arms. Nothing is tuned; limits, rates and the start of the multipliers are the miniature's.

Where the miniature leaves a choice: the 30 steps of an episode truncate (the agent does not see the time), and an
episode that they cut off has failed; a rollout is paid by the weights from before it; "distance 2" is in moves; the
bootstrap is the larger of the weights of task and of success. Success and the rates of the rules are taken over the
last 24 updates (10 %), success over their episodes. The imitation part (ASAF) is not here.

Looked at before: seeds 0 and 1 with these settings, without the fixed penalties; the rule is the miniature's and was
there before. Normalised with bootstrap: feasible on one, all rules but success 0.48 after half of the steps and 0.71
(and lava at 0.05) at the end on the other. Without bootstrap: all rules, success 0.33 and 0.24. Plain: feasible on
both from a quarter of the steps on, success 0.92 and 0.97. Reward alone: success 1.00, two and one rules violated. All
multipliers start alike, so the normalised arms first learn to stay in column 0 and lose their entropy; the weight of
the task is 0.9 soon after, but the way out is slow. Plain multipliers start at 0 and learn the task first.

What to know of the result. The half of the claim that is about weights set by hand holds: 3 of 27 settings are
feasible. So does what the bootstrap is for: without it success is lower on every seed. But the normalised multipliers
with bootstrap are feasible on no seed, short of success on three and of the rule about lava on four, and the plain
ones, which the claim has losing the task, on all five, with success 0.97. The comparison was run twice, as the
learner's random numbers had changed in between; the first time 2 of the 5 were feasible (and 1 of the 27), which the
rule calls inconclusive. Of ten runs two are feasible, against ten of the plain ones.

To be run again: the committed numbers are those of an earlier run on seeds 100-104, judged by today's rule; the seeds
and grids below are for the next one.
"""

import ml_collections
import numpy as np

from rlcore.training import results, verdicts

RULES = ("lava", "energy", "marker", "still")
SEEDS = tuple(range(100, 105))


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  """Returns the configuration; `arg` is None or "smoke"."""
  if arg not in (None, "", "smoke"):
    raise ValueError(f"configs/control/reward_specification.py has no variant {arg!r}; it has: smoke")
  config = ml_collections.ConfigDict()
  config.experiment = "experiments.control.reward_specification"
  config.seed = 0  # draws the lava and the weights
  config.steps = 244  # of 64 worlds x 32 steps: 500 thousand
  config.window = 24  # updates that are judged: the last tenth
  config.log_every = 12
  config.eval_every = 0
  config.checkpoint_every = 244
  config.max_nonfinite = 5
  config.progress_metric = "window/success"

  config.horizon = 30
  # How often each cost may occur; of the last, failed episodes.
  config.limits = ml_collections.ConfigDict(dict(lava=0.01, energy=0.2, marker=0.9, still=0.05, success=0.2))
  config.slack = 0.02  # allowed above a limit when rules are judged
  config.lagrangian = ml_collections.ConfigDict(dict(normalised=1.0, bootstrap=1.0, lr=0.05, step_size=0.0))
  config.start = ml_collections.ConfigDict({name: 0.0 for name in RULES})  # of plain or fixed multipliers
  config.fixed = ml_collections.ConfigDict(dict(settings=27, seeds=SEEDS))

  config.hidden = (64, 64)
  config.num_worlds = 64
  config.num_steps = 32
  config.epochs = 4
  config.minibatches = 4
  config.lr = 1e-3
  config.gamma = 0.99
  config.lam = 0.95
  config.clip = 0.2
  config.entropy_coef = 0.01

  if arg == "smoke":
    config.steps = config.log_every = config.checkpoint_every = config.window = 2
    config.num_worlds, config.num_steps, config.epochs, config.minibatches = 4, 8, 1, 2
    config.horizon = 6
    config.hidden = (4,)
    config.fixed.settings = 2
  return config


def _arm(**switches):
  names = ("normalised", "bootstrap", "step_size")
  return {f"lagrangian.{name}": float(switches.get(name, 0.0)) for name in names}


ARMS = {"normalised + bootstrap": _arm(normalised=1, bootstrap=1), "normalised": _arm(normalised=1),
        "plain": _arm(step_size=0.05), "reward only": _arm()}
STUDY = dict(seeds=(0,))  # its one key draws the settings of fixed penalties
CLAIM = results.Claim(
    paper="Reward specification",
    arxiv="2412.07177",
    statement="Normalised Lagrange multipliers with a bootstrap constraint find in one run weights that satisfy all "
              "rules; of hand-set weights almost none do (0 of 343 with three rules), and plain multipliers lose the "
              "task with many rules.",
    metric="last:feasible",
    method="normalised + bootstrap",
    baselines=("normalised", "plain", "reward only"),
    rival="plain",
    rule="a run is feasible when over the last 10 % of its steps all four rules hold within 0.02 of their limits and "
         "success is at least 0.8; 95 % intervals of the shares: ours feasible on more than half of the seeds and 0.2 "
         "minus the share of the 27 fixed settings above 0; not reproduced if ours is feasible on at most half of the "
         "seeds, or more than 50 % of the fixed settings are; else inconclusive",
    seeds=tuple(range(100, 108)),
    also=("last:window/success", "last:window/rules", *(f"last:rate/{name}" for name in RULES),
          "last:weight/task", *(f"last:weight/{name}" for name in (*RULES, "success"))),
    curves=("window/success", "window/rules", "weight/task", *(f"weight/{name}" for name in (*RULES, "success"))),
)


def verdict(result) -> verdicts.Verdict:
  """Judges by the rule in `CLAIM`."""
  values = lambda arm, metric=None: verdicts.seed_values(result, arm, metric=metric)
  infeasible = 1 - np.ravel(result["study"]["metrics"]["feasible"])
  success, rules = "last:window/success", "last:window/rules"
  told = "; ".join(f"{arm}: feasible on {values(arm).sum():.0f} of {len(values(arm))} seeds, success "
                   f"{values(arm, success).mean():.2f}, rules satisfied {values(arm, rules).mean():.2f}"
                   for arm in ARMS)
  starved = np.sum(values("normalised", success) < values(CLAIM.method, success))
  return verdicts.decide(
      verdicts.Quantity("share of feasible runs", values(CLAIM.method), 0.5, share=True),
      verdicts.Quantity("share of infeasible fixed settings", infeasible, 0.8, 0.5, share=True),
      also=f"{told}; without bootstrap success is lower on {starved} seeds")


def sweep(add):
  """How fast the multipliers should move, with the bootstrap and without."""
  for bootstrap in (0.0, 1.0):
    for lr in (0.01, 0.03, 0.1):
      add(**{"lagrangian.bootstrap": bootstrap, "lagrangian.lr": lr})
