"""The run command as users meet it: real processes, real signals, one line for every error."""

import os
import pathlib
import shlex
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


def test_a_second_run_is_refused_and_sigterm_saves_and_says_how_to_go_on(tmp_path):
  workdir = tmp_path / "run"
  process = start(*LONG, "--config.steps=500000", f"--workdir={workdir}")
  wait_for(workdir / "checkpoints" / "6", process)
  refused = run(*LONG, f"--workdir={workdir}")
  assert refused.returncode == 2 and len(refused.stderr.splitlines()) == 1, refused.stderr
  assert f"{workdir} is in use by process {process.pid} on host " in refused.stderr
  process.send_signal(signal.SIGTERM)
  output = process.communicate(timeout=120)[0]
  assert process.returncode == 128 + signal.SIGTERM, output
  assert f"resume with --workdir={workdir}" in output and "Traceback" not in output
  step = output.split("saved at update ")[1].split(";")[0]
  assert (workdir / "checkpoints" / step).exists() and (workdir / "curves.png").exists()


# One chunk of half a minute, in which no handler of Python runs.
ONE_CHUNK = ("--config.steps=3000000", "--config.log_every=3000000", "--config.checkpoint_every=0",
             "--config.eval_every=0")


def ended(process, number):
  """Sends a signal; returns the seconds that the process took to end, and its output."""
  begun = time.monotonic()
  process.send_signal(number)
  output = process.communicate(timeout=120)[0]
  return time.monotonic() - begun, output


def test_the_second_signal_ends_at_once_in_the_middle_of_a_chunk(tmp_path):
  process = start(*ONE_CHUNK, f"--workdir={tmp_path}/run")
  for line in process.stdout:
    if line.startswith("train: "):
      break
  time.sleep(2)  # compiled, and at work
  process.send_signal(signal.SIGINT)
  assert process.stdout.readline() == "SIGINT: saving after this chunk (once more to quit at once)\n"
  seconds, output = ended(process, signal.SIGTERM)
  assert process.returncode == 128 + signal.SIGTERM and seconds < 3, (seconds, output)
  assert output == (f"SIGTERM: left at once; the last good checkpoint is of update 5; resume with "
                    f"--workdir={tmp_path}/run\n")


def test_before_the_first_update_a_signal_ends_at_once(tmp_path):
  process = start(f"--workdir={tmp_path}/run")
  wait_for(pathlib.Path(f"{tmp_path}/run/config.json"), process)  # what follows is built and compiled
  seconds, output = ended(process, signal.SIGTERM)
  assert process.returncode == 128 + signal.SIGTERM and seconds < 3, (seconds, output)
  assert output.splitlines()[-1].startswith("SIGTERM: left at once") and "Traceback" not in output


@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="looks at what a process has loaded")
def test_ctrl_c_while_importing_is_one_line():
  process = start()
  deadline = time.monotonic() + 60
  while "numpy" not in pathlib.Path(f"/proc/{process.pid}/maps").read_text():
    assert time.monotonic() < deadline
    time.sleep(0.01)
  _, output = ended(process, signal.SIGINT)
  assert (process.returncode, output) == (128 + signal.SIGINT, "interrupted\n")


def test_a_full_disk_ends_in_one_line_with_the_path_and_the_last_good_step(tmp_path):
  """A limit on the size of a file stands for the end of the disk: writing the log fails in the same way."""
  whole = shlex.join(command("--config.steps=20000", "--config.checkpoint_every=50", f"--workdir={tmp_path}/run"))
  environment = os.environ | {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "1000"}
  done = subprocess.run(["bash", "-c", f"ulimit -f 40; exec {whole}"], cwd=ROOT, capture_output=True, text=True,
                        timeout=300, check=False, env=environment)
  assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
  kept = max(int(path.name) for path in (tmp_path / "run/checkpoints").iterdir() if path.name.isdigit())
  assert done.stderr.startswith("error: ") and "File too large" in done.stderr and f"{tmp_path}/run" in done.stderr
  assert f"the last good checkpoint is of update {kept};" in done.stderr


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
