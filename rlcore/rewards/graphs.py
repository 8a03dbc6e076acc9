"""A graph of visited states: how it grows, what an encoder learns of it, and rewards that it guides.

The graph is three arrays of static size: features `[N, d]`, a flag for every slot in use, counts of transitions `[N,
N]`. What stands in unused slots is never read.
"""

import jax
import jax.numpy as jnp

from rlcore import checks, stats
from rlcore.types import Array


def graph_observe(
    nodes: Array, used: Array, adjacency: Array, feature: Array, previous: Array | int, threshold: Array | float
) -> tuple[Array, Array, Array, Array]:
  """Enters a visited state into the graph, and the transition that led to it.

  The state is the nearest node if that is no further away than the threshold; else it becomes a new node in the first
  free slot; in a full graph it is the nearest node after all. A match leaves the node's feature as it is, ties go to
  the lowest index, and a state that stays the same node adds no edge.

  Args:
    nodes: `[N, d]`, features.
    used: `[N]`, > 0 where a slot holds a node.
    adjacency: `[N, N]`, symmetric counts.
    feature: `[d]`, of the state.
    previous: `[]` integer, the node that the transition came from; -1, or anything else that is no node, for none.
    threshold: Euclidean distance up to which states are one node.

  Returns:
    `(nodes, used, adjacency, index)`, dtypes as given and the node of the state, int32; no gradient flows.

  Reference: G4RL, arXiv:2511.10872, as the proposal arXiv:2512.04302 describes it; the paper replaces nodes of a full
  graph by a rule that is not published.
  """
  nodes, used, adjacency, feature, previous = map(jnp.asarray, (nodes, used, adjacency, feature, previous))
  checks.rank(2, nodes=nodes)
  _check_graph(used, adjacency=adjacency)
  checks.same_prefix(1, nodes=nodes, used=used)
  checks.shape(nodes.shape[1:], feature=feature)
  checks.rank(0, previous=previous, threshold=threshold)
  checks.integers(previous=previous)
  checks.nonempty(0, nodes=nodes)
  nodes, adjacency, feature = jax.lax.stop_gradient((nodes, adjacency, feature))
  size, taken = used.shape[0], used > 0
  apart = nodes.astype(jnp.float32) - feature.astype(jnp.float32)
  distances = jnp.where(taken, stats.euclidean_norm(apart, axis=1), jnp.inf)
  nearest = jnp.argmin(distances)
  new = ~(taken[nearest] & (distances[nearest] <= threshold)) & ~jnp.all(taken)
  index = jnp.where(new, jnp.argmin(taken), nearest).astype(jnp.int32)
  fresh = new & (jnp.arange(size) == index)
  nodes = jnp.where(fresh[:, None], feature.astype(nodes.dtype), nodes)
  adjacency = jnp.where(fresh[:, None] | fresh, 0, adjacency)  # what an unused slot held is not a count
  known = (previous >= 0) & (previous < size) & taken[jnp.clip(previous, 0, size - 1)] & (previous != index)
  ends = jnp.where(known, jnp.stack([previous, index]), size)
  adjacency = adjacency.at[ends, ends[::-1]].add(jnp.ones((), adjacency.dtype), mode="drop")
  return nodes, jnp.where(fresh, jnp.ones((), used.dtype), used), adjacency, index


def connectivity_targets(adjacency: Array, used: Array) -> Array:
  """Scales the counts of transitions to [0, 1]: what the inner product of two embeddings is to be.

  Args:
    adjacency: `[N, N]`, counts.
    used: `[N]`, > 0 where a slot holds a node.

  Returns:
    `[N, N]` float32: counts over the largest one, 1 on the diagonal, 0 in rows and columns of unused slots; without
    any edge 0 off the diagonal. No gradient flows.

  Reference: G4RL, arXiv:2511.10872.
  """
  adjacency, used = map(jnp.asarray, (adjacency, used))
  _check_graph(used, adjacency=adjacency)
  taken = used > 0
  counts = jax.lax.stop_gradient(stats.masked(adjacency, taken[:, None] & taken))
  most = jnp.max(counts, initial=0)
  scaled = jnp.where(most > 0, counts / jnp.where(most > 0, most, 1), 0)
  return jnp.where(jnp.eye(used.shape[0], dtype=bool) & taken, 1, scaled)


