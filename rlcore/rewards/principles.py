"""Judged steps: scores by written principles and by a judge, and how they join the outcome of a trajectory."""

from typing import Literal

import jax
import jax.numpy as jnp

from rlcore import checks
from rlcore import segments
from rlcore import stats
from rlcore.types import Array

Mode = Literal["renorm", "add", "multiply", "outcome"]


def principle_score(scores: Array, max_scores: Array, mask: Array) -> Array:
  """Grades one step by the principles that apply: the points it got over those it could have got.

  Args:
    scores: `[P]`, points for each principle.
    max_scores: `[P]`, most points of each principle.
    mask: `[P]`, > 0 where a principle applies to the step.

  Returns:
    float32[] in [0, 1], 0 where nothing applies or no point could be got; no gradient flows.

  Reference: PPR, arXiv:2509.25598 (principle-based process reward).
  """
  scores, max_scores, mask = map(jnp.asarray, (scores, max_scores, mask))
  scores, max_scores = jax.lax.stop_gradient((scores, max_scores))
  checks.rank(1, scores=scores)
  checks.same_shape(scores=scores, max_scores=max_scores, mask=mask)
  possible = stats.masked_sum(max_scores, mask)
  some = possible > 0
  return jnp.where(some, jnp.clip(stats.masked_sum(scores, mask) / jnp.where(some, possible, 1), 0, 1), 0)


def renorm(process: Array, outcome: Array, step_mask: Array) -> Array:
  """Centres the reward of every step together with the outcome: `process + outcome - 1`.

  With both in [0, 1] no step of a failed trajectory earns anything and none of a successful one pays; the outcome
  reaches every step. As it is added once a step, short failures and long successes are favoured.

  Args:
    process: `[S]`, score of each step.
    outcome: `[]`, of the trajectory.
    step_mask: `[S]`, > 0 where a step exists.

  Returns:
    `[S]` float32, 0 where `step_mask` is not set; no gradient flows. The last step is treated like the others, see
    `ppr_step_rewards`.

  Reference: PPR, arXiv:2509.25598 (ReNorm).
  """
  process, outcome = jax.lax.stop_gradient((jnp.asarray(process), jnp.asarray(outcome, jnp.float32)))
  step_mask = jnp.asarray(step_mask)
  checks.rank(1, process=process, step_mask=step_mask)
  checks.rank(0, outcome=outcome)
  checks.same_shape(process=process, step_mask=step_mask)
  return stats.masked(stats.masked(process, step_mask) + outcome - 1, step_mask)


def ppr_step_rewards(
    process: Array, outcome: Array, step_mask: Array, mode: Mode = "renorm",
    process_weight: float | Array = 1.0) -> Array:
  """Rewards the steps of a trajectory: the last one by the outcome alone, those before it by their scores.

  Args:
    process: `[S]`, score of each step; that of the last step is not read.
    outcome: `[]`, of the trajectory.
    step_mask: `[S]`, > 0 where a step exists; the last step is the last of these.
    mode: static, what a step before the last one earns. "renorm": `process + outcome - 1`; "add": `process`;
      "multiply": `process * outcome`; "outcome": nothing.
    process_weight: `[]`, factor of the steps before the last one.

  Returns:
    `[S]` float32, 0 where `step_mask` is not set; no gradient flows.

  Raises:
    ValueError: for an unknown mode.

  Reference: PPR, arXiv:2509.25598 (the other modes are its ablations).
  """
  process, outcome, process_weight = jax.lax.stop_gradient(
      (jnp.asarray(process), jnp.asarray(outcome, jnp.float32), process_weight))
  step_mask = jnp.asarray(step_mask)
  checks.rank(1, process=process, step_mask=step_mask)
  checks.rank(0, outcome=outcome, process_weight=process_weight)
  checks.same_shape(process=process, step_mask=step_mask)
  keep = step_mask > 0
  last = segments.is_last_counted(step_mask)
  before = keep & ~last
  score = stats.masked(process, before)
  if mode == "renorm":
    earned = renorm(score, outcome, before)
  elif mode == "add":
    earned = score
  elif mode == "multiply":
    earned = score * outcome
  elif mode == "outcome":
    earned = jnp.zeros_like(score)
  else:
    raise ValueError(f'mode={mode!r} is none of "renorm", "add", "multiply", "outcome"')
  return jnp.where(last, outcome, stats.masked(process_weight * earned, before))


def slate_step_reward(
    r_think: Array, r_action: Array, is_answer: Array, step: Array, max_budget: Array | float = 4,
    bonus: Array | float = 0.1) -> Array:
  """Adds up what a judge says of one step: its thinking, its action and, for an answer, how early it comes.

  `r_think + r_action`, and for an answer, right or wrong, `bonus * (max_budget - step) / max_budget` more.

  Args:
    r_think: `[]`, score of the thinking, in {-1, 0, 1}.
    r_action: `[]`, score of the query or of the answer, in {-1, 0, 1}.
    is_answer: `[]`, > 0 if the action is an answer.
    step: `[]`, index of the step, from 0.
    max_budget: `[]`, number of steps.
    bonus: `[]`, what an answer at step 0 earns for being early.

  Returns:
    float32[]; no gradient flows.

  Reference: SLATE, arXiv:2602.23440 (step reward).
  """
  checks.rank(
      0, r_think=r_think, r_action=r_action, is_answer=is_answer, step=step, max_budget=max_budget, bonus=bonus)
  r_think, r_action, is_answer, step, max_budget, bonus = (
      jax.lax.stop_gradient(jnp.asarray(x, jnp.float32))
      for x in (r_think, r_action, is_answer, step, max_budget, bonus))
  early = jnp.where(is_answer > 0, bonus * (max_budget - step) / max_budget, 0)
  return r_think + r_action + early
