"""Lanes of one program against runs of their own, and the comparison built on them."""

import dataclasses
import functools
import io

import jax
import numpy as np
import pytest
import rich.console

from rlcore.training import comparison, loop, results
from rlcore.training import sweep as sweep_lib
from rlcore.training.errors import RunError
from rlcore.training.progress import Progress
from rlcore.training.sweep import Lane
from tests.training import toy, toy_config
from tests.tolerance import close


def make_config(**overrides):
  return sweep_lib.apply_overrides(toy_config.get_config(), {"steps": 9, "log_every": 4, **overrides})


@functools.cache
def whole_run(overrides):
  config = make_config(**dict(overrides))
  return jax.jit(loop.train(toy.make_experiment(config), config.steps))


def alone(overrides, seed):
  """Runs one lane by itself, its overrides being constants of a program of its own."""
  return whole_run(tuple(sorted(overrides.items())))(jax.random.key(seed))


class Counter:
  """Counts how often experiments are built, that is, traced."""

  def __init__(self):
    self.calls = 0

  def __call__(self, config):
    self.calls += 1
    return toy.make_experiment(config)


@pytest.mark.parametrize("keys, jittable", [(("lr",), True), (("lr", "warmup_lr"), True), (("lr",), False)])
def test_lanes_equal_runs_of_their_own(keys, jittable):
  config = make_config(jittable=jittable)
  lanes = [Lane({key: lr for key in keys}, seed) for lr in (0.05, 0.5) for seed in (0, 3, 5)]
  runner = sweep_lib.LaneRunner(toy.make_experiment, config, keys, width=4, evaluate=True)
  kept = {}
  histories = runner.run(lanes, keep=lambda index, history: kept.update({index: history}))
  assert sorted(kept) == list(range(6)) and all(kept[i] is histories[i] for i in range(6))
  for lane, history in zip(lanes, histories, strict=True):
    state, expected = alone(lane.overrides, lane.seed)
    np.testing.assert_allclose(history["loss"], expected["loss"], rtol=1e-4, atol=1e-6)
    assert history["success"].tolist() == expected["success"].tolist()
    rate = toy.make_experiment(make_config()).evaluate(state)["solve_rate"]
    close(history["eval/solve_rate"][1], rate, rtol=1e-5)


def test_a_long_initialisation_is_told_before_it():
  console = rich.console.Console(file=io.StringIO(), width=120)
  told = []

  def make(config):
    experiment = toy.make_experiment(config)

    def init(key):
      told.append(console.file.getvalue())
      return experiment.init(key)

    return experiment._replace(init=init, preparation="a fit")

  runner = sweep_lib.LaneRunner(make, make_config(), ("lr",), width=4, progress=Progress("success", console))
  runner.run([Lane({"lr": lr}, seed) for lr in (0.05, 0.5) for seed in (0, 3)], "tuning")
  assert console.file.getvalue().startswith("tuning: preparing 2 seeds: a fit\n")
  assert told[-1] == "tuning: preparing 2 seeds: a fit\n"


def test_the_warm_up_is_shared_only_where_the_numbers_do_not_reach_it():
  shared = sweep_lib.LaneRunner(toy.make_experiment, make_config(), ("lr",), width=4)
  shared.run([Lane({"lr": 0.1}, 0), Lane({"lr": 0.2}, 0)])
  assert shared._start_is_shared
  separate = sweep_lib.LaneRunner(toy.make_experiment, make_config(), ("warmup_lr",), width=4)
  separate.run([Lane({"warmup_lr": 0.1}, 0), Lane({"warmup_lr": 0.2}, 0)])
  assert not separate._start_is_shared


def test_programs_are_traced_once_for_all_lots():
  counter = Counter()
  runner = sweep_lib.LaneRunner(counter, make_config(), ("lr",), width=3)
  lanes = [Lane({"lr": lr}, seed) for lr in (0.1, 0.2, 0.3) for seed in (0, 1, 2)]
  runner.run(lanes)
  first = counter.calls
  runner.run(lanes)
  assert counter.calls == first + 1  # only the question whether it is jittable


def test_groups_share_a_program_where_only_numbers_differ():
  lanes = [Lane({"lr": 0.1}, 0), Lane({"lr": 1}, 0), Lane({"group_size": 4, "lr": 0.1}, 0), Lane({"lr": 0.3}, 1)]
  groups = sweep_lib.group_lanes(make_config(), lanes)
  assert [group.indices for group in groups] == [[0, 1, 3], [2]]
  assert groups[1].static == {"group_size": 4} and groups[1].lanes == [Lane({"lr": 0.1}, 0)]
  assert groups[0].lanes[1] == Lane({"lr": 1.0}, 0)


@pytest.mark.parametrize("overrides, message", [
    ({"lrr": 0.1}, 'no key "lrr"; did you mean "lr"'), ({"zebra": 1}, 'no key "zebra"$'),
    ({"group_size": "many"}, "wrong type")])
def test_overrides_that_do_not_fit_are_named(overrides, message):
  with pytest.raises(RunError, match=message):
    sweep_lib.apply_overrides(make_config(), overrides)


def test_a_branch_in_python_on_a_traced_number_is_explained():
  def make_experiment(config):
    if config.lr > 0.2:
      raise AssertionError("not reached: the comparison has no value")
    return toy.make_experiment(config)
  with pytest.raises(RunError, match="needs the value of one of lr, seed in Python"):
    sweep_lib.LaneRunner(make_experiment, make_config(lr=0.1), ("lr",), width=1).run([Lane({"lr": 0.1}, 0)])


