"""Annotation of messages on the host, between updates, by a language model that nobody waits for.

The update is a compiled program as ever. After it the host hands the messages that are not annotated yet to a thread
(`assistants.AsyncAnnotator`) and writes what that has found out by now into the state of the reward. A model that is
slow, silent or gone costs annotations, never time; what became of it is in the metrics and in `judging.reports`.

Reference: ONI, arXiv:2410.23022.
"""

from collections.abc import Sequence
import warnings

import jax
import jax.numpy as jnp
import numpy as np

from rlcore import assistants
from rlcore.training import judging, message_rewards
from rlcore.types import Experiment

_PAIRS = 64  # annotated pairs that are written at a time: one program for any number


def with_annotator(
    experiment: Experiment, reward: message_rewards.MessageReward, texts: Sequence[str], *,
    label: assistants.Annotator | None = None, prefer: assistants.Annotator | None = None, batch_size: int = 8,
    capacity: int = 256) -> Experiment:
  """Puts the host's stage behind every update of an experiment.

  Args:
    experiment: one whose `reward_state` is a `message_rewards.MessageState`.
    reward: of the experiment, made without `truth`.
    texts: `[M]`, the messages, all different.
    label: says of messages whether they are helpful; None to ask about none.
    prefer: says of pairs of messages which shows more progress; None to ask about none.
    batch_size: most messages, or pairs, that are annotated at a time.
    capacity: most that wait, of each kind.

  Returns:
    The experiment, which calls host code now. Its metrics have `annotator/waiting`, and `annotator/...` of
    `AsyncAnnotator.totals`.

  Raises:
    ValueError: if two texts are equal, or their number is not that of the messages.
  """
  number = {text: i for i, text in enumerate(texts)}
  if not len(number) == len(texts) == reward.num_messages:
    raise ValueError(f"{reward.num_messages} messages need as many different texts, not {len(number)}")
  make = lambda annotate, labels: annotate and assistants.AsyncAnnotator(
      annotate, batch_size=batch_size, capacity=capacity, labels=labels)
  on_messages, on_pairs = make(label, (0, 1)), make(prefer, (0, 1, 2))
  running = [annotator for annotator in (on_messages, on_pairs) if annotator]
  judging.report_annotators(running)
  step, evaluate = jax.jit(experiment.update), jax.jit(experiment.evaluate)
  absorb = jax.jit(lambda state, *new: state.replace(reward_state=reward.absorb(state.reward_state, *new)))

  told = []  # what went wrong is said once, when it first does

  def update(state):
    state, metrics = step(state)
    problems = [annotator.problem for annotator in running if annotator.problem]
    if problems and not told:
      told.append(problems[0])
      warnings.warn(f"annotator: {problems[0]}; training goes on without what is missing")
    known = state.reward_state
    labels = np.full(len(texts), -1, np.int32)
    if on_messages:
      on_messages.submit([texts[i] for i in newest(known)])
      for text, value in on_messages.collect():
        labels[number[text]] = value
    pairs = []
    if on_pairs:
      on_pairs.submit([(texts[i], texts[j]) for i, j in np.asarray(known.asked).tolist() if i >= 0])
      pairs = [(number[first], number[second], value) for (first, second), value in on_pairs.collect()]
    while pairs or np.any(labels >= 0):
      now, pairs = pairs[:_PAIRS], pairs[_PAIRS:]
      rows = np.array(now + [(-1, -1, -1)] * (_PAIRS - len(now)), np.int32)
      state = absorb(state, labels, rows[:, :2], rows[:, 2])
      labels = np.full_like(labels, -1)
    return state, metrics | _counts(running)

  return experiment._replace(update=update, evaluate=evaluate, jittable=False)


def newest(state: message_rewards.MessageState) -> list[int]:
  """Lists the messages of the newest rollout that are not annotated, those that arrived last at the end."""
  labels, arrival, latest = (np.asarray(x) for x in (state.labels, state.arrival, state.latest))
  wanted = np.flatnonzero((labels < 0) & (latest >= 0) & (latest == int(state.updates) - 1))
  return wanted[np.argsort(arrival[wanted], kind="stable")].tolist()


def _counts(annotators: Sequence[assistants.AsyncAnnotator]) -> dict[str, jax.Array]:
  totals = [annotator.totals | {"waiting": annotator.waiting} for annotator in annotators]
  names = dict.fromkeys(name for total in totals for name in total)
  return {f"annotator/{name}": jnp.float32(sum(total[name] for total in totals)) for name in names}
