"""The decoy grid against a walk written with coordinates, and its two heuristics."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore.envs import decoy_grid

_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # compiles faster
SIZE, HORIZON = 5, 25
WORLD = decoy_grid.make_decoy_grid()
MOVES = {0: (-1, 0), 1: (1, 0), 2: (0, -1), 3: (0, 1)}


def heuristic(slip=0.0, progress=0.1, decoy=0.3):
  return decoy_grid.Heuristic(*map(jnp.float32, (slip, progress, decoy)))


def walk(actions, size, horizon):
  """Plays actions without slips: `(cell, next cell, reward, heuristic, terminated)` of every step."""
  distance = lambda place: abs(size - 1 - place[0]) + abs(size - 1 - place[1])
  number = lambda place: place[0] * size + place[1]
  block = {(r, c) for r in (0, 1) for c in (size - 2, size - 1)}
  place, rows = (0, 0), []
  for time, action in enumerate(actions, 1):
    down, right = MOVES[action]
    after = (place[0] + down, place[1] + right)
    if not all(0 <= x < size for x in after):
      after = place
    reached = after == (size - 1, size - 1)
    aux = 0.1 * (distance(place) - distance(after)) + 0.3 * (after in block)
    rows.append((number(place), number(after), float(reached), aux, reached or time == horizon))
    place = after
    if rows[-1][-1]:
      break
  return [np.array(x) for x in zip(*rows)]


@functools.partial(_jit, static_argnums=2)
def play(keys, actions, world, params):
  """Plays `[N, T]` actions, all with the same keys `[T]`."""
  def step(carry, x):
    key, action = x
    seen, state = carry
    after, state, *rest = world.step(key, state, action, params)
    return (after, state), (seen, *rest)
  return jax.vmap(lambda actions: jax.lax.scan(step, world.reset(keys[0], params), (keys, actions))[1])(actions)


@pytest.mark.parametrize("size, horizon", [(5, 25), (3, 9)])
def test_the_walk(size, horizon):
  world = decoy_grid.make_decoy_grid(size=size, horizon=horizon)
  rng, keys = np.random.default_rng(0), jax.random.split(jax.random.key(0), horizon)
  reached = 0
  drawn = rng.choice(4, (60, horizon), p=(0.15, 0.35, 0.15, 0.35)).astype(np.int32)
  played = jax.device_get(play(keys, drawn, world, heuristic()))
  for n, actions in enumerate(drawn):
    cell, after, reward, aux, ends = walk(actions, size, horizon)
    seen, paid, terminated, truncated, info = jax.tree.map(lambda x: x[n, :len(cell)], played)
    np.testing.assert_array_equal(seen, np.eye(size**2)[cell])
    np.testing.assert_array_equal(info["cell"], cell)
    np.testing.assert_array_equal(info["next_cell"], after)
    np.testing.assert_array_equal(paid, reward)
    np.testing.assert_allclose(info["aux"], aux, atol=1e-6)
    np.testing.assert_array_equal(terminated, ends)
    assert not np.any(truncated)
    reached += int(reward[-1])
  assert 0 < reached < 60


def test_potentials_differ_by_what_progress_pays_and_by_the_block():
  cells = np.arange(SIZE**2)
  row, column = cells // SIZE, cells % SIZE
  want = 0.3 * ((row < 2) & (column > 2)) - 0.1 * (8 - row - column)
  np.testing.assert_allclose(decoy_grid.potential(heuristic(), cells), want, atol=1e-6)
  keys = jax.random.split(jax.random.key(1), HORIZON)
  actions = np.resize(np.array([3, 3, 3, 1, 1], np.int32), (60, HORIZON))
  info = play(keys, actions, WORLD, heuristic(slip=0.5))[-1]
  np.testing.assert_allclose(info["potential"], want[info["cell"]], atol=1e-6)
  np.testing.assert_allclose(info["next_potential"], want[info["next_cell"]], atol=1e-6)


def test_a_slip_is_a_uniform_move():
  """From the middle, asked to go up with slip 0.4: up 0.7, every other 0.1."""
  state = decoy_grid.DecoyState(jnp.int32(12), jnp.int32(0))
  step = lambda key: WORLD.step(key, state, jnp.int32(0), heuristic(slip=0.4))[1].cell
  cells = np.asarray(_jit(jax.vmap(step))(jax.random.split(jax.random.key(0), 20000)))
  rates = np.array([np.mean(cells == c) for c in (7, 17, 11, 13)])
  np.testing.assert_allclose(rates, (0.7, 0.1, 0.1, 0.1), atol=4 * np.sqrt(0.21 / 20000))


def test_too_small_a_grid_is_refused():
  with pytest.raises(ValueError, match="size=2"):
    decoy_grid.make_decoy_grid(size=2)
