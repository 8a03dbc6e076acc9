"""A flow model as a policy: denoising chains and trees of a stochastic sampler, and the log-probability of each step.

sigma runs from 1 (noise) to 0 (data), a point on the way is `(1 - sigma) * data + sigma * noise`, and the velocity
that a model predicts there is that of `noise - data`. `velocity` below is `(z [n, ...], sigma [n]) -> [n, ...]`, a
model bound to its parameters and to one prompt; batch over prompts by `jax.vmap`.

A tree is stored node by node: its nodes depth by depth, the children of a node side by side, so that the node of leaf l
at depth d is number l // (L / n_d) of that depth. Its shape, `advantages.tree_nodes_per_depth`, is static.
"""

from collections.abc import Callable, Sequence
import functools
import itertools
import math

import chex
from flax import struct
import jax
import jax.numpy as jnp
import numpy as np

from rlcore import advantages
from rlcore.types import Array

Velocity = Callable[[Array, Array], Array]


@struct.dataclass
class DenoisingTree:
  """What a rollout drew.

  Attributes:
    nodes: `[M, ...]` float32, M = n_0 + .. + n_N states; the L leaves come last.
    log_probs: `[M - n_0]` float32, of the edge into each node but the roots, see `gaussian_step_log_prob`.
    nodes_per_depth: n_0 .. n_N, static.
  """

  nodes: Array
  log_probs: Array
  nodes_per_depth: tuple[int, ...] = struct.field(pytree_node=False)

  @property
  def leaves(self) -> Array:
    """`[L, ...]`, the samples."""
    return self.nodes[-self.nodes_per_depth[-1]:]


def sigma_schedule(num_steps: int, shift: float | Array = 3.0) -> Array:
  """Returns N + 1 noise levels from 1 to 0, evenly spaced (`shift=1`) or gathered near the noise.

  Args:
    num_steps: N, static.
    shift: s of `s x / (1 + (s - 1) x)`.

  Returns:
    `[N + 1]` float32.

  Reference: Stable Diffusion 3, arXiv:2403.03206, eq. 23.
  """
  x = jnp.linspace(1, 0, num_steps + 1)
  return shift * x / (1 + (shift - 1) * x)


def interpolate(data: Array, noise: Array, sigma: Array) -> Array:
  """Returns the point `(1 - sigma) * data + sigma * noise` of `[B, ...]` pairs at noise levels `[B]`."""
  chex.assert_equal_shape([data, noise])
  sigma = jnp.reshape(sigma, (-1, *[1] * (jnp.ndim(data) - 1)))
  return (1 - sigma) * data + sigma * noise


def branch_noise(base: Array, innovations: Array, s: float | Array = 4.0) -> Array:
  """Draws the noise of the K children of one node: `(base + s * innovation) / sqrt(1 + s^2)`.

  Every child's noise is standard normal, so that a leaf is distributed as an ordinary sample is, whatever s;
  siblings correlate by `1 / (1 + s^2)`.

  Args:
    base: `[...]`, standard normal, shared by the siblings.
    innovations: `[K, ...]`, standard normal, one a child.
    s: strength of the branching; 0 gives twins.

  Returns:
    `[K, ...]` float32.

  Reference: BranchGRPO, arXiv:2509.06040, eq. 3 and theorem 1. The released code multiplies independent noise by its
    scale instead, which changes the distribution of the samples.
  """
  base, innovations = jnp.asarray(base, jnp.float32), jnp.asarray(innovations, jnp.float32)
  chex.assert_shape(innovations, (None, *base.shape))
  return (base + s * innovations) / jnp.sqrt(1 + jnp.square(s))


def flow_sde_mean_std(z: Array, velocity: Array, sigma: Array, sigma_next: Array, eta: float | Array) -> tuple[
    Array, Array]:
  """Computes the distribution of the next state of a stochastic sampler with the marginals of the flow.

  The step is that of the ODE, `z + (sigma_next - sigma) * velocity`, plus noise and the pull along the score that makes
  up for it. `eta=0` is the ODE.

  Args:
    z: `[...]`.
    velocity: `[...]`, predicted at z.
    sigma: scalar in (0, 1], noise level of z; 0 has no score and gets none.
    sigma_next: scalar, smaller.
    eta: strength of the noise.

  Returns:
    `(mean [...], std)`, float32; the next state is `mean + std * standard normal`.

  Reference: BranchGRPO, arXiv:2509.06040, eq. 1, as in its code; DanceGRPO, arXiv:2505.07818.
  """
  z, velocity, sigma, sigma_next, eta = (
      jnp.asarray(x).astype(jnp.float32) for x in (z, velocity, sigma, sigma_next, eta))
  chex.assert_equal_shape([z, velocity])
  chex.assert_rank([sigma, sigma_next, eta], 0)
  step = sigma_next - sigma
  noisy = sigma > 0
  # The score -(z - (1 - sigma) x0) / sigma^2 with x0 = z - sigma * velocity, one sigma cancelled.
  score = jnp.where(noisy, -(z + (1 - sigma) * velocity) / jnp.where(noisy, sigma, 1), 0)
  return z + step * velocity - 0.5 * jnp.square(eta) * score * step, eta * jnp.sqrt(-step)


