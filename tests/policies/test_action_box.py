"""Boxes of real actions: every learner reaches the ends of its world's box, and densities are of the world's units."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore import policies
from rlcore.training import off_policy, off_policy_settings, on_policy, on_policy_settings
from rlcore.training import state as state_lib
from rlcore.types import World

_density = jax.jit(jax.vmap(
    lambda x, mean, log_std: policies.tanh_gaussian_log_prob(jnp.arctanh(x)[None], mean, log_std), (0, None, None)))
_sample = jax.jit(policies.tanh_gaussian_sample)
BOXES = [(0.0, 10.0), (-2.0, 2.0), ((-2.0, 0.0), (2.0, 10.0))]


def make_world(low, high, size=2):
  """Pays the sum of the actions; an episode is one step."""
  reset = lambda key, params: (jnp.ones(1), ())
  step = lambda key, state, action, params: (
      jnp.ones(1), (), jnp.sum(action), jnp.ones((), bool), jnp.zeros((), bool), {"action": action})
  return World(reset, step, 0, 1, 1, action_size=size, action_low=low, action_high=high, success_return=None)


@pytest.mark.parametrize("low, high", BOXES)
def test_the_squashed_density_is_of_the_actions_themselves(low, high):
  """Numerical integration over the box, and the cube as it was to the last bit."""
  center, half_width = policies.action_box(make_world(low, high))
  np.testing.assert_array_equal(center - half_width, np.broadcast_to(low, 2))
  np.testing.assert_array_equal(center + half_width, np.broadcast_to(high, 2))
  mean, log_std = jnp.array([0.3]), jnp.array([-0.4])
  for c, h in zip(center, half_width):
    x = np.linspace(-0.99999, 0.99999, 20001)
    density = _density(jnp.float32(x), mean, log_std)
    density = np.exp(density - policies.log_volume(h, 1))
    np.testing.assert_allclose(np.trapezoid(density, c + h * x), 1, rtol=2e-3)
    action, log_prob = _sample(jax.random.key(0), mean, log_std, c, h)
    unit, unit_log_prob = _sample(jax.random.key(0), mean, log_std)
    np.testing.assert_allclose(action, c + h * unit, rtol=1e-6)
    np.testing.assert_allclose(log_prob, unit_log_prob - np.log(h), rtol=1e-5)


def test_the_gaussian_of_streams_has_the_density_of_its_actions():
  policy = policies.make_stream_policy(make_world(0.0, 10.0, 1), hidden=(4,))
  distribution = jnp.array([0.2]), jnp.array([-0.5])
  grid = np.linspace(-20, 35, 4001)
  log_probs, entropy = jax.jit(jax.vmap(lambda x: policy.score(distribution, x[None])))(jnp.float32(grid))
  np.testing.assert_allclose(np.trapezoid(np.exp(log_probs), grid), 1, rtol=1e-4)
  np.testing.assert_allclose(-np.trapezoid(np.exp(log_probs) * log_probs, grid), entropy[0], rtol=1e-4)
  action, log_prob = policy.sample(jnp.array([1.0]), distribution)
  np.testing.assert_allclose(action, 5 + 5 * (0.2 + np.exp(-0.5)), rtol=1e-6)
  np.testing.assert_allclose(log_prob, policy.score(distribution, action)[0], rtol=1e-5)


def off_policy_parts(method, world, **settings):
  made = method(hidden=(8,), uniform_steps=64)
  return off_policy.OffPolicyParts(
      world, instances=lambda key: (), optimizer=state_lib.make_optimizer(3e-2), num_worlds=4, num_steps=4,
      num_updates=1, batch_size=8, capacity=256, learning_starts=16, gamma=0.0, eval_worlds=4, **made, **settings)


@pytest.mark.parametrize("method", [off_policy_settings.ddpg, off_policy_settings.td3, off_policy_settings.sac])
def test_replayed_actions_reach_the_ends_of_the_box(method):
  """Uniform actions fill it, saturated ones are its corners, and what is stored lies in [-1, 1]."""
  low, high = BOXES[2]
  parts = off_policy_parts(method, make_world(low, high))
  networks = parts.networks
  output, _ = jax.jit(lambda key: networks.output(networks.init(key), (), jnp.ones(1)))(jax.random.key(0))
  sample = jax.jit(parts.policy.sample)
  draw = jax.jit(jax.vmap(parts.policy.sample, (0, None)))
  actions, _ = draw(jax.random.split(jax.random.key(1), 2000), (output, jnp.float32(1), jnp.float32(1)))
  np.testing.assert_allclose(np.min(actions, 0), low, atol=0.05)
  np.testing.assert_allclose(np.max(actions, 0), high, atol=0.05)
  for sign, corner in ((-20.0, low), (20.0, high)):
    saturated = jax.tree.map(lambda x: jnp.full_like(x, sign), output)
    saturated = jnp.tanh(saturated) if method is not off_policy_settings.sac else (saturated[0], output[1])
    action, _ = sample(jax.random.key(2), (saturated, jnp.float32(0), jnp.float32(0)))
    np.testing.assert_allclose(action, corner, atol=1e-6)
  experiment = off_policy.make_off_policy_experiment(parts)

  @jax.jit
  def run(key):
    state, _ = experiment.update(experiment.init(key))
    return parts.buffer.sample(state.replay, key).action, experiment.evaluate(state)

  stored, said = run(jax.random.key(0))
  assert np.abs(stored).max() <= 1 and np.min(stored) < -0.5 and np.max(stored) > 0.5
  assert "success" not in said


def test_the_gaussian_finds_the_end_of_the_box():
  world = make_world(0.0, 10.0, 1)
  experiment = on_policy.make_on_policy_experiment(on_policy.OnPolicyParts(
      world, policies.make_stream_policy(world, hidden=(4,)), lambda key: (), state_lib.make_optimizer(5e-2),
      num_worlds=8, num_steps=4, eval_worlds=4, **on_policy_settings.ppo(epochs=1, minibatches=1)))
  _, metrics = jax.jit(lambda key: jax.lax.scan(
      lambda s, _: experiment.update(s), experiment.init(key), None, length=60))(jax.random.key(0))
  assert metrics["reward"][0] < 6.5 and metrics["reward"][-1] > 9  # one step of a standard deviation is half the box


@pytest.mark.parametrize("low, high, message", [
    (0.0, 0.0, "action_low=0.0 must be below action_high=0.0"), (2.0, -2.0, "action_low=2.0 must be below"),
    (-np.inf, np.inf, "action_low=-inf of the world is no bound"), (0.0, float("nan"), "action_high=nan"),
    ((-1.0, 0.0, 1.0), 2.0, r"action_low of the world has shape \(3,\)")])
def test_a_box_that_is_none_is_refused(low, high, message):
  with pytest.raises(ValueError, match=message):
    off_policy_parts(off_policy_settings.sac, make_world(low, high))


def test_scales_of_zero_are_refused_and_boxes_without_bounds_only_where_they_are_needed():
  for scale in (0.0, -1.0, (1.0, 0.0)):
    with pytest.raises(ValueError, match="action_scale=.* must be above 0"):
      off_policy_parts(off_policy_settings.td3, make_world(-1.0, 1.0), action_scale=scale)
  center, half_width = policies.action_box(make_world((-np.inf, 0.0), (np.inf, 4.0)), bounded=False)
  np.testing.assert_array_equal([center, half_width], [[0, 2], [1, 2]])
  with pytest.raises(ValueError, match="no real actions"):
    policies.action_box(functools.partial(make_world, 0.0, 1.0)(size=0))
