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

What to know of the result. Shapley values reach 1.2 in 0.58 of the updates of the terminal reward, four sampled orders do
as well as all 64 scores, and the even split does worse than the terminal reward: it is the attribution that helps, not
the density. All arms chose the largest rate of the grid, at which the terminal reward nearly catches up (1.45 against
1.48 at the end); a larger one was not tried.
"""

import math

import ml_collections
import numpy as np

from rlcore.training import results


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
    rule="score of the sampled responses, SCAR against the terminal reward, paired by seed: not reproduced if the area "
         "under its curve is not higher (mean difference minus 2 standard errors at most 0) or the final score (last "
         "tenth of the updates) is lower by more than 0.05; reproduced if neither is so and SCAR reaches 1.2, 80 % of "
         "the maximum, in at most 0.7 of the updates; else inconclusive. The uniform split is reported, not judged",
    seeds=tuple(range(10, 15)),
    also=("tail:reward", "to1.2:reward", "tail:perfect", "tail:paid", "mean:calls"),
)


def verdict(result) -> tuple[str, str]:
  """Judges by the rule in `CLAIM`."""
  arms = result["variants"]["default"]["arms"]
  values = lambda arm, metric: np.array(arms[arm]["values"][metric], float)
  mean = lambda arm, metric: float(np.mean(values(arm, metric)))
  area = values("scar", "mean:reward") - values("terminal", "mean:reward")
  least = float(area.mean() - 2 * area.std(ddof=1) / math.sqrt(len(area)))
  final = mean("scar", "tail:reward") - mean("terminal", "tail:reward")
  share = mean("scar", "to1.2:reward") / mean("terminal", "to1.2:reward")
  even = results.compare(result, "uniform")
  each = "; ".join(
      f"{arm} {mean(arm, 'mean:reward'):.3f}, {mean(arm, 'tail:reward'):.2f}, {mean(arm, 'to1.2:reward'):.0f}, "
      f"{mean(arm, 'mean:calls'):.0f}" for arm in arms)
  told = (f"area {area.mean():+.3f}, less 2 standard errors {least:+.3f}; final score {final:+.3f}; 1.2 in {share:.2f} "
          f"of the terminal reward's updates; over the uniform split {even.mean:+.3f} [{even.low:+.3f}, {even.high:+.3f}] "
          f"(area, final score, updates to 1.2, scores asked for a response: {each})")
  if not np.isfinite([least, final, share]).all():
    return "inconclusive", f"a run did not end in a number: {told}"
  if least <= 0 or final < -0.05:
    return "not reproduced", told
  return ("reproduced" if share <= 0.7 else "inconclusive"), told


def sweep(add):
  """How much of the score goes to the spans, and how it is shared out."""
  for alpha in (0.4, 0.8, 1.0):
    for how in ("exact", "sampled", "uniform"):
      add(**_arm(alpha=alpha, **{how: 1.0}))
