"""Bonuses as sources of reward: what they pay, what they keep, and how they compose with the transforms of rewards."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rlcore import exploration, reward_models, rewards
from rlcore.types import Rewards, Trajectory
from tests.tolerance import close

G, T, K = 3, 5, 4
keys = lambda episode: episode.action
features = lambda episode: jax.nn.one_hot(episode.action, K)


def _batch(seed=0, junk=True):
  rng = np.random.default_rng(seed)
  mask = (np.arange(T) < rng.integers(2, T + 1, (G, 1))).astype(np.float32)
  rest = np.where(mask > 0, 1, np.nan if junk else 1).astype(np.float32)
  observation = np.where(mask[..., None] > 0, rng.normal(size=(G, T, 2)), np.nan if junk else 1).astype(np.float32)
  batch = Trajectory(observation, rng.integers(0, K, (G, T)), rest, 0.9 * rest, rest, rest, rest, mask)
  return Rewards(jnp.arange(G, dtype=jnp.float32)), jax.tree.map(jnp.asarray, batch)


def test_global_counts_go_on_from_batch_to_batch_in_the_order_of_time():
  source = exploration.global_count_bonus(keys, K)
  seen, state = np.zeros(K), source.init(jax.random.key(0), None)
  for seed in range(3):
    given, batch = _batch(seed)
    want = np.zeros((G, T))
    for t in range(T):
      for g in range(G):
        if batch.mask[g, t]:
          seen[batch.action[g, t]] += 1
          want[g, t] = seen[batch.action[g, t]] ** -0.5
    paid, state = source.apply(given, batch, state)
    close(paid.process, want, rtol=1e-6)
    np.testing.assert_array_equal(paid.outcome, 0)
  np.testing.assert_array_equal(state, seen)


def test_groups_share_one_table():
  given, batch = _batch()
  several = jax.tree.map(lambda x: jnp.stack([x, x]), (given, batch))
  source = exploration.global_count_bonus(keys, K, axis_name="groups")
  apply = jax.vmap(source.apply, (0, 0, None), (0, None), axis_name="groups")
  paid, state = apply(*several, source.init(None, None))
  alone = exploration.global_count_bonus(keys, K)
  want, once = alone.apply(given, batch, alone.init(None, None))
  np.testing.assert_array_equal(state, 2 * once)
  np.testing.assert_array_equal(paid.process, jnp.stack([want.process] * 2))


def test_the_product_scaled_and_added_to_the_reward_of_the_task():
  given, batch = _batch()
  bonus = exploration.combined(exploration.global_count_bonus(keys, K), exploration.elliptical_source(features))
  transform = rewards.mixture(
      (rewards.identity(), rewards.chain(bonus, exploration.scaled_by_std())), jnp.array([1.0, 0.1]))
  paid, _ = transform.apply(given, batch, transform.init(jax.random.key(0), given))
  mask, want, seen = np.asarray(batch.mask), np.zeros((G, T)), np.zeros(K)
  for t in range(T):
    for g in range(G):
      if mask[g, t]:
        key = int(batch.action[g, t])
        seen[key] += 1
        earlier = sum(int(batch.action[g, s]) == key for s in range(t))
        want[g, t] = seen[key] ** -0.5 / (0.1 + earlier)
  want = 0.1 * want / np.std(want[mask > 0])
  close(paid.process, want, rtol=1e-4)
  np.testing.assert_array_equal(paid.outcome, given.outcome)


def test_a_bonus_that_is_not_finite_does_not_spoil_the_scale():
  given, batch = _batch(junk=False)
  scale = exploration.scaled_by_std()
  process = jnp.where(jnp.arange(T) == 0, jnp.nan, jnp.arange(G * T, dtype=jnp.float32).reshape(G, T))
  paid, state = scale.apply(given.replace(process=process), batch, scale.init(None, None))
  np.testing.assert_array_equal(np.isnan(paid.process), np.isnan(process))
  assert state["count"] == np.sum(batch.mask[:, 1:]) and np.isfinite(state["m2"])


def test_hashes_are_spread_evenly_and_tell_neighbours_apart():
  cells = np.stack(np.meshgrid(np.arange(-50, 50), np.arange(100)), -1).reshape(-1, 2).astype(np.int32)
  held = np.bincount(exploration.hashed_keys(cells, 1000), minlength=1000)
  assert held.size == 1000 and held.sum() == 10000
  assert abs(np.var(held) / 10 - 1) < 0.3  # as of balls thrown into boxes
  distinct = np.unique(exploration.hashed_keys(cells, 2**30)).size
  assert distinct > 9990
  with pytest.raises(TypeError, match="round the observation to a grid first"):
    exploration.hashed_keys(np.ones((2, 2)), 10)


def embed(params, state):
  return jnp.tanh(state @ params)


def states(episode):
  return jnp.concatenate([episode.observation, episode.observation[-1:]])


def _novelty(alpha=0.5, **kwargs):
  return reward_models.novelty_source(
      embed, lambda key: jax.random.normal(key, (2, 3)), states, optax.sgd(0.1), alpha=alpha, **kwargs)


def test_novelty_pays_before_it_learns():
  given, batch = _batch(junk=False)
  source = _novelty()
  start = source.init(jax.random.key(1), None)
  paid, state = jax.jit(source.apply)(given, batch, start)
  mask, params, target = (np.asarray(x, np.float64) for x in (batch.mask, start.predictor.params, start.target))
  want, gradient = np.zeros((G, T)), np.zeros((2, 3))
  for g in range(G):
    seen = np.append(batch.observation[g], batch.observation[g, -1:], 0).astype(np.float64)
    said = np.tanh(seen @ params)
    away = said - np.tanh(seen @ target)
    novelty = np.linalg.norm(away, axis=-1)
    for t in np.flatnonzero(mask[g]):
      want[g, t] = max(novelty[t + 1] - 0.5 * novelty[t], 0)
      gradient += np.outer(seen[t + 1], away[t + 1] / novelty[t + 1] * (1 - said[t + 1] ** 2)) / mask.sum()
  np.testing.assert_allclose(paid.process, want, rtol=1e-4, atol=1e-5)
  close(state.predictor.params, params - 0.1 * gradient, rtol=1e-4)
  np.testing.assert_array_equal(state.target, start.target)


def test_novelty_fades_and_a_batch_that_is_nan_teaches_nothing():
  given, batch = _batch(junk=False)
  source = _novelty(alpha=0.0)
  start = source.init(jax.random.key(1), None)
  apply = jax.jit(source.apply)
  state, sums = start, []
  for _ in range(30):
    paid, state = apply(given, batch, state)
    sums.append(float(jnp.sum(paid.process)))
  assert sums[-1] < 0.8 * sums[0]
  broken = batch.replace(observation=batch.observation.at[0, 0].set(jnp.nan).at[0, 1].set(jnp.nan))
  paid, after = apply(given, broken, state)
  assert np.isnan(paid.process[0, 0])  # the novelty of the next state
  jax.tree.map(np.testing.assert_array_equal, after, state)


def test_states_that_no_counted_step_leaves_or_enters_are_not_read():
  given, batch = _batch(junk=False)
  used = np.pad(batch.mask, ((0, 0), (0, 1))) + np.pad(batch.mask, ((0, 0), (1, 0))) > 0
  assert not used.all()
  visited = np.random.default_rng(0).normal(size=(G, T + 1, 2)).astype(np.float32)
  source = reward_models.novelty_source(
      embed, lambda key: jax.random.normal(key, (2, 3)), lambda episode: episode.info, optax.adam(0.1))
  start = source.init(jax.random.key(1), None)
  results = [
      source.apply(given, batch.replace(info=jnp.where(used[..., None], visited, junk)), start) for junk in (0, np.nan)]
  assert np.any(results[0][1].predictor.params != start.predictor.params)
  jax.tree.map(np.testing.assert_array_equal, *results)
