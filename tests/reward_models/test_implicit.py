"""The implicit process reward model as a transform: what it pays, what it learns, over how many groups."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rlcore import losses, reward_models
from rlcore.types import Rewards, Trajectory

B, G, T, A = 3, 4, 5, 3
LR = 0.1


def log_probs(params, episode):
  """A table of logits by observation (an index)."""
  return jax.nn.log_softmax(params)[episode.observation, episode.action]


def transform(axis_name="groups", beta=0.05):
  return reward_models.implicit_process_reward(
      log_probs, lambda key: 0.5 * jax.random.normal(key, (T, A)), optax.sgd(LR), losses.trajectory_dpo_loss, beta=beta,
      axis_name=axis_name)


@pytest.fixture(scope="module")
def batch():
  rng = np.random.default_rng(0)
  mask = (rng.random((B, G, T)) < 0.7).astype(np.float32)
  number = lambda: np.where(mask > 0, rng.normal(-1, 0.3, (B, G, T)), np.nan).astype(np.float32)
  episodes = Trajectory(
      observation=rng.integers(0, T, (B, G, T)), action=rng.integers(0, A, (B, G, T)), reward_t=number(),
      discount_t=number(), log_prob_old=number(), value_t=number(), value_tp1=number(), mask=mask)
  outcome = np.array([[1, 0, 0, 1], [0, 0, 0, 0], [1, 1, 0, 1]], np.float32)  # the second group has no pair
  return Rewards(outcome), jax.tree.map(jnp.asarray, episodes)


def run(batch, state, **kwargs):
  apply = jax.vmap(transform(**kwargs).apply, (0, 0, None), (0, None), axis_name="groups")
  return jax.jit(apply)(*batch, state)


def reference(batch, table, beta):
  """Scaled rewards and the average gradient of the three groups' losses, pair by pair."""
  rewards, episodes = batch
  table = np.asarray(table, np.float64)
  log_p = table - np.log(np.exp(table).sum(-1, keepdims=True))
  obs, act, mask, old = (np.asarray(x) for x in (episodes.observation, episodes.action, episodes.mask,
                                                  episodes.log_prob_old))
  raw = np.where(mask > 0, beta * (log_p[obs, act] - old), 0)
  gradient = np.zeros_like(table)
  for b in range(B):
    score = raw[b].sum(-1)
    slope = np.zeros((G, *table.shape))  # of each score
    for g in range(G):
      for t in np.flatnonzero(mask[b, g]):
        o = obs[b, g, t]
        slope[g, o] += beta * (np.eye(A)[act[b, g, t]] - np.exp(log_p[o]))
    pairs = [(i, j) for i in range(G) for j in range(G) if rewards.outcome[b, i] > rewards.outcome[b, j]]
    for i, j in pairs:
      gradient += -(slope[i] - slope[j]) / (1 + np.exp(score[i] - score[j])) / len(pairs) / B
  return raw / (np.abs(raw).max() + 1e-6), gradient


def test_rewards_and_step_are_their_definitions(batch):
  state = transform().init(jax.random.key(0), None)
  rewards, after = run(batch, state, beta=2.0)
  want, gradient = reference(batch, state.params, 2.0)
  np.testing.assert_allclose(rewards.process, want, rtol=1e-4, atol=1e-5)
  np.testing.assert_array_equal(rewards.outcome, batch[0].outcome)
  assert np.abs(gradient).max() > 1e-2
  np.testing.assert_allclose(after.params, state.params - LR * gradient, rtol=1e-4, atol=1e-5)


def test_a_copy_of_the_policy_pays_nothing_and_learns_all_the_same(batch):
  rewards, episodes = batch
  state = transform().init(jax.random.key(0), None)
  own = jax.vmap(jax.vmap(functools.partial(log_probs, state.params)))(episodes)
  paid, after = run((rewards, episodes.replace(log_prob_old=own)), state)
  assert not np.any(paid.process)
  assert np.any(after.params != state.params)


@pytest.mark.parametrize("junk", [np.nan, np.inf, -1e30])
def test_junk_behind_the_mask_changes_nothing(junk):
  """Not even in what the model reads, whose gradient is 0 there."""
  rng = np.random.default_rng(1)
  mask = (rng.random((G, T)) < 0.6).astype(np.float32)
  seen, other = rng.normal(size=(G, T, A)).astype(np.float32), np.zeros((G, T), np.float32)
  make = reward_models.implicit_process_reward(
      lambda params, episode: episode.observation @ params, lambda key: jnp.ones(A), optax.sgd(LR),
      losses.trajectory_dpo_loss)
  state, apply = make.init(None, None), jax.jit(make.apply)
  learn = lambda seen: apply(Rewards(jnp.array([1.0, 0, 0, 1])), Trajectory(*[seen] + [other] * 6, mask), state)
  want, got = learn(seen), learn(np.where(mask[..., None] > 0, seen, np.float32(junk)))
  jax.tree.map(np.testing.assert_array_equal, got, want)
  assert np.any(want[1].params != state.params)


def test_no_pair_no_update(batch):
  state = transform().init(jax.random.key(0), None)
  _, after = run((Rewards(jnp.ones((B, G))), batch[1]), state)
  np.testing.assert_array_equal(after.params, state.params)


def test_a_broken_gradient_changes_nothing(batch):
  rewards, episodes = batch
  state = transform().init(jax.random.key(0), None)
  broken = episodes.replace(log_prob_old=episodes.log_prob_old.at[0, 0].set(-jnp.inf))
  _, after = run((rewards, broken), state)
  np.testing.assert_array_equal(after.params, state.params)


def test_it_learns_which_action_decides():
  """Success is action 1 at observation 0; after some batches that action, and no other, is paid well there."""
  rng = np.random.default_rng(3)
  make = transform(beta=1.0)
  state = make.init(jax.random.key(0), None)
  state = state.replace(params=jnp.zeros((T, A)))
  apply = jax.jit(jax.vmap(make.apply, (0, 0, None), (0, None), axis_name="groups"))
  old = np.full((B, G, T), -np.log(A), np.float32)
  for _ in range(60):
    observation, action = np.tile(np.arange(T), (B, G, 1)), rng.integers(0, A, (B, G, T))
    outcome = (action[:, :, 0] == 1).astype(np.float32)
    episodes = Trajectory(observation, action, old, old, old, old, old, np.ones_like(old))
    rewards, state = apply(Rewards(jnp.asarray(outcome)), episodes, state)
  first = np.asarray(rewards.process)[:, :, 0]
  assert first[action[:, :, 0] == 1].min() > 0.2 > 0 > first[action[:, :, 0] != 1].max()
  assert np.abs(np.asarray(rewards.process)[:, :, 1:]).mean() < np.abs(first).mean() / 3