def test_grid():
  assert sweep_lib.grid({"a": (1, 2), "b": "x"}) == [{"a": 1, "b": "x"}, {"a": 2, "b": "x"}]
  assert sweep_lib.grid({}) == [{}]


def make_protocol(**settings):
  claim = results.Claim("Toy", "0", "s", "mean:success", "fast", ("slow",), seeds=(0, 1, 2))
  defaults = dict(claim=claim, arms={"fast": {"lr": 0.5}, "slow": {"lr": 0.05}}, tune_grid={"warmup_lr": (0.0, 0.2)},
                  tune_seeds=(10, 11))
  return comparison.Protocol(**{**defaults, **settings})


def test_every_arm_is_tuned_on_the_other_seeds_and_judged_at_its_best(tmp_path):
  protocol = make_protocol()
  pool = comparison.LanePool(toy.make_experiment, make_config(), protocol, tmp_path, max_width=32)
  entry = comparison.run_comparison(pool, protocol, "toy")
  assert pool.programs == 1
  for arm, overrides in protocol.arms.items():
    scores = {}
    for warmup_lr in (0.0, 0.2):
      runs = [alone({**overrides, "warmup_lr": warmup_lr}, seed)[1] for seed in (10, 11)]
      scores[warmup_lr] = float(np.mean([np.mean(run["success"]) for run in runs]))
    got = entry["arms"][arm]
    assert {point["warmup_lr"]: pytest.approx(point["score"]) for point in got["tuning"]} == scores
    best = max(scores, key=scores.get)
    assert got["settings"] == {**overrides, "warmup_lr": best}
    expected = [np.mean(alone(got["settings"], seed)[1]["success"]) for seed in (0, 1, 2)]
    close(got["values"]["mean:success"], expected, rtol=1e-5)
    assert np.shape(got["curve"]["seeds"]) == (3, 9)


def test_an_arm_keeps_the_settings_of_its_own(tmp_path):
  arms = {"fast": {"lr": 0.5}, "slow": {"lr": 0.05, "warmup_lr": 0.1}}
  protocol = make_protocol(arms=arms)
  pool = comparison.LanePool(toy.make_experiment, make_config(), protocol, tmp_path, max_width=32)
  found = comparison.run_comparison(pool, protocol, "toy")["arms"]
  assert found["slow"]["settings"] == arms["slow"] and found["slow"]["tuning"] == []
  assert len(found["fast"]["tuning"]) == 2 and found["fast"]["settings"]["warmup_lr"] in (0.0, 0.2)


def test_costs_and_arrays_are_kept_where_the_claim_asks_for_them(tmp_path):
  plain = make_protocol(tune_grid={}, tune_seeds=())
  claim = dataclasses.replace(plain.claim, cost="tokens", kept=("eval/policy",))
  protocol = dataclasses.replace(plain, claim=claim)
  assert protocol.needs_evaluation and not plain.needs_evaluation
  config = make_config(steps=102)  # three updates a point
  pool = comparison.LanePool(toy.make_experiment, config, protocol, tmp_path, max_width=32)
  arm = comparison.run_comparison(pool, protocol, "toy")["arms"]["fast"]
  spent = [[np.mean([8.0 * (3 * i + k) for k in (1, 2, 3)]) for i in range(34)]] * 3
  assert arm["curve"]["stride"] == 3 and arm["curve"]["cost"] == spent
  assert np.shape(arm["kept"]["eval/policy"]) == (2, toy.ARMS)
  np.testing.assert_allclose(np.sum(arm["kept"]["eval/policy"], 1), 1, atol=2e-3)


def test_finished_runs_are_not_run_again(tmp_path):
  protocol = make_protocol(tune_grid={}, tune_seeds=())
  first = comparison.run_comparison(
      comparison.LanePool(toy.make_experiment, make_config(), protocol, tmp_path, max_width=32), protocol, "toy")
  def fail(config):
    raise AssertionError("built again")
  pool = comparison.LanePool(fail, make_config(), protocol, tmp_path, max_width=32)
  assert comparison.run_comparison(pool, protocol, "toy") == first
  with pytest.raises(AssertionError, match="built again"):
    other = comparison.LanePool(fail, make_config(), protocol, tmp_path, max_width=32, salt="another commit")
    comparison.run_comparison(other, protocol, "toy")


@pytest.mark.parametrize("settings, message", [
    ({"tune_seeds": (2, 10)}, r"seeds \[2\] are used for tuning and for the verdict"),
    ({"tune_seeds": ()}, "a grid but no seeds"),
    ({"arms": {"slow": {}}}, "CLAIM compares fast, but ARMS has only slow")])
def test_protocols_that_cannot_judge_are_refused(settings, message):
  with pytest.raises(RunError, match=message):
    make_protocol(**settings)


def test_a_torn_lane_is_run_again(tmp_path):
  protocol = make_protocol(tune_grid={}, tune_seeds=())
  pool = lambda: comparison.LanePool(toy.make_experiment, make_config(), protocol, tmp_path, max_width=32)
  first = comparison.run_comparison(pool(), protocol, "toy")
  lanes = sorted(tmp_path.glob("*.npz"))
  lanes[0].write_bytes(lanes[0].read_bytes()[:100])
  lanes[1].write_bytes(b"")
  assert comparison.run_comparison(pool(), protocol, "toy") == first
