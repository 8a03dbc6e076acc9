"""Quality diversity in the walled square: what the arms are, what is counted, and the rule of the verdict."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from matplotlib.figure import Figure
import numpy as np
import pytest

from configs.control import sparse_qd as config_file
from experiments.control import sparse_qd
from rlcore import diversity
from rlcore.training import pictures, sweep

_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # compiles faster


def test_arms_survive_by_what_their_names_say():
  novelty, surprise, rewards = np.array([3.0, 1, 2]), np.array([1.0, 3, 2]), np.array([0.0, 0, 0.5])
  for name, arm in config_file.ARMS.items():
    config = sweep.apply_overrides(config_file.get_config(), arm)
    assert config.learned == (name in ("taxons", "stax")) and (config.exploit > 0) == (name in ("serene", "stax"))
    assert (config.fresh > 0) == (name == "random")
    settings = {key: jnp.float32(config[key]) for key in ("greedy", "surprise_rate")}
    worth = np.array([sparse_qd.worth(jax.random.key(i), settings, novelty, surprise, rewards) for i in range(30)])
    if name == "evolution":
      assert (worth[:, 2] == 2).all() and 0 < worth[:, 0].sum() < 30  # the others are tied
    elif config.learned:
      by_surprise = (worth == surprise).all(1)
      assert (by_surprise | (worth == novelty).all(1)).all() and 5 < by_surprise.sum() < 25
    else:
      np.testing.assert_array_equal(worth, np.tile(novelty, (30, 1)))


def test_the_tally_is_coverage_and_the_best_of_each_area():
  rng = np.random.default_rng(0)
  positions, areas = rng.uniform(-1, 1, (2, 90, 2)).astype(np.float32), rng.random((2, 90, 2)).astype(np.float32)
  positions[0, :3] = [[1, 1], [-1, -1], [0, 0]]
  areas[..., 1] = 0
  mask = rng.random((2, 90)) < 0.7
  mask[0, :3] = True
  tally = sparse_qd.empty_tally()
  for i in range(2):
    tally = sparse_qd.record(tally, {"position": positions[i], "areas": areas[i]}, None, mask[i])
  metrics = sparse_qd.measure(tally)
  bound = jnp.ones(2)
  want = diversity.coverage(positions.reshape(-1, 2), mask.reshape(-1), -bound, bound, 20)
  np.testing.assert_allclose(metrics["coverage"], want)
  np.testing.assert_allclose(metrics["best_a"], areas[mask].max(0)[0])
  assert tally["visits"].sum() == mask.sum()
  assert (metrics["best_b"], metrics["areas"], metrics["both"]) == (0, 1, 0)


@pytest.mark.slow  # compiles the program of a whole search with an auto-encoder
def test_a_learned_search_spends_its_budget_and_describes_by_its_encoder():
  config = sweep.apply_overrides(config_file.get_config("smoke"), config_file.ARMS["stax"])
  experiment = sparse_qd.make_experiment(config)
  start = _jit(experiment.init)(jax.random.key(0))
  update = _jit(experiment.update)
  state, metrics = update(start)
  assert all(np.isfinite(x) for x in metrics.values()) and metrics["spent"] == 50
  first, moved = jax.tree.leaves(start.model), jax.tree.leaves(state.model)
  assert any(not np.allclose(a, b) for a, b in zip(first, moved, strict=True))  # trained after the first chunk
  descriptors = np.asarray(state.population.descriptors)
  assert descriptors.shape == (8, 4) and np.abs(descriptors).max() <= 1 and descriptors.std() > 0
  for _ in range(3):
    state, metrics = update(state)
  assert metrics["spent"] == 200 == experiment.evaluate(state)["visits"].sum()


def test_pictures_are_written(tmp_path):
  axes = Figure().subplots()
  path = np.linspace([-0.8, -0.8], [0.5, 0.2], 9)
  scene = dict(walls=[((0, -1), (0, 0.3))], discs=[((0.7, 0.7), 0.2)])
  pictures.draw_plane(axes, heat=np.arange(6).reshape(2, 3), paths=[path], **scene)
  assert len(axes.images) == len(axes.patches) == 1 and len(axes.lines) == 3  # the wall, the path and its end
  assert axes.images[0].get_array()[0].mask[0]  # where nothing ended there is no colour
  pictures.animate_paths(tmp_path / "path.gif", [path], frames=3, **scene)
  assert (tmp_path / "path.gif").read_bytes()[:4] == b"GIF8"


def test_the_rule_of_the_verdict():
  def judge(difference, both=10, cover=1.0):
    values = {"last:best": 0.5, "last:best_a": 0.5, "last:best_b": 0.5, "last:coverage": 0.8}
    noise = np.linspace(-0.02, 0.02, 10)
    arms = {}
    for name in config_file.ARMS:
      own = {key: [x] * 10 for key, x in values.items()} | {"last:both": [1.0] * 10}
      if name == "serene":
        own |= {"last:best": list(0.5 + difference + noise), "last:coverage": [0.8 * cover] * 10,
                "last:both": [1.0] * both + [0.0] * (10 - both)}
      arms[name] = {"values": own}
    return config_file.verdict(
        {"claim": dataclasses.asdict(config_file.CLAIM), "variants": {"default": {"arms": arms}}})[0]

  assert [judge(x) for x in (0.1, 0.003, 0.0, -0.1)] == [
      "reproduced", "inconclusive", "inconclusive", "not reproduced"]
  assert [judge(0.1, both=9), judge(0.1, both=8)] == ["reproduced", "inconclusive"]
  assert [judge(0.1, cover=0.71), judge(0.1, cover=0.6), judge(0.1, cover=0.4)] == [
      "reproduced", "inconclusive", "not reproduced"]
