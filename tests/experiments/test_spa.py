"""SPA's composition: what each arm pays, what the pre-training measures, and the rule of the verdict."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.credit import spa as config_file
from experiments.credit import spa
from rlcore.envs import household
from rlcore.training import control, sweep
from rlcore.types import Rewards, Trajectory

_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # compiles faster


def _batch(rng):
  mask = (np.arange(6) < np.array([6, 2, 4])[:, None]).astype(np.float32)
  junk = np.where(mask > 0, 1, np.nan)
  info = {"observation": rng.normal(size=(3, 6, 2)) * junk[..., None], "grounded": (rng.random((3, 6)) < 0.5) * junk}
  zero = jnp.zeros((3, 6))
  return Rewards(jnp.array([1.0, 0.0, 1.0])), Trajectory(zero, zero, zero, zero, zero, zero, zero, mask, info=info)


@pytest.mark.parametrize("arm", list(config_file.ARMS))
def test_each_arm_pays_what_its_name_says(arm):
  raw, batch = _batch(np.random.default_rng(0))
  config = sweep.apply_overrides(config_file.get_config(), config_file.ARMS[arm])
  state = {"estimators": {"long": jnp.array([1.0, 0.0]), "brief": jnp.array([0.0, 1.0])}, "residual": jnp.zeros(())}
  transform = spa.redistribution(lambda weights, seen: seen @ weights, config)
  grouped = jax.vmap(transform.apply, (0, 0, None), (0, None), axis_name=control.GROUPS)
  paid, state = grouped(*jax.tree.map(lambda x: jnp.asarray(x)[None], (raw, batch)), state)
  residuals = []
  for g in range(3):
    alive = batch.mask[g] > 0
    said = batch.info["observation"][g, alive, 1 if arm.endswith("brief fit") else 0]
    worked = batch.info["grounded"][g, alive]
    residuals.append(float(raw.outcome[g]) - said.sum())
    want = {"terminal": 0 * said, "terminal, fresh critic": 0 * said, "spa": said + 0.5 * worked,
            "spa, beta 0.05": said + 0.05 * worked, "spa, beta 0": said, "spa, beta 0, brief fit": said,
            "grounding only": 0.5 * worked, "uniform": float(raw.outcome[g]) / alive.sum() + 0 * said}[arm]
    np.testing.assert_allclose(paid.process[0, g], np.append(want, np.zeros(6 - alive.sum())), atol=1e-5)
  keeps = arm.startswith("terminal") or arm == "grounding only"
  np.testing.assert_allclose(paid.outcome[0], raw.outcome if keeps else np.zeros(3))
  np.testing.assert_allclose(state["residual"], np.mean(residuals), rtol=1e-4)


def test_the_measured_gains_of_an_episode_sum_to_what_happened():
  """Over an episode the probability of success goes from where it starts to 0 or 1."""
  config = config_file.get_config()
  config.measure.update(dict(episodes=6, resets=64))
  world, goals = household.make_household(), household.draw_goals(jax.random.key(0))
  agent = spa.policies.make_actor_critic(world, hidden=config.hidden)
  params = agent.init(jax.random.key(1))
  gain, mask, seen = _jit(lambda key: spa.gains(world, params, goals, config, key))(jax.random.key(2))
  assert gain.shape == mask.shape == (6, 16) and seen.shape == (6, 16, 53)
  achieved = np.max(np.asarray(seen[..., 14]) * mask, -1)  # progress 4 was seen
  total = np.sum(gain * mask, -1)
  assert np.all(total <= achieved + 1e-6) and np.all(total >= achieved - 0.3)  # an untrained policy rarely succeeds


def test_a_fitted_critic_enters_with_its_weight_at_the_first_update_only():
  config = config_file.get_config("smoke")
  config.update(dict(critic_coef=0.25, lr=0.0))
  experiment = spa.make_experiment(config)
  state = _jit(experiment.init)(jax.random.key(0))
  assert {"long/attribution", "brief/mse", "success"} <= set(jax.eval_shape(experiment.evaluate, state))
  jax.tree.map(np.testing.assert_array_equal, state.params["policy"], state.ref_params["policy"])
  fresh, fitted = state.params["value"], state.reward_state[0]["critic"]
  assert not all(np.allclose(a, b) for a, b in zip(jax.tree.leaves(fresh), jax.tree.leaves(fitted), strict=True))
  update = _jit(experiment.update)
  state, metrics = update(update(state)[0])
  assert int(state.step) == 2 and np.isfinite(metrics["residual"])
  mixed = jax.tree.map(lambda a, b: 0.75 * a + 0.25 * b, fresh, fitted)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), state.params["value"], mixed)


def test_the_rule_of_the_verdict():
  def judge(difference):
    noise = np.linspace(-0.02, 0.02, 8)
    arms = {name: {"values": {metric: list(0.5 + (difference + noise) * (name == "spa"))
                              for metric in (config_file.CLAIM.metric, *config_file.CLAIM.also)}}
            for name in config_file.ARMS}
    return config_file.verdict({"claim": dataclasses.asdict(config_file.CLAIM), "variants": {"default": {"arms": arms}}})

  assert [judge(x)[0] for x in (0.1, 0.004, 0.0, -0.1)] == [
      "reproduced", "inconclusive", "not reproduced", "not reproduced"]
