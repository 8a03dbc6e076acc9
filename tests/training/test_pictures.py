"""Pictures of worlds with cells, GIFs of episodes, bandits; every world says where things are."""

import jax
import jax.numpy as jnp
from matplotlib.figure import Figure
import numpy as np
from PIL import Image
import pytest

from rlcore import envs
from rlcore.envs import bandit_stream, caption_quest, chain, corner_grid, corridors, decoy_grid, grids
from rlcore.envs import key_corridor, pinpad, random_maze, ruled_grid
from rlcore.envs.cells import AGENT, COLOUR, EXIT, FLOOR, GOAL, LAVA, MARK, WALL
from rlcore.training import pictures
from rlcore.types import StreamPolicy
from tests.training.walk import quick_jit as _jit

ZERO = np.int32(0)
# Plays its params `[T]`, action by action: the memory counts steps.
SCRIPTED = StreamPolicy(
    lambda key: None, jnp.zeros((), jnp.int32), lambda script, time, seen: (script[time], jnp.zeros(()), time + 1),
    lambda key, action: (action, jnp.zeros(())), lambda distribution, action: (jnp.zeros(()),) * 2)


def rendered(render, *arguments, **settings):
  return np.array(_jit(lambda *arguments: render(*arguments, **settings))(*arguments))


def test_grids_show_walls_goal_and_agent():
  task = corridors.corridors_task(1, corridors=3, length=2)
  state = grids.GridState(np.array([1, 4]), ZERO, ZERO)
  np.testing.assert_array_equal(rendered(grids.render, state, task), [
      [FLOOR, FLOOR, FLOOR, FLOOR, FLOOR], [FLOOR, WALL, FLOOR, WALL, AGENT], [FLOOR, WALL, GOAL, WALL, FLOOR]])
  maze = _jit(lambda: random_maze.draw_maze(jax.random.key(3), cells=3))()
  at_start, at_goal = (rendered(grids.render, state._replace(place=place), maze) for place in (maze.start, maze.goal))
  np.testing.assert_array_equal(at_start == WALL, maze.walls)
  assert at_start[tuple(maze.goal)] == GOAL and at_start[1, 1] == AGENT
  assert at_goal[tuple(maze.goal)] == AGENT and not (at_goal == GOAL).any()


def test_other_worlds_with_cells():
  heuristic = decoy_grid.Heuristic(0.0, 0.0, 0.0)
  state = decoy_grid.DecoyState(ZERO + 3, ZERO)
  np.testing.assert_array_equal(rendered(decoy_grid.render, state, heuristic, size=3), [
      [FLOOR, MARK, MARK], [AGENT, MARK, MARK], [FLOOR, FLOOR, GOAL]])

  lava = np.random.default_rng(0).uniform(size=(7, 7)) < 0.2
  lava[:, 0] = False
  task = ruled_grid.RuledTask(lava, np.array([3, 4]), np.array([6, 0]))
  picture = rendered(ruled_grid.render, ruled_grid.RuledState(task.start, ZERO, ZERO), task)
  expected = np.where(lava, LAVA, FLOOR)
  expected[:, 0], expected[6, 0], expected[3, 4] = MARK, GOAL, AGENT
  np.testing.assert_array_equal(picture, expected)

  state = pinpad.PinpadState(ZERO + 12, ZERO, ZERO + pinpad.NONE, ZERO)
  picture = rendered(pinpad.render, state, pinpad.PinpadTask(np.array([0, 1]), ZERO)).reshape(-1)
  np.testing.assert_array_equal(picture[list(pinpad.CORNERS)], COLOUR + np.arange(4))
  assert picture[12] == AGENT and (picture == FLOOR).sum() == 25 - 5

  task = key_corridor.CorridorTask(ZERO, np.zeros((2, 3), int), np.array([[0, 5, 3], [4, 2, 1]]))
  state = key_corridor.CorridorState(ZERO + 1, ZERO + 2, ZERO)  # key 1 is taken
  np.testing.assert_array_equal(rendered(key_corridor.render, state, task), [
      [WALL, COLOUR, FLOOR, EXIT], [AGENT, FLOOR, COLOUR + 2, FLOOR]])

  places = np.array([[0, 0], [2, 3], [7, 1], [4, 4]])  # of start, key, door and chest
  state = caption_quest.QuestState(places[0], np.bool_(True), np.bool_(False), ZERO)  # the key is taken
  expected = np.full((8, 8), FLOOR)
  expected[0, 0], expected[7, 1], expected[4, 4] = AGENT, COLOUR + 1, GOAL
  np.testing.assert_array_equal(rendered(caption_quest.render, state, caption_quest.CaptionQuest(*places)), expected)

  expected = np.full((8, 8), FLOOR)
  expected[2, 3], expected[7, 0] = AGENT, GOAL
  state = corner_grid.CornerState(places[1], ZERO + 2, ZERO)
  np.testing.assert_array_equal(rendered(corner_grid.render, state), expected)

  row = lambda position, **settings: rendered(
      chain.render, chain.ChainState(ZERO + position, ZERO), chain.ChainParams(distractor=0.1), places=4,
      distractor_at=1, **settings)
  np.testing.assert_array_equal(row(2), [[EXIT, FLOOR, MARK, AGENT, GOAL]])
  np.testing.assert_array_equal(row(4), [[AGENT, FLOOR, MARK, FLOOR, GOAL]])
  np.testing.assert_array_equal(row(3, has_exit=False), [[WALL, FLOOR, MARK, FLOOR, AGENT]])


