"""Internal RL in Pinpad-5 (arXiv:2512.20605): a policy over discovered codes against token-level fine-tuning.

    python -m experiments.run --config=configs/control/internal_rl.py              one run of internal RL
    python -m experiments.reproduce --config=configs/control/internal_rl.py        the comparison and its verdict

The base model and the metacontroller are fitted once a seed, inside `init`, and shared by the arms: `internal` (a code
is chosen where the switch opens), `codes at every step`, `random codes` (`internal` without learning) and `token level`
(GRPO on all weights of the base model). The last is a program of its own: it differentiates the base model through
whole episodes, which costs more than the update of the others, and needs no metacontroller, so that its F1 is NaN.
Every arm chooses its learning rate on seeds 100-101 and is judged on seeds 0-4. The study fits the metacontroller
without a bottleneck, and with an expert that draws among the shortest ways.

What was cut: the base model is fitted by 2000 steps of 64 demonstrations at 2e-3 (3000 of 128 at 1e-3), the task lasts
32 steps, 8 a colour (40), and 150 updates (300); "updates to 50 %" is by a running mean of 5. The learning rate of
`random codes` means nothing.

How the discovery was chosen, on seeds 10-16, by F1 alone and never by success. With the miniature's settings (alpha
0.1, 3000 steps of 128, ways drawn) every step switches (F1 0.52): to tell which way is drawn saves as much likelihood a
nat as to tell the goal, so no weight of the bottleneck buys the one without the other. So the expert takes the same
ways every time, and what is left to tell is the goal, and its slips. A bottleneck that is there from the start silences
the metacontroller on some seeds (KL 0) at any alpha from 0.1 on; so codes are free for 500 steps and their price rises
to alpha over 500 more. Then F1 passes 0.7 on the way and falls again later, when the codes learn to tell the slips and
where two goals' ways part: alpha 0.6, seeds 12-15: 0.75 after 875 steps, 0.81 after 1000, 0.76 after 1125; with 0.3 at
most 0.64 after the rise, with 1.0 silence again. The fit ends after 1000 steps. One run of 10 updates was made for its
time, with an earlier discovery (seed 10): token level came to a mean success of 0.18, internal RL to 0.002.

What to know of the result (43 minutes beside other programs). Token level is not near 0 but done first: 0.999 on every
seed, half of it after 13 updates. Pinpad-5 seems too small for the claim: random codes succeed in 0.5 % of the
episodes, so that the 256 of an update hold about one success before anything is learned. Internal RL learns too (0.60;
without the seed whose metacontroller never switches after the first step 0.74), later, and codes at every step do
better than held ones (0.84): nothing is gained by the switches here. F1 is 0.53 on these seeds, 0.66 without the silent
one, against 0.81 on those of the choice: where the fit is stopped matters, and four seeds were too few to choose it on.
Drawn ways and no bottleneck switch at nearly every step, as before (F1 0.52 to 0.54). Of the paper's account this
leaves: a policy over codes of a frozen model can be learned from a sparse reward, and does not go through single
actions.

To be run again: the committed numbers are those of an earlier run on seeds 0-4 and with lr from 0.0003, 0.001, judged
by today's rule; the seeds and grids below are for the next one.
"""

import ml_collections
import numpy as np

from rlcore.training import results, verdicts


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
  config.random_ways = False  # of the expert; False takes the same of the shortest ways every time
  config.measured = 512  # fresh demonstrations for what is reported of base model and discovery
  config.fit_base = ml_collections.ConfigDict(dict(steps=2000, batch_size=64, lr=2e-3))
  config.fit_meta = ml_collections.ConfigDict(dict(steps=1000, batch_size=64, lr=2e-3))
  config.alpha = 0.6  # weight of the bottleneck in the discovery; reaches `init`, so no arm may change it
  config.free_steps, config.ramp_steps = 500, 500  # without the bottleneck, and until it has its full weight

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
      ("no bottleneck", 0.0, False), ("random ways", 0.6, True))))

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
TUNE = dict(grid={"lr": (3e-4, 1e-3, 3e-3)}, seeds=(100, 101))
STUDY = dict(seeds=(200, 201), batch=2)
CLAIM = results.Claim(
    paper="Internal RL",
    arxiv="2512.20605",
    statement="A policy over codes that switch with the subgoals, inside of a frozen autoregressive model, learns from "
              "a sparse reward where token-level fine-tuning stays near 0.",
    metric="tail:success",
    method="internal",
    baselines=("token level",),
    rival="token level",
    rule="success of the training episodes over the last tenth of the updates, internal RL minus token-level "
         "GRPO, paired by seed, and F1 of the switches against the subgoals (tolerance 1), 95 % intervals: the "
         "difference above 0.3 and F1 above 0.7; not reproduced if the difference is at most 0.1 or F1 at most 0.5; "
         "else inconclusive",
    margin=0.1,
    seeds=tuple(range(8)),
    also=("to0.5:success", "mean:success", "tail:collected", "tail:chosen", "tail:episode_length", "last:eval/f1",
          "last:eval/switch_rate", "last:eval/nll", "last:eval/kl", "last:eval/base_nll"),
)


def verdict(result) -> verdicts.Verdict:
  """Judges by the rule in `CLAIM`."""
  values = lambda arm, metric=None: verdicts.seed_values(result, arm, metric=metric)
  told = (f"codes at every step {np.mean(values('codes at every step')):.3f}, random codes "
          f"{np.mean(values('random codes')):.3f}; switches at a rate of "
          f"{np.mean(values('internal', 'last:eval/switch_rate')):.2f}")
  if result["study"]:
    study = {name: np.mean(x) for name, x in result["study"]["metrics"].items()}
    told += (f", F1 without the bottleneck {study['no bottleneck/f1']:.2f}, with random ways "
             f"{study['random ways/f1']:.2f}")
  return verdicts.decide(
      verdicts.Quantity("success, internal - token level", verdicts.difference(result, "token level"), 0.3,
                        CLAIM.margin),
      verdicts.Quantity("F1 of the switches", values("internal", "last:eval/f1"), 0.7, 0.5), also=told)


def sweep(add):
  """The rate of learning, with codes that are held and without."""
  for lr in (3e-4, 1e-3, 3e-3):
    for every_step in (0.0, 1.0):
      add(lr=lr, every_step=every_step)
