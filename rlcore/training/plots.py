"""Pictures of runs: learning curves, the arms of a comparison, and the credit on one group's prefix tree."""

from collections.abc import Mapping, Sequence
import pathlib
import textwrap

import matplotlib
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Rectangle
import numpy as np

from rlcore.training.metrics import History

COLOURS = ("#1f6fb4", "#d9622b", "#2a8f5b", "#8a5bb0", "#b8923a", "#5d6b78")
FEW_ARMS = 4
MOST_ARMS = 6  # in one panel
UNITS = {
    "success": "share of responses", "reward": "mean of responses", "informative_groups": "share of groups",
    "tokens": "tokens / update", "response_length": "tokens / response", "sampled_nll": "nats / token",
    "entropy": "nats / token", "clip_fraction": "share of tokens", "approx_kl": "nats / token",
    "advantage_abs": "mean |A|", "grad_norm": "global norm"}
_FIRST = ("success", "reward", "loss", "grad_norm", "entropy", "sampled_nll")


def _tidy(axes: Axes, title: str, y_label: str = ""):
  axes.set_title(title, fontsize=10, loc="left", fontweight="bold")
  axes.set_xlabel("updates", fontsize=8, color="0.35")
  axes.set_ylabel(y_label, fontsize=8, color="0.35")
  axes.tick_params(labelsize=8, color="0.6")
  axes.grid(True, color="0.92", linewidth=0.8)
  axes.set_axisbelow(True)
  for side in ("top", "right"):
    axes.spines[side].set_visible(False)
  for side in ("left", "bottom"):
    axes.spines[side].set_color("0.6")


def smooth(values: np.ndarray, window: int) -> np.ndarray:
  """Averages a series over a centred window, cut off at the ends of the series; NaN counts for nothing.

  Args:
    values: `[N]`.
    window: how many points, at most.

  Returns:
    `[N]`, NaN where the window holds no number.
  """
  half = max(window, 1) // 2
  good = np.isfinite(values)
  totals = np.concatenate([[0.0], np.cumsum(np.where(good, values, 0.0))])
  counts = np.concatenate([[0], np.cumsum(good)])
  index = np.arange(len(values))
  low, high = np.maximum(index - half, 0), np.minimum(index + half + 1, len(values))
  number = counts[high] - counts[low]
  return np.where(number > 0, (totals[high] - totals[low]) / np.maximum(number, 1), np.nan)


def _constant(values: np.ndarray) -> bool:
  return len(values) > 1 and np.isfinite(values).all() and np.ptp(values) <= 1e-5 * max(1.0, abs(values[0]))


def _panels(history: History) -> tuple[list[str], str]:
  """Returns the metrics that deserve a panel, in order, and a line about those that would be flat or a copy."""
  names = [name for name in history if not name.startswith("eval/") and "nonfinite_" not in name
           and name.rpartition("/")[2] != "tokens"]  # response_length tells the same
  flat = [name for name in names if _constant(history[name][1])]
  copied = [name for name in ("reward",) if name in names and "success" in names
            and np.array_equal(history[name][1], history["success"][1])]
  notes = [f"{name} = {history[name][1][-1]:.3g}" for name in flat] + [f"{name} = success" for name in copied]
  shown = [name for name in names if name not in (*flat, *copied)]
  stage_last = lambda name: ("/" in name, _FIRST.index(name) if name in _FIRST else len(_FIRST), name)
  return sorted(shown, key=stage_last), ", ".join(notes)


