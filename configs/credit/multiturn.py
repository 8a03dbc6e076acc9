"""Estimators x reward density on mini-quest (arXiv:2510.01132; dense rewards help those who can use their timing).

    python -m experiments.run --config=configs/credit/multiturn.py            PPO on dense turn rewards, a minute or two
    python -m experiments.reproduce --config=configs/credit/multiturn.py      the comparison and its verdict
    python -m experiments.run --config=configs/credit/multiturn.py --config.world.name=household    in another world

Judged: PPO and RLOO, each on sparse and on dense rewards, by area under the curve of test success (16 test episodes
before every update); the rate of each arm is chosen on seeds 100-102. Reported beside it, at the rate below and on
three seeds (the study): GRPO, and REINFORCE++ as released (a hole in the mask cuts the return) and fixed; transfer
from 2 rooms and 3 objects to 4 rooms and 6 objects; a budget of which a demonstration costs as much as ten episodes.

What was cut or changed, all before the run of the verdict, by pilots of the cloning and of training on seed 100. Quests
have 2 sub-goals and at most 8 turns where the original miniature has 4 and 12: with 4, no arm moved within 30 updates,
and an update costs twice as much. 80 updates instead of 200. 512 training instances instead of 64, and demonstrations
of all of them instead of 40: with 40 the policy learns those by heart (60 % success on them, 4 % on test instances).
100 steps of cloning instead of a stop at 15 % success, which they pass (20 to 35 %). The policy is a transformer of one
layer, 32 wide: it needs a quarter of a GRU's steps. The budget is 5120 episodes, the numbers of demonstrations 0 to 400
(the original: 0 to 80), and the transfer is to quests of 2 sub-goals, of 4 rooms and 6 objects.

What to know of it. In a first run, on seeds 0-5 and with rates from 3e-4 on, all arms chose the smallest, for higher
ones lose what the cloning taught; in so few updates success rose only from about a quarter to a third, so the test of
density is a weak one. With two sub-goals there is little timing to use. That PPO beats RLOO is no part of the rule, and
with a cold critic it could have failed. Areas are per update: arms play equally many episodes, not equally many turns.
The study's rate is the middle one of the grid, which is too high for most of its cases: compare them with one another
only.

To be run again: the committed numbers are those of an earlier run on seeds 0-5 and with lr from 0.0003, 0.001, 0.003,
judged by today's rule; the seeds and grids below are for the next one.
"""

import ml_collections

from rlcore.training import results, verdicts

