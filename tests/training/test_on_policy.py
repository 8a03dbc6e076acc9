"""Training on streams: credit, accounts of episodes, rewards of rollouts, memories, all algorithms."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rlcore import policies
from rlcore.training import loop, on_policy, on_policy_settings, stream_rewards, streams
from rlcore.training import state as state_lib
from rlcore.types import StreamReward
from tests.training import walk
from tests.tolerance import close

_jit = walk.quick_jit
rollouts = pytest.fixture(scope="module")(walk.two_rollouts)


def credit_loop(stream, lam):
  """Lambda-returns of one stream, in float64."""
  reward, discount, after = (np.asarray(x, float) for x in (stream.reward_t, stream.discount_t, stream.value_tp1))
  targets, following = np.zeros(len(reward)), None
  for t in reversed(range(len(reward))):
    alone = following is None or bool(stream.truncated[t])
    targets[t] = reward[t] + discount[t] * (after[t] if alone else (1 - lam) * after[t] + lam * following)
    following = targets[t]
  return targets


def test_credit_stops_at_both_kinds_of_ending(rollouts):
  stream = rollouts[1][0]
  half, whole = (np.stack([credit_loop(jax.tree.map(lambda x, n=n: x[:, n], stream), lam) for n in range(4)], 1)
                 for lam in (0.5, 1.0))
  credits = [functools.partial(on_policy_settings.gae_credit, lam=0.5), on_policy_settings.return_credit,
             functools.partial(on_policy_settings.vtrace_credit, lam=0.5),
             functools.partial(on_policy_settings.n_step_credit, n=7)]
  run = _jit(lambda s: [jax.vmap(credit, 1, 1)(s, s.log_prob_old) for credit in credits])
  for (advantage, said), targets in zip(run(stream), (half, whole, half, whole), strict=True):
    close(said, targets, rtol=1e-5)
    np.testing.assert_allclose(advantage, targets - stream.value_t, atol=1e-5)


def test_targets_under_exact_values_are_exact(rollouts):
  """In the fixed point the steps before a time-out are worth what an endless walk is, the others what is left."""
  exact = walk.exact_values()
  stream = rollouts[1][0]
  kind, place = stream.info["kind"], stream.info["place"]
  after = np.where((place == walk.LENGTH) & (kind == 0), 0, exact[place, kind])
  stream = stream.replace(value_t=jnp.asarray(exact[place - 1, kind]), value_tp1=jnp.asarray(after))
  advantage, targets = _jit(jax.vmap(on_policy_settings.gae_credit, 1, 1))(stream, stream.log_prob_old)
  np.testing.assert_allclose(advantage, np.zeros((7, 4)), atol=1e-5)
  close(targets, exact[place - 1, kind], rtol=1e-5)


def test_values_are_learned_for_both_endings_and_numbers_are_lanes():
  def run(key, lam, gamma, clip):
    settings = on_policy_settings.ppo(lam=lam, clip=clip, epochs=2, minibatches=2)
    parts = walk.make_parts(gamma=gamma, optimizer=optax.sgd(0.5), value_coef=1.0, **{
        k: settings[k] for k in ("credit", "policy_loss")})
    experiment = on_policy.make_on_policy_experiment(parts)
    state, metrics = loop.train(experiment, 60)(key)
    return state, metrics, experiment.evaluate(state)

  gammas = (0.8, 0.5)
  state, metrics, said = _jit(jax.vmap(run))(
      jax.random.split(jax.random.key(0), 2), jnp.array([0.9, 0.0]), jnp.array(gammas), jnp.array([0.2, 0.1]))
  for i, gamma in enumerate(gammas):
    np.testing.assert_allclose(state.params["value"][i], walk.exact_values(gamma)[:walk.LENGTH], atol=0.05)
  np.testing.assert_array_equal(said["episode_return"], [walk.LENGTH, walk.LENGTH])
  np.testing.assert_array_equal(metrics["total_steps"][:, -1], [60 * 28] * 2)
  np.testing.assert_array_equal(metrics["total_episodes"][:, -1], [4 * (60 * 7 // 3)] * 2)
  np.testing.assert_array_equal(metrics["total_return"][:, -1], [walk.LENGTH] * 2)
  assert np.all(metrics["success"] == 1) and np.all(metrics["nonfinite_loss"] == 0)


def test_the_account_keeps_its_last_values_where_nothing_ended():
  known = on_policy.no_ends()
  rng = np.random.default_rng(0)
  seen = []
  account = _jit(lambda ends, known: on_policy.count_ends(ends, ends.returns > 0, known))
  for chance in (0.0, 0.5, 0.0, 0.4):
    ended = rng.random((5, 3)) < chance
    returns, lengths = rng.normal(size=(5, 3)).astype(np.float32), rng.integers(1, 9, (5, 3))
    ends = streams.Ends(*map(jnp.asarray, (ended, returns, lengths)))
    known, metrics = account(ends, known)
    seen += list(np.asarray(ends.returns)[ended])
    assert metrics["episodes"] == ended.sum() and metrics["total_episodes"] == len(seen)
    if chance:
      last = np.asarray(ends.returns)[ended]
    elif not seen:
      last = np.zeros(1)
    np.testing.assert_allclose(metrics["episode_return"], last.mean(), atol=1e-6)
    np.testing.assert_allclose(metrics["success"], (last > 0).mean(), atol=1e-6)
    np.testing.assert_allclose(metrics["total_return"], np.mean(seen) if seen else 0, atol=1e-6)
    np.testing.assert_allclose(metrics["total_success"], np.mean(np.array(seen) > 0) if seen else 0, atol=1e-6)


def test_bonuses_of_streams(rollouts):
  """Counts go on through rollouts; those of an episode are cleared after its last step was paid; E3B is a count."""
  _, both, _, _ = rollouts
  # Marks that repeat inside an episode; both kinds of world share the global table.
  mark = lambda stream: stream.info["kind"] + jnp.minimum(stream.info["place"], 2)
  one_hot = lambda stream: jax.nn.one_hot(mark(stream), 4)
  count, key = stream_rewards, jax.random.key(0)
  parts = [count.global_count(mark, 4), count.episodic_count(mark, 4), count.episodic_elliptical(one_hot, 4)]
  table, own = np.zeros(4), np.zeros((4, 4))
  states = [part.init(key, 4) for part in parts]
  apply = _jit(lambda states, stream: tuple(p.apply(s, stream) for p, s in zip(parts, states, strict=True)))
  for stream in both:
    want = np.zeros((3, 7, 4))
    for t in range(7):
      for n in range(4):
        if stream.is_first[t, n]:
          own[n] = 0
        k = int(stream.info["kind"][t, n] + min(int(stream.info["place"][t, n]), 2))
        table[k], own[n, k] = table[k] + 1, own[n, k] + 1
        want[:, t, n] = table[k]**-0.5, own[n, k]**-0.5, 1 / (0.1 + own[n, k] - 1)
    paid = apply(states, stream)
    states = [state for _, state in paid]
    close(np.stack([bonus for bonus, _ in paid]), want, rtol=1e-4)
  assert np.any(want[1] < 1)


def test_rewards_compose_and_learn_once_a_rollout(rollouts):
  """A multiplier moves once by the mean cost of the rollout, and the next rollout pays it."""
  stream = rollouts[1][0]
  cost = (stream.info["place"] == 1).astype(jnp.float32)
  lagrange = StreamReward(lambda key, num_worlds: jnp.zeros(()),
                          lambda state, s: (s.reward_t - state * cost, state + jnp.mean(cost)))
  doubled = StreamReward(lambda key, num_worlds: (), lambda state, s: (2 * s.reward_t, state))
  reward = stream_rewards.in_turn(doubled, lagrange)
  state = reward.init(jax.random.key(0), 4)
  first, state = reward.apply(state, stream)
  second, _ = reward.apply(state, stream)
  np.testing.assert_allclose(first, 2 * np.ones((7, 4)))
  close(second, 2 - np.mean(cost) * cost, rtol=1e-6)
  both = stream_rewards.weighted(lambda a, b: a + 10 * b, stream_rewards.task_reward(), doubled)
  np.testing.assert_allclose(both.apply(both.init(jax.random.key(0), 4), stream)[0], 21 * np.ones((7, 4)))


slow = functools.partial(pytest.param, marks=pytest.mark.slow)


@pytest.mark.parametrize("torso, shared, algorithm", [
    ("gru", True, "vtrace_actor_critic"), slow("gru", False, "ppo"), slow("cnn", True, "a2c"),
    slow("real", False, "reinforce"), slow("mlp", False, "vtrace_actor_critic")])
def test_the_policy_is_run_again_as_it_acted(torso, shared, algorithm):
  """Log-probabilities and values of the update's first pass are those of the rollout, memories included."""
  world = walk.make_shapes(torso)
  policy = policies.make_stream_policy(
      world, torso="mlp" if torso == "real" else torso, hidden=(8,), channels=(4,), memory_size=6, shared=shared)
  parts = walk.make_parts(world=world, policy=policy, instances=lambda key: (), reward=stream_rewards.task_reward(),
                     **{**dict(value_clip=None, fresh_credit=False), **getattr(on_policy_settings, algorithm)()}
                     | (dict(minibatches=2) if algorithm in ("ppo", "vtrace_actor_critic") else {}))
  experiment = on_policy.make_on_policy_experiment(parts)

  @_jit
  def run(key):
    state, metrics = experiment.update(experiment.init(key))  # the second rollout begins in the middle of episodes
    worlds, stream, _ = streams.collect(world, policy, parts.instances, state.params, state.worlds, key, num_steps=7)
    rows = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), stream)
    scores, _ = streams.score(policy, state.params, state.worlds.memory, rows)
    return metrics, rows, scores, worlds

  metrics, rows, scores, worlds = run(jax.random.key(0))
  np.testing.assert_allclose(scores.log_probs, rows.log_prob_old, atol=1e-5)
  np.testing.assert_allclose(scores.values, rows.value_t, atol=1e-5)
  assert np.std(rows.value_t) > 0 and np.all(np.isfinite(list(metrics.values()))) and metrics["grad_norm"] > 0
  # Where an episode goes on, the value of what a step led to is the value at the next step: memories are carried on.
  on = ~np.asarray(rows.is_first)[:, 1:]
  np.testing.assert_allclose(rows.value_tp1[:, :-1][on], rows.value_t[:, 1:][on], atol=1e-5)
  assert on.any() and not on.all()
  if torso == "gru":
    assert all(np.abs(x).max() > 0 for x in jax.tree.leaves(worlds.memory))


