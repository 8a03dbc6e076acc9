"""PPO on gymnax's CartPole, beside PureJaxRL's.

`python -m experiments.bench.ppo [--rounds=5]` writes `results/ppo.json` beside this file; it needs the extra `[envs]`.

All numbers are CPU seconds of one pinned thread. "run": whole runs of 97 updates of 128 steps of each world, one
program for all seeds; "floor": the passes of the networks alone that such runs need; "compile": tracing and compiling
one run, or the floor, without a cache; "compile cached": tracing one run and reading it from JAX's cache on disk, which
`experiments.run` keeps and PureJaxRL does not. PureJaxRL's PPO does not run on today's gymnax and is written anew
(`peers_purejaxrl`). Each contestant is a process of its own that has compiled before; in a round every part is called
once in each, in turns, so ratios are taken within a round. Both must have learned something, or the run is no run.
"""

import argparse
import pathlib
import sys

import numpy as np

from experiments.bench import language
from experiments.bench import peers
from experiments.bench import ppo_task as task
from experiments.bench import timing

RESULT = pathlib.Path(__file__).parent / "results" / "ppo.json"
PEER_TARGET, FLOOR_TARGET, COMPILE_TARGET = 1.2, 0.75, 2.0


def compare(seconds: dict[str, dict[str, list[float]]]) -> list[dict]:
  """Sets the rounds' ratios and rates beside the targets; a target is met by the median."""
  rows = []

  def row(part, what, values, target):
    value = language.spread(values)
    rows.append({"part": part, "what": what, "value": value} | (
        {} if target is None else {"target": f">= {target:g}", "met": value["median"] >= target}))

  for worlds, seeds in task.SIZES:
    part = task.name("run", worlds, seeds)
    own, peer = (np.array(seconds[part][name]) for name in ("rlcore", "purejaxrl"))
    row(part, "env steps per CPU second", worlds * seeds * task.STEPS * task.UPDATES / own, None)
    row(part, "purejaxrl / rlcore", peer / own, PEER_TARGET)
    row(part, "floor / rlcore", np.array(seconds[task.name("floor", worlds, seeds)]["rlcore"]) / own, FLOOR_TARGET)
  row("compile", "purejaxrl / rlcore", np.divide(*(seconds["compile"][name] for name in ("purejaxrl", "rlcore"))),
      COMPILE_TARGET)
  again = np.array(seconds["compile cached"]["rlcore"])
  row("compile cached", "purejaxrl, not cached / rlcore", np.array(seconds["compile"]["purejaxrl"]) / again, None)
  row("compile cached", "purejaxrl / rlcore", np.array(seconds["compile cached"]["purejaxrl"]) / again, None)
  row("compile", "floor / purejaxrl", np.divide(seconds["compile floor"]["rlcore"], seconds["compile"]["purejaxrl"]),
      None)
  return rows


def main():
  """Measures and writes."""
  parser = argparse.ArgumentParser(description="Speed of PPO.")
  parser.add_argument("--rounds", type=int, default=5)
  flags = parser.parse_args()
  timing.one_thread()
  contestants = {name: peers.Contestant(sys.executable, f"experiments.bench.{module}")
                 for name, module in (("rlcore", "peers_ppo"), ("purejaxrl", "peers_purejaxrl"))}
  language.compete(RESULT, contestants, flags.rounds, compare)


if __name__ == "__main__":
  main()
