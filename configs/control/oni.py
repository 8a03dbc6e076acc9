"""ONI on the caption quest (arXiv:2410.23022): rewards for messages, annotated and distilled while the agent trains.

    python -m experiments.run --config=configs/control/oni.py                          one run of retrieval
    python -m experiments.run --config=configs/control/oni.py:farming                  "see key" is taken for progress
    python -m experiments.reproduce --config=configs/control/oni.py --lanes=25         the comparison and its verdict

PPO in `envs.caption_quest`: touch a key, a door and a chest in this order within 64 steps; the chest alone pays, and a
uniform policy opens it in 1 % of the episodes. Every step has a caption, one of 320: 16 templates in 20
wordings. An annotator that sees the caption alone takes three templates for helpful and is wrong about one wording of
each template; of pairs it prefers the one with more progress, without errors. It answers 8 captions, or 8 pairs, an
update, the newest first. Arms: the extrinsic reward alone; a table of the labels (`retrieval`), a classifier, a ranking
model (embedding 16, mean of the words, one layer of 32; 32 Adam steps after each batch of annotations); and the table
with all labels from the start. Captions of one wording, without errors, are a check: what generalises to wordings that
nobody has annotated should then win nothing. So is farming: "see key" is taken for progress too, and retrieval pays
repetitions in full (`no counts`) or by the third power of the count. All ten arms are one program and differ in floats.
`unannotated_share`: of the steps that were paid, those whose caption was not annotated (of ranking: in no pair).

What differs from the miniature. 320 updates, 1.3 million steps, at Adam 1e-3, not 98 at 5e-4, after which no arm of it
opens more than 8 % of the chests. Wrong labels are one wording of each template, 5 % as proposed: drawn freely they
fell on bumping the wall twice as often, which the agent then did. The policy and its critic are two networks of 64-64.

With `--config.judge.kind=chat` a language model annotates instead (`assistants.caption_quest` has the prompts), on a
thread of its own: no update waits for it.

Trials on seeds 100 and 101. The rule is the proposal's; it was written down after two trials in which no arm with wrong
labels learned, and before all others. As proposed (98 updates): extrinsic 0.00, retrieval 0.02, classification 0.06,
ranking 0.08, all labels 0.01. Seed 100, 392 updates at 1e-3: extrinsic has 0.24 around update 320 and 0.73 at the end,
all labels 0.47 and 0.89, classification 0.72 and 0.96; at 5e-4 all are slower, and all labels is below extrinsic. So
the task is not out of reach of PPO, and how far feedback is ahead depends on when one looks; 320 was chosen where
extrinsic is still below the half that would end the comparison. With the ways to the objects observed, not their
places, 126 updates do, and extrinsic keeps up (horizon 48, 2e-3: extrinsic 0.62 to 1.00, all labels 0.90 to 1.00). In
that setting farming had 1.00 with counts and 0.00 without.

What to know of the result (13 minutes). Seed 100 misled: on the five seeds that judge, extrinsic alone reaches 0.5
after 192 to 235 updates and has 1.00 in the end, so the rule ends there. What feedback is worth shows in how soon 0.5
is reached: ranking after 118 updates, about half of what extrinsic takes (214), and so does the table where no label is
wrong (one wording: 118). Wrong labels are what decides: with one wording in twenty mislabelled, the table, the
classifier and even the table with all labels from the start are far below extrinsic (0.23 to 0.30), the agent being
paid for idling through captions that are taken for progress. Ranking has no wrong answers here, so the arms do not
compare the distillers alone. With one wording classification is extrinsic: on three seeds it never finds a caption that
is helpful with more than 0.5. Counts are what keeps an agent from farming: 1.00 with them, 0.00 without. A run before,
with other random numbers of the learner, said the same (extrinsic 0.92, wrong labels 0.27 to 0.39).

To be run again: the committed numbers are those of an earlier run on seeds 0-4, judged by today's rule; the seeds and
grids below are for the next one.
"""

import ml_collections
import numpy as np

