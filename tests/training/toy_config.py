"""Config of the toy bandit, with everything a config file can have."""

import ml_collections

from rlcore.training import results


def get_config(arg=None):
  if arg not in (None, "", "smoke"):
    raise ValueError(f'toy_config.py has no variant "{arg}"; it has: smoke')
  config = ml_collections.ConfigDict(dict(
      experiment="tests.training.toy", seed=0, steps=40, log_every=8, eval_every=20, checkpoint_every=10,
      keep_checkpoints=2, max_nonfinite=3, lr=0.5, warmup_lr=0.1, group_size=8, warmup_steps=5, nan_from=10**6,
      jittable=True))
  if arg == "smoke":
    config.steps = 4
  return config


def sweep(add):
  """Two learning rates in one program, another group size in a second one."""
  for lr in (0.1, 0.5):
    add(lr=lr)
  add(group_size=4, lr=0.5)


ARMS = {"fast": {"lr": 0.5}, "slow": {"lr": 0.05}}
TUNE = {"grid": {"warmup_lr": (0.0, 0.1)}, "seeds": range(100, 103)}
VARIANTS = {"eight": None, "four": {"group_size": 4}}
STUDY = {"seeds": (0, 1, 2)}
CLAIM = results.Claim(
    paper="Toy", arxiv="0000.00000", statement="A larger step learns a bandit faster.", metric="mean:success",
    method="fast", baselines=("slow",), also=("last:eval/solve_rate",), seeds=tuple(range(4)))
