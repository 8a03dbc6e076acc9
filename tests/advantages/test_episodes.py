"""Temporal estimators on records, against loops over counted steps in float64."""

import jax.numpy as jnp
import numpy as np
import pytest

from rlcore import advantages
from rlcore.types import Rewards, Trajectory
from tests.tolerance import close


def make(seed, process):
  rng = np.random.default_rng(seed)
  mask = (rng.random((4, 9)) < 0.6).astype(np.float32)
  mask[3] = 0
  draw = lambda: rng.normal(size=mask.shape).astype(np.float32)
  batch = Trajectory(
      observation=draw(), action=draw(), reward_t=draw(), discount_t=rng.integers(0, 2, mask.shape).astype(np.float32),
      log_prob_old=draw(), value_t=draw(), value_tp1=draw(), mask=mask)
  return Rewards(rng.normal(size=4).astype(np.float32), draw() if process else None), batch


def loop(rewards, batch, gamma, lam, bootstrap):
  """Steps backwards over the counted steps of each episode."""
  advantage, paid = np.zeros(batch.mask.shape), np.zeros(batch.mask.shape)
  for g in range(len(batch.mask)):
    places = np.flatnonzero(batch.mask[g])
    running, value_next = 0.0, 0.0
    for i, t in enumerate(places[::-1]):
      paid[g, t] = (0 if rewards.process is None else rewards.process[g, t]) + (rewards.outcome[g] if i == 0 else 0)
      discount = gamma * (float(batch.discount_t[g, t]) if bootstrap else 1.0)
      after = float(batch.value_tp1[g, t]) if bootstrap else value_next
      running = paid[g, t] + discount * after - batch.value_t[g, t] + discount * lam * running
      advantage[g, t], value_next = running, float(batch.value_t[g, t])
  return advantage, paid


@pytest.mark.parametrize("process", [False, True])
@pytest.mark.parametrize("bootstrap", [False, True])
def test_against_a_loop_over_counted_steps(process, bootstrap):
  for seed in range(5):
    rewards, batch = make(seed, process)
    settings = dict(gamma=0.9, lam=0.7, bootstrap=bootstrap)
    want, paid = loop(rewards, batch, **settings)
    np.testing.assert_allclose(advantages.step_rewards(rewards, batch.mask), paid, atol=1e-5)
    np.testing.assert_allclose(advantages.gae_advantages(rewards, batch, **settings), want, atol=2e-5)
    np.testing.assert_allclose(advantages.gae_returns(rewards, batch, **settings),
                               (want + batch.value_t) * batch.mask, atol=2e-5)


def test_the_sum_is_the_return_of_group_relative():
  rewards, batch = make(0, True)
  total = jnp.sum(advantages.step_rewards(rewards, batch.mask), 1)
  got = advantages.group_relative(rewards, batch, center="none", scale="none")
  for g in range(3):
    close(got[g][batch.mask[g] > 0], total[g], rtol=1e-5)
