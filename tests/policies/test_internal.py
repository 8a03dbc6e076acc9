"""Codes inside of a frozen model: what the future may reach, what is held, what is recorded, and what moves."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore.envs import pinpad
from rlcore.models import metacontroller
from rlcore.policies import controller, internal

_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # compiles faster
T, D, Z = 6, 5, 3
BASE = metacontroller.ControlledGRU(D, pinpad.NUM_ACTIONS)
META = metacontroller.Metacontroller(D, code=Z, rank=2, hidden=4)
POLICY = metacontroller.CodePolicy(Z, hidden=4)
WORLD = pinpad.make_pinpad(horizon=T)
TASK = pinpad.PinpadTask(jnp.array([0, 1]), jnp.array(6))


def _loud(params, key):
  """Draws all weights anew, so that none is 0."""
  leaves, tree = jax.tree.flatten(params)
  keys = jax.random.split(key, len(leaves))
  return tree.unflatten([0.7 * jax.random.normal(k, x.shape) for k, x in zip(keys, leaves)])


@pytest.fixture(scope="module")
def params():
  agent = internal.make_internal_agent(WORLD, BASE, META, POLICY)
  start = _jit(agent.init)(jax.random.key(0))
  quiet = POLICY.apply(start["policy"], jnp.ones((T, D)))
  np.testing.assert_array_equal(quiet[0], 0)  # it starts at N(0, I)
  np.testing.assert_array_equal(quiet[1], 0)
  return _loud(start, jax.random.key(1))


@pytest.fixture(scope="module")
def found():
  run = _jit(lambda params, *args: internal.discover(META, params, *args))
  rng = np.random.default_rng(0)
  return run, rng.normal(size=(T, D)).astype(np.float32), rng.normal(size=(T, Z)).astype(np.float32)


def _sigmoid(x):
  return 1 / (1 + np.exp(-x))


def test_a_layer_equals_a_loop_and_skips_what_is_masked():
  layer = metacontroller.GRU(4)
  rng, mask = np.random.default_rng(1), np.array([1, 1, 0, 1, 0, 0])
  inputs = rng.normal(size=(T, D)).astype(np.float32)
  weights = _loud(_jit(layer.init)(jax.random.key(0), inputs), jax.random.key(1))
  own = {name: np.asarray(x) for name, x in weights["params"].items() if name != "input"}
  kernel, bias = (np.asarray(weights["params"]["input"][name]) for name in ("kernel", "bias"))
  for reverse in (False, True):
    state, want = np.zeros(4), np.zeros((T, 4))
    for t in (reversed(range(T)) if reverse else range(T)):
      if mask[t]:
        x, h = inputs[t] @ kernel + bias, state @ own["state"]
        reset, update = _sigmoid(x[:4] + h[:4]), _sigmoid(x[4:8] + h[4:8])
        new = np.tanh(x[8:] + reset * (h[8:] + own["state_bias"]))
        state = (1 - update) * new + update * state
      want[t] = state
    junk = np.where(mask[:, None] > 0, inputs, np.nan)
    np.testing.assert_allclose(layer.apply(weights, junk, mask, reverse), want, atol=1e-5)


def test_steps_of_the_base_model_are_its_sequence(params):
  inputs = np.random.default_rng(2).normal(size=(3, WORLD.observation_size)).astype(np.float32)
  want = BASE.apply(params["base"], inputs)
  lower = upper = jnp.zeros(D)
  for t in range(3):
    lower = BASE.apply(params["base"], lower, inputs[t], method="read_step")
    upper, logits = BASE.apply(params["base"], upper, lower, method="write_step")
    np.testing.assert_allclose(logits, want[t], atol=1e-5)


def test_codes_are_held_by_the_switch_which_is_blind_to_what_follows(params, found):
  """The proposal reads the whole sequence, the switch only the codes that it holds already."""
  run, residual, noise = found
  mask = np.array([1, 1, 1, 1, 0, 0], np.float32)
  one = run(params["meta"], residual, mask, noise)
  proposed = one.mean + jnp.exp(one.log_var / 2) * noise
  held = controller.temporal_integration(proposed, one.beta, jnp.zeros(Z))
  np.testing.assert_allclose(one.code, held, atol=1e-5)
  for t in range(4):
    left, right = META.apply(params["meta"], one.code[t], method="decode")
    want = residual[t] + np.asarray(left) @ (np.asarray(right).T @ residual[t])
    np.testing.assert_allclose(one.residual[t], want, atol=1e-4)
  other = residual + np.eye(T, dtype=np.float32)[3][:, None]
  later = run(params["meta"], other, mask, noise)
  assert np.abs(later.mean[:3] - one.mean[:3]).max() > 1e-4
  np.testing.assert_allclose(later.beta[0], one.beta[0], atol=1e-6)  # the code before the first step is 0
  junk = np.where(mask[:, None] > 0, residual, np.nan)
  for a, b in zip(run(params["meta"], junk, mask, noise), one):
    np.testing.assert_array_equal(a[:4], b[:4])


@pytest.mark.parametrize("every_step", [0.0, 1.0])
def test_an_episode_records_what_its_update_reads(params, every_step):
  agent = internal.make_internal_agent(WORLD, BASE, META, POLICY, every_step=every_step)

  @_jit
  def play(params, keys):
    episodes = jax.vmap(agent.rollout, (None, 0, None))(params, keys, TASK)
    return episodes, jax.vmap(agent.score, (None, 0))(params, episodes).log_probs

  episodes, again = play(params, jax.random.split(jax.random.key(3), 32))
  info, mask = episodes.info, np.asarray(episodes.mask)
  assert 0 < mask[:, 1:].mean() < 1 and np.all(np.diff(mask) <= 0)
  hard = jax.vmap(controller.harden_switch, (0, None, 0))(info["beta"], 0.5, mask)
  np.testing.assert_array_equal(info["switch"], mask if every_step else hard)
  assert every_step or 0.05 < (info["switch"][:, 1:].sum() / mask[:, 1:].sum()) < 0.95
  np.testing.assert_allclose(episodes.log_prob_old, again * mask, atol=1e-4)
  assert not np.any(np.asarray(again)[np.asarray(info["switch"]) == 0])
  code, opened = np.asarray(info["code"]), np.asarray(info["switch"])[:, 1:] > 0
  same = np.all(code[:, 1:] == code[:, :-1], -1)
  np.testing.assert_array_equal(same[mask[:, 1:] > 0], ~opened[mask[:, 1:] > 0])
  residual = jax.vmap(lambda x: BASE.apply(params["base"], x, method="read"))(episodes.observation)
  np.testing.assert_allclose(info["residual"] * mask[..., None], residual * mask[..., None], atol=1e-5)


def test_only_the_policy_gets_a_gradient(params):
  agent = internal.make_internal_agent(WORLD, BASE, META, POLICY)
  episode = _jit(agent.rollout)(params, jax.random.key(0), TASK)
  gradient = _jit(jax.grad(lambda params: agent.score(params, episode).log_probs.sum()))(params)
  largest = {name: max(float(jnp.abs(x).max()) for x in jax.tree.leaves(part)) for name, part in gradient.items()}
  assert largest["policy"] > 0 and largest["base"] == largest["meta"] == 0


def test_a_recurrent_policy_scores_what_it_drew():
  agent = internal.make_recurrent_agent(WORLD, BASE)
  params = _loud(_jit(agent.init)(jax.random.key(0)), jax.random.key(1))
  episodes = _jit(jax.vmap(agent.rollout, (None, 0, None)))(params, jax.random.split(jax.random.key(0), 8), TASK)
  scores = _jit(jax.vmap(agent.score, (None, 0)))(params, episodes)
  np.testing.assert_allclose(scores.log_probs * episodes.mask, episodes.log_prob_old, atol=1e-5)
  assert np.any(episodes.mask[:, 1:])
