"""A world that remembers: the episode as it was, told at each of its steps."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from rlcore import policies
from rlcore.envs import relation_hops as hops

SIZES = hops.Sizes(entities=5, relations=4, hops=2, budget=4)


def test_the_history_is_the_episode_up_to_each_step():
  graph = hops.make_graph(jax.random.key(0), SIZES)
  plain, world = hops.make_walked_hops(SIZES), hops.with_facts(hops.make_walked_hops(SIZES))

  @jax.jit
  def play(key):
    question = hops.sample_question(key, graph, SIZES)
    script = functools.partial(hops.follow_chain, skill=0.7)
    told = policies.scripted_rollout(world, lambda k, state, q: script(k, state[0], q), key, question)
    return question, told, policies.scripted_rollout(plain, script, key, question)

  lengths = set()
  for seed in range(12):
    question, told, untold = jax.device_get(play(jax.random.key(seed)))
    facts = told.info.pop("facts")
    jax.tree.map(np.testing.assert_array_equal, told, untold)  # the world goes on as before
    known, hop, knows, gold = [], 0, question.start, question.start
    for relation in question.chain:
      gold = graph[gold, relation]
    length = int(told.mask.sum())
    lengths.add(length)
    for t in range(length):
      known.append((int(knows), hop))
      history = facts["history"]
      assert facts["time"][t] == t and facts["about"]["gold"][t] == gold
      assert facts["about"]["start"][t] == question.start
      np.testing.assert_array_equal(facts["about"]["chain"][t], question.chain)
      np.testing.assert_array_equal(history["action"][t], np.pad(told.action[:t + 1], (0, 3 - t)))
      np.testing.assert_array_equal(history["known"][t], [k for k, _ in known] + [0] * (3 - t))
      np.testing.assert_array_equal(history["hops"][t], [h for _, h in known] + [0] * (3 - t))
      if told.action[t] < SIZES.relations:
        knows, hop = graph[knows, told.action[t]], hop + 1
  assert len(lengths) > 1


def test_what_is_left_to_a_judge_is_open_unless_it_is_noise():
  world = hops.make_planned_hops(SIZES, flip=0.3, judged=False)
  judged = hops.make_planned_hops(SIZES, flip=0.3)
  question = hops.sample_question(jax.random.key(1), hops.make_graph(jax.random.key(0), SIZES), SIZES)

  @jax.jit
  @jax.vmap
  def both(key):
    _, state = world.reset(key, question)
    return [w.step(key, state, jnp.int32(0), question)[-1]["score"] for w in (world, judged)]

  mine, full = (np.asarray(x) for x in both(jax.random.split(jax.random.key(2), 2000)))
  is_open = mine == hops.UNJUDGED
  np.testing.assert_array_equal(mine[~is_open], full[~is_open])
  assert np.all(full[is_open] == 1) and abs(is_open.mean() - 0.7) < 0.05
