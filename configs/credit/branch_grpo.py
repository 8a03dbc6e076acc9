"""BranchGRPO against GRPO on denoising chains (arXiv:2509.06040): rings of Gaussians in the plane, handwritten digits.

    python -m experiments.run --config=configs/credit/branch_grpo.py              one run on the rings, about a minute
    python -m experiments.run --config=configs/credit/branch_grpo.py:digits       on real 8 x 8 digits (rlcore[digits])
    python -m experiments.reproduce --config=configs/credit/branch_grpo.py        the comparison and its verdict
    python -m experiments.reproduce --config=configs/credit/branch_grpo_digits.py the same on the digits

A velocity network is taught four rings of eight Gaussians by flow matching, then trained by a reward that wants one
mode of each. 20 denoising steps, splits at steps 0, 3, 6, 9 into two: 16 leaves of 219 nodes, where 16 chains take 320.
Arms: `sequential`, chains of one shared noise (DanceGRPO); `branch`; `branch_pruned`, a window of four depths without
backward pass; `branch_terminal`, the tree with the leaves' advantage on every edge; `fresh`, chains of their own noise.
Every arm takes two gradient steps an update on two trees (or groups) a prompt, its rate from {1e-3, 2e-3, 4e-3, 8e-3}
on seeds 100-102, judged on seeds 0-7. Cost is counted as the paper counts it, in nodes, forwards and backwards once
each.

What to know of it. The reward is measured after every update on 64 fresh noiseless samples a prompt, not after every
fifth on 256; a point of the curves is the mean of four updates, so again 256 samples. eta is 0.7 where the paper has
0.3, since two dimensions need more noise; the clip range is that of the summed log-probability. Pruned edges are
computed all the same here: one program serves the three arms of a tree, and the saving is counted, not timed. In
a first run, on seeds 0-5 and up to 3e-3, the largest rate was the best of the grid for every arm.

Why two programs. One can hold all arms: 16 rows at every depth, the nodes of a depth as an array. A prototype of it
gave every arm's parameters after an update within 2e-6. But it pays for a tree what chains cost, 320 rows for 203. In
CPU seconds of one thread, on a busy machine, four updates extrapolated to the 75 runs of this comparison: compiling
takes 24 (tree) and 21 (chains) against 20, an update of a run 0.014 and 0.022 against 0.027, and all of it, with the
warm-up that the second program repeats, about 320 against 420; were its rows no dearer than those of chains, 350.

To be run again: the committed numbers are those of an earlier run on seeds 0-5 and with lr from 0.0003, 0.001, 0.003,
judged by today's rule; the seeds and grids below are for the next one.
"""

import ml_collections
import numpy as np

from rlcore.training import results, verdicts


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  """Returns the configuration; `arg` is None (the rings), "digits" or "smoke"."""
  if arg not in (None, "", "digits", "smoke"):
    raise ValueError(f"configs/credit/branch_grpo.py has no variant {arg!r}; it has: digits, smoke")
  config = ml_collections.ConfigDict()
  config.experiment = "experiments.credit.branch_grpo"
  config.seed = 0
  config.steps = 200
  config.log_every = 20
  config.eval_every = 0
  config.checkpoint_every = 200
  config.max_nonfinite = 5
  config.progress_metric = "reward"

  config.world = "rings"  # or "digits"
  config.label_noise = 0.5  # share of the digits whose label is drawn at random
  config.model = ml_collections.ConfigDict(dict(hidden=(64, 64, 64), embedding=16, frequencies=0))
  config.warmup = ml_collections.ConfigDict(dict(steps=2000, batch_size=256, lr=1e-3))

  config.num_steps = 20
  config.shift = 1.0  # the paper's 3 is for images
  config.eta = 0.7
  config.split_steps = (0, 3, 6, 9)
  config.chains = 1  # roots of a tree; 16 chains are 16 roots without splits
  config.branch_strength = 4.0
  config.beta = 0.0  # 1 weighs leaves by the probability of their path
  config.depthwise = 1.0  # 0 gives every edge the advantage of its leaves
  config.prune = 0.0  # 1 prunes the window
  config.fresh = 0.0  # 1 gives every chain its own noise
  config.window = (15, 16, 17, 18)
  config.window_interval = 30
  config.window_stop = 9

  config.trees_per_prompt = 2
  config.gradient_steps = 2
  config.lr = 1e-3
  config.clip_range = 0.2
  config.probe_samples = 64
  config.eval_samples = 256
  config.shown_samples = 48

  if arg == "digits":
    config.world = "digits"
    config.model.update(dict(hidden=(128, 128, 128), embedding=32, frequencies=4))
    config.warmup.update(dict(steps=2000, batch_size=128))
    config.steps = config.checkpoint_every = 80
    config.trees_per_prompt = 1
    config.probe_samples = 32
    config.eval_samples = 64
    config.shown_samples = 4
  if arg == "smoke":
    shrink(config)
  return config


