"""Known ground: every algorithm fits its environment, what does not is one line, and the rule of the verdict."""

import dataclasses
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from configs import known_ground as config_file
from experiments import known_ground
from rlcore.training import sweep, verdicts
from rlcore.training.errors import RunError

ROOT = pathlib.Path(__file__).parents[2]


def make_result(**changes):
  """A result in which every algorithm reaches 10 above its mark on every seed, but for `changes` by name."""
  variants = {}
  for name in config_file.VARIANTS:
    config = config_file.get_config(name)
    returns = config.mark + np.array(changes.get(name, [10.0] * 5))
    curve = {"stride": 20, "seeds": np.linspace(returns - 300, returns, 15).T.tolist()}
    variants[name] = {"config": config.to_dict(), "arms": {"learner": {
        "values": {config_file.CLAIM.metric: returns.tolist()}, "curves": {"episode_return": curve}}}}
  return {"claim": dataclasses.asdict(config_file.CLAIM), "variants": variants}


def test_the_rule_of_the_verdict(tmp_path):
  judge = lambda **changes: config_file.verdict(make_result(**changes))[0]
  assert judge() == "reproduced"
  assert judge(td3=[10.0, 10.0, 10.0, 10.0, -15.0]) == "inconclusive"
  assert judge(dqn=[10.0, 10.0, 10.0, 10.0, -50.0]) == "inconclusive"
  assert judge(dqn=[-10.0, -10.0, -11.0, -10.0, -14.0]) == "not reproduced"
  assert judge(sac=[10.0, 10.0, np.nan, 10.0, 10.0]) == "inconclusive"
  assert "dqn +485.000 [+485.000, +485.000]" in config_file.verdict(make_result())[1]
  result = make_result()
  known_ground.figure(verdicts.judge(result, config_file.verdict) | result, tmp_path / "figure.png")
  assert (tmp_path / "figure.png").stat().st_size > 20_000


@pytest.mark.parametrize("variant", [*config_file._ALGORITHMS, "smoke"])
def test_every_algorithm_fits_its_environment(variant):
  for name in config_file.NEEDS:
    pytest.importorskip(name)
  experiment = known_ground.make_experiment(config_file.get_config(variant))
  state = jax.eval_shape(experiment.init, jax.random.key(0))
  _, metrics = jax.eval_shape(experiment.update, state)
  assert {"episode_return", "total_steps"} <= set(metrics)
  assert "episode_return" in jax.eval_shape(experiment.evaluate, state)
  if config_file.get_config(variant).env == "Pendulum-v1":
    assert state.worlds.observation.shape == (4, 3)


@pytest.mark.parametrize("overrides, words", [
    (dict(env="CartPole-v2"), "env='CartPole-v2' is none of gymnax's: CartPole-v1, "),
    (dict(algorithm="trpo"), "algorithm='trpo' is none of a2c, ddpg, dqn"),
    (dict(algorithm="td3"), "algorithm='td3' with env='CartPole-v1': .*unexpected keyword"),
])
def test_what_does_not_fit_is_one_line(overrides, words):
  pytest.importorskip("gymnax")
  with pytest.raises(RunError, match=words):
    known_ground.make_experiment(sweep.apply_overrides(config_file.get_config(), overrides))


def test_a_run_leaves_logs_and_curves(tmp_path):
  pytest.importorskip("gymnax")
  done = subprocess.run(
      [sys.executable, "-m", "experiments.run", "--config=configs/known_ground.py:smoke", f"--workdir={tmp_path}/run"],
      cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
  assert done.returncode == 0 and "episode_return" in done.stdout, done.stderr
  for name in ("curves.png", "metrics.jsonl", "tensorboard", "checkpoints/2", "config.json"):
    assert (tmp_path / "run" / name).exists(), name
