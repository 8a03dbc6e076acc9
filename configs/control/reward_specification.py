"""Rules as constraints with learned weights (arXiv:2412.07177, its part from arXiv:2112.12228), on a 7 x 7 grid.

    python -m experiments.run --config=configs/control/reward_specification.py           one run of our method
    python -m experiments.reproduce --config=configs/control/reward_specification.py     the comparison and its verdict

The comparison has not run yet.
"""

import ml_collections
import numpy as np

from rlcore.training import results

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
