"""The ruled grid against a plain loop, and what its instances promise."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore.envs import grids, ruled_grid

_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # compiles faster
_HORIZON = 12


@pytest.fixture(scope="module")
def tasks():
  def draw(key):
    lava_key, task_key = jax.random.split(key)
    return ruled_grid.draw_task(task_key, ruled_grid.draw_lava(lava_key))

  return jax.tree.map(np.asarray, _jit(jax.vmap(draw))(jax.random.split(jax.random.key(0), 300)))


@pytest.fixture(scope="module")
def walks(tasks):
  """Random walks `[300, T]` in all instances, running on past the end."""
  world = ruled_grid.make_ruled_grid(horizon=_HORIZON)
  actions = jnp.asarray(np.random.default_rng(0).integers(0, 5, (300, _HORIZON)))

  def walk(key, task, actions):
    first, state = world.reset(key, task)
    def step(state, action):
      after = world.step(key, state, action, task)
      return after[1], after
    return first, state, jax.lax.scan(step, state, actions)[1]

  keys = jax.random.split(jax.random.key(1), 300)
  return actions, jax.tree.map(np.asarray, _jit(jax.vmap(walk))(keys, tasks, actions))


def test_instances_keep_their_promises(tasks):
  for lava, start, goal in zip(*tasks):
    assert lava.sum() == 6 and not lava[:, 0].any()
    assert not lava[tuple(start)] and not lava[tuple(goal)]
    assert np.abs(start - goal).sum() > 2
  # Every place outside the edge is somewhere lava, and every place a start and a goal.
  assert (tasks.lava.mean(0)[:, 1:] > 0).all()
  for places in (tasks.start, tasks.goal):
    assert len({tuple(place) for place in places}) == 49
  with pytest.raises(AssertionError, match="lava has shape"):
    ruled_grid.draw_task(jax.random.key(0), jnp.zeros((6, 7), bool))


def test_steps_are_those_of_a_plain_loop(tasks, walks):
  actions, (_, start, (_, state, reward, terminated, truncated, info)) = walks
  seen = set()
  for i in range(300):
    (row, column), facing = tasks.start[i], start.facing[i]
    for t, action in enumerate(np.asarray(actions[i])):
      before, entered = (row, column), []
      if action < 4:
        facing = action
      for _ in range(2 if action == 4 else 1):
        down, right = grids.MOVES[facing]
        if 0 <= row + down < 7 and 0 <= column + right < 7:
          row, column = row + down, column + right
        entered.append((row, column))
      costs = (any(tasks.lava[i][place] for place in entered), action == 4, column != 0, (row, column) == before)
      won = (row, column) == tuple(tasks.goal[i])
      assert (tuple(state.place[i, t]), state.facing[i, t], state.time[i, t]) == ((row, column), facing, t + 1)
      assert tuple(info["costs"][i, t]) == costs
      assert (reward[i, t], terminated[i, t], truncated[i, t]) == (won, won, t + 1 == _HORIZON and not won)
      ran_over = len(entered) == 2 and entered[0] != entered[1] and entered[0] == tuple(tasks.goal[i])
      seen |= {*zip(ruled_grid.RULES, costs), ("won", won), ("ran over the goal", ran_over)}
  assert seen >= {(name, x) for name in (*ruled_grid.RULES, "won", "ran over the goal") for x in (True, False)}


def test_the_observation_is_place_goal_and_facing(tasks, walks):
  _, (first, start, (observation, state, *_)) = walks
  assert set(start.facing) == {0, 1, 2, 3}
  for seen, at in ((first, start), (observation[:, 4], jax.tree.map(lambda x: x[:, 4], state))):
    np.testing.assert_array_equal(seen.sum(1), 3)
    place, goal, facing = seen[:, :49].argmax(1), seen[:, 49:98].argmax(1), seen[:, 98:].argmax(1)
    np.testing.assert_array_equal(place, at.place @ (7, 1))
    np.testing.assert_array_equal(goal, tasks.goal @ (7, 1))
    np.testing.assert_array_equal(facing, at.facing)
