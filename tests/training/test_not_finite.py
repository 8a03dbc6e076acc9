"""Numbers that are not finite, wherever they arise: told by name, and nothing is moved by them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore import advantages, stats
from rlcore import rewards as reward_lib
from rlcore.envs import chain as chain_lib
from rlcore.training import control, diffusion, host, language, off_policy, on_policy, scoring, tabular_policy
from rlcore.training import streams, tabular_q
from rlcore.training import state as state_lib
from rlcore.training.loop import _not_finite
from rlcore.types import Rewards, RewardTransform, Rollouts, StreamReward, Trajectory
from tests.training import test_control, test_diffusion, test_off_policy, walk
from tests.training.test_language import _odd_reward, _parts, TASK

SHAPED, CREDIT, STATE, NOTHING = range(4)  # what is spoiled, as a number, so that one program serves all cases
CASES = pytest.mark.parametrize("which, first", [
    (SHAPED, "shaped reward"), (CREDIT, "advantage"), (STATE, "reward state"), (NOTHING, None)])
MARK = 12345.0  # a finite reward by which an estimator is told to fail


def _spoiling(axis_name):
  """A transform with running moments and a state that says what it spoils; the estimator that goes with it."""
  moments = reward_lib.with_running_stats(reward_lib.meanstd_reward, axis_name=axis_name)

  def init(key, example):
    return {"which": jnp.int32(NOTHING), "moments": moments.init(key, example), "extra": jnp.zeros(())}

  def apply(rewards, batch, state):
    which = state["which"]
    first = jnp.where(which == SHAPED, jnp.nan, rewards.outcome[0])
    rewards, after = moments.apply(rewards.replace(outcome=rewards.outcome.at[0].set(first)), batch, state["moments"])
    extra = state["extra"] + jnp.where(which == STATE, jnp.nan, 1.0)
    outcome = jnp.where(which == CREDIT, MARK, rewards.outcome)
    return rewards.replace(outcome=outcome), {"which": which, "moments": after, "extra": extra}

  def estimator(rewards, batch):
    credit = advantages.group_relative(rewards, batch)
    return jnp.where(rewards.outcome[0] == MARK, jnp.nan, credit)

  return RewardTransform(init, apply), estimator


def _moved(before, after):
  """Names the parts of a state that differ, but for the clock, the keys and the worlds that play on."""
  free = ("step", "key", "skipped", "worlds", "ends")
  same = lambda a, b: all(np.array_equal(x, y) for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True))
  names = [field.name for field in dataclasses.fields(before) if field.name not in free]
  return [name for name in names if not same(getattr(before, name), getattr(after, name))]


def _check(start, update, which, first):
  before = start.replace(reward_state=start.reward_state | {"which": jnp.int32(which)})
  after, metrics = update(before)
  assert all(np.isfinite(x) for x in metrics.values())
  if first is None:
    assert {"params", "opt_state", "reward_state"} <= set(_moved(before, after))
    assert not _not_finite(metrics) and int(after.skipped) == 0
  else:
    assert _moved(before, after) == [] and int(after.skipped) == int(after.step) == 1
    assert _not_finite(metrics)[0] == first


@pytest.fixture(scope="module")
def language_learner():
  transform, estimator = _spoiling(language.PROMPTS)

  def apply(rewards, batch, state):
    return transform.apply(_odd_reward(rewards, batch), batch, state)

  parts = _parts(prompts_per_update=4, advantage_estimator=estimator,
                 reward_transform=RewardTransform(transform.init, apply))
  experiment = language.make_language_experiment(parts)
  return parts, jax.jit(experiment.init)(jax.random.key(0)), jax.jit(experiment.update)


@CASES
def test_the_language_learner(language_learner, which, first):
  _check(*language_learner[1:], which, first)


@pytest.fixture(scope="module")
def episodes_learner():
  transform, estimator = _spoiling(control.GROUPS)
  target = lambda rewards, batch: jnp.where(rewards.outcome[0] == MARK, 0.0, advantages.gae_returns(rewards, batch))
  experiment = control.make_control_experiment(test_control.make_parts(
      reward_transform=transform, advantage_estimator=estimator, value_target=target, whiten=False, **test_control.ONCE))
  return jax.jit(experiment.init)(jax.random.key(0)), jax.jit(experiment.update)


@CASES
def test_the_episodes_learner(episodes_learner, which, first):
  _check(*episodes_learner, which, first)


@pytest.fixture(scope="module")
def streams_learner():
  def apply(state, stream):
    which = state["which"]
    paid = jnp.where(which == SHAPED, jnp.nan, jnp.where(which == CREDIT, MARK, stream.reward_t))
    return paid, state | {"extra": state["extra"] + jnp.where(which == STATE, jnp.nan, 1.0)}

  reward = StreamReward(lambda key, worlds: {"which": jnp.int32(NOTHING), "extra": jnp.zeros(())}, apply)
  parts = walk.make_parts(reward=reward)
  own = parts.credit

  def credit(row, log_probs):
    advantage, target = own(row, log_probs)
    return jnp.where(row.reward_t[0] == MARK, jnp.nan, advantage), target

  experiment = on_policy.make_on_policy_experiment(dataclasses.replace(parts, credit=credit))
  return walk.quick_jit(experiment.init)(jax.random.key(0)), walk.quick_jit(experiment.update)


@CASES
def test_the_learner_on_streams(streams_learner, which, first):
  _check(*streams_learner, which, first)


def test_the_learner_on_replay_keeps_its_reward_state_and_believes_no_step():
  reward = StreamReward(lambda key, worlds: jnp.ones(()), lambda state, stream: (stream.reward_t, state * jnp.nan))
  experiment = off_policy.make_off_policy_experiment(test_off_policy.make_parts(reward=reward))

  @walk.quick_jit
  def run(key):
    state = experiment.init(key)
    return state, *experiment.update(state)

  before, after, metrics = run(jax.random.key(0))
  assert _not_finite(metrics) == ["reward state"]
  assert after.reward_state == before.reward_state == 1 and not np.any(after.replay.experience.mask)
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(after.params))


def test_the_flow_learner():
  parts = test_diffusion.make_parts(warmup=None, gradient_steps=1, probe_samples=1, trees_per_prompt=1)
  credit = lambda *args: jax.tree.map(lambda x: x.at[0, 0].set(jnp.nan), parts.credit(*args))
  experiment = diffusion.make_diffusion_experiment(dataclasses.replace(parts, credit=credit))
  before = jax.jit(experiment.init)(jax.random.key(0))
  after, metrics = jax.jit(experiment.update)(before)
  assert _moved(before, after) == [] and int(after.skipped) == 1 and _not_finite(metrics)[0] == "advantage"


def test_tables_are_left_as_they_were():
  world = chain_lib.make_chain(horizon=4, places=3, start=0, distractor_at=2)
  instance = chain_lib.ChainParams(0.0, 1.0, 0.0)
  q = jnp.ones((world.observation_size, world.num_actions))
  play = jax.jit(lambda value: tabular_q.q_learning_episode(
      world, chain_lib.place, q, jax.random.key(0), instance,
      pay=lambda reward, state, action, following: value, with_soundness=True))
  for value, sound in ((jnp.nan, False), (2.0, True)):
    after, _, said = play(jnp.float32(value))
    assert bool(said) == sound and np.array_equal(after, q) != sound and np.isfinite(after).all()
  step = jax.jit(lambda paid: tabular_policy.reinforce_step(
      q, jnp.zeros((1, 2), jnp.int32), jnp.ones((1, 2), jnp.int32), jnp.ones((1, 2)), jnp.asarray([[1.0, paid]])))
  assert np.array_equal(step(jnp.nan), q) and not np.array_equal(step(1.0), q)


def test_what_may_be_infinite_from_the_start():
  fresh = dict(low=jnp.float32(jnp.inf), mean=jnp.zeros(2), count=jnp.int32(0), key=jax.random.key(0))
  assert state_lib.still_sound(fresh, fresh)
  assert state_lib.still_sound(fresh | {"low": jnp.float32(3)}, fresh)
  assert not state_lib.still_sound(fresh | {"mean": jnp.array([0, jnp.inf])}, fresh)
  assert not state_lib.still_sound(fresh | {"low": jnp.float32(jnp.nan)}, fresh)


# One response that cannot be scored.


def _sub_group(values, keep):
  """GRPO's advantages of the counted members, by float64; 0 for the others, and where fewer than two count."""
  credit, kept = np.zeros(len(values)), np.asarray(values, np.float64)[keep]
  if keep.sum() > 1 and np.ptp(kept) > 0:
    credit[keep] = (kept - kept.mean()) / (kept.std(ddof=1) + 1e-6)
  return credit


