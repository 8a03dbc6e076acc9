"""Annotators: what says of messages, or of pairs of them, how good they are; beside the learner, never in its way.

    annotate = judge_annotator(judge, caption_quest.ask_about_caption)
    with AsyncAnnotator(annotate) as annotator:
      annotator.submit(captions)             # returns at once
      for caption, label in annotator.collect():
        ...                                  # what has been annotated since the last call

Reference: ONI, arXiv:2410.23022 (its asynchronous annotator).
"""

from collections.abc import Callable, Hashable, Sequence
import numbers
import threading

import jax
import numpy as np

from rlcore.assistants.judges import Judge, Request

Annotator = Callable[[Sequence[Hashable]], Sequence[int | None]]
"""One label an item, in order: of a caption 1 (helpful) or 0, of a pair of them 0 (the first is better), 1 or 2 (a
tie); None where there is none to be had."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 10.0  # seconds before the next try after one that failed wholly


def judge_annotator(judge: Judge, ask: Callable[[Hashable], Request]) -> Annotator:
  """Makes an annotator of a judge.

  Args:
    judge: a `ChatJudge`, best a tolerant one, or a `stand_in`.
    ask: `(item) -> Request`, whose value is an integer.

  Returns:
    The annotator; None stands for answers that could not be had or read.
  """
  def annotate(items):
    judgements = judge([ask(item) for item in items])
    return [judgement.score if judgement.parsed else None for judgement in judgements]

  return annotate


class AsyncAnnotator:
  """Annotates on a thread of its own, the newest items first.

  An item that waits, is being annotated or has been annotated is not taken again. What could not be annotated, or had
  to give way to newer items, may be submitted again. However slow the annotator is, whatever it raises, and if it never
  comes back: `submit` and `collect` return at once, and `close` within its time.
  """

  def __init__(
      self, annotate: Annotator, *, batch_size: int = 8, capacity: int = 256, labels: Sequence[int] = (0, 1, 2)):
    """Makes it; the thread starts with the first submission.

    Args:
      annotate: is called on the thread, with one batch at a time. What it says that is none of the labels ("yes", 0.7,
        7) counts as failed, as None does; 1.0 and True are 1.
      batch_size: most items of a batch.
      capacity: most items that wait; the oldest give way.
      labels: the labels that there are: (0, 1) of messages, (0, 1, 2) of pairs.

    Raises:
      ValueError: for a size below 1.
    """
    if min(batch_size, capacity) < 1:
      raise ValueError(f"batch_size={batch_size} and capacity={capacity} must be at least 1")
    self._annotate, self._batch_size, self._capacity = annotate, batch_size, capacity
    self._allowed = tuple(labels)
    self._waiting: dict[Hashable, None] = {}  # the newest last
    self._known: set[Hashable] = set()  # being annotated, or annotated
    self._finished: list[tuple[Hashable, int]] = []
    self._totals = dict(submitted=0, annotated=0, dropped=0, failed=0)
    self._asked = 0
    self._problem = ""
    self._changed = threading.Condition()
    self._closed = threading.Event()
    self._thread: threading.Thread | None = None

  def __enter__(self) -> "AsyncAnnotator":
    return self

  def __exit__(self, *_):
    self.close()

  @property
  def totals(self) -> dict[str, int]:
    """Counts of items: `submitted` (that were taken), `annotated`, `dropped` for newer ones, and `failed`."""
    with self._changed:
      return dict(self._totals)

  @property
  def waiting(self) -> int:
    """How many items wait."""
    with self._changed:
      return len(self._waiting)

  @property
  def asked(self) -> int:
    """How many items are being annotated."""
    with self._changed:
      return self._asked

  @property
  def problem(self) -> str:
    """What went wrong last, in one line; "" for nothing so far."""
    return self._problem

  def submit(self, items: Sequence[Hashable]):
    """Takes new items, the newest last; none after `close`."""
    with self._changed:
      if self._closed.is_set():
        return
      for item in items:
        if item not in self._waiting and item not in self._known:
          self._waiting[item] = None
          self._totals["submitted"] += 1
      excess = max(len(self._waiting) - self._capacity, 0)
      for item in list(self._waiting)[:excess]:
        del self._waiting[item]
      self._totals["dropped"] += excess
      if self._thread is None and self._waiting:
        self._thread = threading.Thread(target=self._work, name="annotator", daemon=True)
        self._thread.start()
      self._changed.notify_all()

  def collect(self) -> list[tuple[Hashable, int]]:
    """Returns `(item, label)` of all that was annotated since the last call."""
    with self._changed:
      finished, self._finished = self._finished, []
    return finished

  def close(self, patience: float = 1.0) -> bool:
    """Stops; what waits is given up.

    Args:
      patience: seconds to wait for a batch that is being annotated. A thread that is still busy then is left behind; it
        takes no further batch, and the process may end without it.

    Returns:
      Whether the thread has ended.
    """
    with self._changed:
      self._closed.set()
      self._waiting.clear()
      self._changed.notify_all()
    if self._thread is not None:
      self._thread.join(patience)
    return self._thread is None or not self._thread.is_alive()

  def _work(self):
    pause = _FIRST_PAUSE
    while True:
      with self._changed:
        self._changed.wait_for(lambda: self._waiting or self._closed.is_set())
        if self._closed.is_set():
          return
        batch = list(self._waiting)[-self._batch_size:][::-1]
        for item in batch:
          del self._waiting[item]
        self._known.update(batch)
        self._asked = len(batch)
      labels, problem = self._labels(batch)
      done = [(item, label) for item, label in zip(batch, labels) if label is not None]
      with self._changed:
        self._finished += done
        self._known -= {item for item, label in zip(batch, labels) if label is None}
        self._asked = 0
        self._totals["annotated"] += len(done)
        self._totals["failed"] += len(batch) - len(done)
        self._problem = problem or self._problem
      pause = min(2 * pause, _LONGEST_PAUSE) if not done else _FIRST_PAUSE
      if not done:  # nobody is there, it seems: do not ask without end
        self._closed.wait(pause)

  def _labels(self, batch: list[Hashable]) -> tuple[Sequence[int | None], str]:
    """Annotates a batch; an error is reported, for the learner does not wait to be told."""
    try:
      labels = list(self._annotate(batch))
    except Exception as error:  # whatever an annotator may raise
      return [None] * len(batch), f"{type(error).__name__}: {error}"
    if len(labels) != len(batch):
      return [None] * len(batch), f"the annotator was asked about {len(batch)} items and gave {len(labels)} labels"
    read = [_read_label(label, self._allowed) for label in labels]
    wrong = [label for label, known in zip(labels, read) if known is None and label is not None]
    if wrong:
      return read, f"{repr(wrong[0])[:80]} is none of the labels {', '.join(map(str, self._allowed))}"
    missing = sum(label is None for label in read)
    return read, f"no label for {missing} of {len(batch)} items" if missing else ""


def _read_label(label: object, allowed: Sequence[int]) -> int | None:
  """Returns the label that is meant, or None."""
  if isinstance(label, (np.ndarray, np.generic, jax.Array)) and np.ndim(label) == 0:
    label = label.item()
  return int(label) if isinstance(label, numbers.Real) and label in allowed else None