def test_an_image_has_a_square_a_cell():
  image = pictures.cells_image([[FLOOR, WALL, AGENT], [COLOUR, COLOUR + 1, GOAL]], pixels=9)
  assert image.shape == (18, 27, 3) and image.dtype == np.uint8
  centres = image[4::9, 4::9]
  assert len(np.unique(centres.reshape(-1, 3), axis=0)) == 6  # all different
  np.testing.assert_array_equal(centres[0, 0], [255, 255, 255])
  np.testing.assert_array_equal(image[1:9, 10:18], np.broadcast_to(centres[0, 1], (8, 8, 3)))
  np.testing.assert_array_equal(image[1, 19], [255, 255, 255])  # the agent is a disc on the floor
  for code in (-1, COLOUR + 4):
    with pytest.raises(ValueError, match=f"{code} is no code"):
      pictures.cells_image([[FLOOR, code]])
  with pytest.raises(ValueError, match="not the shape"):
    pictures.cells_image([1])
  with pytest.raises(ValueError, match="pixels=2"):
    pictures.cells_image([[1]], pixels=2)
  with pytest.raises(ValueError, match="at least one frame"):
    pictures.animate_cells("nowhere.gif", np.zeros((0, 2, 2), int))


def test_a_gif_of_an_episode(tmp_path):
  world, task = envs.make_corridors(length=2), corridors.corridors_task(2, corridors=3, length=2)
  script = jnp.array([3, 0, 3, 1, 1, 2, 2, 2])  # right, against the edge, right, down, down: there
  states, length = pictures.play(world, SCRIPTED, script, jax.random.key(2), task)
  assert length == 5
  np.testing.assert_array_equal(states.place, [[0, 2], [0, 3], [0, 3], [0, 4], [1, 4]] + [[2, 4]] * 4)
  frames = rendered(jax.vmap(grids.render, (0, None)), states, task)[:length + 1]
  pictures.animate_cells(tmp_path / "corridors.gif", frames, pixels=8, seconds=0.1)
  with Image.open(tmp_path / "corridors.gif") as gif:
    assert gif.n_frames == 6 and gif.size == (40, 28) and gif.info["duration"] == 100
    for i, frame in enumerate(frames):
      gif.seek(i)
      shown = np.array(gif.convert("RGB"), int)[:24]
      assert np.abs(shown - pictures.cells_image(frame, pixels=8)).max() < 8  # a GIF has its own palette


def test_the_arms_of_a_bandit():
  world = envs.make_bandit_stream(num_arms=2, horizon=6)
  task = bandit_stream.BanditTask(jnp.array([0, 0, 1, 0, 0, 1]), jnp.float32(0.1))
  arms = jnp.array([0, 1, 1, 0, 0, 1])
  states, length = pictures.play(world, SCRIPTED, arms, jax.random.key(0), task)
  axes = Figure().subplots()
  pictures.draw_pulls(axes, states.means[:length], arms)
  lines, dots = axes.lines[::2], axes.lines[1::2]
  for k in range(2):
    np.testing.assert_array_equal(lines[k].get_ydata(), states.means[:6, k])
    np.testing.assert_array_equal(dots[k].get_xdata(), np.flatnonzero(arms == k))
