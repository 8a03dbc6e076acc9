"""The chain against its own tables, written out anew here, and against what its docstring says of ends."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore.envs import chain

_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # compiles faster
DRAWS = 4000
SHAPES = {"exit": dict(places=5, start=3, has_exit=True, distractor_at=2),
          "line": dict(places=4, start=0, has_exit=False, distractor_at=1)}


def _outcomes(state, action, places, has_exit, slip):
  """Distribution of the next state of one pair, as a dictionary."""
  found = {}
  for direction in (0, 1):
    chance = (1 - slip) * (direction == action) + slip / 2
    if state == places:
      after = places
    elif direction == 1:
      after = min(state + 1, places - 1)
    else:
      after = state - 1 if state else (places if has_exit else 0)
    found[after] = found.get(after, 0.0) + chance
  return found


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_steps_and_tables_are_the_chain(shape):
  params = chain.ChainParams(slip=0.3, goal=2.0, distractor=0.25)
  world, tables = chain.make_chain(**shape), chain.chain_tables(params, **shape)
  size, places = world.observation_size, shape["places"]
  assert size == places + shape["has_exit"] and np.flatnonzero(tables.initial).tolist() == [shape["start"]]
  assert np.flatnonzero(tables.terminal).tolist() == ([places] if shape["has_exit"] else [])

  @_jit
  def tries(state, action, key):
    begin = chain.ChainState(state, jnp.zeros((), jnp.int32))
    step = lambda key: world.step(key, begin, action, params)
    seen, after, reward, terminated, truncated, info = jax.vmap(step)(jax.random.split(key, DRAWS))
    return seen, chain.place(after), reward, terminated, truncated, info

  for s in range(size):
    for a in range(2):
      want = np.zeros(size)
      for after, chance in _outcomes(s, a, places, shape["has_exit"], 0.3).items():
        want[after] = chance
      np.testing.assert_allclose(tables.transition[s, a], want, atol=1e-12)
      paid = 2.0 * (s == places - 1 and a == 1) + 0.25 * (s == shape["distractor_at"] and a == 0)
      assert tables.rewards[s, a] == paid
      seen, after, reward, terminated, truncated, info = map(
          lambda x: x if isinstance(x, dict) else np.asarray(x), tries(s, a, jax.random.key(10 * s + a)))
      np.testing.assert_allclose(np.mean(seen, 0), want, atol=4 * np.sqrt(0.25 / DRAWS))
      np.testing.assert_array_equal(np.argmax(seen, 1), after)
      np.testing.assert_array_equal(info["next_state"], after)
      assert np.all(np.asarray(info["state"]) == s) and not truncated.any()
      np.testing.assert_allclose(reward, np.full(DRAWS, paid))
      np.testing.assert_array_equal(terminated, after == places)


def test_the_exit_ends_an_episode_and_time_only_cuts_it_off():
  world = chain.make_chain(places=5, start=1, distractor_at=2, horizon=2)
  step = _jit(world.step)
  sure, key = chain.ChainParams(slip=0.0), jax.random.key(0)
  for actions, want in (((0, 0), (True, False)), ((1, 1), (False, True)), ((0, 1), (False, True))):
    _, state = world.reset(key, sure)
    for action in actions:
      _, state, _, terminated, truncated, _ = step(key, state, action, sure)
    assert (bool(terminated), bool(truncated)) == want


@pytest.mark.parametrize("wrong", [dict(start=5), dict(start=-1), dict(distractor_at=9)])
def test_a_place_that_is_none_is_refused(wrong):
  shape = dict(places=5, start=1, distractor_at=2) | wrong
  for make in (chain.make_chain, lambda **shape: chain.chain_tables(chain.ChainParams(), **shape)):
    with pytest.raises(ValueError, match="is none of the 5 places"):
      make(**shape)
