"""Two rooms and their graph: layout, what the graph holds, and what the agent is judged by."""

import jax
import jax.numpy as jnp
import numpy as np

from configs.control import dense_rewards_graph as config_lib
from experiments.control import dense_rewards_graph as graph


def _steps(start):
  """Counts steps from a cell to all others, breadth first."""
  walls, _, _ = graph.layout()
  found, frontier = {start: 0}, [start]
  while frontier:
    here = frontier.pop(0)
    row, column = divmod(here, 11)
    for r, c in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
      if 0 <= r < 11 and 0 <= c < 11 and not walls[r, c] and r * 11 + c not in found:
        found[r * 11 + c] = found[here] + 1
        frontier.append(r * 11 + c)
  return found


def test_judged_pairs_are_near_in_space_and_far_in_steps():
  walls, after, pairs = graph.layout()
  assert walls.sum() == 10 and not walls[10, 5] and after.shape == (121, 4)
  expected = []
  for start in range(121):
    if start % 11 < 5:
      steps = _steps(start)
      expected += [(start, goal) for goal in range(121) if goal % 11 > 5 and steps[goal] >= 12
                   and np.hypot(start // 11 - goal // 11, start % 11 - goal % 11) <= 4]
  assert expected and sorted(map(tuple, pairs.tolist())) == expected


def test_the_graph_of_a_long_walk_is_the_grid():
  config = config_lib.get_config()
  config.walk = 5000
  seen = graph.features(jax.random.key(0))
  nodes, used, adjacency = map(np.asarray, jax.jit(lambda key: graph.walk_graph(config, seen, key))(jax.random.key(1)))
  _, after, _ = graph.layout()
  cell = [int(np.argmin(np.linalg.norm(np.asarray(seen) - node, axis=1))) for node in nodes]
  filled = np.flatnonzero(used)
  assert len({cell[i] for i in filled}) == len(filled) > 60  # a node is a cell
  for i in filled:
    for j in filled:
      if adjacency[i, j]:
        assert cell[j] in after[cell[i]] and adjacency[i, j] == adjacency[j, i]


def test_what_is_judged():
  _, after, pairs = graph.layout()
  q = np.zeros((121 * 121, 4), np.float32)
  for goal in set(pairs[:, 1].tolist()):
    steps = _steps(goal)
    for cell in range(121):
      if cell in steps:
        q[cell * 121 + goal] = [-steps[int(x)] for x in after[cell]]
  judge = jax.jit(graph.judge, static_argnums=1)
  assert judge(jnp.asarray(q), 40) == 1 and judge(jnp.asarray(-q), 40) == 0
  assert 0 < judge(jnp.asarray(q), 14) < 1  # some pairs are farther than that
