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
from rlcore.training import checkpoints, sweep
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
  said = batch.info["observation"] @ np.array([1.0, 0.5])
  pay = functools.partial(spa.step_rewards, config=config)
  paid = pay(*jax.tree.map(jnp.asarray, (raw, said, batch)))
  for g in range(3):
    alive = batch.mask[g] > 0
    parts, worked = said[g, alive], batch.info["grounded"][g, alive]
    kind = next(name for name in ("spa, beta 0.05", "spa, beta 0", "spa", "terminal", "grounding only", "uniform")
                if arm.startswith(name))
    want = {"terminal": 0 * parts, "spa": parts + 0.5 * worked, "spa, beta 0.05": parts + 0.05 * worked,
            "spa, beta 0": parts, "grounding only": 0.5 * worked,
            "uniform": float(raw.outcome[g]) / alive.sum() + 0 * parts}[kind]
    np.testing.assert_allclose(paid.process[g], np.append(want, np.zeros(6 - alive.sum())), atol=1e-5)
  keeps = arm.startswith("terminal") or arm == "grounding only"
  np.testing.assert_allclose(paid.outcome, raw.outcome if keeps else np.zeros(3))


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


@pytest.fixture(scope="module")
def smoke():
  """A small experiment, its first state, and `(state, **numbers) -> (state, metrics)`, one update of any arm."""
  config = config_file.get_config("smoke")
  config.brief.steps = 1  # else both fits are the same
  experiment = spa.make_experiment(config)
  traces = []

  @_jit
  def update(state, numbers):
    traces.append(1)
    own = config.copy_and_resolve_references()
    for key, value in numbers.items():
      node = own.learn if key in ("every", "steps") else own
      with node.ignore_type():
        node[key] = value
    return spa.make_experiment(own).update(state)

  defaults = dict(lr=config.lr, critic_coef=0.0, brief_coef=0.0, every=0.0, steps=0.0)
  yield experiment, _jit(experiment.init)(jax.random.key(0)), lambda state, **numbers: update(state, defaults | numbers)
  assert len(traces) <= 1


def _close(a, b):
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), a, b)


def _differ(a, b):
  return any(not np.allclose(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def test_a_fitted_critic_enters_with_its_weight_at_the_first_update_only(smoke):
  experiment, state, update = smoke
  assert {"long/attribution", "brief/mse", "success"} <= set(jax.eval_shape(experiment.evaluate, state))
  jax.tree.map(np.testing.assert_array_equal, state.params["policy"], state.ref_params["policy"])
  fresh, fitted = state.params["value"], state.reward_state[2]["critic"]
  assert _differ(fresh, fitted)
  for _ in range(2):
    state, metrics = update(state, critic_coef=0.25, lr=0.0)
  assert int(state.step) == 2 and np.isfinite(metrics["residual"])
  _close(state.params["value"], jax.tree.map(lambda a, b: 0.75 * a + 0.25 * b, fresh, fitted))


def _learner(state):
  return state.reward_state[0].learner


def test_the_arms_start_from_their_fit_and_learn_when_they_should(smoke):
  """Which fit an arm starts from, and after which updates its estimator moves, are numbers."""
  _, start, update = smoke
  fits = {0.0: _learner(start).params, 1.0: start.reward_state[2]["brief"]}
  assert _differ(*fits.values())
  for brief, fit in fits.items():
    frozen = refreshed = start
    for count in (0, 3):
      frozen, _ = update(frozen, brief_coef=brief)
      refreshed, _ = update(refreshed, brief_coef=brief, every=2.0, steps=3.0)
      assert int(_learner(refreshed).opt_state[0].count) == count and int(_learner(frozen).opt_state[0].count) == 0
      _close(_learner(frozen).params, fit)
      assert _differ(_learner(refreshed).params, fit) == (count > 0)


def test_a_resumed_run_goes_on_with_the_estimator_and_its_optimiser(smoke, tmp_path):
  _, start, update = smoke
  learn = functools.partial(update, every=1.0, steps=2.0)
  saved, _ = learn(learn(start)[0])
  checkpointer = checkpoints.Checkpointer(tmp_path, 1)
  checkpointer.save(2, saved)
  resumed, step = checkpointer.restore_latest(start)
  checkpointer.close()
  assert step == 2 and int(_learner(resumed).opt_state[0].count) == 4
  want, got = learn(saved)[0], learn(resumed)[0]
  assert _differ(_learner(want).opt_state, _learner(saved).opt_state)
  jax.tree.map(np.testing.assert_array_equal, got.reward_state, want.reward_state)


def test_the_rule_of_the_verdict():
  def judge(difference):
    noise = np.linspace(-0.02, 0.02, 8)
    arms = {name: {"values": {metric: list(0.5 + (difference + noise) * (name == "spa"))
                              for metric in (config_file.CLAIM.metric, *config_file.CLAIM.also)}}
            for name in config_file.ARMS}
    return config_file.verdict(
        {"claim": dataclasses.asdict(config_file.CLAIM), "variants": {"default": {"arms": arms}}})

  assert [judge(x)[0] for x in (0.1, 0.004, 0.0, -0.1)] == [
      "reproduced", "inconclusive", "inconclusive", "not reproduced"]
