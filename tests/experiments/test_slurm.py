"""Groups of a sweep as Slurm jobs: submitit's real submission, to commands that stand in for Slurm's."""

import os
import pathlib
import sys

from absl import flags
from absl.testing import flagsaver
import pytest
import rich.console

from experiments import launch, sweep
from rlcore.training.errors import RunError

submitit = pytest.importorskip("submitit")

@pytest.fixture(autouse=True)
def _flags():
  if not flags.FLAGS.is_parsed() or launch.CONFIG.value is None:
    flags.FLAGS(["tests", "--config=tests/training/toy_config.py"])


_SBATCH = """#!/bin/sh
for last; do :; done
cp "$last" "$(dirname "$0")/seen.$$"
export SLURM_JOB_ID=$$ SLURM_NTASKS=1 SLURM_JOB_NUM_NODES=1 SLURM_NODEID=0 SLURM_PROCID=0 SLURM_LOCALID=0
nohup sh "$last" >/dev/null 2>&1 &
echo "Submitted batch job $$"
"""
_SRUN = """#!/bin/sh
place() { echo "$1" | sed "s/%j/$SLURM_JOB_ID/; s/%t/0/"; }
while [ "${1#-}" != "$1" ]; do
  case "$1" in
    --output) shift; exec >"$(place "$1")";;
    --error) shift; exec 2>"$(place "$1")";;
  esac
  shift
done
exec "$@"
"""
_SACCT = """#!/bin/sh
echo 'JobID|State|NodeList'
"""


@pytest.fixture(name="cluster")
def _cluster(tmp_path, monkeypatch):
  """A directory with the commands of a cluster of this machine, on the PATH."""
  commands = tmp_path / "bin"
  commands.mkdir()
  for name, text in dict(sbatch=_SBATCH, srun=_SRUN, sacct=_SACCT, scancel="#!/bin/sh\n").items():
    (commands / name).write_text(text)
    (commands / name).chmod(0o755)
  monkeypatch.setenv("PATH", f"{commands}:{os.environ['PATH']}")
  return commands


def _writes(path: pathlib.Path) -> list[str]:
  return [sys.executable, "-c", f"import pathlib; pathlib.Path({str(path)!r}).write_text('[]')"]


@pytest.mark.parametrize("kind", ["slurm", "local"])
def test_every_group_is_a_job(tmp_path, cluster, kind, capfd):
  paths = [tmp_path / f"group-{i}.json" for i in range(2)]
  parameters = ["partition=gpu", "timeout_min=7"] if kind == "slurm" else ["cluster=local", "timeout_min=7"]
  with flagsaver.flagsaver(slurm=parameters):
    sweep._run_slurm([_writes(path) for path in paths], paths, tmp_path, rich.console.Console())
  assert all(path.read_text() == "[]" for path in paths)
  assert "submitted 2 jobs" in capfd.readouterr().out
  if kind == "slurm":
    scripts = [path.read_text() for path in cluster.glob("seen.*")]
    assert len(scripts) == 2
    for line in ("#SBATCH --partition=gpu", "#SBATCH --time=7", "#SBATCH --job-name=rlcore-sweep"):
      assert all(line in script for script in scripts)


def test_a_job_that_fails_is_told_after_the_others(tmp_path, cluster):
  del cluster
  paths = [tmp_path / f"group-{i}.json" for i in range(2)]
  broken = [sys.executable, "-c", "import sys; sys.exit('error: no such thing')"]
  with flagsaver.flagsaver(slurm=["partition=gpu"]), pytest.raises(RunError, match=r"group 0 failed; see .*\.err: "):
    sweep._run_slurm([broken, _writes(paths[1])], paths, tmp_path, rich.console.Console(quiet=True))
  assert paths[1].exists()


def test_a_log_that_was_never_written_is_told(tmp_path):
  assert sweep._last_line(tmp_path / "77_0_log.err") == "it was never written"


@pytest.mark.parametrize("parameters, message", [
    (["partition"], "takes key=value, not 'partition'"),
    (["cluster=moon"], "--slurm: .*moon"),
    (["nonsense=1"], "--slurm: .*nonsense"),
])
def test_parameters_that_cannot_be(tmp_path, cluster, parameters, message):
  del cluster
  with flagsaver.flagsaver(slurm=parameters), pytest.raises(RunError, match=message):
    sweep._run_slurm([], [], tmp_path, rich.console.Console(quiet=True))


def test_without_slurm_it_says_so(tmp_path, monkeypatch):
  monkeypatch.setenv("PATH", str(tmp_path))
  with flagsaver.flagsaver(slurm=["partition=gpu"]), pytest.raises(RunError, match="srun.*cluster=local"):
    sweep._run_slurm([], [], tmp_path, rich.console.Console(quiet=True))
