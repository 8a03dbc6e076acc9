"""Pictures of worlds: paths in the plane, the cells of a grid, the arms of a bandit; as GIFs, an episode of them.

    states, length = pictures.play(world, policy, params, jax.random.key(0), task)   # of any learner
    pictures.animate_cells("maze.gif", jax.vmap(grids.render, (0, None))(states, task)[:length + 1])
"""

from collections.abc import Iterable, Sequence
import pathlib

import jax
import jax.numpy as jnp
from matplotlib.animation import FuncAnimation, PillowWriter
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Circle
import numpy as np
from PIL import Image

from rlcore.envs import cells as codes
from rlcore.training.plots import COLOURS
from rlcore.types import Array, PyTree, StreamPolicy, World

Segment = tuple[tuple[float, float], tuple[float, float]]
Box = tuple[float, float, float, float]
SQUARE: Box = (-1.0, 1.0, -1.0, 1.0)
_LINE = (214, 214, 214)  # between cells
_TIME = (120, 120, 120)  # the bar below
_PALETTE = np.array([  # by the codes of `envs.cells`
    (255, 255, 255), (60, 60, 60), (0, 158, 115), (0, 114, 178), (213, 94, 0), (250, 229, 180), (150, 150, 150),
    (230, 159, 0), (204, 121, 167), (86, 180, 233), (153, 102, 51)], np.uint8)  # the last four are things


def draw_plane(axes: Axes, *, heat: np.ndarray | None = None, paths: Sequence[np.ndarray] = (),
               walls: Iterable[Segment] = (), discs: Iterable[tuple[Sequence[float], float]] = (), box: Box = SQUARE):
  """Draws a part of the plane, or the cells of a grid, as seen from above.

  Args:
    axes: where to draw.
    heat: `[rows, columns]` counts, row 0 at the bottom; the more, the darker, in a logarithmic scale; 0 stays white.
    paths: `[T, 2]` each, a line with a dot at its end.
    walls: pairs of end points.
    discs: pairs of centre and radius.
    box: left, right, bottom and top edge; for a grid of unit cells (0, columns, 0, rows).
  """
  if heat is not None and np.any(heat > 0):
    shown = np.ma.masked_less_equal(heat, 0)
    axes.imshow(shown, extent=box, origin="lower", cmap="Blues", norm=LogNorm(0.3, max(shown.max(), 1)))
  for centre, radius in discs:
    axes.add_patch(Circle(tuple(map(float, centre)), float(radius), fill=False, edgecolor=COLOURS[1], linewidth=1.4))
  for (x0, y0), (x1, y1) in walls:
    axes.plot((x0, x1), (y0, y1), color="0.15", linewidth=2.2, solid_capstyle="butt")
  for i, path in enumerate(paths):
    colour = COLOURS[i % len(COLOURS)]
    axes.plot(path[:, 0], path[:, 1], color=colour, linewidth=1.1, alpha=0.8)
    axes.plot(*path[-1], "o", color=colour, markersize=4)
  axes.set(xlim=box[:2], ylim=box[2:], xticks=(), yticks=(), aspect="equal")


def animate_paths(path: str | pathlib.Path, paths: Sequence[np.ndarray], *, frames: int = 40, **scene):
  """Writes a GIF in which paths grow, all at the same pace.

  Args:
    path: the GIF to write.
    paths: `[T, 2]` each, of one length.
    frames: how many pictures.
    **scene: `walls`, `discs`, `heat` and `box` of `draw_plane`.
  """
  scene |= {name: tuple(scene[name]) for name in ("walls", "discs") if name in scene}  # read once a picture
  figure = Figure(figsize=(3.6, 3.6), layout="constrained")
  axes = figure.subplots()
  lengths = np.linspace(1, len(paths[0]), frames).round().astype(int)

  def draw(length):
    axes.clear()
    draw_plane(axes, paths=[x[:length] for x in paths], **scene)

  FuncAnimation(figure, draw, lengths).save(path, PillowWriter(fps=15), dpi=80)


