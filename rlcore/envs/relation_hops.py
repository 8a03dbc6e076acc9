"""Relation hops: a search agent walks a graph of entities along a chain of relations and answers where it ends.

A question is an entity to start from and a chain of H relations; gold is the entity that the chain leads to. The agent
knows one entity at a time, at first the start. A query asks for a relation of the known entity, an answer names an
entity and ends the episode with reward 1 if it is gold, else 0. There are two flavours of the world:

- `make_planned_hops` (SLATE): each step is a plan and then an action. A query of the relation that is needed next moves
  the known entity; any other one returns a distractor and nothing moves. The last step can only answer. A judge scores
  plan and action at once.
- `make_walked_hops` (PPR): each step is an action. Every query moves the known entity, a wrong one too, and cannot be
  undone. A rubric of four principles scores each query, right about the query and blind to the order of the chain.

Everything is jittable; the graph may be drawn from a traced key.
"""

import functools
import itertools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rlcore.envs import facts
from rlcore.types import Array, World

PRINCIPLES = ("well formed", "non-redundant", "relevant", "grounded")
MAX_SCORES = (1.0, 2.0, 2.0, 1.0)  # of each principle
UNJUDGED = 2.0  # a score that is none


class Sizes(NamedTuple):
  """How large a world is: numbers of entities (E), relations (R), hops of a chain (H), and steps of an episode."""

  entities: int = 24
  relations: int = 5
  hops: int = 3
  budget: int = 5


class Question(NamedTuple):
  """An instance.

  Attributes:
    graph: `[E, R]` int32, the entity that each relation of each entity leads to.
    start: int32.
    chain: `[H]` int32, relations.
  """

  graph: Array
  start: Array
  chain: Array


class HopsState(NamedTuple):
  """Where an episode is.

  Attributes:
    known: int32, the entity that is known now.
    hops: int32, queries that moved it.
    step: int32, steps done.
    plan: int32, the plan of this step, -1 before it (and where there are no plans).
    asked: `[E, R]` bool, queries made so far, by the entity that was known then.
    gold: int32, the right answer.
  """

  known: Array
  hops: Array
  step: Array
  plan: Array
  asked: Array
  gold: Array


def make_graph(key: Array, sizes: Sizes = Sizes()) -> Array:
  """Draws a graph `[E, R]`: each relation of each entity leads to a uniform entity."""
  return jax.random.randint(key, (sizes.entities, sizes.relations), 0, sizes.entities)


def sample_question(key: Array, graph: Array, sizes: Sizes = Sizes()) -> Question:
  """Draws a start and a chain uniformly; relations may recur in a chain."""
  start_key, chain_key = jax.random.split(key)
  start = jax.random.randint(start_key, (), 0, sizes.entities)
  return Question(graph, start, jax.random.randint(chain_key, (sizes.hops,), 0, sizes.relations))


def num_distinct_questions(sizes: Sizes = Sizes()) -> int:
  """Counts the questions whose relations differ, E R! / (R - H)!: 1440 by default."""
  return sizes.entities * math.perm(sizes.relations, sizes.hops)


