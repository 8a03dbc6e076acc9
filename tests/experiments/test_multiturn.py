"""The multi-turn experiment: its rewards, its mixture of estimators, its rule, and one update in small."""

import dataclasses

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from configs.credit import multiturn as config_lib
from experiments.credit import multiturn
from rlcore import advantages
from rlcore.training import control
from rlcore.types import Rewards, Trajectory

G, S, TURN = 3, 4, 9
T = S * TURN


def _group():
  """Three episodes of two sub-goals: won in two turns, one sub-goal in four turns, nothing in three."""
  turn_mask = np.array([[1, 1, 0, 0], [1, 1, 1, 1], [1, 1, 1, 0]], np.float32)
  turn_rewards = np.array([[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]], np.float32)
  ends = np.where(turn_mask > 0, TURN * np.arange(1, S + 1) - 1, -1).astype(np.int32)
  mask = np.repeat(turn_mask, TURN, 1) * np.tile(np.arange(TURN) >= 6, S)
  values = np.random.default_rng(0).normal(size=(G, T)).astype(np.float32)
  info = dict(turn_mask=turn_mask, turn_rewards=turn_rewards, turn_end=ends, num_goals=np.full(G, 2))
  batch = Trajectory(observation=None, action=mask, reward_t=mask, discount_t=mask, log_prob_old=mask, value_t=values,
                     value_tp1=values, mask=mask, info=jax.tree.map(jnp.asarray, info))
  return Rewards(outcome=jnp.array([1.0, 0.0, 0.0])), batch


def test_rewards_lie_on_the_ends_of_turns():
  raw, batch = _group()
  sparse, dense = (multiturn.turn_rewards(weight, raw, batch).process for weight in (0.0, 1.0))
  want = np.zeros((2, G, T))
  want[0, 0, 17] = 1
  want[1, 0, [8, 17]] = 0.5
  want[1, 1, 17] = 0.5
  np.testing.assert_array_equal([sparse, dense], want)


def _credit(name, shaped, batch):
  weights = ml_collections.ConfigDict({kind: float(kind == name) for kind in multiturn.ESTIMATORS})
  one = lambda rewards, batch: multiturn.mixed_advantage(weights, rewards, batch)
  batched = jax.vmap(one, axis_name=control.GROUPS)
  return np.asarray(batched(*jax.tree.map(lambda x: jnp.asarray(x)[None], (shaped, batch)))[0])


def test_weights_pick_the_estimator():
  raw, batch = _group()
  shaped = multiturn.turn_rewards(1.0, raw, batch)
  np.testing.assert_allclose(
      _credit("rloo", shaped, batch), advantages.trajectory_rloo(shaped.process, batch.mask), atol=1e-6)
  grpo = _credit("grpo", shaped, batch)
  np.testing.assert_allclose(grpo[:, 6], [1, 0, -1], atol=1e-5)
  ppo, fixed = _credit("ppo", shaped, batch), _credit("reinforce_fixed", shaped, batch)
  for credit in (ppo, fixed):
    counted = credit[batch.mask > 0]
    assert abs(counted.mean()) < 1e-5 and abs(counted.std() - 1) < 1e-4 and not np.any(credit[batch.mask == 0])
  raw_ppo = advantages.gae_advantages(shaped, batch)
  assert np.corrcoef(np.asarray(raw_ppo)[batch.mask > 0], ppo[batch.mask > 0])[0, 1] > 0.9999


def test_the_released_returns_never_reach_earlier_turns():
  raw, batch = _group()
  shaped = multiturn.turn_rewards(0.0, raw, batch)
  released, fixed = (_credit(name, shaped, batch)[0] for name in ("reinforce", "reinforce_fixed"))
  assert released[6] < 0 < released[15] and np.ptp(released[6:9]) == 0
  assert fixed[6] == fixed[15] > 0


@pytest.mark.parametrize("ppo, rloo, want", [
    (0.1, 0.0, "reproduced"), (0.0, 0.1, "not reproduced"), (0.05, 0.05, "not reproduced")])
def test_the_rule(ppo, rloo, want):
  values = {"ppo_sparse": 0.0, "ppo_dense": ppo, "rloo_sparse": 0.0, "rloo_dense": rloo}
  entry = lambda mean: {"values": {config_lib.CLAIM.metric: [mean] * 6}}
  result = {"claim": dataclasses.asdict(config_lib.CLAIM), "variants": {"default": {"arms": {k: entry(x) for k, x in values.items()}}}}
  assert config_lib.verdict(result)[0] == want
  arms = {name: entry(0.0) for name in values}
  arms["ppo_dense"] = {"values": {config_lib.CLAIM.metric: [-0.98, 1.02] * 3}}
  result["variants"]["default"]["arms"] = arms
  assert config_lib.verdict(result)[0] == "inconclusive"


def test_one_update_of_the_smoke_variant():
  experiment = multiturn.make_experiment(config_lib.get_config("smoke"))
  assert experiment.unit == "tokens"
  before = jax.jit(experiment.init)(jax.random.key(0))
  cloned, metrics = jax.jit(experiment.warmup.update)(before)
  assert metrics["nonfinite_grad"] == 0 and metrics["loss"] > 0
  after, metrics = jax.jit(experiment.update)(cloned)
  assert all(np.isfinite(x) for x in metrics.values())
  assert {"test_success", "turns", "goals", "value_error", "entropy"} <= set(metrics)
  moved = jax.tree.map(lambda a, b: np.any(a != b), cloned.params, after.params)
  assert all(jax.tree.leaves(moved["policy"])) and int(after.step) == 2