def shrink(config: ml_collections.ConfigDict):
  """Cuts a configuration down to two updates in seconds."""
  config.steps = config.log_every = config.checkpoint_every = 2
  config.warmup.update(dict(steps=2, batch_size=4))
  config.trees_per_prompt = 1
  config.probe_samples = config.eval_samples = config.shown_samples = 2


CHAINS = dict(split_steps=(), chains=16)
TREE = dict(split_steps=(0, 3, 6, 9), chains=1)
ARMS = {
    "sequential": CHAINS | dict(fresh=0.0),
    "branch": TREE | dict(depthwise=1.0, prune=0.0),
    "branch_pruned": TREE | dict(depthwise=1.0, prune=1.0),
    "branch_terminal": TREE | dict(depthwise=0.0, prune=0.0),
    "fresh": CHAINS | dict(fresh=1.0),
}
TUNE = dict(grid={"lr": (1e-3, 2e-3, 4e-3, 8e-3)}, seeds=range(100, 103))
CLAIM = results.Claim(
    paper="BranchGRPO",
    arxiv="2509.06040",
    statement="A branching rollout with depth-wise credit reaches the reward of 16 chains sooner and at lower cost "
              "(FLUX: HPS-v2.1 .363 against .360 at 493 against 698 s an iteration; pruned .369 at 314 s).",
    metric="mean:reward",
    method="branch",
    baselines=("sequential",),
    rival="sequential",
    rule="sequential needs more than 1.3 times the network evaluations of branch to reach 0.9 of sequential's final "
         "reward (its last 20 updates, mean of seeds): 95 % interval of the ratio, paired by seed; not reproduced if"
         " it lies at or below 1; else inconclusive",
    seeds=tuple(range(8)),
    also=("tail:reward", "mean:evaluations", "last:eval/reward"),
    cost="evaluations",
    kept=("eval/samples", "eval/reward"),
)


def areas(curves) -> list[float]:
  """Mean reward of each arm over the network evaluations that all of them have spent, mean of the seeds."""
  costs = [np.array(curve["cost"]) for curve in curves]
  points = np.linspace(max(np.max(cost[:, 0]) for cost in costs), min(np.min(cost[:, -1]) for cost in costs), 200)
  return [float(np.mean([np.interp(points, *seed) for seed in zip(cost, curve["seeds"], strict=True)]))
          for cost, curve in zip(costs, curves, strict=True)]


def verdict(result) -> verdicts.Verdict:
  """Judges by the rule in `CLAIM`; the other arms are reported, not judged."""
  claim, arms = result["claim"], result["variants"][verdicts.judged_variant(result)]["arms"]
  level = 0.9 * float(np.mean(arms["sequential"]["values"]["tail:reward"]))
  reached = {name: verdicts.cost_to_reach(arm["curve"], level) for name, arm in arms.items()}
  ratios = {name: reached["sequential"] / cost for name, cost in reached.items() if name != "sequential"}
  area, other_area = areas([arms[name]["curve"] for name in (claim["method"], "sequential")])
  told = f"mean reward over equal evaluations {area:.3f} against {other_area:.3f}"
  told += "".join(f"; the same ratio for {name} {verdicts.shown(verdicts.mean_interval(x))}"
                  for name, x in ratios.items() if name != claim["method"])
  return verdicts.decide(verdicts.Quantity(
      f"evaluations to {level:.3f}, sequential / {claim['method']}", ratios[claim["method"]], 1.3, 1.0), also=told)
