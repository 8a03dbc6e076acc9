"""The elliptical episodic bonus (E3B): how little of a state's features lies in the span of those seen before.

It generalises counts: with one-hot features the bonus is `1 / (ridge + earlier visits)`.
"""

import jax
from jax import lax
import jax.numpy as jnp

from rlcore import checks, stats
from rlcore.types import Array

_EXACT = lax.Precision.HIGHEST  # what accelerators multiply by default has too few digits to be subtracted


def elliptical_inverse_update(cov_inverse: Array, feature: Array) -> tuple[Array, Array]:
  """Scores one state by the inverse covariance of the earlier ones, and takes it in (Sherman and Morrison).

  `bonus = f' P f` and `P <- P - u u' / (1 + bonus)` with `u = P f`; a symmetric matrix stays symmetric to the last
  digit. In float32 what is left of a direction that was just seen has a relative error of about
  `1e-7 * f'f / ridge`; where that can exceed 1e-3 use `elliptical_root_update`.

  Args:
    cov_inverse: `[D, D]`, symmetric; `eye / ridge` where an episode begins.
    feature: `[D]`.

  Returns:
    `(bonus [], new inverse [D, D])`, float32; no gradient flows (features are trained by another loss).

  Reference: E3B, arXiv:2210.05805; A Study of Global and Episodic Bonuses, arXiv:2306.03236.
  """
  cov_inverse, feature = _matrix_and_feature(cov_inverse=cov_inverse, feature=feature)
  u = jnp.matmul(cov_inverse, feature, precision=_EXACT)
  bonus = jnp.dot(feature, u, precision=_EXACT)
  v = u / jnp.sqrt(1 + bonus)
  return bonus, cov_inverse - v[:, None] * v[None, :]


def elliptical_root_update(root: Array, feature: Array) -> tuple[Array, Array]:
  """Does what `elliptical_inverse_update` does, on a root S of the inverse covariance `S S'` (Potter).

  A root needs half of the digits: the bonus is never negative and the inverse never loses its sign, however often a
  long feature is repeated. The price is a third product of a matrix with a vector.

  Args:
    root: `[D, D]`; `eye / sqrt(ridge)` where an episode begins.
    feature: `[D]`.

  Returns:
    `(bonus [], new root [D, D])`, float32; no gradient flows.

  Reference: E3B, arXiv:2210.05805; the square-root filter of Potter, 1963.
  """
  root, feature = _matrix_and_feature(root=root, feature=feature)
  a = jnp.matmul(feature, root, precision=_EXACT)
  bonus = jnp.dot(a, a, precision=_EXACT)
  grown = jnp.sqrt(1 + bonus)
  u = jnp.matmul(root, a, precision=_EXACT) / (grown * (grown + 1))
  return bonus, root - u[:, None] * a[None, :]


def elliptical_bonus(
    features: Array, mask: Array | None = None, ridge: Array | float = 0.1, zero_first: bool = False) -> Array:
  """Pays every step of one episode `f' C^-1 f`, where C is `ridge * eye` plus `f f'` of the counted steps before it.

  Args:
    features: `[T, D]`, of the state in which each action is taken (the bonus goes with the transition).
    mask: `[T]`, 1 where a step counts; None counts all. Masked steps neither score nor update.
    ridge: above 0.
    zero_first: static, whether the first counted step gets 0, as in the released code; it updates all the same.

  Returns:
    `[T]` float32, 0 in masked places; no gradient flows. From a counted feature that is not finite on, no bonus of
    the episode is.

  Raises:
    ValueError: for a `ridge` that is not above 0; a traced one makes the bonuses NaN.

  Reference: E3B, arXiv:2210.05805; A Study of Global and Episodic Bonuses, arXiv:2306.03236 (its code).
  """
  if isinstance(ridge, (int, float)) and not ridge > 0:
    raise ValueError(f"ridge={ridge} must be above 0: without it the first covariance has no inverse")
  features = jnp.asarray(features)
  checks.rank(2, features=features)
  checks.rank(0, ridge=ridge)
  checks.rank(1, mask=mask)
  checks.same_prefix(1, features=features, mask=mask)
  length, width = features.shape
  keep = stats.as_mask(mask, jnp.zeros(length))
  features = stats.masked(features, keep[:, None])
  ridge = jnp.asarray(ridge, jnp.float32)

  def step(root, feature):
    bonus, root = elliptical_root_update(root, feature)  # a feature of 0 changes nothing
    return root, bonus

  start = jnp.eye(width) / jnp.sqrt(jnp.where(ridge > 0, ridge, jnp.nan))
  start += jnp.sum(jnp.where(features == 0, 0.0, 0.0))  # under shard_map a scan's carry must vary as its inputs do
  bonus = lax.scan(step, start, features)[1]
  if zero_first:
    keep &= jnp.cumsum(keep) > 1
  return stats.masked(bonus, keep)


def _matrix_and_feature(**arrays: Array) -> tuple[Array, Array]:
  """Checks a square matrix and a vector that fits, and returns both in float32 without gradient."""
  (name, matrix), (_, feature) = ((name, jnp.asarray(x)) for name, x in arrays.items())
  checks.rank(1, feature=feature)
  checks.shape((feature.shape[0],) * 2, **{name: matrix})
  return tuple(lax.stop_gradient(x).astype(jnp.float32) for x in (matrix, feature))