def gaussian_step_log_prob(x: Array, mean: Array, std: Array) -> Array:
  """Computes the log-density of a step, averaged over its dimensions.

  Args:
    x: `[...]`, the state that was drawn.
    mean: `[...]`.
    std: scalar above 0, of every dimension.

  Returns:
    float32 scalar; times the number of dimensions it is the log-density itself.

  Reference: BranchGRPO, arXiv:2509.06040 (its code averages).
  """
  x, mean, std = (jnp.asarray(value).astype(jnp.float32) for value in (x, mean, std))
  chex.assert_equal_shape([x, mean])
  chex.assert_rank(std, 0)
  return -0.5 * jnp.mean(jnp.square((x - mean) / std)) - jnp.log(std) - 0.5 * math.log(2 * math.pi)


def tree_rollout(
    velocity: Velocity, key: Array, initial: Array, sigmas: Array, *, split_steps: Sequence[int] = (),
    branch_factor: int = 2, eta: float | Array = 0.3,
    branch: Callable[[Array, Array], Array] = branch_noise) -> DenoisingTree:
  """Denoises a tree: every root is followed, and splits into `branch_factor` children at each of the given steps.

  Special cases: without splits these are chains, of one shared noise where the roots are equal, else of their own. An
  `eta` of 0 at some steps makes those steps deterministic (BranchGRPO-Mix: noise in a window of steps and at the
  splits, log-probability 0 elsewhere); let no split be among them. The network runs once for each inner node.

  Args:
    velocity: of one prompt.
    key: PRNG key.
    initial: `[n_0, ...]`, the roots, standard normal.
    sigmas: `[N + 1]`, falling from 1.
    split_steps: steps, counted from 0; static.
    branch_factor: K, static.
    eta: strength of the noise, a scalar or `[N]`.
    branch: `(base [...], innovations [K, ...]) -> [K, ...]`, the noise of siblings.

  Returns:
    The tree.

  Reference: BranchGRPO, arXiv:2509.06040, sec. 3.2; DanceGRPO, arXiv:2505.07818 (chains of one shared noise).
  """
  initial, sigmas = jnp.asarray(initial, jnp.float32), jnp.asarray(sigmas, jnp.float32)
  num_steps = sigmas.shape[0] - 1
  etas = jnp.broadcast_to(jnp.asarray(eta, jnp.float32), num_steps)
  nodes_per_depth = tuple(
      initial.shape[0] * count for count in advantages.tree_nodes_per_depth(num_steps, split_steps, branch_factor))
  noise = _noise(key, nodes_per_depth, initial.shape[1:], set(split_steps), branch)

  def advance(z, step):
    sigma, sigma_next, eta, noise = step
    predicted = velocity(z, jnp.full(z.shape[:1], sigma))
    mean, std = flow_sde_mean_std(z, predicted, sigma, sigma_next, eta)
    mean = jnp.repeat(mean, noise.shape[0] // z.shape[0], axis=0)
    z = mean + std * noise
    return z, (z, jax.vmap(_edge_log_prob, (0, 0, None))(z, mean, std))

  z, nodes, log_probs = initial, [initial], []
  # A split changes the shapes, so it is a step of its own; what lies between two splits is one loop.
  bounds = sorted({0, num_steps, *split_steps, *(step + 1 for step in split_steps)})
  for start, stop in itertools.pairwise(bounds):
    levels = sigmas[start:stop], sigmas[start + 1:stop + 1], etas[start:stop]
    if start in split_steps:
      z, new = advance(z, (*(x[0] for x in levels), noise[start]))
    else:
      z, new = jax.lax.scan(advance, z, (*levels, jnp.stack(noise[start:stop])))
    nodes.append(new[0].reshape(-1, *z.shape[1:]))
    log_probs.append(new[1].reshape(-1))
  return DenoisingTree(jnp.concatenate(nodes), jnp.concatenate(log_probs), nodes_per_depth)


def tree_log_probs(
    velocity: Velocity, nodes: Array, sigmas: Array, nodes_per_depth: Sequence[int], *,
    eta: float | Array = 0.3) -> Array:
  """Computes the log-probability of every edge of a tree, all inner nodes in one call of the network.

  Args:
    velocity: of one prompt; what it closes over gets the gradient.
    nodes: `[M, ...]`, from a `DenoisingTree`; constants.
    sigmas: `[N + 1]`, the rollout's own.
    nodes_per_depth: n_0 .. n_N, static.
    eta: the rollout's own, a scalar or `[N]`; the edges of a step whose eta is 0 have log-probability 0.

  Returns:
    `[M - n_0]` float32, as `DenoisingTree.log_probs`.

  Reference: BranchGRPO, arXiv:2509.06040, eq. 2.
  """
  nodes, sigmas = jax.lax.stop_gradient(jnp.asarray(nodes, jnp.float32)), jnp.asarray(sigmas, jnp.float32)
  depth, parent, _ = _layout(tuple(nodes_per_depth))
  chex.assert_axis_dimension(nodes, 0, len(depth))
  chex.assert_shape(sigmas, (len(nodes_per_depth),))
  etas = jnp.broadcast_to(jnp.asarray(eta, jnp.float32), sigmas.shape[0] - 1)
  inner = nodes[:-nodes_per_depth[-1]]
  depth = depth[:inner.shape[0]]
  predicted = velocity(inner, sigmas[depth])
  mean, std = jax.vmap(flow_sde_mean_std)(inner, predicted, sigmas[depth], sigmas[depth + 1], etas[depth])
  parent = parent[nodes_per_depth[0]:]
  return jax.vmap(_edge_log_prob)(nodes[nodes_per_depth[0]:], mean[parent], std[parent])


def edges_to_paths(edge_values: Array, nodes_per_depth: Sequence[int]) -> Array:
  """Lays values of edges `[M - n_0]` out by leaf, `[N, L]` as credit and loss read: row d - 1 the edge into depth d."""
  _, _, paths = _layout(tuple(nodes_per_depth))
  chex.assert_shape(edge_values, (sum(nodes_per_depth[1:]),))
  return edge_values[paths[1:] - nodes_per_depth[0]]


def ode_sample(velocity: Velocity, initial: Array, sigmas: Array) -> Array:
  """Denoises `[n, ...]` without noise, by Euler steps along the sigmas `[N + 1]`; returns `[n, ...]` float32."""
  sigmas = jnp.asarray(sigmas, jnp.float32)
  def step(z, levels):
    sigma, sigma_next = levels
    return z + (sigma_next - sigma) * velocity(z, jnp.full(z.shape[:1], sigma)), None
  return jax.lax.scan(step, jnp.asarray(initial, jnp.float32), (sigmas[:-1], sigmas[1:]))[0]


def _noise(key: Array, nodes_per_depth: tuple[int, ...], shape: tuple[int, ...], splits: set[int],
           branch: Callable[[Array, Array], Array]) -> list[Array]:
  """Draws the noise of every step, `[n_{d + 1}, ...]` each, siblings side by side."""
  counts = [n for step, pair in enumerate(itertools.pairwise(nodes_per_depth))
            for n in (pair if step in splits else pair[1:])]
  drawn = jax.random.normal(key, (sum(counts), *shape))  # one call: the generator is slow to compile
  pieces = iter(jnp.split(drawn, np.cumsum(counts)[:-1]))
  noise = []
  for step in range(len(nodes_per_depth) - 1):
    own = next(pieces)
    if step in splits:
      base, innovations = own, next(pieces)
      own = jax.vmap(branch)(base, innovations.reshape(base.shape[0], -1, *shape)).reshape(innovations.shape)
    noise.append(own)
  return noise


def _edge_log_prob(x: Array, mean: Array, std: Array) -> Array:
  """Log-probability of a step, 0 where it is deterministic."""
  drawn = std > 0
  return jnp.where(drawn, gaussian_step_log_prob(x, mean, jnp.where(drawn, std, 1)), 0)


@functools.lru_cache
def _layout(nodes_per_depth: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Returns depth `[M]` and parent `[M]` (-1: root) of every node, and the nodes `[N + 1, L]` on each leaf's path."""
  counts = np.array(nodes_per_depth)
  starts = np.cumsum(counts) - counts
  depth = np.repeat(np.arange(len(counts)), counts)
  rank = np.arange(counts.sum()) - starts[depth]
  above = np.maximum(depth - 1, 0)
  parent = np.where(depth > 0, starts[above] + rank // (counts[depth] // counts[above]), -1)
  paths = starts[:, None] + np.arange(counts[-1]) // (counts[-1] // counts)[:, None]
  return depth, parent, paths
