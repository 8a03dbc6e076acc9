"""Quests: their plans win, their sets are apart, and policy and world take turns in one sequence of tokens."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore.envs import draw_quests
from rlcore.policies import multi_turn
from rlcore.tasks import quests as quests_lib

SIZES = {"household": dict(num_turns=7), "key_corridor": dict(num_turns=5, tasks=3), "mini_quest": dict(num_turns=6),
         "relation_hops": dict(num_turns=5, entities=8, relations=4, chain=2)}
make = lambda name, **more: quests_lib.make_quests(name, **dict(dict(train=8, test=5, seed=3) | SIZES[name] | more))


def _rows(instances):
  """Writes each instance of the first set as one tuple."""
  leaves = [np.asarray(x)[0] for x in jax.tree.leaves(instances)]
  return [tuple(np.concatenate([np.ravel(x[i]) for x in leaves]).tolist()) for i in range(len(leaves[0]))]


@pytest.mark.parametrize("name", quests_lib.WORLDS)
def test_the_mask_has_holes_where_the_world_speaks(name):
  """Plays the plans, where there is no script words at random, and reads what stands where."""
  world, train, _, plans = make(name)
  instances = jax.tree.map(lambda x: jnp.asarray(x)[0], train)
  if plans is None:
    rng, shape = np.random.default_rng(0), (8, world.num_turns)
    plans = np.stack([rng.choice(np.flatnonzero(row), shape) for row in world.allowed], -1)[None]
  play = lambda instance, plan: multi_turn.as_trajectory(multi_turn.replay(
      world, jax.random.key(0), instance, plan, jnp.sum(plan[:, 0] >= 0)))
  shown = jax.tree.map(lambda x: np.asarray(x)[:, 0], jax.jit(jax.vmap(play))(instances, plans[0]))
  turns, turn = plans.shape[2], world.observation_length + world.action_length
  split = lambda x: x.reshape(8, turns, turn)
  told, heard = split(shown.mask)[..., world.observation_length:], split(shown.mask)[..., :world.observation_length]
  played = shown.info["turn_mask"]
  assert not np.any(heard) and np.all(told == played[..., None])
  np.testing.assert_array_equal(split(shown.observation["valid"]), np.broadcast_to(played[..., None], (8, turns, turn)))
  words = split(shown.action)[..., world.observation_length:]
  np.testing.assert_array_equal(words[played > 0], plans[0][played > 0])
  assert np.all(split(shown.action)[played == 0] == world.pad_id)
  assert not np.any(split(shown.reward_t)[..., :-1])
  np.testing.assert_array_equal(split(shown.reward_t)[..., -1], shown.info["turn_rewards"])
  if name != "key_corridor":
    assert np.all(shown.info["won"]) and np.all(shown.info["turn_rewards"].sum(1) == shown.info["num_goals"])
    np.testing.assert_array_equal(played, plans[0, :, :, 0] >= 0)


@pytest.mark.parametrize("name", quests_lib.WORLDS)
def test_the_sets_are_apart(name):
  world, train, test, plans = make(name)
  train, test = _rows(train), _rows(test)
  assert (len(train), len(test)) == (8, 5)
  if name == "key_corridor":  # three tasks, again and again
    assert plans is None and len(set(train)) == 3 and set(test) == set(train)
  else:
    assert len({*train, *test} if name != "household" else {row[1:] for row in train + test}) == 13
    assert plans.shape[:2] == (1, 8) and plans.shape[3] == world.action_length
  assert isinstance(jax.tree.leaves(make(name).train)[0], np.ndarray)


def test_mini_quest_draws_what_it_drew():
  _, train, test, plans = make("mini_quest", sizes=((2, 3, 2), (3, 4, 2)))
  for i, size in enumerate(((2, 3, 2), (3, 4, 2))):
    want, solutions = draw_quests(3, 13, rooms=size[0], objects=size[1], goals=size[2], longest=3)
    for whole, early, late in zip(want, train, test):
      np.testing.assert_array_equal(whole, np.concatenate([early[i], late[i]]))
    np.testing.assert_array_equal(plans[i], solutions[:8])


def test_quests_are_drawn_also_inside_a_program():
  seen = []
  jax.jit(lambda x: seen.append(make("relation_hops", seed=11)) or x)(1.0)
  assert isinstance(seen[0].plans, np.ndarray) and all(isinstance(x, np.ndarray) for x in seen[0].train)


def test_bad_input_is_refused():
  with pytest.raises(ValueError, match="no text world 'castle'; there are: household, key_corridor, mini_quest, relat"):
    quests_lib.make_quests("castle", train=1, test=1, num_turns=8)
  with pytest.raises(ValueError, match="relation_hops has 96 different questions of this size; train=95 and test=5"):
    make("relation_hops", train=95)
  with pytest.raises(ValueError, match="a chain of 2 and its answer need more than num_turns=2"):
    make("relation_hops", num_turns=2)
  with pytest.raises(ValueError, match="only 76 chains have a shortest plan of 5 to 5"):
    make("household", num_turns=6, train=100)
