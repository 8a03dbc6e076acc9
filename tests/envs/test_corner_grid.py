"""The corner grid against a plain loop, its tables, and what its resets promise."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from rlcore.envs import corner_grid
from tests.tolerance import close

_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # compiles faster
_HORIZON, _WALKS = 12, 400
_MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))
_GOALS = ((0, 0), (0, 7), (7, 0), (7, 7))


def test_starts_and_steps():
  world, tables = corner_grid.make_corner_grid(horizon=_HORIZON), corner_grid.corner_tables()
  actions = np.random.default_rng(0).integers(0, 4, (_WALKS, _HORIZON))

  def walk(key, actions):
    first, state = world.reset(key, ())
    def step(state, action):
      after = world.step(key, state, action, ())
      return after[1], after
    return first, state, jax.lax.scan(step, state, actions)[1]

  keys = jax.random.split(jax.random.key(0), _WALKS)
  first, begin, (seen, _, reward, terminated, truncated, info) = jax.tree.map(
      np.asarray, _jit(jax.vmap(walk))(keys, jnp.asarray(actions)))
  found = set()
  for i in range(_WALKS):
    place, goal = tuple(begin.place[i]), _GOALS[begin.goal[i]]
    assert place != goal
    found.add((place, goal))
    np.testing.assert_allclose(first[i] * 7, [*place, *goal], atol=1e-5)
    for t, action in enumerate(actions[i]):
      here = begin.goal[i] * 64 + place[0] * 8 + place[1]
      assert info["state"][i, t] == here
      place = tuple(min(max(x + d, 0), 7) for x, d in zip(place, _MOVES[action]))
      won = place == goal
      close(reward[i, t], won - 0.05, rtol=1e-6)
      np.testing.assert_allclose(seen[i, t] * 7, [*place, *goal], atol=1e-5)
      assert terminated[i, t] == won and truncated[i, t] == (t == _HORIZON - 1 and not won)
      close(tables.rewards[here, action], reward[i, t], rtol=1e-6)
      after = begin.goal[i] * 64 + place[0] * 8 + place[1]
      assert tables.transition[here, action, after] == 1 and tables.terminal[after] == won
      if won:
        break
  assert {goal for _, goal in found} == set(_GOALS) and len({place for place, _ in found}) == 64


def test_goals_keep_themselves_and_pay_nothing():
  tables = corner_grid.corner_tables()
  np.testing.assert_array_equal(np.flatnonzero(tables.terminal), [0, 64 + 7, 128 + 56, 192 + 63])
  for state in np.flatnonzero(tables.terminal):
    assert not tables.rewards[state].any() and (tables.transition[state, :, state] == 1).all()
  np.testing.assert_array_equal(tables.transition.sum(2), 1)
