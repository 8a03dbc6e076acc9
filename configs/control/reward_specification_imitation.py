"""Imitation without a reward (arXiv:2412.07177, its part from arXiv:2006.13258): ASAF, GAIL and cloning in tables.

    python -m experiments.run --config=configs/control/reward_specification_imitation.py        one run of ASAF
    python -m experiments.reproduce --config=configs/control/reward_specification_imitation.py  the comparison

Part A of the miniature of `reward_specification`: an 8 x 8 grid, one of its corners is the goal (256 states), horizon
40, 1, 3 or 10 demonstrations. A round plays 10 episodes and learns from them; 100 rounds. ASAF (whole trajectories, the
paper's main form, which is judged; single transitions beside it): 10 steps of Adam on the learner's windows and as many
of the expert's, drawn anew for each step. GAIL: 10 steps of Adam for a table of logits on all steps, then one of
REINFORCE on -log(1 - D). Cloning: 200 steps of Adam, no episodes. All rates are the miniature's, 0.1; ASAF and GAIL at
10 demonstrations also get rates of their own from one grid, by the mean of the progress on seeds 100-102.

Measured after every round: progress, how far the mean return of 200 episodes has come from the uniform policy's (0) to
the expert's (1), and KL(expert || policy), averaged over the steps of 200 other episodes of the expert.

Where the miniature leaves a choice: its expert, soft value iteration at temperature 0.1 and discount 0.95, would never
go to the goal if a plain entropy bonus were meant: staying on would earn up to 0.139 a step, and a step costs 0.05
(its return is -2.00, that of the uniform policy -1.69). So the bonus is relative to the uniform policy
(`tabular.soft_value_iteration`); that expert reaches the goal almost surely and returns 0.53, the shortest way 0.64.

Looked at before the rule was written: seeds 100 and 101 with all rates 0.1. No method was at 0.9 within 1000 episodes;
most with 10 demonstrations: cloning 0.70, ASAF 0.59 (after 50 episodes, then less), single transitions 0.66, GAIL 0.17.
KL(expert || policy) of ASAF grew. So the rule says what follows if nobody gets there: neither half of the claim holding
is "not reproduced", which was not in the miniature, where it would be inconclusive. The grid was not looked at before.

What to know of the result. Nobody gets to 90 %, so the miniature's ratio of episodes says nothing. By mean progress
ASAF is far ahead of GAIL (0.40 against -0.01, with rates of their own 0.48 against 0.01) and behind cloning (0.68 with
the same demonstrations and no episodes). The world asks for more than is shown: 10 demonstrations visit about a third
of the 256 states, and tables carry nothing over to the others. It looks as if ASAF there only unlearns its own last
actions, so that the logits run off: KL grows from the first rounds on (with 3 demonstrations 0.52 after the first,
cloning's last is 0.64), and the return falls after some 50 episodes. The least rate of the grid, 0.01, is best for ASAF
(last KL 0.83); GAIL chose the largest, 1.0, for both tables: 0.27 on the seeds of tuning, 0.01 on those of the verdict,
so three seeds were too few to choose on, and at the ends of the grid neither need be the best.

To be run again: the committed numbers are those of an earlier run on seeds 0-4, judged by today's rule; the seeds and
grids below are for the next one.
"""

import ml_collections
import numpy as np

from rlcore.training import results, verdicts

FEWEST, MOST = 1, 10  # demonstrations


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  """Returns the configuration; `arg` is None or "smoke"."""
  if arg not in (None, "", "smoke"):
    raise ValueError(f"configs/control/reward_specification_imitation.py has no variant {arg!r}; it has: smoke")
  config = ml_collections.ConfigDict()
  config.experiment = "experiments.control.reward_specification_imitation"
  config.seed = 0
  config.steps = 100  # rounds
  config.log_every = 25
  config.eval_every = 0
  config.checkpoint_every = 100
  config.max_nonfinite = 5
  config.progress_metric = "progress"

  config.horizon = 40
  config.discount = 0.95  # of the expert and of GAIL's returns
  config.temperature = 0.1  # of the expert
  config.iterations = 400  # that solve for it
  config.demonstrations = float(MOST)
  config.most_demonstrations = MOST  # drawn; the first `demonstrations` of them are shown

  config.method = "fit"  # or "gail"
  config.weights = ml_collections.ConfigDict(dict(asaf=1.0, asaf_window=0.0, cloning=0.0))  # of the losses of "fit"
  config.window = 1  # of ASAF-w
  config.rounds = 100.0  # after which nothing is learned any more
  config.episodes = 10  # of a round
  config.epochs = 10
  config.lr = 0.1
  config.discriminator_lr = 0.1
  config.eval_episodes = 200

  if arg == "smoke":
    config.steps = config.log_every = config.checkpoint_every = 2
    config.horizon, config.iterations, config.epochs = 20, 20, 2
    config.most_demonstrations, config.demonstrations = 2, 2.0
    config.episodes, config.eval_episodes = 3, 20
  return config


