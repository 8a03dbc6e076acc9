"""Denoising chains and trees against loops in float64, and the distribution of their leaves."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore import advantages, policies
from tests.tolerance import close

SPLITS = (0, 2)
STEPS = 5
SIGMAS = np.asarray(policies.sigma_schedule(STEPS, 2.0))
DATA_STD = np.array([0.4, 1.5], np.float32)


def gaussian_velocity(z, sigma):
  """E[noise - data | z] where the data are normal with mean (1, -2) and the given spread."""
  sigma = sigma[:, None]
  mean, var = jnp.array([1.0, -2.0]), DATA_STD**2
  deviation = (z - (1 - sigma) * mean) / ((1 - sigma)**2 * var + sigma**2)
  return sigma * deviation - mean - (1 - sigma) * var * deviation


def next_state(z, sigma, sigma_next, eta, noise):
  """One step from the definitions: clean estimate, score, drift, noise."""
  step = sigma_next - sigma
  v = np.asarray(gaussian_velocity(z[None], np.array([sigma])), np.float64)[0]
  clean = z - sigma * v
  score = -(z - (1 - sigma) * clean) / sigma**2
  mean, std = z + step * v - 0.5 * eta**2 * score * step, eta * np.sqrt(-step)
  return mean, std, mean + std * noise


@functools.partial(jax.jit, static_argnames=("split_steps", "branch_factor", "branch"))
def rollout(key, initial, **settings):
  return policies.tree_rollout(gaussian_velocity, key, initial, SIGMAS, **settings)


def test_sigmas_fall_from_one_to_zero():
  sigmas = np.asarray(policies.sigma_schedule(20, 3.0), np.float64)
  x = [1 - i / 20 for i in range(21)]
  close(sigmas, [3 * v / (1 + 2 * v) for v in x], rtol=1e-6)
  assert sigmas[0] == 1 and sigmas[-1] == 0 and np.all(np.diff(sigmas) < 0)
  np.testing.assert_allclose(policies.sigma_schedule(4, 1.0), [1, 0.75, 0.5, 0.25, 0])


def test_branch_noise_is_the_formula():
  base, innovations = np.array([1.0, -2.0]), np.array([[0.5, 0.0], [2.0, 1.0], [0.0, 0.0]])
  got = policies.branch_noise(base, innovations, 4.0)
  close(got, [(base + 4 * own) / 17**0.5 for own in innovations], rtol=1e-6)
  np.testing.assert_allclose(policies.branch_noise(base, innovations, 0.0), [base] * 3)
  assert policies.branch_noise(base.astype(jnp.bfloat16), innovations.astype(jnp.bfloat16)).dtype == jnp.float32
  with pytest.raises(AssertionError):
    policies.branch_noise(base, innovations[0])


def test_step_is_the_definition():
  rng = np.random.default_rng(0)
  for sigma, sigma_next, eta in ((1.0, 0.9, 0.3), (0.5, 0.4, 0.7), (0.05, 0.0, 0.3)):
    z = rng.normal(size=2)
    mean, std, _ = next_state(z, sigma, sigma_next, eta, 0.0)
    velocity = gaussian_velocity(z[None], np.array([sigma]))[0]
    got = policies.flow_sde_mean_std(z, velocity, sigma, sigma_next, eta)
    np.testing.assert_allclose(got[0], mean, rtol=1e-4, atol=1e-5)
    close(got[1], std, rtol=1e-5)
    assert got[0].dtype == got[1].dtype == jnp.float32 and std > 0


def test_no_noise_level_is_divided_by_zero():
  grad = jax.jit(jax.grad(lambda z: policies.flow_sde_mean_std(z, z, 0.0, 0.0, 0.3)[0].sum()))(jnp.ones(2))
  assert np.isfinite(grad).all()


def test_log_prob_is_the_mean_over_dimensions():
  rng = np.random.default_rng(1)
  x, mean, std = rng.normal(size=(2, 3)), rng.normal(size=(2, 3)), 0.7
  expected = np.mean(-0.5 * ((x - mean) / std)**2 - np.log(std) - 0.5 * np.log(2 * np.pi))
  assert policies.gaussian_step_log_prob(x, mean, std) == pytest.approx(expected, rel=1e-5)
  low = policies.gaussian_step_log_prob(*(jnp.asarray(v, jnp.bfloat16) for v in (x, mean, std)))
  assert low.dtype == jnp.float32


@pytest.mark.parametrize("roots, factor", [(1, 2), (2, 3)])
def test_a_tree_follows_its_nodes(roots, factor):
  """Every edge, found by walking from each leaf to its root, has the log-probability of the step between its ends."""
  tree = rollout(jax.random.key(0), jax.random.normal(jax.random.key(1), (roots, 2)), split_steps=SPLITS,
                 branch_factor=factor, eta=0.7)
  counts = [roots * n for n in advantages.tree_nodes_per_depth(STEPS, SPLITS, factor)]
  assert tree.nodes_per_depth == tuple(counts) and tree.nodes.shape == (sum(counts), 2)
  starts = [0, *itertools.accumulate(counts)]
  nodes, num_leaves = np.asarray(tree.nodes, np.float64), counts[-1]
  expected = np.zeros((STEPS, num_leaves))
  for leaf, depth in itertools.product(range(num_leaves), range(1, STEPS + 1)):
    here, above = (starts[d] + leaf // (num_leaves // counts[d]) for d in (depth, depth - 1))
    mean, std, _ = next_state(nodes[above], float(SIGMAS[depth - 1]), float(SIGMAS[depth]), 0.7, 0.0)
    density = -0.5 * ((nodes[here] - mean) / std)**2 - np.log(std) - 0.5 * np.log(2 * np.pi)
    expected[depth - 1, leaf] = density.mean()
  paths = policies.edges_to_paths(tree.log_probs, tree.nodes_per_depth)
  np.testing.assert_allclose(paths, expected, rtol=1e-3, atol=1e-3)
  again = policies.tree_log_probs(gaussian_velocity, tree.nodes, SIGMAS, tree.nodes_per_depth, eta=0.7)
  np.testing.assert_allclose(again, tree.log_probs, rtol=1e-4, atol=1e-5)
  np.testing.assert_array_equal(tree.leaves, tree.nodes[-num_leaves:])
  assert len(np.unique(np.asarray(tree.leaves), axis=0)) == num_leaves


def test_the_network_runs_once_for_each_inner_node():
  calls = []
  def counted(z, sigma):
    jax.debug.callback(lambda n: calls.append(int(n)), z.shape[0])
    return gaussian_velocity(z, sigma)
  sigmas = policies.sigma_schedule(20, 1.0)
  tree = jax.jit(lambda key: policies.tree_rollout(
      counted, key, jnp.zeros((1, 2)), sigmas, split_steps=(0, 3, 6, 9)))(jax.random.key(0))
  jax.effects_barrier()
  assert sum(calls) == 203 and len(tree.nodes) == 219
  calls.clear()
  jax.block_until_ready(jax.jit(lambda tree: policies.tree_log_probs(
      counted, tree.nodes, sigmas, tree.nodes_per_depth))(tree))
  jax.effects_barrier()
  assert calls == [203]


def test_chains_are_a_tree_without_splits():
  initial = jax.random.normal(jax.random.key(1), (4, 2))
  tree = rollout(jax.random.key(0), initial, eta=0.5)
  assert tree.nodes_per_depth == (4,) * (STEPS + 1)
  paths = np.asarray(tree.nodes).reshape(STEPS + 1, 4, 2)
  assert not np.allclose(paths[1] - paths[0], (paths[1] - paths[0])[:1])
  np.testing.assert_array_equal(policies.edges_to_paths(tree.log_probs, tree.nodes_per_depth),
                                np.asarray(tree.log_probs).reshape(STEPS, 4))


def test_steps_without_noise_are_those_of_the_ode():
  initial = jax.random.normal(jax.random.key(1), (3, 2))
  still = rollout(jax.random.key(0), initial, eta=0.0)
  close(still.leaves, policies.ode_sample(gaussian_velocity, initial, SIGMAS), rtol=1e-5)
  assert not np.any(np.asarray(still.log_probs))
  mixed = np.array([0.7, 0, 0.7, 0, 0], np.float32)
  tree = rollout(jax.random.key(0), initial, eta=mixed, split_steps=SPLITS)
  paths = policies.edges_to_paths(tree.log_probs, tree.nodes_per_depth)
  np.testing.assert_array_equal(np.any(np.asarray(paths), 1), mixed > 0)
  again = jax.jit(jax.grad(lambda shift: policies.tree_log_probs(
      lambda z, s: gaussian_velocity(z, s) + shift, tree.nodes, SIGMAS, tree.nodes_per_depth, eta=mixed).sum()))(0.0)
  assert np.isfinite(again) and again != 0


def test_interpolation_and_the_ode_reach_the_data():
  data, noise = np.array([[1.0, 2], [3, 4]]), np.array([[5.0, 6], [7, 8]])
  np.testing.assert_allclose(policies.interpolate(data, noise, np.array([0.0, 0.25])), [[1, 2], [4, 5]])
  initial = jax.random.normal(jax.random.key(0), (4000, 2))
  samples = np.asarray(policies.ode_sample(gaussian_velocity, initial, policies.sigma_schedule(100, 1.0)))
  np.testing.assert_allclose(samples.mean(0), [1, -2], atol=0.08)
  np.testing.assert_allclose(samples.std(0), DATA_STD, rtol=0.05)


def scaled_as_released(base, innovations):
  del base
  return 4.0 * innovations


def _moments(branch, splits, trees=3000):
  """Mean and second moments of the leaves with the standard errors over trees: `(values [5], errors [5])`."""
  def draw(key):
    root_key, key = jax.random.split(key)
    root = jax.random.normal(root_key, (1, 2))
    return rollout(key, root, split_steps=splits, eta=0.7, branch=branch).leaves

  leaves = np.asarray(jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(7), trees)), np.float64)
  x, y = leaves[..., 0], leaves[..., 1]
  numbers = np.stack([x, y, x * x, x * y, y * y], -1).mean(1)
  return numbers.mean(0), numbers.std(0, ddof=1) / trees**0.5


def test_leaves_are_distributed_as_ordinary_samples():
  plain, plain_error = _moments(policies.branch_noise, ())
  for branch, same in ((functools.partial(policies.branch_noise, s=4.0), True), (scaled_as_released, False)):
    values, errors = _moments(branch, (0, 1, 3))
    distance = np.abs(values - plain) / np.hypot(errors, plain_error)
    assert (distance.max() < 3) == same, distance
