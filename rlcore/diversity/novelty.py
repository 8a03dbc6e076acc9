"""How different a behaviour is from others: novelty, surprise and the competition among neighbours."""

import jax
import jax.numpy as jnp

from rlcore import checks
from rlcore import stats
from rlcore.types import Array


def distances(point: Array, others: Array, mask: Array | None = None) -> Array:
  """Measures the Euclidean distance of a point to each of the others.

  Args:
    point: `[D]`.
    others: `[M, D]`.
    mask: `[M]`, > 0 where one counts; None counts all.

  Returns:
    `[M]` float32, inf for those that do not count or whose distance is not finite; no gradient flows.

  Reference: novelty search and emitters, arXiv:2203.01027.
  """
  point, others = jnp.asarray(point), jnp.asarray(others)
  checks.rank(1, point=point, mask=mask)
  checks.rank(2, others=others)
  checks.shape((others.shape[0], point.shape[0]), others=others)
  checks.same_prefix(1, others=others, mask=mask)
  keep = stats.as_mask(mask, jnp.zeros(others.shape[0]))
  # Axes of the space first: over many points the sum is then one pass along the others, not many short ones.
  difference = stats.masked(others, keep[:, None]).T - point.astype(jnp.float32)[:, None]
  length = stats.euclidean_norm(difference, axis=0)
  return jax.lax.stop_gradient(jnp.where(keep & jnp.isfinite(length), length, jnp.inf))


def novelty(descriptor: Array, reference: Array, ref_mask: Array, k: int = 15) -> Array:
  """Averages the distances of a behaviour to its k nearest references after the closest one.

  The closest reference is taken to be the behaviour itself and is dropped, also where it is another (the released code
  does so too). A descriptor that is not finite is near nobody, so its novelty is 0.

  Args:
    descriptor: `[D]`.
    reference: `[M, D]`: population, offspring and archive, the behaviour itself among them.
    ref_mask: `[M]`, > 0 where a reference counts; those with a descriptor that is not finite do not.
    k: static, number of neighbours; where there are fewer, their mean.

  Returns:
    float32[], 0 where no more than one reference counts; no gradient flows.

  Reference: TAXONS, SERENE and STAX, arXiv:2203.01027, novelty.
  """
  near = distances(descriptor, reference, ref_mask)
  near = -jax.lax.top_k(-near, min(k + 1, near.shape[0]))[0]
  others = jnp.arange(near.shape[0]) > 0  # cut off by a slice, the closest one would cost XLA a sort of all references
  return stats.masked_mean(near, others & jnp.isfinite(near))


def surprise(observation: Array, reconstruction: Array) -> Array:
  """Averages the squared error of an auto-encoder's reconstruction.

  Args:
    observation: `[...]`, any shape.
    reconstruction: `[...]`, the same shape.

  Returns:
    float32[], differentiable in both.

  Reference: TAXONS, arXiv:2203.01027, surprise.
  """
  observation, reconstruction = jnp.asarray(observation), jnp.asarray(reconstruction)
  checks.same_shape(observation=observation, reconstruction=reconstruction)
  return stats.masked_mean(jnp.square(observation.astype(jnp.float32) - reconstruction.astype(jnp.float32)))


def local_competition(distances: Array, rewards: Array, own_index: Array, k: int) -> Array:
  """Counts those among the k nearest others that have less reward.

  Args:
    distances: `[N]`, of the individual to all, itself included; ties go to the lower index, NaN is farthest.
    rewards: `[N]`; NaN is less than nothing, and nothing is less than it.
    own_index: integer scalar, which of them the individual is; its own distance is not read.
    k: static, number of neighbours; where there are fewer, all of them.

  Returns:
    int32[].

  Reference: novelty search with local competition, the baseline in arXiv:2203.01027.
  """
  distances, rewards = jnp.asarray(distances), jnp.asarray(rewards)
  checks.rank(1, distances=distances, rewards=rewards)
  checks.rank(0, own_index=own_index)
  checks.same_shape(distances=distances, rewards=rewards)
  checks.nonempty(0, rewards=rewards)
  own = jnp.arange(rewards.shape[0]) == own_index
  order = jnp.lexsort((jnp.where(own, 0, distances), own))  # the last key sorts first: the individual itself is last
  neighbours = order[:max(min(k, rewards.shape[0] - 1), 0)]
  return jnp.sum(rewards[neighbours] < rewards[own_index], dtype=jnp.int32)
