"""The numbers that choose an arm of TP-GRPO and of OPRL choose what their configs say."""

import functools
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.credit import oprl as oprl_config
from configs.credit import tp_grpo as tp_grpo_config
from experiments.credit import oprl, tp_grpo
from rlcore import advantages, losses
from rlcore.envs import key_corridor
from rlcore.policies import actor_critic
from rlcore.training import control
from rlcore.types import Rewards, Trajectory

G, T = 4, 6


@pytest.fixture(scope="module")
def group():
  rng = np.random.default_rng(0)
  mask = (np.arange(T) < rng.integers(3, T + 1, (G, 1))).astype(np.float32)
  zero = np.zeros((G, T), np.float32)
  batch = Trajectory(zero, zero, zero, zero, zero, zero, zero, mask)
  labels = (rng.random((G, T)) < 0.5).astype(np.float32) * mask
  return Rewards(np.array([1, 0, 1, 1], np.float32), labels), batch


def test_arms_of_tp_grpo(group):
  rewards, batch = group
  credit = lambda **arm: tp_grpo.thoughts(rewards, batch, **arm)
  outcome = advantages.broadcast_to_tokens(advantages.group_advantage(rewards.outcome), batch.mask)
  np.testing.assert_allclose(credit(judged=0.0, merge=1.0, adaptive=1.0), outcome, atol=1e-6)
  arguments = rewards.process, batch.mask, rewards.outcome
  by_thought = advantages.thought_advantage(*arguments)
  np.testing.assert_allclose(credit(judged=1.0, merge=1.0, adaptive=1.0), by_thought, atol=1e-6)
  by_step = advantages.step_level_advantage(*arguments)
  np.testing.assert_allclose(credit(judged=1.0, merge=0.0, adaptive=1.0), by_step, atol=1e-6)
  right = (rewards.outcome > 0)[:, None] & (np.abs(by_thought - outcome) > 1e-3)
  assert right.any()
  worth_one = np.where(right, outcome - 1, by_thought)  # r_c is 1 and not the accuracy, 0.75
  np.testing.assert_allclose(credit(judged=1.0, merge=1.0, adaptive=0.0), worth_one, atol=1e-5)


def test_the_judge_errs_as_often_as_told():
  label = lambda action, mask, correct: mask * correct
  batch = Trajectory(*[jnp.zeros((3, 40, 50))] * 7, mask=jnp.ones((3, 40, 50)))
  rewards = Rewards(jnp.tile(jnp.arange(40) % 2, (3, 1)).astype(jnp.float32))
  for flip in (0.0, 0.1):
    judge = tp_grpo.judge(label, flip)
    apply = jax.jit(jax.vmap(judge.apply, (0, 0, None), (0, None), axis_name=control.GROUPS))
    labelled, key = apply(rewards, batch, jax.random.key(0))
    wrong = np.asarray(labelled.process) != np.asarray(rewards.outcome)[..., None]
    assert abs(wrong.mean() - flip) < 0.01 * (flip > 0) + 1e-9
    assert key != jax.random.key(0)
  assert (wrong[0] != wrong[1]).any()  # every group has errors of its own


def test_shuffling_permutes_the_counted_steps(group):
  rewards, batch = group
  rng = np.random.default_rng(1)
  process = rng.normal(size=(2, G, T)).astype(np.float32) * batch.mask
  stacked = jax.tree.map(lambda x: jnp.stack([x, x]), batch)
  moved = 0
  for weight in (0.0, 1.0):
    apply = jax.vmap(oprl.shuffled(weight).apply, (0, 0, None), (0, None), axis_name=control.GROUPS)
    got, _ = jax.jit(apply)(Rewards(jnp.stack([rewards.outcome] * 2), jnp.asarray(process)), stacked, jax.random.key(2))
    got = np.asarray(got.process)
    np.testing.assert_allclose(np.sort(got, -1), np.sort(process, -1), atol=1e-6)
    assert not np.any(got[np.broadcast_to(batch.mask == 0, got.shape)])
    moved += weight * np.mean(got != process)
    assert weight or (got == process).all()
  assert moved > 0.3


