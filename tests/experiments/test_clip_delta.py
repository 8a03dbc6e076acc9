"""Clip-Delta's composition: the mixture is the paper's shaped rewards, and every arm is one of its settings."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from configs.credit import clip_delta as config_file
from experiments.credit import clip_delta
from rlcore import advantages, rewards
from rlcore.training import sweep
from rlcore.types import Rewards, Trajectory


def _group(rng):
  lengths = np.array([5, 1, 2, 4])
  mask = (np.arange(5) < lengths[:, None]).astype(np.float32)
  scores = np.where(mask > 0, rng.random((4, 5)), np.nan).astype(np.float32)
  zero = jnp.zeros((4, 5))
  batch = Trajectory(zero, zero, zero, zero, zero, zero, zero, mask, info={"score": scores})
  return Rewards(jnp.array([1.0, 0.0, 1.0, 0.0])), batch, scores, mask


@pytest.mark.parametrize("arm", ["success", "prm", "clip", "delta", "clip_delta", "per_length", "prm, alpha 0.3"])
def test_each_arm_pays_what_its_name_says(arm):
  raw, batch, scores, mask = _group(np.random.default_rng(0))
  config = sweep.apply_overrides(config_file.get_config(), config_file.ARMS[arm])
  paid, _ = clip_delta.refinement(config.weights, config.alpha, config.eta).apply(raw, batch, ())
  got = advantages.step_rewards(paid, mask)
  for g in range(4):
    alpha, mode = config.alpha, arm
    if arm in ("success", "per_length"):
      alpha, mode = (0.0, "none") if arm == "success" else (1 / mask[g].sum(), "none")
    want = rewards.shaped_step_rewards(
        scores[g], mask[g], raw.outcome[g], alpha, "none" if mode.startswith("prm") else mode)
    np.testing.assert_allclose(got[g], want, atol=1e-6)


def test_the_rule_of_the_verdict():
  claim = dataclasses.asdict(config_file.CLAIM)

  def judge(prm_end, area):
    arms = {"success": (0.9, 0.8), "prm": (prm_end, 0.1), "clip_delta": (0.9, area)}
    noise = np.linspace(-0.01, 0.01, 8)
    arms = {name: {"values": {"tail:success": [end] * 8, "mean:success": list(mean + noise)}}
            for name, (end, mean) in arms.items()}
    return config_file.verdict({"claim": claim, "variants": {"default": {"arms": arms}}})[0]

  assert judge(0.1, 0.81) == judge(0.7, 0.79) == "reproduced"
  assert judge(0.9, 0.81) == judge(0.1, 0.7) == "not reproduced"
  assert judge(0.85, 0.81) == "inconclusive"
