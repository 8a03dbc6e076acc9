"""Training on episodes: it learns a chain, both by PPO and by groups, and every part says what it should."""

import dataclasses
import functools
import io

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
import ml_collections
import numpy as np
import pytest
import rich.console

from rlcore import advantages, losses, policies, rewards
from rlcore.training import control, loop
from rlcore.training import mesh as mesh_lib
from rlcore.training import state as state_lib
from rlcore.types import RewardTransform
from tests.training import chain
from tests.tolerance import close

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


ONCE = dict(epochs=1, minibatches=1)  # where the gradient steps do not matter: compiles sooner


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
  experiment = control.make_control_experiment(make_parts(**GROUPED, **ONCE))
  console = rich.console.Console(file=io.StringIO(), width=120)
  config = ml_collections.ConfigDict(dict(
      experiment="toy", seed=0, steps=2, log_every=1, eval_every=0, checkpoint_every=0, progress_metric="success"))
  loop.run(experiment, config, tmp_path, console=console)
  assert "steps/s" in console.file.getvalue() and "tokens" not in console.file.getvalue()


def spread_parts(kind, **changes):
  """PPO with a critic or a group estimator, in which everything that spans the groups of an update takes part."""
  agent = policies.make_actor_critic(WORLD, hidden=(16,), critic=kind == "ppo")
  right = policies.make_actor_critic(WORLD, hidden=(16,), policy_mask=lambda seen: jnp.array([0.0, 1.0]))

  def demonstrations(key):
    shown = right.init(jax.random.key(0))
    return jax.vmap(right.rollout, (None, 0, 0))(shown, jax.random.split(key, 8), jnp.arange(8) % 3)  # lengths differ

  moments = rewards.with_running_stats(rewards.meanstd_reward, axis_name=control.GROUPS)
  return make_parts(**(({} if kind == "ppo" else GROUPED) | dict(
      agent=agent, instances=lambda key: jax.random.randint(key, (16,), 0, 3), group_size=2,
      whiten=kind == "ppo", reward_transform=rewards.chain(drawn_rewards(), moments), use_reference=True, probe=True,
      policy_loss=functools.partial(losses.clip_policy_loss, kl_coef=0.1), entropy_coef=0.01,
      describe=lambda raw, shaped, batch, credit: {"shaped_max": jnp.max(shaped.outcome)},
      warmup=control.CloneWarmup(2, state_lib.make_optimizer(0.03), demonstrations) if kind == "ppo" else None)
      | changes))


def drawn_rewards():
  """Adds noise of each group's own, so that a device that takes itself for the first one is found out."""
  def apply(raw, batch, key):
    own = jax.random.fold_in(key, jax.lax.axis_index(control.GROUPS))
    return raw.replace(outcome=raw.outcome + jax.random.normal(own, raw.outcome.shape)), jax.random.split(key, 1)[0]

  return RewardTransform(lambda key, example: key, apply)


def spread_experiment(kind, form):
  if form == "mesh":
    mesh = mesh_lib.make_mesh()
    return mesh_lib.mesh_experiment(
        control.make_control_experiment(spread_parts(kind, constrain=mesh_lib.constrain_to(mesh))), mesh)
  experiment = control.make_control_experiment(spread_parts(kind, axis_name=mesh_lib.DATA))
  if form == "pmap":
    return mesh_lib.pmap_experiment(experiment)
  mapped = functools.partial(jax.shard_map, mesh=mesh_lib.make_mesh(), in_specs=PartitionSpec(),
                             out_specs=PartitionSpec(), check_vma=False)  # what is gathered is the same everywhere
  warmup = experiment.warmup._replace(update=mapped(experiment.warmup.update))
  return experiment._replace(update=mapped(experiment.update), warmup=warmup)


