"""BranchGRPO's composition at a small size: what the arms share and where they part, the verdict, the figure."""

import dataclasses
import json
import sys

import jax
import numpy as np
import pytest

from configs.credit import branch_grpo as rings
from configs.credit import branch_grpo_digits as digits
from experiments.credit import branch_grpo
from rlcore.tasks import digits as digits_task
from rlcore.training import sweep as sweep_lib
from rlcore.training import verdicts
from rlcore.training.errors import RunError


def small(arm):
  config = rings.get_config("smoke")
  config.update(dict(num_steps=4, window=(4,), window_interval=1, window_stop=3))
  config.model.hidden, config.warmup.steps = (8,), 0
  settings = rings.ARMS[arm] | (dict(chains=4) if arm in ("sequential", "fresh") else dict(split_steps=(0, 2)))
  return sweep_lib.apply_overrides(config, settings)


def run(arms):
  """One update of arms that share a program: the parameters and the metrics of each."""
  configs = [small(arm) for arm in arms]
  keys = ("depthwise", "prune", "fresh")

  def update(values):
    config = configs[0].copy_and_resolve_references()
    with config.unlocked(), config.ignore_type():
      config.update(dict(zip(keys, values)))
    experiment = branch_grpo.make_experiment(config)
    state, metrics = experiment.update(experiment.init(jax.random.key(0)))
    return state.params, metrics

  out = jax.device_get(jax.jit(jax.vmap(update))(np.array([[config[key] for key in keys] for config in configs])))
  return {arm: jax.tree.map(lambda x, i=i: x[i], out) for i, arm in enumerate(arms)}


def test_arms_part_where_they_should():
  out = run(("branch", "branch_pruned", "branch_terminal")) | run(("sequential", "fresh"))
  params, metrics = ({arm: x[i] for arm, x in out.items()} for i in (0, 1))
  same = lambda a, b: all(jax.tree.leaves(jax.tree.map(np.array_equal, params[a], params[b])))
  for a, b in (("branch", "branch_pruned"), ("branch", "branch_terminal"), ("sequential", "fresh")):
    assert not same(a, b), (a, b)
  assert metrics["branch"]["sampled_reward"] == metrics["branch_terminal"]["sampled_reward"]
  assert metrics["sequential"]["sampled_reward"] != metrics["fresh"]["sampled_reward"]
  costs = {arm: float(x["evaluations"]) for arm, x in metrics.items()}
  assert costs == {"sequential": 32, "fresh": 32, "branch": 26, "branch_terminal": 26, "branch_pruned": 26 - 4}


def test_arms_of_one_shape_are_one_program():
  lanes = [sweep_lib.Lane(arm | {"lr": lr}, 0) for arm in rings.ARMS.values() for lr in (1e-3, 3e-3)]
  groups = sweep_lib.group_lanes(rings.get_config(), lanes)
  assert [len(group.lanes) for group in groups] == [4, 6]


def test_digits_run():
  config = digits.get_config("smoke")
  config.update(dict(num_steps=2, split_steps=(0,), window=()))
  config.model.hidden = (8,)
  experiment = branch_grpo.make_experiment(config.lock())
  state, metrics = jax.jit(lambda key: experiment.update(experiment.init(key)))(jax.random.key(0))
  assert np.isfinite(metrics["reward"]) and metrics["nonfinite_loss"] == metrics["nonfinite_grad"] == 0
  judged = jax.jit(experiment.evaluate)(state)
  assert 0 <= judged["judge_accuracy"] <= 1 and judged["samples"].shape == (10, 2, 64)


def make_result(module, sequential, branch):
  """A result whose curves reach 0.9 after the given updates, one number a seed."""
  shape = (4, 5, 2) if module is rings else (10, 4, 64)
  arms = {}
  for arm, updates, cost in (("sequential", sequential, 640), ("branch", branch, 438)):
    curves = [np.clip(0.9 * np.arange(1, 51) / u, 0, 1).tolist() for u in updates]
    costs = [(cost * np.arange(1, 51)).tolist() for _ in updates]
    arms[arm] = {
        "settings": {}, "values": {"tail:reward": [1.0] * len(updates), "mean:reward": [0.5] * len(updates)},
        "curve": {"key": "reward", "stride": 1, "seeds": curves, "cost": costs},
        "kept": {"eval/samples": np.zeros((2, *shape)).tolist(), "eval/reward": [0.1, 0.9]}}
  claim = dataclasses.asdict(dataclasses.replace(module.CLAIM, seeds=tuple(range(len(sequential)))))
  return json.loads(json.dumps({"claim": claim, "variants": {"default": {"arms": arms}}}))


@pytest.mark.parametrize("sequential, branch, expected, ratio", [
    ([20, 22, 24], [20, 22, 24], "reproduced", "1.46"), ([20, 22, 24], [24, 26, 29], "inconclusive", "1.22"),
    ([20, 22, 24], [40, 44, 48], "not reproduced", "0.73"), ([20, 22, 24], [14, 30, 24], "inconclusive", "1.54")])
def test_verdicts(sequential, branch, expected, ratio):
  verdict, reason, _ = rings.verdict(make_result(rings, sequential, branch))
  assert verdict == expected and f"evaluations to 0.900, sequential / branch +{ratio}" in reason


@pytest.mark.parametrize("module", [rings, digits])
def test_the_figure_is_drawn(tmp_path, module):
  result = make_result(module, [20, 22, 24], [20, 22, 24])
  branch_grpo.figure(verdicts.judge(result, module.verdict) | result, tmp_path / "x.png")
  assert (tmp_path / "x.png").stat().st_size > 10_000


def test_digits_without_scikit_learn_are_an_error_of_one_line(monkeypatch):
  digits_task.load_splits.cache_clear()
  monkeypatch.setitem(sys.modules, "sklearn", None)
  with pytest.raises(RunError, match=r"pip install 'rlcore\[digits\]'"):
    branch_grpo.make_experiment(digits.get_config())


def test_unknown_worlds_and_variants_are_refused():
  with pytest.raises(ValueError, match='world="?\'?moons'):
    branch_grpo.make_experiment(sweep_lib.apply_overrides(rings.get_config(), {"world": "moons"}))
  for module in (rings, digits):
    with pytest.raises(ValueError, match="has no variant 'x'"):
      module.get_config("x")
