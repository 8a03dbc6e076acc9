"""What a judge of `envs.stack_writer` is asked, the plain functions that stand in for it, and the labels it leads to.

The judge's part runs on the host, beside a program that waits, so nothing of JAX is called there. Its facts are
`{"action": [T], "mask": [T], "correct": []}` of one response, as NumPy arrays.
"""

from collections.abc import Callable, Sequence
import functools
from typing import Any

import jax.numpy as jnp
import numpy as np

from rlcore import rewards
from rlcore.assistants import prompts
from rlcore.assistants.judges import Judge, Judgement, Request
from rlcore.assistants.traced import traced_judge
from rlcore.types import Array, PyTree

Facts = dict[str, np.ndarray]


def make_labels(
    judge: Judge, horizon: int, *, length: int = 4, base: int = 4) -> Callable[[Array, Array, Array], Array]:
  """Makes the form of `envs.stack_writer.stack_labels` that asks a judge.

  Args:
    judge: answers `ask_about_response`.
    horizon: T.
    length: n, the height of the stack.
    base: number of digits.

  Returns:
    `(action [T], mask [T], correct []) -> [T]` float32 of 0 and 1, 0 in masked places; jittable, to be batched with
    `vmap`. Where the judge cannot be understood, every step is good.

  Reference: TP-GRPO, arXiv:2507.23317, sec. 3 (the judge's protocol).
  """
  start, reflection, valid = prompts.reflection_arrays(None, horizon)
  neutral = {"start": start, "reflection": reflection, "valid": valid, "matching": np.ones(horizon, np.float32)}
  asked = traced_judge(judge, functools.partial(ask_about_response, length=length, base=base), neutral, _settle)

  def labels(action: Array, mask: Array, correct: Array) -> Array:
    correct = jnp.asarray(correct) > 0
    said = asked({"action": action, "mask": mask, "correct": correct}, jnp.any(mask > 0))
    right = rewards.labels_from_reflections(said["start"], said["reflection"], said["valid"], horizon)
    return rewards.good_steps(jnp.where(correct, right, said["matching"]), mask).astype(jnp.float32)

  return labels


def ask_about_response(facts: PyTree, *, length: int = 4, base: int = 4) -> Request:
  """Asks what a correct response took back, or which steps of an incorrect one lead to its answer.

  Args:
    facts: of the response.
    length: n, the height of the stack.
    base: number of digits.

  Returns:
    The request; its value is what `parse_reflections` or `parse_matching` read.

  Reference: TP-GRPO, arXiv:2507.23317.
  """
  problem = (f"A secret string has {length} digits from 0 to {base - 1}. Work it out: a step writes a digit behind the "
             "others, takes the last one back, or ends the answer, which is what is then written.")
  steps, written = _told(facts, length, base)
  if facts["correct"]:
    return Request(prompts.reflection_prompt(problem, steps), facts,
                   functools.partial(prompts.parse_reflections, num_steps=len(steps)))
  return Request(prompts.matching_prompt(problem, steps, _string(written)), facts,
                 functools.partial(prompts.parse_matching, num_steps=len(steps)))


def judge_response(facts: PyTree, *, length: int = 4, base: int = 4) -> Any:
  """Stands in for the judge that `ask_about_response` asks: the stack machine of `envs.stack_writer.stack_labels`.

  Args:
    facts: of the response.
    length: n, the height of the stack.
    base: number of digits.

  Returns:
    Of a correct response the pairs (push, pop that takes it back), of an incorrect one a flag for each of its steps.
  """
  actions, pushes, pairs = _actions(facts), [], []
  for time, action in enumerate(actions):
    if action < base and len(pushes) < length:
      pushes.append(time)
    elif action == base and pushes:
      pairs.append((pushes.pop(), time))
  return tuple(pairs) if facts["correct"] else np.isin(np.arange(len(actions)), pushes).astype(np.float32)


def _settle(judgements: Sequence[Judgement], facts: Facts) -> PyTree | None:
  """Turns what was read into the arrays of `make_labels`, whose places are those of the counted steps."""
  (judgement,), places = judgements, np.flatnonzero(facts["mask"] > 0)
  if judgement.value is None:
    return None
  size = facts["mask"].size
  pairs = [(places[a], places[b]) for a, b in judgement.value] if facts["correct"] else []
  start, reflection, valid = prompts.reflection_arrays(pairs, size)
  matching = np.ones(size, np.float32)
  if not facts["correct"]:
    matching[places] = judgement.value
  return {"start": start, "reflection": reflection, "valid": valid, "matching": matching}


def _actions(facts: Facts) -> list[int]:
  return facts["action"][facts["mask"] > 0].tolist()


def _string(digits: Sequence[int]) -> str:
  return " ".join(map(str, digits)) or "nothing"


def _told(facts: Facts, length: int, base: int) -> tuple[list[str], list[int]]:
  """Tells each step; returns what is written at the end too."""
  steps, written = [], []
  for action in _actions(facts):
    if action > base:
      steps.append(f"That is the answer: {_string(written)}.")
      continue
    if action < base:
      what = f"I write {action}" + (", but there is no room." if len(written) == length else ".")
      written += [action] * (len(written) < length)
    else:
      what = f"I take back {written.pop()}." if written else "I take the last digit back, but there is none."
    steps.append(f"{what} Written now: {_string(written)}.")
  return steps, written
