"""Credit along trajectories, against rlax and against reading the input once.

`python -m experiments.bench.temporal` writes `results/temporal.json` beside this file (about two minutes). The named
peer is rlax, where it can be imported; it is no dependency of this project, and without it the other rows are measured.

All numbers are CPU milliseconds of one pinned thread, dispatch included. A batch of 1024 trajectories of 1024 steps, in
float32, is "rows" `[B, T]` (`vmap` over axis 0) or "columns" `[T, B]` (`vmap` over axis 1). Outputs are dropped before
the next call, so that the allocator hands the same pages out again; a program that keeps its outputs pays for fresh
pages besides, about a millisecond for every 4 MB array. `faults` is the number of page faults per call, which tells
the one from the other.

- estimators: ours and rlax on equal input, answers compared first. rlax computes advantages without the returns that
  `gae` also gives; `gae, advantages` is the like of it, since the compiler drops what nobody reads. "touch" reads every
  input once and writes one output: the floor of memory bandwidth.
- forms: what `rlcore/advantages/recurrence.py` chooses from, on advantages with an array of discounts.
- sizes: the two forms for rows by size, with compile seconds: where the small ones stop mattering.
"""

import functools
import importlib
import pathlib
import resource
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.bench import timing
from rlcore.advantages import recurrence
from rlcore.advantages import temporal
from rlcore.training import results

RESULTS = pathlib.Path(__file__).parent / "results"
BATCH = LENGTH = 1024
LAM = 0.95
AXES = {"rows": 0, "columns": 1}
TARGETS_MS = {"rows": 3.0, "columns": 2.2}
SIZES = ((8, 128), (64, 24), (8, 1024), (64, 128), (128, 128), (256, 128), (64, 1024), (256, 1024))


class Batch(NamedTuple):
  """Trajectories in one layout; `values` are of the T + 1 states, the other values are pieces of them."""

  reward: jax.Array
  discount: jax.Array  # 0 at one step in 50
  value: jax.Array
  value_tp1: jax.Array
  values: jax.Array
  last: jax.Array  # [B]
  rho: jax.Array
  mask: jax.Array  # with holes


def batch(layout: str, size: int = BATCH, length: int = LENGTH) -> Batch:
  """Makes Gaussian rewards and values."""
  rng = np.random.default_rng(0)
  shape = (length, size)
  values = rng.normal(size=(length + 1, size))
  columns = Batch(
      rng.normal(size=shape), np.where(rng.random(shape) < 0.02, 0, 0.99), values[:-1], values[1:], values, values[-1],
      np.exp(0.3 * rng.normal(size=shape)), rng.random(shape) < 0.8)
  arrays = columns if layout == "columns" else jax.tree.map(lambda x: np.ascontiguousarray(x.T), columns)
  return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), arrays)


def peer():
  """Returns rlax, or None with a word to the user."""
  try:
    return importlib.import_module("rlax")
  except ImportError as error:
    print(f"rlax cannot be imported ({error}): no peer to compare with; install it beside this project to have one")
    return None


def cases(rlax) -> dict[str, tuple]:
  """name -> (the inputs it needs, ours, theirs or None), functions of a `Batch`."""
  def gae(b, mask=None):
    return temporal.gae(b.reward, b.value, mask, b.discount, LAM, bootstrap_value=b.last)

  def gae_scalar(b, mask=None):
    return temporal.gae(b.reward, b.value, mask, 0.99, LAM)

  found = {
      "gae, advantages": (
          "reward discount value", lambda b: gae(b)[0],
          lambda b: rlax.truncated_generalized_advantage_estimation(b.reward, b.discount, LAM, b.values)),
      "gae": ("reward discount value", gae, None),
      "gae, one discount": ("reward value", gae_scalar, None),
      "gae, one discount, mask": ("reward value mask", lambda b: gae_scalar(b, b.mask), None),
      "gae, mask": ("reward discount value mask", lambda b: gae(b, b.mask), None),
      "lambda_returns": (
          "reward discount value_tp1", lambda b: temporal.lambda_returns(b.reward, b.discount, b.value_tp1, LAM),
          lambda b: rlax.lambda_returns(b.reward, b.discount, b.value_tp1, LAM)),
      "reward_to_go": (
          "reward discount", lambda b: temporal.reward_to_go(b.reward, None, b.discount, bootstrap_value=b.last),
          lambda b: rlax.discounted_returns(b.reward, b.discount, b.last)),
      "vtrace": (
          "reward discount value value_tp1 rho",
          lambda b: temporal.vtrace(b.reward, b.discount, b.value, b.value_tp1, b.rho, LAM),
          lambda b: _rlax_vtrace(rlax, b)),
      "n_step_returns, n = 5": (
          "reward discount value_tp1", lambda b: temporal.n_step_returns(b.reward, b.discount, b.value_tp1, 5),
          lambda b: rlax.n_step_bootstrapped_returns(b.reward, b.discount, b.value_tp1, 5)),
  }
  return {name: (needs.split(), ours, theirs if rlax else None) for name, (needs, ours, theirs) in found.items()}


