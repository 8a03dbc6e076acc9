"""Contract rows of transforms that pay for every step: bonuses as sources of reward, and potential-based shaping."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rlcore import exploration, reward_models, rewards
from rlcore.types import Rewards, Trajectory
from tests.contract import Row

_G, _T, _K = 8, 5, 4


def _episodes(rng):
  """Observations, keys and the mask of a group."""
  mask = (rng.random((_G, _T)) < 0.7).astype(np.float32)
  mask[3], mask[4, :2], mask[0, 2] = 0, 1, 0
  return rng.normal(size=(_G, _T, 2)).astype(np.float32), rng.integers(0, _K, (_G, _T)).astype(np.int32), mask


def _paid(make, whole_state=True):
  """Applies `make(axis_name)` to the group; returns the token rewards and, if they are the same anywhere, the state."""
  def fn(observation, keys, mask, axis_name=None):
    observation, keys, mask = map(jnp.asarray, (observation, keys, mask))
    rest = jnp.ones(mask.shape)
    batch = Trajectory(observation, keys, rest, 0.9 * rest, rest, rest, rest, mask)
    transform, example = make(axis_name), Rewards(jnp.ones(mask.shape[0]))
    paid, state = transform.apply(example, batch, transform.init(jax.random.key(0), example))
    return (paid.process, state) if whole_state else paid.process
  return fn


_keys = lambda episode: episode.action
_features = lambda episode: episode.observation
_embed = lambda params, state: jnp.tanh(state @ params)


def _states(episode):
  return jnp.concatenate([episode.observation, episode.observation[-1:]])


def _potentials(episode):
  potential = episode.observation[:, 0]
  return potential, jnp.roll(potential, -1)


def _scaled(axis_name):
  return rewards.chain(exploration.elliptical_source(_features), exploration.scaled_by_std(axis_name=axis_name))


def _combined(axis_name):
  table = exploration.global_count_bonus(_keys, _K, axis_name=axis_name)
  return exploration.combined(table, exploration.elliptical_source(_features))


def _novelty(observation, keys, mask, start, axis_name=None):
  """Takes the first weights as an argument: what is a constant inside `shard_map` has a gradient summed over devices."""
  init = lambda key: jax.random.normal(key, (2, 3)) + jnp.asarray(start)
  make = lambda axis_name: reward_models.novelty_source(
      _embed, init, _states, optax.sgd(0.1), alpha=0.0, axis_name=axis_name)
  return _paid(make)(observation, keys, mask, axis_name)


def _table(axis_name):
  return exploration.global_count_bonus(_keys, _K, axis_name=axis_name)


_COMMON = dict(example=_episodes, masked={2: (0, 1)})
_ROWS_OF_GROUP = dict(_COMMON, group=(0, 1, 2), order="equivariant", split=())
_STEP = lambda rng: tuple(rng.random(_T).astype(np.float32) for _ in range(3)) + (np.float32([1, 0, 1, 1, 0]),)
_PHI = np.array([0, 0.3, 0.6], np.float32)

ROWS = [
    Row("hashed_keys", lambda values: exploration.hashed_keys(values, 50),
        lambda rng: (rng.integers(-9, 9, (_T, 3)).astype(np.int32),), group=(0,), order="equivariant"),
    Row("episodic_count_bonus", _paid(lambda _: exploration.episodic_count_bonus(_keys), False), **_ROWS_OF_GROUP),
    Row("elliptical_source", _paid(lambda _: exploration.elliptical_source(_features), False), stopped=(0,),
        **_ROWS_OF_GROUP),
    Row("global_count_bonus", _paid(_table), **_COMMON),
    Row("combined", _paid(_combined), stopped=(0,), **_COMMON),
    Row("scaled_by_std", _paid(_scaled), stopped=(0,), split=(0, 1, 2), split_out=("split",) + ("same",) * 5, **_COMMON),
    Row("novelty_source", _novelty, split=(0, 1, 2), split_out=("split", "same", "same"),
        example=lambda rng: (*_episodes(rng), np.zeros((2, 3), np.float32)),
        masked={2: (1,)}),  # the observation of a masked step is the next state of a counted one
    Row("potential_shaping", rewards.potential_shaping, _STEP, stopped=(0, 1, 2), masked={3: (0, 1, 2)},
        group=(0, 1, 2, 3), order="equivariant", low_precision=(0, 1, 2), degenerate=(
            ((_PHI, np.array([0.3, 0.6, 0.97]), np.array([0.99, 0.99, 0]), np.ones(3)), ([0.297, 0.294, -0.6],)),
            ((_PHI, np.array([0.3, 0.6, np.nan]), np.array([0.99, 0.99, 0]), np.ones(3)), ([0.297, 0.294, -0.6],)),
            ((np.full(3, np.nan),) * 3 + (np.zeros(3),), (np.zeros(3),)))),
    Row("with_potential", _paid(lambda _: rewards.with_potential(_potentials), False), stopped=(0,), **{
        **_COMMON, "masked": {2: (1,)}}),
]
