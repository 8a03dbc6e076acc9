"""Scoring on the host, in parallel, for verifiers that cannot be traced."""

from collections.abc import Callable
import concurrent.futures
import functools
import multiprocessing
from typing import Any

import jax
import numpy as np

from rlcore.types import Problem, Rewards, Rollouts


def _score_row(score: Callable[[Any, np.ndarray, np.ndarray], float], row: tuple) -> float:
  index, problem, tokens, mask = row
  try:
    return float(score(problem, tokens, mask))
  except Exception as error:
    raise RuntimeError(f"the verifier failed on response {index[1]} to prompt {index[0]}: {error!r}") from error


def make_scorer(
    score: Callable[[Problem, np.ndarray, np.ndarray], float],
    *,
    workers: int = 2,
    processes: bool = False,
) -> Callable[[Problem, Rollouts], Rewards]:
  """Lifts a host verifier of one response to `[B, G]` responses, scored in parallel.

  Args:
    score: `(problem, tokens [T], mask [T]) -> float`, on NumPy arrays.
    workers: how many responses are scored at a time.
    processes: use processes in place of threads; for verifiers that hold the interpreter's lock. `score` must then be
      picklable (a module's function or a `functools.partial` of one).

  Returns:
    `(problems [B], rollouts [B, G]) -> Rewards` with `outcome [B, G]` float32. A verifier that raises stops the run
    with a RuntimeError that names the response; one that wants to give a bad score returns it.
  """
  if processes:
    # JAX's threads do not survive a fork.
    pool = concurrent.futures.ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
  else:
    pool = concurrent.futures.ThreadPoolExecutor(workers)

  def scorer(problems: Problem, rollouts: Rollouts) -> Rewards:
    problems, tokens, mask = jax.device_get((problems, rollouts.tokens, rollouts.mask))
    prompts, group = tokens.shape[:2]
    row = lambda b, g: ((b, g), jax.tree.map(lambda x: x[b], problems), tokens[b, g], mask[b, g])
    rows = [row(b, g) for b in range(prompts) for g in range(group)]
    chunk = max(1, len(rows) // (4 * workers))
    outcome = list(pool.map(functools.partial(_score_row, score), rows, chunksize=chunk))
    return Rewards(outcome=np.asarray(outcome, np.float32).reshape(prompts, group))

  return scorer
