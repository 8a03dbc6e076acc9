"""SCAR on span words (arXiv:2512.04302): the final score shared out by Shapley values against the terminal reward.

    python -m experiments.run --config=configs/control/dense_rewards.py           one run of SCAR
    python -m experiments.reproduce --config=configs/control/dense_rewards.py     the comparison and its verdict

A GRU of 64 units writes 12 words to a prompt of five (`tasks.span_words`): three should occur, in their order, two
should not. The score takes the place of a learned reward model and can be asked for partial responses, spans cut out:
that is all that SCAR sees beyond the terminal reward. Policy gradients, one Adam step on 128 responses an update,
advantages by GAE (lambda 0.95), whitened. Arms: all of the score on the last token (`terminal`); 0.8 of it shared out
over six spans of two words by exact Shapley values (`scar`, 64 scores a response), by four random orders of the spans,
fresh for every response (`sampled`, 28 scores), or evenly (`uniform`, the control for a reward that is just denser).
`calls` is the number of scores asked for a response. Every arm chooses its learning rate on seeds 100-101 (area under
the curve of the score) and is judged on seeds 10-14; the miniature's prototype had looked at seeds 0 and 1.

Of the proposal's three parts this is the first alone: G4RL and the similarity of task graphs are left out, their
functions are in the library. What differs from the miniature: the learning rate is chosen, not 3e-3; the final score is
that of the last 40 updates, not 20; 1.2 is to be reached by the mean of 5 updates, not 10. All four arms are one
program, so the sampled values read the scores of their prefixes from the table of all 64: alone they ask 28 times.

What to know of the result. Shapley values reach 1.2 in 0.58 of the updates of the terminal reward, four sampled orders
do as well as all 64 scores, and the even split does worse than the terminal reward: it is the attribution that helps,
not the density. All arms chose the largest rate of the grid, at which the terminal reward nearly catches up (1.45
against 1.48 at the end); a larger one was not tried.

To be run again: the committed numbers are those of an earlier run on seeds 10-14, judged by today's rule; the seeds and
grids below are for the next one.
"""

import ml_collections
import numpy as np

from rlcore.training import results, verdicts


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  """Returns the configuration; `arg` is None or "smoke"."""
  if arg not in (None, "", "smoke"):
    raise ValueError(f"configs/control/dense_rewards.py has no variant {arg!r}; it has: smoke")
  config = ml_collections.ConfigDict()
  config.experiment = "experiments.control.dense_rewards"
  config.seed = 0
  config.steps = 400
  config.log_every = 20
  config.eval_every = 0
  config.checkpoint_every = 400
  config.max_nonfinite = 5
  config.progress_metric = "reward"

  config.responses = 128  # an update, each to a prompt of its own
  config.dim = 64
  config.embedding = 32
  config.lr = 3e-3
  config.lam = 0.95
  config.value_coef = 0.5
  config.entropy_coef = 0.01
  config.spans = 6
  config.orders = 4  # of the spans, for the sampled values
  config.alpha = 0.8  # share of the score that goes to the spans; 0 leaves all of it on the last token
  # How it is shared out: weights of Shapley values, of their estimate from sampled orders, and of equal parts.
  config.exact = 1.0
  config.sampled = 0.0
  config.uniform = 0.0

  if arg == "smoke":
    config.steps = config.log_every = config.checkpoint_every = 2
    config.responses = 4
    config.dim = 8
    config.embedding = 4
  return config


def _arm(alpha=0.8, exact=0.0, sampled=0.0, uniform=0.0) -> dict[str, float]:
  return {"alpha": alpha, "exact": exact, "sampled": sampled, "uniform": uniform}


ARMS = {
    "scar": _arm(exact=1.0),
    "terminal": _arm(alpha=0.0),
    "sampled": _arm(sampled=1.0),
    "uniform": _arm(uniform=1.0),
}
TUNE = dict(grid={"lr": (1e-3, 3e-3, 1e-2)}, seeds=range(100, 102))
CLAIM = results.Claim(
    paper="SCAR",
    arxiv="2512.04302",
    statement="Sharing out the final score of a response over its spans by Shapley values converges faster and to a "
              "higher reward than the sparse terminal reward.",
    metric="mean:reward",
    method="scar",
    baselines=("terminal",),
    rival="terminal",
    span=(0.0, 1.5),
    rule="score of the sampled responses, SCAR against the terminal reward, paired by seed, 95 % intervals: area under "
         "its curve above 0, final score (last tenth of the updates) above -0.05, and 0.7 of the terminal reward's "
         "updates to 1.2, 80 % of the maximum, minus SCAR's above 0; not reproduced if the first is at most 0 or the "
         "second at most -0.05; else inconclusive. The uniform split is reported, not judged",
    seeds=tuple(range(10, 18)),
    also=("tail:reward", "to1.2:reward", "tail:perfect", "tail:paid", "mean:calls"),
)


def verdict(result) -> verdicts.Verdict:
  """Judges by the rule in `CLAIM`."""
  values = lambda arm, metric: verdicts.seed_values(result, arm, metric=metric)
  mean = lambda arm, metric: float(np.mean(values(arm, metric)))
  updates = "to1.2:reward"
  each = "; ".join(
      f"{arm} {mean(arm, 'mean:reward'):.3f}, {mean(arm, 'tail:reward'):.2f}, {mean(arm, updates):.0f}, "
      f"{mean(arm, 'mean:calls'):.0f}" for arm in ARMS)
  return verdicts.decide(
      verdicts.Quantity("area, SCAR - terminal", verdicts.difference(result, "terminal")),
      verdicts.Quantity("final score, SCAR - terminal", verdicts.difference(result, "terminal", metric="tail:reward"),
                        -0.05),
      verdicts.Quantity("updates to 1.2, 0.7 terminal - SCAR",
                        0.7 * values("terminal", updates) - values("scar", updates), 0.0, -np.inf),
      also=f"over the uniform split {verdicts.shown(verdicts.compare(result, 'uniform'))} (area, final score, updates "
           f"to 1.2, scores asked for a response: {each})")


def sweep(add):
  """How much of the score goes to the spans, and how it is shared out."""
  for alpha in (0.4, 0.8, 1.0):
    for how in ("exact", "sampled", "uniform"):
      add(**_arm(alpha=alpha, **{how: 1.0}))
