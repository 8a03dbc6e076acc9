"""Config of the toy bandit, with everything a config file can have."""

import ml_collections


def get_config(arg=None):
  if arg not in (None, "", "smoke"):
    raise ValueError(f'toy_config.py has no variant "{arg}"; it has: smoke')
  config = ml_collections.ConfigDict(dict(
      experiment="tests.training.toy", seed=0, steps=40, log_every=8, eval_every=20, checkpoint_every=10, keep_checkpoints=2,
      max_nonfinite=3, lr=0.5, group_size=8, warmup_steps=5, nan_from=10**6, jittable=True))
  if arg == "smoke":
    config.steps = 4
  return config
