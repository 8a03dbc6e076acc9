"""Internal RL's composition: what the phases may touch, what each arm moves, and the rule of the verdict."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.control import internal_rl as config_file
from experiments.control import internal_rl
from rlcore.policies import internal
from rlcore.training import sweep
from rlcore.types import Trajectory

_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # compiles faster


def _same(a, b):
  return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


@pytest.fixture(scope="module")
def smoke():
  """The first state of internal RL, and `(state, learn, every_step) -> (state, metrics)`, one update."""
  config = config_file.get_config("smoke")
  config.order = (0,)  # a quarter of the episodes that reach a corner succeed
  config.update(dict(group_size=8, horizon=10))

  @_jit
  def update(state, learn, every_step):
    own = config.copy_and_resolve_references()
    with own.ignore_type():
      own.update(dict(learn=learn, every_step=every_step))
    return internal_rl.make_experiment(own).update(state)

  return _jit(internal_rl.make_experiment(config).init)(jax.random.key(0)), update


@pytest.mark.slow
def test_what_learns_is_the_policy_over_codes(smoke):
  state, update = smoke
  assert {"f1", "switch_rate", "base_nll"} <= set(state.reward_state)
  after, metrics = update(state, 1.0, 1.0)
  assert 0 < metrics["success"] < 1 and metrics["chosen"] == 1 and np.isfinite(metrics["loss"])
  assert not _same(after.params["policy"], state.params["policy"])
  for frozen in ("base", "meta"):
    assert _same(after.params[frozen], state.params[frozen])
  after, metrics = update(state, 0.0, 0.0)
  assert _same(after.params, state.params) and metrics["chosen"] < 1


@pytest.mark.slow
def test_the_token_level_arm_moves_the_same_base_model(smoke):
  """A seed's base model is that of the other arms, up to the rounding of another program."""
  config = sweep.apply_overrides(config_file.get_config("smoke"), config_file.ARMS["token level"])
  experiment = internal_rl.make_experiment(config)
  state = _jit(experiment.init)(jax.random.key(0))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), state.params["base"], smoke[0].params["base"])
  assert set(state.reward_state) == set(smoke[0].reward_state) and np.isnan(state.reward_state["f1"])
  after, metrics = jax.eval_shape(experiment.update, state)
  assert jax.tree.structure(after) == jax.tree.structure(state) and "success" in metrics


@pytest.mark.slow
def test_the_discovery_differentiates_through_the_frozen_model():
  """The gradient of the controlled log-likelihood reaches the metacontroller and stops before the base weights."""
  config = config_file.get_config("smoke")
  base, meta = internal_rl.make_models(config)
  shown = jax.tree.map(lambda x: x[0], _jit(functools.partial(internal_rl.demonstrations, config))(
      jax.random.split(jax.random.key(0), 1)))
  params = {"base": _jit(base.init)(jax.random.key(1), shown.observation),
            "meta": _jit(meta.init)(jax.random.key(2), jnp.zeros((1, config.dim)), jnp.ones(1))}
  noise = jnp.ones((config.demo_horizon, meta.code))
  gradient = _jit(jax.grad(lambda params: jnp.sum(
      internal_rl.controlled(base, meta, params["base"], params["meta"], shown, noise)[1])))(params)
  assert all(not np.any(x) for x in jax.tree.leaves(gradient["base"]))
  assert np.any(gradient["meta"]["params"]["decoder"]["kernel"])


def test_alignment_compares_with_the_steps_after_a_collection():
  beta, collected = np.zeros((2, 3, 6)), np.zeros((3, 6))
  beta[0, :, 3] = beta[1, :, 4] = 1.0
  collected[:, 2], mask = 1, np.ones((3, 6))
  mask[1, 3:] = mask[2, 4:] = 0  # the second episode ends with its collection; it has no boundary

  @_jit
  def align(beta):
    found = internal.Discovery(None, jnp.zeros((3, 6, 2)), jnp.zeros((3, 6, 2)), beta, None)
    zero = jnp.zeros((3, 6))
    shown = Trajectory(zero, zero, zero, zero, zero, zero, zero, jnp.asarray(mask),
                       info={"collected": jnp.asarray(collected)})
    return internal_rl.alignment(shown, found, jnp.full((3, 6), -2.0))

  good, late = align(jnp.asarray(beta[0])), align(jnp.asarray(beta[1]))
  assert float(good["f1"]) == 1 and float(good["kl"]) == 0 and float(good["nll"]) == 2
  np.testing.assert_allclose(good["switch_rate"], 5 / 13)  # three first steps are forced
  np.testing.assert_allclose(late["f1"], 0.5)  # the third episode is over before its switch


@pytest.mark.parametrize("gain, f1, want", [
    (0.6, 0.8, "reproduced"), (0.6, 0.6, "inconclusive"), (0.2, 0.8, "inconclusive"), (0.1, 0.8, "inconclusive"),
    (0.07, 0.8, "not reproduced"), (0.6, 0.4, "not reproduced")])
def test_the_rule_of_the_verdict(gain, f1, want):
  noise = np.linspace(-0.02, 0.02, 5)
  arms = {name: {"values": {metric: list(0.1 + (gain + noise) * (name == "internal"))
                            for metric in (config_file.CLAIM.metric, *config_file.CLAIM.also)}}
          for name in config_file.ARMS}
  arms["internal"]["values"]["last:eval/f1"] = [f1] * 5
  result = {"claim": dataclasses.asdict(config_file.CLAIM), "variants": {"default": {"arms": arms}}, "study": None}
  assert config_file.verdict(result)[0] == want