def test_the_noise_of_the_judge():
  apply = jax.vmap(oprl.blurred(0.3).apply, (0, 0, None), (0, None), axis_name=control.GROUPS)
  got, _ = jax.jit(apply)(Rewards(jnp.ones((50, 40))), jnp.zeros(50), jax.random.key(0))
  assert abs(np.std(got.outcome) - 0.3) < 0.02 and abs(np.mean(got.outcome) - 1) < 0.03
  assert len(np.unique(got.outcome[:, 0])) == 50


def test_arms_of_the_preference_loss():
  rng = np.random.default_rng(2)
  step_rewards, mask = rng.normal(size=(G, T)).astype(np.float32), np.ones((G, T), np.float32)
  mask[1, 3:] = 0
  outcome = np.array([1, 0, 0, 1], np.float32)
  loss = functools.partial(oprl.preference_loss, step_rewards, mask, outcome)
  for mean, aggregate in ((0.0, "sum"), (1.0, "mean")):
    want = losses.trajectory_dpo_loss(step_rewards, mask, outcome, aggregate)
    np.testing.assert_allclose(loss(mean=mean, pointwise=0.0), want, rtol=1e-6)
  chance = 1 / (1 + np.exp(-(step_rewards * mask).sum(1)))
  want = -np.mean(outcome * np.log(chance) + (1 - outcome) * np.log(1 - chance))
  np.testing.assert_allclose(loss(mean=0.0, pointwise=1.0), want, rtol=1e-5)


def test_the_table_of_the_policy_is_what_it_does():
  size = dict(num_tasks=2, turns=3)
  world = key_corridor.make_key_corridor(**size)
  agent = actor_critic.make_actor_critic(world, critic=False)

  @jax.jit
  def play(key):
    task, params = key_corridor.draw_task(key, 1), agent.init(key)
    return oprl.policy_table(agent, size, params, task), agent.rollout(params, key, task)

  table, episode = play(jax.random.key(0))
  np.testing.assert_allclose(np.sum(table, -1), 1, rtol=1e-5)
  for t in np.flatnonzero(episode.mask):
    chance = table[t, episode.info["room"][t], episode.action[t]]
    np.testing.assert_allclose(np.log(chance), episode.log_prob_old[t], rtol=1e-4, atol=1e-5)


_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # compiles twice as fast


def test_one_update_moves_policy_and_reward_model():
  config = oprl_config.get_config("smoke")
  experiment = oprl.make_experiment(config)

  @_jit
  def start_and_update(key):
    state = experiment.init(key)
    return state, *experiment.update(state)

  runs = (start_and_update(jax.random.key(seed)) for seed in range(20))
  before, after, metrics = next(run for run in runs if run[2]["success"] > 0)
  assert all(np.isfinite(x) for x in metrics.values())
  model = before.reward_state[1].params, after.reward_state[1].params
  jax.tree.map(np.testing.assert_array_equal, model[0], before.params)  # it starts as the policy
  moved = lambda a, b: max(float(np.abs(x - y).max()) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)))
  assert moved(before.params, after.params) > 1e-4
  assert moved(*model) > 1e-4
  assert abs(float(metrics["credit_rank"])) < 1e-6  # a copy of the policy says nothing yet


def test_cloning_and_one_update_of_tp_grpo():
  config = tp_grpo_config.get_config("smoke")
  experiment = tp_grpo.make_experiment(config)

  @_jit
  def run(key):
    state, cloned = experiment.warmup.update(experiment.init(key))
    return state, cloned, *experiment.update(state)

  before, cloned, after, metrics = run(jax.random.key(0))
  assert np.isfinite(cloned["loss"]) and all(np.isfinite(x) for x in metrics.values())
  assert metrics["variance/unmerged"] >= 0 and 0 <= metrics["pops"] <= config.horizon
  assert int(before.step) == 1 and int(after.step) == 2


@pytest.mark.parametrize("name", ["tp_grpo", "oprl", "slate", "multiturn"])
def test_a_group_of_one_has_nobody_to_be_compared_with(name):
  config = importlib.import_module(f"configs.credit.{name}").get_config("smoke")
  config.group_size = 1
  if name == "multiturn":
    config.weights.update(dict(ppo=0.0, grpo=1.0))
  with pytest.raises(ValueError, match="group_size=1: group-relative credit needs at least 2 episodes"):
    importlib.import_module(f"experiments.credit.{name}").make_experiment(config)
