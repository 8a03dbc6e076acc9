"""Training on episodes: it learns a chain, both by PPO and by groups, and every part says what it should."""

import dataclasses
import functools
import io

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
import rich.console

from rlcore import advantages, losses, policies, rewards
from rlcore.training import control, loop
from rlcore.training import state as state_lib
from rlcore.types import RewardTransform
from tests.training import chain

WORLD = chain.make_chain()


def make_parts(**changes) -> control.ControlParts:
  agent = policies.make_actor_critic(WORLD, hidden=(16,))
  parts = control.ControlParts(
      agent=agent,
      instances=lambda key: jnp.zeros(16, jnp.int32),
      optimizer=state_lib.make_optimizer(0.03),
      advantage_estimator=advantages.gae_advantages,
      value_target=advantages.gae_returns,
      policy_loss=functools.partial(losses.clip_policy_loss, clip_high=None),
      group_size=2, epochs=2, minibatches=4, whiten=True)
  return dataclasses.replace(parts, **changes)


def success_after(parts, steps=40):
  experiment = control.make_control_experiment(parts)
  state, metrics = jax.jit(loop.train(experiment, steps))(jax.random.key(0))
  return np.asarray(metrics["success"]), state, metrics


GROUPED = dict(
    agent=policies.make_actor_critic(WORLD, hidden=(16,), critic=False), value_target=None, group_size=8, whiten=False,
    instances=lambda key: jnp.zeros(4, jnp.int32), advantage_estimator=advantages.group_relative)


@pytest.mark.parametrize("changes", [{}, GROUPED], ids=["ppo", "grpo"])
def test_it_learns_the_chain(changes):
  success, state, metrics = success_after(make_parts(**changes))
  assert success[:3].mean() < 0.7 < 0.95 < success[-5:].mean()
  assert int(state.step) == 40 and int(state.skipped) == 0
  assert metrics["episode_length"][-1] < metrics["episode_length"][0]


def test_the_speed_is_counted_in_steps_of_the_world(tmp_path):
  experiment = control.make_control_experiment(make_parts())
  console = rich.console.Console(file=io.StringIO(), width=120)
  config = ml_collections.ConfigDict(dict(
      experiment="toy", seed=0, steps=2, log_every=1, eval_every=0, checkpoint_every=0, progress_metric="success"))
  loop.run(experiment, config, tmp_path, console=console)
  assert "steps/s" in console.file.getvalue() and "tokens" not in console.file.getvalue()


def test_a_script_sees_the_state_and_ends_as_a_policy_does():
  towards = lambda key, state, instance: jnp.where(state[0] < chain.LENGTH - instance, 1, 0)
  play = lambda instance: policies.scripted_rollout(WORLD, towards, jax.random.key(0), jnp.int32(instance))
  won, lost = play(0), play(1)
  np.testing.assert_array_equal(won.mask, [1] * 4 + [0] * 4)
  np.testing.assert_array_equal(won.reward_t, np.arange(8) == 3)
  np.testing.assert_array_equal(lost.mask, np.ones(8))
  np.testing.assert_array_equal(lost.info["place"], [2, 3, 2, 3, 2, 3, 2, 3])
  assert not np.any(won.log_prob_old) and not np.any(won.value_tp1)


def test_an_episode_stands_still_after_its_end():
  agent = policies.make_actor_critic(WORLD, hidden=(16,), policy_mask=lambda seen: jnp.array([0.0, 1.0]))
  params = agent.init(jax.random.key(0))
  episode = agent.rollout(params, jax.random.key(1), jnp.int32(1))
  np.testing.assert_array_equal(episode.mask, [1, 1, 1, 0, 0, 0, 0, 0])
  np.testing.assert_array_equal(episode.reward_t, [0, 0, 1, 0, 0, 0, 0, 0])
  np.testing.assert_array_equal(episode.discount_t, [1, 1, 0, 0, 0, 0, 0, 0])
  np.testing.assert_array_equal(episode.info["place"][:3], [2, 3, 4])
  np.testing.assert_array_equal(episode.log_prob_old, np.zeros(8))  # the only allowed action is certain
  scores = agent.score(params, episode)
  np.testing.assert_allclose(scores.entropy, np.zeros(8), atol=1e-6)
  np.testing.assert_allclose(scores.values[:3], episode.value_t[:3], atol=1e-6)
  np.testing.assert_allclose(episode.value_tp1[:2], episode.value_t[1:3], atol=1e-6)
  grads = jax.grad(lambda p: jnp.sum(agent.score(p, episode).entropy + agent.score(p, episode).log_probs))(params)
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(grads))