def distinct_question(index: Array, graph: Array, sizes: Sizes = Sizes()) -> Question:
  """Looks up one of the questions whose relations differ, in the order of their starts and then of their chains."""
  chains = np.array(list(itertools.permutations(range(sizes.relations), sizes.hops)), np.int32)
  index = jnp.asarray(index, jnp.int32)
  return Question(graph, index // len(chains), jnp.asarray(chains)[index % len(chains)])


def gold_answer(question: Question) -> Array:
  """Follows the chain from the start: int32[]."""
  return functools.reduce(lambda entity, relation: question.graph[entity, relation], question.chain, question.start)


def judge_plan(plan: Array, hops: Array, num_hops: int) -> Array:
  """Scores a plan before anything is done about it.

  Args:
    plan: `[]` int32, the hop that the plan names, from 0; `num_hops` is the plan to make none.
    hops: `[]` int32, hops done.
    num_hops: H.

  Returns:
    float32[]: 1 for the hop that is next ("none" once all are done), 0 for a later hop, -1 else.
  """
  return jnp.where(plan == hops, 1.0, jnp.where((plan > hops) & (plan < num_hops), 0.0, -1.0))


def judge_query(relation: Array, state: HopsState, chain: Array) -> Array:
  """Scores a query before it is made, without knowing gold.

  Args:
    relation: `[]` int32.
    state: before the query.
    chain: `[H]` int32.

  Returns:
    float32[]: -1 for a relation that this episode has queried before, whatever it is needed for now; else 1 if the next
    hop needs it, 0 if it belongs to the chain, -1 if not.
  """
  repeated = jnp.any(state.asked[:, relation])
  score = jnp.where(_is_needed(relation, state.hops, chain), 1.0, jnp.where(jnp.any(chain == relation), 0.0, -1.0))
  return jnp.where(repeated, -1.0, score)


def judge_answer(entity: Array, state: HopsState) -> Array:
  """Scores an answer: 1 if it is gold, else 0 if it is the entity known now, else -1."""
  return jnp.where(entity == state.gold, 1.0, jnp.where(entity == state.known, 0.0, -1.0))


def flip_score(key: Array, score: Array, probability: float | Array) -> Array:
  """Replaces a score `[]`, with the given probability, by a uniform draw of -1, 0 and 1."""
  chance = jax.random.uniform(key)
  probability = jnp.asarray(probability, jnp.float32)
  # below the probability the same number, spread over [0, 3), is the draw
  drawn = jnp.minimum(jnp.floor(3 * chance / jnp.where(probability > 0, probability, 1)), 2) - 1
  return jnp.where(chance < probability, drawn, score)


def query_rubric(subject: Array, relation: Array, state: HopsState, chain: Array) -> Array:
  """Grades a query by each of `PRINCIPLES`.

  Args:
    subject: `[]` int32, the entity that is asked about.
    relation: `[]` int32.
    state: before the query.
    chain: `[H]` int32.

  Returns:
    `[4]` float32, up to `MAX_SCORES`: it names a relation that exists; it was not made before; its relation occurs in
    the chain, wherever; it asks about the known entity.
  """
  exists = (relation >= 0) & (relation < state.asked.shape[1])
  kept = jnp.stack([exists, ~state.asked[subject, relation], jnp.any(chain == relation), subject == state.known])
  return kept * jnp.asarray(MAX_SCORES, jnp.float32)


def make_planned_hops(sizes: Sizes = Sizes(), *, flip: float | Array = 0.1, judged: bool = True) -> World:
  """Makes the flavour of plans and actions, with its judge.

  Tokens: H plans (hop 0 to H - 1), the plan to make none, R queries, E answers. Plans and actions take turns, see
  `legal_tokens`; what a policy that does not keep to them gets is an answer that is wrong or an arbitrary plan.
  Observation: one-hots of start, chain, known entity, hops done and the plan of this step (all 0 before it), and 1 if
  this is the last step. The length of an episode is two tokens a step.

  Args:
    sizes: of the world.
    flip: probability that a score of the judge is replaced by a uniform draw of -1, 0 and 1.
    judged: False leaves the judging to somebody else; the score is then `UNJUDGED` wherever it is not replaced.

  Returns:
    The world; its instances are `Question`s. `info` has the judge's `score` of the token, whether it `is_answer`, and
    the index of its `step`.
  """
  plans = sizes.hops + 1

  def observe(state, question):
    hot = jax.nn.one_hot
    last = (state.step == sizes.budget - 1).astype(jnp.float32)[None]
    return jnp.concatenate([*_common(state, question, sizes), hot(state.hops, plans), hot(state.plan, plans), last])

  def reset(key, question):
    del key
    state = _start(question)
    return observe(state, question), state

  def step(key, state, action, question):
    planning, choice = state.plan < 0, action - plans
    query = (choice >= 0) & (choice < sizes.relations) & (state.step < sizes.budget - 1)
    relation, entity = jnp.clip(choice, 0, sizes.relations - 1), choice - sizes.relations
    acted = _ask(state, question, relation, query, query & _is_needed(relation, state.hops, question.chain))
    planned = state._replace(plan=jnp.clip(action, 0, sizes.hops))
    scores = judge_query(relation, state, question.chain), judge_answer(entity, state)
    score = jnp.where(planning, judge_plan(action, state.hops, sizes.hops), jnp.where(query, *scores))
    score = score if judged else jnp.full_like(score, UNJUDGED)
    ends = ~planning & ~query
    info = {"score": flip_score(key, score, flip), "is_answer": ends, "step": state.step}
    state = _select(planning, planned, acted)
    reward = (ends & (entity == state.gold)).astype(jnp.float32)
    return observe(state, question), state, reward, ends, jnp.zeros((), bool), info

  size = _common_size(sizes) + 2 * plans + 1
  return World(reset, step, plans + sizes.relations + sizes.entities, size, 2 * sizes.budget)


def legal_tokens(observation: Array, sizes: Sizes = Sizes()) -> Array:
  """Says which tokens of `make_planned_hops` can follow an observation: `[H + 1 + R + E]` bool.

  They are the plans where there is none yet, else the actions; in the last step the answers alone.
  """
  plans = sizes.hops + 1
  planned, last = jnp.any(observation[-plans - 1:-1] > 0), observation[-1] > 0
  kind = np.repeat([0, 1, 2], [plans, sizes.relations, sizes.entities])
  return jnp.where(planned, (kind == 2) | (kind == 1) & ~last, kind == 0)


def make_walked_hops(sizes: Sizes = Sizes(budget=8)) -> World:
  """Makes the flavour in which every query moves the known entity, with the rubric.

  Actions: R queries, E answers. Observation: one-hots of start, chain, known entity and number of queries so far. The
  last step ends the episode whether it answers or not.

  Args:
    sizes: of the world.

  Returns:
    The world; its instances are `Question`s. `info` has `principles` `[4]`, the rubric's grades of a query (those of an
    answer are meaningless), and whether the action `is_query`.
  """
  def observe(state, question):
    return jnp.concatenate([*_common(state, question, sizes), jax.nn.one_hot(state.step, sizes.budget)])

  def reset(key, question):
    del key
    state = _start(question)
    return observe(state, question), state

  def step(key, state, action, question):
    del key
    query, entity = action < sizes.relations, action - sizes.relations
    relation = jnp.clip(action, 0, sizes.relations - 1)
    info = {"principles": query_rubric(state.known, relation, state, question.chain), "is_query": query}
    state = _ask(state, question, relation, query, query)
    reward = (~query & (entity == state.gold)).astype(jnp.float32)
    return observe(state, question), state, reward, ~query | (state.step >= sizes.budget), jnp.zeros((), bool), info

  return World(reset, step, sizes.relations + sizes.entities, _common_size(sizes) + sizes.budget, sizes.budget)


def with_facts(world: World) -> World:
  """Lets either flavour tell a judge what has happened: see `facts.with_facts`.

  It is told of the question its `start`, `chain` and `gold`, and of each step the `action`, and the entity `known` and
  the number of `hops` before it.
  """
  return facts.with_facts(
      world,
      lambda question: {"start": question.start, "chain": question.chain, "gold": gold_answer(question)},
      lambda state, action, question: {"action": action, "known": state.known, "hops": state.hops})


def follow_chain(key: Array, state: HopsState, question: Question, *, skill: float | Array = 0.6) -> Array:
  """Acts in `make_walked_hops` by a script: queries the chain in order, then answers the known entity.

  Args:
    key: PRNG key.
    state: of the world.
    question: the instance.
    skill: probability of doing that; else the action is uniform over all.

  Returns:
    int32[], an action.
  """
  (entities, relations), hops = question.graph.shape, question.chain.shape[0]
  relation = question.chain[jnp.minimum(state.step, hops - 1)]
  right = jnp.where(state.step < hops, relation, relations + state.known)
  skill_key, act_key = jax.random.split(key)
  return jnp.where(jax.random.bernoulli(skill_key, skill), right,
                   jax.random.randint(act_key, (), 0, relations + entities))


def _common_size(sizes: Sizes) -> int:
  return 2 * sizes.entities + sizes.hops * sizes.relations


def _common(state: HopsState, question: Question, sizes: Sizes) -> tuple[Array, ...]:
  """The part of the observation that both flavours have."""
  entity = functools.partial(jax.nn.one_hot, num_classes=sizes.entities)
  return entity(question.start), jax.nn.one_hot(question.chain, sizes.relations).reshape(-1), entity(state.known)


def _start(question: Question) -> HopsState:
  zero = jnp.zeros((), jnp.int32)
  return HopsState(jnp.asarray(question.start, jnp.int32), zero, zero, zero - 1,
                   jnp.zeros(question.graph.shape, bool), gold_answer(question))


def _is_needed(relation: Array, hops: Array, chain: Array) -> Array:
  """Tells whether the next hop is one of this relation."""
  last = chain.shape[0] - 1
  return (hops <= last) & (relation == chain[jnp.minimum(hops, last)])


def _ask(state: HopsState, question: Question, relation: Array, query: Array, moves: Array) -> HopsState:
  """Does a step: notes the query, if it is one, and moves where it moves."""
  entities, relations = state.asked.shape
  place = (jnp.arange(entities) == state.known)[:, None] & (jnp.arange(relations) == relation)
  return state._replace(
      known=jnp.where(moves, question.graph[state.known, relation], state.known),
      hops=state.hops + moves, step=state.step + 1, plan=jnp.full_like(state.plan, -1),
      asked=state.asked | place & query)


def _select(condition: Array, yes: HopsState, no: HopsState) -> HopsState:
  return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)
