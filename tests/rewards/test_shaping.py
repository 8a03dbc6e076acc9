"""Potential-based shaping: what it pays, and that no policy becomes better or worse by it."""

from hypothesis import given, settings, strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore import rewards
from rlcore.types import Rewards, Trajectory

_few = settings(max_examples=25, deadline=None)
_seeds = st.integers(0, 2**31).map(np.random.default_rng)
_S, _A, _GAMMA = 6, 3, 0.9
shape = jax.jit(rewards.potential_shaping)


def _world(rng):
  """Transition probabilities, rewards of (s, a, s') and which states end an episode."""
  terminal = np.zeros(_S, bool)
  terminal[rng.choice(_S, 2, replace=False)] = True
  return rng.dirichlet(np.ones(_S) * 0.5, (_S, _A)), rng.normal(size=(_S, _A, _S)), terminal


def _values(transitions, reward, terminal):
  """Q of value iteration; a terminal next state has value 0."""
  q = np.zeros((_S, _A))
  for _ in range(400):
    q = np.sum(transitions * (reward + _GAMMA * np.where(terminal, 0, q.max(1))), -1)
  return q


@_few
@given(_seeds)
def test_the_best_policy_stays_and_its_values_move_by_the_potential(rng):
  transitions, reward, terminal = _world(rng)
  potential = rng.normal(0, 3, _S)
  start, end = (x.ravel() for x in np.meshgrid(np.arange(_S), np.arange(_S), indexing="ij"))
  paid = shape(potential[start], potential[end], _GAMMA * ~terminal[end]).reshape(_S, 1, _S)
  plain, shaped = _values(transitions, reward, terminal), _values(transitions, reward + paid, terminal)
  np.testing.assert_allclose(shaped, plain - potential[:, None], rtol=1e-4, atol=1e-4)
  gap = np.diff(np.sort(plain, 1)[:, -2:], axis=1)[:, 0]
  clear = gap > 1e-3
  np.testing.assert_array_equal(shaped.argmax(1)[clear], plain.argmax(1)[clear])


def test_a_potential_that_survives_the_end_would_change_the_best_policy():
  """One state, two actions that end the episode: in a good place, or in one of larger potential."""
  reward, potential = np.array([1.0, 0.0]), np.array([0.0, 5.0])
  right = reward + shape(np.zeros(2), potential, np.zeros(2))
  wrong = reward + shape(np.zeros(2), potential, np.full(2, _GAMMA))
  assert np.argmax(right) == 0 and np.argmax(wrong) == 1


@_few
@given(_seeds)
def test_the_return_changes_by_the_first_potential(rng):
  length = rng.integers(1, 9)
  potential = rng.normal(size=length + 1)
  terminates = bool(rng.integers(2))
  discount = np.full(length, _GAMMA)
  discount[-1] *= not terminates
  paid = np.asarray(shape(potential[:-1], potential[1:], discount), np.float64)
  total = np.sum(paid * _GAMMA ** np.arange(length))
  left = 0 if terminates else _GAMMA**length * potential[-1]
  np.testing.assert_allclose(total, left - potential[0], rtol=1e-4, atol=1e-5)


def test_as_a_transform():
  mask = jnp.array([[1, 1, 0], [1, 1, 1]])
  potential = jnp.array([[1.0, 2, jnp.nan], [0, 1, 3]])
  rest = jnp.zeros((2, 3))
  batch = Trajectory(potential, rest, rest, jnp.array([[0.5, 0, jnp.nan], [0.5, 0.5, 0.5]]), rest, rest, rest, mask)
  add = rewards.with_potential(lambda episode: (episode.observation, episode.observation + 1))
  want = np.array([[0.0, -2, 0], [0.5, 0, -1]])
  paid, state = add.apply(Rewards(jnp.ones(2)), batch, add.init(None, None))
  np.testing.assert_allclose(paid.process, want)
  np.testing.assert_array_equal(paid.outcome, 1)
  assert state == ()
  paid, _ = rewards.chain(add).apply(Rewards(jnp.ones(2), jnp.full((2, 3), 2.0)), batch, ((),))
  np.testing.assert_allclose(paid.process, want + 2 * mask)


@pytest.mark.parametrize("args, match", [
    (([1, 2], [1], [1, 1]), "rewards.potential_shaping: potential_tp1 has shape"),
    (([1, 2], [1, 2], 0.9), "discount_t has shape"), (([[1]], [[1]], [[1]]), "jax.vmap")])
def test_bad_input(args, match):
  with pytest.raises(AssertionError, match=match):
    rewards.potential_shaping(*args)
