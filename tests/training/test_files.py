"""Files are whole or not there, and what is torn is named or done again."""

import errno
import io
import json
import os

import numpy as np
import pytest

from rlcore.training import files, results
from rlcore.training.errors import RunError


def test_a_write_that_fails_leaves_the_old_file_and_names_it(tmp_path):
  path = tmp_path / "table.json"
  files.replace_text(path, "[1]\n")

  def full(file):
    file.write(b"half of")
    assert not list(tmp_path.glob("*.part*.json")) and len(list(tmp_path.glob("*.json"))) == 1
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

  with pytest.raises(OSError, match="No space left on device: '.*table.json'"):
    files.replace(path, full)
  assert [p.name for p in tmp_path.iterdir()] == ["table.json"] and path.read_text() == "[1]\n"


def test_a_link_stays_a_link_and_the_rights_are_those_of_any_file(tmp_path):
  real, link = tmp_path / "real", tmp_path / "link"
  (tmp_path / "plain").write_text("")
  real.write_text("old")
  link.symlink_to(real)
  files.replace_text(link, "new")
  assert link.is_symlink() and real.read_text() == "new"
  assert real.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_arrays_come_back_and_torn_ones_count_as_missing(tmp_path):
  path = tmp_path / "lane.npz"
  arrays = {"eval/x": np.arange(7.0), "loss": np.float32([1, np.nan])}
  files.replace_arrays(path, arrays)
  back = files.read_arrays(path)
  assert list(back) == list(arrays)
  for name, value in arrays.items():
    np.testing.assert_array_equal(back[name], value)
  whole = path.read_bytes()
  plain = io.BytesIO()
  np.save(plain, np.arange(3))
  for torn in (b"", whole[:1], whole[:-30], whole[:len(whole) // 2], b"\0" * 200, plain.getvalue(),
               whole[:200].replace(b"\0", b"\x07") + whole[200:]):
    path.write_bytes(torn)
    assert files.read_arrays(path) is None, torn[:20]
  assert files.read_arrays(tmp_path / "none.npz") is None
  with pytest.raises(OSError):  # says nothing of what is in it
    files.read_arrays(tmp_path)


@pytest.mark.parametrize("text", [b"{", b"\xff\xfe\xfa", b"[" * 200_000])
def test_what_is_no_json_is_named(tmp_path, text):
  path = tmp_path / "x.json"
  path.write_bytes(text)
  with pytest.raises(RunError, match="x.json is not JSON"):
    files.read_json(path)
  with pytest.raises(RunError, match="x.json is not a result file"):
    results.read_result(path)
  path.write_text(json.dumps([1]))
  with pytest.raises(RunError, match="x.json is not a result file"):
    results.read_result(path)
