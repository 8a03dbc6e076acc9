"""Archives of fixed capacity: grid, centroids (CVT) and unstructured, one record and one way in.

An archive is C cells of at most one individual each. What makes it a grid, a tessellation or a plain buffer is only the
function that says which cell a candidate asks for; `insert` then settles a whole batch at once:

  grid          insert(archive, grid_cells(descriptors, low, high, bins), genomes, descriptors, scores)
  centroids     insert(archive, centroid_cells(descriptors, centroids), genomes, descriptors, scores)
  unstructured  append(archive, genomes, descriptors, scores), which finds the cells and calls `insert`

Descriptors outside the bounds of a grid belong to the cell at its edge, those outside the region of the centroids to
the nearest one. A candidate whose descriptor is not finite or whose score is NaN is never stored.
"""

import functools
from typing import Literal

from flax import struct
import jax
import jax.numpy as jnp
import numpy as np

from rlcore import checks
from rlcore import stats
from rlcore.types import Array, PyTree

_CHUNK, _BLOCK = 1024, 128  # descriptors and centroids whose distances are alive at a time: half a MB, a core's cache
_GROUP = 16  # cells whose filled ones are counted together
_MAX_CELLS = 2**31 - 1


@struct.dataclass
class Archive:
  """C cells with at most one individual each; `mask` says which are real, the rest is junk.

  Attributes:
    genomes: pytree of `[C, ...]`.
    descriptors: `[C, D]` float32.
    scores: `[C]` float32, -inf in empty cells.
    mask: `[C]` bool, True where a cell is filled.
    pointer: int32[], the cell where `append` goes on writing; 0 for the other archives.
  """

  genomes: PyTree
  descriptors: Array
  scores: Array
  mask: Array
  pointer: Array


def empty_archive(genome: PyTree, capacity: int, descriptor_size: int) -> Archive:
  """Makes an archive without individuals.

  Args:
    genome: pytree of arrays, one genome; only shapes and dtypes are read.
    capacity: static, C; `bins ** D` for a grid.
    descriptor_size: static, D.

  Returns:
    The archive.

  Reference: MAP-Elites, arXiv:1504.04909; archives of fixed capacity are this library's own.
  """
  genomes = jax.tree.map(lambda x: jnp.zeros((capacity, *jnp.shape(x)), jnp.asarray(x).dtype), genome)
  descriptors = jnp.zeros((capacity, descriptor_size), jnp.float32)
  scores = jnp.full(capacity, -jnp.inf, jnp.float32)
  return Archive(genomes, descriptors, scores, jnp.zeros(capacity, bool), jnp.int32(0))


def insert(
    archive: Archive, cells: Array, genomes: PyTree, descriptors: Array, scores: Array,
    mask: Array | None = None) -> tuple[Archive, Array]:
  """Lets a batch of candidates compete for their cells, all at once.

  The best of a cell's candidates takes it if the cell is empty or if it beats who is there. Ties go to who is there,
  then to the earlier candidate, so the outcome is that of adding the candidates one after the other.

  Args:
    archive: of C cells.
    cells: `[N]` integers, the cell each candidate asks for; outside 0..C-1 it gets none.
    genomes: pytree of `[N, ...]`.
    descriptors: `[N, D]`; one that is not finite is not stored.
    scores: `[N]`; NaN is not stored.
    mask: `[N]`, > 0 where a candidate counts; None counts all.

  Returns:
    The archive, and `[N]` bool, True where a candidate was stored. No gradient flows.

  Reference: MAP-Elites, arXiv:1504.04909.
  """
  cells, descriptors, scores, valid = _candidates(archive, descriptors, scores, mask, cells)
  archive = jax.lax.stop_gradient(archive)
  capacity, size = archive.scores.shape[0], scores.shape[0]
  cells = jnp.where(valid & (cells >= 0) & (cells < capacity), cells, capacity)
  there = cells < capacity
  old = archive.scores.at[cells].get(mode="fill", fill_value=jnp.inf)
  filled = archive.mask.at[cells].get(mode="fill", fill_value=True)
  contender = there & (~filled | (scores > old))
  spots = jnp.where(contender, cells, capacity)
  best = archive.scores.at[spots].max(scores, mode="drop")
  contender &= scores == best.at[cells].get(mode="fill", fill_value=jnp.nan)
  order = jnp.arange(size, dtype=jnp.int32)
  spots = jnp.where(contender, cells, capacity)
  earliest = jnp.full(capacity, size, jnp.int32).at[spots].min(order, mode="drop")
  stored = contender & (order == earliest.at[cells].get(mode="fill", fill_value=size))
  spots = jnp.where(stored, cells, capacity)
  write = lambda kept, new: kept.at[spots].set(jax.lax.stop_gradient(jnp.asarray(new).astype(kept.dtype)), mode="drop")
  return archive.replace(
      genomes=jax.tree.map(write, archive.genomes, genomes), descriptors=write(archive.descriptors, descriptors),
      scores=best, mask=archive.mask.at[spots].set(True, mode="drop")), stored


