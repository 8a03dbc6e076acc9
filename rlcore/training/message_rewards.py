"""A reward for what an annotator finds helpful in an agent's messages, distilled while the agent trains (ONI).

A message is a number; of the messages seen so far a few an update are annotated, the newest first. A table, a
classifier or a ranking model of the annotations pays for a message, less with every repetition in the episode. Which of
the three it is are floats, so that all are lanes of one `vmap`; the functions of one step are those of
`exploration.language`.

A rollout is paid by what was known before it. What is annotated afterwards pays for the next one: by `truth` inside the
program, or on the host (`annotating.with_annotator`).

Reference: ONI, arXiv:2410.23022.
"""

from collections.abc import Sequence
from typing import NamedTuple

from flax import struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from rlcore import exploration, losses, models, stats
from rlcore.reward_models import learner
from rlcore.training import stream_rewards
from rlcore.types import Array, Metrics, PyTree, Stream, StreamReward

_CLASSES = 2  # the outputs of the network are the classifier's logits, then the score


class Weights(NamedTuple):
  """How much of the reward of a message each distiller gives: `retrieval`, `classification`, `ranking`, all floats.

  The classifier learns where its weight is not 0, and so does the ranking model.
  """

  retrieval: Array | float = 0.0
  classification: Array | float = 0.0
  ranking: Array | float = 0.0


class Truth(NamedTuple):
  """What the annotator inside the program says.

  Attributes:
    labels: `[M]` int32, 1 where a message is helpful, else 0.
    progress: `[M]`, of two messages the one with more of it is preferred.
  """

  labels: Array
  progress: Array


class Settings(NamedTuple):
  """Numbers of the reward; floats may be traced.

  Attributes:
    extrinsic_coef: weight of the task's reward.
    intrinsic_coef: weight of the message's.
    count_exponent: by which power of its count in the episode a message pays less.
    clip: bound on the absolute value of the sum.
    class_threshold: probability of being helpful above which the classifier pays.
    rank_threshold: standardised score above which the ranking model pays.
    lr: of Adam for classifier and ranking model.
    annotations: static, the most messages, and the most pairs, that `truth` annotates in an update; pairs on the host
      too.
    fit_steps: static, gradient steps after new annotations.
    batch_size: static, annotations of a gradient step, drawn with replacement.
    max_pairs: static, P, how many of the newest annotated pairs are kept.
    embedding: static, width of a word.
    hidden: static, widths of the layers behind the mean of the words.
  """

  extrinsic_coef: Array | float = 1.0
  intrinsic_coef: Array | float = 0.3
  count_exponent: Array | float = 3.0
  clip: Array | float = 10.0
  class_threshold: Array | float = 0.5
  rank_threshold: Array | float = 0.0
  lr: Array | float = 1e-3
  annotations: int = 8
  fit_steps: int = 32
  batch_size: int = 64
  max_pairs: int = 1024
  embedding: int = 16
  hidden: Sequence[int] = (32,)


@struct.dataclass
class MessageState:
  """What is known of the messages; M of them, N streams.

  Attributes:
    counts: `[N, M]` int32, occurrences in the episode that goes on.
    labels: `[M]` int32, 1 helpful, 0 not, -1 not annotated.
    arrival: `[M]` int32, the update in which a message was first seen; -1 for never.
    latest: `[M]` int32, the update in which it was last seen; -1 for never.
    asked: `[K, 2]` int32, pairs of different messages of the newest rollout; -1 where it had only one message.
    pairs: `[P, 2]` int32, annotated pairs, of which a new one takes the place of the oldest.
    preferences: `[P]` int32, which of a pair is preferred (0, 1), 2 for a tie, -1 for no pair.
    num_pairs: int32, how many pairs have been annotated.
    model: classifier and ranking model.
    moments: mean, variance and count of all scores that were looked at.
    updates: int32, rollouts that were paid.
    key: of pairs and batches.
    told: metrics of the newest rollout.
  """

  counts: PyTree
  labels: Array
  arrival: Array
  latest: Array
  asked: Array
  pairs: Array
  preferences: Array
  num_pairs: Array
  model: learner.LearnerState
  moments: tuple[Array, Array, Array]
  updates: Array
  key: Array
  told: Metrics


