"""Archives against dictionaries that take one candidate after the other."""

from hypothesis import given, settings
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore import diversity

C, N, D = 4, 7, 2
BOUNDS = np.float32([-1, 0]), np.float32([1, 2])
EMPTY = diversity.empty_archive(dict(w=np.zeros(3, np.float32), id=np.int32(0)), C, D)

insert = jax.jit(diversity.insert)
append = jax.jit(diversity.append, static_argnames="when_full")
nearest = jax.jit(diversity.centroid_cells)


def candidates(rng, size=N, first=0):
  """Scores and descriptors of few values, so that there are many ties; every eighth is broken in some way."""
  scores = rng.integers(-2, 3, size).astype(np.float32)
  descriptors = (rng.integers(-4, 5, (size, D)) / 4).astype(np.float32)
  scores[rng.random(size) < 0.08] = np.nan
  scores[rng.random(size) < 0.08] = -np.inf
  descriptors[rng.random(size) < 0.05, 0] = np.nan
  descriptors[rng.random(size) < 0.05, 1] = np.inf
  ids = first + np.arange(size, dtype=np.int32)
  return dict(w=rng.normal(size=(size, 3)).astype(np.float32), id=ids), descriptors, scores


def is_sound(descriptor, score, counts):
  return counts > 0 and not np.isnan(score) and np.all(np.isfinite(descriptor))


def loop_insert(cells, incumbents, genomes, descriptors, scores, mask):
  """A dictionary of the individuals in each cell."""
  table = dict(incumbents)
  for i, cell in enumerate(cells):
    if 0 <= cell < C and is_sound(descriptors[i], scores[i], mask[i]):
      if cell not in table or scores[i] > table[cell][1]:
        table[int(cell)] = genomes["id"][i], scores[i], descriptors[i], genomes["w"][i]
  return table


def check(archive, table):
  """The archive holds what the table holds, in the same cells."""
  np.testing.assert_array_equal(archive.mask, [cell in table for cell in range(C)])
  np.testing.assert_array_equal(archive.scores, [table[c][1] if c in table else -np.inf for c in range(C)])
  for cell, (who, _, descriptor, genome) in table.items():
    assert archive.genomes["id"][cell] == who
    np.testing.assert_array_equal(archive.descriptors[cell], descriptor)
    np.testing.assert_array_equal(archive.genomes["w"][cell], genome)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6))
def test_insertion_is_that_of_a_dictionary(seed):
  rng = np.random.default_rng(seed)
  archive, table = EMPTY, {}
  for turn in range(4):
    batch, mask = candidates(rng, first=turn * N), (rng.random(N) < 0.8).astype(np.float32)
    cells = rng.integers(-2, C + 2, N)
    before = {who for who, *_ in table.values()}
    archive, stored = insert(archive, cells, *batch, mask)
    table = loop_insert(cells, table, *batch, mask)
    check(archive, table)
    kept = {who for who, *_ in table.values()} - before
    np.testing.assert_array_equal(stored, [who in kept for who in batch[0]["id"]])


def loop_append(order, genomes, descriptors, scores, mask, radius, when_full):
  """A list of the individuals from the oldest to the newest; `None` is a place that nobody has yet."""
  order = list(order)
  sound = [i for i in range(N) if is_sound(descriptors[i], scores[i], mask[i])]
  entry = lambda i: (genomes["id"][i], scores[i], descriptors[i], genomes["w"][i])
  near = {}
  for i in sound:
    gaps = [np.linalg.norm(np.float64(other[2]) - descriptors[i]) for other in order]
    if gaps and radius is not None and min(gaps) < radius:
      near[i] = gaps
  rivals = list(order)
  for i, gaps in near.items():
    # of equally near ones any may be meant: the caller makes no such ties
    place = int(np.argmin(gaps))
    if scores[i] > rivals[place][1]:
      rivals[place] = entry(i)
  new = [entry(i) for i in sound if i not in near]
  return (rivals + new)[-C:] if when_full == "oldest" else (rivals + new[:C - len(rivals)])


