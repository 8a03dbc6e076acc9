"""Episodic bonuses on one long episode, beside a NumPy loop and beside the time to move their memory.

`python -m experiments.bench.exploration` writes `results/exploration.json` beside this file (under a minute).

All numbers are CPU milliseconds of one pinned thread, dispatch included. E3B: T = 1000 features of D = 256; its loop is
the textbook's, one update of the inverse covariance a step in float32; "memory" reads and writes a matrix of its size
T times, which every step-by-step update must. Counts: T = 1000 and 100,000 keys out of 1000; their loop keeps a dict,
and "memory" reads the keys and writes as many numbers once.
"""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from experiments.bench import timing
from rlcore import exploration
from rlcore.training import results

RESULT = pathlib.Path(__file__).parent / "results" / "exploration.json"
LENGTH, WIDTH, RIDGE, KEYS = 1000, 256, 0.1, 1000


def elliptical_loop(features: np.ndarray) -> np.ndarray:
  """Pays `f' P f` by updates of the inverse."""
  inverse = np.eye(WIDTH, dtype=np.float32) / np.float32(RIDGE)
  bonus = np.zeros(len(features), np.float32)
  for t, feature in enumerate(features):
    u = inverse @ feature
    bonus[t] = feature @ u
    inverse -= np.outer(u, u / (1 + bonus[t]))
  return bonus


def count_loop(keys: np.ndarray) -> np.ndarray:
  """Counts each key as it comes."""
  seen, counts = {}, np.zeros(len(keys), np.int32)
  for t, key in enumerate(keys.tolist()):
    counts[t] = seen[key] = seen.get(key, 0) + 1
  return counts


def matrix_passes(features: jax.Array) -> jax.Array:
  """Reads and writes a `[D, D]` matrix once a step."""
  start = jnp.eye(WIDTH)
  return jax.lax.scan(lambda matrix, feature: (matrix * 0.999 + feature[0], None), start, features)[0]


def cases() -> dict:
  """Returns of each case what is called and with what."""
  rng = np.random.default_rng(0)
  features = rng.normal(size=(LENGTH, WIDTH)).astype(np.float32) / np.sqrt(WIDTH, dtype=np.float32)
  every = {f"E3B, T = {LENGTH}, D = {WIDTH}": ({
      "rlcore": jax.jit(lambda x: exploration.elliptical_bonus(x, ridge=RIDGE)), "numpy": elliptical_loop,
      "memory": jax.jit(matrix_passes)}, features)}
  for length in (LENGTH, 100 * LENGTH):
    every[f"counts, T = {length}"] = ({
        "rlcore": jax.jit(exploration.episodic_count), "numpy": count_loop, "memory": jax.jit(lambda x: x + 1)},
        rng.integers(0, KEYS, length).astype(np.int32))
  return every


def measure() -> dict:
  """Checks that the contestants agree, then times them in turns."""
  table = {}
  for name, (functions, data) in cases().items():
    np.testing.assert_allclose(functions["rlcore"](data), functions["numpy"](data), rtol=1e-3)
    on_device = jnp.asarray(data)
    given = {kind: (lambda run=run, x=data if kind == "numpy" else on_device: run(x)) for kind, run in functions.items()}
    times = timing.cpu_ms(given)
    ratio = lambda other: round(times[other]["median"] / times["rlcore"]["median"], 3)
    table[name] = times | {"numpy / rlcore": ratio("numpy"), "memory / rlcore": ratio("memory")}
    print(name, {kind: value["median"] if isinstance(value, dict) else value for kind, value in table[name].items()},
          flush=True)
  return table


def main():
  """Measures and writes."""
  timing.one_thread()
  results.write_result(RESULT, {"unit": "CPU milliseconds of one thread", "environment": results.environment(),
                                "cases": measure()})


if __name__ == "__main__":
  main()
