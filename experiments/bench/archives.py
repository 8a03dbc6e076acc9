"""MAP-Elites on archives of fixed capacity, beside QDax.

`python -m experiments.bench.archives [--qdax-python=PATH] [--rounds=5]` writes `results/archives.json` beside
this file. QDax is no dependency of this project: the flag names an interpreter that has it (0.5). Without one it is
left out.

All numbers are CPU seconds of one pinned thread for 100 iterations in one program. "grid" and "centroids": draw parents
from the archive, make children along lines, evaluate 100 genes, insert; "insert by ...": the last of these alone, with
candidates that were drawn before; "floor": noise and evaluation alone, what is left where an archive costs nothing.
Each contestant is a process of its own that has compiled and filled its archive before; in a round every part is called
once in each, in turns, so ratios are taken within a round. QDax has one archive, of centroids, found by distance; for
it a regular grid is one too.
"""

import argparse
import pathlib
import sys

import numpy as np

from experiments.bench import archive_task as task
from experiments.bench import language
from experiments.bench import peers
from experiments.bench import timing

RESULT = pathlib.Path(__file__).parent / "results" / "archives.json"
PEER_TARGET, RATE_TARGET = 10.0, 1e6  # times QDax, with centroids; evaluations per CPU second, on a grid
FLOOR_TARGET = 0.75  # of the time that noise and evaluation take


def compare(seconds: dict[str, dict[str, list[float]]]) -> list[dict]:
  """Sets the rounds' ratios and rates beside the targets; a target is met by the median."""
  rows = []
  for batch, cells in task.SIZES:
    of = lambda kind: seconds[task.name(kind, batch, cells)]
    own = lambda kind: np.array(of(kind)["rlcore"])

    def row(kind, what, values, target):
      value = language.spread(values)
      rows.append({"part": task.name(kind, batch, cells), "what": what, "value": value, "target": f">= {target:g}",
                   "met": value["median"] >= target})

    for kind, what in (("grid", "evaluations"), ("insert by grid", "insertions")):
      row(kind, f"{what} per CPU second", batch * task.ITERATIONS / own(kind), RATE_TARGET)
    row("grid", "share of the floor", own("floor") / own("grid"), FLOOR_TARGET)
    for kind in ("centroids", "insert by centroid"):
      if "qdax" in of(kind):
        row(kind, "qdax / rlcore", np.array(of(kind)["qdax"]) / own(kind), PEER_TARGET)
  return rows


def start(interpreter: str | None) -> tuple[dict[str, peers.Contestant], dict[str, str]]:
  """Starts the contestants; returns them and why the other is missing."""
  contestants = {"rlcore": peers.Contestant(sys.executable, "experiments.bench.peers_archives")}
  if interpreter is None:
    return contestants, {"qdax": "no --qdax-python given"}
  try:
    contestants["qdax"] = peers.Contestant(interpreter, "experiments.bench.peers_qdax")
  except (OSError, RuntimeError) as error:
    print(error, flush=True)
    return contestants, {"qdax": f"{type(error).__name__}: could not be started in the interpreter given"}
  return contestants, {}


def main():
  """Measures and writes."""
  parser = argparse.ArgumentParser(description="Speed of the archives.")
  parser.add_argument("--qdax-python", help="interpreter that has qdax")
  parser.add_argument("--rounds", type=int, default=5)
  flags = parser.parse_args()
  timing.one_thread()
  contestants, missing = start(flags.qdax_python)
  language.compete(RESULT, contestants, flags.rounds, compare, left_out=missing,
                   unit=f"CPU seconds of one thread for {task.ITERATIONS} iterations")


if __name__ == "__main__":
  main()
