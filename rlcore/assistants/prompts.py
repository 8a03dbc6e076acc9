"""What judges of steps are asked, and how their answers are read: pure functions of text.

Each `..._prompt` returns the messages of one conversation, each `parse_...` the value in an answer or None. What a
policy wrote stands between tags that it cannot close, and the last verdict of an answer counts: judges think aloud.
"""

from collections.abc import Sequence
import json
import re

import numpy as np

from rlcore.assistants.client import Messages

_NUMBER = r"\s*([+\-\u2212]?\d{1,9}(?:\.\d{1,9})?)\s*"
_SCORE = re.compile(rf"<score>{_NUMBER}</score>", re.IGNORECASE)
_TOTALS = re.compile(
    rf"<score>{_NUMBER}</score>\s*(?:,|of|out of|/)?\s*<max_score>{_NUMBER}</max_score>", re.IGNORECASE)

PRINCIPLES = (
    ("format", "The step names an existing tool or action and is well formed.", 1),
    ("non-redundancy", "The step does not ask again for what the history already holds.", 2),
    ("relevance", "The step is needed for the question.", 2),
    ("grounding", "The step rests on what the history really says.", 1),
)
"""Name, text and greatest score of the principles of PPR's miniature; give your own to `principle_prompt`."""


def _between(tag: str, text: str) -> str:
  """Puts text between tags; a tag inside loses its bracket, so nothing can end the quotation or pose as another."""
  return f"<{tag}>\n{re.sub(r'<(?=/?[a-zA-Z_])', '‹', text)}\n</{tag}>"


def _messages(system: str, *parts: str) -> Messages:
  return ({"role": "system", "content": system}, {"role": "user", "content": "\n\n".join(parts)})


def _number(text: str) -> float:
  return float(text.replace("\u2212", "-"))


def _numbered(steps: Sequence[str]) -> str:
  return "\n\n".join(_between("step", f"[{i}] {step}") for i, step in enumerate(steps))


_SIGN = ("Answer with a short reason and then exactly one of <score>1</score> (good), <score>0</score> (acceptable) "
         "and <score>-1</score> (bad).")


def thinking_prompt(context: str, thinking: str) -> Messages:
  """Asks how good the thinking before a step is; the judge does not see the gold answer.

  Args:
    context: the question and all steps and documents so far.
    thinking: of the step.

  Returns:
    The messages; read the answer with `parse_sign`.

  Reference: SLATE, arXiv:2602.23440.
  """
  return _messages(
      "You judge one piece of thinking of a search agent: is it relevant to the question, clear, specific, a step "
      f"forward, and faithful to the documents seen so far? You do not know the answer. {_SIGN}",
      _between("context", context), _between("thinking", thinking))


def query_prompt(context: str, query: str) -> Messages:
  """Asks how good a search query is, before anything is retrieved; the judge does not see the gold answer.

  Args:
    context: the question and all steps and documents so far.
    query: of the step.

  Returns:
    The messages; read the answer with `parse_sign`.

  Reference: SLATE, arXiv:2602.23440.
  """
  return _messages(
      "You judge one query of a search agent before it is run: is it relevant, specific, something that a search "
      "engine can answer, in line with what the question still needs, and new? You know neither the answer nor the "
      "results. "
      f"{_SIGN}", _between("context", context), _between("query", query))


def answer_prompt(context: str, answer: str, gold: str) -> Messages:
  """Asks whether an answer is right.

  Args:
    context: the question and all steps and documents so far.
    answer: of the agent.
    gold: the right answer; of SLATE's judges only this one sees it.

  Returns:
    The messages; read the answer with `parse_sign`.

  Reference: SLATE, arXiv:2602.23440.
  """
  return _messages(
      "You compare the answer of a search agent with the right one: 1 if they mean the same, 0 if the answer is right "
      f"in part, -1 if it is wrong or missing. {_SIGN}",
      _between("context", context), _between("answer", answer), _between("right_answer", gold))


def step_prompts(context: str, thinking: str, action_type: str, action: str,
                 gold: str | None = None) -> tuple[Messages, Messages]:
  """Asks about both parts of a step: its thinking, and its query or answer.

  Args:
    context: the question and all steps and documents so far.
    thinking: of the step.
    action_type: "search" or "answer".
    action: the query or the answer.
    gold: the right answer, for the judge of answers alone; only an answer needs it.

  Returns:
    Two conversations.

  Raises:
    ValueError: for another action type, or an answer without `gold`.

  Reference: SLATE, arXiv:2602.23440.
  """
  if action_type not in ("search", "answer"):
    raise ValueError(f"action_type={action_type!r} must be 'search' or 'answer'")
  if action_type == "answer" and gold is None:
    raise ValueError("an answer is compared with the right one: give gold")
  second = query_prompt(context, action) if action_type == "search" else answer_prompt(context, action, gold)
  return thinking_prompt(context, thinking), second


