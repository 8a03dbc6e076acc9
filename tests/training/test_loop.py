"""The host loop in one process: chunks, whole runs, files, resuming, stopping."""

import errno
import json
import os
import signal

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from rlcore.training import loop, metrics, plots, programs
from rlcore.training.errors import NonFiniteError, RunError
from tests.training import toy, toy_config
from tests.tolerance import close


@pytest.fixture(name="draws")
def _draws():
  """Asked for by the test that wants the real picture."""


@pytest.fixture(autouse=True)
def _quick(request, monkeypatch):
  """Pictures take half of a run's time here; one test draws them."""
  if "draws" not in request.fixturenames:
    monkeypatch.setattr(plots, "plot_run", lambda history, path, **_: path.touch())


def make_config(**overrides):
  config = toy_config.get_config()
  config.update(overrides)
  return config


def train(workdir, **overrides):
  config = make_config(**overrides)
  return loop.run(toy.make_experiment(config), config, workdir)


def test_a_chunk_is_the_updates_one_by_one_and_compiles_once_for_every_count():
  update = lambda state: ({"x": state["x"] * 1.5 + 1, "n": state["n"] + 1}, {"x": state["x"]})
  traces = []
  chunk = jax.jit(lambda state, count: (traces.append(1), programs.chunk(update, 5)(state, count))[1])
  for count in (0, 1, 3, 5):
    state = {"x": jnp.float32(2.0), "n": jnp.int32(0)}
    expected = []
    out, stacked = chunk(state, count)
    for _ in range(count):
      state, row = update(state)
      expected.append(float(row["x"]))
    assert int(out["n"]) == count and float(out["x"]) == pytest.approx(float(state["x"]))
    close(stacked["x"], expected + [0.0] * (5 - count), rtol=1e-6)
  assert len(traces) == 1


def test_strengthen_removes_weak_types_and_keeps_keys():
  state = programs.strengthen({"a": jnp.asarray(1.0), "key": jax.random.key(3)})
  assert not state["a"].weak_type
  assert jax.random.key_data(state["key"]).tolist() == jax.random.key_data(jax.random.key(3)).tolist()


@pytest.mark.parametrize("warmup_steps", [0, 5])
def test_train_is_the_run_as_one_function_of_the_key(tmp_path, warmup_steps):
  config = make_config(warmup_steps=warmup_steps)
  result = train(tmp_path, warmup_steps=warmup_steps)
  keys = jnp.stack([jax.random.key(config.seed), jax.random.key(7)])
  state, stacked = jax.jit(jax.vmap(loop.train(toy.make_experiment(config), config.steps)))(keys)
  assert stacked["success"].shape == (2, config.steps)
  close(state["logits"][0], result.state["logits"], rtol=1e-5)
  steps, values = metrics.read_history(tmp_path / "metrics.jsonl")["success"]
  np.testing.assert_array_equal(values, np.asarray(stacked["success"][0], float))
  assert steps.tolist() == list(range(warmup_steps + 1, warmup_steps + config.steps + 1))
  assert not np.allclose(stacked["success"][0], stacked["success"][1])


def test_train_refuses_host_code():
  with pytest.raises(ValueError, match="host code"):
    loop.train(toy.make_experiment(make_config(jittable=False)), 2)


def test_a_run_writes_everything_and_learns(tmp_path, draws):
  result = train(tmp_path)
  assert result.step == 45 and result.received is None
  assert result.after["solve_rate"] > result.before["solve_rate"] + 0.3
  assert 0 < result.compile_seconds < result.seconds
  assert all(path.exists() for path in result.paths.values()), result.paths
  history = metrics.read_history(tmp_path / "metrics.jsonl")
  assert history["warm-up/loss"][0].tolist() == [1, 2, 3, 4, 5]
  assert history["eval/solve_rate"][0].tolist() == [5, 25, 45]  # before, every 20 main updates, after
  assert sorted(int(p.name) for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit()) == [40, 45]
  assert json.loads((tmp_path / "config.json").read_text())["lr"] == 0.5
  assert list((tmp_path / "tensorboard").glob("events*"))
  clock = metrics.read_history(result.paths["clock"])
  assert clock["speed/tokens_per_second"][0].tolist() == [5, 8, 10, 16, 20, 24, 25, 30, 32, 40, 45]
  assert np.all(np.diff(clock["wall_time"][1]) >= 0) and np.all(clock["speed/updates_per_second"][1] > 0)
  assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_long_initialisation_is_told_before_it(tmp_path, capsys):
  config = make_config(steps=1)
  experiment = toy.make_experiment(config)._replace(preparation="a fit")
  loop.run(experiment, config, tmp_path)
  assert capsys.readouterr().out.startswith("preparing: a fit\n")


