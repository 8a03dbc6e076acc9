"""A run's directory notices that the code it was begun with has changed."""

from rlcore.training import workdir


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
