"""CPU seconds of one thread, of several functions in turns."""

from collections.abc import Callable, Mapping
import os
import time

import jax
import numpy as np


def one_thread():
  """Pins this process to one core and XLA to one thread; call it before the first array is made."""
  if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
  os.environ["JAX_PLATFORMS"] = "cpu"
  os.environ["OMP_NUM_THREADS"] = "1"
  os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_cpu_multi_thread_eigen=false"


def cpu_ms(functions: Mapping[str, Callable], *args, rounds: int = 15, slice_s: float = 0.004) -> dict[str, dict]:
  """Times every function once per round, so that what else the machine does falls on all of them alike.

  Args:
    functions: name -> function of `args`; compiled by the first, untimed call.
    *args: arguments of every function.
    rounds: how many samples of each; 5 for functions slower than 50 ms.
    slice_s: a sample repeats its call until about this many CPU seconds are spent.

  Returns:
    name -> median, quartiles `q25` and `q75`, in milliseconds of CPU time per call, and the number of samples.
  """
  def sample(function, calls):
    start = time.process_time()
    for _ in range(calls):
      jax.block_until_ready(function(*args))
    return (time.process_time() - start) / calls

  calls, samples = {}, {name: [] for name in functions}
  for name, function in functions.items():
    sample(function, 2)
    calls[name] = max(1, int(slice_s / max(sample(function, 1), 1e-6)))
  for turn in range(rounds):
    for name, function in functions.items():
      if turn < 5 or np.median(samples[name]) < 0.05:
        samples[name].append(sample(function, calls[name]))
  def summary(seconds):
    q25, median, q75 = (float(f"{1e3 * x:.4g}") for x in np.percentile(seconds, (25, 50, 75)))
    return {"median": median, "q25": q25, "q75": q75, "samples": len(seconds)}
  return {name: summary(seconds) for name, seconds in samples.items()}
