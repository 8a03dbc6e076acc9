"""The progress estimator as a transform: what it pays, when and what it learns, over how many groups."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rlcore import reward_models, rewards, stats
from rlcore.types import Rewards, Trajectory
from tests.tolerance import close

B, G, T, D = 4, 3, 5, 2
LR = 0.05


def contributions(params, episode):
  """Linear in the observation, with a bias."""
  return episode.observation @ params["w"] + params["b"]


def transform(optimizer=None, **kwargs):
  return reward_models.progress_estimator(
      contributions, lambda key: {"w": jax.random.normal(key, (D,)), "b": jnp.float32(0.1)},
      optimizer or optax.sgd(LR), **{"axis_name": "groups"} | kwargs)


@pytest.fixture(scope="module")
def batch():
  rng = np.random.default_rng(0)
  mask = (rng.random((B, G, T)) < 0.7).astype(np.float32)
  mask[0, 0] = 0  # an episode without a step
  other = np.zeros((B, G, T), np.float32)
  seen = rng.normal(size=(B, G, T, D)).astype(np.float32)
  episodes = Trajectory(seen, other, other, other, other, other, other, mask)
  outcome = rng.integers(0, 2, (B, G)).astype(np.float32)
  return Rewards(jnp.asarray(outcome)), jax.tree.map(jnp.asarray, episodes)


@pytest.fixture(scope="module")
def state():
  return transform().init(jax.random.key(0), None)


def run(batch, state, **kwargs):
  apply = jax.vmap(transform(**kwargs).apply, (0, 0, None), (0, None), axis_name="groups")
  return jax.jit(apply)(*batch, state)


def reference(batch, params, steps=1):
  """Contributions and mean residual of the estimator as it is, and its parameters after SGD, episode by episode."""
  (outcome, mask), seen = (np.asarray(x, np.float64) for x in (batch[0].outcome, batch[1].mask)), batch[1].observation
  seen = np.asarray(seen, np.float64)
  w, b = np.asarray(params["w"], np.float64), float(params["b"])
  said, residual = np.where(mask > 0, seen @ w + b, 0), 0.0
  for k in range(steps):
    dw, db = np.zeros(D), 0.0
    for i in range(B):
      for g in range(G):
        alive = mask[i, g] > 0
        inputs, count = seen[i, g, alive].sum(0), alive.sum()
        error = inputs @ w + count * b - outcome[i, g]
        residual -= error / (B * G) * (k == 0)
        dw, db = dw + 2 * error * inputs / (B * G), db + 2 * error * count / (B * G)
    w, b = w - LR * dw, b - LR * db
  return said, residual, w, b


def assert_same(a, b):
  jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize("steps", [1, 3])
def test_rewards_and_steps_are_their_definitions(batch, state, steps):
  paid, after = run(batch, state, steps=steps)
  said, residual, w, b = reference(batch, state.learner.params, steps)
  np.testing.assert_allclose(paid.process, said, rtol=1e-5, atol=1e-6)
  assert not np.any(paid.outcome)  # the contributions sum to it
  close(after.residual, residual, rtol=1e-5)
  np.testing.assert_allclose(after.learner.params["w"], w, rtol=1e-4, atol=1e-6)
  np.testing.assert_allclose(after.learner.params["b"], b, rtol=1e-4, atol=1e-6)
  assert np.abs(w - state.learner.params["w"]).max() > 1e-2 and int(after.seen) == 1


def test_who_pays_sees_the_outcome_and_the_contributions(batch, state):
  """The worked example of the paper's step rewards, from the estimator's mouth."""
  episodes = Trajectory(*[jnp.array([[0.3, -0.1, 0.6, 0.0]])] * 7, mask=jnp.array([[1, 1, 1, 0]]),
                        info=jnp.array([[1, 0, 1, 1]]))
  pay = lambda paid, parts, batch: paid.replace(
      process=jax.vmap(rewards.spa_step_rewards)(parts, batch.info, batch.mask))
  own = reward_models.progress_estimator(
      lambda scale, episode: scale * episode.observation, lambda key: jnp.array(1.0), optax.sgd(LR), pay=pay)
  paid, after = own.apply(Rewards(jnp.ones(1)), episodes, own.init(jax.random.key(0), None))
  np.testing.assert_allclose(paid.process, [[0.8, -0.1, 1.1, 0]], atol=1e-6)
  np.testing.assert_allclose(paid.outcome, [1])
  np.testing.assert_allclose(after.residual, 0.2, atol=1e-6)
  np.testing.assert_allclose(after.learner.params, 1 + LR * 2 * 0.2 * 0.8, atol=1e-6)


def test_one_program_is_frozen_learns_or_is_refreshed(batch, state):
  """Which of them is a traced number; six batches, and when the parameters moved."""
  traces = []

  @jax.jit
  def lesson(state, every, steps):
    traces.append(1)
    make = transform(optax.adam(LR), every=every, steps=steps)
    return jax.vmap(make.apply, (0, 0, None), (0, None), axis_name="groups")(*batch, state)[1]

  start = transform(optax.adam(LR)).init(jax.random.key(0), None)
  for every, steps, want in [(0, 3, ()), (1, 1, (1, 2, 3, 4, 5, 6)), (3, 2, (3, 6)), (4, 0, ())]:
    now, moved = start, []
    for i in range(1, 7):
      before, now = now, lesson(now, jnp.float32(every), jnp.float32(steps))
      moved += [i] if np.any(before.learner.params["w"] != now.learner.params["w"]) else []
    assert tuple(moved) == want and int(now.seen) == 6
    assert int(now.learner.opt_state[0].count) == steps * len(want)
    if not want:
      assert_same(now.learner, start.learner)
  assert len(traces) == 1


@pytest.mark.parametrize("junk", [np.nan, np.inf, -1e30])
def test_junk_behind_the_mask_changes_nothing(batch, state, junk):
  rewards_, episodes = batch
  dirty = episodes.replace(observation=jnp.where(episodes.mask[..., None] > 0, episodes.observation, junk))
  assert_same(run((rewards_, dirty), state), run(batch, state))


@pytest.mark.parametrize("where", ["outcome", "observation"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_leaves_the_state_as_it_was(batch, state, where, bad):
  rewards_, episodes = batch
  if where == "outcome":
    rewards_ = rewards_.replace(outcome=rewards_.outcome.at[2, 1].set(bad))
  else:
    first = jnp.argmax(episodes.mask[2, 1])
    episodes = episodes.replace(observation=episodes.observation.at[2, 1, first].set(bad))
  _, after = run((rewards_, episodes), state, steps=2)
  assert_same(after, state)
  assert_same(run((rewards_, episodes), state, every=2)[1], state)  # it does not even count


def test_groups_on_devices_learn_as_one(batch, state):
  """Two axes at a time, the groups of a device and the devices; one at a time is a row of the contract."""
  want_paid, want = run(batch, state, steps=3)
  inner = jax.vmap(transform(steps=3, axis_name=("groups", "d")).apply, (0, 0, None), (0, None), axis_name="groups")
  cut = jax.tree.map(lambda x: x.reshape(2, B // 2, *x.shape[1:]), batch)
  paid, after = jax.pmap(inner, "d", in_axes=(0, 0, None), out_axes=(0, None), devices=jax.devices()[:2])(*cut, state)
  close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
  close(paid.process, want_paid.process.reshape(2, B // 2, G, T))
  jax.tree.map(close, after, want)
  assert np.any(want.learner.params["w"] != state.learner.params["w"])


def test_it_learns_which_step_decides():
  """Success is the sign of one number at one step; in the end that step is paid, and the sums are outcomes."""
  rng = np.random.default_rng(3)
  place = np.eye(T)
  make = reward_models.progress_estimator(
      lambda params, episode: jnp.sum(params * episode.observation, -1), lambda key: jnp.zeros(2 * T), optax.adam(LR))
  state, apply = make.init(jax.random.key(0), None), jax.jit(make.apply)
  for _ in range(400):
    good = rng.integers(0, 2, (16, T))
    seen = np.concatenate([np.tile(place, (16, 1, 1)), place * good[:, None]], -1).astype(np.float32)
    other = np.zeros((16, T), np.float32)
    paid, state = apply(Rewards(jnp.asarray(good[:, 2], jnp.float32)), Trajectory(
        seen, other, other, other, other, other, other, np.ones((16, T), np.float32)), state)
  np.testing.assert_allclose(paid.process.sum(-1), good[:, 2], atol=0.05)
  assert stats.spearman_correlation(jnp.ravel(paid.process[:, 2]), jnp.asarray(good[:, 2], jnp.float32)) > 0.99
  assert np.ptp(np.asarray(paid.process), 0)[[0, 1, 3, 4]].max() < 0.1 < 0.9 < np.ptp(np.asarray(paid.process)[:, 2])