_OFF = (("weights.ppo", 0.0),)


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  """Returns the configuration; `arg` is None or "smoke"."""
  if arg not in (None, "", "smoke"):
    raise ValueError(f"configs/credit/multiturn.py has no variant {arg!r}; it has: smoke")
  config = ml_collections.ConfigDict()
  config.experiment = "experiments.credit.multiturn"
  config.seed = 0
  config.steps = 80
  config.log_every = 10
  config.eval_every = 0
  config.checkpoint_every = 80
  config.max_nonfinite = 5
  config.progress_metric = "success"

  # name: household, key_corridor, mini_quest or relation_hops; the numbers are tasks of the key corridor, and entities,
  # relations and their chain in a question of relation hops. The household in full has --config.num_turns=16.
  config.world = ml_collections.ConfigDict(dict(name="mini_quest", tasks=8, entities=24, relations=5, chain=3))
  config.num_turns = 8
  config.sizes = ((2, 3, 2), (4, 6, 2))  # sets of instances of mini-quest: rooms, objects, sub-goals; others have one
  config.train = 512  # instances of each set
  config.test = 64
  config.instance_seed = 0
  config.train_set = 0.0  # which set; numbers, so that a study may trace them
  config.test_set = 0.0
  config.demos = 512.0  # training instances whose solutions are cloned
  config.probe = 16  # test episodes before every update
  config.model = ml_collections.ConfigDict(dict(layers=1, dim=32, heads=4, ff_dim=64))
  config.warmup = ml_collections.ConfigDict(dict(steps=100, batch_size=64, lr=3e-3))

  config.groups = 8  # instances an update
  config.group_size = 8
  config.lr = 1e-3
  config.weights = ml_collections.ConfigDict(
      dict(ppo=1.0, rloo=0.0, grpo=0.0, reinforce=0.0, reinforce_fixed=0.0))
  config.dense = 1.0
  config.value_coef = 0.5
  config.clip = 0.2
  config.entropy_coef = 0.01
  config.epochs = 2
  config.minibatches = 4

  config.study = ml_collections.ConfigDict(dict(steps=80, budget=5120, cases=(
      ("grpo_sparse", (*_OFF, ("weights.grpo", 1.0), ("dense", 0.0))),
      ("grpo_dense", (*_OFF, ("weights.grpo", 1.0))),
      ("reinforce_sparse", (*_OFF, ("weights.reinforce", 1.0), ("dense", 0.0))),
      ("reinforce_fixed_sparse", (*_OFF, ("weights.reinforce_fixed", 1.0), ("dense", 0.0))),
      ("transfer", (("test_set", 1.0),)),
      ("trained_there", (("train_set", 1.0), ("test_set", 1.0))),
      ("demos0", (("demos", 0.0),)),
      ("demos80", (("demos", 80.0),)),
      ("demos240", (("demos", 240.0),)),
      ("demos400", (("demos", 400.0),)))))

  if arg == "smoke":
    config.steps = config.log_every = config.checkpoint_every = 2
    config.update(dict(train=8, test=4, probe=2, demos=8.0, groups=2, group_size=2, minibatches=2))
    config.warmup.update(dict(steps=2, batch_size=4))
    config.study.update(dict(steps=2, budget=88, cases=config.study.cases[2:4] + (("demos8", (("demos", 8.0),)),)))
  return config


def _arm(ppo, rloo, dense):
  return {"weights.ppo": ppo, "weights.rloo": rloo, "dense": dense}


ARMS = {"ppo_sparse": _arm(1.0, 0.0, 0.0), "ppo_dense": _arm(1.0, 0.0, 1.0),
        "rloo_sparse": _arm(0.0, 1.0, 0.0), "rloo_dense": _arm(0.0, 1.0, 1.0)}
TUNE = dict(grid={"lr": (3e-5, 1e-4, 3e-4, 1e-3)}, seeds=(100, 101, 102))
STUDY = dict(seeds=(200, 201, 202), batch=3)
CLAIM = results.Claim(
    paper="Multi-turn guide",
    arxiv="2510.01132",
    statement="Dense turn rewards help PPO (41 to 58 % on cooking games, 7B) and leave RLOO where it was (about 55 %).",
    metric="mean:test_success",
    method="ppo_dense",
    baselines=("ppo_sparse", "rloo_dense", "rloo_sparse"),
    rival="ppo_sparse",
    rule="the contrast (PPO dense - PPO sparse) - (RLOO dense - RLOO sparse) of the areas under the test success "
         "curve, paired by seed: reproduced if its 95 % interval lies above 0, not reproduced if it lies at or below"
         " 0, else inconclusive",
    seeds=tuple(range(8)),
    also=("tail:test_success", "mean:success", "tail:success"),
)


def verdict(result) -> verdicts.Verdict:
  """Judges by the interaction contrast."""
  gains = {name: verdicts.difference(result, f"{name}_sparse", method=f"{name}_dense") for name in ("ppo", "rloo")}
  return verdicts.decide(
      verdicts.Quantity("area, (PPO dense - sparse) - (RLOO dense - sparse)", gains["ppo"] - gains["rloo"]),
      also=", ".join(f"density is worth {verdicts.shown(verdicts.mean_interval(x))} for {name.upper()}"
                     for name, x in gains.items()))
