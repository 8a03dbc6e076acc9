"""Internal RL in Pinpad-5 (arXiv:2512.20605): a policy over discovered codes against token-level fine-tuning.

    python -m experiments.run --config=configs/control/internal_rl.py              one run of internal RL
    python -m experiments.reproduce --config=configs/control/internal_rl.py        the comparison and its verdict

The base model and the metacontroller are fitted once a seed, inside `init`, and shared by the arms: `internal` (a code
is chosen where the switch opens), `codes at every step`, `random codes` (`internal` without learning) and `token level`
(GRPO on all weights of the base model). The last is a program of its own: it differentiates the base model through
whole episodes, which costs more than the update of the others, and needs no metacontroller, so that its F1 is NaN.
Every arm chooses its learning rate on seeds 100-101 and is judged on seeds 0-4. The study fits the metacontroller
without a bottleneck (alpha 0), and with an expert that takes the same of the shortest ways every time.

What was cut: the fits take 2000 steps of 64 demonstrations at 2e-3 (3000 of 128 at 1e-3), the task lasts 32 steps, 8 a
colour (40), and 150 updates (300); "updates to 50 %" is by a running mean of 5. The learning rate of `random codes`
means nothing.

What is known of the discovery before the run that decides, from seed 10 alone and none of it by success: the switches
do not become sparse. With the settings of the miniature (alpha 0.1, 3000 steps of 128) every step switches (F1 0.52,
beta 0.92 at boundaries and 0.87 elsewhere) and the controlled model's loss is 0.12 nats a step, below what goals alone
could explain: the codes spell out which of the shortest ways the expert draws, step by step. At alpha 0.3 and above a
metacontroller that starts anew finds nothing within 2000 steps of 32 (KL 0). With fixed ways, 1500 steps of 32 are too
few to tell: at 0.1 one code, drawn at the first step, is held to the end (KL 0.47 a step, F1 0). One that starts from
that of alpha 0.1 switches at every step still, after 1000 steps at 0.3 or 0.5 (F1 0.53). No alpha of the grid passed,
so alpha stays what the miniature says. One run of 10 updates (seed 10, fixed ways, 1e-3) was made for its time: token
level came to a mean success of 0.18, internal RL to 0.002.

The comparison has not run yet, since a discovery that fails this check says little about what it is for.
"""

import ml_collections
import numpy as np

from rlcore.training import results


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  """Returns the configuration; `arg` is None or "smoke"."""
  if arg not in (None, "", "smoke"):
    raise ValueError(f"configs/control/internal_rl.py has no variant {arg!r}; it has: smoke")
  config = ml_collections.ConfigDict()
  config.experiment = "experiments.control.internal_rl"
  config.seed = 0
  config.steps = 150
  config.log_every = 15
  config.eval_every = 0
  config.checkpoint_every = 150
  config.max_nonfinite = 5
  config.progress_metric = "success"

  config.dim = 64  # of the base model's layers, and of the residual between them
  config.meta = ml_collections.ConfigDict(dict(code=8, rank=4, hidden=32))
  config.demo_horizon = 16
  config.random_ways = True  # of the expert; False takes the same of the shortest ways every time
  config.measured = 512  # fresh demonstrations for what is reported of base model and discovery
  config.fit_base = ml_collections.ConfigDict(dict(steps=2000, batch_size=64, lr=2e-3))
  config.fit_meta = ml_collections.ConfigDict(dict(steps=2000, batch_size=64, lr=2e-3))
  config.alpha = 0.1  # weight of the bottleneck in the discovery; reaches `init`, so no arm may change it

  config.order = (0, 2, 1, 3)
  config.horizon = 32
  config.groups = 16
  config.group_size = 16
  config.lr = 1e-3
  config.epochs = 2
  config.clip = 0.2
  config.learn = 1.0  # 0 leaves the policy as it starts
  config.every_step = 0.0  # 1 chooses a code at every step
  config.token_level = False  # True trains the base model itself, without codes

  config.study = ml_collections.ConfigDict(dict(cases=(  # name, alpha, random_ways
      ("alpha 0", 0.0, True), ("fixed ways", 0.1, False))))

  if arg == "smoke":
    config.steps = config.log_every = config.checkpoint_every = 2
    config.update(dict(dim=8, measured=4, horizon=6, groups=2, group_size=2))
    config.meta.update(dict(code=2, rank=1, hidden=4))
    config.fit_base.update(dict(steps=2, batch_size=4))
    config.fit_meta.update(dict(steps=2, batch_size=4))
  return config


ARMS = {
    "internal": {"learn": 1.0, "every_step": 0.0, "token_level": False},
    "token level": {"learn": 1.0, "every_step": 0.0, "token_level": True},
    "codes at every step": {"learn": 1.0, "every_step": 1.0, "token_level": False},
    "random codes": {"learn": 0.0, "every_step": 0.0, "token_level": False},
}
TUNE = dict(grid={"lr": (3e-4, 1e-3)}, seeds=(100, 101))
STUDY = dict(seeds=(200, 201), batch=2)
CLAIM = results.Claim(
    paper="Internal RL",
    arxiv="2512.20605",
    statement="A policy over codes that switch with the subgoals, inside of a frozen autoregressive model, learns from "
              "a sparse reward where token-level fine-tuning stays near 0.",
    metric="tail:success",
    method="internal",
    baselines=("token level",),
    rule="success of the training episodes over the last tenth of the updates, internal RL minus token-level "
         "GRPO, paired by seed, and F1 of the switches against the subgoals (tolerance 1): reproduced if the "
         "mean difference is at least 0.3 with its 95 % bootstrap interval above 0.1 and the mean F1 is at "
         "least 0.7; not reproduced if the difference is at most 0.1 or F1 is below 0.5; else inconclusive",
    margin=0.1,
    seeds=tuple(range(5)),
    also=("to0.5:success", "mean:success", "tail:collected", "tail:chosen", "tail:episode_length", "last:eval/f1",
          "last:eval/switch_rate", "last:eval/nll", "last:eval/kl", "last:eval/base_nll"),
)


def verdict(result) -> tuple[str, str]:
  """Judges by the rule in `CLAIM`."""
  gain = results.compare(result, "token level")
  variant = result["variants"][results.judged_variant(result)]
  mean = lambda arm, metric: np.mean(variant["arms"][arm]["values"][metric])
  f1 = mean("internal", "last:eval/f1")
  told = (f"success {gain.mean:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}] against token level; codes at every step "
          f"{mean('codes at every step', CLAIM.metric):.3f}, random codes {mean('random codes', CLAIM.metric):.3f}; F1 "
          f"of the switches {f1:.2f} at a rate of {mean('internal', 'last:eval/switch_rate'):.2f}")
  if result["study"]:
    study = {name: np.mean(values) for name, values in result["study"]["metrics"].items()}
    told += f", without the bottleneck {study['alpha 0/f1']:.2f}, with fixed ways {study['fixed ways/f1']:.2f}"
  if gain.mean <= 0.1 or f1 < 0.5:
    return "not reproduced", told
  return ("reproduced" if gain.mean >= 0.3 and gain.low > 0.1 and f1 >= 0.7 else "inconclusive"), told


def sweep(add):
  """The rate of learning, with codes that are held and without."""
  for lr in (3e-4, 1e-3, 3e-3):
    for every_step in (0.0, 1.0):
      add(lr=lr, every_step=every_step)
