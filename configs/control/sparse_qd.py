"""Quality diversity under sparse rewards (arXiv:2203.01027): does SERENE find every reward and make more of it?

    python -m experiments.run --config=configs/control/sparse_qd.py                    one search by SERENE
    python -m experiments.reproduce --config=configs/control/sparse_qd.py --lanes=10   the comparison and its verdict

A point mass behind two walls (`envs.walled_square`) is steered by a network of 27 weights and rewarded for coming to
rest in one of two discs. Six arms spend 20000 episodes each: novelty search on the last position (`ns`), the same with
emitters in every second chunk of 1000 (`serene`), survival by the reward (`evolution`), fresh controllers (`random`),
and novelty or surprise in the code of an auto-encoder that sees a picture of the last position, without emitters
(`taxons`) and with them (`stax`). All have the same first genomes, mutation and budget; emitters pay for theirs. There
is nothing to tune: the numbers are those of the miniature's specification, and reward and length of an episode were
settled on seeds 0 to 3, which the verdict does not use. (`--lanes=10`: the four arms with the true descriptor are 40
runs of one program, six lots of ten are then full.)

What is the library's own: the sample of an emitter's novel members that enters the archive is drawn while they come,
which is as good as drawing it at the end; novelties within a chunk of emitters refer to population, children and
archives at its start; at most 1024 candidates wait, then the oldest is forgotten (it never came to that); the code of
the auto-encoder has a tanh, as all layers but the last.

What to know of it. SERENE finds both areas in every seed, covers nearly what novelty search covers (0.94 against 1.00)
and makes more of B, the area that is found first (0.98 against 0.94). It makes less of A, the far one (0.55 against
0.80): half of the budget goes to emitters while exploration is what is missing, A is found late, and by then the 32
places are taken by emitters in B that still creep upwards, for the stopping rule looks at 210 populations. (In seeds
10 to 14, looked at afterwards, 27 to 32 of them stand in B at the end, and 5 to 67 candidates in A wait.) Novelty
search needs no emitters to refine A, since the last position is nearly what is rewarded.
STAX stands to TAXONS as SERENE to novelty search. TAXONS is close to novelty search with the true descriptor in
coverage (0.96) and reward, but for a seed that never finds A; STAX covers 0.83. Evolution by reward finds B and stays
there, in every seed; random search finds both areas more often than was expected (6 of 10 seeds), far from their
centres.
"""

import ml_collections
import numpy as np

from rlcore.training import results, verdicts


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  """Returns the configuration; `arg` is None or "smoke"."""
  if arg not in (None, "", "smoke"):
    raise ValueError(f"configs/control/sparse_qd.py has no variant {arg!r}; it has: smoke")
  config = ml_collections.ConfigDict()
  config.experiment = "experiments.control.sparse_qd"
  config.seed = 0
  config.steps = 20  # chunks
  config.log_every = 1
  config.eval_every = 0
  config.checkpoint_every = 20
  config.max_nonfinite = 5
  config.progress_metric = "best"

  config.horizon = 80
  config.step_size = 0.3  # of a mutation
  config.exploit = 1.0  # 1: every second chunk is for emitters
  config.fresh = 0.0  # 1: children are drawn as the first population is
  config.greedy = 0.0  # 1: survival by the reward
  config.surprise_rate = 0.0  # share of generations that survive by surprise, not novelty
  config.learned = False  # descriptors of an auto-encoder
  config.encoder = ml_collections.ConfigDict(dict(code=4, hidden=(32,), lr=1e-3, batch_size=128, epochs=100))
  config.sizes = ml_collections.ConfigDict(dict(
      budget=20_000, chunk=1000, population=50, children=2, archived=5, neighbours=15, capacity=4096, candidates=1024,
      emitters=32, emitter_population=6, emitter_steps=1700, trial=6))

  if arg == "smoke":
    config.steps = config.checkpoint_every = 4
    config.horizon = 20
    config.encoder.update(dict(batch_size=16, epochs=2))
    config.sizes.update(dict(
        budget=200, chunk=50, population=8, archived=2, neighbours=3, capacity=64, candidates=16, emitters=3,
        emitter_population=2, emitter_steps=40, trial=4))
  return config


def _arm(learned=False, exploit=0.0, fresh=0.0, greedy=0.0) -> dict[str, float | bool]:
  return {"learned": learned, "exploit": exploit, "fresh": fresh, "greedy": greedy,
          "surprise_rate": 0.5 if learned else 0.0}


ARMS = {
    "serene": _arm(exploit=1.0),
    "ns": _arm(),
    "evolution": _arm(greedy=1.0),
    "random": _arm(fresh=1.0),
    "taxons": _arm(learned=True),
    "stax": _arm(learned=True, exploit=1.0),
}
CLAIM = results.Claim(
    paper="SERENE",
    arxiv="2203.01027",
    statement="Novelty search with emitters reaches the rewards of all disjoint areas and optimises each, with a "
              "coverage like that of novelty search alone; in a learned space it does so with far less prior "
              "knowledge.",
    metric="last:best",
    method="serene",
    baselines=("ns",),
    rival="ns",
    rule="best reward averaged over both areas after 20000 evaluations, SERENE minus novelty search, paired by seed,"
         " 95 % intervals: above 0, the share of seeds on which SERENE finds both areas above 0.5, and its coverage "
         "minus 0.7 of novelty search's above 0; not reproduced if the first is at most 0 or the coverage minus 0.5 "
         "of novelty search's is; else inconclusive",
    seeds=tuple(range(10, 20)),
    also=("last:best_a", "last:best_b", "last:both", "last:areas", "last:coverage", "last:emitters", "last:waiting",
          "last:archived", "last:rewarded"),
    cost="tokens",
    kept=("eval/visits",),
    curves=("best_a", "best_b", "coverage"),
)


def verdict(result) -> verdicts.Verdict:
  """Judges by the rule in `CLAIM`."""
  values = lambda arm, key: verdicts.seed_values(result, arm, metric=f"last:{key}")
  mean = lambda arm, key: float(np.mean(values(arm, key)))
  cover = lambda share: values("serene", "coverage") - share * values("ns", "coverage")
  told = (f"A {mean('serene', 'best_a'):.2f} against {mean('ns', 'best_a'):.2f}, B {mean('serene', 'best_b'):.2f} "
          f"against {mean('ns', 'best_b'):.2f}; of {len(values('ns', 'both'))} seeds both areas were found in "
          + ", ".join(f"{values(arm, 'both').sum():.0f} ({arm})" for arm in ARMS))
  return verdicts.decide(
      verdicts.Quantity("best reward, SERENE - novelty search", verdicts.difference(result, "ns")),
      verdicts.Quantity("share of seeds with both areas", values("serene", "both"), 0.5, -np.inf, share=True),
      verdicts.Quantity("coverage, SERENE - 0.7 novelty search", cover(0.7), 0.0, -np.inf),
      verdicts.Quantity("coverage, SERENE - 0.5 novelty search", cover(0.5)), also=told)


def sweep(add):
  """How wide mutations are, with emitters and without."""
  for step_size in (0.1, 0.3, 0.5):
    for exploit in (0.0, 1.0):
      add(step_size=step_size, exploit=exploit)
