"""The host's stage behind updates: what it asks, when the answers arrive, and that nobody waits for them."""

import time

from flax import struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore import assistants
from rlcore.training import annotating, judging, message_rewards
from rlcore.types import Array, Experiment, Stream
from tests.assistants.server import Answer, serve

_TEXTS = tuple(f"{kind} {i}" for kind in ("good", "better", "dull") for i in range(4))
_RANK = {"good": 1, "better": 2, "dull": 0}
_HELPFUL = np.array([1] * 8 + [0] * 4)


@struct.dataclass
class _State:
  step: Array
  reward_state: message_rewards.MessageState


def _experiment(weights, **annotators):
  """Updates that do nothing but pay a rollout `[6, 2]`; in every one some messages are new."""
  words = np.array([[i // 4, 3 + i % 4] for i in range(12)], np.int32)
  reward = message_rewards.MessageReward(words, 7, message_rewards.Weights(*weights), message_rewards.Settings(
      annotations=3, fit_steps=1, batch_size=2, max_pairs=512, embedding=2, hidden=(2,)))

  def update(state):
    ids = jax.random.randint(jax.random.fold_in(jax.random.key(0), state.step), (6, 2), 0, 12)
    zero = jnp.zeros(ids.shape)
    stream = Stream(zero, zero, zero, zero, zero, zero, zero, zero, info={"caption": ids}, is_first=zero > 0)
    paid, reward_state = reward.apply(state.reward_state, stream)
    return _State(state.step + 1, reward_state), {"paid": jnp.mean(paid)}

  experiment = Experiment(lambda key: _State(jnp.int32(0), reward.init(key, 2)), update, lambda state: {})
  return annotating.with_annotator(experiment, reward, _TEXTS, **annotators)


def _ask(item):
  return assistants.Request(({"role": "user", "content": item if isinstance(item, str) else " | ".join(item)},))


def _annotators(server, **settings):
  client = assistants.ChatClient(server.base_url, "m", **(dict(api_key="", backoff=0.001, tries=1) | settings))
  annotate = assistants.judge_annotator(assistants.ChatJudge(client, int, tolerant=True), _ask)
  return dict(label=annotate, prefer=annotate)


def _truth(asked):
  ranks = [_RANK[text.split()[0]] for text in asked.split(" | ")]
  if len(ranks) == 1:
    return int(ranks[0] > 0)
  return 0 if ranks[0] > ranks[1] else 1 if ranks[1] > ranks[0] else 2


def test_what_came_back_is_learned_from_and_nothing_is_asked_twice():
  with serve(lambda number, payload: Answer(str(_truth(payload["messages"][0]["content"])))) as server:
    experiment = _experiment((1.0, 0.0, 1.0), **_annotators(server))
    assert not experiment.jittable
    state = experiment.init(jax.random.key(0))
    for _ in range(300):
      state, metrics = experiment.update(state)
      if np.all(state.reward_state.labels >= 0) and state.reward_state.num_pairs > 80:
        break
      time.sleep(0.005)
  known = jax.tree.map(np.asarray, state.reward_state.replace(key=()))
  np.testing.assert_array_equal(known.labels, _HELPFUL)
  for (i, j), preference in zip(known.pairs[:known.num_pairs], known.preferences[:known.num_pairs]):
    assert preference == _truth(f"{_TEXTS[i]} | {_TEXTS[j]}")
  asked = [request["messages"][0]["content"] for request in server.requests]
  assert len(asked) == len(set(asked)) and metrics["annotator/annotated"] >= 12 + known.num_pairs
  assert metrics["annotator/failed"] == metrics["annotator/dropped"] == 0 and metrics["paid"] > 0


def test_a_slow_server_and_one_that_fails_cost_no_time():
  def behave(number, payload):
    del number, payload
    return Answer("1", delay=1.0) if slow else Answer(status=500)

  with serve(behave) as server:
    experiment = _experiment((1.0, 0.0, 0.0), **_annotators(server))
    for slow in (False, True):
      state, metrics = experiment.update(experiment.init(jax.random.key(0)))  # compiles
      start = time.monotonic()
      for _ in range(30):
        state, metrics = experiment.update(state)
      assert time.monotonic() - start < 15  # waiting for 30 batches, one after another, would take twice as long
      assert np.sum(state.reward_state.labels >= 0) < 12 and int(state.step) == 31
      if not slow:  # both kinds were asked about in vain
        assert any(line.startswith("annotator: ") and "no label for" in line for line in judging.reports())
        assert metrics["annotator/failed"] > 0 and metrics["annotator/annotated"] == 0


def test_the_newest_arrive_last():
  reward = message_rewards.MessageReward(np.zeros((5, 1), np.int32), 1, message_rewards.Weights())
  state = reward.init(jax.random.key(0), 1).replace(
      labels=jnp.array([-1, -1, 1, -1, -1]), arrival=jnp.array([3, 0, 3, -1, 1]), latest=jnp.array([3, 3, 3, -1, 2]),
      updates=jnp.int32(4))
  assert annotating.newest(state) == [1, 0]  # the third is annotated, the fourth was never seen, the last not just now


def test_texts_must_tell_messages_apart():
  reward = message_rewards.MessageReward(np.zeros((2, 1), np.int32), 1, message_rewards.Weights())
  with pytest.raises(ValueError, match="2 messages need as many different texts, not 1"):
    annotating.with_annotator(Experiment(None, None, None), reward, ("a", "a"))
