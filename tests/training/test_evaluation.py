"""Evaluations: every episode to its end or NaN, success only where it means something, every held-out item once."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore import policies, tasks
from rlcore.training import language, on_policy, on_policy_settings
from rlcore.training import state as state_lib
from rlcore.types import Problem, World


def countdown_world(horizon, success_return=None):
  """An episode lasts as many steps as its instance says, and every step costs 1; nothing ends one of -1 steps."""
  def step(key, time, action, length):
    return jnp.ones(1), time + 1, -jnp.ones(()), time + 1 == length, jnp.zeros((), bool), {}

  return World(lambda key, length: (jnp.ones(1), jnp.zeros((), jnp.int32)), step, 2, 1, horizon,
               success_return=success_return)


def told(lengths, horizon=4, eval_worlds=6, **settings):
  lengths = jnp.asarray(lengths)
  world = countdown_world(horizon, settings.pop("success_return", None))
  parts = on_policy.OnPolicyParts(
      world, policies.make_stream_policy(world, hidden=(2,)),
      lambda key: lengths[jax.random.randint(key, (), 0, len(lengths))], state_lib.make_optimizer(1e-3), num_worlds=2,
      num_steps=2, eval_worlds=eval_worlds, **on_policy_settings.ppo(minibatches=1), **settings)
  return jax.jit(functools.partial(on_policy.evaluate, parts))(parts.policy.init(jax.random.key(0)))


def test_an_episode_longer_than_the_horizon_is_played_to_its_end():
  assert told([4]) == {"episode_return": -4, "episode_length": 4, "unfinished": 0}
  assert told([11]) == {"episode_return": -11, "episode_length": 11, "unfinished": 0}
  several = told([3, 9, 32], eval_worlds=32)
  assert several["unfinished"] == 0 and several["episode_return"] == -several["episode_length"] < -4


def test_what_never_ends_is_nan_and_says_so():
  for lengths, share in (([-1], 1), ([33], 1)):
    result = told(lengths)
    assert np.isnan(result["episode_return"]) and np.isnan(result["episode_length"]) and result["unfinished"] == share
  some = told([2, -1], eval_worlds=16)
  assert np.isnan(some["episode_return"]) and 0 < some["unfinished"] < 1
  nobody = told([4], eval_worlds=0)
  assert np.isnan(nobody["episode_return"]) and nobody["unfinished"] == 0


def test_success_is_told_only_where_it_means_something():
  assert "success" not in told([4])
  assert told([4], success_return=-4.0)["success"] == 1 and told([5], success_return=-4.0)["success"] == 0
  assert told([4], success=lambda stream, returns: returns < 0)["success"] == 1


def _task(size):
  base = tasks.make_span_words()
  prompts = jnp.arange(5) + jnp.arange(size)[:, None]
  return tasks.with_test_set(base, Problem(prompts.astype(jnp.int32), jnp.ones((size, 5)), prompts))


@pytest.mark.parametrize("asked, size", [(8, 6), (6, 6), (4, 6)])
def test_every_item_of_a_finite_test_set_is_asked_once(asked, size):
  task = _task(size)
  parts = type("Parts", (), dict(task=task, axis_name=None, constrain=staticmethod(lambda tree: tree)))
  problems = language._draw_test(parts, jax.random.key(3), asked)
  first = np.sort(np.asarray(problems.prompt[:, 0]))
  assert len(first) == min(asked, size) and len(np.unique(first)) == len(first)
  np.testing.assert_array_equal(problems.prompt[:, 0], problems.target[:, 0])
  drawn = jax.vmap(lambda key: task.sample(key, "test"))(jax.random.split(jax.random.key(0), 40)).prompt[:, 0]
  assert set(np.asarray(drawn).tolist()) == set(range(size))
  assert int(jnp.sum(task.sample(jax.random.key(0), "train").prompt)) % 4  # as before


def test_a_test_set_that_does_not_fit_is_refused():
  for shape in ((0, 5), (3, 4)):
    with pytest.raises(ValueError, match="problems.prompt has shape"):
      tasks.with_test_set(tasks.make_span_words(), Problem(jnp.zeros(shape, jnp.int32), jnp.ones(shape)))