def test_scores_are_those_of_the_rollout():
  agent = policies.make_actor_critic(WORLD, hidden=(16,))
  params = agent.init(jax.random.key(0))
  episode = agent.rollout(params, jax.random.key(3), jnp.int32(0))
  scores = agent.score(params, episode)
  np.testing.assert_allclose(scores.log_probs * episode.mask, episode.log_prob_old, atol=1e-6)


def test_cloning_learns_what_is_shown():
  agent = policies.make_actor_critic(WORLD, hidden=(16,))
  right = policies.make_actor_critic(WORLD, hidden=(16,), policy_mask=lambda seen: jnp.array([0.0, 1.0]))
  shown = right.init(jax.random.key(0))

  def demonstrations(key):
    return jax.vmap(right.rollout, (None, 0, None))(shown, jax.random.split(key, 4), jnp.int32(0))

  warmup = control.CloneWarmup(60, state_lib.make_optimizer(0.03), demonstrations)
  experiment = control.make_control_experiment(make_parts(agent=agent, warmup=warmup, use_reference=True))
  state = experiment.init(jax.random.key(0))
  step = jax.jit(experiment.warmup.update)
  for _ in range(60):
    state, metrics = step(state)
  assert metrics["loss"] < 0.1 and experiment.evaluate(state)["success"] > 0.9
  jax.tree.map(np.testing.assert_array_equal, state.ref_params, state.params)


def test_a_transform_sees_the_group_and_keeps_its_state():
  seen = {}

  def apply(raw, batch, state):
    seen.update(outcome=raw.outcome.shape, mask=batch.mask.shape, process=raw.process)
    return raw.replace(process=0.1 * batch.mask), state + jax.lax.pmean(jnp.mean(raw.outcome), control.GROUPS)

  transform = RewardTransform(lambda key, example: jnp.zeros(()), apply)
  describe = lambda raw, shaped, batch, credit: {"shaped": jnp.mean(jnp.sum(shaped.process, -1))}
  parts = make_parts(reward_transform=transform, describe=describe, probe=True)
  experiment = control.make_control_experiment(parts)
  state, metrics = jax.jit(experiment.update)(experiment.init(jax.random.key(0)))
  assert seen == {"outcome": (2,), "mask": (2, chain.HORIZON), "process": None}
  np.testing.assert_allclose(state.reward_state, metrics["reward"], rtol=1e-5)
  np.testing.assert_allclose(metrics["shaped"], 0.1 * metrics["episode_length"], rtol=1e-5)
  assert 0 <= metrics["test_success"] <= 1


def test_a_reward_that_is_no_number_moves_nothing():
  broken = rewards.stateless(lambda raw, batch: raw.replace(outcome=raw.outcome * jnp.nan))
  experiment = control.make_control_experiment(make_parts(reward_transform=broken))
  before = experiment.init(jax.random.key(0))
  after, metrics = jax.jit(experiment.update)(before)
  jax.tree.map(np.testing.assert_array_equal, after.params, before.params)
  assert metrics["nonfinite_reward"] == 1 and int(after.skipped) == 1
  assert all(np.isfinite(x) for x in jax.tree.leaves(metrics))


def test_bad_settings_are_told():
  with pytest.raises(ValueError, match="group_size=0 must be at least 1"):
    make_parts(group_size=0)
  with pytest.raises(ValueError, match="group_size=1: group-relative credit needs at least 2 episodes"):
    make_parts(group_size=1, min_group_size=2)
  experiment = control.make_control_experiment(make_parts(minibatches=5))
  with pytest.raises(ValueError, match="minibatches=5 does not divide the 32 entries"):
    jax.eval_shape(experiment.update, experiment.init(jax.random.key(0)))


@pytest.mark.parametrize(
    "part, role", [("advantage_estimator", "advantage estimator"), ("value_target", "value target")])
def test_credit_of_a_wrong_shape_is_named_where_it_arises(part, role):
  def of_episodes(rewards, batch, scale):
    return scale * rewards.outcome

  experiment = control.make_control_experiment(make_parts(**{part: functools.partial(of_episodes, scale=2)}))
  words = rf"the {role} of_episodes returned shape \(2,\), expected \[G, T\] = \(2, 8\)"
  with pytest.raises(ValueError, match=words):
    jax.eval_shape(experiment.update, jax.eval_shape(experiment.init, jax.random.key(0)))
