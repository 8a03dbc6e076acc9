"""What a judge is: requests in, scores out; behind it a language model or a plain function that stands in for it."""

from collections.abc import Callable, Sequence
import decimal
import math
import numbers
import threading
from typing import Any, NamedTuple
import warnings

import jax.numpy as jnp
import numpy as np

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


def real_number(value: Any) -> float | None:
  """Returns any real number as a float: of Python or NumPy, a bool, a 0-d array; None for what is none.

  NaN and the infinities come out as they are; complex numbers and texts are no real numbers.
  """
  if getattr(value, "shape", None) == () and hasattr(value, "dtype"):  # of NumPy or JAX
    value = np.asarray(value).astype(float).item() if jnp.issubdtype(value.dtype, jnp.floating) else value.item()
  if not isinstance(value, (numbers.Real, decimal.Decimal)):
    return None
  try:
    return float(value)
  except OverflowError:  # an integer beyond all floats
    return math.inf if value > 0 else -math.inf


def shown(value: Any) -> str:
  """Returns a value as a short text on one line, for a message."""
  try:
    return " ".join(repr(value).split())[:100]
  except ValueError:  # an integer of thousands of digits
    return f"a number of {type(value).__name__}"


def _judge(value: Any, text: str, neutral: float, *, texts: bool = False) -> Judgement:
  """Makes a judgement of what was read; `texts` says whether a text is a value."""
  number = real_number(value)
  refused = number is None and (isinstance(value, (complex, bytes)) or isinstance(value, str) and not texts
                                or getattr(value, "shape", None) == ())
  if refused or number is not None and not math.isfinite(number):
    warnings.warn(f"a judge returned {shown(value)}, which is no finite real number: it counts as not read")
    return Judgement(neutral, False, text)
  if value is None:
    return Judgement(neutral, False, text)
  return Judgement(neutral if number is None else number, True, text, value)


def stand_in(function: Callable[[Any], Any], *, neutral: float = 0.0) -> Judge:
  """Makes a judge of a plain function: tests and small experiments need no language model.

  Args:
    function: `(facts of a Request) -> value`, a real number as a rule (of Python, NumPy or JAX), or what a `settle` of
      its own reads, a list say; None means that it has no opinion. NaN, infinities, complex numbers and texts are
      named in a warning and count as no opinion.
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

  def __init__(self, client: ChatClient, parse: Callable[[str], Any] | None = None, *, neutral: float = 0.0,
               tolerant: bool = False):
    """Makes a judge.

    Args:
      client: who is asked.
      parse: `(text) -> value`, None where the text cannot be read (see `assistants.prompts`); for requests without a
        `parse` of their own. What it returns is taken as in `stand_in`. By default the value is the text.
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
                  self._read(request.parse or self._parse, text)
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

  def _read(self, parse: Callable[[str], Any] | None, text: str) -> Judgement:
    if parse is None:
      return _judge(text, text, self._neutral, texts=True)
    return _judge(parse(text), text, self._neutral)


def _shortened(text: str) -> str:
  line = " ".join(text.split())
  return line if len(line) <= _SHOWN else f"{line[:_SHOWN // 2]} ... {line[-_SHOWN // 2:]}"
