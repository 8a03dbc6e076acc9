"""draft"""
import ml_collections
import numpy as np
from rlcore.training import judging, results


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  """Returns the configuration; `arg` is None, "one_wording", "farming" or "smoke"."""
  if arg not in (None, "", "smoke", "one_wording", "farming"):
    raise ValueError(f"configs/control/oni.py has no variant {arg!r}; it has: one_wording, farming, smoke")
  config = ml_collections.ConfigDict()
  config.experiment = "experiments.control.oni"
  config.seed = 0
  config.steps = 98  # of 64 worlds x 64 steps: 401 thousand
  config.log_every = 7
  config.eval_every = 0
  config.checkpoint_every = 98
  config.max_nonfinite = 5
  config.progress_metric = "success"

  config.horizon = 64
  config.wordings = 20.0  # V, of 20: how many ways there are to say the same
  config.weights = ml_collections.ConfigDict(dict(retrieval=1.0, classification=0.0, ranking=0.0))
  config.all_labels = 0.0  # 1: the table has every label from the start
  config.extrinsic_coef = 1.0
  config.intrinsic_coef = 0.3
  config.count_exponent = 3.0
  config.clip_reward = 10.0
  config.class_threshold = 0.5
  config.rank_threshold = 0.0
  config.annotations = 8  # captions, or pairs, an update
  config.fit_steps = 32
  config.fit_batch = 64
  config.fit_lr = 1e-3
  # Of the annotator that stands in for a language model: share of wrong labels; 1 also takes "see key" for progress.
  config.flip = 0.05
  config.see_key = 0.0
  config.annotator = judging.judge_config()
  config.queue = 256  # captions, and pairs, that wait for a language model

  config.hidden = (64, 64)
  config.num_worlds = 64
  config.num_steps = 64
  config.pool = 256  # quests drawn in an update for the episodes that begin in it
  config.epochs = 4
  config.minibatches = 4
  config.lr = 5e-4
  config.gamma = 0.99
  config.lam = 0.95
  config.clip = 0.2
  config.entropy_coef = 0.01

  if arg in ("one_wording", "farming"):
    config.wordings, config.flip = 1.0, 0.0
  if arg == "farming":
    config.see_key = 1.0
  if arg == "smoke":
    config.steps = config.log_every = config.checkpoint_every = 2
    config.num_worlds, config.num_steps, config.epochs, config.minibatches, config.pool = 4, 8, 1, 2, 4
    config.horizon = 6
    config.hidden = (4,)
    config.fit_steps, config.fit_batch = 2, 4
  return config
