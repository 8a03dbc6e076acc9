"""The comparison and the sweep, from a config file to the files they write."""

import json
import pathlib
import signal
import subprocess
import sys
import time

from absl import flags
from absl.testing import flagsaver
import numpy as np
import pytest
import rich.console

from experiments import launch, microscope, reproduce, run, sweep
from rlcore.training import results
from rlcore.training.errors import RunError
from tests.training import toy_config

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _flags():
  if not flags.FLAGS.is_parsed() or launch.CONFIG.value is None:  # another test may have parsed them without a config
    flags.FLAGS(["tests", "--config=tests/training/toy_config.py"])


def make_job(variant="smoke", **overrides) -> launch.Job:
  config = toy_config.get_config(variant)
  config.update(overrides)
  return launch.Job(config.lock(), toy_config, "toy", variant, tuple(overrides))


def test_reproduce_tunes_judges_and_writes(tmp_path, capsys):
  with flagsaver.flagsaver(workdir=str(tmp_path)):
    assert reproduce.main(make_job(steps=30)) == 0
  shown = capsys.readouterr().out
  assert "inconclusive" in shown and "could not have told: 2 seeds where 8 are needed" in shown  # smoke has two seeds
  result = results.read_result(tmp_path / "toy.json")
  assert (tmp_path / "toy.png").stat().st_size > 10_000
  assert list(result["variants"]) == ["eight", "four"]
  assert result["variants"]["four"]["config"]["group_size"] == 4
  assert result["programs"] == 2  # one a variant: the arms and the grid differ in floats only
  for variant in result["variants"].values():
    assert list(variant["arms"]) == ["fast", "slow"]
    for arm in variant["arms"].values():
      assert len(arm["values"]["mean:success"]) == len(arm["values"]["last:eval/solve_rate"]) == 2
      assert len(arm["tuning"]) == 2 and arm["settings"]["warmup_lr"] in (0.0, 0.1)
    assert variant["differences"]["slow"]["mean"] > 0
  study = result["study"]["metrics"]
  assert [h - l for h, l in zip(study["high"], study["low"], strict=True)] == pytest.approx([0.5, 0.5])
  assert result["environment"]["versions"]["jax"] and result["seconds"] >= result["compile_seconds"] > 0
  assert str(pathlib.Path.home()) not in json.dumps(result) and str(tmp_path) not in json.dumps(result)


def test_protocols_come_from_the_config_file():
  whole = reproduce.read_protocol(make_job(""))
  assert whole.claim == toy_config.CLAIM and whole.tune_seeds == (100, 101, 102)
  module = type(sys)("bare")
  with pytest.raises(RunError, match="toy.py has no ARMS"):
    reproduce.read_protocol(make_job()._replace(module=module))


def test_sweep_collects_the_points_with_seeds_and_defaults():
  with flagsaver.flagsaver(seeds=["0", "4"]):
    lanes = sweep.collect(make_job())
  assert [(lane.overrides["lr"], lane.overrides["group_size"], lane.seed) for lane in lanes] == [
      (0.1, 8, 0), (0.1, 8, 4), (0.5, 8, 0), (0.5, 8, 4), (0.5, 4, 0), (0.5, 4, 4)]


