"""Pictures of flat worlds: where paths go, where they end, and what stands in the way."""

from collections.abc import Iterable, Sequence
import pathlib

from matplotlib.animation import FuncAnimation, PillowWriter
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Circle
import numpy as np

from rlcore.training.plots import COLOURS

Segment = tuple[tuple[float, float], tuple[float, float]]
Box = tuple[float, float, float, float]
SQUARE: Box = (-1.0, 1.0, -1.0, 1.0)


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
