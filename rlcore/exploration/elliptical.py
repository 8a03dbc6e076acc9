"""The elliptical episodic bonus (E3B): how little of a state's features lies in the span of those seen before.

It generalises counts: with one-hot features the bonus is `1 / (ridge + earlier visits)`.
"""

import functools

from jax import lax
import jax.numpy as jnp

from rlcore import checks, stats
from rlcore.types import Array

_BLOCK = 128  # steps after which a root takes in what came since
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

  A root needs half of the digits: the bonus is never negative and the inverse never loses its sign. Float32 cannot take
  a millionth off a number, though: repeats of one long feature (`f'f / ridge` of 1e3) are 1 % off after some 1,000
  steps, and wrong after 100,000. Where as many are possible keep two factors, see `elliptical_pair_update`. The price
  beside the inverse is a third product of a matrix with a vector.

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


def elliptical_pair_update(root: Array, since: Array, feature: Array) -> tuple[Array, Array]:
  """Does what `elliptical_root_update` does, on the root `root @ since` whose first factor stands still.

  The second factor starts from the identity, where no step is smaller than what float32 can tell. Join the two every
  hundred steps or so (`elliptical_join`): a million repeats of one long feature then stay within 1 %. A step costs one
  more product of a matrix with a vector.

  Args:
    root: `[D, D]`; `eye / sqrt(ridge)` where an episode begins.
    since: `[D, D]`, what came since; `eye` where an episode begins and after a join.
    feature: `[D]`.

  Returns:
    `(bonus [], new since [D, D])`, float32; no gradient flows.

  Reference: E3B, arXiv:2210.05805; the square-root filter of Potter, 1963.
  """
  root, feature = _matrix_and_feature(root=root, feature=feature)
  return elliptical_root_update(since, jnp.matmul(feature, root, precision=_EXACT))


def elliptical_join(root: Array, since: Array) -> Array:
  """Multiplies the two factors of a root; an upper triangular one stays upper triangular.

  A root may be turned from the right. In the triangular one every direction keeps digits of its own: what a long
  feature has made small is not spoilt by the others, and is left as it is where nothing new was seen. The cost is that
  of a Cholesky and a QR decomposition, D^3.

  Args:
    root: `[D, D]`, upper triangular, as it is at the start.
    since: `[D, D]`, of `elliptical_pair_update`.

  Returns:
    `[D, D]` float32; no gradient flows. Not finite if `since` is not.

  Reference: the triangular square-root filter of Carlson, 1973.
  """
  root, since = (lax.stop_gradient(jnp.asarray(x)).astype(jnp.float32) for x in (root, since))
  checks.rank(2, root=root)
  checks.shape((root.shape[0],) * 2, root=root, since=since)
  flip = lambda x: x[::-1, ::-1]  # turns lower triangles into upper ones
  inverse = jnp.matmul(since, since.T, precision=_EXACT)
  # Where little came the one decomposition changes nothing at all, where much came the other is exact enough.
  little = jnp.sum(1 - jnp.diagonal(inverse)) < 0.5
  identity = jnp.eye(root.shape[0], dtype=jnp.float32)
  upper = jnp.where(
      little, flip(jnp.linalg.cholesky(flip(jnp.where(little, inverse, identity)))),
      flip(jnp.linalg.qr(since[::-1].T, mode="r").T))
  return jnp.matmul(root, jnp.where(jnp.all(jnp.isfinite(since)), upper, jnp.nan), precision=_EXACT)


def elliptical_bonus(
    features: Array, mask: Array | None = None, ridge: Array | float = 0.1, zero_first: bool = False) -> Array:
  """Pays every step of one episode `f' C^-1 f`, where C is `ridge * eye` plus `f f'` of the counted steps before it.

  An episode of more than 128 steps is scanned in blocks whose roots are joined, for two to three times the time of a
  step (CPU, 16 episodes of 200 steps in 16 and 64 dimensions); a shorter one needs no second factor.

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
  features = jnp.asarray(features)
  checks.rank(2, features=features)
  checks.rank(0, ridge=ridge)
  checks.rank(1, mask=mask)
  checks.same_prefix(1, features=features, mask=mask)
  checks.above(0, ridge=ridge)
  length, width = features.shape
  keep = stats.as_mask(mask, jnp.zeros(length))
  features = stats.masked(features, keep[:, None])
  ridge = jnp.asarray(ridge, jnp.float32)

  start = jnp.eye(width, dtype=jnp.float32) / jnp.sqrt(jnp.where(ridge > 0, ridge, jnp.nan))
  varies = jnp.sum(jnp.where(features == 0, features, 0))  # 0; under shard_map a carry must vary as the inputs do

  def step(root, feature):
    return elliptical_root_update(root, feature)[::-1]  # a feature of 0 changes nothing

  def step_of_pair(root, since, feature):
    return elliptical_pair_update(root, since, feature)[::-1]

  def block(root, features):
    since = jnp.eye(width, dtype=jnp.float32) + varies
    since, bonus = lax.scan(functools.partial(step_of_pair, root), since, features)
    return elliptical_join(root, since), bonus

  if length <= _BLOCK or not width:
    bonus = lax.scan(step, start + varies, features)[1]
  else:
    blocks = jnp.pad(features, ((0, -length % _BLOCK), (0, 0))).reshape(-1, _BLOCK, width)
    bonus = lax.scan(block, start + varies, blocks)[1].reshape(-1)[:length]
  if zero_first:
    keep &= jnp.cumsum(keep) > 1
  return stats.masked(bonus, keep)


def _matrix_and_feature(**arrays: Array) -> tuple[Array, Array]:
  """Checks a square matrix and a vector that fits, and returns both in float32 without gradient."""
  (name, matrix), (_, feature) = ((name, jnp.asarray(x)) for name, x in arrays.items())
  checks.rank(1, feature=feature)
  checks.shape((feature.shape[0],) * 2, **{name: matrix})
  return tuple(lax.stop_gradient(x).astype(jnp.float32) for x in (matrix, feature))
