"""The multi-turn experiment in every text world: updates of each estimator, and worlds that are learned."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.credit import multiturn as config_lib
from experiments import launch
from experiments.credit import multiturn
from rlcore.training import loop, sweep

MAIN = ("ppo", "grpo", "rloo")
SMALL = {
    "household": {"num_turns": 6}, "key_corridor": {"num_turns": 4, "world.tasks": 2},
    "relation_hops": {"num_turns": 4, "world.entities": 6, "world.relations": 3, "world.chain": 2}}


def _config(name, **overrides):
  return sweep.apply_overrides(config_lib.get_config("smoke"), {"world.name": name, **SMALL.get(name, {}), **overrides})


@pytest.mark.parametrize("name", SMALL)
def test_updates_of_every_estimator_leave_finite_numbers(name):
  """PPO with its value head, GRPO and RLOO as lanes of one program: two updates after what warm-up the world has."""
  config = _config(name)

  def run(weights):
    own = config.copy_and_resolve_references()
    with own.unlocked(), own.ignore_type():
      own.weights.update(dict(zip(MAIN, weights)))
    experiment = multiturn.make_experiment(own)
    assert (experiment.warmup is None) == (name == "key_corridor")
    before = experiment.init(jax.random.key(0)).params
    state, history = loop.train(experiment, 2)(jax.random.key(0))
    return jax.tree.map(lambda a, b: jnp.any(a != b), before, state.params), state, history

  moved, state, history = jax.jit(jax.vmap(run))(jnp.eye(3))
  assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves((state.params, state.opt_state, history)))
  assert np.all(np.stack(jax.tree.leaves(moved["policy"]))) and not np.any(state.skipped)
  assert np.all(history["turns"] >= 1) and np.all(history["turns"] <= config.num_turns)
  assert {"test_success", "value_error"} <= set(history)


def test_a_world_that_is_none_is_told_in_one_line(capsys):
  with pytest.raises(ValueError) as caught:
    multiturn.make_experiment(_config("castle"))
  with pytest.raises(SystemExit):
    launch.fail(caught.value)
  assert capsys.readouterr().err == (
      "error: there is no text world 'castle'; there are: household, key_corridor, mini_quest, relation_hops\n")