def _draw_series(axes: Axes, steps: np.ndarray, values: np.ndarray, colour: str):
  window = max(len(values) // 15, 1)
  if window > 2:
    axes.plot(steps, values, color=colour, alpha=0.25, linewidth=0.8)
    axes.plot(steps, smooth(values, window), color=colour, linewidth=1.8)
  else:
    axes.plot(steps, values, color=colour, linewidth=1.4, marker="o", markersize=3)


def _draw_evaluations(axes: Axes, evaluations: History):
  for (name, (steps, values)), colour in zip(evaluations.items(), COLOURS * len(evaluations), strict=False):
    axes.plot(steps, values, color=colour, marker="o", markersize=4, linewidth=1.4, label=name.removeprefix("eval/"))
    axes.annotate(f"{values[-1]:.3g}", (steps[-1], values[-1]), (4, 2), textcoords="offset points", fontsize=8,
                  color=colour)
  axes.legend(fontsize=8, frameon=False)
  axes.margins(x=0.12, y=0.15)
  _tidy(axes, "evaluation")


def plot_run(history: History, path: str | pathlib.Path, *, warmup_steps: int = 0):
  """Draws the curves of one run, a panel for each metric, and saves them.

  Each panel shows every update (pale) and a centred moving average over a fifteenth of the run (dark); the held-out
  metrics share the first panel, those of the warm-up come last; what does not change is named below. Updates skipped
  because something was not finite are counted in a panel of their own, if there are any.

  Args:
    history: from `metrics.read_history`.
    path: the picture to write.
    warmup_steps: updates of the warm-up, which the curves of the main updates come after.
  """
  evaluations = {name: series for name, series in history.items() if name.startswith("eval/")}
  skipped = {name: series for name, series in history.items() if "nonfinite_" in name and np.nansum(series[1]) > 0}
  names, notes = _panels(history)
  count = len(names) + bool(evaluations) + bool(skipped)
  columns = min(4, max(count, 1))
  rows = -(-max(count, 1) // columns)
  figure = Figure(figsize=(3.4 * columns, 2.5 * rows), layout="constrained")
  panels = iter(figure.subplots(rows, columns, squeeze=False).flat)
  if evaluations:
    _draw_evaluations(next(panels), evaluations)
  for name in names:
    axes, (steps, values) = next(panels), history[name]
    stage, _, short = name.rpartition("/")
    _draw_series(axes, steps, values, COLOURS[5] if stage else COLOURS[0])
    if not stage and warmup_steps:
      axes.set_xlim(left=warmup_steps)
    _tidy(axes, name.replace("/", ": "), UNITS.get(short, ""))
  if skipped:
    axes = next(panels)
    for (name, (steps, values)), colour in zip(skipped.items(), COLOURS, strict=False):
      axes.step(steps, np.nancumsum(values), where="post", color=colour, label=name)
    axes.legend(fontsize=8, frameon=False)
    _tidy(axes, "skipped updates", "total so far")
  for axes in panels:
    axes.set_visible(False)
  if warmup_steps:
    for axes in figure.axes:
      axes.set_xlabel("updates, warm-up included", fontsize=8, color="0.35")
  if notes:
    figure.supxlabel(f"not drawn: {notes}", fontsize=8, color="0.35", wrap=True)
  figure.savefig(path, dpi=110)


def plot_arms(axes: Axes, curves: Mapping[str, np.ndarray], *, title: str, y_label: str = "", first_step: int = 1,
              stride: int = 1, costs: Mapping[str, np.ndarray] | None = None, x_label: str = "updates"):
  """Draws the mean curve of each arm with the band from its lowest to its highest seed.

  Args:
    axes: where to draw.
    curves: of each arm `[seeds, N]`.
    title: title of the panel.
    y_label: what is measured.
    first_step: update of the first point.
    stride: updates between points.
    costs: of each arm the abscissae `[N]`, instead of the updates.
    x_label: what the abscissae are.
  """
  band = 0.15 if len(curves) <= FEW_ARMS else 0.06  # many bands would bury the means
  for i, (name, values) in enumerate(curves.items()):
    colour, dash = COLOURS[i % len(COLOURS)], ("-", "--", ":")[i // len(COLOURS) % 3]
    steps = first_step + stride * np.arange(values.shape[1]) if costs is None else costs[name]
    axes.fill_between(steps, np.nanmin(values, 0), np.nanmax(values, 0), color=colour, alpha=band, linewidth=0)
    axes.plot(steps, np.nanmean(values, 0), dash, color=colour, linewidth=1.8, label=name)
  below = dict(loc="upper left", bbox_to_anchor=(-0.12, -0.18), ncols=2, columnspacing=1)
  many = len(curves) > FEW_ARMS
  axes.legend(fontsize=7 if many else 8, frameon=False, **(below if many else {}))
  _tidy(axes, title, f"{y_label}, mean and range of seeds" if y_label else "mean and range of seeds")
  axes.set_xlabel(x_label, fontsize=8, color="0.35")


def plot_judged(axes: Axes, name: str, quantity: Mapping):
  """Draws a quantity that a rule looked at: every seed, the mean with its interval, and the threshold.

  Args:
    axes: where to draw.
    name: what the quantity is.
    quantity: its entry in a result file.
  """
  values = np.array(quantity["values"], float)
  order = np.argsort(values)
  axes.axvline(quantity["above"], color="0.3", linewidth=1, linestyle=":" if quantity["above"] else "-")
  axes.plot(values[order], np.linspace(0.25, 0.75, len(values)), "o", color=COLOURS[0], markersize=4, alpha=0.6)
  mean, low, high = (quantity[key] for key in ("mean", "low", "high"))
  if np.isfinite([low, high]).all():
    axes.errorbar(mean, 0.08, xerr=[[mean - low], [high - mean]], fmt="D", color=COLOURS[1], capsize=4, markersize=5)
  _tidy(axes, "\n".join(textwrap.wrap(f"judged: {name}", 40)))
  axes.set(ylim=(0, 1), yticks=())
  axes.set_xlabel(f"{mean:.3f} [{low:.3f}, {high:.3f}], must lie above {quantity['above']:g}", fontsize=8, color="0.35")


def result_figure(result: Mapping, *, width: float, height: float) -> tuple[Figure, SubFigure]:
  """Makes the figure of a result: its heading, room for its curves, and below them all that the rule judged.

  Args:
    result: as in its file.
    width: of the figure in inches, at least.
    height: of the room in inches.

  Returns:
    The figure and the room.
  """
  judged = result["judged"]
  columns = min(len(judged), 4) or 1
  rows = -(-len(judged) // columns)
  figure = Figure(figsize=(max(width, 3.4 * columns), height + 2.3 * rows), layout="constrained")
  top, bottom = figure.subfigures(2, 1, height_ratios=(height, 2.3 * max(rows, 0.01)))
  places = list(bottom.subplots(max(rows, 1), columns, squeeze=False).flat)
  for axes, (name, quantity) in zip(places, judged.items(), strict=False):
    plot_judged(axes, name, quantity)
  for axes in places[len(judged):]:
    axes.set_visible(False)
  figure.suptitle(f"{result['claim']['paper']} (arXiv:{result['claim']['arxiv']})", fontsize=12, fontweight="bold")
  return figure, top


def _tree_order(nodes: np.ndarray, lengths: Sequence[int]) -> list[int]:
  """Orders rows so that those of one node lie together, in the order in which the nodes first appear."""
  first = {}
  for t in range(nodes.shape[1]):
    for row, length in enumerate(lengths):
      if t < length:
        first.setdefault((t, int(nodes[row, t])), row)
  path = lambda row: [first[t, int(nodes[row, t])] for t in range(lengths[row])]
  return sorted(range(len(lengths)), key=path)


def plot_tree_credit(
    pieces: Sequence[Sequence[str]],
    nodes: np.ndarray,
    advantages: np.ndarray,
    rewards: Sequence[float],
    *,
    title: str = "",
) -> Figure:
  """Draws the responses of one group as their prefix tree, each token coloured by its credit.

  A row is a response. Tokens that several responses share are one box over their rows; a box ends where the responses
  part. Red is negative credit, blue positive, and the reward of each response stands at its end.

  Args:
    pieces: text of the tokens of each response, `[G]` sequences of their own lengths.
    nodes: `[G, T]` integers; rows with the same number at position t share that token and all before it. Places
      beyond a response's length are ignored.
    advantages: `[G, T]`, credit of each token.
    rewards: `[G]`.
    title: title of the picture.

  Returns:
    The figure; save it with `figure.savefig(path)`.
  """
  nodes, advantages = np.asarray(nodes), np.asarray(advantages, float)
  lengths = [len(row) for row in pieces]
  order = _tree_order(nodes, lengths)
  longest = max(lengths, default=1)
  widths = [max((len(row[t]) for row in pieces if t < len(row)), default=1) for t in range(longest)]
  edges = np.concatenate([[0.0], np.cumsum([0.30 + 0.11 * width for width in widths])])
  figure = Figure(figsize=(max(edges[-1] + 2.4, 4.5), 0.36 * len(order) + 1.1), layout="constrained")
  axes = figure.subplots()
  counted = [advantages[row, t] for row in order for t in range(lengths[row])]
  limit = max((abs(a) for a in counted), default=0.0) or 1.0
  norm, colours = TwoSlopeNorm(0.0, -limit, limit), matplotlib.colormaps["RdBu"]
  for t in range(longest):
    _draw_column(axes, t, edges, order, lengths, pieces, nodes, lambda row, t=t: colours(norm(advantages[row, t])))
  for place, row in enumerate(order):
    axes.text(edges[lengths[row]] + 0.1, place + 0.5, f"reward {rewards[row]:g}", va="center", fontsize=9,
              color="0.2")
  axes.set(xlim=(-0.05, edges[-1] + 1.0), ylim=(len(order) + 0.05, -0.05))
  axes.axis("off")
  axes.set_title(title, fontsize=11, loc="left", fontweight="bold")
  mappable = ScalarMappable(norm, colours)
  bar = figure.colorbar(mappable, ax=axes, fraction=0.03, pad=0.01)
  bar.set_label("credit (advantage)", fontsize=8)
  bar.ax.tick_params(labelsize=8)
  return figure


def _draw_column(axes, t, edges, order, lengths, pieces, nodes, colour):
  """Draws the tokens at position t: a cell for each response, one outline and one text for each node."""
  place = 0
  while place < len(order):
    row = order[place]
    if t >= lengths[row]:
      place += 1
      continue
    end = place + 1
    while end < len(order) and t < lengths[order[end]] and nodes[order[end], t] == nodes[row, t]:
      end += 1
    left, width = edges[t], edges[t + 1] - edges[t]
    for i in range(place, end):
      axes.add_patch(Rectangle((left, i), width, 1, facecolor=colour(order[i]), linewidth=0))
    axes.add_patch(Rectangle((left, place), width, end - place, fill=False, edgecolor="white", linewidth=2))
    shades = np.mean([colour(order[i])[:3] for i in range(place, end)], 0)
    dark = shades @ (0.299, 0.587, 0.114) < 0.55
    axes.text(left + width / 2, (place + end) / 2, pieces[row][t].replace("\n", "⏎").replace(" ", "␣"), ha="center",
              va="center", fontsize=10, family="monospace", color="white" if dark else "0.1")
    place = end


def plot_result(result: Mapping, path: str | pathlib.Path):
  """Draws a result file: the curves of every variant's arms, and below them the quantities that the rule judged.

  A panel shows at most `MOST_ARMS` arms, those that are compared first.

  Args:
    result: as in its file.
    path: the picture to write.
  """
  claim = result["claim"]
  compared = (claim["method"], *claim["baselines"])
  panels = []
  for name, variant in result["variants"].items():
    arms = [*compared, *(arm for arm in variant["arms"] if arm not in compared)]
    panels += [(name, variant, arms[i:i + MOST_ARMS]) for i in range(0, len(arms), MOST_ARMS)]
  columns = min(len(panels), 2)
  rows, most = -(-len(panels) // columns), max(len(arms) for *_, arms in panels)
  height = 3.3 if most <= FEW_ARMS else 3.6 + 0.12 * most  # the legend of many arms stands below the curves
  figure, top = result_figure(result, width=max(4.9 * columns, 6.5), height=height * rows)
  places = iter(top.subplots(rows, columns, squeeze=False).flat)
  for axes, (name, variant, arms) in zip(places, panels, strict=False):
    curves = {arm: variant["arms"][arm]["curve"] for arm in arms}
    rate = lambda arm, variant=variant: [f"lr {x:g}" for k, x in variant["arms"][arm]["settings"].items() if k == "lr"]
    first = curves[arms[0]]
    plot_arms(axes, {", ".join([arm, *rate(arm)]): np.array(curve["seeds"]) for arm, curve in curves.items()},
              title=first["key"] + (f", {name.replace('_', ' ')}" if name != "default" else "")
              + (", further arms" if claim["method"] not in arms else ""), y_label=first["key"], stride=first["stride"])
  for axes in places:
    axes.set_visible(False)
  figure.savefig(path, dpi=110)