def graph_guided_reward(
    base_reward: Array | float, state_embedding: Array, goal_embedding: Array, coef: Array | float) -> Array:
  """Adds how well the graph connects a state with a goal.

  Both levels of a hierarchy use it: the higher one adds `e(state) . e(goal)` to the task reward of the segment, which
  pays for goals within reach; the lower one adds `e(next state) . e(goal)` to minus the distance from the goal.

  Args:
    base_reward: `[]`.
    state_embedding: `[h]`.
    goal_embedding: `[h]`.
    coef: weight, in the paper 0.1 to 1.

  Returns:
    float32[]; no gradient flows.

  Reference: G4RL, arXiv:2511.10872.
  """
  state, goal = jnp.asarray(state_embedding, jnp.float32), jnp.asarray(goal_embedding, jnp.float32)
  checks.rank(0, base_reward=base_reward)
  checks.rank(1, state_embedding=state)
  checks.same_shape(state_embedding=state, goal_embedding=goal)
  base_reward, coef = jnp.asarray(base_reward, jnp.float32), jnp.asarray(coef, jnp.float32)
  return jax.lax.stop_gradient(base_reward + coef * jnp.sum(state * goal))


def normalized_laplacian(adjacency: Array) -> Array:
  """Computes `I - D^-1/2 A D^-1/2` of a graph, with rows and columns of 0 for isolated nodes.

  Args:
    adjacency: `[n, n]`, symmetric, not negative.

  Returns:
    `[n, n]` float32, differentiable.

  Reference: F. Chung, Spectral Graph Theory (1997), sec. 1.2; for tasks: arXiv:2512.04302.
  """
  adjacency = jnp.asarray(adjacency, jnp.float32)
  checks.rank(2, adjacency=adjacency)
  checks.shape(2 * adjacency.shape[:1], adjacency=adjacency)
  degrees = jnp.sum(adjacency, 1)
  joined = degrees > 0
  scale = jnp.where(joined, jax.lax.rsqrt(jnp.where(joined, degrees, 1)), 0)
  return jnp.diag(joined.astype(jnp.float32)) - scale[:, None] * adjacency * scale


def spectral_distance(adjacency_a: Array, adjacency_b: Array, num_eigenvalues: int) -> Array:
  """Compares two graphs by the smallest eigenvalues of their normalised Laplacians.

  `exp(-distance)` may weigh what one task lends to another.

  Args:
    adjacency_a: `[n, n]`.
    adjacency_b: `[m, m]`.
    num_eigenvalues: static, how many of the smallest, at most n and m.

  Returns:
    float32[], Euclidean distance of the two sorted lists; no gradient flows.

  Raises:
    ValueError: for more eigenvalues than a graph has nodes, or fewer than 0.

  Reference: arXiv:2512.04302, part three.
  """
  laplacians = [normalized_laplacian(jax.lax.stop_gradient(jnp.asarray(x))) for x in (adjacency_a, adjacency_b)]
  sizes = [x.shape[0] for x in laplacians]
  if not 0 <= num_eigenvalues <= min(sizes):
    raise ValueError(f"num_eigenvalues={num_eigenvalues} must lie between 0 and the sizes of both graphs, {sizes}")
  a, b = (jnp.linalg.eigvalsh(x)[:num_eigenvalues] for x in laplacians)
  return stats.euclidean_norm(a - b)


def _check_graph(used: Array, **adjacency: Array):
  checks.rank(1, used=used)
  checks.shape((used.shape[0],) * 2, **adjacency)
