"""Streams: where episodes begin and how they end, values of what comes next, first states, noise, keys."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore import policies
from rlcore.training import streams
from tests.training import walk
from tests.tolerance import close

_jit = walk.quick_jit
rollouts = pytest.fixture(scope="module")(walk.two_rollouts)


def test_a_stream_says_where_episodes_begin_and_how_they_end(rollouts):
  _, (first, second), (ends, more), table = rollouts
  joined = jax.tree.map(lambda a, b: np.concatenate([a, b]), first, second)
  time = np.arange(14)[:, None] % walk.LENGTH
  kind = joined.info["kind"]
  np.testing.assert_array_equal(joined.is_first, np.broadcast_to(time == 0, (14, 4)))
  last = np.broadcast_to(time == walk.LENGTH - 1, (14, 4))
  np.testing.assert_array_equal(joined.truncated, last & (kind == 1))
  close(joined.discount_t, np.where(last & (kind == 0), 0, walk.GAMMA), rtol=1e-6)
  after = np.where(last & (kind == 0), 0, table[(time + 1) % walk.LENGTH, kind])
  close(joined.value_tp1, after, rtol=1e-6)
  np.testing.assert_array_equal(np.argmax(joined.next_observation[..., :-1], -1), np.broadcast_to(time + 1, (14, 4)))
  assert len(np.unique(kind[last])) == 2  # drawn anew for every episode
  lengths = np.concatenate([ends.lengths, more.lengths])
  np.testing.assert_array_equal(lengths, np.broadcast_to(time + 1, (14, 4)))  # goes on through the second rollout
  np.testing.assert_array_equal(np.concatenate([ends.returns, more.returns]), lengths)
  np.testing.assert_array_equal(np.concatenate([ends.ended, more.ended]), last)


@pytest.mark.parametrize("torso", ["mlp", "gru"])
def test_values_after_are_those_of_what_the_steps_led_to(torso):
  """Where an episode is cut off too, which happens to the worlds at different times."""
  policy = policies.make_stream_policy(walk.WALK, torso=torso, hidden=(8,), memory_size=6)

  @_jit
  def run(key):
    params = policy.init(key)
    start = streams.start(walk.WALK, policy, walk.KINDS, key, 5)
    start, _, _ = streams.collect(walk.WALK, policy, walk.KINDS, params, start, key, num_steps=2)
    _, stream, ends = streams.collect(walk.WALK, policy, walk.KINDS, params, start, key, num_steps=4 * walk.LENGTH)
    rows = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), stream)
    after = streams.score(policy, params, start.memory, rows)[1]
    want = streams.next_values(policy, params, after, rows.next_observation)
    return rows, want, ends

  rows, want, ends = run(jax.random.key(1))
  ended, cut = np.asarray(ends.ended).T, np.asarray(rows.truncated)
  np.testing.assert_allclose(rows.value_tp1, np.where(ended & ~cut, 0, want), atol=1e-6)
  assert len(set(cut.sum(1))) > 1 and cut[:, :-1].any() and (ended & ~cut).any()  # of both kinds, unlike by world


def test_first_states_drawn_ahead_are_those_drawn_step_by_step(monkeypatch):
  policy = policies.make_stream_policy(walk.WALK, hidden=(8,))

  def run(key):
    start = streams.start(walk.WALK, policy, walk.KINDS, key, 8)
    return streams.collect(walk.WALK, policy, walk.KINDS, policy.init(key), start, key, num_steps=3 * walk.LENGTH)

  ahead = _jit(run)(jax.random.key(3))
  monkeypatch.setattr(streams, "_RESETS_AHEAD", 0)
  jax.tree.map(np.testing.assert_array_equal, ahead, jax.jit(lambda key: run(key))(jax.random.key(3)))
  assert len(np.unique(ahead[0].instance)) > 1


def test_noise_and_its_key_draw_the_same_action():
  discrete, real = jnp.array([0.3, -0.2]), (jnp.ones(2), jnp.zeros(2))
  for world, distribution in ((walk.WALK, discrete), (walk.make_shapes("real"), real)):
    policy = policies.make_stream_policy(world)
    key = jax.random.key(3)
    jax.tree.map(np.testing.assert_array_equal, policy.sample(key, distribution),
                 policy.sample(policy.noise(key, 1)[0], distribution))


def test_a_pool_hands_out_its_instances_one_after_another():
  numbers = lambda key: jax.random.randint(key, (), 2, 2**30)  # neither kind: the walk never ends by itself
  world = walk.WALK._replace(step=lambda key, state, action, params: (
      *walk.WALK.step(key, state, action, params)[:3], state == 1, jnp.zeros((), bool), {"id": params}))
  policy = walk.tabular_policy()
  worlds = streams.start(world, policy, numbers, jax.random.key(0), 3)
  params = policy.init(None)
  _, stream, ends = _jit(functools.partial(streams.collect, world, policy, numbers, num_steps=6, pool=5))(
      params, worlds, jax.random.key(1))
  ids = np.asarray(stream.info["id"])
  starts = ids[::2]  # every episode has two steps
  np.testing.assert_array_equal(ids[1::2], starts)
  assert len(np.unique(starts)) == 8 and starts[2, 2] == starts[1, 0]  # 3 at first, 5 of the pool, then its first again


def test_both_kinds_of_key_start_the_same_run():
  old, new = streams.checked_key(jax.random.PRNGKey(3)), streams.checked_key(jax.random.key(3))
  np.testing.assert_array_equal(jax.random.key_data(old), jax.random.key_data(new))
