"""Settings that mean nothing: one line that names the argument, and tracers pass."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore import advantages, diversity, exploration, losses, policies, tabular
from rlcore.training import off_policy, off_policy_settings, on_policy, on_policy_settings, stream_rewards, streams
from rlcore.training import state as state_lib
from rlcore.types import Stream, World

_T, _M = np.ones(3, np.float32), np.ones((2, 3), np.float32)
_NAN = float("nan")


def _world(**changes):
  reset = lambda key, params: (jnp.ones(2), jnp.zeros((), jnp.int32))
  step = lambda key, state, action, params: (
      jnp.ones(2), state + 1, jnp.ones(()), jnp.ones((), bool), jnp.zeros((), bool), {})
  return World(reset, step, 3, 2, 4)._replace(**changes)


def _off_policy(**settings):
  world = settings.pop("world", _world())
  method = off_policy_settings.dqn(hidden=(4,))
  return off_policy.OffPolicyParts(**dict(
      dict(world=world, instances=lambda key: (), optimizer=state_lib.make_optimizer(1e-3), num_worlds=2, num_steps=2,
           batch_size=4, capacity=16, learning_starts=4), **method) | settings)


def _on_policy(**settings):
  world = settings.pop("world", _world())
  policy = settings.pop("policy", None) or policies.make_stream_policy(_world(), hidden=(4,))
  return on_policy.OnPolicyParts(**dict(
      dict(world=world, policy=policy, instances=lambda key: (), optimizer=state_lib.make_optimizer(1e-3),
           num_worlds=2, num_steps=2), **on_policy_settings.ppo(minibatches=1)) | settings)


def _bind(fn, *args, **fixed):
  return lambda **bad: fn(*args, **fixed, **bad)


CASES = [
    (_bind(advantages.gae, _T, _T), "gamma", [1.5, -0.1, _NAN, np.float32(1.5), [0.9, 1.1, 0.0]]),
    (_bind(advantages.gae, _T, _T), "lam", [1.5, -1]),
    (_bind(advantages.reward_to_go, _T), "gamma", [1.5]),
    (_bind(advantages.lambda_returns, _T, value_tp1=_T), "discount_t", [1.5]),
    (_bind(advantages.n_step_returns, _T, value_tp1=_T, n=2), "discount_t", [1.5]),
    (_bind(advantages.vtrace, _T, value_t=_T, value_tp1=_T, rho_t=_T), "discount_t", [1.5]),
    (_bind(advantages.reinforce_pp_returns, _T, _T), "gamma", [1.5]),
    (_bind(advantages.segment_rewards, _T, _T, _T), "discount", [1.5]),
    (_bind(advantages.regularized_returns, _T, _T, _T), "discount", [1.5]),
    (_bind(advantages.hierarchical_discount, _T, _T, gamma_step=0.9), "gamma_episode", [1.5]),
    (_bind(losses.clip_loss, _M, _M, _M, _M), "clip_low", [-5, -0.1, _NAN]),
    (_bind(losses.clip_loss, _M, _M, _M, _M), "clip_high", [-0.1]),
    (_bind(losses.clip_loss, _M, _M, _M, _M), "log_ratio_limits", [(1.0, -1.0)]),
    (_bind(losses.cispo_loss, _M, _M, _M, _M), "clip_high", [-0.1]),
    (_bind(losses.clipped_surrogate, _M, _M), "clip_low", [-0.1]),
    (_bind(losses.truncated_importance_weights, _M, _M, _M), "cap", [-1.0]),
    (_bind(losses.value_loss, _M, _M, _M, _M), "clip", [-0.2]),
    (_bind(losses.value_loss, _M, _M, _M), "huber_delta", [0.0, -1.0]),
    (_bind(losses.branch_grpo_loss, _M, _M, _M, _M), "clip_range", [-1e-3]),
    (_bind(losses.internal_policy_loss, _T, _T, _T, _T, _T), "clip", [-0.2]),
    (_bind(losses.aggregate, _M, _M, mode="constant"), "length", [0, -1]),
    (_bind(exploration.elliptical_bonus, _M), "ridge", [0, -1.0, _NAN]),
    (_bind(stream_rewards.episodic_elliptical, lambda step: step, 3), "ridge", [0, -1.0]),
    (_bind(stream_rewards.episodic_elliptical, lambda step: step), "size", [0, 2.0]),
    (_bind(stream_rewards.episodic_count, lambda step: step), "num_keys", [0, -1, 2.0]),
    (_bind(exploration.global_count_bonus, lambda step: step), "num_keys", [0, 2.5]),
    (_bind(exploration.hashed_keys, np.ones((2, 2), int)), "num_keys", [0, 4.0]),
    (_bind(diversity.grid_cells, _M, np.zeros(3), np.ones(3)), "bins", [0, 2.0, "3"]),
    (_bind(diversity.grid_cells, _M, high=np.zeros(3), bins=2), "low", [np.ones(3)]),
    (_bind(diversity.cvt_centroids, jax.random.key(0), 4, high=np.zeros(2)), "low", [np.ones(2)]),
    (_off_policy, "gamma", [1.5, -0.1]), (_off_policy, "target_period", [0, 1.5]), (_off_policy, "target_rate", [2, 0]),
    (_off_policy, "n", [0]), (_off_policy, "batch_size", [0]), (_off_policy, "num_worlds", [0, 2.0]),
    (_off_policy, "eval_worlds", [-1]), (_off_policy, "periods", [{"q": 0}]), (_off_policy, "optimizer", [{}]),
    (_on_policy, "gamma", [1.5]), (_on_policy, "num_worlds", [0]), (_on_policy, "epochs", [0]),
    (_on_policy, "value_clip", [-0.1]), (_on_policy, "eval_worlds", [-1]),
    (off_policy_settings.dqn, "hidden", [64, (0,), (8.0,)]), (off_policy_settings.td3, "hidden", [64]),
    (off_policy_settings.sac, "hidden", [64]), (off_policy_settings.sac, "temperature", [0.0]),
    (off_policy_settings.td3, "noise_clip", [-0.5]), (off_policy_settings.td3, "policy_period", [0]),
    (off_policy_settings.dqn, "epsilon", [(1.0, -0.1)]), (off_policy_settings.dqn, "target_period", [0]),
    (_bind(policies.make_stream_policy, _world()), "hidden", [64]),
    (_bind(policies.make_actor_critic, _world()), "hidden", [64]),
]


@pytest.mark.parametrize("fn, name, value", [(fn, name, value) for fn, name, values in CASES for value in values],
                         ids=lambda x: x if isinstance(x, str) else "")
def test_one_line_names_the_argument(fn, name, value):
  with pytest.raises(ValueError) as told:
    fn(**{name: value})
  assert name in str(told.value) and "\n" not in str(told.value)


def test_tracers_pass():
  """Also those that hold what a number may not be: they are not looked at."""
  fns = [
      lambda x: jnp.sum(advantages.gae(_T, _T, gamma=x, lam=x)[0]), lambda x: advantages.reward_to_go(_T, gamma=x)[0],
      lambda x: losses.clip_loss(_M, _M, _M, _M, clip_low=x, clip_high=x, log_ratio_limits=(-x, x))[0],
      lambda x: losses.value_loss(_M, _M, _M, _M, clip=x)[0], lambda x: exploration.elliptical_bonus(_M, ridge=x)[0],
      lambda x: losses.aggregate(_M, _M, mode="constant", length=x),
      lambda x: diversity.grid_cells(_M, jnp.zeros(3), x * jnp.ones(3), 2)[0]]
  for fn in fns:
    assert np.isfinite(jax.jit(fn)(0.5))
  assert jax.jit(lambda x: _off_policy(gamma=x, target_rate=x).gamma)(0.5) == 0.5
  assert jax.jit(lambda x: off_policy_settings.dqn(epsilon=(1.0, x))["random"](10_000))(0.5) == 0.5  # inside of a pair


@pytest.mark.parametrize("changes, error, message", [
    (dict(num_actions=0), ValueError, "num_actions=0 and action_size=0"), (dict(horizon=0), ValueError, "horizon=0"),
    (dict(action_size=2), ValueError, "num_actions=3 and action_size=2"),
    (dict(reset=lambda key, params: (jnp.ones(2), jnp.zeros(()))), TypeError, r"float32\[\] becomes")])
def test_a_world_that_cannot_be_is_refused_in_one_line(changes, error, message):
  world = _world(**changes)
  if error is TypeError:  # whose clock starts as a float and is stepped to an integer
    step = world.step
    world = world._replace(step=lambda key, state, *rest: step(key, state.astype(jnp.int32), *rest))
  with pytest.raises(error, match=message) as told:
    streams.check_world(world, lambda key: ())
  assert "\n" not in str(told.value)


def test_a_policy_with_more_actions_than_its_world_is_refused():
  wide = policies.make_stream_policy(_world(num_actions=5), hidden=(4,))
  with pytest.raises(ValueError, match="the policy has 5 actions, its world 3"):
    on_policy.init_state(_on_policy(policy=wide), jax.random.key(0))


def test_an_index_outside_of_a_table_is_nobody():
  """Not the last entry, where a negative one would wrap to, nor the nearest, where JAX would clip a large one to."""
  reward = stream_rewards.episodic_count(lambda step: step.action, 3)
  key = np.array([0, -1, 3, 2, 2, -1, 7])[:, None]
  zero = np.zeros(key.shape, np.float32)
  stream = Stream(observation=zero, action=jnp.asarray(key), reward_t=zero, discount_t=zero, log_prob_old=zero,
                  value_t=zero, value_tp1=zero, mask=zero + 1, info={}, truncated=zero > 0, next_observation=zero,
                  is_first=np.arange(7)[:, None] == 0, memory=None)
  bonus, tables = reward.apply(reward.init(jax.random.key(0), 1), stream)
  np.testing.assert_allclose(bonus[:, 0], [1, 0, 0, 1, 0.5**0.5, 0, 0], rtol=1e-6)
  np.testing.assert_array_equal(tables[0], [1, 0, 2])
  q = tabular.policy_q(np.ones((2, 2)), np.eye(2)[:, None].repeat(2, 1), np.array([0, -1]), 0.5)
  assert np.isnan(q).all()  # a solve mixes all states