_WEIGHTS = ("asaf", "asaf_window", "cloning")
_WRITTEN = {"lr": 0.1, "discriminator_lr": 0.1}


def _arm(method, loss="asaf", demonstrations=MOST, rounds=100.0, **rates):
  weights = {f"weights.{key}": float(key == loss) for key in _WEIGHTS}
  return {"method": method, "demonstrations": float(demonstrations), "rounds": rounds} | weights | rates


ARMS = {
    f"{name}, {count}": _arm(*how, demonstrations=count, rounds=20.0 if name == "cloning" else 100.0, **_WRITTEN)
    for count in (MOST, 3, FEWEST) for name, how in {
        "asaf": ("fit", "asaf"), "asaf-1": ("fit", "asaf_window"), "gail": ("gail",),
        "cloning": ("fit", "cloning")}.items()}
# An arm that sets a rate itself is not tuned in it; ASAF has no discriminator.
ARMS |= {"asaf, 10, tuned": _arm("fit", discriminator_lr=0.1), "gail, 10, tuned": _arm("gail")}
_RATES = (0.01, 0.03, 0.1, 0.3, 1.0)
TUNE = dict(grid={"lr": _RATES, "discriminator_lr": _RATES}, seeds=(100, 101, 102))
PAIRS = (("asaf, 10", "gail, 10"), ("asaf, 10, tuned", "gail, 10, tuned"))
CLAIM = results.Claim(
    paper="Reward specification: imitation",
    arxiv="2412.07177",
    statement="ASAF, whose discriminator is made of two policies, matches or beats GAIL with simpler and faster "
              "training: no inner loop of reinforcement learning.",
    metric="mean:progress",
    method="asaf, 10",
    baselines=("gail, 10", "cloning, 10"),
    rival="gail, 10",
    doubts=("GAIL's reward pays for staying alive, so its return measures termination as much as imitation",
            "the clause by which it was not reproduced was added after pilots"),
    rule="a run is good once its return is 90 % of the way from the uniform policy's to the expert's; its cost are "
         "the episodes played until then, all 1000 if it never is; 95 % intervals over seeds. Reproduced if with 10 "
         "demonstrations half of GAIL's cost minus ASAF's (whole trajectories) is above 0 and ASAF good on more than"
         " half of the seeds, at the miniature's rates and at tuned ones, and at the miniature's rates with 1 and "
         "with 3 demonstrations cloning's last KL(expert || policy) minus ASAF's is above 0; not reproduced if at "
         "either rates GAIL's cost minus ASAF's is below 0, or both differences of KL are; else inconclusive",
    seeds=tuple(range(8)),
    also=("last:good_after", "last:is_good", "max:progress", "last:progress", "last:kl", "first:kl", "mean:kl",
          "last:return"),
    cost="episodes",
    curves=("kl",),
)


def verdict(result) -> verdicts.Verdict:
  """Judges by the rule in `CLAIM`."""
  values = lambda arm, metric: verdicts.seed_values(result, arm, metric=metric)
  cost = lambda arm: values(arm, "last:good_after")
  told = "; ".join(f"{arm}: good on {values(arm, 'last:is_good').sum():.0f} of {len(cost(arm))} seeds, progress at "
                   f"most {values(arm, 'max:progress').mean():.2f}" for pair in PAIRS for arm in pair)
  judged = [verdicts.Quantity(f"episodes, half of {theirs} - {ours}", 0.5 * cost(theirs) - cost(ours), 0.0, -np.inf)
            for ours, theirs in PAIRS]
  judged += [verdicts.Quantity(f"share of good seeds, {ours}", values(ours, "last:is_good"), 0.5, -np.inf, share=True)
             for ours, _ in PAIRS]
  judged += [verdicts.Quantity(f"KL, cloning - asaf, {count}", values(f"cloning, {count}", "last:kl")
                               - values(f"asaf, {count}", "last:kl"), 0.0, -np.inf) for count in (FEWEST, 3)]
  dearer = any(verdicts.paired_interval(cost(theirs), cost(ours)).high < 0 for ours, theirs in PAIRS)
  found = verdicts.decide(*judged, also=told)
  worse = all(quantity.interval.high < 0 for quantity in judged[2 * len(PAIRS):])
  return found._replace(verdict="not reproduced") if dearer or worse else found


def sweep(add):
  """How fast ASAF should learn, from how many demonstrations."""
  for lr in _RATES:
    for count in (FEWEST, 3, MOST):
      add(lr=lr, demonstrations=float(count))
