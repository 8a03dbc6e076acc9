"""The microscope command on a real run: the page tells of the run, and every error is one line."""

import pathlib
import shutil
import subprocess
import sys

from absl import flags
from absl.testing import flagsaver
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.credit import tempo as tempo_config
from experiments import launch, microscope
from experiments.credit import tempo as tempo_experiment
from rlcore import advantages
from rlcore.training import microscope as page_lib
from rlcore.training import checkpoints, programs
from rlcore.training.errors import RunError
from rlcore.training.workdir import CHECKPOINTS, prepare_workdir
from rlcore.types import Inspection, Rewards
from tests.training import toy_config
from tests.training.test_microscope import content_of, make_rollouts, unpack, unpack_values

ROOT = pathlib.Path(__file__).parents[2]


def command(*arguments):
  return subprocess.run([sys.executable, "-m", "experiments.microscope", *map(str, arguments)], cwd=ROOT,
                        capture_output=True, text=True, timeout=600, check=False)


def call(**values):
  """The command in this process; its errors are raised."""
  with flagsaver.flagsaver(**{name: str(x) if name in ("run", "out") else x for name, x in values.items()}):
    return microscope.main(None)


def save_run(run, config, steps):
  """A run's directory with checkpoints of its first state, which is what an update would leave, only untrained."""
  prepare_workdir(run, config)
  state = programs.init_state(launch.make_experiment(config), jax.random.key(config.seed))
  checkpointer = checkpoints.Checkpointer(run / CHECKPOINTS)
  for step in steps:
    checkpointer.save(step, state)
  checkpointer.close()


@pytest.fixture(scope="module", name="run")
def _run(tmp_path_factory):
  if not flags.FLAGS.is_parsed():
    flags.FLAGS(["test"])
  run = tmp_path_factory.mktemp("runs") / "small"
  save_run(run, tempo_config.get_config("smoke"), (2, 4))
  return run


def files(run):
  return {path: path.stat().st_mtime_ns for path in run.rglob("*")}


def test_the_page_shows_groups_of_the_latest_checkpoint(run, tmp_path):
  before, out = files(run), tmp_path / "new" / "page.html"
  done = command(f"--run={run}", f"--out={out}")
  assert done.returncode == 0 and not done.stderr, done.stderr
  assert str(out) in done.stdout and files(run) == before, "the run is left as it was"
  content = content_of(out.read_text("utf-8"))
  assert content["title"] == "small" and content["subtitle"] == "credit.tempo · step 4"
  assert [e["name"] for e in content["estimators"]] == ["TEMPO", *(n for n in page_lib.STANDARD if n != "TEMPO")]
  assert [e["own"] for e in content["estimators"]] == [True, False, False, False, False]
  prompts = [group["prompt"] for group in content["groups"]]
  assert len(set(prompts)) == len(prompts) >= 1
  for group in content["groups"]:
    tokens = np.array(group["vocab"])[unpack(group["tokens"], np.uint16)].reshape(8, -1)
    mask = unpack(group["flags"], np.uint8).reshape(tokens.shape) & 1
    expected = advantages.tempo_advantage(jnp.asarray(tokens), jnp.asarray(group["rewards"]), jnp.asarray(mask))
    np.testing.assert_allclose(unpack_values(group["advantages"]["TEMPO"], group), expected, atol=1e-5)


def test_one_problem_of_an_earlier_step_under_what_the_experiment_names(run, tmp_path, monkeypatch):
  out = tmp_path / "page.html"
  named = lambda config: {f"Lower x {config.group_size}": lambda rewards, batch: -batch.mask}
  monkeypatch.setattr(tempo_experiment, "microscope_estimators", named, raising=False)
  assert call(run=run, step=2, prompt=1, problems=2, out=out) == 0
  content = content_of(out.read_text("utf-8"))
  assert content["subtitle"].endswith("step 2") and len(content["groups"]) == 1
  group = content["groups"][0]
  assert group["label"].startswith("problem 1 ")
  counted = unpack(group["flags"], np.uint8).reshape(8, -1) & 1
  np.testing.assert_array_equal(unpack_values(group["advantages"]["Lower x 8"], group), -counted.astype(np.float32))


def test_a_step_that_was_not_saved(run):
  with pytest.raises(RunError, match="there is no checkpoint of step 3 in .*; those that exist: 2, 4$"):
    call(run=run, step=3)


def test_a_run_of_another_kind_is_refused(run, tmp_path):
  save_run(tmp_path / "bandit", toy_config.get_config(), (1,))
  with pytest.raises(RunError, match="is a run of tests.training.toy, which is no language experiment"):
    call(run=tmp_path / "bandit", trust=["tests.training"])


