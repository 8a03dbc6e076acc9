"""The elliptical episodic bonus (E3B): how little of a state's features lies in the span of those seen before.

It generalises counts: with one-hot features the bonus is `1 / (ridge + earlier visits)`.
"""

import functools

import jax
from jax import lax
import jax.numpy as jnp

from rlcore import checks, stats
from rlcore.types import Array

_BLOCK = 256  # steps after which a root takes in what came since
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
  """Does what `elliptical_inverse_update` does, on a root S of the inverse covariance `S S'` (Carlson).

  A root needs half of the digits: the bonus is never negative and the inverse never loses its sign. An upper triangular
  root stays one, and so every direction keeps digits of its own: one that a long feature has made small is not spoilt
  by the others. What is left is that float32 cannot take a millionth off a number: repeats of one long feature are 1 %
  off after some 20,000 steps and 10 to 50 % after a million. Where as many are possible, keep two roots
  (`elliptical_pair_update`). The price beside the inverse is a running sum over `[D, D]`.

  Args:
    root: `[D, D]`; `eye / sqrt(ridge)` where an episode begins.
    feature: `[D]`.

  Returns:
    `(bonus [], new root [D, D])`, float32; no gradient flows.

  Reference: E3B, arXiv:2210.05805; the triangular square-root filter of Carlson, 1973.
  """
  root, feature = _matrix_and_feature(root=root, feature=feature)
  a = jnp.matmul(feature, root, precision=_EXACT)
  squares = jnp.square(a)
  after = 1 + jnp.cumsum(squares)
  before = _later(after, 1)
  # The factor of a column is sqrt(before / after); what it takes off is computed itself, for it may be tiny.
  shrink = squares / after / (1 + jnp.sqrt(before / after))
  earlier = _later(jnp.cumsum(root * a, 1), 0)
  return jnp.sum(squares), root - (root * shrink + earlier * (a / jnp.sqrt(before * after)))


def elliptical_pair_update(root: Array, since: Array, feature: Array) -> tuple[Array, Array]:
  """Does what `elliptical_root_update` does, on the root `root @ since` whose first factor stands still.

  The second factor starts from the identity, where a step is no smaller than what float32 can tell; multiply the two
  every hundred steps or so and start it anew: a million repeats of one long feature stay within 1 %. A step costs one
  more product of a matrix with a vector, a multiplication of the two factors D of them.

  Args:
    root: `[D, D]`, upper triangular; `eye / sqrt(ridge)` where an episode begins.
    since: `[D, D]`, what came since; `eye` where an episode begins and after `root` has taken it in.
    feature: `[D]`.

  Returns:
    `(bonus [], new since [D, D])`, float32; no gradient flows.

  Reference: E3B, arXiv:2210.05805; the triangular square-root filter of Carlson, 1973.
  """
  root, feature = _matrix_and_feature(root=root, feature=feature)
  return elliptical_root_update(since, jnp.matmul(feature, root, precision=_EXACT))


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
  since = jnp.eye(width, dtype=jnp.float32) + varies

  def step(root, since, feature):
    bonus, since = elliptical_pair_update(root, since, feature)  # a feature of 0 changes nothing
    return since, bonus

  def block(root, features):
    after, bonus = lax.scan(functools.partial(step, root), since, features)
    return jnp.matmul(root, after, precision=_EXACT), bonus

  rows = max(min(length, _BLOCK), 1)
  blocks = jnp.pad(features, ((0, -length % rows), (0, 0))).reshape(-(-length // rows), rows, width)
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


def _later(sums: Array, start: float) -> Array:
  """Moves running sums along the last axis by one place, so that each is of what comes before it."""
  return jnp.concatenate([jnp.full_like(sums[..., :1], start), sums[..., :-1]], -1)
