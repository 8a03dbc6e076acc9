"""SPA in the household (arXiv:2505.20732): step rewards from a progress estimator against the terminal reward.

    python -m experiments.run --config=configs/credit/spa.py              one run of SPA, half a minute
    python -m experiments.reproduce --config=configs/credit/spa.py        the comparison and its verdict

The household is a text world without the text: 12 actions that work or "nothing happens", goals of four sub-goals, 16
steps at most. All phases but the last are in `init` and shared by the arms: cloning of 200 scripted demonstrations,
2000 exploration episodes, the estimator fitted to their outcomes, a critic fitted to their returns. Then PPO with the
terminal reward and that critic (`terminal`, the baseline of the verdict; a fresh critic beside it), with SPA (alpha 1,
beta 0.5, as in the released code; beta 0.05 and 0 beside it), with the terminal reward and the bonus of an action that
works, and with the outcome spread evenly over the steps. The estimator is frozen, as in the paper; in three arms it
goes on learning inside the loop, a gradient step after every update (`learning`) or as many at once after every 20th
(`refreshed`). `residual`, outcome minus sum of contributions, says whether it still fits. Every arm chooses its
learning rate on seeds 100-101 (area under the success curve) and is judged on seeds 0-7.

What is added to the miniature: an estimator that is fitted briefly, one epoch as in the paper, and an arm that is paid
by it. `attribution` is Spearman's correlation of contributions with the measured change of the base policy's
probability of success (16 episodes, 128 resets a state). What was cut: the fits take 1000 steps of 64 episodes (the
miniature asks for 3000 of 128), cloning takes batches of 24 episodes (about 256 steps).

What to know of it. Undiscounted, 0.5 an action pays more than success: the policy learns to do things that work until
the time is up (all grounded, 16 steps, no success), with the contributions or without; at 0.05 it still dawdles. With
beta 0 SPA comes close to the terminal reward, because it is one: the long fit explains the outcome (squared error 0.01
of a variance of 0.23) by the last step alone, whose observation shows it, and its correlation with true progress is
0.08. The brief fit correlates with 0.16, but is farmed: frozen, it promises 2 more than the episodes end with, and
success falls to 0.02. That it goes on learning closes the gap (residual 0.00) and lifts the end to 0.71: the remedy for
an estimator that has left its distribution, though not to the 0.98 of the terminal reward. With beta 0.5 learning or
refreshing removes the residual too and changes nothing: the bonus is what is farmed. Arms that end well chose the
largest rate of the grid.
"""

import ml_collections
import numpy as np

from rlcore.training import results, verdicts


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  """Returns the configuration; `arg` is None or "smoke"."""
  if arg not in (None, "", "smoke"):
    raise ValueError(f"configs/credit/spa.py has no variant {arg!r}; it has: smoke")
  config = ml_collections.ConfigDict()
  config.experiment = "experiments.credit.spa"
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
  config.long = ml_collections.ConfigDict(dict(steps=1000, batch_size=64, lr=1e-3))  # of estimator and critic
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
  config.brief_coef = 0.0  # 1 starts from the briefly fitted estimator
  # How the estimator learns from the episodes of the updates: after every so many of them (0: never), in so many steps.
  config.learn = ml_collections.ConfigDict(dict(every=0.0, steps=1.0, lr=1e-3))

  if arg == "smoke":
    config.steps = config.log_every = config.checkpoint_every = 2
    config.episodes = 4
    config.clone.update(dict(demonstrations=4, steps=2, batch_size=2))
    config.explore.update(dict(seen=8, held_out=4))
    config.long.update(dict(steps=2, batch_size=4))
    config.brief.update(dict(steps=2, batch_size=4))
    config.measure.update(dict(episodes=2, resets=2))
  return config


def _arm(alpha=0.0, beta=0.0, outcome=0.0, uniform=0.0, critic=0.0, brief=0.0, every=0.0) -> dict[str, float]:
  return {"alpha": alpha, "beta": beta, "outcome_coef": outcome, "uniform_coef": uniform, "critic_coef": critic,
          "brief_coef": brief, "learn.every": every, "learn.steps": every}  # as many steps, however often


ARMS = {
    "terminal": _arm(outcome=1.0, critic=1.0),
    "terminal, fresh critic": _arm(outcome=1.0),
    "spa": _arm(alpha=1.0, beta=0.5),
    "spa, refreshed": _arm(alpha=1.0, beta=0.5, every=20.0),
    "spa, learning": _arm(alpha=1.0, beta=0.5, every=1.0),
    "spa, beta 0.05": _arm(alpha=1.0, beta=0.05),
    "spa, beta 0": _arm(alpha=1.0),
    "spa, beta 0, brief fit": _arm(alpha=1.0, brief=1.0),
    "spa, beta 0, brief fit, learning": _arm(alpha=1.0, brief=1.0, every=1.0),
    "grounding only": _arm(beta=0.5, outcome=1.0),
    "uniform": _arm(uniform=1.0),
}
TUNE = dict(grid={"lr": (3e-4, 1e-3, 3e-3)}, seeds=range(100, 102))
CLAIM = results.Claim(
    paper="SPA",
    arxiv="2505.20732",
    statement="Stepwise progress attribution with a grounding bonus beats PPO on the terminal reward (success +2.5 "
              "points, grounding +1.9 on average over the best other method).",
    metric="mean:success",
    method="spa",
    baselines=("terminal",),
    rival="terminal",
    rule="area under the success curve of 150 updates, SPA (alpha 1, beta 0.5) minus PPO on the terminal reward with"
         " a critic pre-trained on the same exploration, paired by seed: reproduced if the 95 % interval lies above "
         "0, not reproduced if it lies at or below 0, else inconclusive",
    seeds=tuple(range(8)),
    also=("tail:success", "tail:grounded", "tail:episode_length", "tail:residual", "last:eval/long/attribution",
          "last:eval/brief/attribution", "last:eval/long/mse", "last:eval/brief/mse", "last:eval/outcome_variance"),
)


def verdict(result) -> verdicts.Verdict:
  """Judges by the rule in `CLAIM`."""
  mean = lambda arm, metric: np.mean(verdicts.seed_values(result, arm, metric=metric))
  ends = lambda arm: (f"{mean(arm, 'tail:grounded'):.0%} grounded actions in "
                      f"{mean(arm, 'tail:episode_length'):.1f} steps")
  return verdicts.decide(
      verdicts.Quantity("area, SPA - terminal", verdicts.difference(result, "terminal")),
      also=f"at the end SPA has {ends('spa')}, the terminal reward {ends('terminal')}; correlation of contributions "
           f"with true progress {mean('spa', 'last:eval/long/attribution'):.2f}")


def sweep(add):
  """The price of an action that works, with the contributions and without."""
  for beta in (0.0, 0.05, 0.15, 0.5):
    add(**_arm(alpha=1.0, beta=beta))
    add(**_arm(outcome=1.0, beta=beta))