def parse_sign(text: str) -> float | None:
  """Reads a score that must be -1, 0 or 1.

  Args:
    text: the judge's answer.

  Returns:
    The score; None if there is none or another.

  Reference: SLATE, arXiv:2602.23440.
  """
  found = _SCORE.findall(text)
  score = _number(found[-1]) if found else None
  return score if score in (-1, 0, 1) else None


def reflection_prompt(problem: str, steps: Sequence[str]) -> Messages:
  """Asks where a CORRECT solution takes something back, and since when that had been wrong.

  Args:
    problem: what was to be solved.
    steps: of the solution.

  Returns:
    The messages; read the answer with `parse_reflections`.

  Reference: TP-GRPO, arXiv:2507.23317 (stages of the judge for correct responses).
  """
  return _messages(
      "The solution below ends with the right answer, but some of its steps may be wrong and taken back later. Find "
      "every step that reflects on earlier ones and takes them back, and for each the first of the wrong steps (a step "
      "that builds on a wrong one is wrong). Do not solve the problem. End with a list of pairs [first wrong step, "
      "reflecting step], as in <reflections>[[2, 5], [7, 9]]</reflections>, or <reflections>[]</reflections> if "
      "nothing is taken back.", _between("problem", problem), _numbered(steps))


def parse_reflections(text: str, num_steps: int) -> tuple[tuple[int, int], ...] | None:
  """Reads the pairs (first wrong step, reflecting step).

  Args:
    text: the judge's answer.
    num_steps: how many steps the solution has.

  Returns:
    The pairs by reflecting step, one for each (the longest interval); None if they cannot be read, or if a pair does
    not name two steps in order.

  Reference: TP-GRPO, arXiv:2507.23317.
  """
  pairs = _tagged_list(text, "reflections")
  starts = {}
  for pair in pairs or ():
    if not isinstance(pair, list) or len(pair) != 2 or not all(type(i) is int for i in pair):
      return None
    start, reflection = pair
    if not 0 <= start < reflection < num_steps:
      return None
    starts[reflection] = min(start, starts.get(reflection, start))
  return None if pairs is None else tuple((starts[r], r) for r in sorted(starts))