def test_a_module_is_not_imported_on_the_word_of_a_directory(run, tmp_path, monkeypatch):
  del run  # flags are parsed
  monkeypatch.syspath_prepend(tmp_path)
  (tmp_path / "evil.py").write_text("raise SystemExit('it was run')")
  for experiment, words in (("evil", "--trust=evil"), ("experimentsx.y", "--trust=experimentsx"),
                            ("tests.training.toy", "--trust=tests.training"), (".x", "--trust=.x")):
    config = toy_config.get_config()
    config.experiment = experiment
    own = tmp_path / f"run-{experiment}"
    prepare_workdir(own, config)
    with pytest.raises(RunError, match=f"names the module '{experiment}', which is none of experiments .* {words}$"):
      call(run=own)
  with pytest.raises(RunError, match="config.experiment='.x' is no name of a module"):
    launch.import_experiment(config)


@pytest.mark.parametrize("make, message", [
    (None, "which run? give --run=runs/NAME"),
    (lambda path: None, "there is no run directory"),
    (lambda path: path.mkdir(), "is no run directory: it has no config.json"),
    (lambda path: (path.mkdir(), (path / "config.json").write_text("{")), "config.json is not JSON"),
    (lambda path: (path.mkdir(), (path / "config.json").write_text("[1]")), "names no experiment")])
def test_what_is_no_run_is_told(tmp_path, make, message):
  if make is not None:
    make(tmp_path / "run")
  with pytest.raises(RunError, match=message.replace("?", r"\?")):
    microscope.read_run(None if make is None else tmp_path / "run")


def test_a_run_without_a_checkpoint_or_with_a_broken_one(run, tmp_path):
  copy = tmp_path / "copy"
  shutil.copytree(run, copy)
  for path in (copy / "checkpoints" / "4").rglob("*"):
    if path.is_file() and path.stat().st_size > 20:
      path.write_bytes(path.read_bytes()[:path.stat().st_size // 2])
  before = files(copy)
  done = command(f"--run={copy}")
  assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
  assert done.stderr.startswith("error: checkpoint 4 in ") and "cannot be read" in done.stderr
  assert files(copy) == before, "it is not set aside: that is for the run to do"
  shutil.rmtree(copy / "checkpoints")
  with pytest.raises(RunError, match="has no checkpoint yet"):
    call(run=copy)


def fake_inspection(estimator):
  tokens = np.array([[[0, 1], [0, 2]], [[1, 1], [2, 2]], [[3, 3], [3, 3]], [[0, 1], [0, 0]]])
  outcome = jnp.array([[0.0, 1.0], [0.0, 3.0], [1.0, 1.0], [0.0, 2.0]])
  one = [make_rollouts(rows, np.ones((2, 2))) for rows in tokens]
  rollouts = jax.tree.map(lambda *x: jnp.stack(x), *one)
  rollouts = rollouts.replace(prompt=rollouts.prompt.at[1:3].add(5))  # prompts 0 and 3 are equal, 1 and 2 as well
  answer = lambda state, key, count: (None, rollouts, Rewards(outcome))
  credit = lambda state, rewards, rollouts, by: jax.jit(jax.vmap(by))(rewards, rollouts)
  return Inspection(lambda ids: str(np.asarray(ids).tolist()), estimator, answer, credit)


def test_estimators_that_a_module_names_stand_beside_the_standard_ones():
  def mine(rewards, batch):
    return batch.mask * rewards.outcome[:, None]

  half = lambda rewards, batch: 0.5 * mine(rewards, batch)
  look = microscope.examine(fake_inspection(mine), None, {"Half": half}, 4)
  assert list(look.advantages) == ["mine()", "Half", *page_lib.STANDARD] and look.own == "mine()"
  np.testing.assert_array_equal(look.advantages["mine()"], 2 * look.advantages["Half"])
  look = microscope.examine(fake_inspection(mine), None, {"Mine": mine}, 4)
  assert list(look.advantages) == ["Mine", *page_lib.STANDARD] and look.own == "Mine"


def test_prompts_with_the_widest_rewards_come_first_and_once():
  _, rollouts, rewards = fake_inspection(None).answer(None, None, 4)
  rollouts = jax.device_get(rollouts)
  assert microscope.choose_prompts(np.asarray(rewards.outcome), rollouts) == [1, 3]
  assert microscope.choose_prompts(np.ones((4, 2)), rollouts) == [0]


def test_a_problem_that_was_not_answered():
  inspection = fake_inspection(page_lib.step_level)
  look = microscope.examine(inspection, None, {}, 4)
  assert look.own == "Step-level"
  with pytest.raises(RunError, match=r"there is no held-out problem 4: 0 to 3 were answered \(--problems\)"):
    microscope.write(inspection, look, 4, title="", subtitle="")
