"""Novelty, selection, emitters and descriptors against float64 NumPy, and the spec's worked example."""

import functools

from hypothesis import given, settings
from hypothesis import strategies as st
import jax
import numpy as np
import pytest

from rlcore import diversity
from tests.tolerance import close

D, G, L, M, N, P = 2, 5, 40, 6, 7, 2
REFERENCES = np.float32([[0, 0], [1, 0], [0, 2], [3, 4]])
REWARDS = np.float32([[.1, .1], [.1, .3], [.2, .2], [.5, .3], [.6, .4], [.7, .5]])

cases = functools.partial(given, st.integers(0, 10**6))
novelty = jax.jit(diversity.novelty, static_argnames="k")
select_top = jax.jit(diversity.select_top, static_argnums=1)
pareto_front = jax.jit(diversity.pareto_front)
elitist_update = jax.jit(diversity.elitist_update)
local_competition = jax.jit(diversity.local_competition, static_argnums=3)
step_size = jax.jit(diversity.initial_step_size)
improvement = jax.jit(diversity.emitter_improvement, static_argnames="window")
is_stagnant = jax.jit(diversity.is_stagnant, static_argnums=(2, 3, 4))
coverage = jax.jit(diversity.coverage, static_argnames="bins")
path_signature = jax.jit(diversity.path_signature)


def drawn(seed, *shape):
  """A generator, a mask and integers from a small range, so that there are ties; masked places are NaN."""
  rng = np.random.default_rng(seed)
  mask = (rng.random(shape[0]) < 0.7).astype(np.float32)
  values = rng.integers(-2, 3, shape).astype(np.float32)
  values[mask == 0] = np.nan
  return rng, mask, values


@settings(max_examples=60, deadline=None)
@cases()
def test_novelty(seed):
  rng, mask, reference = drawn(seed, M, D)
  point, k = rng.integers(-2, 3, D).astype(np.float32), int(rng.integers(1, 4))
  gaps = sorted(np.linalg.norm(np.float64(r) - point) for r, m in zip(reference, mask) if m)
  want = np.mean(gaps[1:k + 1]) if len(gaps) > 1 else 0
  close(novelty(point, reference, mask, k=k), want, rtol=1e-6)


@settings(max_examples=60, deadline=None)
@cases()
def test_selection(seed):
  rng, mask, scores = drawn(seed, N)
  n = int(rng.integers(1, 4))
  best = sorted((i for i in range(N) if mask[i]), key=lambda i: (-scores[i], i))[:n]
  np.testing.assert_array_equal(select_top(scores, n, mask), [i in best for i in range(N)])
  other = rng.integers(-2, 3, N).astype(np.float32)
  both = list(zip(scores, other))
  beats = lambda j, i: scores[j] >= scores[i] and other[j] >= other[i] and both[j] != both[i]
  front = [mask[i] and not any(mask[j] and beats(j, i) for j in range(N)) for i in range(N)]
  np.testing.assert_array_equal(pareto_front(scores, other, mask), front)


@settings(max_examples=60, deadline=None)
@cases()
def test_elitist_update(seed):
  rng = np.random.default_rng(seed)
  genomes, scores = rng.normal(size=(P + N, G)).astype(np.float32), rng.integers(-2, 3, P + N).astype(np.float32)
  scores[P] = np.nan
  best = sorted(range(P + N), key=lambda i: (np.isnan(scores[i]), -np.nan_to_num(scores[i]), i))[:P]
  got = elitist_update(genomes[:P], scores[:P], genomes[P:], scores[P:])
  np.testing.assert_array_equal(got[0], genomes[best])
  np.testing.assert_array_equal(got[1], scores[best])


@settings(max_examples=60, deadline=None)
@cases()
def test_local_competition(seed):
  rng = np.random.default_rng(seed)
  distances, rewards = rng.integers(0, 3, N).astype(np.float32), rng.integers(0, 3, N).astype(np.float32)
  own, k = int(rng.integers(N)), int(rng.integers(1, 9))
  near = sorted((i for i in range(N) if i != own), key=lambda i: (distances[i], i))[:k]
  assert local_competition(distances, rewards, own, k) == sum(rewards[i] < rewards[own] for i in near)


@settings(max_examples=60, deadline=None)
@cases()
def test_initial_step_size(seed):
  rng, mask, others = drawn(seed, M, D)
  genome = rng.integers(-2, 3, D).astype(np.float32)
  gaps = [np.linalg.norm(np.float64(o) - genome) for o, m in zip(others, mask) if m]
  want = min(gaps) / 3 if gaps and min(gaps) > 0 else 0.3
  close(step_size(genome, others, mask, 0.3), want, rtol=1e-6)