def test_updates_without_any_credit_are_told(tmp_path, capsys):
  config = make_config(steps=6, log_every=2)
  experiment = toy.make_experiment(config)

  def update(state, zero_until):
    new, metrics = experiment.update(state)
    return new, metrics | {"advantage_abs": jnp.where(state["step"] < zero_until, 0.0, 0.5)}

  last = experiment.warmup.steps + 5 if experiment.warmup else 5  # the last of all updates
  for steps, zero_until, told in ((6, 10**6, True), (4, 10**6, False), (6, last, False)):
    config.steps = steps  # of two to four updates (`:smoke`) nothing can be said
    some = experiment._replace(update=lambda state, z=zero_until: update(state, z))
    loop.run(some, config, tmp_path / f"{steps} {told}")
    assert ("the advantages were 0 in every update" in capsys.readouterr().out) == told


def test_what_was_not_finite_is_named_in_place_of_missing_credit(tmp_path, capsys):
  config = make_config(steps=6, warmup_steps=0, max_nonfinite=100)
  experiment = toy.make_experiment(config)

  def update(state):
    new, metrics = experiment.update(state)
    return new, metrics | {"advantage_abs": jnp.zeros(()), "nonfinite_advantages": (state["step"] < 5).astype(float)}

  loop.run(experiment._replace(update=update), config, tmp_path)
  shown = capsys.readouterr().out
  assert "warning: non-finite advantages in 5 of 6 updates, each of which was skipped" in shown
  assert "advantages were 0" not in shown


def test_a_full_disk_is_one_line_with_the_last_good_step(tmp_path, monkeypatch):
  write = metrics.MetricsLog.write

  def full(self, step, row):
    if step > 12:
      raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    write(self, step, row)

  monkeypatch.setattr(metrics.MetricsLog, "write", full)
  with pytest.raises(RunError) as failed:
    train(tmp_path, checkpoint_every=10)
  assert str(failed.value) == (
      f"cannot write {tmp_path} (No space left on device) at update 10; the last good checkpoint is of update 10; "
      f"resume with --workdir={tmp_path}")
  monkeypatch.undo()
  assert train(tmp_path, checkpoint_every=10).step == 45


def test_an_error_of_the_experiment_is_not_one_of_the_disk(tmp_path):
  config = make_config(jittable=False)
  def update(state):
    raise ConnectionRefusedError(errno.ECONNREFUSED, "the experiment's own")
  with pytest.raises(ConnectionRefusedError, match="the experiment's own"):
    loop.run(toy.make_experiment(config)._replace(update=update), config, tmp_path)


def test_host_code_gives_the_same_numbers(tmp_path):
  train(tmp_path / "jitted", steps=12)
  train(tmp_path / "host", steps=12, jittable=False)
  jitted, host = (metrics.read_history(tmp_path / name / "metrics.jsonl") for name in ("jitted", "host"))
  for name, (steps, values) in jitted.items():
    np.testing.assert_array_equal(steps, host[name][0])
    np.testing.assert_allclose(values, host[name][1], rtol=1e-5, atol=1e-6)


def test_a_finished_run_can_be_made_longer(tmp_path):
  train(tmp_path / "short", steps=20)
  resumed = train(tmp_path / "short", steps=40)
  whole = train(tmp_path / "whole", steps=40)
  assert resumed.step == whole.step == 45
  read = lambda name: (tmp_path / name / "metrics.jsonl").read_text()
  assert read("short") == read("whole")


def test_the_chunk_length_changes_no_number(tmp_path):
  train(tmp_path / "a", log_every=8)
  train(tmp_path / "b", log_every=3, checkpoint_every=7)
  assert (tmp_path / "a/metrics.jsonl").read_bytes() == (tmp_path / "b/metrics.jsonl").read_bytes()


def test_another_config_is_refused_and_named(tmp_path):
  train(tmp_path, steps=3)
  with pytest.raises(RunError, match=r"lr \(0.5 there, 0.25 here\)"):
    train(tmp_path, steps=3, lr=0.25)


def test_a_directory_without_checkpoint_is_started_anew(tmp_path):
  (tmp_path / "config.json").write_text("{}")
  (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 7.0}\n')
  train(tmp_path, steps=2, warmup_steps=0)
  assert metrics.read_history(tmp_path / "metrics.jsonl")["loss"][0].tolist() == [1, 2]


@pytest.mark.parametrize("path", ["/dev/null/run", "/proc/run"])
def test_an_unwritable_directory_is_one_line(path):
  with pytest.raises(RunError, match=f"cannot write the run directory {path}"):
    train(path)


