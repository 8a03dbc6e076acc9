"""Branching rollouts in a chain of rooms: who starts from where, what counts, and how the next prefix is chosen."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore import policies
from tests.training import chain
from tests.tolerance import close

K, TOKENS, STEPS = 4, 2, 4
WORLD = chain.make_chain()


ANYONE = np.zeros(K, np.float32)


def _only(j):
  return np.where(np.arange(K) == j, 0.0, -np.inf).astype(np.float32)


def _play(seed, prefer=ANYONE, ambition=0.0, branch=1.0, start=0):
  """Prefers some rows by themselves and, with ambition, those that go right."""
  return jax.device_get(_played(seed, prefer, ambition, branch, start))


@jax.jit
def _played(seed, prefer, ambition, branch, start):
  choose = lambda step: jax.nn.softmax(prefer + ambition * jnp.sum(step.action, 1))
  play = functools.partial(policies.branching_rollout, candidates=K, tokens=TOKENS, choose=choose, branch=branch)
  agent = policies.make_actor_critic(WORLD, hidden=(8,), zero_policy=True, play=play)
  return agent.rollout(agent.init(jax.random.key(0)), jax.random.key(seed), jnp.int32(start))


def _places(rows):
  """Room before each token, from the observation; `[K, STEPS * TOKENS]`."""
  return np.argmax(np.asarray(rows.observation)[..., :chain.LENGTH + 1], -1)


def _walk(place, actions):
  """Simulates tokens from a room: the rooms before each of them, who counts, the room after them, and if it goes on."""
  before, counted, over = [], [], False
  for action in actions:
    before.append(place)
    counted.append(not over)
    if not over:
      place = min(max(place + (1 if action else -1), 0), chain.LENGTH)
      over = place == chain.LENGTH
  return before, counted, place, over


def test_a_judge_says_what_the_choice_is_by():
  judge = lambda step: step.replace(info={"score": jnp.cumsum(step.action, 1)})
  play = functools.partial(
      policies.branching_rollout, candidates=K, tokens=TOKENS, judge=judge,
      choose=lambda step: jax.nn.softmax(2.0 * step.info["score"][:, -1]))
  agent = policies.make_actor_critic(WORLD, hidden=(8,), zero_policy=True, play=play)
  rows = jax.device_get(jax.jit(agent.rollout)(agent.init(jax.random.key(0)), jax.random.key(3), jnp.int32(0)))
  score, want = rows.info.pop("score"), _play(3, ambition=2.0)  # which chooses by the actions themselves
  close = functools.partial(np.testing.assert_allclose, rtol=1e-6)  # two programs: the last digit may differ
  jax.tree.map(close, rows.replace(info=None), want.replace(info=None))
  np.testing.assert_array_equal(score.reshape(K, STEPS, TOKENS), np.cumsum(rows.action.reshape(K, STEPS, TOKENS), -1))


@pytest.mark.parametrize("chosen", [0, 2])
@pytest.mark.parametrize("start", [0, 2])
def test_every_candidate_starts_where_the_chosen_one_ended(chosen, start):
  ended = 0
  for seed in range(6):
    rows = _play(seed, _only(chosen), start=start)
    places, actions = _places(rows), rows.action.reshape(K, STEPS, TOKENS)
    place, over = start, False
    for s in range(STEPS):
      tokens = slice(s * TOKENS, (s + 1) * TOKENS)
      after = []
      for j in range(K):
        before, counted, *then = _walk(place, actions[j, s])
        np.testing.assert_array_equal(rows.mask[j, tokens], np.array(counted) * (not over))
        if not over:
          np.testing.assert_array_equal(places[j, tokens], before)
        after.append(then)
      if not over:
        place, over = after[chosen]
    ended += over
  assert ended > 0 or start == 0


def test_without_branching_the_rows_are_episodes():
  for seed in range(4):
    rows = _play(seed, branch=0.0, start=1)
    for j in range(K):
      before, counted, *_ = _walk(1, rows.action[j])
      np.testing.assert_array_equal(rows.mask[j], counted)
      np.testing.assert_array_equal(_places(rows)[j][:sum(counted)], before[:sum(counted)])


def test_the_choice_follows_the_probabilities():
  second = np.array([_places(_play(seed, ambition=50.0))[0, TOKENS] for seed in range(40)])
  # four candidates of two fair moves from the wall: a room is lost only where all four turn round or stay
  assert (second >= 1).mean() > 0.8
  even = np.array([_places(_play(seed))[0, TOKENS] for seed in range(40)])
  assert even.mean() < second.mean()


def test_candidates_differ_and_their_log_probs_are_those_of_the_policy():
  rows = _play(3)
  assert len({tuple(row) for row in rows.action}) > 1
  close(rows.log_prob_old, np.log(0.5) * rows.mask, rtol=1e-6)


def test_a_horizon_that_does_not_fit_is_named():
  play = functools.partial(policies.branching_rollout, candidates=K, tokens=3, choose=lambda step: ANYONE)
  agent = policies.make_actor_critic(WORLD, play=play)
  with pytest.raises(ValueError, match="no multiple of the 3 tokens"):
    agent.rollout(agent.init(jax.random.key(0)), jax.random.key(0), jnp.int32(0))