def three_updates(experiment):
  """Two updates of the warm-up, if there is one, and three main ones: parameters, moments of the rewards, metrics."""
  state, history = jax.jit(experiment.init)(jax.random.key(0)), []
  jit = jax.jit if experiment.jittable else lambda update: update
  for stage, count in ((experiment.warmup, 2), (experiment, 3)):
    update = stage and jit(stage.update)
    for _ in range(count if stage else 0):
      state, metrics = update(state)
      history.append(metrics)
  return jax.device_get((state.params, state.reward_state[1], history)), jax.jit(experiment.evaluate)(state)


@functools.cache
def on_one_device(kind):
  return three_updates(control.make_control_experiment(spread_parts(kind)))


@pytest.mark.parametrize("kind, form", [
    pytest.param("ppo", "mesh", marks=pytest.mark.slow), pytest.param("ppo", "pmap", marks=pytest.mark.slow),
    ("ppo", "shard_map"), ("grpo", "mesh"), pytest.param("grpo", "pmap", marks=pytest.mark.slow)])
def test_devices_do_not_change_the_numbers(kind, form):
  want, got = on_one_device(kind), three_updates(spread_experiment(kind, form))
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-3, atol=2e-3), got, want)  # Adam, as in language
  (_, moments, _), _ = got
  assert moments["count"] == 3 * 32


def test_devices_share_the_work():
  """Each of eight devices plays an eighth of the episodes and differentiates an eighth of every minibatch."""
  played, scored = set(), set()
  agent = spread_parts("ppo").agent

  def rollout(params, key, instance):
    return jax.vmap(agent.rollout, (None, 0, None))(params, jax.random.split(key, 2), instance)

  def constrain(tree):
    played.add(jax.tree.leaves(tree)[0].shape[0])
    return tree

  def policy_loss(log_probs, rows, credit):
    scored.add(log_probs.shape[0])
    return losses.clip_policy_loss(log_probs, rows, credit)

  parts = spread_parts("ppo", axis_name=mesh_lib.DATA, rollout=rollout, constrain=constrain, policy_loss=policy_loss)
  trace_on_eight(parts)
  assert played == {16, 2} and scored == {32 // 4 // 8}


def trace_on_eight(parts):
  experiment = control.make_control_experiment(parts)
  mapped = jax.vmap(experiment.update, None, axis_size=8, axis_name=mesh_lib.DATA)
  jax.eval_shape(mapped, jax.eval_shape(experiment.init, jax.random.key(0)))


@pytest.mark.parametrize("changes, words", [
    (dict(instances=lambda key: jnp.zeros(12, jnp.int32), minibatches=3), "12 groups cannot be spread over 8 devices"),
    (dict(minibatches=8), "4 episodes of a gradient step cannot be spread over 8 devices"),
    (dict(test_instances=lambda key: jnp.zeros(5, jnp.int32)), "5 held-out instances cannot be spread"),
])
def test_shares_that_are_not_whole_are_refused(changes, words):
  with pytest.raises(ValueError, match=words):
    trace_on_eight(spread_parts("ppo", axis_name=mesh_lib.DATA, **changes))


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
  params = jax.jit(agent.init)(jax.random.key(0))

  @jax.jit
  def run(params):
    episode = agent.rollout(params, jax.random.key(1), jnp.int32(1))
    score = lambda p: agent.score(p, episode)
    return episode, score(params), jax.grad(lambda p: jnp.sum(score(p).entropy + score(p).log_probs))(params)

  episode, scores, grads = run(params)
  np.testing.assert_array_equal(episode.mask, [1, 1, 1, 0, 0, 0, 0, 0])
  np.testing.assert_array_equal(episode.reward_t, [0, 0, 1, 0, 0, 0, 0, 0])
  np.testing.assert_array_equal(episode.discount_t, [1, 1, 0, 0, 0, 0, 0, 0])
  np.testing.assert_array_equal(episode.info["place"][:3], [2, 3, 4])
  np.testing.assert_array_equal(episode.log_prob_old, np.zeros(8))  # the only allowed action is certain
  np.testing.assert_allclose(scores.entropy, np.zeros(8), atol=1e-6)
  np.testing.assert_allclose(scores.values[:3], episode.value_t[:3], atol=1e-6)
  np.testing.assert_allclose(episode.value_tp1[:2], episode.value_t[1:3], atol=1e-6)
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(grads))


