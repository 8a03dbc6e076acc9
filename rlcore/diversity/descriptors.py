"""What a trajectory is described by, and how much of the space of descriptions is covered."""

import jax
import jax.numpy as jnp

from rlcore import checks
from rlcore import stats
from rlcore.diversity.archives import grid_cells
from rlcore.types import Array


def coverage(descriptors: Array, mask: Array, low: Array, high: Array, bins: int) -> Array:
  """Computes the share of a grid's cells in which some descriptor falls.

  Args:
    descriptors: `[N, D]`; outside the bounds, infinite ones too, they fall in the cell at the edge, with a NaN in none.
    mask: `[N]`, > 0 where one counts.
    low: `[D]`, lower bounds.
    high: `[D]`, upper bounds.
    bins: static, cells per axis.

  Returns:
    float32[], filled cells over `bins ** D`; no gradient flows.

  Raises:
    ValueError: for a grid without cells, or with more than an int32 can count.

  Reference: coverage of the behaviour space, arXiv:2203.01027.
  """
  descriptors, mask = jnp.asarray(descriptors), jnp.asarray(mask)
  checks.rank(2, descriptors=descriptors)
  checks.rank(1, mask=mask)
  checks.same_prefix(1, descriptors=descriptors, mask=mask)
  size = bins ** descriptors.shape[1]
  cells = grid_cells(stats.masked(descriptors, mask[:, None]), low, high, bins)
  cells = jnp.where((mask > 0) & (cells >= 0), cells, size)
  return jnp.mean(jnp.zeros(size, jnp.float32).at[cells].set(1, mode="drop"))


def path_signature(path: Array, mask: Array) -> Array:
  """Computes the first two levels of the signature of a piecewise linear path.

  Level 1 is the displacement; entry (i, j) of level 2 is the integral of the displacement so far along axis i over the
  path's movement along axis j. Append a time channel to `path` to tell apart paths that differ only in their pace.

  Args:
    path: `[T, D]`.
    mask: `[T]`, > 0 on the points of the path; padding is a suffix.

  Returns:
    `[D + D * D]` float32, level 1, then level 2 row by row; zeros for fewer than two points. Differentiable in `path`.

  Reference: descriptors of whole trajectories, arXiv:2203.01027.
  """
  path, mask = jnp.asarray(path), jnp.asarray(mask)
  checks.rank(2, path=path)
  checks.rank(1, mask=mask)
  checks.same_prefix(1, path=path, mask=mask)
  keep = mask > 0
  path = stats.masked(path, keep[:, None])
  step = stats.masked(path[1:] - path[:-1], (keep[1:] & keep[:-1])[:, None])
  middle = (path[:-1] + path[1:]) / 2 - path[:1]  # where there is no step this is junk times 0
  areas = jnp.einsum("ti,tj->ij", middle, step, precision=jax.lax.Precision.HIGHEST)
  return jnp.concatenate([jnp.sum(step, 0), areas.reshape(-1)])
