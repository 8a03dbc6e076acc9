"""Tabular Q-learning against a NumPy loop, and on a line whose values have a closed form."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore import policies
from rlcore.envs import chain
from rlcore.training import tabular_q

WORLD = chain.make_chain(places=4, start=1, distractor_at=2, horizon=7)
PARAMS = chain.ChainParams(slip=0.3, goal=1.0, distractor=0.2)
_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # compiles faster
PAID = jnp.asarray(np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32))


@pytest.fixture(scope="module")
def learn():
  """`(seeds, rates, epsilons, discounts) -> (tables after each episode, episodes)`: 30 episodes, one compiled vmap."""
  @_jit
  @jax.vmap
  def run(seed, rate, epsilon, discount):
    def one(q, key):
      q, episode = tabular_q.q_learning_episode(
          WORLD, chain.place, q, key, PARAMS, learning_rate=rate, epsilon=epsilon, discount=discount,
          pay=lambda reward, state, action, after: reward + PAID[state, action] * (1 + after))
      return q, (q, episode)
    return jax.lax.scan(one, jnp.zeros((5, 2)), jax.random.split(jax.random.key(seed), 30))[1]
  return run


def test_it_is_the_loop_for_seeds_and_numbers_under_one_vmap(learn):
  rates, epsilons, discounts = [0.5, 0.1, 1.0, 0.5], [0.0, 0.3, 1.0, 0.0], [0.9, 0.99, 0.5, 0.9]
  tables, episodes = jax.device_get(learn(jnp.array([3, 4, 5, 6]), *map(jnp.array, (rates, epsilons, discounts))))
  ended, cut, extra = 0, 0, np.asarray(PAID)
  for lane, (rate, epsilon, discount) in enumerate(zip(rates, epsilons, discounts)):
    q = np.zeros((5, 2))
    for e in range(30):
      row = jax.tree.map(lambda x: x[lane, e], episodes)
      position = 1
      for t in range(7):
        if not row.mask[t]:
          assert ended and row.discount_t[t] == row.reward_t[t] == 0
          continue
        state, action, after = int(row.info["state"][t]), int(row.action[t]), int(row.info["next_state"][t])
        assert state == position and (epsilon or q[state, action] >= q[state].max() - 1e-6)
        paid = row.reward_t[t] + extra[state, action] * (1 + after)
        ahead = 0.0 if after == 4 else discount * q[after].max()  # state 4 is the exit; time alone ends nothing
        q[state, action] += rate * (paid + ahead - q[state, action])
        position, ended, cut = after, ended + (after == 4), cut + (t == 6 and after != 4)
        assert (t == 6 or after == 4) == (t == 6 or not row.mask[t + 1])
      np.testing.assert_allclose(tables[lane, e], q, atol=1e-4)
  assert ended > 5 and cut > 5


def test_the_values_of_a_line_in_closed_form():
  """A sure line of 4 places, learned off policy to the end: right pays 1 for ever, left costs a step there and back."""
  world = chain.make_chain(places=4, start=0, has_exit=False, distractor_at=0, horizon=8)
  episode = functools.partial(tabular_q.q_learning_episode, world, chain.place, learning_rate=1.0, epsilon=1.0,
                              discount=0.9, instance=chain.ChainParams(0.0))
  q = _jit(lambda key: jax.lax.scan(
      lambda q, key: (episode(q, key=key)[0], None), jnp.zeros((4, 2)), jax.random.split(key, 2000))[0])(
          jax.random.key(0))
  best = 10 * 0.9 ** np.array([3, 2, 1, 0])
  np.testing.assert_allclose(q[:, 1], best, rtol=1e-3)
  np.testing.assert_allclose(q[:, 0], 0.9 * best[[0, 0, 1, 2]], rtol=1e-3)


def test_ties_are_broken_at_random_and_chance_is_uniform():
  draw = _jit(jax.vmap(functools.partial(policies.epsilon_greedy, random_ties=True), (0, None, None)))
  keys = jax.random.split(jax.random.key(0), 20000)
  for values, epsilon, want in (
      ([1.0, 1, 0], 0.0, [0.5, 0.5, 0]), ([0.0, 2, 0], 0.3, [0.1, 0.8, 0.1]), ([0.0, 0, 0], 0.5, [1 / 3] * 3),
      ([-1.0, -np.inf, -2], 0.0, [1, 0, 0])):
    share = np.bincount(np.asarray(draw(keys, jnp.array(values), epsilon)), minlength=3) / 20000
    np.testing.assert_allclose(share, want, atol=0.015)
  probs = tabular_q.greedy_probs([[1.0, 1, 0], [0, 2, 0]], 0.3)
  np.testing.assert_allclose(probs, [[0.45, 0.45, 0.1], [0.1, 0.8, 0.1]], atol=1e-6)


def test_bad_input():
  with pytest.raises(AssertionError, match="q_learning_episode: q has rank"):
    tabular_q.q_learning_episode(WORLD, chain.place, jnp.zeros(5), jax.random.key(0), PARAMS)
  with pytest.raises(AssertionError, match="values"):
    policies.epsilon_greedy(jax.random.key(0), jnp.zeros((2, 2)), 0.1)
