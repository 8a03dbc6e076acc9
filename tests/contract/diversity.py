"""Contract rows of `rlcore.diversity`; an archive travels as its arrays, an emitter as its own."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from rlcore import diversity
from tests.contract import Row

_C, _D, _G, _L, _M, _N, _P = 6, 2, 3, 30, 7, 9, 2
_NAN = np.nan


def _normal(rng, *shape):
  return rng.normal(size=shape).astype(np.float32)


def _mask(rng, size):
  mask = (rng.random(size) < 0.7).astype(np.float32)
  mask[:2] = 1
  return mask


def _references(rng):
  return _normal(rng, _D), _normal(rng, _M, _D), _mask(rng, _M)


def _rewards(rng):
  return _normal(rng, _L, _P), np.int32(rng.integers(_L - 3, _L + 1))


def _parents(rng):
  return _normal(rng, _P, _G), _normal(rng, _P), _normal(rng, 4, _G), _normal(rng, 4)


def _incumbents(rng):
  """Arrays of an archive whose first cells are filled."""
  count = rng.integers(1, _C)
  mask = (np.arange(_C) < count).astype(np.float32)
  return _normal(rng, _C, _G), _normal(rng, _C, _D), _normal(rng, _C), mask, np.int32(count)


def _candidates(rng):
  return _normal(rng, _N, _G), _normal(rng, _N, _D), _normal(rng, _N), _mask(rng, _N)


def _archive(genomes, descriptors, scores, mask, pointer):
  filled = jnp.asarray(mask) > 0
  scores = jnp.where(filled, jnp.asarray(scores, jnp.float32), -jnp.inf)
  return diversity.Archive(jnp.asarray(genomes), jnp.asarray(descriptors), scores, filled, jnp.asarray(pointer))


def _seen(archive, stored):
  """What is in an archive; 0 where nothing is."""
  show = lambda x: jnp.where(archive.mask.reshape(-1, *(1,) * (x.ndim - 1)), x, 0)
  return show(archive.genomes), show(archive.descriptors), show(archive.scores), archive.mask, archive.pointer, stored


def _finite(x):
  return jnp.where(jnp.isfinite(x), x, -1)


def _insert(*arrays):
  return _seen(*diversity.insert(_archive(*arrays[:5]), *arrays[5:]))


def _append(*arrays, **settings):
  return _seen(*diversity.append(_archive(*arrays[:5]), *arrays[5:], **settings))


def _empty(like):
  like = jnp.asarray(like)
  archive = diversity.empty_archive(like, _C, _D)
  return [getattr(archive, name) + 0 * like[0] for name in ("genomes", "descriptors", "mask", "pointer")]


def _emitter(genomes, scores, history, num_steps):
  return diversity.Emitter(jnp.asarray(genomes), jnp.asarray(scores), jnp.float32(1), jnp.asarray(history), num_steps)


def _emitter_init(genomes, scores, step_size):
  return vars(diversity.emitter_init(genomes, scores, step_size, 4))


def _emitter_update(*arrays):
  return vars(diversity.emitter_update(_emitter(*arrays[:4]), *arrays[4:]))


def _seed(fn, **settings):
  """A function of a seed in place of a key."""
  return lambda seed, *args: fn(jax.random.key(jnp.asarray(seed)), *args, **settings)


def _on_grid(rng):
  return _normal(rng, _N, _D), _mask(rng, _N), *_bounds(rng)


def _bounds(rng):
  low = rng.uniform(-2, -0.5, _D).astype(np.float32)
  return low, low + rng.uniform(1, 2, _D).astype(np.float32)


def _zeros(out):
  return not any(np.any(x) for x in jax.tree.leaves(out))


_RISING, _TWO = np.arange(60.0).reshape(30, 2), np.ones(2)
_BOX = (np.zeros(2), np.ones(2))
_EMPTY = (np.zeros((2, 1)), np.full((2, 1), _NAN), np.full(2, _NAN), np.zeros(2), np.int32(0))
_FULL = (np.array([[1.0], [2]]), np.array([[0.0], [5]]), np.array([1.0, -1]), np.ones(2), np.int32(1))
_THREE = (np.array([[3.0], [4], [5]]), np.array([[0.1], [9], [_NAN]]), np.array([1.0, -2, 3]), np.ones(3))

ROWS = [
    Row("distances", lambda *args: _finite(diversity.distances(*args)), _references, stopped=(0, 1), masked={2: (1,)},
        group=(1, 2), order="equivariant", low_precision=(0, 1),
        degenerate=(((np.zeros(2), np.array([[3.0, 4], [0, 0]])), ([5, 0],)),
                    ((np.zeros(2), np.array([[3.0, np.inf], [0, 1]]), np.array([1, 0])), ([-1, -1],)))),
    Row("novelty", functools.partial(diversity.novelty, k=3), _references, stopped=(0, 1), masked={2: (1,)},
        group=(1, 2), order="invariant", low_precision=(0, 1), degenerate=(
            ((np.zeros(2), np.full((3, 2), _NAN), np.zeros(3)), _zeros),
            ((np.zeros(2), np.ones((3, 2)), np.array([0, 1, 0])), _zeros),
            ((np.zeros(2), np.zeros((0, 2)), np.zeros(0)), _zeros),
            ((np.full(2, _NAN), np.ones((3, 2)), np.ones(3)), _zeros),
            ((np.zeros(1), np.array([[1.0], [3], [5], [_NAN]]), np.ones(4)), (4,)),
            ((np.zeros(1), np.array([[1.0], [3], [5], [6], [7]]), np.ones(5)), (14 / 3,)))),
    Row("surprise", diversity.surprise, lambda rng: (_normal(rng, 4, 4, 1), _normal(rng, 4, 4, 1)), grads=(0, 1),
        low_precision=(0, 1), degenerate=(((np.ones(3), np.ones(3)), (0,)),)),
    Row("local_competition", functools.partial(diversity.local_competition, k=3),
        lambda rng: (np.abs(_normal(rng, _N)), _normal(rng, _N), rng.integers(_N)), low_precision=(0, 1),
        degenerate=(((np.zeros(1), np.ones(1), 0), (0,)), ((np.zeros(3), np.arange(3.0), 2), (2,)),
                    ((np.zeros(6), np.arange(6.0), 5), (3,)), ((np.ones(4), np.array([_NAN, 0, _NAN, 1]), 3), (1,)),
                    ((np.array([_NAN, 0, 1, 2]), np.array([0.0, 0, 2, 1]), 0), (0,)))),
    Row("select_top", lambda scores, mask: diversity.select_top(scores, 3, mask),
        lambda rng: (_normal(rng, _N), _mask(rng, _N)), masked={1: (0,)}, group=(0, 1), order="", degenerate=(
            ((np.full(3, _NAN), np.zeros(3)), _zeros), ((np.zeros(5), np.array([0, 1, 1, 1, 1])), ([0, 1, 1, 1, 0],)),
            ((np.array([-np.inf, _NAN, 5, -np.inf]), np.array([1, 1, 0, 1])), ([1, 1, 0, 1],)),
            ((np.array([_NAN, -1.0, 1, 0]), np.ones(4)), ([0, 1, 1, 1],)), ((np.zeros(0), np.zeros(0)), _zeros))),
    Row("break_ties", _seed(diversity.break_ties), lambda rng: (rng.integers(9), _normal(rng, _N)), stopped=(1,),
        low_precision=(1,), degenerate=(
            ((0, np.zeros(0)), _zeros), ((0, np.array([2.0, _NAN, -np.inf, 3])), lambda out: list(out)[::3] == [2, 3]),
            ((0, np.zeros(4)), lambda out: sorted(out) == [0, 1, 2, 3]))),
    Row("choose_emitter", _seed(diversity.choose_emitter),
        lambda rng: (rng.integers(9), _normal(rng, _N), _normal(rng, _N), _mask(rng, _N)), masked={3: (1, 2)},
        degenerate=(((0, np.ones(3), np.ones(3), np.zeros(3)), (-1,)),
                    ((0, np.array([1.0, 2, 3]), np.array([1.0, 2, 3]), np.array([1, 1, 0])), (1,)))),
    Row("pareto_front", diversity.pareto_front, lambda rng: (_normal(rng, _N), _normal(rng, _N), _mask(rng, _N)),
        masked={2: (0, 1)}, group=(0, 1, 2), order="equivariant", degenerate=(
            ((np.full(3, _NAN), np.full(3, _NAN), np.zeros(3)), _zeros),
            ((np.ones(3), np.ones(3), np.ones(3)), (np.ones(3),)),
            ((np.array([1.0, 1, 0]), np.array([0.0, 1, 2]), np.array([1, 0, 1])), ([1, 0, 1],)),
            ((np.array([_NAN, 1.0]), np.ones(2), np.ones(2)), ([0, 1],)))),
    Row("elitist_update", diversity.elitist_update, _parents, stopped=(0, 1, 2, 3), low_precision=(1, 3), degenerate=(
        ((np.eye(2), np.zeros(2), 2 * np.eye(2), np.zeros(2)), (np.eye(2), np.zeros(2))),
        ((np.eye(2), np.array([1.0, 2]), np.zeros((0, 2)), np.zeros(0)), (np.eye(2)[::-1], [2, 1])),
        ((np.eye(2), np.zeros(2), 2 * np.eye(2), np.array([_NAN, 1])), ([[0, 2], [1, 0]], [1, 0])))),
    Row("initial_step_size", diversity.initial_step_size, lambda rng: (*_references(rng), np.float32(0.3)),
        stopped=(0, 1, 3), masked={2: (1,)}, group=(1, 2), order="invariant", low_precision=(0, 1), degenerate=(
            ((np.zeros(2), np.full((3, 2), _NAN), np.zeros(3), 0.3), (0.3,)),
            ((np.zeros(2), np.full((2, 2), _NAN), np.ones(2), 0.3), (0.3,)),
            ((np.zeros(2), np.array([[3.0, 4], [0, 0]]), np.ones(2), 0.3), (0.3,)),
            ((np.zeros(2), np.array([[3.0, 4], [0, 0]]), np.array([1, 0]), 0.3), (5 / 3,)),
            ((np.zeros(2), np.zeros((0, 2)), np.zeros(0), 0.3), (0.3,)))),
    Row("gaussian_mutation", _seed(diversity.gaussian_mutation, children=3),
        lambda rng: (rng.integers(9), _normal(rng, _P, _G), np.float32(0.1)), grads=(1,), degenerate=(
            ((0, np.array([[1.0, 9]]), 0.0), ([[1, 5]] * 3,)),
            ((0, np.array([[1.0], [-7]]), 0.0), ([[1]] * 3 + [[-5]] * 3,)))),
    Row("emitter_init", _emitter_init, lambda rng: (_normal(rng, _P, _G), _normal(rng, _P), np.float32(0.1))),
    Row("emitter_update", _emitter_update, lambda rng: (*_parents(rng)[:2], *_rewards(rng), *_parents(rng)[2:])),
    Row("emitter_improvement", diversity.emitter_improvement, _rewards, stopped=(0,), low_precision=(0,), degenerate=(
        ((np.full((4, 2), _NAN), 0), (0,)), ((np.zeros((0, 2)), 0), (0,)),
        ((np.array([[1.0], [_NAN], [_NAN]]), 1), (0,)),
        ((np.array([[1.0], [2], [_NAN]]), 2), (0,)), ((np.array([[1.0], [1], [1], [4], [_NAN]]), 4), (1,)),
        ((np.array([[4.0], [1], [1], [1], [_NAN]]), 4), (0,)), ((np.array([[0.0], [0], [0], [6]]), 99), (2,)))),
    Row("is_stagnant", functools.partial(diversity.is_stagnant, genome_size=1, window_base=5, compare=4), _rewards,
        degenerate=(
            ((_RISING, 30), (0,)), ((-_RISING, 30), (1,)), ((0 * _RISING, 16), (1,)), ((0 * _RISING, 15), (0,)),
            ((np.where(_RISING < 40, -_RISING, _NAN), 20), (1,)), ((_RISING[:15], 15), (0,)), ((-_RISING, -1), (0,)))),
    Row("coverage", functools.partial(diversity.coverage, bins=4), _on_grid, stopped=(0,), masked={1: (0,)},
        group=(0, 1), order="invariant", low_precision=(0,), degenerate=(
            ((np.full((3, 2), _NAN), np.zeros(3), *_BOX), (0,)), ((np.full((3, 2), _NAN), np.ones(3), *_BOX), (0,)),
            ((np.array([[9.0, -9], [np.inf, -np.inf], [1, 0]]), np.ones(3), *_BOX), (1 / 16,)),
            ((np.zeros((0, 2)), np.zeros(0), *_BOX), (0,)))),
    Row("path_signature", diversity.path_signature, lambda rng: (_normal(rng, _N, _D), np.float32(np.arange(_N) < 6)),
        grads=(0,), masked={1: (0,)}, low_precision=(0,), degenerate=(
            ((np.full((3, 2), _NAN), np.zeros(3)), _zeros), ((np.full((3, 2), 7.0), np.array([1, 0, 0])), _zeros),
            ((np.zeros((0, 2)), np.zeros(0)), _zeros), ((np.ones((1, 2)), np.ones(1)), _zeros))),
    Row("empty_archive", _empty, lambda rng: (_normal(rng, _G),), degenerate=(((np.ones(2),), _zeros),)),
    Row("insert", _insert, lambda rng: (*_incumbents(rng), rng.integers(-1, _C + 1, _N), *_candidates(rng)),
        stopped=(0, 1, 2, 6, 7, 8), masked={9: (5, 6, 7, 8), 3: (0, 1, 2)}, group=(5, 6, 7, 8, 9), order="",
        low_precision=(8,), degenerate=(
            ((*_EMPTY, np.array([1, 1, 0]), *_THREE), ([[0], [3]], [[0], [0.1]], [0, 1], [0, 1], 0, [1, 0, 0])),
            ((*_FULL, np.array([0, -1, 2]), *_THREE), ([[1], [2]], [[0], [5]], [1, -1], [1, 1], 1, [0, 0, 0])))),
    Row("append", _append, lambda rng: (*_incumbents(rng), *_candidates(rng)), masked={8: (5, 6, 7), 3: (0, 1, 2)},
        stopped=(0, 1, 2, 5, 6, 7), degenerate=(
            ((*_EMPTY, *_THREE), ([[3], [4]], [[0.1], [9]], [1, -2], [1, 1], 0, [1, 1, 0])),
            ((*_FULL, *_THREE), ([[4], [3]], [[9], [0.1]], [-2, 1], [1, 1], 1, [1, 1, 0])))),
    Row("append[radius=1,reject]", functools.partial(_append, radius=1.0, when_full="reject"),
        lambda rng: (*_incumbents(rng), *_candidates(rng)), masked={8: (5, 6, 7), 3: (0, 1, 2)}, degenerate=(
            ((*_EMPTY, *_THREE), ([[3], [4]], [[0.1], [9]], [1, -2], [1, 1], 0, [1, 1, 0])),
            ((*_FULL, *_THREE), ([[1], [2]], [[0], [5]], [1, -1], [1, 1], 1, [0, 0, 0])))),
    Row("grid_cells", functools.partial(diversity.grid_cells, bins=4),
        lambda rng: (_normal(rng, _N, _D), *_bounds(rng)), group=(0,), order="equivariant", degenerate=(
            ((np.array([[0, 0.3], [1, 1], [0.5, -9], [np.inf, -np.inf], [_NAN, 0]]), *_BOX), ([1, 15, 8, 12, -1],)),
            ((np.array([[3.0, 3]]), np.ones(2), np.ones(2)), ([15],)), ((np.zeros((0, 2)), *_BOX), _zeros))),
    Row("centroid_cells", diversity.centroid_cells,
        lambda rng: (_normal(rng, _N, _D), _normal(rng, _C, _D), _mask(rng, _C)), masked={2: (1,)}, group=(0,),
        order="equivariant", degenerate=(
            ((np.array([[0.0], [_NAN], [np.inf], [1]]), np.array([[1.0], [-1], [_NAN]]), np.array([1, 1, 0])),
             ([0, -1, -1, 0],)),
            ((np.zeros((2, 1)), np.full((3, 1), _NAN), np.zeros(3)), ([-1, -1],)))),
    Row("cvt_centroids", _seed(lambda key, low, high: diversity.cvt_centroids(key, 4, low, high, num_samples=50)),
        lambda rng: (rng.integers(9), *_bounds(rng))),
    Row("sample_cells", _seed(diversity.sample_cells, count=5), lambda rng: (rng.integers(9), _mask(rng, _C)),
        degenerate=(((0, np.zeros(3)), ([-1] * 5,)), ((0, np.array([0, 0, 1, 0])), ([2] * 5,)))),
]