def test_sweep_runs_one_program_in_this_process(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(toy_config, "sweep", lambda add: [add(lr=lr, seed=seed) for lr in (0.1, 0.5) for seed in (0, 1)])
  with flagsaver.flagsaver(workdir=str(tmp_path), metrics=["mean:success", "last:eval/solve_rate"]):
    assert sweep.main(make_job()) == 0
  shown = capsys.readouterr().out
  assert "4 runs in 1 program\n" in shown and "warm-up of 2 seeds" in shown
  rows = json.loads((tmp_path / "sweep.json").read_text())
  assert [(row["lr"], row["seed"]) for row in rows] == [(0.1, 0), (0.1, 1), (0.5, 0), (0.5, 1)]
  lines = (tmp_path / "sweep.csv").read_text().splitlines()
  assert lines[0] == "lr,seed,mean:success,last:eval/solve_rate" and len(lines) == 5
  curves = np.load(tmp_path / "group-0.npz")
  for i, row in enumerate(rows):
    name = f"{i} lr={row['lr']} seed={row['seed']}"
    assert curves[f"{name}/success"].shape == (4,) and curves[f"{name}/eval/solve_rate"].shape == (2,)
    assert row["mean:success"] == pytest.approx(curves[f"{name}/success"].mean())


def test_sweep_writes_the_histories_before_it_reduces_them(tmp_path, monkeypatch):
  monkeypatch.setattr(toy_config, "sweep", lambda add: add(lr=0.1))
  monkeypatch.setattr(results, "reduce_history", lambda *_: 1 / 0)
  with flagsaver.flagsaver(workdir=str(tmp_path)), pytest.raises(ZeroDivisionError):
    sweep.main(make_job())
  assert "0 lr=0.1 seed=0/loss" in np.load(tmp_path / "group-0.npz")


@pytest.mark.parametrize("metric, message", [
    ("success", 'metric "success": write "reduction:key"'), ("median:success", 'write "reduction:key"'),
    ("mean:sucess", 'the run has no "sucess"; it has loss, '), ("last:eval/policy", 'the run has no "eval/policy"'),
])
def test_sweep_refuses_a_metric_before_anything_is_trained(tmp_path, monkeypatch, metric, message):
  monkeypatch.setattr(toy_config, "sweep", lambda add: add(lr=0.1))
  monkeypatch.setattr(sweep, "run_group", lambda *_: pytest.fail("it was trained"))
  with flagsaver.flagsaver(workdir=str(tmp_path), metrics=[metric]), pytest.raises(RunError, match=message):
    sweep.main(make_job())


def test_sweep_starts_the_other_groups_as_processes(tmp_path):
  paths = [tmp_path / "group-0.json", tmp_path / "group-1.json"]
  write = lambda path: [sys.executable, "-c", f"open({str(path)!r}, 'w').write('[]')"]
  quiet = rich.console.Console(quiet=True)
  before = signal.getsignal(signal.SIGTERM)
  sweep._run_processes([write(path) for path in paths], paths, tmp_path, quiet)
  assert all(path.read_text() == "[]" for path in paths)
  assert signal.getsignal(signal.SIGTERM) == before
  broken = [sys.executable, "-c", "print('so it was'); raise SystemExit(3)"]
  with pytest.raises(RunError, match="group 0 failed with exit code 3; see .*group-0.log: so it was$"):
    sweep._run_processes([broken], paths[:1], tmp_path, quiet)
  assert (tmp_path / "group-0.log").read_text() == "so it was\n"
  assert signal.getsignal(signal.SIGTERM) == before


def test_a_failed_sweep_keeps_the_rows_of_the_groups_that_finished(tmp_path, monkeypatch, capsys):
  row = {"lr": 0.1, "group_size": 8, "seed": 0, "mean:success": 0.25}
  write = f"open({str(tmp_path / 'group-0.json')!r}, 'w').write({json.dumps([row])!r})"
  fail = "import sys; sys.exit('error: out of luck\\n')"
  monkeypatch.setattr(sweep, "_command", lambda workdir, i: [sys.executable, "-c", fail if i else write])
  (tmp_path / "group-1.json").write_text("[1]")  # of an earlier sweep, it is no row of this one
  with flagsaver.flagsaver(workdir=str(tmp_path)), pytest.raises(RunError, match="group-1.log: out of luck$"):
    sweep.main(make_job())
  assert json.loads((tmp_path / "sweep.json").read_text()) == [row]
  assert "0.2500" in capsys.readouterr().out


_ROW = {"lr": 0.1, "group_size": 8, "seed": 0, "mean:success": 0.25, "tail:success": 0.5}


def _fake_groups(tmp_path, monkeypatch):
  """A sweep of two groups, each run by a process that writes its row; returns the list of those that are started."""
  started = []

  def command(workdir, i):
    started.append(i)
    rows = [_ROW | {"group_size": 4, "lr": 0.5}] if i else [_ROW, _ROW | {"lr": 0.5}]
    return [sys.executable, "-c", f"open({str(workdir / f'group-{i}.json')!r}, 'w').write({json.dumps(rows)!r})"]

  monkeypatch.setattr(sweep, "_command", command)
  return started


def test_a_sweep_runs_again_only_what_is_missing(tmp_path, monkeypatch, capsys):
  started = _fake_groups(tmp_path, monkeypatch)
  with flagsaver.flagsaver(workdir=str(tmp_path)):
    sweep.main(make_job())
    whole = (tmp_path / "sweep.json").read_text()
    assert started == [0, 1] and len(json.loads(whole)) == 3
    sweep.main(make_job())
    assert started == [0, 1] and "2 of 2 programs finished before" in capsys.readouterr().out
    (tmp_path / "group-0.json").write_text(whole[:20])  # torn
    sweep.main(make_job())
    assert started == [0, 1, 0]
    (tmp_path / "group-1.json").write_text(json.dumps([_ROW | {"group_size": 2}]))  # of other runs
    sweep.main(make_job())
    assert started == [0, 1, 0, 1] and (tmp_path / "sweep.json").read_text() == whole
    with pytest.raises(RunError, match="is the run of another config; it differs in steps"):
      sweep.main(make_job(steps=5))
    with flagsaver.flagsaver(fresh=True):
      sweep.main(make_job(steps=5))
    assert started == [0, 1, 0, 1, 0, 1]


_GROUP = """
import os, subprocess, sys, time
from rlcore.training import signals
assert os.environ.pop("RLCORE_SWEEP")
signals.leave_with(0, "the sweep is gone")
other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"]) if len(sys.argv) > 1 else None
print(os.getpid(), other.pid if other else "", flush=True)
time.sleep(100)
"""
# A sweep whose group never ends: it writes the numbers of its processes, as many as there are.
_SWEEP = """
import sys
from absl import flags
from experiments import sweep
from rlcore.training import signals
import pathlib, rich.console
flags.FLAGS(["sweep"])
path = pathlib.Path(sys.argv[1]) / "group-0.json"
with signals.watching():
  sweep._run_processes([[sys.executable, "-c", *sys.argv[2:]]], [path], path.parent, rich.console.Console(quiet=True))
"""


def _lives(pid):
  try:
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
  except FileNotFoundError:
    return False


@pytest.mark.skipif(not pathlib.Path("/proc/self/stat").exists(), reason="looks at processes as Linux shows them")
@pytest.mark.parametrize("number, arguments", [(signal.SIGTERM, ["grandchild"]), (signal.SIGKILL, [])])
def test_the_processes_of_a_sweep_end_with_it(tmp_path, number, arguments):
  process = subprocess.Popen([sys.executable, "-c", _SWEEP, str(tmp_path), _GROUP, *arguments], cwd=ROOT)
  log, deadline = tmp_path / "group-0.log", time.monotonic() + 60
  while not (log.exists() and log.read_text().endswith("\n")):
    assert process.poll() is None and time.monotonic() < deadline
    time.sleep(0.02)
  pids = log.read_text().split()
  assert len(pids) == 1 + len(arguments) and all(map(_lives, pids))
  process.send_signal(number)
  assert process.wait(10) == (-number if number == signal.SIGKILL else 128 + number)
  deadline = time.monotonic() + 5
  while any(map(_lives, pids)):
    assert time.monotonic() < deadline, "a process has outlived its sweep"
    time.sleep(0.02)


def test_input_that_is_refused_leaves_no_directory(tmp_path, monkeypatch):
  ours, theirs = tmp_path / "ours", tmp_path / "theirs"
  theirs.mkdir()
  monkeypatch.setattr(toy_config, "sweep", lambda add: add(lr=0.1))
  for path in (ours, theirs):
    for metric in ("success", "mean:sucess"):
      with flagsaver.flagsaver(workdir=str(path), metrics=[metric]), pytest.raises(RunError):
        sweep.main(make_job())
    with flagsaver.flagsaver(workdir=str(path)), pytest.raises(ValueError, match="at least 2"):
      run.main(make_job(group_size=1))
  monkeypatch.delattr(toy_config, "sweep")
  with flagsaver.flagsaver(workdir=str(ours)), pytest.raises(RunError, match=r"define def sweep\(add\): add\(lr=1e-3"):
    sweep.main(make_job())
  assert not ours.exists() and [path.name for path in theirs.iterdir()] == ["config.json"]


def test_sweep_builds_every_group_before_the_first_one_trains(tmp_path, monkeypatch):
  monkeypatch.setattr(toy_config, "sweep", lambda add: [add(group_size=size) for size in (8, 1)])
  monkeypatch.setattr(sweep, "_run_processes", lambda *_: pytest.fail("it was trained"))
  with flagsaver.flagsaver(workdir=str(tmp_path)), pytest.raises(RunError, match="group_size=1: .* at least 2"):
    sweep.main(make_job())


@pytest.mark.parametrize("name", ["sweep.json", "group-1.log"])
def test_the_microscope_says_that_a_sweep_keeps_no_checkpoints(tmp_path, name):
  (tmp_path / name).touch()
  with pytest.raises(RunError, match="directory of a sweep, which keeps no checkpoints"):
    microscope.restore(tmp_path, None, None, 0)


def test_the_command_of_a_group_repeats_ours(monkeypatch):
  monkeypatch.setattr(sys, "argv", ["sweep", "--config=c.py", "--config.lr=1", "--jobs=4", "--workdir=x"])
  got = sweep._command(pathlib.Path("w"), 3)
  assert got[1:] == ["-m", "experiments.sweep", "--config=c.py", "--config.lr=1", "--workdir=w", "--group=3"]


def test_slurm_without_submitit_says_what_to_install(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, "submitit", None)
  with pytest.raises(RunError, match=r"pip install 'rlcore\[slurm\]'"):
    sweep._run_slurm([], [], tmp_path, rich.console.Console(quiet=True))
