"""Targets and losses of replayed steps against loops in float64."""

import jax
import numpy as np
import pytest

from rlcore import losses
from tests.tolerance import close

T, A, C, TEMPERATURE, WANTED = 7, 3, 2, 0.3, -1.5


@pytest.fixture(name="steps")
def _steps():
  rng = np.random.default_rng(0)
  draw = lambda *shape: rng.normal(size=shape).astype(np.float32)
  mask, discounts = np.float32([1, 1, 0, 1, 1, 0, 1]), np.float32([0.9, 0, 0.9, 0.5, 0.9, 0, 0.9])
  return dict(rewards=draw(T), choosing=draw(T, A), q=draw(T, A), critics=draw(T, C), log_probs=draw(T), mask=mask,
              discounts=discounts)


def _loop(steps, value):
  """What each counted step is to reach: its reward and, where it does not terminate, the value of what follows."""
  found = np.zeros(T)
  for t in range(T):
    if steps["mask"][t]:
      found[t] = steps["rewards"][t]
      if steps["discounts"][t]:
        found[t] += float(steps["discounts"][t]) * value(t)
  return found


def test_targets(steps):
  s = steps
  ends = s["rewards"], s["discounts"], s["mask"]
  double = losses.double_q_target(ends[0], s["choosing"], s["q"], *ends[1:])
  close(double, _loop(s, lambda t: s["q"][t][np.argmax(s["choosing"][t])]), rtol=1e-5)
  cautious = losses.td3_target(ends[0], s["critics"], *ends[1:])
  close(cautious, _loop(s, lambda t: min(s["critics"][t])), rtol=1e-5)
  soft = losses.sac_target(ends[0], s["critics"], s["log_probs"], TEMPERATURE, *ends[1:])
  want = _loop(s, lambda t: min(s["critics"][t]) - TEMPERATURE * float(s["log_probs"][t]))
  close(soft, want, rtol=1e-5)
  assert np.any(np.abs(double - cautious) > 0.1) and np.any(np.abs(soft - cautious) > 0.1)


def test_losses(steps):
  s, counted = steps, np.flatnonzero(steps["mask"])
  mean = lambda value: np.mean([value(t) for t in counted])
  error = lambda t: sum((float(q) - float(s["rewards"][t]))**2 / 2 for q in s["critics"][t])
  close(losses.critics_loss(s["critics"], s["rewards"], s["mask"]), mean(error), rtol=1e-5)
  close(losses.deterministic_policy_loss(s["q"][:, 0], s["mask"]), -mean(lambda t: float(s["q"][t, 0])), rtol=1e-5)
  soft = mean(lambda t: TEMPERATURE * float(s["log_probs"][t]) - float(min(s["critics"][t])))
  close(losses.sac_policy_loss(s["log_probs"], s["critics"], TEMPERATURE, s["mask"]), soft, rtol=1e-5)
  gap = mean(lambda t: float(s["log_probs"][t]) + WANTED)
  loss, slope = jax.value_and_grad(losses.temperature_loss)(0.4, s["log_probs"], WANTED, s["mask"])
  close([loss, slope], [-np.exp(0.4) * gap] * 2, rtol=1e-5)


@pytest.mark.parametrize("entropy, falls", [(3.0, True), (0.5, False)])
def test_the_temperature_falls_where_there_is_more_entropy_than_wanted(entropy, falls):
  slope = jax.grad(losses.temperature_loss)(0.0, np.full(4, -entropy, np.float32), 1.0, np.ones(4))
  assert (slope > 0) == falls