def append(
    archive: Archive, genomes: PyTree, descriptors: Array, scores: Array, mask: Array | None = None, *,
    radius: float | Array | None = None, when_full: Literal["oldest", "reject"] = "oldest") -> tuple[Archive, Array]:
  """Adds a batch of candidates to an unstructured archive.

  Without a `radius` every candidate is new and gets the next cell, whatever its score: the buffer of novelty search.
  With one, a candidate nearer than that to a filled cell competes for the nearest such cell, as in `insert`, and only
  the others are new. Candidates are compared with the archive as it was, not with one another.

  Where no cell is empty, "oldest" overwrites the cells that were written first, so that the last C new candidates are
  kept (those that competed for an overwritten cell are lost with it); "reject" drops the new candidates that find no
  room. An archive that is filled by `append` must not be filled by `insert` too.

  Args:
    archive: of C cells.
    genomes: pytree of `[N, ...]`.
    descriptors: `[N, D]`; one that is not finite is not stored.
    scores: `[N]`; NaN is not stored.
    mask: `[N]`, > 0 where a candidate counts; None counts all.
    radius: scalar, the least distance between new and old; None for none.
    when_full: static, what happens to new candidates of a full archive.

  Returns:
    The archive, and `[N]` bool, True where a candidate was stored. No gradient flows.

  Raises:
    ValueError: for an unknown `when_full`.

  Reference: archive of novelty search, arXiv:2203.01027; a minimum distance as in AURORA, arXiv:1905.11874.
  """
  if when_full not in ("oldest", "reject"):
    raise ValueError(f'append: when_full={when_full!r} is neither "oldest" nor "reject"')
  _, descriptors, scores, valid = _candidates(archive, descriptors, scores, mask)
  capacity = archive.scores.shape[0]
  nearest = jnp.full(scores.shape[0], capacity, jnp.int32)
  new = valid
  if radius is not None:
    cells = centroid_cells(descriptors, archive.descriptors, archive.mask)
    gap = stats.euclidean_norm(archive.descriptors[cells] - descriptors, axis=-1)
    close = valid & (cells >= 0) & (gap < radius)
    nearest, new = jnp.where(close, cells, capacity), valid & ~close
  rank = jnp.cumsum(new) - 1
  total = jnp.sum(new, dtype=jnp.int32)
  room = capacity - jnp.sum(archive.mask, dtype=jnp.int32)
  taken = new & ((rank < room) if when_full == "reject" else (rank >= total - capacity))
  cells = jnp.where(taken, (archive.pointer + rank) % capacity, capacity)
  empty = archive.mask.at[cells].set(False, mode="drop")
  nearest = jnp.where(empty.at[nearest].get(mode="fill", fill_value=False), nearest, capacity)
  moved = jnp.minimum(total, room) if when_full == "reject" else total
  archive = archive.replace(
      mask=empty, scores=archive.scores.at[cells].set(-jnp.inf, mode="drop"),
      pointer=(archive.pointer + moved) % capacity)
  return insert(archive, jnp.where(taken, cells, nearest), genomes, descriptors, scores, mask)


def _candidates(archive, descriptors, scores, mask, cells=None):
  """Checks a batch; returns cells, descriptors and scores, junk replaced, and which candidates may be stored."""
  checks.nonempty(0, **{"archive.scores": archive.scores})
  checks.same_shape(**{"archive.scores": archive.scores, "archive.mask": archive.mask})
  descriptors, scores = jnp.asarray(descriptors), jnp.asarray(scores)
  cells = cells if cells is None else jnp.asarray(cells)
  checks.rank(1, scores=scores, cells=cells, mask=mask)
  checks.shape((scores.shape[0], archive.descriptors.shape[1]), descriptors=descriptors)
  checks.same_shape(scores=scores, cells=cells, mask=mask)
  if cells is not None:
    checks.integers(cells=cells)
  descriptors, scores = jax.lax.stop_gradient((descriptors.astype(jnp.float32), scores.astype(jnp.float32)))
  valid = stats.as_mask(mask, scores) & ~jnp.isnan(scores) & jnp.all(jnp.isfinite(descriptors), -1)
  return cells, stats.masked(descriptors, valid[:, None]), jnp.where(valid, scores, -jnp.inf), valid