from rlcore.training import judging, results, verdicts


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  """Returns the configuration; `arg` is None, "one_wording", "farming" or "smoke"."""
  if arg not in (None, "", "smoke", "one_wording", "farming"):
    raise ValueError(f"configs/control/oni.py has no variant {arg!r}; it has: one_wording, farming, smoke")
  config = ml_collections.ConfigDict()
  config.experiment = "experiments.control.oni"
  config.seed = 0
  config.steps = 320  # of 64 worlds x 64 steps: 1.3 million
  config.log_every = 16
  config.eval_every = 0
  config.checkpoint_every = 320
  config.max_nonfinite = 5
  config.progress_metric = "success"

  config.horizon = 64
  config.wordings = 20.0  # V, of 20: how many ways there are to say the same
  config.weights = ml_collections.ConfigDict(dict(retrieval=1.0, classification=0.0, ranking=0.0))
  config.all_labels = 0.0  # 1: the table has every label from the start
  config.extrinsic_coef = 1.0
  config.intrinsic_coef = 0.3
  config.count_exponent = 3.0
  config.clip_reward = 10.0
  config.class_threshold = 0.5
  config.rank_threshold = 0.0
  config.annotations = 8  # captions, or pairs, an update
  config.max_pairs = 10_000  # the newest, that are learned from
  config.fit_steps = 32
  config.fit_batch = 64
  config.fit_lr = 1e-3
  # Of the annotator that stands in for a language model: share of wrong labels; 1 also takes "see key" for progress.
  config.flip = 0.05
  config.see_key = 0.0
  config.judge = judging.judge_config()  # a language model in its place, asked while the agent trains
  config.queue = 256  # captions, and pairs, that wait for it

  config.hidden = (64, 64)
  config.num_worlds = 64
  config.num_steps = 64
  config.pool = 256  # quests drawn in an update for the episodes that begin in it
  config.epochs = 4
  config.minibatches = 4
  config.lr = 1e-3
  config.gamma = 0.99
  config.lam = 0.95
  config.clip = 0.2
  config.entropy_coef = 0.01

  if arg in ("one_wording", "farming"):
    config.wordings, config.flip = 1.0, 0.0
  if arg == "farming":
    config.see_key = 1.0
  if arg == "smoke":
    config.steps = config.log_every = config.checkpoint_every = 2
    config.num_worlds, config.num_steps, config.epochs, config.minibatches, config.pool = 4, 8, 1, 2, 4
    config.horizon = 6
    config.hidden = (4,)
    config.fit_steps, config.fit_batch = 2, 4
  return config


def _arm(distiller: str = "", **changes) -> dict[str, float]:
  weights = {f"weights.{name}": float(name == distiller) for name in ("retrieval", "classification", "ranking")}
  return weights | dict(all_labels=0.0, count_exponent=3.0, wordings=20.0, flip=0.05, see_key=0.0) | changes


_ONE = dict(wordings=1.0, flip=0.0)
ARMS = {
    "extrinsic": _arm(), "retrieval": _arm("retrieval"), "classification": _arm("classification"),
    "ranking": _arm("ranking"), "all labels": _arm("retrieval", all_labels=1.0),
    **{f"{name}, one wording": _arm(name, **_ONE) for name in ("retrieval", "classification", "ranking")},
    "farming": _arm("retrieval", see_key=1.0, **_ONE),
    "farming, no counts": _arm("retrieval", see_key=1.0, count_exponent=0.0, **_ONE),
}
ONI = ("retrieval", "classification", "ranking")
CLAIM = results.Claim(
    paper="ONI",
    arxiv="2410.23022",
    statement="Rewards from a language model's feedback on messages, learned while the agent trains, far exceed the "
              "extrinsic reward alone on sparse tasks; a table of labels is strong already, a classifier "
              "alike, ranking the most expressive.",
    metric="tail:success",
    method="ranking",
    baselines=("retrieval", "classification", "all labels", "extrinsic"),
    rival="extrinsic",
    rule="chest success of the episodes that end in the last tenth of training, 95 % intervals, paired over seeds: "
         "0.2 minus the extrinsic arm above 0, the worst of retrieval, classification and ranking minus the extrinsic "
         "arm above 0, that worst above 0.7 and minus all labels from the start above -0.15, and in the farming check "
         "counts worth more than 0.2 of success; not reproduced if the extrinsic arm is at least 0.5 (0.2 minus it at "
         "most -0.3) or the second is at most 0; else inconclusive. How soon 0.5 is reached is reported, not judged",
    seeds=tuple(range(8)),
    also=("mean:success", "to0.5:success", "tail:accuracy", "mean:unannotated_share", "tail:annotated",
          "tail:beside_key", "tail:paid"),
)


def verdict(result) -> verdicts.Verdict:
  """Judges by the rule in `CLAIM`."""
  values = lambda arm, metric=None: verdicts.seed_values(result, arm, metric=metric)
  worst, never = np.min([values(arm) for arm in ONI], 0), -np.inf
  half = lambda suffix: ", ".join(f"{arm} {values(arm + suffix, 'to0.5:success').mean():.0f}" for arm in ONI)
  told = (", ".join(f"{arm} {values(arm).mean():.2f}" for arm in ("extrinsic", *ONI, "all labels"))
          + f"; updates to 0.5: {half('')}, with one wording {half(', one wording')}")
  return verdicts.decide(
      verdicts.Quantity("0.2 - extrinsic", 0.2 - values("extrinsic"), 0.0, -0.3),
      verdicts.Quantity("worst of three - extrinsic", worst - values("extrinsic")),
      verdicts.Quantity("worst of three", worst, 0.7, never),
      verdicts.Quantity("worst of three - all labels", worst - values("all labels"), -0.15, never),
      verdicts.Quantity("farming, with counts - without", values("farming") - values("farming, no counts"), 0.2, never),
      also=told)


def sweep(add):
  """Which distiller, and how much its rewards weigh."""
  for distiller in ONI:
    for coef in (0.1, 0.3, 1.0):
      add(**_arm(distiller), intrinsic_coef=coef)