@pytest.mark.parametrize("when_full", ["oldest", "reject"])
@pytest.mark.parametrize("radius", [None, 0.4])
def test_appending_is_that_of_a_list(radius, when_full):
  full = 0
  for seed in range(25):
    rng = np.random.default_rng(seed)
    archive, order = EMPTY, []
    for turn in range(4):
      genomes, descriptors, scores = candidates(rng, first=turn * N)
      descriptors = (descriptors + rng.normal(scale=0.01, size=(N, D))).astype(np.float32)
      mask = (rng.random(N) < 0.5).astype(np.float32)
      archive, _ = append(archive, genomes, descriptors, scores, mask, radius=radius, when_full=when_full)
      order = loop_append(order, genomes, descriptors, scores, mask, radius, when_full)
      start = int(archive.pointer) if len(order) == C else 0
      check(archive, {(start + i) % C: entry for i, entry in enumerate(order)})
    full += len(order) == C
  assert full > 10


def test_a_full_archive_keeps_the_newest_or_the_oldest():
  descriptors, scores = np.arange(6.0)[:, None], np.zeros(6)
  start = diversity.empty_archive(jnp.float32(0), 3, 1)
  newest, stored = diversity.append(start, np.arange(6.0), descriptors, scores)
  assert sorted(newest.genomes.tolist()) == [3, 4, 5] and stored.tolist() == [False] * 3 + [True] * 3
  oldest, stored = diversity.append(start, np.arange(6.0), descriptors, scores, when_full="reject")
  assert oldest.genomes.tolist() == [0, 1, 2] and stored.tolist() == [True] * 3 + [False] * 3
  assert oldest.pointer == newest.pointer == 0


def test_archives_batch_and_scan():
  rng = np.random.default_rng(0)
  genomes, descriptors, scores = jax.tree.map(lambda *x: np.stack(x), *(candidates(rng) for _ in range(6)))
  cells = rng.integers(0, C, (6, N))
  step = lambda archive, batch: diversity.insert(archive, *batch)
  scanned, _ = jax.jit(lambda batches: jax.lax.scan(step, EMPTY, batches))((cells, genomes, descriptors, scores))
  flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), (cells, genomes, descriptors, scores))
  assert_equal(scanned, insert(EMPTY, *flat)[0])
  many = jax.jit(jax.vmap(diversity.insert, (None, 0, 0, 0, 0)))(EMPTY, cells, genomes, descriptors, scores)[0]
  for i in range(6):
    one = insert(EMPTY, cells[i], *jax.tree.map(lambda x: x[i], (genomes, descriptors, scores)))[0]
    assert_equal(jax.tree.map(lambda x: x[i], many), one)


def assert_equal(a, b):
  jax.tree.map(np.testing.assert_array_equal, a, b)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 5))
def test_grid_cells_are_floors(seed, bins):
  rng = np.random.default_rng(seed)
  x = (rng.normal(size=(N, D)) * 2).astype(np.float32)
  x[0], x[1], x[2] = [np.inf, -np.inf], [np.nan, 0], BOUNDS[1]
  low, high = (np.float64(b) for b in BOUNDS)
  want = []
  for point in np.float64(x):
    cell = 0
    for axis in range(D):
      if not np.isnan(point).any():
        place = (point[axis] - low[axis]) / (high[axis] - low[axis]) * bins
        cell = cell * bins + int(np.clip(place, 0, bins - 1))
    want.append(-1 if np.isnan(point).any() else cell)
  np.testing.assert_array_equal(diversity.grid_cells(x, *BOUNDS, bins), want)


def test_outside_the_bounds_and_nan():
  x = np.array([[9, 9], [-9, 1], [np.nan, 1], [np.inf, 1], [0.5, 1.5]])
  cells = diversity.grid_cells(x, *BOUNDS, 2)
  assert cells.tolist() == [3, 1, -1, 3, 3]
  archive = diversity.empty_archive(jnp.zeros(()), 4, D)
  archive, stored = diversity.insert(archive, cells, np.arange(5.0), x, np.arange(5.0))
  assert stored.tolist() == [False, True, False, False, True]  # infinite descriptors have a cell but are not stored
  assert archive.genomes.tolist() == [0, 1, 0, 4]


@pytest.mark.parametrize("size, count, axes", [(5, 3, 1), (40, 700, 2), (1000, 50, 2), (300, 1500, 6)])
def test_nearest_centroid(size, count, axes):
  rng = np.random.default_rng(size)
  points, centroids = (rng.uniform(99, 100, (n, axes)).astype(np.float32) for n in (size, count))
  mask = (rng.random(count) < 0.8).astype(np.float32)
  mask[0] = 1
  points[-1] = np.nan
  gaps = np.linalg.norm(np.float64(points)[:, None] - centroids, axis=-1)
  gaps[:, mask == 0] = np.inf
  got = np.asarray(nearest(points, np.where(mask[:, None] > 0, centroids, np.nan), mask))
  assert got[-1] == -1
  rows = np.arange(size - 1)
  np.testing.assert_allclose(gaps[rows, got[:-1]], gaps[:-1].min(-1), rtol=1e-3, atol=1e-5)
  assert np.mean(got[:-1] == gaps[:-1].argmin(-1)) > 0.99