def cells_image(cells: Array, *, pixels: int = 24) -> np.ndarray:
  """Draws the cells of a grid: each a square of its colour, the agent a disc.

  Args:
    cells: `[H, W]` int, the codes of `envs.cells`.
    pixels: side of a cell, at least 3.

  Returns:
    `[H * pixels, W * pixels, 3]` uint8, for `axes.imshow` or a file.

  Raises:
    ValueError: if there are no rows and columns, a code has no colour, or the cells are too small.
  """
  cells = np.asarray(cells)
  if cells.ndim != 2:
    raise ValueError(f"a grid has rows and columns [H, W], not the shape {cells.shape}")
  if pixels < 3:
    raise ValueError(f"pixels={pixels} must be at least 3")
  known = (cells >= 0) & (cells < len(_PALETTE))
  if not known.all():
    raise ValueError(f"{cells[~known][0]} is no code of envs.cells that has a colour")
  image = np.kron(np.where(cells == codes.AGENT, codes.FLOOR, cells), np.ones((pixels, pixels), int))
  offset = (np.arange(pixels) - (pixels - 1) / 2) / pixels
  disc = np.hypot(*np.meshgrid(offset, offset)) < 0.36
  image = _PALETTE[np.where(np.kron(cells == codes.AGENT, disc), codes.AGENT, image)]
  image[::pixels] = image[:, ::pixels] = _LINE
  return image


def animate_cells(path: str | pathlib.Path, frames: Array, *, pixels: int = 24, seconds: float = 0.15):
  """Writes a GIF of an episode; a bar below the grid shows the time.

  Args:
    path: the GIF to write.
    frames: `[T, H, W]` int, see `cells_image`.
    pixels: side of a cell.
    seconds: how long a frame is shown.

  Raises:
    ValueError: if there is no frame, or as `cells_image` does.
  """
  if not len(frames):
    raise ValueError("a GIF needs at least one frame")
  images = []
  for i, cells in enumerate(frames):
    image = cells_image(cells, pixels=pixels)
    bar = np.full((4, image.shape[1], 3), 255, np.uint8)
    bar[1:, :round(image.shape[1] * (i + 1) / len(frames))] = _TIME
    images.append(Image.fromarray(np.concatenate([image, bar])))
  images[0].save(path, save_all=True, append_images=images[1:], duration=round(1000 * seconds), loop=0)


def draw_pulls(axes: Axes, means: Array, arms: Array):
  """Draws what every arm of a bandit was worth, and a dot where one was pulled.

  Args:
    axes: where to draw.
    means: `[T, K]`, of the arms before each pull.
    arms: `[T]` int, the arm pulled.
  """
  means, arms = np.asarray(means), np.asarray(arms)
  time = np.arange(len(arms))
  for k, mean in enumerate(means.T):
    colour = COLOURS[k % len(COLOURS)]
    axes.step(time, mean, where="mid", color=colour, linewidth=1.1, alpha=0.6, label=f"arm {k}")
    axes.plot(time[arms == k], mean[arms == k], "o", color=colour, markersize=4)
  axes.set(xlabel="pull", ylabel="mean reward")
  axes.legend(frameon=False, fontsize="small")


def play(world: World, policy: StreamPolicy, params: PyTree, key: Array, instance: PyTree) -> tuple[PyTree, int]:
  """Plays one episode and keeps the states of the world.

  Args:
    world: where.
    policy: what acts: `OnPolicyParts.policy`, or `OffPolicyParts.policy` with `off_policy.acting(...)` as params.
    params: its parameters.
    key: PRNG key.
    instance: params of the world.

  Returns:
    `(states [horizon + 1, ...], length)`: `states[:length + 1]` is the episode from its first state to its last; the
    last is repeated behind.
  """
  reset_key, run_key = jax.random.split(key)

  def step(carry, key):
    observation, state, memory, over = carry
    act_key, world_key = jax.random.split(key)
    distribution, _, memory = policy.step(params, memory, observation)
    action, _ = policy.sample(act_key, distribution)
    after, moved, _, terminated, truncated, _ = world.step(world_key, state, action, instance)
    state = jax.tree.map(lambda old, new: jnp.where(over, old, new), state, moved)
    return (after, state, memory, over | terminated | truncated), (state, ~over)

  @jax.jit
  def run():
    observation, state = world.reset(reset_key, instance)
    first = observation, state, policy.memory, jnp.zeros((), bool)
    _, (states, lived) = jax.lax.scan(step, first, jax.random.split(run_key, world.horizon))
    return jax.tree.map(lambda one, more: jnp.concatenate([one[None], more]), state, states), jnp.sum(lived)

  states, length = run()
  return states, int(length)
