"""Pictures are drawn, and what they draw is right."""

import numpy as np
import pytest

from rlcore.training import plots


@pytest.mark.parametrize("window", [1, 2, 5, 50])
def test_smoothing_is_the_mean_of_the_neighbours(window):
  values = np.random.default_rng(0).normal(size=23)
  values[[3, 4, 20]] = np.nan
  half = window // 2
  expected = []
  for i in range(23):
    near = [v for v in values[max(i - half, 0):i + half + 1] if np.isfinite(v)]
    expected.append(sum(near) / len(near) if near else np.nan)
  np.testing.assert_allclose(plots.smooth(values, window), expected, atol=1e-12)


def test_a_run_with_every_kind_of_metric_is_drawn(tmp_path):
  steps = np.arange(6, 26)
  history = {"loss": (steps, np.sin(steps)), "warm-up/loss": (np.arange(1, 6), np.arange(5.0)),
             "eval/x": (np.array([5, 25]), np.array([0.1, 0.9])), "nonfinite_loss": (steps, steps % 7 == 0),
             "odd": (steps, np.full(20, np.nan))}
  plots.plot_run(history, tmp_path / "curves.png", warmup_steps=5)
  assert (tmp_path / "curves.png").stat().st_size > 10_000
  plots.plot_run({}, tmp_path / "none.png")


def draw_group():
  pieces = [["a", "b", "c"], ["x", "y"], ["a", "b", "d"], ["a", "b", "c"], []]
  ids: dict[tuple, int] = {}
  nodes = np.zeros((5, 3), int)
  for i, row in enumerate(pieces):
    for t in range(len(row)):
      nodes[i, t] = ids.setdefault(tuple(row[:t + 1]), len(ids))
  advantages = np.arange(15.0).reshape(5, 3) - 7
  return plots.plot_tree_credit(pieces, nodes, advantages, [1, 0, 0, 1, 0], title="group"), pieces, nodes


def test_rows_of_a_node_lie_together():
  _, pieces, nodes = draw_group()
  order = plots._tree_order(nodes, [len(row) for row in pieces])
  place = {row: i for i, row in enumerate(order)}
  assert sorted(order) == [0, 1, 2, 3, 4]
  assert abs(place[0] - place[3]) == 1  # the same response
  assert sorted([place[0], place[2], place[3]])[2] - min(place[0], place[2], place[3]) == 2


def test_a_shared_token_is_written_once(tmp_path):
  figure, _, _ = draw_group()
  texts = [text.get_text() for text in figure.axes[0].texts]
  assert sorted(t for t in texts if len(t) == 1) == ["a", "b", "c", "d", "x", "y"]
  assert texts.count("reward 1") == 2 and texts.count("reward 0") == 3
  figure.savefig(tmp_path / "tree.png")
