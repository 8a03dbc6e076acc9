"""The walled square against a plain loop, through the world's steps and in whole episodes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore.envs import walled_square

TASK = walled_square.square_task()
T = 30


def _crosses(p, q):
  """Whether the segment from p to q meets a wall, by the two lines' intersection."""
  if (p[0] < 0) != (q[0] < 0) and p[1] + (q[1] - p[1]) * p[0] / (p[0] - q[0]) < 0.3:
    return True
  return (p[1] < 0) != (q[1] < 0) and p[0] + (q[0] - p[0]) * p[1] / (p[1] - q[1]) < -0.3


def _walk(start, actions):
  """The path `[T + 1, 2]` and the rewards of both discs at its end."""
  path = [np.asarray(start, float)]
  for action in actions(path):
    new = np.clip(path[-1] + 0.06 * np.asarray(action), -1, 1)
    path.append(path[-1] if _crosses(path[-1], new) else new)
  moves = np.linalg.norm(np.diff(path, axis=0), axis=1)[-10:]
  distance = np.linalg.norm(np.array([[0.75, -0.6], [-0.6, 0.75]]) - path[-1], axis=1)
  areas = np.where(distance < 0.3, (1 - distance / 0.3) * max(0, 1 - np.mean(moves) / 0.06), 0)
  return np.array(path), areas


def _steered(genome):
  first, second = genome[:15].reshape(5, 3).astype(float), genome[15:].reshape(2, 6).astype(float)

  def actions(path):
    for _ in range(T):
      yield np.tanh(second @ np.append(np.tanh(first @ np.append(path[-1], 1)), 1))

  return actions


@pytest.fixture(scope="module")
def step():
  return jax.jit(walled_square.make_walled_square(horizon=T).step)


def test_whole_episodes_are_those_of_a_loop():
  rng = np.random.default_rng(0)
  genomes = rng.normal(size=(24, 27)).astype(np.float32)
  starts = [(-0.8, -0.8), (-0.15, -0.1), (0.6, -0.6), (-0.6, 0.9)]  # in the quadrant, in its gap, in and near a disc
  run = jax.jit(lambda genomes, start: (walled_square.evaluate(genomes, TASK._replace(start=start), horizon=T),
                                        jax.vmap(lambda genome: walled_square.play(
                                            genome, TASK._replace(start=start), horizon=T))(genomes)))
  rewarded = set()
  for start in starts:
    (positions, areas), paths = run(genomes, jnp.array(start))
    for i, genome in enumerate(genomes):
      want_path, want = _walk(np.float32(start), _steered(genome))
      np.testing.assert_allclose(paths[i], want_path, atol=1e-4)
      np.testing.assert_allclose(positions[i], want_path[-1], atol=1e-4)
      np.testing.assert_allclose(areas[i], want, atol=1e-3)
      rewarded |= set(np.flatnonzero(want > 0.01))
  assert rewarded == {0, 1}


@pytest.mark.parametrize("seed", range(3))
def test_the_world_steps_like_the_loop_and_pays_at_the_end(seed, step):
  rng = np.random.default_rng(seed)
  drift = rng.uniform(-1, 1, 2)
  actions = np.clip(drift + rng.normal(size=(T, 2)), -1.5, 1.5).astype(np.float32)  # the world clips them
  start = np.array([-0.1, -0.1], np.float32)
  task = TASK._replace(start=start)
  want, areas = _walk(start, lambda path: np.clip(actions, -1, 1))
  key = jax.random.key(0)
  observation, state = walled_square.make_walled_square(horizon=T).reset(key, task)
  np.testing.assert_array_equal(observation, start)
  for t in range(T):
    observation, state, reward, terminated, truncated, info = step(key, state, actions[t], task)
    np.testing.assert_allclose(observation, want[t + 1], atol=1e-5)
    assert not truncated and bool(terminated) == (t == T - 1)
    np.testing.assert_allclose(reward, areas.sum() if terminated else 0, atol=1e-4)
  np.testing.assert_allclose(info["areas"], areas, atol=1e-4)


def test_rest_in_a_centre_pays_one_and_walls_hold(step):
  still = jnp.zeros((1, 27))
  for disc, centre in enumerate(TASK.centres):
    _, areas = walled_square.evaluate(still, TASK._replace(start=centre), horizon=3)
    np.testing.assert_allclose(areas[0], np.eye(2)[disc])
  reset = walled_square.make_walled_square(horizon=T).reset
  for start, action, end in [
      ((-0.03, 0.29), (1, 0), (-0.03, 0.29)), ((-0.03, 0.31), (1, 0), (0.03, 0.31)),  # below and above the first wall
      ((0.03, -0.5), (-1, 0), (0.03, -0.5)), ((-0.31, -0.03), (0, 1), (-0.31, -0.03)),
      ((-0.29, -0.03), (0, 1), (-0.29, 0.03)), ((0.99, 0.99), (1, 1), (1, 1))]:
    state = reset(None, TASK._replace(start=jnp.array(start)))[1]
    np.testing.assert_allclose(step(jax.random.key(0), state, jnp.array(action, float), TASK)[0], end, atol=1e-6)


def test_a_picture_shows_where_the_point_is():
  x, y = 0.3, -0.7
  centres = -1 + 2 * (np.arange(16) + 0.5) / 16
  want = [np.exp(-((cx - x) ** 2 + (cy - y) ** 2) / (2 * 0.15**2)) for cy in centres for cx in centres]
  np.testing.assert_allclose(walled_square.picture(jnp.array([x, y])), want, atol=1e-6)


def test_a_genome_of_another_size_is_told():
  with pytest.raises(AssertionError, match=r"act: genome has shape \(26,\), expected \(27,\)"):
    walled_square.evaluate(jnp.zeros((2, 26)), TASK)
