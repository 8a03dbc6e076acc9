"""Relation hops against a simulation in plain Python: sets, lists and the rules as they are told."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore.envs import relation_hops as hops
from rlcore import rewards

_SMALL = hops.Sizes(entities=5, relations=4, hops=2, budget=4)
_PLANNED, _WALKED = hops.make_planned_hops(_SMALL, flip=0.0), hops.make_walked_hops(_SMALL)


def _hot(index, size):
  return [1.0 if i == index else 0.0 for i in range(size)]


class _Simulation:
  """One episode; `act` returns what the world should return."""

  def __init__(self, graph, start, chain, sizes):
    self.graph, self.chain, self.sizes, self.known, self.start = graph, list(chain), sizes, start, start
    self.done, self.steps, self.queries, self.plan = 0, 0, [], None
    self.gold = start
    for relation in self.chain:
      self.gold = graph[self.gold][relation]

  def common(self):
    e, r, _, _ = self.sizes
    return _hot(self.start, e) + sum([_hot(c, r) for c in self.chain], []) + _hot(self.known, e)


class _Planned(_Simulation):

  def observation(self):
    h = self.sizes.hops
    plan = [0.0] * (h + 1) if self.plan is None else _hot(self.plan, h + 1)
    return self.common() + _hot(self.done, h + 1) + plan + [float(self.steps == self.sizes.budget - 1)]

  def legal(self):
    e, r, h, _ = self.sizes
    if self.plan is None:
      return list(range(h + 1))
    queries = [] if self.steps == self.sizes.budget - 1 else list(range(h + 1, h + 1 + r))
    return queries + list(range(h + 1 + r, h + 1 + r + e))

  def act(self, token):
    _, r, h, _ = self.sizes
    if self.plan is None:
      self.plan = token
      left = list(range(self.done, h)) or [h]
      return 1 if token == left[0] else 0 if token in left else -1, 0.0, False
    self.plan, token = None, token - (h + 1)
    self.steps += 1
    if token >= r:
      answer = token - r
      return 1 if answer == self.gold else 0 if answer == self.known else -1, float(answer == self.gold), True
    asked = [relation for _, relation in self.queries]
    needed = self.chain[self.done] if self.done < h else None
    score = -1 if token in asked or token not in self.chain else 1 if token == needed else 0
    self.queries.append((self.known, token))
    if token == needed:
      self.known, self.done = self.graph[self.known][token], self.done + 1
    return score, 0.0, False


class _Walked(_Simulation):

  def observation(self):
    return self.common() + _hot(self.steps, self.sizes.budget)

  def legal(self):
    return list(range(self.sizes.relations + self.sizes.entities))

  def act(self, action):
    self.steps += 1
    over = self.steps == self.sizes.budget
    if action >= self.sizes.relations:
      return None, float(action - self.sizes.relations == self.gold), True
    grades = [1, 0 if (self.known, action) in self.queries else 2, 2 if action in self.chain else 0, 1]
    self.queries.append((self.known, action))
    self.known = self.graph[self.known][action]
    return grades, 0.0, over


@functools.cache
def _compiled(world):
  return jax.jit(world.reset), jax.jit(world.step)


@functools.partial(jax.jit, static_argnames=("sizes", "distinct"))
def _draw_question(seed, sizes, distinct):
  keys = jax.random.split(jax.random.key(seed), 2)
  graph = hops.make_graph(keys[0], sizes)
  if not distinct:
    return hops.sample_question(keys[1], graph, sizes)
  return hops.distinct_question(
      jax.random.randint(keys[1], (), 0, hops.num_distinct_questions(sizes)), graph, sizes)


@pytest.mark.parametrize("simulation, world, says", [(_Planned, _PLANNED, "score"), (_Walked, _WALKED, "principles")])
def test_episodes_are_those_of_the_rules(simulation, world, says):
  rng = np.random.default_rng(0)
  reset, step = _compiled(world)
  legal_tokens = jax.jit(functools.partial(hops.legal_tokens, sizes=_SMALL))
  solved = 0
  for seed in range(60):
    question = jax.device_get(_draw_question(seed, _SMALL, distinct=simulation is _Planned))
    here = simulation(question.graph.tolist(), int(question.start), question.chain.tolist(), _SMALL)
    observation, state = reset(jax.random.key(0), question)
    for length in range(1, world.horizon + 1):
      assert observation.shape == (world.observation_size,)
      np.testing.assert_array_equal(observation, here.observation())
      if simulation is _Planned:
        np.testing.assert_array_equal(np.flatnonzero(legal_tokens(observation)), here.legal())
      # answers would end most episodes at once
      legal = here.legal()
      action = int(rng.choice(legal[:8] if rng.random() < 0.8 else legal))
      want, want_reward, over = here.act(action)
      observation, state, reward, terminated, truncated, info = step(jax.random.key(0), state, action, question)
      assert (float(reward), bool(terminated), bool(truncated)) == (want_reward, over, False)
      if want is not None:
        np.testing.assert_array_equal(info[says], want)
      assert int(state.gold) == here.gold
      if over:
        solved += want_reward > 0
        break
    assert over, f"an episode of {length} steps did not end"
  assert solved > 3


def _step(world, question, *actions):
  """Takes actions and returns the last reward and info."""
  reset, step = _compiled(world)
  _, state = reset(jax.random.key(0), question)
  for action in actions:
    _, state, reward, terminated, _, info = step(jax.random.key(1), state, action, question)
  return float(reward), bool(terminated), jax.device_get(info), jax.device_get(state)


def _ring():
  """Relation r leads r + 1 entities on; the chain is 0, 1, so that from entity 0 gold is 3."""
  graph = (jnp.arange(5)[:, None] + 1 + jnp.arange(4)) % 5
  return hops.Question(graph, jnp.int32(0), jnp.array([0, 1]))


def test_a_wrong_query_is_a_lost_step_in_one_flavour_and_moves_in_the_other():
  assert int(_step(_PLANNED, _ring(), 0, 3 + 1)[3].known) == 0
  assert int(_step(_WALKED, _ring(), 1)[3].known) == 2
  reward, over, info, _ = _step(_PLANNED, _ring(), 0, 3 + 0, 1, 3 + 1, 2, 3 + 4 + 3)
  assert (reward, over, float(info["score"]), bool(info["is_answer"]), int(info["step"])) == (1, True, 1, True, 2)


def test_a_repeated_query_is_bad_even_where_it_is_needed():
  scores = [float(_step(_PLANNED, _ring(), *moves)[2]["score"]) for moves in (
      (0, 4), (0, 4, 0, 3), (0, 4, 0, 3, 1, 4), (0, 3, 1, 3))]
  assert scores == [0, 1, -1, -1]


def test_what_is_not_legal_cannot_win():
  lost = (0, 5) * 3
  assert _step(_PLANNED, _ring(), *lost, 0, 3)[:2] == (0, True)  # a query in the last step
  assert _step(_PLANNED, _ring(), 0, 1)[:2] == (0, True)  # a plan for an action
  assert _step(_PLANNED, _ring(), 3 + 4 + 3)[:2] == (0, False)  # an answer for a plan


@jax.jit
def _flipped(score, probability):
  return jax.vmap(lambda key: hops.flip_score(key, score, probability))(jax.random.split(jax.random.key(0), 20000))


def test_flipped_scores():
  scores = np.asarray(_flipped(1.0, 0.3))
  share = [(scores == value).mean() for value in (-1, 0, 1)]
  np.testing.assert_allclose(share, [0.1, 0.1, 0.8], atol=0.01)
  assert not np.any(_flipped(0.0, 0.0))


def test_the_questions_of_distinct_relations():
  graph = jax.jit(lambda seed: hops.make_graph(jax.random.key(seed)))(3)
  assert graph.shape == (24, 5) and 0 <= graph.min() and graph.max() < 24 and len(np.unique(graph)) > 20
  assert hops.num_distinct_questions() == 1440
  questions = jax.device_get(jax.jit(jax.vmap(lambda index: hops.distinct_question(index, graph)))(np.arange(1440)))
  rows = {(int(s), *map(int, c)) for s, c in zip(questions.start, questions.chain)}
  assert len(rows) == len(questions.start) == 1440
  assert all(len({*chain}) == 3 for _, *chain in rows)
  gold = jax.jit(jax.vmap(hops.gold_answer))(questions)
  for i in range(0, 1440, 97):
    entity = questions.start[i]
    for relation in questions.chain[i]:
      entity = graph[entity, relation]
    assert gold[i] == entity


def test_sampled_questions_are_uniform():
  graph = hops.make_graph(jax.random.key(0))
  questions = jax.jit(jax.vmap(lambda key: hops.sample_question(key, graph)))(jax.random.split(jax.random.key(1), 6000))
  np.testing.assert_allclose(np.bincount(questions.start, minlength=24) / 6000, 1 / 24, atol=0.015)
  for h in range(3):
    np.testing.assert_allclose(np.bincount(questions.chain[:, h], minlength=5) / 6000, 0.2, atol=0.025)


def test_the_script_solves_what_it_does_right():
  sizes = hops.Sizes(budget=8)
  reset, step = _compiled(hops.make_walked_hops(sizes))
  act = jax.jit(lambda state, question, skill: jax.vmap(
      lambda key: hops.follow_chain(key, state, question, skill=skill))(jax.random.split(jax.random.key(7), 4000)))
  question = _draw_question(5, sizes, distinct=False)
  _, state = reset(jax.random.key(0), question)
  for t in range(4):
    right = act(state, question, 1.0)
    assert np.all(right == right[0]) and (right[0] == question.chain[t] if t < 3 else right[0] - 5 == state.known)
    share = np.bincount(act(state, question, 0.6), minlength=29) / 4000
    np.testing.assert_allclose(share, 0.4 / 29 + 0.6 * (np.arange(29) == right[0]), atol=0.03)
    _, state, reward, terminated, _, info = step(jax.random.key(0), state, right[0], question)
    if t < 3:
      assert float(rewards.principle_score(info["principles"], jnp.asarray(hops.MAX_SCORES), jnp.ones(4))) == 1
  assert (float(reward), bool(terminated)) == (1, True)


def test_the_rubric_knows_what_was_asked_of_which_entity():
  state = hops.HopsState(*(jnp.int32(x) for x in (2, 0, 0, -1)), jnp.zeros((5, 4), bool).at[2, 1].set(True), jnp.int32(3))
  grade = lambda subject, relation: hops.query_rubric(subject, relation, state, jnp.array([1, 3])).tolist()
  assert grade(2, 1) == [1, 0, 2, 1]
  assert grade(2, 3) == [1, 2, 2, 1]
  assert grade(4, 0) == [1, 2, 0, 0]
  assert len(hops.PRINCIPLES) == len(hops.MAX_SCORES) == 4