class MessageReward:
  """The reward of messages as functions of a `MessageState`.

  Attributes:
    num_messages: M.
  """

  def __init__(self, messages: np.ndarray, num_words: int, weights: Weights, settings: Settings = Settings(), *,
               truth: Truth | None = None, labels: Array | None = None, name: str = "caption"):
    """Makes the functions.

    Args:
      messages: `[M, L]` int32 in [0, num_words), the words of each message.
      num_words: size of the vocabulary.
      weights: which distiller pays.
      settings: the numbers.
      truth: what is annotated inside the program; None annotates nothing there.
      labels: `[M]`, annotations that are there from the start; None for none.
      name: of the entry of `info` that holds the number of the message.
    """
    self.num_messages = len(messages)
    words = np.zeros((len(messages), num_words), np.float32)
    np.add.at(words, (np.arange(len(messages))[:, None], messages), 1 / messages.shape[1])
    self._words = words  # with a matrix the mean of embeddings is a product, gradient included
    self._weights, self._settings, self._truth, self._labels, self._name = weights, settings, truth, labels, name
    self._network = models.MLP(tuple(settings.hidden), _CLASSES + 1, "relu")
    self._optimizer = optax.chain(optax.clip_by_global_norm(10.0), optax.adam(settings.lr))
    self._counter = stream_rewards.per_step(lambda: jnp.zeros(self.num_messages, jnp.int32), self._count)

  def stream_reward(self) -> StreamReward:
    """Returns the reward for `on_policy.OnPolicyParts`; its state is a `MessageState`."""
    return StreamReward(self.init, self.apply)

  def init(self, key: Array, num_worlds: int) -> MessageState:
    """Returns what is known before the first rollout."""
    word_key, net_key, key = jax.random.split(key, 3)
    size, chosen = self.num_messages, self._settings
    params = {"words": jax.random.normal(word_key, (self._words.shape[1], chosen.embedding)),
              "net": self._network.init(net_key, jnp.zeros(chosen.embedding))}
    nothing = lambda *shape: jnp.full(shape, -1, jnp.int32)
    zero = jnp.zeros((), jnp.int32)
    return MessageState(
        counts=self._counter.init(key, num_worlds),
        labels=nothing(size) if self._labels is None else jnp.asarray(self._labels, jnp.int32),
        arrival=nothing(size), latest=nothing(size), asked=nothing(chosen.annotations, 2),
        pairs=nothing(chosen.max_pairs, 2), preferences=nothing(chosen.max_pairs), num_pairs=zero,
        model=learner.start(params, self._optimizer), moments=(jnp.zeros(()), jnp.ones(()), jnp.float32(1e-4)),
        updates=zero, key=key, told={name: jnp.zeros(()) for name in ("intrinsic", "paid_share", "unannotated_share")})

  def apply(self, state: MessageState, stream: Stream) -> tuple[Array, MessageState]:
    """Pays a rollout `[T, N]`, notes its messages and, with a `truth`, annotates some and learns from them."""
    paid, state = self.pay(state, stream)
    return paid, state if self._truth is None else self.absorb(state, *self._annotated(state))

  def pay(self, state: MessageState, stream: Stream) -> tuple[Array, MessageState]:
    """Pays the steps `[T, N]` by what is known, and notes which messages they had."""
    chosen, ids = self._settings, self._known(stream_rewards.told(stream, self._name))
    counts, tables = self._counter.apply(state.counts, stream)
    scores = self._outputs(state.model.params)[:, _CLASSES]
    moments = stats.running_moments_update(
        *state.moments, stats.lookup(scores, ids), (ids < self.num_messages) & (state.num_pairs > 0))
    state = state.replace(counts=tables, moments=moments)
    intrinsic = stats.lookup(self.values(state), ids)
    pay = lambda *steps: exploration.oni_reward(
        *steps, chosen.extrinsic_coef, chosen.intrinsic_coef, chosen.count_exponent, chosen.clip)
    paid = jax.vmap(pay)(stream.reward_t, intrinsic, counts)
    pays, known = intrinsic > 0, stats.lookup(self._annotated_messages(state), ids)
    told = {"intrinsic": jnp.mean(intrinsic), "paid_share": jnp.mean(pays.astype(jnp.float32)),
            "unannotated_share": stats.masked_mean((~known).astype(jnp.float32), pays)}
    return paid, self._note(state.replace(told=told), ids)

  def values(self, state: MessageState) -> Array:
    """Returns what each message is worth `[M]`, before it is repeated, by the annotations and models of a state."""
    chosen, outputs, every = self._settings, self._outputs(state.model.params), jnp.arange(self.num_messages)
    ready = lambda flag: jnp.broadcast_to(flag, every.shape)
    mean, var, _ = state.moments
    return (self._weights.retrieval * exploration.retrieval_reward(state.labels, every)
            + self._weights.classification * exploration.classification_reward(
                outputs[:, :_CLASSES], ready(jnp.any(state.labels >= 0)), chosen.class_threshold)
            + self._weights.ranking * exploration.ranking_reward(
                outputs[:, _CLASSES], mean, var, chosen.rank_threshold, ready(state.num_pairs > 0)))

  def absorb(self, state: MessageState, labels: Array, pairs: Array, preferences: Array) -> MessageState:
    """Adds annotations and, where there are any for it, lets the model take its steps.

    Args:
      state: before.
      labels: `[M]` int32, 1 or 0 where a message was annotated, else -1.
      pairs: `[K, 2]` int32, annotated pairs.
      preferences: `[K]` int32, 0, 1 or 2, or -1 for no pair.

    Returns:
      The state after.
    """
    chosen = self._settings
    there = preferences >= 0
    place = jnp.where(there, (state.num_pairs + jnp.cumsum(there) - 1) % chosen.max_pairs, chosen.max_pairs)
    state = state.replace(
        labels=jnp.where(labels >= 0, labels, state.labels),
        pairs=state.pairs.at[place].set(pairs, mode="drop"),
        preferences=state.preferences.at[place].set(preferences, mode="drop"),
        num_pairs=state.num_pairs + jnp.sum(there, dtype=jnp.int32))
    key, fit_key = jax.random.split(state.key)
    step = lambda model, key: (self._fit_step(state, model, key), None)
    model = jax.lax.scan(step, state.model, jax.random.split(fit_key, chosen.fit_steps))[0]
    new = ((self._weights.classification != 0) & jnp.any(labels >= 0)) | ((self._weights.ranking != 0) & jnp.any(there))
    model = jax.tree.map(lambda after, before: jnp.where(new, after, before), model, state.model)
    return state.replace(key=key, model=model)

  def describe(self, state: MessageState, helpful: Array) -> Metrics:
    """Reports how the newest rollout was paid and what is known by now.

    Args:
      state: after the update.
      helpful: `[M]` bool, which messages are truly helpful.

    Returns:
      `intrinsic`, the mean worth of a step; `paid_share`, steps that are worth something; `unannotated_share` of
      them; `annotated`, the share of messages seen that are annotated; `accuracy`, the share of those seen that are
      worth something if and only if they are helpful.
    """
    seen = state.arrival >= 0
    mean = lambda flags: stats.masked_mean(flags.astype(jnp.float32), seen)
    return state.told | {"annotated": mean(self._annotated_messages(state)),
                         "accuracy": mean((self.values(state) > 0) == helpful)}

  def _count(self, table: Array, step: Stream) -> tuple[Array, Array]:
    message = self._known(step.info[self._name])
    table = table.at[message].add(1, mode="drop")
    return stats.lookup(table, message), table

  def _known(self, ids: Array) -> Array:
    """Returns numbers of messages; those of none become M, which is counted nowhere and pays nothing."""
    return jnp.where((ids >= 0) & (ids < self.num_messages), ids, self.num_messages)

  def _outputs(self, params: PyTree, ids: Array | None = None) -> Array:
    """Returns logits and score of messages `[..., 3]`, of all by default."""
    words = jnp.asarray(self._words)
    return self._network.apply(params["net"], (words if ids is None else words[ids]) @ params["words"])

  def _annotated_messages(self, state: MessageState) -> Array:
    """Tells which messages `[M]` the paying distiller has an annotation of; of pairs, those in one that is kept."""
    slots = jnp.where(state.preferences[:, None] >= 0, state.pairs, self.num_messages)
    compared = jnp.zeros(self.num_messages, bool).at[slots].set(True, mode="drop")
    return jnp.where(jnp.asarray(self._weights.ranking) != 0, compared, state.labels >= 0)

  def _note(self, state: MessageState, ids: Array) -> MessageState:
    """Notes the messages of a rollout and draws pairs of them."""
    present = jnp.zeros(self.num_messages, bool).at[ids].set(True)
    key, pair_key = jax.random.split(state.key)
    chance = jax.random.uniform(pair_key, (self._settings.annotations, self.num_messages))
    _, pairs = jax.lax.top_k(jnp.where(present, chance, -1.0), 2)
    pairs = jnp.where(jnp.sum(present) > 1, pairs.astype(jnp.int32), -1)
    return state.replace(
        arrival=jnp.where(present & (state.arrival < 0), state.updates, state.arrival),
        latest=jnp.where(present, state.updates, state.latest), asked=pairs, updates=state.updates + 1, key=key)

  def _annotated(self, state: MessageState) -> tuple[Array, Array, Array]:
    """Asks the truth about the newest messages and about the pairs."""
    waits = (state.arrival >= 0) & (state.labels < 0)
    chosen = exploration.newest_first_batch(state.arrival, waits, self._settings.annotations)
    labels = jnp.where(chosen, self._truth.labels, -1).astype(jnp.int32)
    first, second = jnp.moveaxis(jnp.asarray(self._truth.progress)[state.asked], -1, 0)
    preferences = jnp.where(first > second, 0, jnp.where(second > first, 1, 2))
    return labels, state.asked, jnp.where(state.asked[:, 0] >= 0, preferences, -1).astype(jnp.int32)

  def _fit_step(self, state: MessageState, model: learner.LearnerState, key: Array) -> learner.LearnerState:
    """Takes one gradient step on annotations drawn with replacement."""
    size, (label_key, pair_key) = self._settings.batch_size, jax.random.split(key)
    pick = lambda key, count: jnp.minimum((jax.random.uniform(key, (size,)) * count).astype(jnp.int32),
                                          jnp.maximum(count - 1, 0))
    known = jnp.sum(state.labels >= 0, dtype=jnp.int32)
    ids = jnp.argsort(state.labels < 0, stable=True)[pick(label_key, known)]
    kept = jnp.minimum(state.num_pairs, self._settings.max_pairs)
    place = pick(pair_key, kept)
    pairs, preferences = state.pairs[place], state.preferences[place]

    def loss(params):
      logits = self._outputs(params, ids)[:, :_CLASSES]
      cross = losses.classification_loss(
          logits, jnp.maximum(state.labels[ids], 0), jnp.broadcast_to(known > 0, ids.shape).astype(jnp.float32))
      scores = self._outputs(params, jnp.maximum(pairs, 0))[..., _CLASSES]
      order = jnp.mean(jax.vmap(losses.ranking_loss)(scores[:, 0], scores[:, 1], preferences))
      use = lambda weight: (jnp.asarray(weight) != 0).astype(jnp.float32)
      return use(self._weights.classification) * cross + use(self._weights.ranking) * (kept > 0) * order, ()

    return learner.guarded_step(loss, self._optimizer, model)[0]
