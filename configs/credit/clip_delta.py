"""Clip and Delta on the world of proofs (arXiv:2410.15115): a raw process reward is farmed, a refined one is not.

    python -m experiments.run --config=configs/credit/clip_delta.py              one run of Clip-Delta, a few seconds
    python -m experiments.reproduce --config=configs/credit/clip_delta.py        the comparison and its verdict

A proof needs three secret right moves, then FINISH; RESTATE changes nothing and keeps a correct prefix correct, so its
score is high. The arms are PPO on the success alone, and with the step scores added to it: raw (prm), clipped, as
differences, clipped and then as differences, and divided by the number of steps (per_length, a mitigation that does not
help, says the paper). Raw scores and Clip-Delta also run with the weights alpha 0.3 and 0.1. Every arm chooses its
learning rate on seeds 100-102 (best area under the success curve of training episodes) and is judged on seeds 0-15.

What was cut to fit minutes on one core: 16 problems x 8 samples an update (the miniature asks for 64 x 8), 30 updates
(150) and 500 cloning updates of 64 scripted episodes (2000 of 256 steps). The end of a run is its last 3 updates.

How it was sized, on seeds 100 and 101. In a first run of 100 updates, with rates up to 3e-3, success only had an area
of 0.93, at the ceiling, and nearly all arms chose the largest rate. After 30 updates the areas at 1, 3, 10 and 30e-3
are 0.65, 0.80, 0.79, 0.13 (success only), 0.63, 0.76, 0.84, 0.04 (Clip-Delta) and 0.11, 0.16, 0.13, 0.05 (raw scores).

What to know of it. Advantages are whitened over the batch (rewards are not). A seed draws the right moves as well as
the weights. In the first run Delta alone was farmed too (end success 0.25, 83 % RESTATE), for its reward-to-go pays for
not stopping; with alpha 0.1 raw scores still cost; divided by the length they left success at 0.93 but made proofs
three times as long.
"""

import ml_collections

from rlcore.training import results, verdicts


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  """Returns the configuration; `arg` is None or "smoke"."""
  if arg not in (None, "", "smoke"):
    raise ValueError(f"configs/credit/clip_delta.py has no variant {arg!r}; it has: smoke")
  config = ml_collections.ConfigDict()
  config.experiment = "experiments.credit.clip_delta"
  config.seed = 0  # draws weights and the right moves
  config.steps = 30
  config.log_every = 10
  config.eval_every = 0
  config.checkpoint_every = 30
  config.max_nonfinite = 5
  config.progress_metric = "success"

  config.world = ml_collections.ConfigDict(dict(num_problems=16, num_moves=6, horizon=20, noise=0.05))
  config.hidden = (64, 64)
  config.warmup = ml_collections.ConfigDict(dict(steps=500, episodes=64, lr=3e-3))

  config.samples = 8  # to each problem and update
  config.lr = 1e-3
  config.lam = 1.0
  config.epochs = 2
  config.minibatches = 4
  config.alpha = 1.0  # weight of the refined scores
  config.eta = 0.5  # score from which on a step is good
  config.weights = ml_collections.ConfigDict(dict(none=0.0, clip=0.0, delta=0.0, clip_delta=1.0, per_length=0.0))

  if arg == "smoke":
    config.steps = config.log_every = config.checkpoint_every = 2
    config.samples = 2
    config.warmup.update(dict(steps=2, episodes=4))
  return config


def sweep(add):
  """How much of the raw scores, and of the refined ones, a policy stands."""
  for alpha in (0.1, 0.3, 1.0):
    for name in ("none", "clip_delta"):
      add(alpha=alpha, **_arm(**{name: 1.0}))


def _arm(**weights: float) -> dict[str, float]:
  return {f"weights.{name}": weights.get(name, 0.0) for name in ("none", "clip", "delta", "clip_delta", "per_length")}


ARMS = {
    "success": _arm(),
    "prm": _arm(none=1.0),
    "clip": _arm(clip=1.0),
    "delta": _arm(delta=1.0),
    "clip_delta": _arm(clip_delta=1.0),
    "per_length": _arm(per_length=1.0),
    "prm, alpha 0.3": _arm(none=1.0) | {"alpha": 0.3},
    "clip_delta, alpha 0.3": _arm(clip_delta=1.0) | {"alpha": 0.3},
    "prm, alpha 0.1": _arm(none=1.0) | {"alpha": 0.1},
    "clip_delta, alpha 0.1": _arm(clip_delta=1.0) | {"alpha": 0.1},
}
TUNE = dict(grid={"lr": (1e-3, 3e-3, 1e-2, 3e-2)}, seeds=range(100, 103))
CLAIM = results.Claim(
    paper="Clip & Delta",
    arxiv="2410.15115",
    statement="A raw process reward breaks training (MATH 30.6 to 11.2 %, Qwen2-1.5B), Clip-Delta mends it (31.4 %).",
    metric="mean:success",
    method="clip_delta",
    baselines=("success",),
    rival="success",
    rule="alpha 1, 95 % intervals, paired by seed: the end success of success-only minus that of the raw process "
         "reward above 0.1, and the area of Clip-Delta minus success-only above -0.02; not reproduced if the former "
         "lies at or below 0 or the latter at or below -0.02; else inconclusive",
    margin=-0.02,
    seeds=tuple(range(16)),
    also=("tail:success", "tail:episode_length", "tail:restate", "tail:unfinished", "tail:process_return"),
)


def verdict(result) -> verdicts.Verdict:
  """Judges by the rule in `CLAIM`: the harm of the raw process reward, and that Clip-Delta does none."""
  harm = verdicts.difference(result, "prm", method="success", metric="tail:success")
  return verdicts.decide(
      verdicts.Quantity("end success, success only - raw process reward", harm, 0.1, 0.0),
      verdicts.Quantity("area, Clip-Delta - success only", verdicts.difference(result, "success"), CLAIM.margin))