@settings(max_examples=60, deadline=None)
@cases()
def test_improvement_and_stagnation(seed):
  rng = np.random.default_rng(seed)
  steps, window = int(rng.integers(0, L + 1)), int(rng.integers(1, 5))
  # whole numbers: equal medians are then equal in every precision
  values = rng.integers(0, 4, (L, P)) + (rng.integers(-1, 2) * np.arange(L)[:, None]) // 5
  real = np.float64(values[:steps])
  values = np.where(np.arange(L)[:, None] < steps, values, np.nan).astype(np.float32)
  want = max(real[-window:].mean() - real[:window].mean(), 0) if steps else 0
  np.testing.assert_allclose(improvement(values, steps, window=window), want, rtol=1e-5, atol=1e-6)
  compare = (1, 4, 7)[seed % 3]
  bottom = 20 * 1 // P + 3
  want = 0
  if steps > bottom:
    first, last = real[steps - bottom:][:compare], real[steps - compare:]
    want = np.median(first) >= np.median(last) or first.max() >= last.max()
  assert is_stagnant(values, steps, 1, 3, compare) == want


@settings(max_examples=40, deadline=None)
@cases()
def test_coverage(seed):
  rng, mask, x = drawn(seed, N, D)
  x = x + rng.normal(size=x.shape).astype(np.float32)
  low, high = np.float64([-1, -2]), np.float64([2, 1.5])
  place = lambda p: tuple(int(c) for c in np.clip(np.floor((p - low) / (high - low) * 3), 0, 2))
  want = len({place(np.float64(p)) for p, m in zip(x, mask) if m}) / 9
  close(coverage(x, mask, low, high, bins=3), want, rtol=1e-6)


@settings(max_examples=40, deadline=None)
@cases(st.integers(0, N))
def test_path_signature(seed, count):
  rng = np.random.default_rng(seed)
  path = rng.normal(size=(N, D)).astype(np.float32)
  path[count:] = np.nan
  points, areas = np.float64(path[:count]), np.zeros((D, D))
  for t in range(count - 1):
    dx = points[t + 1] - points[t]
    areas += np.outer(points[t] - points[0], dx) + 0.5 * np.outer(dx, dx)
  ends = points[-1] - points[0] if count > 1 else np.zeros(D)
  want = np.concatenate([ends, areas.reshape(-1)])
  np.testing.assert_allclose(path_signature(path, np.arange(N) < count), want, rtol=1e-4, atol=1e-5)


def test_surprise():
  a, b = np.random.default_rng(0).normal(size=(2, 4, 3)).astype(np.float32)
  close(diversity.surprise(a, b), np.mean((np.float64(a) - b)**2), rtol=1e-6)


def test_worked_example():
  got = jax.vmap(lambda x: novelty(x, REFERENCES, np.ones(4), k=2))(REFERENCES)
  np.testing.assert_allclose(got, [1.5, 1.618034, 2.118034, 4.038844], rtol=1e-6)
  np.testing.assert_allclose(improvement(REWARDS, 6), 0.333333, rtol=1e-5)
  assert pareto_front(np.array([1, 2, 3, 1]), np.array([3, 2, 1, 1]), np.ones(4)).tolist() == [1, 1, 1, 0]
  signature = path_signature(np.float32([[0, 0], [1, 0], [1, 1]]), np.ones(3))
  np.testing.assert_allclose(signature, [1, 1, 0.5, 1, 0, 0.5])
  np.testing.assert_allclose(step_size(np.zeros(2), np.float32([[3, 4], [0.6, 0]]), np.ones(2), 0.3), 0.2, rtol=1e-6)


def test_shuffle_of_two_paths_is_the_signatures_product():
  """Chen's identity, which no formula above was derived from: the signature of a path from those of its halves."""
  path = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32)
  whole, first, second = (np.float64(path_signature(p, np.ones(len(p)))) for p in (path, path[:5], path[4:]))
  np.testing.assert_allclose(whole[:3], first[:3] + second[:3], atol=1e-5)
  np.testing.assert_allclose(whole[3:], first[3:] + second[3:] + np.outer(first[:3], second[:3]).reshape(-1), atol=1e-5)


def test_mutations_are_gaussian_and_bounded():
  genomes = np.float32([[0, 4.9, -9]])
  children = np.asarray(diversity.gaussian_mutation(jax.random.key(0), genomes, 0.5, children=4000))
  assert children.shape == (4000, 3) and children.max() == 5 and children.min() == -5
  np.testing.assert_allclose([children[:, 0].mean(), children[:, 0].std()], [0, 0.5], atol=0.03)
  assert len(np.unique(children[:, 0])) > 3900


