"""The bandit stream step by step, and policies that know where its blocks begin against counts in NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore import policies
from rlcore.envs import bandit_stream

_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # compiles faster
HORIZON, ARMS, COUNT = 12, 3, 200
ENDS = np.isin(np.arange(HORIZON), (2, 7, 11))
WORLD = bandit_stream.make_bandit_stream(num_arms=ARMS, horizon=HORIZON)
STREAM = bandit_stream.BanditTask(jnp.asarray(ENDS), jnp.float32(0.5))


def script(arms):
  """Pulls the arm that is due at each step."""
  return policies.RememberingPolicy(jnp.int32(0), lambda key, t, seen, state: (arms[t], t + 1))


@functools.partial(_jit, static_argnums=0)
def play(make_policy, number):
  """Plays the policy that is made of a number (or of `[T]` arms) on 200 streams, always the same ones."""
  one = functools.partial(policies.remembering_rollout, WORLD, make_policy(number))
  return jax.vmap(one, (0, None))(jax.random.split(jax.random.key(0), COUNT), STREAM)


def greedy(epsilon):
  return policies.make_epsilon_greedy(ARMS, epsilon)


def thompson(noise_var):
  return policies.make_thompson_sampling(ARMS, noise_var=noise_var)


@pytest.fixture(scope="module")
def episodes():
  """All streams with arm 0, 1 and 2 only."""
  return [jax.device_get(play(script, np.full(HORIZON, arm, np.int32))) for arm in range(ARMS)]


def test_means_stay_in_a_block_and_change_after_it(episodes):
  means = np.stack([x.info["mean"] for x in episodes], -1)
  assert np.all(means == means[:, np.array([0, 0, 0, 3, 3, 3, 3, 3, 8, 8, 8, 8])])
  drawn = means[:, [0, 3, 8]].reshape(COUNT, -1)
  correlation = np.corrcoef(drawn.T) - np.eye(9)
  assert np.max(np.abs(correlation)) < 5 / np.sqrt(COUNT)
  assert abs(np.mean(drawn)) < 4 / np.sqrt(drawn.size) and abs(np.std(drawn) - 1) < 4 / np.sqrt(2 * drawn.size)
  for x in episodes:
    np.testing.assert_array_equal(x.info["best"], means.max(-1))
    np.testing.assert_array_equal(x.info["block_end"], np.tile(ENDS, (COUNT, 1)))
    np.testing.assert_array_equal(x.info["block_start"], np.tile(np.roll(ENDS, 1), (COUNT, 1)))
    np.testing.assert_array_equal(x.discount_t, np.tile(np.arange(HORIZON) < HORIZON - 1, (COUNT, 1)))


def test_rewards_are_means_with_noise_that_nothing_else_follows(episodes):
  noise = np.concatenate([x.reward_t - x.info["mean"] for x in episodes[:1]])
  assert abs(np.std(noise) - 0.5) < 4 * 0.5 / np.sqrt(2 * noise.size) and abs(np.mean(noise)) < 2 / np.sqrt(noise.size)
  later = episodes[0].info["mean"][:, 3]  # drawn after the third reward, by the same key
  assert abs(np.corrcoef(noise[:, 2], later)[0, 1]) < 4 / np.sqrt(COUNT)
  np.testing.assert_allclose(noise, episodes[2].reward_t - episodes[2].info["mean"], atol=1e-5)  # common randomness


def test_a_token_is_the_pull_before():
  x = jax.device_get(play(script, np.arange(HORIZON, dtype=np.int32) % ARMS))
  np.testing.assert_array_equal(x.observation[:, 0], 0)
  np.testing.assert_array_equal(x.observation[:, 1:, :ARMS], np.eye(ARMS)[x.action[:, :-1]])
  np.testing.assert_array_equal(x.observation[:, 1:, ARMS], x.reward_t[:, :-1])


def counts(x, n, t):
  """Pulls and sums of rewards of stream n before step t, since the block began."""
  begin = max(b for b in (0, 3, 8) if b <= t)
  pulls, sums = np.zeros(ARMS), np.zeros(ARMS)
  for s in range(begin, t):
    pulls[x.action[n, s]] += 1
    sums[x.action[n, s]] += x.reward_t[n, s]
  return pulls, sums


def test_greedy_pulls_the_best_average_and_epsilon_the_rest():
  always, seldom = (jax.device_get(play(greedy, epsilon)) for epsilon in (0.0, 0.3))
  other = []
  for n in range(COUNT):
    for t in range(HORIZON):
      for x in (always, seldom):
        pulls, sums = counts(x, n, t)
        average = sums / np.maximum(pulls, 1)
        same = x.action[n, t] == np.argmax(average)
        assert same or x is seldom or np.ptp(np.sort(average)[-2:]) < 1e-5
      other.append(not same)
  assert abs(np.mean(other) - 0.2) < 4 * np.sqrt(0.16 / len(other))


def test_thompson_sampling_draws_from_the_belief():
  x = jax.device_get(play(thompson, 0.25))
  rng = np.random.default_rng(0)
  chosen, expected = [], []
  for n in range(COUNT):
    for t in (1, 2, 4, 7):
      pulls, sums = counts(x, n, t)
      variance = 1 / (1 + pulls / 0.25)
      draws = rng.normal(variance * sums / 0.25, np.sqrt(variance), (400, ARMS))
      share = np.bincount(draws.argmax(1), minlength=ARMS) / 400
      last = x.action[n, t - 1]
      chosen.append(x.action[n, t] == last)
      expected.append(share[last])
  chosen, expected = np.array(chosen), np.array(expected)
  error = np.sqrt(np.mean(expected * (1 - expected)) / len(chosen))
  assert abs(np.mean(chosen) - np.mean(expected)) < 4 * error
  sure = expected > 0.8
  assert np.mean(chosen[sure]) > 0.7 and np.mean(chosen[expected < 0.2]) < 0.3


def test_no_arm_is_refused():
  with pytest.raises(ValueError, match="num_arms=0"):
    bandit_stream.make_bandit_stream(num_arms=0)
