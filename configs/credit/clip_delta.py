"""Clip and Delta on the world of proofs (arXiv:2410.15115): a raw process reward is farmed, a refined one is not."""

import ml_collections

from rlcore.training import results


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  """Returns the configuration; `arg` is None or "smoke"."""
  if arg not in (None, "", "smoke"):
    raise ValueError(f"configs/credit/clip_delta.py has no variant {arg!r}; it has: smoke")
  config = ml_collections.ConfigDict()
  config.experiment = "experiments.credit.clip_delta"
  config.name = "clip_delta"
  config.seed = 0  # draws weights and the right moves
  config.steps = 100
  config.log_every = 10
  config.eval_every = 0
  config.checkpoint_every = 100
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
  config.alpha = 1.0
  config.eta = 0.5
  config.weights = ml_collections.ConfigDict(dict(none=0.0, clip=0.0, delta=0.0, clip_delta=1.0, per_length=0.0))

  if arg == "smoke":
    config.steps = config.log_every = config.checkpoint_every = 2
    config.samples = 2
    config.warmup.update(dict(steps=2, episodes=4))
  return config


def _arm(**weights: float) -> dict[str, float]:
  return {f"weights.{name}": weights.get(name, 0.0) for name in ("none", "clip", "delta", "clip_delta", "per_length")}


ARMS = {
    "success": _arm(),
    "prm": _arm(none=1.0),
    "clip": _arm(clip=1.0),
    "delta": _arm(delta=1.0),
    "clip_delta": _arm(clip_delta=1.0),
    "per_length": _arm(per_length=1.0),
}
