"""Household: a text world without the text, in which an action either works or "nothing happens".

Six facts can be set and three objects carried, under preconditions; a goal is a chain of four actions that have to work
in this order, whatever is done between them. Some actions cannot be undone, so a chain can become impossible
(arXiv:2505.20732; the world is ours).
"""

import functools
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rlcore.types import Array, World

NUM_FACTS = 6
NUM_ACTIONS = 12
CHAIN = 4
SUBGOALS = (1, 2, 4, 5, 6, 7, 8, 9, 10, 11)
PLACES = 4 * 2**NUM_FACTS  # a place is what is held (0 to 3) times 64, plus the facts as bits, fact 0 the lowest
FAR = 1000  # farther than any plan: the chain has become impossible


class Goal(NamedTuple):
  """One goal.

  Attributes:
    index: int32, which of the goals this is; all that the policy sees of it.
    chain: `[4]` int32, the actions that have to work, in this order.
  """

  index: Array
  chain: Array


class HouseState(NamedTuple):
  """Where a household stands.

  Attributes:
    place: int32, what is held and which facts are set.
    progress: int32, how many actions of the chain have worked.
    action: int32, the last action, -1 before the first.
    grounded: float32, 1 if the last action worked.
    time: int32, steps so far.
  """

  place: Array
  progress: Array
  action: Array
  grounded: Array
  time: Array


def _rule(action: int, held: int, facts: tuple[int, ...]) -> tuple[int, tuple[int, ...]] | None:
  """Says what is held and which facts are set after an action, None where it does not work."""
  def with_fact(place, value):
    return held, (*facts[:place], value, *facts[place + 1:])

  if action < 3:  # take an object
    return (action + 1, facts) if held == 0 and (action == 0 or facts[action - 1]) else None
  if action == 3:  # drop it
    return (0, facts) if held else None
  if action < 10:  # set a fact
    fact = action - 4
    tool = (0, 0, 1, 2, 3, 0)[fact]
    return with_fact(fact, 1) if held == tool and not facts[fact] and (fact != 5 or facts[2]) else None
  fact = action - 10  # clear a fact
  return with_fact(fact, 0) if held == 0 and facts[fact] else None


@functools.cache
def transitions() -> tuple[np.ndarray, np.ndarray]:
  """Tabulates the rules.

  Returns:
    `(successor [12, 256] int32, works [12, 256] bool)` by action and place; a place without effect leads to itself.
  """
  successor = np.tile(np.arange(PLACES, dtype=np.int32), (NUM_ACTIONS, 1))
  works = np.zeros(successor.shape, bool)
  for action, place in itertools.product(range(NUM_ACTIONS), range(PLACES)):
    facts = tuple(place >> i & 1 for i in range(NUM_FACTS))
    after = _rule(action, place >> NUM_FACTS, facts)
    if after is not None:
      successor[action, place] = (after[0] << NUM_FACTS) + sum(bit << i for i, bit in enumerate(after[1]))
      works[action, place] = True
  return successor, works


@functools.cache
def walks() -> np.ndarray:
  """Counts the fewest actions from place to place by breadth-first search: `[256, 256]` int32, from row to column."""
  successor, _ = transitions()
  steps = np.full((PLACES, PLACES), FAR, np.int32)
  np.fill_diagonal(steps, 0)
  reached = np.eye(PLACES, dtype=bool)
  for count in itertools.count(1):
    new = np.zeros_like(reached)
    for after in successor:
      rows, columns = np.nonzero(reached)
      new[rows, after[columns]] = True
    reached = new & (steps == FAR)
    if not reached.any():
      return steps
    steps[reached] = count


@functools.cache
def admissible_chains(shortest: int = 5, longest: int = 9) -> np.ndarray:
  """Lists all chains of distinct sub-goals whose shortest plan from the start has a length in a range.

  Args:
    shortest: least length.
    longest: greatest length.

  Returns:
    `[N, 4]` int32, in lexicographic order.
  """
  successor, works = transitions()
  cost = walks()
  distances = {(): np.zeros(PLACES, np.int64)}  # by what is left of the chain, from every place
  for length in range(1, CHAIN):
    for rest in itertools.permutations(SUBGOALS, length):
      distances[rest] = _before(cost, works[rest[0]], distances[rest[1:]][successor[rest[0]]], np)
  kept = []
  for chain in itertools.permutations(SUBGOALS, CHAIN):
    later = distances[chain[1:]][successor[chain[0]]]
    if shortest <= _before(cost[:1], works[chain[0]], later, np)[0] <= longest:
      kept.append(chain)
  return np.array(kept, np.int32)


def _before(cost, works, later, xp):
  """Distances `[N]` from the rows of `cost` through a place where the due action works, `later` being what is left."""
  return xp.minimum(xp.min(cost + xp.where(works, 1 + later, FAR), 1), FAR)


