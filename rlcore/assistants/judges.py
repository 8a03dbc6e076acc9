"""What a judge is: requests in, scores out; behind it a language model or a plain function that stands in for it."""

from collections.abc import Callable, Sequence
import math
import threading
from typing import Any, NamedTuple
import warnings

from rlcore.assistants.client import ChatClient, Messages

_ENOUGH = 20  # answers, none of which can be read, after which it is said while the run goes on
_SHOWN = 160  # characters of such an answer


class Request(NamedTuple):
  """One question to a judge.

  Attributes:
    messages: what a language model is asked.
    facts: what a stand-in looks at instead; no language model ever sees it.
    parse: `(text) -> value` for answers to this question; None leaves it to the judge. A stand-in has no use for it.
  """

  messages: Messages
  facts: Any = None
  parse: Callable[[str], Any] | None = None


class Judgement(NamedTuple):
  """The answer to one `Request`.

  Attributes:
    score: the value as a number; the neutral score where there is none, or where the value is no number.
    parsed: whether the judge said something that could be read.
    text: what it said.
    value: what was read in it (a number, intervals ...), None if nothing.
  """

  score: float
  parsed: bool
  text: str = ""
  value: Any = None


Judge = Callable[[Sequence[Request]], Sequence[Judgement]]
"""One judgement a request, in order."""


def total_score(judgements: Sequence[Judgement], *of: Any) -> float:
  """Adds up the scores: the `settle` of a judge that is asked once about a unit, or of one whose answers count alike.

  Args:
    judgements: of one unit.
    *of: what they are about; not read.

  Returns:
    The sum.
  """
  del of
  return sum(judgement.score for judgement in judgements)


def _judge(value: Any, text: str, neutral: float) -> Judgement:
  number = isinstance(value, (int, float))
  if value is None or number and not math.isfinite(value):
    return Judgement(neutral, False, text)
  return Judgement(float(value) if number else neutral, True, text, value)


def stand_in(function: Callable[[Any], Any], *, neutral: float = 0.0) -> Judge:
  """Makes a judge of a plain function: tests and small experiments need no language model.

  Args:
    function: `(facts of a Request) -> value`, a number as a rule; None means that it has no opinion.
    neutral: the score of what is no number.

  Returns:
    The judge.
  """
  return lambda requests: [_judge(function(request.facts), "", neutral) for request in requests]


class ChatJudge:
  """A judge that asks a language model and reads its answer; it is called like any `Judge`.

  Attributes:
    client: who is asked.
  """

  def __init__(self, client: ChatClient, parse: Callable[[str], Any] = lambda text: text, *, neutral: float = 0.0,
               tolerant: bool = False):
    """Makes a judge.

    Args:
      client: who is asked.
      parse: `(text) -> value`, None where the text cannot be read (see `assistants.prompts`); for requests without a
        `parse` of their own. By default the value is the text.
      neutral: the score of an answer that cannot be read, or is no number.
      tolerant: whether a request that failed for good gets the neutral score too, in place of an error.
    """
    self.client, self._parse, self._neutral, self._tolerant = client, parse, neutral, tolerant
    self._lock, self._unparsable, self._answered, self._unread = threading.Lock(), 0, 0, ""

  @property
  def totals(self) -> dict[str, int]:
    """Counts of the client (see `ChatClient.totals`) and `unparsable`, the answers that could not be read."""
    return self.client.totals | {"unparsable": self._unparsable}

  @property
  def answered(self) -> int:
    """How many answers there were, read or not, from the cache or not."""
    return self._answered

  @property
  def unreadable(self) -> str:
    """The latest answer that could not be read, on one line and shortened; "" for none."""
    return self._unread

  def __call__(self, requests: Sequence[Request]) -> list[Judgement]:
    """Judges each request.

    Raises:
      AssistantError: if an answer could not be had (see `tolerant`).
    """
    texts = self.client.complete([request.messages for request in requests], tolerant=self._tolerant)
    judgements = [Judgement(self._neutral, False) if text is None else
                  _judge((request.parse or self._parse)(text), text, self._neutral)
                  for request, text in zip(requests, texts)]
    answers = [(text, judgement.parsed) for text, judgement in zip(texts, judgements) if text is not None]
    unread = [text for text, parsed in answers if not parsed]
    with self._lock:
      hopeful = self._answered < _ENOUGH or self._unparsable < self._answered
      self._unparsable, self._answered = self._unparsable + len(unread), self._answered + len(answers)
      self._unread = _shortened(unread[-1]) if unread else self._unread
      hopeless = self._answered >= _ENOUGH and self._unparsable == self._answered
    if hopeful and hopeless:
      warnings.warn(f"none of the first {self._answered} answers of {self.client.model} could be read; the latest: "
                    f"{self._unread!r}")
    return judgements


def _shortened(text: str) -> str:
  line = " ".join(text.split())
  return line if len(line) <= _SHOWN else f"{line[:_SHOWN // 2]} ... {line[-_SHOWN // 2:]}"