def reflection_arrays(pairs: Sequence[tuple[int, int]] | None, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Turns pairs into what `labels_from_reflections` takes.

  Args:
    pairs: of `parse_reflections`; None (unreadable) blames nothing.
    size: R, places of the arrays; the number of steps is always enough.

  Returns:
    error_start, reflection `[R]` int32 and valid `[R]` float32.

  Raises:
    ValueError: if there are more pairs than places.

  Reference: TP-GRPO, arXiv:2507.23317.
  """
  pairs = pairs or ()
  if len(pairs) > size:
    raise ValueError(f"{len(pairs)} reflections do not fit in {size} places")
  array = np.zeros((2, size), np.int32)
  array[:, :len(pairs)] = np.array(pairs, np.int32).reshape(-1, 2).T
  return array[0], array[1], (np.arange(size) < len(pairs)).astype(np.float32)


def matching_prompt(problem: str, steps: Sequence[str], answer: str) -> Messages:
  """Asks which steps of an INCORRECT solution lead to its wrong answer.

  Args:
    problem: what was to be solved.
    steps: of the solution.
    answer: what the solution ends with.

  Returns:
    The messages; read the answer with `parse_matching`.

  Reference: TP-GRPO, arXiv:2507.23317 (the judge of incorrect responses).
  """
  return _messages(
      "The solution below ends with a wrong answer. Some of its steps lead to that answer, others are attempts that it "
      "gave up. Find the steps whose result is a part of the way to the answer. Do not solve the problem. End with "
      "their numbers, as in <matching>[0, 3, 4]</matching>.",
      _between("problem", problem), _numbered(steps), _between("answer", answer))


def parse_matching(text: str, num_steps: int) -> np.ndarray | None:
  """Reads which steps match the answer.

  Args:
    text: the judge's answer.
    num_steps: S.

  Returns:
    `[S]` float32 flags, 1 where a step matches; None if they cannot be read or a number is no step.

  Reference: TP-GRPO, arXiv:2507.23317.
  """
  numbers = _tagged_list(text, "matching")
  if numbers is None or not all(type(i) is int and 0 <= i < num_steps for i in numbers):
    return None
  flags = np.zeros(num_steps, np.float32)
  flags[numbers] = 1
  return flags


def principle_prompt(question: str, history: Sequence[str], step: str,
                     principles: Sequence[tuple[str, str, float]] = PRINCIPLES) -> Messages:
  """Asks which principles apply to a step and how well it follows them; the judge does not know the outcome.

  Args:
    question: the task of the agent.
    history: the steps before.
    step: the one to be judged.
    principles: name, text and greatest score of each.

  Returns:
    The messages; read the answer with `parse_principle_score`.

  Reference: PPR, arXiv:2509.25598.
  """
  listed = "\n".join(f"- {name} (0 to {most:g}): {text}" for name, text, most in principles)
  return _messages(
      "You grade one step of an agent. Say first which of these principles apply to it, then grade each of those:\n"
      f"{listed}\nYou do not know how the task ends. End with the sum of your grades and the sum of the greatest "
      "grades of the principles that apply, as in <score>4</score><max_score>6</max_score>; both are 0 if none applies.",
      _between("question", question), _numbered(history), _between("judged_step", step))


def parse_principle_score(text: str) -> float | None:
  """Reads the two totals: score / greatest score, clipped to [0, 1]; 0 if no principle applies.

  It is `principle_score` of the totals.

  Args:
    text: the judge's answer.

  Returns:
    A number in [0, 1]; None if the totals cannot be read.

  Reference: PPR, arXiv:2509.25598.
  """
  found = _TOTALS.findall(text)
  if not found:
    return None
  score, most = map(_number, found[-1])
  return min(max(score / most, 0.0), 1.0) if most > 0 else 0.0


def parse_binary_label(text: str) -> int:
  """Reads whether an annotator finds a message helpful: its answer says FOO for yes, BAR for no.

  Args:
    text: the annotator's answer.

  Returns:
    1 if "FOO" (in capitals) occurs, even where "BAR" does too; else 0, for an answer without a label too.

  Reference: ONI, arXiv:2410.23022 (its code).
  """
  return int("FOO" in text)


def helpful_prompt(goal: str, caption: str, examples: Sequence[tuple[str, bool]] = ()) -> Messages:
  """Asks whether a message that an agent received is a sign of progress.

  Args:
    goal: what the agent wants, and how, in words.
    caption: the message.
    examples: other messages, and whether they are helpful.

  Returns:
    The messages; read the answer with `parse_binary_label`.

  Reference: ONI, arXiv:2410.23022.
  """
  shown = "\n".join(f"{_between('message', text)}\n{'FOO' if good else 'BAR'}" for text, good in examples)
  return _messages(
      "An agent receives a message about each of its actions. You say whether a message tells that the agent has come "
      "closer to its goal. Messages may hold words that mean nothing. Answer with one word: FOO if it has come closer, "
      "BAR if it has not, or if the message does not tell.",
      _between("goal", goal), *([f"Examples:\n{shown}"] if examples else []), _between("message", caption))


def parse_preference(text: str) -> int:
  """Reads which of two messages an annotator prefers.

  Args:
    text: the annotator's answer; the last verdict between `<best>` tags counts.

  Returns:
    0 for the first message (`<best>1</best>`), 1 for the second (`<best>2</best>`), 2 for neither, or for an answer
    without a verdict.

  Reference: ONI, arXiv:2410.23022 (ranking).
  """
  found = re.findall(r"<best>\s*(1|2|none)\s*</best>", text, re.IGNORECASE)
  return {"1": 0, "2": 1}.get(found[-1], 2) if found else 2


def progress_prompt(goal: str, first: str, second: str) -> Messages:
  """Asks which of two messages that an agent received shows more progress.

  Args:
    goal: what the agent wants, and how, in words.
    first: a message.
    second: another one.

  Returns:
    The messages; read the answer with `parse_preference`.

  Reference: ONI, arXiv:2410.23022 (ranking); Motif, arXiv:2310.00166.
  """
  return _messages(
      "An agent receives a message about each of its actions. You say which of two messages shows that the agent is "
      "further on the way to its goal. Messages may hold words that mean nothing. End with <best>1</best> for the "
      "first, <best>2</best> for the second, or <best>none</best> if they show the same or show nothing.",
      _between("goal", goal), _between("first_message", first), _between("second_message", second))


def _tagged_list(text: str, tag: str) -> list | None:
  """Reads the JSON list between the last tags of a name."""
  found = re.findall(rf"<{tag}>([^<]{{0,100000}})</{tag}>", text, re.IGNORECASE)
  try:
    value = json.loads(found[-1]) if found else None
  except (ValueError, RecursionError):
    return None
  return value if isinstance(value, list) else None