def test_equally_near_centroids():
  assert diversity.centroid_cells([[0.0], [2.0]], [[1.0], [-1.0], [1.0], [3.0]]).tolist() == [0, 0]


def test_cvt_centroids_are_kmeans():
  key, (low, high) = jax.random.key(3), BOUNDS
  got = np.float64(diversity.cvt_centroids(key, 6, low, high, num_samples=200, iterations=5))
  samples = np.float64(jax.random.uniform(key, (200, D)))
  centroids = samples[:6]
  for _ in range(5):
    owner = np.linalg.norm(samples[:, None] - centroids, axis=-1).argmin(-1)
    centroids = np.stack([samples[owner == c].mean(0) if (owner == c).any() else centroids[c] for c in range(6)])
  np.testing.assert_allclose(got, low + centroids * (high - low), atol=1e-5)


def test_cvt_centroids_share_the_box_evenly():
  centroids = diversity.cvt_centroids(jax.random.key(0), 20, *BOUNDS, num_samples=4000)
  points = np.random.default_rng(0).uniform(*BOUNDS, (20000, D))
  share = np.bincount(nearest(points, centroids), minlength=20) / 20000
  assert share.min() > 0.03 and share.max() < 0.08
  first = diversity.cvt_centroids(jax.random.key(0), 20, *BOUNDS, num_samples=4000, iterations=0)
  assert np.ptp(share) < np.ptp(np.bincount(nearest(points, first), minlength=20) / 20000) / 2


def test_sampling_is_uniform_over_filled_cells():
  mask = np.array([0, 1, 0, 1, 1, 0])
  cells = np.asarray(diversity.sample_cells(jax.random.key(0), mask, 6000))
  counts = np.bincount(cells, minlength=6)
  assert not counts[mask == 0].any() and np.abs(counts[mask > 0] - 2000).max() < 200
  assert diversity.sample_cells(jax.random.key(0), 0 * mask, 3).tolist() == [-1] * 3


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 1.0])
@pytest.mark.parametrize("capacity", [1, 15, 16, 17, 100, 1000])
def test_a_draw_is_the_filled_cell_of_that_rank(capacity, share):
  """Against listing the filled cells, for archives that fill their groups of cells and that do not."""
  mask = np.random.default_rng(capacity).random(capacity) < share
  mask[capacity // 2] = True
  places = jax.random.randint(jax.random.key(5), (300,), 0, mask.sum())
  cells = diversity.sample_cells(jax.random.key(5), mask, 300)
  np.testing.assert_array_equal(cells, np.flatnonzero(mask)[places])
  assert cells.dtype == np.int32


@pytest.mark.parametrize("wrong, error", [
    (lambda: diversity.grid_cells(np.zeros((1, 2)), [0, 0], [1, 1], 0), ValueError),
    (lambda: diversity.grid_cells(np.zeros((1, 9)), np.zeros(9), np.ones(9), 99), ValueError),
    (lambda: diversity.grid_cells(np.zeros(2), [0, 0], [1, 1], 3), AssertionError),
    (lambda: diversity.cvt_centroids(jax.random.key(0), 9, [0], [1], num_samples=8), ValueError),
    (lambda: diversity.centroid_cells(np.zeros((3, 2)), np.zeros((4, 3))), AssertionError),
    (lambda: diversity.append(EMPTY, {}, np.zeros((1, D)), np.zeros(1), when_full="newest"), ValueError),
    (lambda: diversity.insert(EMPTY, np.zeros(1), {}, np.zeros((1, D)), np.zeros(1)), AssertionError),
    (lambda: diversity.insert(EMPTY, np.zeros(1, int), {}, np.zeros((1, 3)), np.zeros(1)), AssertionError),
    (lambda: diversity.sample_cells(jax.random.key(0), np.zeros((2, 2)), 3), AssertionError)])
def test_bad_input(wrong, error):
  with pytest.raises(error, match="grid_cells|cvt_centroids|centroid_cells|append|insert|sample_cells"):
    wrong()
