"""DQN with a memory: stored memories, sequences, burn-in, targets over n steps, and a task that needs remembering."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore.training import loop, off_policy, off_policy_settings, replay
from rlcore.training import state as state_lib
from rlcore.types import World
from tests.training import test_off_policy, walk
from tests.tolerance import close

pytest.importorskip("flashbax")
_jit = walk.quick_jit


def make_recall(delay: int) -> World:
  """The first observation names the action that the last step pays; what lies between shows the time alone."""
  def observe(state):
    cue, time = state
    return jnp.concatenate([jax.nn.one_hot(cue, 2) * (time == 0), jnp.array([time == delay])]).astype(jnp.float32)

  def reset(key, params):
    del params
    state = jax.random.randint(key, (), 0, 2), jnp.zeros((), jnp.int32)
    return observe(state), state

  def step(key, state, action, params):
    del key, params
    cue, time = state
    last = time == delay
    state = cue, time + 1
    return observe(state), state, last * jnp.where(action == cue, 1.0, 0.0), last, jnp.zeros((), bool), {}

  return World(reset, step, num_actions=2, observation_size=3, horizon=delay + 1)


def test_a_cue_is_remembered_with_a_memory_alone():
  """But for the uniform actions the answer is right always, against half of the time: no better is possible without."""
  def run(memory_size, key):
    settings = off_policy_settings.dqn(memory_size=memory_size, length=4, burn_in=0, n=2, hidden=(),
                                       epsilon=(1.0, 0.1), epsilon_steps=500.0, target_period=20)
    parts = test_off_policy.make_parts(
        settings, world=make_recall(3), instances=lambda key: (), optimizer=state_lib.make_optimizer(0.01),
        num_worlds=8, num_steps=4, num_updates=4, batch_size=16, capacity=2000, learning_starts=100, gamma=0.9)
    experiment = off_policy.make_off_policy_experiment(parts)
    return jnp.mean(loop.train(experiment, 60)(key)[1]["episode_return"][-20:])

  keys = jax.random.split(jax.random.key(0), 3)
  with_memory, without = (_jit(jax.vmap(functools.partial(run, size)))(keys) for size in (12, 0))
  assert np.all(with_memory > 0.9) and np.all(without < 0.65), (with_memory, without)


def test_the_loss_of_sequences_is_that_of_a_loop():
  """Against float64 loops over burn-in, endings of both kinds, targets of n steps, masks, and both choices."""
  rng, world, count, burn_in, n = np.random.default_rng(0), make_recall(3), 6, 2, 2
  rows = replay.Steps(
      observation=rng.normal(size=(16, count, 3)), action=rng.integers(0, 2, (16, count)),
      reward_t=rng.normal(size=(16, count)), discount_t=0.9 * (rng.random((16, count)) < 0.8),
      truncated=rng.random((16, count)) < 0.2, next_observation=rng.normal(size=(16, count, 3)),
      mask=np.ones((16, count)), memory={"actor": rng.normal(size=(16, count, 4))})
  rows = jax.tree.map(lambda x: x.astype("float32") if x.dtype == float else x, rows)
  rows.mask[3, 1] = 0  # a bad step spoils its whole sequence
  for double in (True, False):
    method = off_policy_settings.dqn(memory_size=4, burn_in=burn_in, length=count - burn_in, n=n, hidden=(3,),
                                     double=double)["method"]
    networks = method.networks(world)
    params, targets = (jax.tree.map(lambda x: 3 * x, networks.init(jax.random.key(seed))) for seed in (1, 2))
    look = jax.jit(networks.output)
    said = jax.jit(networks.losses["q"])(params["q"], params, targets, rows, None)[0]
    errors = []
    for i in set(range(16)) - {3}:
      tables = {}
      for name, weights in (("now", params), ("slow", targets)):
        memory = {"actor": rows.memory["actor"][i, 0]}
        for t in range(count):
          q, memory = look(weights, memory, rows.observation[i, t])
          tables[name, t] = np.asarray(q), np.asarray(look(weights, memory, rows.next_observation[i, t])[0])
          if rows.discount_t[i, t] == 0 or rows.truncated[i, t]:
            memory = networks.memory
      for t in range(burn_in, count):
        wanted, weight = 0.0, 1.0
        for k in range(t, min(t + n, count)):
          wanted, weight = wanted + weight * rows.reward_t[i, k], weight * rows.discount_t[i, k]
          if weight == 0 or rows.truncated[i, k]:
            break
        best = np.argmax(tables["now" if double else "slow", k][1])
        errors.append(tables["now", t][0][rows.action[i, t]] - wanted - weight * tables["slow", k][1][best])
    close(said, np.mean(np.square(errors)) / 2, rtol=1e-4)


def test_memories_are_stored_as_they_were_acted_with():
  """Cleared where an episode begins, and carried on over the ends of rollouts."""
  settings = off_policy_settings.dqn(memory_size=4, burn_in=1, length=3, hidden=())
  parts = test_off_policy.make_parts(settings, world=make_recall(3), instances=lambda key: (), num_steps=6)
  experiment = off_policy.make_off_policy_experiment(parts)

  @_jit
  def run(key):
    state = experiment.init(key)
    return state.params, loop.train(experiment, 1)(key)[0].replay.experience

  params, held = run(jax.random.key(0))
  look = jax.jit(jax.vmap(parts.networks.output, (None, 0, 0)))
  memory = jax.tree.map(lambda x: jnp.zeros((4, *x.shape)), parts.networks.memory)
  for t in range(6):
    jax.tree.map(lambda a, b, t=t: np.testing.assert_allclose(a[:, t], b, atol=1e-6), held.memory, memory)
    _, memory = look(params, memory, held.observation[:, t])
    memory = memory if t != 3 else jax.tree.map(jnp.zeros_like, memory)
  assert all(np.abs(x[:, 2]).max() > 0 for x in jax.tree.leaves(held.memory))


def test_bad_sizes_are_told():
  with pytest.raises(ValueError, match="length=0 must be at least 1"):
    off_policy_settings.dqn(memory_size=4, length=0)
  with pytest.raises(ValueError, match="worlds 6 steps, fewer than num_steps=3 or sequences of 7"):
    test_off_policy.make_parts(off_policy_settings.dqn(memory_size=4, burn_in=3, length=4))
  with pytest.raises(ValueError, match="n=2: the steps of sequences of length=3 are not joined"):
    test_off_policy.make_parts(off_policy_settings.dqn(memory_size=4, burn_in=1, length=2) | dict(n=2))