@pytest.mark.parametrize("keep", [[1, 1, 0, 1, 1], [0, 0, 1, 0, 1], [0, 1, 0, 0, 0], [0, 0, 0, 0, 0]])
def test_groups_are_those_of_the_scorable(keep):
  keep, rng = np.array(keep, bool), np.random.default_rng(1)
  tokens, mask = rng.integers(0, 2, (5, 6)).astype(np.int32), np.ones((5, 6), np.float32)
  outcome = np.array([0.1, 0.9, 0.5, 0.4, -2], np.float32)
  rewards = Rewards(np.where(keep, outcome, np.nan), valid=keep.astype(np.float32))
  batch = _rollouts(tokens, mask)
  want = _sub_group(outcome, keep)[:, None] * mask
  np.testing.assert_allclose(advantages.group_relative(rewards, batch), want, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(advantages.tempo(rewards, batch, td_coef=0.0), want, rtol=1e-5, atol=1e-6)
  tree = np.zeros(tokens.shape)
  if keep.any():  # the tree of those alone
    tree[keep] = advantages.tempo_advantage(tokens[keep], outcome[keep], mask[keep])
  np.testing.assert_allclose(advantages.tempo(rewards, batch), tree, rtol=1e-5, atol=1e-5)
  zero = jnp.zeros(mask.shape)
  episodes = Trajectory((), zero, zero, zero, zero, zero, zero, mask)
  to_go = np.where(keep, outcome, 0)[:, None] * mask
  np.testing.assert_allclose(advantages.gae_advantages(rewards, episodes), to_go, rtol=1e-5, atol=1e-6)


def _rollouts(tokens, mask):
  return Rollouts(jnp.asarray(tokens), jnp.asarray(mask), jnp.zeros(mask.shape), jnp.zeros(2), jnp.zeros(2))


def test_transforms_see_the_scorable_alone():
  rewards = Rewards(jnp.array([1.0, 0.0, 3.0]), valid=jnp.array([1.0, 0.0, 1.0]))
  batch = _rollouts(np.zeros((3, 4), np.int32), np.array([[1, 1, 1, 1], [0] * 4, [1, 1, 0, 0]], np.float32))
  run = lambda transform: transform.apply(rewards, batch, transform.init(jax.random.key(0), rewards))
  np.testing.assert_allclose(run(reward_lib.on_outcome(lambda x: x + 1))[0].outcome, [2, 0, 4])
  np.testing.assert_allclose(run(reward_lib.on_outcome(stats.centred))[0].outcome, [-1, 0, 1])
  np.testing.assert_allclose(
      run(reward_lib.mixture((reward_lib.identity(),), (2.0,), each=stats.centred))[0].outcome, [-2, 0, 2])
  state = run(reward_lib.with_running_stats(reward_lib.meanstd_reward))[1]
  assert state["count"] == 2 and state["mean"] == 2
  short = run(reward_lib.with_lengths(reward_lib.relative_length_reward))[0].outcome  # of 4 and 2, not of 0
  np.testing.assert_allclose(short, [0.5, 0, 3.5])


def test_a_host_verifiers_nan_marks_the_response():
  problems, mask = np.zeros((2, 3)), np.ones((2, 3, 4), np.float32)
  rollouts = Rollouts(np.zeros((2, 3, 4), np.int32), mask, mask, None, None)
  scorer = host.make_scorer(lambda problem, tokens, mask: np.nan if problem[0] else 0.5, workers=1)
  rewards = scorer(problems + np.array([[0], [1]]), rollouts)
  np.testing.assert_array_equal(rewards.outcome, [[0.5] * 3, [0] * 3])
  np.testing.assert_array_equal(rewards.valid, [[1] * 3, [0] * 3])
  process = np.zeros((2, 3, 4), np.float32)
  process[0, 1, 2] = np.nan
  marked = scoring.mark_unscorable(Rewards(np.ones((2, 3)), process, np.array([[1, 1, 1], [1, 1, 0]])))
  np.testing.assert_array_equal(marked.valid, [[1, 0, 1], [1, 1, 0]])
  np.testing.assert_array_equal(marked.outcome, marked.valid)
  assert np.isfinite(marked.process).all()


def test_one_unscorable_response_is_dropped_and_the_others_teach():
  probe = np.random.default_rng(0).normal(size=(16, TASK.max_response)).astype(np.float32)

  def loss(log_probs, batch, credit):
    return jnp.sum(log_probs * batch.mask * credit), {"seen": jnp.sum(credit * probe), "counted": jnp.sum(batch.mask)}

  seen = {}

  def verifier(problems, rollouts):
    seen["rollouts"] = jax.device_get(rollouts)
    outcome = np.random.default_rng(2).normal(size=(4, 4)).astype(np.float32)
    outcome[1, 2] = np.nan
    seen["outcome"] = np.full((4, 4), np.nan) if seen.get("hopeless") else outcome
    return Rewards(outcome=seen["outcome"].astype(np.float32))

  experiment = language.make_language_experiment(_parts(
      prompts_per_update=4, advantage_estimator=advantages.group_relative, policy_loss=loss,
      reward_transform=reward_lib.identity()), score_on_host=verifier)
  before = jax.jit(experiment.init)(jax.random.key(0))
  after, metrics = experiment.update(before)
  keep = ~np.isnan(seen["outcome"])
  mask = seen["rollouts"].mask * keep[..., None]
  want = np.stack([_sub_group(o, k) for o, k in zip(seen["outcome"], keep)])[..., None] * mask
  np.testing.assert_allclose(metrics["seen"], np.sum(want.reshape(probe.shape) * probe), rtol=1e-4, atol=1e-4)
  assert metrics["counted"] == mask.sum() < seen["rollouts"].mask.sum() and metrics["unscorable"] == 1
  np.testing.assert_allclose(metrics["reward"], np.nanmean(seen["outcome"]), rtol=1e-5)
  assert "params" in _moved(before, after) and not _not_finite(metrics) and int(after.skipped) == 0
  seen["hopeless"] = True  # nothing could be scored: that is no update
  last, metrics = experiment.update(after)
  assert _moved(after, last) == [] and int(last.skipped) == 1 and _not_finite(metrics)[0] == "reward"
  assert metrics["unscorable"] == 16 and all(np.isfinite(x) for x in jax.tree.leaves(metrics))
  assert not np.array_equal(jax.random.key_data(last.key), jax.random.key_data(after.key))


def test_what_comes_first_is_named_first():
  row = {f"nonfinite_{name}": np.float32(1) for name in ("loss", "grad", "reward_state", "shaped_reward", "reward")}
  assert _not_finite(row | {"nonfinite_advantage": np.float32(0)}) == ["shaped reward", "reward state", "loss", "grad"]
  assert _not_finite({"loss": np.float32(np.nan)}) == ["loss"] and _not_finite({"loss": np.float32(1)}) == []


def test_a_return_that_is_no_number_does_not_stay_in_the_means():
  ends = lambda returns: streams.Ends(ended=jnp.ones((1, 2), bool), returns=jnp.asarray([returns]),
                                      lengths=jnp.full((1, 2), 3.0))
  won = jnp.ones((1, 2))
  known, _ = on_policy.count_ends(ends([1.0, 3.0]), won, on_policy.no_ends())
  spoiled, told = on_policy.count_ends(ends([1.0, jnp.nan]), won, known)
  assert spoiled["mean_return"] == told["total_return"] == 2 and spoiled["episodes"] == 4
  assert all(np.isfinite(x) for x in told.values())
  assert on_policy.count_ends(ends([8.0, 8.0]), won, spoiled)[0]["mean_return"] == 4  # a third of all episodes