@pytest.mark.parametrize("flat", [False, True])
def test_a_step_that_is_not_finite_undoes_the_whole_update(flat):
  """The first gradient steps of an update were good; nothing of them is left."""
  late = lambda log_probs, rows, advantages: (
      jnp.mean(log_probs) + jnp.where(jnp.any(rows.is_first), jnp.nan, 0.0), {})
  parts = walk.make_parts(policy_loss=late, num_worlds=1, minibatches=walk.LENGTH, epochs=1, num_steps=walk.LENGTH,
                     flat_params=flat)
  experiment = on_policy.make_on_policy_experiment(parts)
  state = _jit(experiment.init)(jax.random.key(0))
  after, metrics = _jit(experiment.update)(state)
  assert metrics["nonfinite_loss"] == 1 and int(after.skipped) == 1
  jax.tree.map(np.testing.assert_array_equal, (after.params, after.opt_state), (state.params, state.opt_state))


def test_parameters_as_one_vector_move_as_they_do_one_by_one():
  """Under a norm over all of them and Adam."""
  policy = policies.make_stream_policy(walk.WALK, hidden=(4,))
  optimizer = state_lib.make_optimizer(0.03, max_grad_norm=0.1)

  def run(flat):
    parts = walk.make_parts(policy=policy, optimizer=optimizer, flat_params=flat)
    return _jit(loop.train(on_policy.make_on_policy_experiment(parts), 3))(jax.random.key(1))

  (tree, tree_metrics), (vector, vector_metrics) = run(False), run(True)
  jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6),
               (tree.params, tree_metrics), (vector.params, vector_metrics))
  size = state_lib.count_params(tree.params)
  assert {x.shape for x in jax.tree.leaves(vector.opt_state)} == {(), (size,)}


