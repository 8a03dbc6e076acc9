"""Scoring on the host, in parallel, for verifiers and judges that cannot be traced."""

from collections.abc import Callable, Sequence
import concurrent.futures
import functools
import multiprocessing
from typing import Any

import jax
import numpy as np

from rlcore.assistants.judges import Judge, Judgement, Request, real_number, shown, total_score
from rlcore.training import scoring
from rlcore.types import Problem, Rewards, Rollouts


def _score_row(score: Callable[[Any, np.ndarray, np.ndarray], float], row: tuple) -> float:
  index, problem, tokens, mask = row
  try:
    return _number(score(problem, tokens, mask))
  except Exception as error:
    raise RuntimeError(f"the verifier failed on response {index[1]} to prompt {index[0]}: {error!r}") from error


def _number(value: Any) -> float:
  number = real_number(value)
  if number is None:
    raise TypeError(f"{shown(value)} is no real number")
  return number


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
    `(problems [B], rollouts [B, G]) -> Rewards` with `outcome` and `valid` `[B, G]` float32. A verifier that raises
    stops the run with a RuntimeError that names the response; one that wants to give a bad score returns it, and one
    that cannot say returns NaN, which makes this one response not valid.
  """
  if processes:
    # JAX's threads do not survive a fork.
    pool = concurrent.futures.ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
  else:
    pool = concurrent.futures.ThreadPoolExecutor(workers)

  def scorer(problems: Problem, rollouts: Rollouts) -> Rewards:
    rows = _rows(problems, rollouts)
    chunk = max(1, len(rows) // (4 * workers))
    outcome = list(pool.map(functools.partial(_score_row, score), rows, chunksize=chunk))
    return scoring.mark_unscorable(Rewards(np.asarray(outcome, np.float32).reshape(rollouts.tokens.shape[:2])))

  return scorer


def _rows(problems: Problem, rollouts: Rollouts) -> list[tuple]:
  """Takes `[B, G]` responses apart: `((b, g), problem, tokens [T], mask [T])` of each."""
  problems, tokens, mask = jax.device_get((problems, rollouts.tokens, rollouts.mask))
  prompts, group = tokens.shape[:2]
  row = lambda b, g: ((b, g), jax.tree.map(lambda x: x[b], problems), tokens[b, g], mask[b, g])
  return [row(b, g) for b in range(prompts) for g in range(group)]


def make_judge_scorer(
    judge: Judge,
    ask: Callable[[Problem, np.ndarray, np.ndarray], Sequence[Request]],
    settle: Callable[[Sequence[Judgement], Problem, np.ndarray, np.ndarray], Any] = total_score,
) -> Callable[[Problem, Rollouts], Rewards]:
  """Lifts a judge to `[B, G]` responses: the `score_on_host` of a language experiment.

  All questions of a batch go to the judge in one call, so that it asks as many at a time as it may.

  Args:
    judge: see `assistants.Judge`; a `ChatJudge`, or a `stand_in`.
    ask: `(problem, tokens [T], mask [T]) -> requests` about ONE response, none or more (one a step, say), on NumPy
      arrays.
    settle: `(judgements, problem, tokens, mask) -> reward`, of the same response; a float, or a pair `(float, process
      [T])` where steps are rewarded by themselves (a step's reward on its last token). A verifier's reward may be added
      here. NaN says that the response cannot be scored.

  Returns:
    `(problems [B], rollouts [B, G]) -> Rewards` with `outcome` and `valid` `[B, G]` and, if `settle` gives pairs,
    `process [B, G, T]`, all float32.
  """
  def scorer(problems: Problem, rollouts: Rollouts) -> Rewards:
    rows = _rows(problems, rollouts)
    requests = [list(ask(*row[1:])) for row in rows]
    every = [request for of_row in requests for request in of_row]
    judgements = judge(every)
    if len(judgements) != len(every):
      raise ValueError(f"the judge was asked {len(every)} questions and gave {len(judgements)} judgements")
    answers = iter(judgements)
    rewards = [settle([next(answers) for _ in of_row], *row[1:]) for of_row, row in zip(requests, rows)]
    shape = rollouts.tokens.shape
    pairs = isinstance(rewards[0], tuple)
    outcome = np.asarray([_number(x[0] if pairs else x) for x in rewards], np.float32).reshape(shape[:2])
    process = np.asarray([x[1] for x in rewards], np.float32).reshape(shape) if pairs else None
    return scoring.mark_unscorable(Rewards(outcome=outcome, process=process))

  return scorer