def _rlax_vtrace(rlax, b):
  out = rlax.vtrace_td_error_and_advantage(b.value, b.value_tp1, b.reward, b.discount, b.rho, LAM)
  return b.value + out.errors, out.pg_advantage


def faults(function, arrays) -> float:
  """Page faults per call."""
  before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
  for _ in range(10):
    jax.block_until_ready(function(arrays))
  return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / 10


def estimator(name: str, layout: str, needs: list[str], ours, theirs) -> dict:
  """Times one estimator in one layout; raises where rlax's answer differs."""
  arrays, axis = batch(layout), AXES[layout]
  axes = Batch(*(0 if name == "last" else axis for name in Batch._fields))
  functions = {"ours": ours, "touch": lambda b: functools.reduce(jnp.add, (getattr(b, need) for need in needs))}
  functions |= {"rlax": theirs} if theirs else {}
  functions = {key: jax.jit(jax.vmap(fn, (axes,), axis)) for key, fn in functions.items()}
  if theirs:
    for mine, other in zip(*(jax.tree.leaves(functions[key](arrays)) for key in ("ours", "rlax"))):
      np.testing.assert_allclose(mine, other, rtol=1e-3, atol=1e-3, err_msg=name)
  times = timing.cpu_ms(functions, arrays, slice_s=0.03)
  row = {"estimator": name, "layout": layout, "ms": times, "faults": faults(functions["ours"], arrays)}
  for key in times.keys() - {"ours"}:
    row[f"ours_over_{key}"] = round(times["ours"]["median"] / times[key]["median"], 3)
  spread = (f"{key} {x['median']:.3g} [{x['q25']:.3g}-{x['q75']:.3g}]" for key, x in times.items())
  print(f"{name:24} {layout:8}", *spread, f"faults {row['faults']:.0f}", f"ratio {row.get('ours_over_rlax', '-')}",
        flush=True)
  return row


def _bound(form, layout, **settings):
  """Compiles a form of the recurrence for advantages with an array of discounts."""
  def run(b):
    constants = jnp.full((1, 1), LAM), jnp.zeros((1, 1))
    axis = {"rows": 1, "columns": 0}[layout]
    return form(b.reward, b.value, b.discount, *constants, rule=temporal._GAE, has_mask=False, axis=axis, **settings)
  return jax.jit(run)


def forms(layout: str) -> dict:
  """Times all forms of the recurrence in one layout."""
  functions = {f"scan, unroll {k}": _bound(recurrence._scan, layout, unroll=k) for k in (1, 2, 8)}
  functions["associative scan"] = _bound(recurrence._associative, layout)
  if layout == "rows":
    functions |= {f"blocks of {k}": _bound(recurrence._blocks, layout, block=k) for k in (4, 8, 16)}
  arrays = batch(layout)
  answers = [np.asarray(fn(arrays)) for fn in functions.values()]
  for name, answer in zip(functions, answers):
    np.testing.assert_allclose(answer, answers[0], rtol=1e-3, atol=1e-3, err_msg=name)
  times = timing.cpu_ms(functions, arrays, slice_s=0.03)
  print(layout, *(f"{name} {x['median']:.3g};" for name, x in times.items()), flush=True)
  return {"layout": layout, "ms": times}


def sizes(size: int, length: int) -> dict:
  """Times the two forms for rows on one size, and what it takes to compile them."""
  arrays = batch("rows", size, length)
  functions = {"scan": _bound(recurrence._scan, "rows"), "blocks": _bound(recurrence._blocks, "rows")}
  seconds = {}
  for name, fn in functions.items():
    start = time.process_time()
    fn.lower(arrays).compile()
    seconds[name] = round(time.process_time() - start, 3)
  times = timing.cpu_ms(functions, arrays)
  print(f"{size:4} x {length:5}", *(f"{n} {x['median']:.3g} ms, {seconds[n]} s to compile;" for n, x in times.items()),
        flush=True)
  return {"B": size, "T": length, "elements": size * length, "compile_s": seconds, "ms": times}


def main():
  """Measures, checks and writes."""
  timing.one_thread()
  jax.config.update("jax_enable_compilation_cache", False)
  rlax = peer()
  rows = [estimator(name, layout, *case) for name, case in cases(rlax).items() for layout in AXES]
  targets = [{"estimator": r["estimator"], "layout": r["layout"], "target_ms": TARGETS_MS[r["layout"]],
              "ms": r["ms"]["ours"], "ours_over_rlax": r.get("ours_over_rlax")}
             for r in rows if r["estimator"] in ("gae, advantages", "lambda_returns")]
  result = {
      "unit": "CPU ms of one thread", "environment": results.environment(), "rlax": getattr(rlax, "__version__", None),
      "shape": {"B": BATCH, "T": LENGTH}, "targets": targets, "estimators": rows,
      "forms": [forms(layout) for layout in AXES], "sizes": [sizes(*size) for size in SIZES]}
  RESULTS.mkdir(exist_ok=True)
  results.write_result(RESULTS / "temporal.json", result)
  for target in targets:
    print(target)


if __name__ == "__main__":
  main()
