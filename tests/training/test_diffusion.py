"""Training a flow model by reward: it learns, it counts, and it survives a reward that is not a number."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore import advantages, models, policies
from rlcore.training import diffusion, loop
from rlcore.training import state as state_lib
from rlcore.types import DenoisingTask
from tests.tolerance import close

SPLITS = (0, 2)
STEPS = 4
TARGET = jnp.array([1.0, -1.0])


def make_task(score=lambda x, condition: -jnp.sum(jnp.square(x - (1 + condition) * TARGET))):
  def sample(key, size):
    return 0.3 * jax.random.normal(key, (size, 2)), jnp.arange(size) % 2

  return DenoisingTask(sample, score, lambda x, condition: {"far": jnp.max(jnp.abs(x))}, (2,), 2)


def make_parts(chains=1, splits=SPLITS, **settings):
  nodes = tuple(chains * n for n in advantages.tree_nodes_per_depth(STEPS, splits))

  def credit(rewards, log_probs, step):
    values = advantages.fuse_rewards(rewards, log_probs, nodes)
    advantage, weight = advantages.depthwise_advantage(values, nodes)
    return advantage, weight * advantages.depth_prune_mask(STEPS, (4,), step, interval=1, stop_depth=3)[:, None]

  return diffusion.DiffusionParts(**dict(
      model=models.make_velocity_mlp(2, 2, hidden=(16,), embedding=4), task=make_task(), credit=credit,
      optimizer=state_lib.make_optimizer(1e-2, max_grad_norm=None), split_steps=splits, eta=0.7, trees_per_prompt=2,
      roots=lambda key: jax.random.normal(key, (chains, 2)), sigmas=policies.sigma_schedule(STEPS, 1.0),
      gradient_steps=2, probe_samples=16, eval_samples=8, shown_samples=3,
      warmup=diffusion.FlowWarmup(50, 32, state_lib.make_optimizer(1e-2))) | settings)


@pytest.mark.parametrize("chains, splits", [(1, SPLITS), (4, ())])
def test_rewards_rise_and_evaluations_are_counted(chains, splits):
  parts = make_parts(chains, splits)
  experiment = diffusion.make_diffusion_experiment(parts)
  state, metrics = jax.jit(loop.train(experiment, 40))(jax.random.key(0))
  assert int(state.step) == 90 and int(state.skipped) == 0
  reward = np.asarray(metrics["reward"])
  assert reward[-5:].mean() > reward[:5].mean() + 1
  # The window (4,) slides to depth 3 with the second update.
  nodes = parts.nodes_per_depth
  assert nodes == ((1, 2, 2, 4, 4) if splits else (4,) * 5)
  forward = sum(nodes) if splits else sum(nodes[1:])
  np.testing.assert_allclose(metrics["evaluations"][:3], [2 * forward - nodes[4]] + [2 * forward - nodes[3]] * 2)


def test_evaluation_is_a_function_of_the_parameters_alone():
  parts = make_parts()
  params = parts.model.init(jax.random.key(0))
  first, second = (diffusion.evaluate(parts, params) for _ in range(2))
  jax.tree.map(np.testing.assert_array_equal, first, second)
  assert first["samples"].shape == (2, 3, 2) and set(first) == {"reward", "far", "samples"}
  samples = np.asarray(diffusion.sample(parts, params, jax.random.key(2**20), 8))
  expected = [-np.sum((x - (1 + c) * np.array([1, -1]))**2) for c in range(2) for x in samples[c]]
  close(first["reward"], np.mean(expected), rtol=1e-4)


def test_the_first_gradient_is_that_of_the_score_function():
  """On policy the ratio is 1: the gradient is the mean over edges of -advantage times that of the log-density."""
  parts = make_parts(credit=lambda rewards, log_probs, step: (
      jnp.broadcast_to(rewards, log_probs.shape), jnp.ones_like(log_probs)), splits=(), chains=3, trees_per_prompt=1)
  params = parts.model.init(jax.random.key(0))
  trees = jax.jit(functools.partial(diffusion.rollout, parts))(params, jax.random.key(1))
  rewards = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)
  logp_old = jnp.stack([policies.edges_to_paths(x, trees.nodes_per_depth) for x in trees.log_probs])
  batch = (trees.nodes, parts.prompts, logp_old, jnp.broadcast_to(rewards[:, None], logp_old.shape),
           jnp.ones_like(logp_old))
  got = jax.jit(jax.grad(lambda p: diffusion._loss(parts, p, batch)[0]))(params)

  def surrogate(params):
    total = 0.0
    for b in range(2):
      nodes = trees.nodes[b].reshape(STEPS + 1, 3, 2)
      for t in range(STEPS):
        sigma, sigma_next = parts.sigmas[t], parts.sigmas[t + 1]
        velocity = parts.model.velocity(params, nodes[t], jnp.full(3, sigma), b)
        mean, std = policies.flow_sde_mean_std(nodes[t], velocity, sigma, sigma_next, 0.7)
        total += jnp.sum(-0.5 * ((nodes[t + 1] - mean) / std)**2 * rewards[b][:, None])
    return -total / (2 * 3 * STEPS)

  want = jax.jit(jax.grad(surrogate))(params)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4), got, want)


def test_a_reward_that_is_no_number_moves_nothing():
  parts = dataclasses.replace(make_parts(), task=make_task(lambda x, condition: jnp.nan * x[0]), warmup=None)
  experiment = diffusion.make_diffusion_experiment(parts)
  assert experiment.warmup is None
  state = experiment.init(jax.random.key(0))
  after, metrics = jax.jit(experiment.update)(state)
  jax.tree.map(np.testing.assert_array_equal, after.params, state.params)
  assert metrics["nonfinite_reward"] == 1 and int(after.skipped) == 1