def grid_cells(descriptors: Array, low: Array, high: Array, bins: int) -> Array:
  """Finds the cells of a regular grid.

  Args:
    descriptors: `[N, D]`; outside the bounds, infinite ones too, they belong to the cell at the edge.
    low: `[D]`, lower bounds.
    high: `[D]`, upper bounds; what lies on them belongs to the last cell.
    bins: static, cells per axis, `bins ** D` in all; the last axis counts fastest.

  Returns:
    `[N]` int32, -1 for a descriptor with a NaN.

  Raises:
    ValueError: for bins that are no whole number above 0, more cells than an int32 can count, or a lower bound above
      the upper one.

  Reference: MAP-Elites, arXiv:1504.04909.
  """
  _check_bounds(low, high)
  descriptors, low, high = map(jnp.asarray, (descriptors, low, high))
  checks.rank(2, descriptors=descriptors)
  checks.shape(descriptors.shape[1:], low=low, high=high)
  axes = descriptors.shape[1]
  checks.whole(1, bins=bins)
  if bins ** axes > _MAX_CELLS:
    raise ValueError(f"grid_cells: {bins} bins on {axes} axes are no grid of 1 to {_MAX_CELLS} cells")
  descriptors, low, high = (x.astype(jnp.float32) for x in (descriptors, low, high))
  width = jnp.where(high > low, high - low, 1)
  place = jnp.floor((descriptors - low) / width * bins)
  place = jnp.clip(jnp.where(jnp.isnan(place), 0, place), 0, bins - 1).astype(jnp.int32)
  cells = functools.reduce(lambda index, axis: index * bins + place[:, axis], range(axes), jnp.int32(0))
  return jnp.where(jnp.any(jnp.isnan(descriptors), -1), -1, cells)


def _check_bounds(low: Array, high: Array):
  """Refuses a box one of whose lower bounds is above the upper one; equal ones are an axis without width."""
  known = checks.known(low) and checks.known(high) and np.shape(low) == np.shape(high)
  if known and np.any(np.asarray(low) > np.asarray(high)):
    raise ValueError(f"low={np.asarray(low).tolist()} must not be above high={np.asarray(high).tolist()}")


