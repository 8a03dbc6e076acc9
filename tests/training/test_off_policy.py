"""Training on replayed steps: both kinds of ending, joined steps, the buffer, targets, all algorithms, bad input."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rlcore.training import loop, off_policy, off_policy_settings, replay
from rlcore.training import state as state_lib
from rlcore.types import Stream, StreamReward, World
from tests.training import walk
from tests.tolerance import close

flashbax = pytest.importorskip("flashbax")
_jit, WALK, KINDS, LENGTH = walk.quick_jit, walk.WALK, walk.KINDS, walk.LENGTH
SMALL = dict(num_worlds=4, num_steps=3, num_updates=2, batch_size=8, capacity=24, learning_starts=12, eval_worlds=2)


def make_parts(settings=None, **changes):
  settings = off_policy_settings.dqn(hidden=(), target_period=3) if settings is None else settings
  return off_policy.OffPolicyParts(**(dict(
      world=WALK, instances=KINDS, optimizer=optax.sgd(0.1)) | SMALL | settings | changes))


def make_real(spoil=False) -> World:
  """One-step episodes that pay -(action - target)^2 and say the target; half end by time-out."""
  def reset(key, params):
    del params
    aim = jax.random.uniform(key, (1,), minval=-1.0, maxval=1.0)
    return aim, aim

  def step(key, state, action, params):
    del params
    reward = jnp.where(spoil & (state[0] > 0), jnp.nan, -jnp.sum(jnp.square(action - state)))
    return state, state, reward, jax.random.bernoulli(key, 0.5), jnp.ones((), bool), {}

  return World(reset, step, 0, 1, 1, action_size=1)


def test_joined_steps_are_n_step_returns():
  """Against a loop, over endings of both kinds in every place, and none."""
  rng, count = np.random.default_rng(0), 4
  rows = replay.Steps(
      observation=np.arange(64 * count).reshape(64, count), action=rng.integers(0, 5, (64, count)),
      reward_t=rng.normal(size=(64, count)).astype(np.float32),
      discount_t=(0.9 * (rng.random((64, count)) < 0.8)).astype(np.float32), truncated=rng.random((64, count)) < 0.2,
      next_observation=np.arange(64 * count).reshape(64, count) + 1,
      mask=(rng.random((64, count)) < 0.8).astype(np.float32))
  said = _jit(jax.vmap(replay.join))(rows)
  kinds = set()
  for i in range(64):
    total, discount, good = 0.0, 1.0, True
    for t in range(count):
      total, good = total + discount * rows.reward_t[i, t], good and rows.mask[i, t] > 0
      discount *= rows.discount_t[i, t]
      if rows.discount_t[i, t] == 0 or rows.truncated[i, t]:
        break
    kinds.add((t, discount > 0))
    np.testing.assert_allclose(said.reward_t[i], total, rtol=1e-5, atol=1e-6)
    close(said.discount_t[i], discount, rtol=1e-5)
    assert said.next_observation[i] == rows.next_observation[i, t] and said.mask[i] == good
    assert said.observation[i] == rows.observation[i, 0] and said.action[i] == rows.action[i, 0]
  assert len(kinds) >= 7


def test_the_buffer_forgets_the_oldest_and_never_joins_across_its_head():
  buffer = replay.make_replay(num_worlds=2, num_steps=3, capacity=14, batch_size=14, n=2)
  flat = lambda time: replay.Steps(time, time, time * 1.0, jnp.ones_like(time, jnp.float32), time < 0, time + 1,
                                   jnp.ones_like(time, jnp.float32))

  @_jit
  def run(key):
    state = buffer.init(flat(jnp.zeros((), jnp.int32)))
    sizes = [buffer.size(state)]
    for i in range(4):
      state = buffer.add(state, flat(3 * i + jnp.arange(3)[:, None] + jnp.array([0, 100])))
      sizes.append(buffer.size(state))
    return jnp.stack(sizes), jax.vmap(buffer.sample, (None, 0))(state, jax.random.split(key, 30))

  sizes, seen = run(jax.random.key(0))
  np.testing.assert_array_equal(sizes, [0, 6, 12, 14, 14])
  # Of steps 0..11 the last seven are held; the newest has no follower yet.
  assert set(np.unique(seen.observation)) == {*range(5, 11), *range(105, 111)}
  np.testing.assert_array_equal(seen.next_observation, seen.observation + 2)
  np.testing.assert_array_equal(seen.reward_t, 2 * seen.observation + 1)


def test_values_of_both_endings_are_learned_and_numbers_are_lanes():
  """The closed form: what is left of three rewards, or for ever where episodes are merely cut off; 1 and 2 steps."""
  # One-hot of place and kind, so that a linear network is a table; what a time-out led to looks like the start.
  def encode(observation):
    place, kind = walk.place_of(observation)
    return jax.nn.one_hot(2 * place + kind, 2 * LENGTH)

  world = WALK._replace(
      reset=lambda key, params: (lambda o, s: (encode(o), s))(*WALK.reset(key, params)),
      step=lambda *given: (lambda o, *rest: (encode(o), *rest))(*WALK.step(*given)), observation_size=2 * LENGTH)

  def run(n):
    def one(key, gamma, rate, epsilon):
      settings = off_policy_settings.dqn(hidden=(), n=n, target_rate=rate, target_period=2, epsilon=(1.0, epsilon),
                                         epsilon_steps=100.0, double=n == 1)
      parts = make_parts(settings, world=world, gamma=gamma, optimizer=optax.sgd(1.0), batch_size=64, capacity=240,
                         num_updates=4)
      experiment = off_policy.make_off_policy_experiment(parts)
      state, metrics = loop.train(experiment, 100)(key)
      q = jax.vmap(lambda seen: parts.networks.output(state.params, (), seen)[0])(jnp.eye(2 * LENGTH))
      return q, metrics, experiment.evaluate(state)
    return _jit(jax.vmap(one))(jax.random.split(jax.random.key(0), 2), jnp.array(gammas), jnp.array([0.5, 1.0]),
                               jnp.array([0.5, 0.2]))

  gammas = (0.8, 0.5)
  for n in (1, 2):
    q, metrics, said = run(n)
    for i, gamma in enumerate(gammas):
      exact = walk.exact_values(gamma)[:LENGTH].reshape(-1)
      np.testing.assert_allclose(q[i], np.broadcast_to(exact[:, None], (2 * LENGTH, 2)), rtol=0.03)
    np.testing.assert_allclose(metrics["random_actions"][:, -1], [0.5, 0.2], rtol=1e-5)
    np.testing.assert_array_equal(metrics["total_steps"][:, -1], [1200, 1200])
    np.testing.assert_array_equal(metrics["gradient_steps"][:, -1], [400, 400])
    np.testing.assert_array_equal(said["episode_return"], [LENGTH, LENGTH])


REAL = dict(hidden=(8,), uniform_steps=24.0)
slow = functools.partial(pytest.param, marks=pytest.mark.slow)


@pytest.fixture(scope="module")
def td3_run():
  """The states of five updates of TD3."""
  settings = off_policy_settings.td3(**REAL, target_rate=0.25)
  parts = make_parts(settings, world=make_real(), instances=lambda key: (), action_scale=2.0, learning_starts=24,
                     num_updates=1, optimizer=state_lib.make_optimizer(0.01))
  experiment = off_policy.make_off_policy_experiment(parts)
  init, update = _jit(experiment.init), _jit(experiment.update)
  states, metrics = [init(jax.random.key(0))], []
  for _ in range(5):
    state, said = update(states[-1])
    states.append(state)
    metrics.append(said)
  return states, metrics


def test_nothing_is_learned_before_the_start_and_the_policy_waits(td3_run):
  states, metrics = td3_run
  moved = lambda group, i: any(np.any(a != b) for a, b in zip(
      jax.tree.leaves(states[i].params[group]), jax.tree.leaves(states[i + 1].params[group]), strict=True))
  assert [moved("critic", i) for i in range(5)] == [False, True, True, True, True]
  assert [moved("actor", i) for i in range(5)] == [False, False, True, False, True]
  assert [int(s.gradient_steps) for s in states] == [0, 0, 1, 2, 3, 4]
  assert metrics[0]["critic_loss"] == 0 < metrics[1]["critic_loss"]
  assert [float(m["random_actions"]) for m in metrics] == [1, 1, 0, 0, 0]


def test_targets_follow_slowly(td3_run):
  states, _ = td3_run
  jax.tree.map(np.testing.assert_array_equal, states[2].targets, states[0].targets)
  for name, slowly in states[3].targets.items():
    jax.tree.map(lambda t, new, old: np.testing.assert_allclose(t, 0.25 * new + 0.75 * old, atol=1e-6),
                 slowly, states[3].params[name], states[0].params[name])


def test_actions_are_stored_in_the_cube_and_paid_in_the_world(td3_run):
  held = td3_run[0][1].replay.experience
  action, aim = held.action[:, :3], held.observation[:, :3]
  np.testing.assert_allclose(held.reward_t[:, :3], -np.square(2 * action - aim)[..., 0], rtol=1e-4, atol=1e-5)
  assert np.abs(action).max() <= 1 < 2 * np.abs(action).max()
  assert 0 < np.mean(held.truncated[:, :3]) < 1  # true where it did not terminate
  close(held.discount_t[:, :3], 0.99 * held.truncated[:, :3], rtol=1e-6)


@pytest.mark.parametrize("algorithm", ["sac", slow("td3"), slow("ddpg")])
def test_real_actions_are_learned(algorithm):
  """The aim is seen: what is paid rises from that of uniform actions to nearly 0."""
  settings = getattr(off_policy_settings, algorithm)(
      hidden=(16,), uniform_steps=200.0, target_rate=0.05, **dict(temperature=0.1) if algorithm == "sac" else {})
  parts = make_parts(settings, world=make_real(), instances=lambda key: (), num_worlds=8, num_steps=4, num_updates=8,
                     batch_size=64, capacity=2000, learning_starts=64, gamma=0.0, eval_worlds=64,
                     optimizer=state_lib.make_optimizer(0.01))
  experiment = off_policy.make_off_policy_experiment(parts)

  @jax.jit
  def run(key):
    before = experiment.init(key)
    state, metrics = loop.train(experiment, 60)(key)
    return experiment.evaluate(before), experiment.evaluate(state), metrics

  before, after, metrics = run(jax.random.key(1))
  assert before["episode_return"] < -0.15 and after["episode_return"] > -0.03
  assert np.all(np.isfinite(np.stack(list(metrics.values())))) and np.all(metrics["nonfinite_loss"] == 0)
  if algorithm == "sac":
    temperature = metrics["temperature"]
    assert temperature[-1] != temperature[10] > 0


def test_steps_that_are_not_finite_are_told_and_taught_to_nobody():
  counting = StreamReward(lambda key, num_worlds: jnp.zeros(()), lambda state, s: (s.reward_t, state + 1))
  parts = make_parts(off_policy_settings.ddpg(**REAL), world=make_real(spoil=True), instances=lambda key: (),
                     reward=counting, num_updates=1)
  experiment = off_policy.make_off_policy_experiment(parts)

  @_jit
  def run(key):
    state = experiment.init(key)
    return state, *experiment.update(state)

  before, state, metrics = run(jax.random.key(1))
  held = jax.tree.map(lambda x: x[:, :3], state.replay.experience)
  np.testing.assert_array_equal(held.mask, held.observation[..., 0] <= 0)
  assert 0 < np.mean(held.mask) < 1 and np.all(np.isfinite(held.reward_t))
  assert metrics["nonfinite_reward"] == 1 and metrics["nonfinite_observation"] == metrics["nonfinite_loss"] == 0
  assert state.reward_state == 0 and state.skipped == 0 and metrics["critic_grad_norm"] > 0
  assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(state.params))
  assert any(np.any(a != b) for a, b in zip(jax.tree.leaves(state.params), jax.tree.leaves(before.params)))


@pytest.mark.parametrize("where", ["observation", "next_observation"])
def test_a_step_that_sees_or_leads_to_nan_is_masked(where):
  zeros, bad = jnp.zeros((2, 3)), jnp.zeros((2, 3, 4)).at[1, 2, 0].set(jnp.nan)
  stream = Stream(**(dict(observation=jnp.zeros((2, 3, 4)), action=zeros, reward_t=zeros, discount_t=zeros,
                          log_prob_old=zeros, value_t=zeros, value_tp1=zeros, mask=zeros, truncated=zeros > 0,
                          next_observation=jnp.zeros((2, 3, 4))) | {where: bad}))
  steps = replay.from_stream(stream, zeros)
  np.testing.assert_array_equal(steps.mask, [[1, 1, 1], [1, 1, 0]])
  assert np.isfinite(getattr(steps, where)).all()


def test_bad_parts_are_told():
  sac = off_policy_settings.sac()
  with pytest.raises(ValueError, match="sac takes real actions, but this world has 2 discrete ones"):
    make_parts(sac)
  with pytest.raises(ValueError, match="dqn takes discrete actions, but those of this world are 1 real numbers"):
    make_parts(world=make_real())
  with pytest.raises(ValueError, match="capacity=24 is smaller than a batch, batch_size=25"):
    make_parts(batch_size=25)
  with pytest.raises(ValueError, match="leaves each of num_worlds=4 worlds 6 steps, fewer than num_steps=7 or n=1"):
    make_parts(num_steps=7)
  with pytest.raises(ValueError, match="learning_starts=25 steps never lie in a buffer that holds 24"):
    make_parts(learning_starts=25)
  with pytest.raises(ValueError, match="num_updates=0 must be at least 1"):
    make_parts(num_updates=0)
  flat = StreamReward(lambda key, n: (), lambda state, stream: (stream.reward_t[0], state))
  experiment = off_policy.make_off_policy_experiment(make_parts(reward=flat))
  with pytest.raises(ValueError, match=r"\[T, N\] = \(3, 4\) came back as \(4,\)"):
    jax.eval_shape(experiment.update, jax.eval_shape(experiment.init, jax.random.key(0)))