def test_scores_are_those_of_the_rollout():
  agent = policies.make_actor_critic(WORLD, hidden=(16,))
  params = jax.jit(agent.init)(jax.random.key(0))
  episode = jax.jit(agent.rollout)(params, jax.random.key(3), jnp.int32(0))
  scores = jax.jit(agent.score)(params, episode)
  np.testing.assert_allclose(scores.log_probs * episode.mask, episode.log_prob_old, atol=1e-6)


def test_cloning_learns_what_is_shown():
  agent = policies.make_actor_critic(WORLD, hidden=(16,))
  right = policies.make_actor_critic(WORLD, hidden=(16,), policy_mask=lambda seen: jnp.array([0.0, 1.0]))
  shown = jax.jit(right.init)(jax.random.key(0))

  def demonstrations(key):
    return jax.vmap(right.rollout, (None, 0, None))(shown, jax.random.split(key, 4), jnp.int32(0))

  warmup = control.CloneWarmup(60, state_lib.make_optimizer(0.03), demonstrations)
  experiment = control.make_control_experiment(make_parts(agent=agent, warmup=warmup, use_reference=True))
  state = jax.jit(experiment.init)(jax.random.key(0))
  step = jax.jit(experiment.warmup.update)
  for _ in range(60):
    state, metrics = step(state)
  assert metrics["loss"] < 0.1 and jax.jit(experiment.evaluate)(state)["success"] > 0.9
  jax.tree.map(np.testing.assert_array_equal, state.ref_params, state.params)


def test_a_transform_sees_the_group_and_keeps_its_state():
  seen = {}

  def apply(raw, batch, state):
    seen.update(outcome=raw.outcome.shape, mask=batch.mask.shape, process=raw.process)
    return raw.replace(process=0.1 * batch.mask), state + jax.lax.pmean(jnp.mean(raw.outcome), control.GROUPS)

  transform = RewardTransform(lambda key, example: jnp.zeros(()), apply)
  describe = lambda raw, shaped, batch, credit: {"shaped": jnp.mean(jnp.sum(shaped.process, -1))}
  parts = make_parts(reward_transform=transform, describe=describe, probe=True, **ONCE)
  experiment = control.make_control_experiment(parts)
  state, metrics = jax.jit(experiment.update)(jax.jit(experiment.init)(jax.random.key(0)))
  assert seen == {"outcome": (2,), "mask": (2, chain.HORIZON), "process": None}
  close(state.reward_state, metrics["reward"], rtol=1e-5)
  close(metrics["shaped"], 0.1 * metrics["episode_length"], rtol=1e-5)
  assert 0 <= metrics["test_success"] <= 1


@pytest.mark.slow  # as in test_not_finite::test_the_episodes_learner
def test_a_reward_that_is_no_number_moves_nothing():
  broken = rewards.stateless(lambda raw, batch: raw.replace(outcome=raw.outcome * jnp.nan))
  experiment = control.make_control_experiment(make_parts(reward_transform=broken, **ONCE))
  before = jax.jit(experiment.init)(jax.random.key(0))
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
    jax.eval_shape(experiment.update, jax.eval_shape(experiment.init, jax.random.key(0)))


@pytest.mark.parametrize(
    "part, role", [("advantage_estimator", "advantage estimator"), ("value_target", "value target")])
def test_credit_of_a_wrong_shape_is_named_where_it_arises(part, role):
  def of_episodes(rewards, batch, scale):
    return scale * rewards.outcome

  experiment = control.make_control_experiment(make_parts(**{part: functools.partial(of_episodes, scale=2)}))
  words = rf"the {role} of_episodes returned shape \(2,\), expected \[G, T\] = \(2, 8\)"
  with pytest.raises(ValueError, match=words):
    jax.eval_shape(experiment.update, jax.eval_shape(experiment.init, jax.random.key(0)))
