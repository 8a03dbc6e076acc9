"""SPA in the household (arXiv:2505.20732): step rewards from a progress estimator against the terminal reward."""

import ml_collections

from rlcore.training import results


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  """Returns the configuration; `arg` is None or "smoke"."""
  if arg not in (None, "", "smoke"):
    raise ValueError(f"configs/credit/spa.py has no variant {arg!r}; it has: smoke")
  config = ml_collections.ConfigDict()
  config.experiment = "experiments.credit.spa"
  config.name = "spa"
  config.seed = 0  # draws weights and goals
  config.steps = 150
  config.log_every = 15
  config.eval_every = 0
  config.checkpoint_every = 150
  config.max_nonfinite = 5
  config.progress_metric = "success"

  config.num_goals = 24
  config.hidden = (64, 64)
  config.clone = ml_collections.ConfigDict(dict(demonstrations=200, steps=1000, batch_size=24, lr=3e-3))
  config.explore = ml_collections.ConfigDict(dict(seen=2000, held_out=200))
  config.long = ml_collections.ConfigDict(dict(steps=3000, batch_size=128, lr=1e-3))  # of estimator and critic
  config.brief = ml_collections.ConfigDict(dict(steps=60, batch_size=32, lr=1e-3))  # one epoch, as in the paper
  config.measure = ml_collections.ConfigDict(dict(episodes=16, resets=128))

  config.episodes = 64
  config.lr = 1e-3
  config.lam = 0.95
  config.epochs = 4
  config.kl_coef = 0.01
  config.alpha = 1.0  # weight of the contributions
  config.beta = 0.5  # bonus of an action that works
  config.outcome_coef = 0.0  # weight of the terminal reward
  config.uniform_coef = 0.0  # weight of the outcome spread evenly over the steps
  config.critic_coef = 0.0  # 1 starts from the critic that was fitted to the exploration
  config.brief_coef = 0.0  # 1 takes the contributions of the briefly fitted estimator

  if arg == "smoke":
    config.steps = config.log_every = config.checkpoint_every = 2
    config.episodes = 4
    config.clone.update(dict(demonstrations=4, steps=2, batch_size=2))
    config.explore.update(dict(seen=8, held_out=4))
    config.long.update(dict(steps=2, batch_size=4))
    config.brief.update(dict(steps=2, batch_size=4))
    config.measure.update(dict(episodes=2, resets=2))
  return config


def _arm(alpha=0.0, beta=0.0, outcome=0.0, uniform=0.0, critic=0.0, brief=0.0) -> dict[str, float]:
  return dict(alpha=alpha, beta=beta, outcome_coef=outcome, uniform_coef=uniform, critic_coef=critic, brief_coef=brief)


ARMS = {
    "terminal": _arm(outcome=1.0, critic=1.0),
    "terminal, fresh critic": _arm(outcome=1.0),
    "spa": _arm(alpha=1.0, beta=0.5),
    "spa, beta 0.05": _arm(alpha=1.0, beta=0.05),
    "spa, beta 0": _arm(alpha=1.0),
    "spa, beta 0, brief fit": _arm(alpha=1.0, brief=1.0),
    "grounding only": _arm(beta=0.5, outcome=1.0),
    "uniform": _arm(uniform=1.0),
}
