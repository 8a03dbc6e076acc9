"""The judge of an experiment as its config chooses it: the function beside the world, or a language model in its place.

    config.judge = judging.judge_config()
    judge = judging.make_judge(config.judge, stand_in)      # None: the experiment judges by itself
"""

from collections.abc import Callable, Iterable
import functools
from typing import Any
import weakref

import ml_collections

from rlcore import assistants
from rlcore.training.errors import RunError

KINDS = ("jitted", "stand_in", "chat")
TRANSPORT = ("base_url", "concurrency", "timeout", "tries", "cache_dir")  # of the settings, those no answer depends on


def judge_config() -> ml_collections.ConfigDict:
  """Returns the section of a config that chooses the judge; by default the jitted function of the experiment.

  The API key is no part of it: it is read from the environment variable OPENAI_API_KEY.
  """
  return ml_collections.ConfigDict(dict(
      kind="jitted",  # "stand_in": the same judge as a plain function behind the protocol; "chat": a language model
      base_url="",  # of "chat": the server, http://localhost:8000/v1 say
      model="",
      max_tokens=1024,  # of an answer; a model that thinks needs more
      concurrency=8,  # questions at a time
      timeout=60.0,  # seconds of one try
      tries=6,
      cache_dir="runs/judge_answers"))  # "" for none


def make_judge(config: ml_collections.ConfigDict, stand_in: Callable[[Any], Any], *,
               tolerant: bool = False) -> assistants.Judge | None:
  """Builds the judge that a section of `judge_config` describes.

  Args:
    config: the section.
    stand_in: `(facts of a Request) -> value`.
    tolerant: whether a language model that does not answer gives judgements that are not `parsed`, not an error.

  Returns:
    The judge; None for the kind "jitted". Equal settings of "chat" give one judge to the whole process, so that the
    bound on its questions holds, and its counts are, for all programs together.

  Raises:
    RunError: for settings that do not fit together, or cannot be.
  """
  if config.kind not in KINDS:
    raise RunError(f"judge.kind={config.kind!r} is none of {', '.join(KINDS)}")
  if config.kind != "chat":
    if config.base_url or config.model:
      raise RunError(f"judge.base_url or judge.model is set, but judge.kind={config.kind} asks no language model: set "
                     "--config.judge.kind=chat too")
    return None if config.kind == "jitted" else assistants.stand_in(stand_in)
  for name, like in (("base_url", "http://localhost:8000/v1"), ("model", "Qwen/Qwen3-8B")):
    if not config[name]:
      raise RunError(f"judge.kind=chat needs judge.{name}: give --config.judge.{name}={like}, say")
  try:
    return _chat_judge(config.base_url, config.model, config.max_tokens, config.concurrency, config.timeout,
                       config.tries, config.cache_dir, tolerant)
  except ValueError as error:
    raise RunError(f"judge: {error}") from error


_JUDGES: list[assistants.ChatJudge] = []
_ANNOTATORS: "weakref.WeakSet[assistants.AsyncAnnotator]" = weakref.WeakSet()


@functools.lru_cache(maxsize=None)
def _chat_judge(base_url: str, model: str, max_tokens: int, concurrency: int, timeout: float, tries: int,
                cache_dir: str, tolerant: bool) -> assistants.ChatJudge:
  client = assistants.ChatClient(base_url, model, max_tokens=max_tokens, concurrency=concurrency, timeout=timeout,
                                 tries=tries, cache_dir=cache_dir or None)
  _JUDGES.append(assistants.ChatJudge(client, tolerant=tolerant))
  return _JUDGES[-1]


def report_annotators(annotators: Iterable[assistants.AsyncAnnotator]):
  """Takes annotators into `reports` and `close`."""
  _ANNOTATORS.update(annotators)


def reports() -> list[str]:
  """Tells in a line of each language model or annotator of this process how often it was asked, and to what end."""
  lines = []
  for judge in _JUDGES:
    total = judge.totals
    if any(total.values()):
      lines.append(f"judge {judge.client.model} at {judge.client.base_url}: {_listed(total, judge.client.totals)}; "
                   f"{total['unparsable']} of {judge.answered} answers could not be read and count as neutral"
                   + (f", the latest: {judge.unreadable!r}" if judge.unreadable else "")
                   + (f"; the latest failure: {judge.client.trouble}" if judge.client.trouble else ""))
  for annotator in _ANNOTATORS:
    total = annotator.totals
    if any(total.values()):
      lines.append(f"annotator: {_listed(total, total)}, {annotator.asked} being asked, {annotator.waiting} waiting"
                   + (f"; the latest problem: {annotator.problem}" if annotator.problem else ""))
  return lines


def _listed(totals: dict[str, int], names: Iterable[str]) -> str:
  return ", ".join(f"{totals[name]} {name}" for name in names)


def close(patience: float = 1.0):
  """Lets annotators and language models of this process give up what they still do, so that it can end.

  Args:
    patience: seconds for each annotator.
  """
  for judge in _JUDGES:
    judge.client.close()
  for annotator in list(_ANNOTATORS):
    annotator.close(patience)
