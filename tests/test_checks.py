"""What the pure rooms say of arguments that do not fit: the function, the argument, and what it should have been."""

import pathlib

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore import advantages, checks, losses, rewards, segments, stats, types

ROOT = pathlib.Path(__file__).parent.parent
ROOMS = ("stats.py", "segments.py", "rewards", "exploration", "advantages", "losses")


def ones(*shape):
  return np.ones(shape, np.float32)


def _kl_in_reward(log_probs, ref_log_probs):
  batch = types.Rollouts(ones(2, 3), ones(2, 3), log_probs, ones(2), ones(2), ref_log_probs=ref_log_probs)
  return rewards.kl_in_reward(0.1).apply(types.Rewards(ones(2)), batch, ())


def _only_where(condition):
  gate = rewards.only_where(lambda *_: condition, rewards.identity())
  return gate.apply(types.Rewards(ones(4)), None, ((), ()))


CASES = [
    (lambda: advantages.group_advantage(ones(4), ones(3)),
     "advantages.group_advantage: mask has shape (3,), rewards has (4,)"),
    (lambda: advantages.group_advantage(ones(2, 4)),
     "advantages.group_advantage: rewards has rank 2, expected 1: did you forget a jax.vmap?"),
    (lambda: jax.jit(advantages.group_advantage)(ones(2, 4)),
     "advantages.group_advantage: rewards has rank 2, expected 1: did you forget a jax.vmap?"),
    (lambda: advantages.group_advantage(1.0), "advantages.group_advantage: rewards has rank 0, expected 1"),
    (lambda: advantages.gae(ones(4), ones(4), ones(4), 0.9, 0.9, value_tp1=ones(5)),
     "advantages.gae: value_tp1 has shape (5,), rewards has (4,)"),
    (lambda: advantages.lambda_returns(ones(4), ones(3), ones(4)),
     "advantages.lambda_returns: discount_t has shape (3,), reward_t has (4,)"),
    (lambda: advantages.lambda_returns([1.0, 2.0], ones(2, 2), [1.0, 2.0]),
     "advantages.lambda_returns: discount_t has rank 2, expected 0 or 1: did you forget a jax.vmap?"),
    (lambda: advantages.tempo_advantage(ones(2, 3), ones(2), ones(2, 3)),
     "advantages.tempo_advantage: tokens has dtype float32, expected integers"),
    (lambda: advantages.tempo_advantage(np.ones((2, 3), int), ones(3), ones(2, 3)),
     "advantages.tempo_advantage: rewards has shape (3,), tokens has (2, 3)"),
    (lambda: advantages.oprl_advantage(ones(3), ones(2, 5), ones(2, 5)),
     "advantages.oprl_advantage: outcome has shape (3,), step_mask has (2, 5)"),
    (lambda: advantages.fuse_rewards(ones(4), ones(3, 4), (1, 2, 4)),
     "advantages.fuse_rewards: edge_log_probs has shape (3, 4), expected (2, 4)"),
    (lambda: advantages.total_rewards(types.Rewards(ones(3)), ones(2, 5)),
     "advantages.total_rewards: rewards.outcome has shape (3,), mask has (2, 5)"),
    (lambda: rewards.weighted_sum(ones(3, 4), ones(2)),
     "rewards.weighted_sum: weights has shape (2,), rewards has (3, 4)"),
    (lambda: rewards.clip_rewards(ones(2, 4), ones(2, 4)),
     "rewards.clip_rewards: process has rank 2, expected 1: did you forget a jax.vmap?"),
    (lambda: _kl_in_reward(ones(2, 3), ones(2, 4)),
     "rewards.kl_in_reward: batch.ref_log_probs has shape (2, 4), batch.mask has (2, 3)"),
    (lambda: _only_where(ones(3)), "rewards.only_where: the condition has shape (3,), rewards.outcome has (4,)"),
    (lambda: losses.clip_loss(ones(2, 3), ones(2, 3), ones(2, 3), ones(2, 4)),
     "losses.clip_loss: mask has shape (2, 4), log_probs has (2, 3)"),
    (lambda: losses.clip_loss(*[ones(2, 3)] * 4, weights=ones(3)),
     "losses.clip_loss: weights has shape (3,), mask has (2, 3)"),
    (lambda: losses.value_loss(ones(2, 3), ones(2, 3), ones(2, 3), ones(2, 2)),
     "losses.value_loss: values_old has shape (2, 2), values has (2, 3)"),
    (lambda: losses.kl_exact(ones(2, 3), ones(2, 3), ones(3)), "losses.kl_exact: mask has shape (3,), expected (2,)"),
    (lambda: losses.progress_loss(ones(3), ones(3), ones(3)),
     "losses.progress_loss: outcome has rank 1, expected 0: did you forget a jax.vmap?"),
    (lambda: segments.step_sums(ones(4), np.zeros(4, int), ones(3), 2),
     "segments.step_sums: mask has shape (3,), values has (4,)"),
    (lambda: stats.pearson_correlation(ones(4), ones(5)), "stats.pearson_correlation: y has shape (5,), x has (4,)"),
]


@pytest.mark.parametrize("call, message", CASES, ids=[message.partition(" ")[0] for _, message in CASES])
def test_a_failed_check_names_the_function_and_the_argument(call, message):
  with pytest.raises(AssertionError) as error:
    call()
  assert str(error.value) == message
  assert error.value.__suppress_context__  # chex's own sentence, which counts positions, would only hide it


def test_what_was_not_given_is_not_checked_and_lists_are_arrays():
  checks.rank(1, a=None, b=[1, 2], c=jnp.ones(3))
  checks.same_shape(a=None, b=[1, 2], c=jnp.ones(2))
  with pytest.raises(AssertionError, match=r"c has shape \(3,\), b has \(2,\)"):
    checks.same_shape(a=None, b=[1, 2], c=jnp.ones(3))


def test_chex_switches_the_checks_off():
  chex.disable_asserts()
  try:
    checks.rank(2, a=jnp.ones(3))
  finally:
    chex.enable_asserts()
  with pytest.raises(AssertionError, match="a has rank 1, expected 2"):
    checks.rank(2, a=jnp.ones(3))


def test_a_compiled_program_has_no_check():
  plain = jax.make_jaxpr(lambda x, y: x + y)(ones(3), ones(3))

  def checked(x, y):
    checks.rank(1, x=x)
    checks.same_shape(x=x, y=y)
    return x + y

  assert str(jax.make_jaxpr(checked)(ones(3), ones(3))) == str(plain)


def test_no_pure_room_goes_past_the_checks():
  files = [path for room in ROOMS for path in (ROOT / "rlcore").glob(room if room.endswith(".py") else f"{room}/*.py")]
  assert len(files) > 20
  assert not [str(path) for path in files if "chex" in path.read_text()]
