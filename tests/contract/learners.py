"""Contract rows of reward models that learn: one batch through their transforms, `rlcore.reward_models`."""

import jax.numpy as jnp
import numpy as np
import optax

from rlcore import reward_models
from rlcore.types import Rewards, Trajectory
from tests.contract import Row

_G, _T = 8, 5
_START = np.array([0.5, -0.3], np.float32)


def _episodes(rng):
  mask = (rng.random((_G, _T)) < 0.7).astype(np.float32)
  mask[3], mask[4, 0] = 0, 1
  return rng.normal(size=(_G, _T, 2)).astype(np.float32), mask, rng.integers(0, 2, _G).astype(np.float32), _START


def _batch(observation, mask, outcome):
  observation, mask, outcome = map(jnp.asarray, (observation, mask, outcome))
  other = jnp.zeros(mask.shape)
  return Rewards(outcome), Trajectory(observation, other, other, other, other, other, other, mask)


_linear = lambda params, episode: episode.observation @ params


def _progress(observation, mask, outcome, params, axis_name=None):
  """Contributions, and parameters and residual after two gradient steps."""
  make = reward_models.progress_estimator(_linear, lambda key: jnp.asarray(params), optax.sgd(0.05), steps=2, axis_name=axis_name)
  paid, state = make.apply(*_batch(observation, mask, outcome), make.init(None, None))
  return paid.process, state.learner.params, state.residual


def _implicit(observation, mask, outcome, params, axis_name=None):
  """Rewards, and parameters after a gradient step; the loss is a mean over episodes, so that these may be spread."""
  loss = lambda said, mask, outcome: jnp.mean(jnp.square(jnp.sum(said * (mask > 0), -1) - outcome))
  make = reward_models.implicit_process_reward(
      _linear, lambda key: jnp.asarray(params), optax.sgd(0.05), loss, beta=1.0, axis_name=axis_name)
  paid, state = make.apply(*_batch(observation, mask, outcome), make.init(None, None))
  return paid.process, state.params


_NOBODY = np.full((2, 3, 2), np.nan, np.float32), np.zeros((2, 3), np.float32), np.array([1, 0], np.float32), _START
_COMMON = dict(example=_episodes, masked={1: (0,)}, low_precision=(0, 2), split=(0, 1, 2))
ROWS = [
    Row("progress_estimator", _progress, split_out=("split", "same", "same"), degenerate=(
        (_NOBODY, (np.zeros((2, 3)), _START, 0.5)),), **_COMMON),
    Row("implicit_process_reward", _implicit, split_out=("split", "same"), degenerate=(
        (_NOBODY, (np.zeros((2, 3)), _START)),), **_COMMON),
]