def centroid_cells(descriptors: Array, centroids: Array, mask: Array | None = None) -> Array:
  """Finds the nearest centroid of each descriptor.

  Squared distances are expanded, so that matrix products give them, block by block. Centroids whose distances differ by
  less than float32 rounding are as near as each other.

  Args:
    descriptors: `[N, D]`.
    centroids: `[C, D]`; of equally near ones the lower index.
    mask: `[C]`, > 0 where a centroid counts; None counts all.

  Returns:
    `[N]` int32, -1 for a descriptor that is not finite, and for all where no centroid counts.

  Reference: CVT-MAP-Elites, arXiv:1610.05729.
  """
  descriptors, centroids = jnp.asarray(descriptors), jnp.asarray(centroids)
  checks.rank(2, descriptors=descriptors, centroids=centroids)
  checks.shape((centroids.shape[0], descriptors.shape[1]), centroids=centroids)
  checks.shape((centroids.shape[0],), mask=mask)
  keep = stats.as_mask(mask, jnp.zeros(centroids.shape[0]))
  rows = stats.as_mask(keep[:, None], centroids)
  centroids = stats.masked(centroids, rows)
  middle = stats.masked_mean(centroids, rows, axis=0)  # differences are small beside far-away coordinates
  centroids = stats.masked(centroids - middle, rows)
  finite = jnp.all(jnp.isfinite(descriptors), -1)
  points = stats.masked(descriptors - middle, finite[:, None])
  penalty = jnp.where(keep, jnp.sum(jnp.square(centroids), -1) / 2, jnp.inf)

  (size, axes), count = points.shape, centroids.shape[0]
  if not count:
    return jnp.full(size, -1, jnp.int32)
  blocks = (jnp.pad(centroids, ((0, -count % _BLOCK), (0, 0))).reshape(-(-count // _BLOCK), _BLOCK, axes),
            jnp.pad(penalty, (0, -count % _BLOCK), constant_values=jnp.inf).reshape(-1, _BLOCK),
            jnp.arange(0, count, _BLOCK, dtype=jnp.int32))

  def nearest(points):
    def look(block):
      members, penalties, first = block
      closeness = jnp.matmul(points, members.T, precision=jax.lax.Precision.HIGHEST) - penalties
      # A maximum and then its place: on a CPU an argmax takes five times as long, for it is not vectorised.
      best = jnp.max(closeness, -1)
      place = jnp.min(jnp.where(closeness >= best[:, None], jnp.arange(_BLOCK, dtype=jnp.int32), _BLOCK), -1)
      return best, first + place

    def compare(carry, block):
      (best, cells), (nearer, place) = carry, look(block)
      return (jnp.where(nearer > best, nearer, best), jnp.where(nearer > best, place, cells)), None

    first, others = (jax.tree.map(lambda x, cut=cut: x[cut], blocks) for cut in (0, slice(1, None)))
    return jax.lax.scan(compare, look(first), others)[0][1]

  if size <= _CHUNK:
    cells = nearest(points)
  else:
    chunks = jnp.pad(points, ((0, -size % _CHUNK), (0, 0))).reshape(-(-size // _CHUNK), _CHUNK, axes)
    cells = jax.lax.map(nearest, chunks).reshape(-1)[:size]
  return jnp.where(finite & jnp.any(keep), cells, -1)


def cvt_centroids(
    key: Array, num_centroids: int, low: Array, high: Array, *, num_samples: int = 25_000,
    iterations: int = 20) -> Array:
  """Spreads centroids evenly over a box: k-means on uniform samples.

  The first samples are the first centroids; a centroid that is nearest to no sample stays where it is.

  Args:
    key: PRNG key.
    num_centroids: static, C.
    low: `[D]`, lower bounds.
    high: `[D]`, upper bounds.
    num_samples: static, at least C; several times C for an even spread.
    iterations: static, rounds of Lloyd's algorithm.

  Returns:
    `[C, D]` float32.

  Raises:
    ValueError: for fewer samples than centroids.

  Reference: CVT-MAP-Elites, arXiv:1610.05729, algorithm 1.
  """
  if not 1 <= num_centroids <= num_samples:
    raise ValueError(f"cvt_centroids: num_centroids={num_centroids} is not in 1..num_samples={num_samples}")
  checks.whole(1, num_centroids=num_centroids, num_samples=num_samples)
  _check_bounds(low, high)
  low, high = jnp.asarray(low).astype(jnp.float32), jnp.asarray(high).astype(jnp.float32)
  checks.rank(1, low=low)
  checks.same_shape(low=low, high=high)
  # Of the unit cube: axes weigh the same.
  samples = jax.random.uniform(jnp.asarray(key), (num_samples, low.shape[0]), jnp.float32)

  def improve(centroids, _):
    cells = centroid_cells(samples, centroids)
    count = jnp.zeros(num_centroids, jnp.float32).at[cells].add(1)[:, None]
    total = jnp.zeros_like(centroids).at[cells].add(samples)
    return jnp.where(count > 0, total / jnp.maximum(count, 1), centroids), None

  centroids, _ = jax.lax.scan(improve, samples[:num_centroids], length=iterations)
  return low + centroids * (high - low)


def sample_cells(key: Array, mask: Array, count: int) -> Array:
  """Draws filled cells uniformly, with replacement.

  Args:
    key: PRNG key.
    mask: `[C]`, > 0 where a cell is filled: an archive's `mask`, or part of it.
    count: static, how many.

  Returns:
    `[count]` int32, -1 where no cell is filled.

  Reference: uniform selection of MAP-Elites, arXiv:1504.04909.
  """
  mask = jnp.asarray(mask)
  checks.rank(1, mask=mask)
  # Which group holds the n-th filled cell, then which cell of the group: a running sum over all cells takes an archive
  # of 10,000 four times as long.
  length = mask.shape[0]
  groups = max(-(-length // _GROUP), 1)
  filled = jnp.pad(mask > 0, (0, groups * _GROUP - length)).reshape(groups, _GROUP)
  counts = jnp.sum(filled, 1, dtype=jnp.int32)
  ends = jnp.cumsum(counts)
  total = ends[-1]
  place = jax.random.randint(jnp.asarray(key), (count,), 0, jnp.maximum(total, 1))
  group = jnp.minimum(jnp.searchsorted(ends, place, side="right"), groups - 1)
  upto = jnp.triu(jnp.ones((_GROUP, _GROUP), jnp.float32))
  inside = filled[group].astype(jnp.float32) @ upto  # filled cells up to each
  rest = place - (ends - counts)[group]
  cells = group * _GROUP + jnp.sum(inside <= rest[:, None], 1)
  return jnp.where(total > 0, cells, -1).astype(jnp.int32)
