"""Losses that draw a prediction to what it should match: a generative model to its data, embeddings to a graph, guesses
to what was done."""

import jax
import jax.numpy as jnp

from rlcore import checks, stats
from rlcore.types import Array


def flow_matching_loss(velocity: Array, data: Array, noise: Array, mask: Array | None = None) -> Array:
  """Averages the squared distance of a predicted velocity from that of the straight path, `noise - data`.

  The prediction belongs to the point `(1 - sigma) * data + sigma * noise` (`policies.interpolate`).

  Args:
    velocity: `[B, ...]`, predicted; differentiable.
    data: `[B, ...]`.
    noise: `[B, ...]`, standard normal.
    mask: `[B]` or None, > 0 where an example counts.

  Returns:
    float32 scalar, the mean over examples and dimensions; 0 where nothing counts.

  Reference: Flow Matching, arXiv:2210.02747, eq. 23; Rectified Flow, arXiv:2209.03003, eq. 1.
  """
  velocity, data, noise = map(jnp.asarray, (velocity, data, noise))
  checks.same_shape(velocity=velocity, data=data, noise=noise)
  checks.rank(1, mask=mask)
  checks.same_prefix(1, velocity=velocity, mask=mask)
  keep = None if mask is None else jnp.asarray(mask).reshape(velocity.shape[0], *[1] * (jnp.ndim(velocity) - 1))
  as_kept = lambda x: stats.masked(x, keep)
  target = jax.lax.stop_gradient(as_kept(noise) - as_kept(data))
  return stats.masked_mean(jnp.square(as_kept(velocity) - target), stats.as_mask(keep, velocity))


def connectivity_loss(embeddings: Array, targets: Array, used: Array) -> Array:
  """Averages the squared distance of the inner products of embeddings from their targets.

  Args:
    embeddings: `[N, h]`, of the nodes of a graph; differentiable.
    targets: `[N, N]`, from `rewards.connectivity_targets`; constants.
    used: `[N]`, > 0 where a slot holds a node.

  Returns:
    float32 scalar, the mean over ordered pairs of used nodes, a node with itself included; 0 for an empty graph.

  Reference: G4RL, arXiv:2511.10872.
  """
  embeddings, targets, used = map(jnp.asarray, (embeddings, targets, used))
  checks.rank(2, embeddings=embeddings)
  checks.rank(1, used=used)
  checks.same_prefix(1, embeddings=embeddings, used=used)
  checks.shape(2 * used.shape, targets=targets)
  taken = used > 0
  pairs = taken[:, None] & taken
  embeddings = stats.masked(embeddings, taken[:, None])
  products = jnp.matmul(embeddings, embeddings.T, precision="highest")
  return stats.masked_mean(jnp.square(products - jax.lax.stop_gradient(stats.masked(targets, pairs))), pairs)


def team_predictability_loss(predicted: Array, actual: Array, mask: Array) -> Array:
  """Averages the squared error of what agents guess of each other's actions.

  The gradient reaches both sides: who predicts learns to predict, who is predicted learns to be predictable.

  Args:
    predicted: `[T, N, N, A]`, agent i's guess of the action of agent j at place `[t, i, j]`; i = j is not read.
    actual: `[T, N, A]`, actions, or the probabilities of actions.
    mask: `[T]`, > 0 where a step counts.

  Returns:
    float32 scalar, the mean over counted steps, ordered pairs of agents and A; 0 where nothing counts and for an agent
    alone.

  Reference: TeamReg, arXiv:1908.02269, here with a mean over A.
  """
  predicted, actual, mask = map(jnp.asarray, (predicted, actual, mask))
  checks.rank(3, actual=actual)
  steps, agents, size = actual.shape
  checks.shape((steps, agents, agents, size), predicted=predicted)
  checks.shape((steps,), mask=mask)
  keep = (mask > 0)[:, None, None, None] & ~jnp.eye(agents, dtype=bool)[:, :, None]
  error = predicted.astype(jnp.float32) - actual[:, None].astype(jnp.float32)
  keep = stats.as_mask(keep, error)
  return stats.masked_mean(jnp.square(stats.masked(error, keep)), keep)
