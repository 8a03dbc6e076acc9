"""Corridors and random mazes: layouts and moves against plain loops over characters."""

import collections
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore.envs import corridors, grids, random_maze
from tests.tolerance import close

_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # compiles faster


def distances(walls, start):
  """Breadth-first search in a dictionary."""
  seen, queue = {start: 0}, collections.deque([start])
  while queue:
    row, column = queue.popleft()
    for move in grids.MOVES:
      after = row + move[0], column + move[1]
      if all(0 <= x < n for x, n in zip(after, walls.shape)) and not walls[after] and after not in seen:
        seen[after] = seen[row, column] + 1
        queue.append(after)
  return seen


@pytest.fixture(scope="module")
def mazes():
  return _jit(jax.vmap(random_maze.draw_maze))(jax.random.split(jax.random.key(0), 40))


def test_a_maze_is_a_tree_whose_farthest_dead_end_is_the_goal(mazes):
  for walls, start, goal in zip(*map(np.asarray, mazes)):
    assert walls.shape == (11, 11) and tuple(start) == (1, 1)
    assert walls[[0, -1]].all() and walls[:, [0, -1]].all() and walls[::2, ::2].all()
    far = distances(walls, (1, 1))
    assert len(far) == np.sum(~walls) == 25 + 24  # all cells are reached, by one passage less than there are cells
    doors = {place: sum((place[0] + a, place[1] + b) in far for a, b in grids.MOVES) for place in far}
    ends = [place for place in far if place != (1, 1) and doors[place] == 1]
    most = max(far[place] for place in ends)
    assert tuple(goal) == min(place for place in ends if far[place] == most)
  assert len({tuple(x) for x in np.asarray(mazes.goal)}) > 5  # randomised, or counting places would be enough
  assert len({x.tobytes() for x in np.asarray(mazes.walls)}) == 40


def test_the_comb_of_corridors():
  task = jax.tree.map(np.asarray, corridors.corridors_task(3))
  drawn = ["".join("#" if wall else "." for wall in row) for row in task.walls]
  assert drawn == ["........."] + [".#.#.#.#."] * 9
  assert tuple(task.start) == (0, 4) and tuple(task.goal) == (9, 6)
  far = distances(task.walls, (0, 4))
  assert far[9, 6] == 11 and corridors.make_corridors().horizon == 22  # too short for a second corridor of 9 and back


def seen_by(task, place, last, goal_distance):
  """What the agent sees, place by place."""
  view, goal = [], []
  for a in range(-2, 3):
    for b in range(-2, 3):
      spot = place[0] + a, place[1] + b
      inside = all(0 <= x < n for x, n in zip(spot, task.walls.shape))
      view.append(float(not inside or task.walls[spot]))
      near = goal_distance is None or sum(abs(x - y) for x, y in zip(place, task.goal)) <= goal_distance
      goal.append(float(spot == tuple(task.goal) and near))
  where = [x / n for x, n in zip(place, task.walls.shape)]
  return np.array(view + goal + [float(i == last) for i in range(4)] + where)


@pytest.mark.parametrize("kind", ["corridors", "maze"])
def test_walks_are_those_of_a_loop(kind, mazes):
  if kind == "maze":
    task, world, distance = jax.tree.map(lambda x: x[0], mazes), random_maze.make_random_maze(horizon=60), None
  else:
    task, world, distance = corridors.corridors_task(2, length=2), corridors.make_corridors(length=2), 1

  def walk(actions):
    def step(state, action):
      after = world.step(jax.random.key(0), state, action, task)
      return after[1], (after[0], *after[2:])
    first, state = world.reset(jax.random.key(0), task)
    return first, jax.lax.scan(step, state, actions)[1]

  actions = np.random.default_rng(1).integers(0, 4, (6, world.horizon))
  first, (observations, rewards, terminated, truncated, info) = _jit(jax.vmap(walk))(jnp.asarray(actions))
  task = jax.tree.map(np.asarray, task)
  won = 0
  for n, row in enumerate(actions):
    place = tuple(task.start)
    close(first[n], seen_by(task, place, -1, distance), rtol=1e-6)
    for t, action in enumerate(row):
      after = tuple(int(x + d) for x, d in zip(place, grids.MOVES[action]))
      if all(0 <= x < size for x, size in zip(after, task.walls.shape)) and not task.walls[after]:
        place = after
      close(observations[n, t], seen_by(task, place, action, distance), rtol=1e-6)
      assert info["cell"][n, t] == place[0] * task.walls.shape[1] + place[1]
      at_goal = place == tuple(task.goal)
      won += at_goal
      assert rewards[n, t] == at_goal and terminated[n, t] == (at_goal or t + 1 >= world.horizon)
  assert not truncated.any()
  assert kind == "maze" or won > 0
