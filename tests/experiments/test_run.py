"""The run command as users meet it: real processes, real signals, one line for every error."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).parents[2]
CONFIG = "--config=tests/training/toy_config.py"


def command(*arguments):
  return [sys.executable, "-m", "experiments.run", CONFIG, *map(str, arguments)]


def run(*arguments):
  return subprocess.run(command(*arguments), cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


def start(*arguments):
  return subprocess.Popen(command(*arguments), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for(path, process):
  """Waits until a run has written `path`."""
  deadline = time.monotonic() + 300
  while not path.exists():
    assert process.poll() is None and time.monotonic() < deadline, process.communicate()[0]
    time.sleep(0.005)


LONG = ("--config.steps=43", "--config.checkpoint_every=3", "--config.log_every=2")


@pytest.fixture(scope="module", name="uninterrupted")
def _uninterrupted(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("whole") / "run"
  done = run(*LONG, f"--workdir={workdir}")
  return workdir, done


def test_a_run_ends_with_what_was_learnt_and_where_it_is(uninterrupted):
  workdir, done = uninterrupted
  assert done.returncode == 0, done.stderr
  assert "solve_rate" in done.stdout and "+0.50" in done.stdout and "of it compiling" in done.stdout
  for name in ("curves.png", "metrics.jsonl", "tensorboard", "checkpoints", "config.json"):
    assert str(workdir / name) in done.stdout and (workdir / name).exists()
  assert not done.stderr, done.stderr


def test_killed_at_any_moment_and_resumed_is_the_same_to_the_byte(tmp_path, uninterrupted):
  workdir = tmp_path / "run"
  for seen, delay in (("6", 0.0), ("27", 0.07)):
    process = start(*LONG, f"--workdir={workdir}")
    wait_for(workdir / "checkpoints" / seen, process)
    time.sleep(delay)  # somewhere in the next updates, or within the next checkpoint
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (workdir / "checkpoints" / "48").exists()
  done = run(*LONG, f"--workdir={workdir}")
  assert done.returncode == 0 and "resumed at update" in done.stdout, done.stdout + done.stderr
  assert (workdir / "metrics.jsonl").read_bytes() == (uninterrupted[0] / "metrics.jsonl").read_bytes()


def test_sigterm_saves_and_says_how_to_go_on(tmp_path):
  workdir = tmp_path / "run"
  process = start(*LONG, "--config.steps=5000", f"--workdir={workdir}")
  wait_for(workdir / "checkpoints" / "6", process)
  process.send_signal(signal.SIGTERM)
  output = process.communicate(timeout=120)[0]
  assert process.returncode == 128 + signal.SIGTERM, output
  assert f"resume with --workdir={workdir}" in output and "Traceback" not in output
  step = output.split("saved at update ")[1].split(";")[0]
  assert (workdir / "checkpoints" / step).exists() and (workdir / "curves.png").exists()


@pytest.mark.parametrize("arguments, code, message", [
    (["--config.lrr=1"], 2, 'error: the config has no key "lrr"; did you mean "lr"?'),
    (["--config.group_size=1", "--workdir={tmp}/run"], 2,
     "error: group_size=1: group-relative credit needs at least 2 responses to a prompt"),
    (["--workdir=/dev/null/run"], 2, "error: cannot write the run directory /dev/null/run: Not a directory"),
    (["--config.nan_from=10", "--workdir={tmp}/run"], 1,
     "error: stopped at update 13: non-finite loss in 3 updates in a row"),
])
def test_errors_are_one_line(tmp_path, arguments, code, message):
  done = run(*(argument.format(tmp=tmp_path) for argument in arguments))
  assert done.returncode == code
  assert done.stderr.startswith(message) and len(done.stderr.splitlines()) == 1, done.stderr


def test_a_truncated_checkpoint_falls_back_and_another_config_is_refused(tmp_path, uninterrupted):
  workdir = tmp_path / "run"
  workdir.mkdir()
  subprocess.run(["cp", "-r", f"{uninterrupted[0]}/.", str(workdir)], check=True)
  newest = workdir / "checkpoints" / "48"
  for path in newest.rglob("*"):
    if path.is_file() and path.stat().st_size > 20:
      os.truncate(path, path.stat().st_size // 2)
  refused = run(*LONG, "--config.seed=1", f"--workdir={workdir}")
  assert refused.returncode == 2 and "seed (0 there, 1 here)" in refused.stderr
  done = run(*LONG, f"--workdir={workdir}")
  assert done.returncode == 0, done.stderr
  assert "warning: checkpoint 48 cannot be read and is set aside" in done.stderr
  assert (workdir / "metrics.jsonl").read_bytes() == (uninterrupted[0] / "metrics.jsonl").read_bytes()
