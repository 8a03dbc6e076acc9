"""TO BE WRITTEN"""

import ml_collections
import numpy as np

from rlcore.training import results

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
    config.horizon, config.iterations, config.epochs = 6, 20, 2
    config.most_demonstrations, config.demonstrations = 2, 2.0
    config.episodes, config.eval_episodes = 3, 5
  return config


def _fit(name, rounds=100.0):
  return {"method": "fit", "rounds": rounds} | {
      f"weights.{key}": float(key == name) for key in ("asaf", "asaf_window", "cloning")}


_WRITTEN, _CRITIC = {"lr": 0.1, "discriminator_lr": 0.1}, {"discriminator_lr": 0.1}
_GAIL = _fit("asaf") | {"method": "gail"}
ARMS = {
    "asaf": _fit("asaf") | _WRITTEN,
    "asaf, window 1": _fit("asaf_window") | _WRITTEN,
    "gail": _GAIL | _WRITTEN,
    "cloning": _fit("cloning", rounds=20.0) | _WRITTEN,
    "asaf, tuned": _fit("asaf") | _CRITIC,
    "gail, tuned": dict(_GAIL),
}
