"""Learners on streams in the host loop: what is resumed is to the bit what was never interrupted."""

import functools
import shutil

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from rlcore.training import loop, metrics, off_policy, on_policy, plots, programs
from rlcore.training import mesh as mesh_lib
from tests.training import test_off_policy, walk


def make_experiment(kind: str, **changes):
  if kind == "on-policy":
    return on_policy.make_on_policy_experiment(walk.make_parts(**changes))
  pytest.importorskip("flashbax")
  return off_policy.make_off_policy_experiment(test_off_policy.make_parts(**changes))


slow = functools.partial(pytest.param, marks=pytest.mark.slow)


@pytest.mark.parametrize("kind", [slow("on-policy"), "off-policy"])
def test_a_resumed_run_is_the_uninterrupted_one(kind, tmp_path, monkeypatch):
  """Parameters, optimiser, worlds in the middle of episodes, accounts, buffer and keys come back from the disk."""
  monkeypatch.setattr(plots, "plot_run", lambda history, path, **_: path.touch())
  run = functools.partial(loop.run, make_experiment(kind))
  config = ml_collections.ConfigDict(dict(
      seed=3, steps=9, log_every=2, checkpoint_every=4, progress_metric="episode_return"))
  whole = run(config, tmp_path / "whole")
  shutil.copytree(tmp_path / "whole", tmp_path / "run")
  for step in (8, 9):  # as a kill before update 8 would have left it, but for rows that come again
    shutil.rmtree(tmp_path / "run/checkpoints" / str(step))
  resumed = run(config, tmp_path / "run")
  data = lambda x: jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x
  jax.tree.map(lambda a, b: np.testing.assert_array_equal(data(a), data(b)), resumed.state, whole.state)
  assert (tmp_path / "run/metrics.jsonl").read_bytes() == (tmp_path / "whole/metrics.jsonl").read_bytes()
  steps, losses = metrics.read_history(tmp_path / "run/metrics.jsonl")["loss" if kind == "on-policy" else "q_loss"]
  assert list(steps) == list(range(1, 10)) and len(np.unique(losses)) > 5 and resumed.after == whole.after


@pytest.mark.parametrize("kind", ["on-policy", slow("off-policy")])
def test_worlds_spread_over_devices_learn_the_same(kind):
  """Four devices with one world each, against one device with four worlds."""
  mesh = mesh_lib.make_mesh(4)
  sizes = dict(num_steps=8) if kind == "on-policy" else {}
  plain, spread = make_experiment(kind, **sizes), make_experiment(kind, constrain=mesh_lib.constrain_to(mesh), **sizes)
  start = programs.init_state(plain, jax.random.key(0))
  spread = mesh_lib.mesh_experiment(spread._replace(init=lambda key: start), mesh)
  state, metrics = jax.jit(plain.update)(start)
  other, others = jax.jit(spread.update)(spread.init(None))
  close = functools.partial(np.testing.assert_allclose, rtol=2e-4, atol=1e-5)
  jax.tree.map(close, (other.params, others), (state.params, metrics))
  np.testing.assert_array_equal(other.worlds.observation, state.worlds.observation)
  assert len({x.device for x in other.worlds.observation.addressable_shards if x.data.shape[0] == 1}) == 4
