"""The multi-turn experiment in every text world: updates of each estimator, and worlds that are learned."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.credit import multiturn as config_lib
from experiments import launch
from experiments.credit import multiturn
from rlcore.training import sweep

MAIN = ("ppo", "grpo", "rloo")
SMALL = {
    "household": {"num_turns": 6},
    "key_corridor": {"num_turns": 5, "world.tasks": 2, "train": 2, "group_size": 32, "lr": 3e-3},
    "relation_hops": {"num_turns": 4, "world.entities": 6, "world.relations": 3, "world.chain": 2}}


def _config(name):
  return sweep.apply_overrides(config_lib.get_config("smoke"), {"world.name": name, **SMALL.get(name, {})})


@functools.cache
def _programs(name):
  """Returns `init` and `update(weights of MAIN, state)`, one program for every estimator."""
  config = _config(name)

  def update(weights, state):
    own = config.copy_and_resolve_references()
    with own.unlocked(), own.ignore_type():
      own.weights.update(dict(zip(MAIN, weights)))
    return multiturn.make_experiment(own).update(state)

  return jax.jit(multiturn.make_experiment(config).init), jax.jit(update)


@pytest.mark.parametrize("name", [
    "key_corridor", *(pytest.param(name, marks=pytest.mark.slow) for name in SMALL if name != "key_corridor")])
@pytest.mark.parametrize("estimator", MAIN)
def test_updates_leave_finite_numbers(name, estimator):
  """PPO with its value head, GRPO and RLOO, a few updates each."""
  init, update = _programs(name)
  state = before = init(jax.random.key(0))
  for _ in range(3):
    state, metrics = update(jnp.array([float(estimator == one) for one in MAIN]), state)
    assert all(np.isfinite(x) for x in metrics.values()) and {"test_success", "value_error"} <= set(metrics)
    assert 1 <= metrics["turns"] <= SMALL[name]["num_turns"]
  assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves((state.params, state.opt_state))) and state.skipped == 0
  moved = jax.tree.map(lambda a, b: np.any(a != b), before.params, state.params)
  assert all(jax.tree.leaves(moved["policy"]))
  assert estimator == "ppo" or not any(jax.tree.leaves(moved["value"]))


@pytest.mark.slow
@pytest.mark.parametrize("estimator", ("ppo", "rloo"))
def test_the_key_corridor_is_learned(estimator):
  """Random play opens it in 4 % of the episodes; who learns one of the two tasks only, which happens, opens half."""
  init, update = _programs("key_corridor")
  weights, ends = jnp.array([float(estimator == one) for one in MAIN]), []
  for seed in range(1, 4):
    state, success = init(jax.random.key(seed)), []
    for _ in range(50):
      state, metrics = update(weights, state)
      success.append(float(metrics["success"]))
    assert success[0] < 0.2, success
    ends.append(np.mean(success[-10:]))
  assert min(ends) > 0.4 and max(ends) > 0.7, ends


def test_a_world_that_is_none_is_told_in_one_line(capsys):
  with pytest.raises(ValueError) as caught:
    multiturn.make_experiment(_config("castle"))
  with pytest.raises(SystemExit):
    launch.fail(caught.value)
  assert capsys.readouterr().err == (
      "error: there is no text world 'castle'; there are: household, key_corridor, mini_quest, relation_hops\n")
