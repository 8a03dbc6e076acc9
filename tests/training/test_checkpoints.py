"""Checkpoints: exact, verified, falling back."""

import errno
import os
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore.training import checkpoints
from rlcore.training.errors import RunError

# A restore that Orbax gives up leaves a future of TensorStore behind.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def make_state(seed: int = 0):
  key = jax.random.key(seed)
  return {
      "w": jax.random.normal(key, (300, 7)), "half": jnp.full((3,), 1 / 3, jnp.bfloat16), "step": jnp.int32(seed),
      "key": key, "keys": jax.random.split(jax.random.key(seed, impl="rbg"), 2), "flag": jnp.array([True, False]),
      "empty": jnp.zeros((0, 4)), "nothing": None, "nested": (jnp.float32(np.nan), [jnp.uint8(255)])}


def leaves(state):
  data = lambda x: jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x
  return [np.asarray(data(x)) for x in jax.tree.leaves(state)]


def assert_identical(a, b):
  assert jax.tree.structure(a) == jax.tree.structure(b)
  for x, y in zip(leaves(a), leaves(b), strict=True):
    assert x.dtype == y.dtype and x.tobytes() == y.tobytes()


@pytest.fixture(name="saved")
def _saved(tmp_path):
  checkpointer = checkpoints.Checkpointer(tmp_path / "checkpoints", keep=2)
  for step in (1, 2, 3):
    checkpointer.save(step, make_state(step))
  checkpointer.close()
  return tmp_path / "checkpoints"


def test_restores_the_newest_to_the_bit_and_keeps_two(saved):
  checkpointer = checkpoints.Checkpointer(saved, keep=2)
  assert checkpointer.steps() == [2, 3]
  state, step = checkpointer.restore_latest(make_state(0))
  assert step == 3
  assert_identical(state, make_state(3))
  draw = lambda s: jax.random.normal(s["keys"][1], (3,))
  np.testing.assert_array_equal(draw(state), draw(make_state(3)))


def test_nothing_to_restore(tmp_path):
  assert checkpoints.Checkpointer(tmp_path / "new").restore_latest(make_state()) is None


def data_files(directory):
  files = [path for path in directory.rglob("*") if path.is_file() and "/d/" in path.as_posix()]
  return sorted(files, key=lambda path: path.stat().st_size)


def truncate(directory):
  largest = data_files(directory)[-1]
  largest.write_bytes(largest.read_bytes()[:largest.stat().st_size // 2])


def flip(directory):
  largest = data_files(directory)[-1]
  content = bytearray(largest.read_bytes())
  content[len(content) // 2] ^= 0xFF
  largest.write_bytes(content)


def empty(directory):
  for path in directory.rglob("*"):
    if path.is_file():
      path.write_bytes(b"")


@pytest.mark.parametrize("damage", [truncate, flip, empty])
def test_falls_back_to_the_one_before_with_a_warning(saved, damage):
  damage(saved / "3")
  checkpointer = checkpoints.Checkpointer(saved, keep=2)
  with pytest.warns(UserWarning, match="checkpoint 3 cannot be read and is set aside"):
    state, step = checkpointer.restore_latest(make_state(0))
  assert step == 2
  assert_identical(state, make_state(2))
  assert (saved.parent / "corrupt-checkpoint-3").exists()
  checkpointer.save(3, make_state(9))  # the run reaches that update again
  assert_identical(checkpointer.restore_latest(make_state(0))[0], make_state(9))


@pytest.mark.filterwarnings("ignore:checkpoint")
def test_none_intact_is_one_clear_error(saved):
  truncate(saved / "2")
  truncate(saved / "3")
  for _ in range(2):  # a second start does not begin from 0 either
    with pytest.raises(RunError, match="no intact checkpoint in .*checkpoints .*corrupt-checkpoint-2"):
      checkpoints.Checkpointer(saved).restore_latest(make_state(0))


@pytest.mark.parametrize("error", [
    OSError(errno.EIO, os.strerror(errno.EIO)), PermissionError(errno.EACCES, os.strerror(errno.EACCES)),
    OSError(errno.ESTALE, os.strerror(errno.ESTALE)), MemoryError(), ValueError("RESOURCE_EXHAUSTED: out of memory"),
    ValueError('PERMISSION_DENIED: Error reading "3/state/d/0"')], ids=lambda error: str(error)[:20])
def test_what_only_cannot_be_read_now_stays(saved, monkeypatch, error):
  def fail(*_, **__):
    try:
      raise error
    except Exception as cause:
      raise ValueError("Orbax says something of its own") from cause

  checkpointer = checkpoints.Checkpointer(saved, keep=2)
  with monkeypatch.context() as patch, warnings.catch_warnings():
    warnings.simplefilter("error")
    patch.setattr(checkpointer, "_restore", fail)
    with pytest.raises(RunError, match="checkpoint 3 in .* cannot be read now"):
      checkpointer.restore_latest(make_state(0))
  assert checkpointer.steps() == [2, 3] and checkpointer.restore_latest(make_state(0))[1] == 3


def test_what_was_not_there_for_a_moment_is_read_at_the_second_try(saved, monkeypatch):
  checkpointer = checkpoints.Checkpointer(saved, keep=2)
  whole, calls = checkpointer._restore, []

  def once(*arguments):
    calls.append(1)
    if len(calls) == 1:
      raise FileNotFoundError(errno.ENOENT, "not yet there")
    return whole(*arguments)

  monkeypatch.setattr(checkpointer, "_restore", once)
  assert checkpointer.restore_latest(make_state(0))[1] == 3


@pytest.mark.parametrize("damage", [truncate, flip, empty])
def test_a_save_that_cannot_be_read_back_is_told_and_costs_no_older_one(tmp_path, monkeypatch, damage):
  checkpointer = checkpoints.Checkpointer(tmp_path / "checkpoints", keep=1)
  checkpointer.save(1, make_state(1))
  checkpointer.wait()
  read_back = checkpointer._read_back

  def tear(step, meta):
    damage(tmp_path / "checkpoints" / "2")
    read_back(step, meta)

  monkeypatch.setattr(checkpointer, "_read_back", tear)
  checkpointer.save(2, make_state(2))
  with pytest.raises(RunError, match="checkpoint 2 .* cannot be read back .*the last good checkpoint is of update 1$"):
    checkpointer.save(3, make_state(3))
  assert 1 in checkpointer.steps()


def test_a_save_that_cannot_be_written_names_the_last_good_one(saved, monkeypatch):
  checkpointer = checkpoints.Checkpointer(saved, keep=2)
  checkpointer.restore_latest(make_state(0))

  def full(*_, **__):
    raise ValueError("RESOURCE_EXHAUSTED: writing 4: No space left on device\nand forty lines more")

  monkeypatch.setattr(checkpointer._manager, "save", full)
  with pytest.raises(RunError) as failed:
    checkpointer.save(4, make_state(4))
  assert "No space left on device" in str(failed.value) and "\n" not in str(failed.value)
  assert str(saved) in str(failed.value) and str(failed.value).endswith("the last good checkpoint is of update 3")


def test_a_directory_that_orbax_takes_for_a_pattern_is_refused(tmp_path):
  with pytest.raises(RunError, match="takes for a pattern"):
    checkpoints.Checkpointer(tmp_path / "a[1]" / "checkpoints")


def test_another_structure_is_named(saved):
  other = make_state(0) | {"w": jnp.zeros((300, 8))}
  with pytest.raises(RunError, match=r"holds another state .*\['w'\]"):
    checkpoints.Checkpointer(saved).restore_latest(other)
