"""Rewards of messages against plain loops: what is annotated when, what it pays, and what the models learn of it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore.training import message_rewards
from rlcore.types import Stream

_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # compiles faster
_M, _T, _N = 12, 6, 3
_WORDS = np.array([[i // 3, i // 3, 4 + i % 3] for i in range(_M)], np.int32)  # a topic, twice, and a wording
_LABELS = np.array([1, 1, 1] + [0] * 6 + [1, 1, 1], np.int32)
_PROGRESS = np.array([2] * 3 + [0] * 6 + [1] * 3)
_SETTINGS = message_rewards.Settings(annotations=2, max_pairs=5, fit_steps=3, batch_size=4, embedding=3, hidden=(4,))


def _reward(weights, settings=_SETTINGS, inside=True, **more):
  truth = message_rewards.Truth(jnp.asarray(_LABELS), jnp.asarray(_PROGRESS)) if inside else None
  weights = message_rewards.Weights(*weights)
  return message_rewards.MessageReward(_WORDS, 7, weights, settings, truth=truth, **more)


def _stream(ids, is_first, reward):
  zero = jnp.zeros(ids.shape)
  return Stream(zero, zero, jnp.asarray(reward, jnp.float32), zero, zero, zero, zero, zero + 1,
                info={"caption": jnp.asarray(ids, jnp.int32)}, is_first=jnp.asarray(is_first))


@pytest.fixture(scope="module")
def rollouts():
  """Five rollouts `[T, N]`: ids, first steps, rewards; later ones have messages that earlier ones had not."""
  rng = np.random.default_rng(0)
  ids = np.stack([rng.integers(0, 5 + 2 * k, (_T, _N)) for k in range(5)]).clip(max=_M - 1)
  is_first = rng.random(ids.shape) < 0.2
  is_first[0, 0] = True
  return ids, is_first, rng.normal(size=ids.shape).astype(np.float32)


@_jit
def _run(weights, streams):
  """Pays rollouts one after another: rewards, and the state before and after each."""
  reward = _reward(weights)

  def one(state, stream):
    paid, after = reward.apply(state, stream)
    plain = lambda state: state.replace(key=())
    return after, (paid, plain(state), plain(after), reward.values(state))

  return jax.lax.scan(one, reward.init(jax.random.key(0), _N), streams)[1]


def _outputs(params, words):
  """The network in float64: mean of the embeddings, one hidden layer, logits and a score."""
  params = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
  net = params["net"]["params"]
  hidden = params["words"][words].mean(-2)
  hidden = np.maximum(hidden @ net["Dense_0"]["kernel"] + net["Dense_0"]["bias"], 0)
  return hidden @ net["Dense_1"]["kernel"] + net["Dense_1"]["bias"]


@pytest.mark.parametrize("weights", [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (0.0, 0.0, 0.0)])
def test_rollouts_are_paid_as_in_a_plain_loop(rollouts, weights):
  paid, before, after, _ = jax.tree.map(np.asarray, _run(weights, _stream(*rollouts)))
  labels, arrival, counts = np.full(_M, -1), np.full(_M, -1), np.zeros((_N, _M), int)
  mean, var, seen, has_pairs = 0.0, 1.0, 1e-4, False
  for k, (ids, is_first, extrinsic) in enumerate(zip(*rollouts)):
    outputs = _outputs(jax.tree.map(lambda x: x[k], before.model.params), _WORDS)
    if has_pairs:
      scores = outputs[ids.ravel(), 2]
      batch, n = scores.mean(), scores.size
      total = seen + n
      spread = var * seen + scores.var(ddof=1) * n + (batch - mean)**2 * seen * n / total
      mean, var, seen = mean + (batch - mean) * n / total, spread / total, total
    z = (outputs[:, 2] - mean) / np.sqrt(var)
    worth = (weights[0] * (labels == 1) + weights[1] * (outputs[:, 1] > outputs[:, 0]) * (labels >= 0).any()
             + weights[2] * np.where(z > 0, z, 0) * has_pairs)
    want = np.zeros((_T, _N))
    for t, n in np.ndindex(_T, _N):
      counts[n] *= not is_first[t, n]
      counts[n, ids[t, n]] += 1
      want[t, n] = extrinsic[t, n] + 0.3 * worth[ids[t, n]] * counts[n, ids[t, n]]**-3.0
    np.testing.assert_allclose(paid[k], want, rtol=1e-3, atol=1e-4)
    arrival = np.where((arrival < 0) & np.isin(np.arange(_M), ids), k, arrival)
    waits = [i for i in np.lexsort((np.arange(_M), arrival))[::-1] if arrival[i] >= 0 and labels[i] < 0]
    labels[waits[:2]] = _LABELS[waits[:2]]
    has_pairs = True  # every rollout of these has several messages
    np.testing.assert_array_equal(after.labels[k], labels)
    np.testing.assert_array_equal(after.counts[k], counts)
    np.testing.assert_array_equal(after.latest[k] == k, np.isin(np.arange(_M), ids))
  learns = any(weights[1:])
  moved = jax.tree.map(lambda x: float(np.abs(x[-1] - x[0]).max()), before.model.params)
  assert any(x > 0 for x in jax.tree.leaves(moved)) == learns


def test_pairs_are_of_the_newest_rollout_and_the_newest_are_kept(rollouts):
  _, _, after, _ = jax.tree.map(np.asarray, _run((0.0, 0.0, 1.0), _stream(*rollouts)))
  kept = [None] * 5
  for k, ids in enumerate(rollouts[0]):
    for j, (first, second) in enumerate(after.asked[k]):
      assert first != second and {first, second} <= set(ids.ravel())
      one, other = _PROGRESS[[first, second]]
      kept[(2 * k + j) % 5] = (first, second, 0 if one > other else 1 if other > one else 2)
    got = [(*pair, y) for pair, y in zip(after.pairs[k].tolist(), after.preferences[k].tolist())]
    assert got == [(-1, -1, -1) if row is None else row for row in kept]
  np.testing.assert_array_equal(after.num_pairs, [2, 4, 6, 8, 10])
  same = np.full((5, _T, _N), 7), rollouts[1], rollouts[2]
  _, _, after, values = _run((0.0, 0.0, 1.0), _stream(*same))
  assert np.all(after.asked == -1) and np.all(after.num_pairs == 0) and np.all(values == 0)


@pytest.mark.parametrize("weights", [(0.0, 1.0, 0.0), pytest.param((0.0, 0.0, 1.0), marks=pytest.mark.slow)])
def test_models_judge_wordings_that_were_never_annotated(weights):
  settings = _SETTINGS._replace(fit_steps=300, batch_size=16, lr=1e-2, max_pairs=64, annotations=36,
                               embedding=16, hidden=(32,))
  reward = _reward(weights, settings, inside=False)
  known = np.arange(_M) % 3 < 2  # of every topic the third wording is new
  pairs = np.array([(i, j) for i in np.flatnonzero(known) for j in np.flatnonzero(known) if i < j][:36], np.int32)
  first, second = _PROGRESS[pairs].T
  preferences = np.where(first > second, 0, np.where(second > first, 1, 2)).astype(np.int32)

  @_jit
  def learn(key):
    state = reward.init(key, _N)
    state = reward.absorb(state, jnp.where(known, _LABELS, -1), pairs, preferences)
    ids = jnp.arange(_T * _N).reshape(_T, _N) % _M
    _, state = reward.pay(state, _stream(ids, jnp.zeros((_T, _N), bool), jnp.zeros((_T, _N))))
    return reward.values(state), reward.describe(state, _LABELS > 0)

  values, told = learn(jax.random.key(0))
  np.testing.assert_array_equal(values > 0, _LABELS > 0)
  assert told["accuracy"] == 1 and told["annotated"] == pytest.approx(8 / 12)
  assert told["unannotated_share"] == pytest.approx(1 / 3, abs=0.1)
  assert told["paid_share"] == pytest.approx(0.5, abs=0.1)
  if weights[2]:
    assert values[:3].min() > values[9:].max()  # the farther on the way, the more


def test_nothing_new_changes_no_model_and_labels_may_be_there_from_the_start():
  reward = _reward((0.0, 1.0, 0.0), inside=False, labels=_LABELS)
  state = reward.init(jax.random.key(0), _N)
  after = _jit(reward.absorb)(state, jnp.full(_M, -1), jnp.full((2, 2), -1), jnp.full(2, -1))
  jax.tree.map(np.testing.assert_array_equal, after.model, state.model)
  np.testing.assert_array_equal(after.labels, _LABELS)