@pytest.mark.parametrize("name", ["log_every", "max_nonfinite", "keep_checkpoints"])
def test_options_below_one_are_refused(tmp_path, name):
  with pytest.raises(RunError, match=f"{name} must be at least 1, not 0"):
    train(tmp_path, **{name: 0})


def test_non_finite_updates_stop_the_run_and_are_saved(tmp_path):
  with pytest.raises(NonFiniteError, match="stopped at update 13: non-finite loss in 3 updates in a row"):
    train(tmp_path, nan_from=10)
  assert (tmp_path / "checkpoints/16").exists() or (tmp_path / "checkpoints/13").exists()
  assert (tmp_path / "curves.png").exists()
  history = metrics.read_history(tmp_path / "metrics.jsonl")
  steps, flags = history["nonfinite_loss"]
  assert steps[flags > 0].tolist()[:3] == [11, 12, 13]


def test_scattered_non_finite_updates_do_not_stop_it(tmp_path):
  config = make_config(max_nonfinite=2, steps=12, warmup_steps=0)
  experiment = toy.make_experiment(config)
  def update(state):
    state, row = experiment.update(state)
    return state, row | {"nonfinite_reward": (state["step"] % 2).astype(jnp.float32)}
  result = loop.run(experiment._replace(update=update), config, tmp_path)
  assert result.step == 12


def test_a_non_finite_loss_counts_without_a_flag(tmp_path):
  config = make_config(max_nonfinite=2, warmup_steps=0)
  experiment = toy.make_experiment(config)
  update = lambda state: (experiment.update(state)[0], {"loss": jnp.where(state["step"] >= 4, jnp.inf, 1.0)})
  with pytest.raises(NonFiniteError, match="stopped at update 6: non-finite loss"):
    loop.run(experiment._replace(update=update), config, tmp_path)


def test_a_state_on_a_mesh_stays_there_and_is_resumed_there(tmp_path):
  config = make_config(warmup_steps=0, steps=12, log_every=4, checkpoint_every=4)
  plain = toy.make_experiment(config)
  mesh = jax.sharding.Mesh(np.array(jax.devices()), ("data",))
  place = lambda *names: jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*names))
  traces = []

  def init(key):
    state = jax.lax.with_sharding_constraint(plain.init(key), place())
    return state | {"spread": jax.lax.with_sharding_constraint(jnp.zeros(16), place("data"))}

  def update(state):
    traces.append(1)
    spread = state.pop("spread") + 1
    state, row = plain.update(state)
    return state | {"spread": spread}, row

  experiment = plain._replace(init=init, update=update, evaluate=lambda state: {"n": jnp.sum(state["spread"])})
  loop.run(experiment, config, tmp_path / "run")
  assert len(traces) == 1
  config.steps = 16
  result = loop.run(experiment, config, tmp_path / "run")
  assert result.state["spread"].sharding.is_equivalent_to(place("data"), 1)
  assert result.after["n"] == 16 * 16
  loop.run(plain, config, tmp_path / "plain")
  read = lambda name: metrics.read_history(tmp_path / name / "metrics.jsonl")["loss"][1]
  np.testing.assert_allclose(read("run"), read("plain"), rtol=1e-5, atol=1e-7)


def test_a_signal_saves_and_the_resumed_run_is_identical(tmp_path):
  config = make_config(jittable=False, warmup_steps=3, steps=20)
  experiment = toy.make_experiment(config)
  def update(state):
    if int(state["step"]) == 12:
      os.kill(os.getpid(), signal.SIGTERM)
    return experiment.update(state)
  before = signal.getsignal(signal.SIGTERM)
  stopped = loop.run(experiment._replace(update=update), config, tmp_path / "run")
  assert stopped.received == signal.SIGTERM and stopped.after is None and 13 <= stopped.step < 23
  assert signal.getsignal(signal.SIGTERM) == before
  assert (tmp_path / "run/checkpoints" / str(stopped.step)).exists()
  loop.run(experiment, config, tmp_path / "run")
  loop.run(experiment, config, tmp_path / "whole")
  assert (tmp_path / "run/metrics.jsonl").read_bytes() == (tmp_path / "whole/metrics.jsonl").read_bytes()


@pytest.mark.parametrize("key, value, words", [
    ("seed", "0", "seed='0' is no whole number"), ("steps", 2.5, "steps=2.5 is no whole number"),
    ("log_every", True, "log_every=True is no whole number"), ("progress_metric", 3, "progress_metric=3 is no name"),
])
def test_run_options_of_a_wrong_type_are_named(key, value, words):
  config = ml_collections.ConfigDict(dict(steps=1, seed=0) | {key: value})
  with pytest.raises(RunError, match=words):
    loop.RunOptions.from_config(config)
