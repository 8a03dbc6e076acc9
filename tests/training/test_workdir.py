"""A run's directory: whose it is, what it keeps of a config, and the code it was begun with."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading

import ml_collections
import pytest

from rlcore.training import locks, workdir
from rlcore.training.errors import RunError

# Another process that holds the lock of a directory; as light as it can be.
_HOLD = """
import pathlib, sys, time
from rlcore.training import locks
with locks.hold(pathlib.Path(sys.argv[1])):
  print("held", flush=True)
  time.sleep(100)
"""


def _config(**values):
  return ml_collections.ConfigDict(dict(seed=0) | values)


def test_a_directory_belongs_to_one_process_until_that_ends_in_whatever_way(tmp_path):
  other = subprocess.Popen([sys.executable, "-c", _HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
  assert other.stdout.readline() == "held\n"
  entry = json.loads((tmp_path / locks.LOCK).read_text())
  assert entry["pid"] == other.pid and set(entry) == {"pid", "host", "started"}
  (tmp_path / workdir.CONFIG).write_text("{}")
  with pytest.raises(RunError, match=f"in use by process {other.pid} on host {entry['host']}"):
    with workdir.claim_workdir(tmp_path, _config()):
      pass
  assert (tmp_path / workdir.CONFIG).read_text() == "{}"  # nothing of the other's was touched
  other.send_signal(signal.SIGKILL)
  other.communicate()
  with workdir.claim_workdir(tmp_path, _config()), workdir.claim_workdir(tmp_path, _config()):
    assert json.loads((tmp_path / locks.LOCK).read_text())["pid"] == os.getpid()
    refused = []

    def another_thread():
      try:
        with locks.hold(tmp_path):
          pass
      except RunError as error:
        refused.append(str(error))

    thread = threading.Thread(target=another_thread)
    thread.start()
    thread.join()
    assert f"in use by process {os.getpid()} on host" in refused[0]
  assert not (tmp_path / locks.LOCK).exists()


def test_where_there_are_no_locks_it_is_said_and_the_run_goes_on(tmp_path, monkeypatch):
  def unsupported(*_):
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

  monkeypatch.setattr(locks.fcntl, "flock", unsupported)
  with pytest.warns(UserWarning, match=r"cannot be locked \(No locks available\)"):
    with workdir.claim_workdir(tmp_path / "run", _config()):
      assert (tmp_path / "run" / workdir.CONFIG).exists()


@pytest.mark.parametrize("name, shown", [
    ("a[bold]b", "\\["), ("star*", "\\*"), ("why?", "\\?"), ("back\\slash", r"\\"), ("x\udcff", "not UTF-8")])
def test_paths_that_orbax_could_not_read_back_are_refused_at_the_start(tmp_path, name, shown):
  with pytest.raises(RunError, match=f"{shown}.*: choose another --workdir") as refused:
    with workdir.claim_workdir(tmp_path / name / "run", _config()):
      pass
  assert not list(tmp_path.iterdir()) and "\n" not in str(refused.value)


def test_no_secret_of_a_url_is_kept_or_shown(tmp_path):
  url = "http://me:s3/cr@et@host:80/v1?key=s3cret"
  with workdir.claim_workdir(tmp_path, _config(judge=dict(base_url=url), urls=(url, "plain"))):
    text = (tmp_path / workdir.CONFIG).read_text()
  assert "s3" not in text and "http://***@host:80/v1?***" in text
  whole = {"seed": 1, "other": url, "judge": {"base_url": url}, "urls": [url, "plain"]}  # of an earlier version
  (tmp_path / workdir.CONFIG).write_text(json.dumps(whole))
  (tmp_path / workdir.CHECKPOINTS / "1").mkdir(parents=True)
  with pytest.raises(RunError, match="differs in other .*seed") as refused:
    workdir.prepare_workdir(tmp_path, _config(judge=dict(base_url="http://elsewhere/v1"), urls=(url, "plain")))
  assert "s3" not in str(refused.value) and "s3" not in (tmp_path / workdir.CONFIG).read_text()
  assert workdir.redacted("see https://host/a/b and a@b") == "see https://host/a/b and a@b"


def test_code_json_knows_library_commit_and_every_file(tmp_path):
  with workdir.claim_workdir(tmp_path, _config()):
    source = tmp_path / "mine.py"
    source.write_text("x = 1")
    assert not workdir.code_changed(tmp_path, source)
  note = json.loads((tmp_path / workdir.CODE).read_text())
  assert note["rlcore"] and {"commit", "versions"} <= set(note)
  assert {"mine.py", "rlcore.training.workdir", "rlcore.types", __name__} <= set(note["files"])
  assert not [name for name in note["files"] if name.split(".")[0] in ("jax", "numpy", "json", "pytest")]
  (tmp_path / workdir.CHECKPOINTS / "8").mkdir(parents=True)
  note["files"]["rlcore.types"] = "another"
  (tmp_path / workdir.CODE).write_text(json.dumps(note))
  assert workdir.code_changed(tmp_path, source) == ["rlcore.types"]
  (tmp_path / workdir.CODE).write_text("{")  # damaged: nothing can be said
  assert workdir.code_changed(tmp_path, source) == []


def test_changed_code_is_noticed_once_there_is_something_to_resume(tmp_path):
  run, source = tmp_path / "run", tmp_path / "mine.py"
  run.mkdir()
  source.write_text("sign = 1\n")
  assert not workdir.code_changed(run, source)
  source.write_text("sign = -1\n")
  assert not workdir.code_changed(run, source)  # nothing was saved yet, so nothing is mixed
  (run / workdir.CHECKPOINTS / "8").mkdir(parents=True)
  assert not workdir.code_changed(run, source)
  source.write_text("sign = 1\n")
  assert workdir.code_changed(run, source) and workdir.code_changed(run, source)