def test_an_emitter_climbs_and_records():
  goal = np.float32([1, -2, 0.5])
  reward = lambda genomes: -jax.numpy.sum((genomes - goal)**2, -1)

  def step(carry, key):
    emitter = carry
    children = diversity.gaussian_mutation(key, emitter.genomes, emitter.step_size)
    emitter = diversity.emitter_update(emitter, children, reward(children))
    return emitter, (emitter.scores, diversity.is_stagnant(emitter.history, emitter.num_steps, 3, 20, 5))

  first = diversity.gaussian_mutation(jax.random.key(0), np.zeros((1, 3), np.float32), 0.3, children=6)
  emitter = diversity.emitter_init(first, reward(first), 0.3, 50)
  emitter, (scores, stagnant) = jax.jit(functools.partial(jax.lax.scan, step))(
      emitter, jax.random.split(jax.random.key(1), 60))
  assert emitter.num_steps == 50
  np.testing.assert_array_equal(emitter.history[0], reward(first))
  np.testing.assert_array_equal(emitter.history[1:], scores[:49])  # the last populations were not recorded any more
  assert (np.diff(scores, axis=0) >= 0).all() and scores[-1, 0] > -0.05
  assert diversity.emitter_improvement(emitter.history, emitter.num_steps) > 1
  assert not stagnant[:25].any()  # 20 * 3 // 6 + 20 = 30 rows are looked at


@pytest.mark.parametrize("wrong", [
    lambda: diversity.novelty(np.zeros(2), np.zeros((3, 1)), np.ones(3), 2),
    lambda: diversity.novelty(np.zeros((4, 2)), np.zeros((3, 2)), np.ones(3), 2),
    lambda: diversity.surprise(np.zeros(2), np.zeros(3)),
    lambda: diversity.select_top(np.zeros((2, 2)), 1, np.zeros((2, 2))),
    lambda: diversity.pareto_front(np.zeros(2), np.zeros(3), np.zeros(2)),
    lambda: diversity.elitist_update(np.zeros((2, 2)), np.zeros(2), np.zeros((2, 3)), np.zeros(2)),
    lambda: diversity.initial_step_size(np.zeros(2), np.zeros((3, 2)), np.ones(4), 0.3),
    lambda: diversity.emitter_improvement(np.zeros(3), 2),
    lambda: diversity.is_stagnant(np.zeros((3, 2)), np.zeros(2), 4),
    lambda: diversity.local_competition(np.zeros(3), np.zeros(2), 0, 1),
    lambda: diversity.coverage(np.zeros((3, 2)), np.ones(2), np.zeros(2), np.ones(2), 3),
    lambda: diversity.path_signature(np.zeros(3), np.ones(3))])
def test_a_forgotten_vmap_fails(wrong):
  with pytest.raises(AssertionError, match="^diversity.[a-z_]+: [a-z_]+ has"):
    wrong()


def test_ties_are_broken_evenly_and_ranks_are_kept():
  scores = np.array([0.0, 1, 0, 2, 0])
  ranks = np.array(jax.jit(jax.vmap(lambda key: diversity.break_ties(key, scores)))(
      jax.random.split(jax.random.key(0), 3000)))
  assert (ranks[:, 1] == 3).all() and (ranks[:, 3] == 4).all()
  for tied in (0, 2, 4):
    np.testing.assert_allclose(np.bincount(ranks[:, tied].astype(int)) / 3000, [1 / 3] * 3, atol=0.04)


def test_an_emitter_is_chosen_evenly_from_the_front():
  novelty, improvement = np.array([1.0, 2, 3, 1, 9]), np.array([3.0, 2, 1, 1, 9])
  chosen = np.array(jax.jit(jax.vmap(lambda key: diversity.choose_emitter(key, novelty, improvement, [1, 1, 1, 1, 0])))(
      jax.random.split(jax.random.key(0), 3000)))
  np.testing.assert_allclose(np.bincount(chosen, minlength=5) / 3000, [1 / 3, 1 / 3, 1 / 3, 0, 0], atol=0.04)


def test_records_survive_with_their_genomes():
  record = lambda count, shift: {"genome": 10.0 * np.arange(count)[:, None] + shift, "place": np.arange(count) + shift}
  parents, children = record(2, 0), record(3, 5)
  kept, scores = diversity.elitist_update(parents, np.array([1.0, 4]), children, np.array([3.0, 9, 1]))
  np.testing.assert_array_equal(scores, [9, 4])
  np.testing.assert_array_equal(kept["genome"], [[15], [10]])
  np.testing.assert_array_equal(kept["place"], [6, 1])
  with pytest.raises(AssertionError, match="elitist_update: child_genomes has shape"):
    diversity.elitist_update(parents, np.zeros(2), children | {"place": np.zeros(2)}, np.zeros(3))
