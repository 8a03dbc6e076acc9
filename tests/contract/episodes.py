"""Contract rows of `rlcore.advantages.episodes`."""

import jax.numpy as jnp
import numpy as np

from rlcore import types
from rlcore.advantages import episodes
from tests.contract import Row


def _example(rng):
  mask = (rng.random((5, 7)) < 0.7).astype(np.float32)
  mask[:, 2] = 1
  normal = lambda *shape: rng.normal(size=shape).astype(np.float32)
  return normal(5), normal(5, 7), normal(5, 7), normal(5, 7), rng.uniform(0.2, 1, (5, 7)).astype(np.float32), mask


def _apply(fn, **settings):
  def call(outcome, process, value_t, value_tp1, discount_t, mask):
    zeros = jnp.zeros(jnp.shape(mask))
    batch = types.Trajectory(
        observation=zeros, action=zeros, reward_t=zeros, discount_t=discount_t, log_prob_old=zeros, value_t=value_t,
        value_tp1=value_tp1, mask=mask)
    return fn(types.Rewards(outcome, process), batch, **settings)

  return call


def _row(name, fn, **settings):
  return Row(name, _apply(fn, gamma=0.9, lam=0.8, **settings), _example, stopped=(0, 1, 2), masked={5: (1, 2, 3, 4)},
             group=(0, 1, 2, 3, 4, 5), order="equivariant", low_precision=(0, 1, 2))


ROWS = [
    _row("gae_advantages", episodes.gae_advantages),
    _row("gae_advantages[bootstrap]", episodes.gae_advantages, bootstrap=True),
    _row("gae_returns", episodes.gae_returns),
    Row("step_rewards", lambda outcome, process, mask: episodes.step_rewards(types.Rewards(outcome, process), mask),
        lambda rng: (lambda x: (x[0], x[1], x[5]))(_example(rng)), stopped=(0, 1), masked={2: (1,)}, group=(0, 1, 2),
        order="equivariant", low_precision=(0, 1)),
]