def test_vtrace_corrects_for_the_steps_taken_since(rollouts):
  """With a ratio below 1 the target moves less far from the value than the return does."""
  row = jax.tree.map(lambda x: x[:, 0], rollouts[1][0])
  credit = functools.partial(on_policy_settings.vtrace_credit, lam=0.0)
  credit = _jit(credit)
  _, whole = credit(row, row.log_prob_old)
  _, half = credit(row, row.log_prob_old + jnp.log(0.5))
  np.testing.assert_allclose(half - row.value_t, (whole - row.value_t) / 2, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("spoil", ["observation", pytest.param("bonus", marks=pytest.mark.slow)])
def test_numbers_that_are_not_finite_are_told_and_change_nothing(spoil):
  world = walk.make_walk(spoil=spoil == "observation")
  bad = StreamReward(lambda key, num_worlds: jnp.zeros(()), lambda state, s: (s.reward_t * jnp.nan, state + 1))
  parts = walk.make_parts(world=world, **({"reward": bad} if spoil == "bonus" else {}))
  experiment = on_policy.make_on_policy_experiment(parts)

  @_jit
  def run(key):
    state = experiment.init(key)
    return state, *experiment.update(state)

  state, after, metrics = run(jax.random.key(0))
  assert metrics["nonfinite_observation"] == (spoil == "observation")
  assert metrics["nonfinite_reward"] == (spoil == "bonus")
  jax.tree.map(np.testing.assert_array_equal, (after.params, after.opt_state, after.reward_state),
               (state.params, state.opt_state, state.reward_state))
  assert int(after.skipped) == int(after.step) == 1 and np.all(np.isfinite(list(metrics.values())))


@pytest.mark.parametrize("key, said", [(3, "not from 3"), (np.zeros(2, np.int32), r"int32\[2\]"),
                                       (jax.random.split(jax.random.key(0), 2), r"key<fry>\[2\]")])
def test_a_key_of_the_wrong_kind_is_told(key, said):
  with pytest.raises(TypeError, match=said):
    on_policy.make_on_policy_experiment(walk.make_parts()).init(key)


def test_bad_parts_are_told():
  with pytest.raises(ValueError, match="minibatches=3 does not divide the 28 steps"):
    walk.make_parts(minibatches=3)
  with pytest.raises(ValueError, match="minibatches=7 does not divide the 4 worlds"):
    walk.make_parts(minibatches=7, fresh_credit=True)
  with pytest.raises(ValueError, match="minibatches=0 must be at least 1"):
    walk.make_parts(minibatches=0)
  with pytest.raises(ValueError, match="epochs=0 must be at least 1"):
    walk.make_parts(epochs=0)
  with pytest.raises(ValueError, match="gamma=1.5 must lie between 0 and 1"):
    walk.make_parts(gamma=1.5)
  with pytest.raises(TypeError, match="is no StreamReward"):
    walk.make_parts(reward=lambda stream: stream.reward_t)
  with pytest.raises(ValueError, match="whiten='always' is none of minibatch, batch, none"):
    walk.make_parts(whiten="always")
  with pytest.raises(ValueError, match="torso='cnn' takes observations"):
    policies.make_stream_policy(walk.WALK, torso="cnn")
  with pytest.raises(ValueError, match=r"hidden=64 is one width; hidden layers are a sequence of them, \(64,\)"):
    policies.make_stream_policy(walk.WALK, hidden=64)
  key = jax.random.key(0)
  for world, said in (
      (walk.WALK._replace(step=lambda *a: walk.WALK.step(*a)[:5]), "6 values; it returns 5"),
      (walk.WALK._replace(reset=lambda key: None), "the world has no reset"),
      (walk.WALK._replace(step=lambda *a: (*walk.WALK.step(*a)[:2], jnp.zeros(1), *walk.WALK.step(*a)[3:])),
       r"gives reward of shape \(1,\)"),
      (walk.WALK._replace(observation_size=9), r"observations of shape \(5,\), but it promises \(9,\)")):
    with pytest.raises(TypeError, match=said):
      on_policy.make_on_policy_experiment(walk.make_parts(world=world)).init(key)
  flat = StreamReward(lambda key, n: (), lambda state, stream: (stream.reward_t[0], state))
  experiment = on_policy.make_on_policy_experiment(walk.make_parts(reward=flat))
  with pytest.raises(ValueError, match=r"\[T, N\] = \(7, 4\) came back as \(4,\)"):
    jax.eval_shape(experiment.update, jax.eval_shape(experiment.init, key))


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("credit, kind, said", [
    (lambda stream, log_probs: (stream.reward_t[1:],) * 2, ValueError, r"they came back as \(6,\) and \(6,\)"),
    (lambda stream, log_probs: stream.reward_t, TypeError, "credit must return")])
def test_credit_of_another_shape_is_told(credit, kind, said, fresh):
  experiment = on_policy.make_on_policy_experiment(walk.make_parts(credit=credit, fresh_credit=fresh))
  with pytest.raises(kind, match=said):
    jax.eval_shape(experiment.update, jax.eval_shape(experiment.init, jax.random.key(0)))