def plan_lengths(chain: Array) -> Array:
  """Counts the fewest actions to the end of a chain from every state; jittable.

  Args:
    chain: `[4]` int32.

  Returns:
    `[5, 256]` int32 by progress and place, `FAR` where the chain has become impossible.
  """
  successor, works = (jnp.asarray(x) for x in transitions())
  cost = jnp.asarray(walks())
  lengths = [jnp.zeros(PLACES, jnp.int32)]
  for place in reversed(range(CHAIN)):
    action = chain[place]
    lengths.insert(0, _before(cost, works[action], lengths[0][successor[action]], jnp))
  return jnp.stack(lengths)


def draw_goals(key: Array, *, num_goals: int = 24, shortest: int = 5, longest: int = 9) -> Goal:
  """Draws distinct goals among the admissible chains; the key may be traced.

  Args:
    key: PRNG key.
    num_goals: how many.
    shortest: least length of the shortest plan.
    longest: greatest length of the shortest plan.

  Returns:
    A `Goal` of `[num_goals]` and `[num_goals, 4]`.

  Raises:
    ValueError: if there are not so many chains.
  """
  chains = admissible_chains(shortest, longest)
  if len(chains) < num_goals:
    raise ValueError(f"only {len(chains)} chains have a shortest plan of {shortest} to {longest} actions")
  picked = jax.random.permutation(key, len(chains))[:num_goals]
  return Goal(jnp.arange(num_goals, dtype=jnp.int32), jnp.asarray(chains)[picked])


def make_household(*, num_goals: int = 24, horizon: int = 16) -> World:
  """Makes the household.

  Actions: 0 to 2 take object 1, 2, 3 (nothing held; object 2 needs fact 0, object 3 fact 1); 3 drops what is held; 4 to
  9 set fact 0 to 5 (facts 0, 1 and 5 with nothing held, fact 2, 3, 4 with object 1, 2, 3; fact 5 needs fact 2); 10 and
  11 clear fact 0 and 1 (nothing held). The episode ends with reward 1 when the last action of the chain has worked, and
  at the horizon with 0.

  The observation `[29 + num_goals]` float32 is the facts, what is held, the progress, the goal and the last action (all
  zero before the first) one-hot, whether that worked, and the share of the horizon that is over. `info` has `grounded`,
  1 where the action worked, and `observation`, what is seen after the step (where an episode ends, too).

  Args:
    num_goals: how many goals there are.
    horizon: most steps.

  Returns:
    A `World`; its `params` is a `Goal`.

  Reference: SPA-RL, arXiv:2505.20732 (the world is ours).
  """
  successor, works = transitions()

  def observe(state, goal):
    facts = state.place >> jnp.arange(NUM_FACTS) & 1
    parts = ((state.place >> NUM_FACTS, 4), (state.progress, CHAIN + 1), (goal.index, num_goals),
             (state.action, NUM_ACTIONS))
    one_hots = [jax.nn.one_hot(index, size) for index, size in parts]
    rest = jnp.stack([state.grounded, state.time / horizon])
    return jnp.concatenate([facts.astype(jnp.float32), *one_hots, rest])

  def reset(key, goal):
    del key
    zero = jnp.int32(0)
    state = HouseState(zero, zero, jnp.int32(-1), jnp.float32(0), zero)
    return observe(state, goal), state

  def step(key, state, action, goal):
    del key
    worked = jnp.asarray(works)[action, state.place]
    due = goal.chain[jnp.minimum(state.progress, CHAIN - 1)]
    progress = state.progress + (worked & (action == due) & (state.progress < CHAIN))
    grounded = worked.astype(jnp.float32)
    state = HouseState(
        jnp.asarray(successor)[action, state.place], progress, action.astype(jnp.int32), grounded, state.time + 1)
    achieved = progress == CHAIN
    observation = observe(state, goal)
    info = {"grounded": grounded, "observation": observation}
    ended = achieved | (state.time >= horizon)
    return observation, state, achieved.astype(jnp.float32), ended, jnp.zeros((), bool), info

  size = NUM_FACTS + 4 + CHAIN + 1 + num_goals + NUM_ACTIONS + 2
  return World(reset, step, NUM_ACTIONS, size, horizon)


def demonstrator(key: Array, state: HouseState, goal: Goal, lengths: Array, *, error: float = 0.5) -> Array:
  """Draws an action of the scripted agent: a uniform one of those that begin a shortest plan, or just any.

  Args:
    key: PRNG key.
    state: where the household stands.
    goal: the goal.
    lengths: `[5, 256]` int32, `plan_lengths` of the goal's chain.
    error: probability of a uniform action; that is also drawn where the chain has become impossible.

  Returns:
    int32[], the action.
  """
  successor, works = (jnp.asarray(x)[:, state.place] for x in transitions())
  actions = jnp.arange(NUM_ACTIONS)
  advanced = works & (actions == goal.chain[jnp.minimum(state.progress, CHAIN - 1)])
  now, after = lengths[state.progress, state.place], lengths[state.progress + advanced, successor]
  begins = works & (after == now - 1)
  err_key, action_key = jax.random.split(key)
  any_action = jax.random.bernoulli(err_key, error) | ~jnp.any(begins)
  return jax.random.categorical(action_key, jnp.where(any_action | begins, 0.0, -jnp.inf)).astype(jnp.int32)
