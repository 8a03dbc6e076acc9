"""The world of proofs against a simulation in plain Python."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore.envs import proof_steps

P, K, M = 5, 3, 6
SCORES = (0.8, 0.85, 0.9, 0.95, 0.1)


@pytest.fixture(scope="module", name="world")
def _world():
  world = proof_steps.make_proof_steps(num_problems=P, horizon=6, noise=0.0)
  return world._replace(reset=jax.jit(world.reset), step=jax.jit(world.step))


def simulate(moves, actions, horizon):
  """Yields (stage or "wrong", last moves, reward, ended) after every action of one episode."""
  right, history = 0, []
  for t, action in enumerate(actions):
    reward = 0
    if action < M:
      history = [action] + history
      right = right + 1 if right != "wrong" and right < K and moves[right] == action else "wrong"
    elif action == M + 1:
      reward = int(right == K)
    ended = action == M + 1 or t + 1 == horizon
    yield right, history[:3], reward, ended
    if ended:
      return


def _play(world, problem, actions):
  observation, state = world.reset(jax.random.key(0), problem)
  for t, action in enumerate(actions):
    observation, state, *rest = world.step(jax.random.key(t), state, jnp.int32(action), problem)
    yield observation, state, *rest


def test_dynamics_follow_the_rules(world):
  problems = proof_steps.draw_problems(jax.random.key(3), num_problems=P)
  assert problems.moves.shape == (P, K) and 0 <= problems.moves.min() and problems.moves.max() < M
  rng, successes = np.random.default_rng(0), 0
  for episode in range(60):
    problem = jax.tree.map(lambda x, i=episode % P: x[i], problems)
    moves = problem.moves.tolist()
    actions = rng.integers(0, M + 2, 6).tolist()
    if episode % 3 == 0:  # otherwise success is rare
      actions = [*moves[:2], M, moves[2], M + 1][rng.integers(2):]
    wanted = list(simulate(moves, actions, 6))
    for t, (want, got) in enumerate(zip(wanted, _play(world, problem, actions), strict=False)):
      stage, history, reward, ended = want
      observation, state, got_reward, terminated, truncated, info = got
      assert int(state.stage) == (K + 1 if stage == "wrong" else stage) == int(info["stage"])
      assert (float(got_reward), bool(terminated), bool(truncated)) == (reward, ended, False)
      np.testing.assert_allclose(info["score"], SCORES[-1 if stage == "wrong" else stage])
      seen = np.zeros(P + 3 * (M + 1) + 1)
      seen[int(problem.index)] = 1
      for place in range(3):
        seen[P + place * (M + 1) + (history[place] if place < len(history) else M)] = 1
      seen[-1] = (t + 1) / 6
      np.testing.assert_allclose(observation, seen, atol=1e-6)
      successes += reward
  assert successes > 5


def test_the_first_observation_shows_the_problem_and_no_move(world):
  observation, _ = world.reset(jax.random.key(0), proof_steps.ProofProblem(jnp.int32(2), jnp.zeros(K, jnp.int32)))
  seen = np.zeros(P + 3 * (M + 1) + 1)
  seen[[2, P + M, P + 2 * M + 1, P + 3 * M + 2]] = 1
  np.testing.assert_array_equal(observation, seen)


def test_scores_are_noisy_within_their_range():
  world = proof_steps.make_proof_steps(noise=0.2)
  problem = jax.tree.map(lambda x: x[0], proof_steps.draw_problems(jax.random.key(0)))
  _, state = world.reset(jax.random.key(0), problem)
  keys = jax.random.split(jax.random.key(1), 2000)
  score = jax.jit(jax.vmap(lambda k: world.step(k, state, jnp.int32(M), problem)[5]["score"]))(keys)
  assert score.min() >= 0 and score.max() == 1
  assert abs(float(jnp.mean(score)) - 0.8 + 0.2 * 0.0833) < 0.02  # the mean of a normal that is clipped at one sigma
  with pytest.raises(ValueError, match="5 scores, but 2 stages have 4 states"):
    proof_steps.make_proof_steps(num_stages=2)


def test_the_completer_acts_as_described_and_succeeds_in_its_share():
  world = proof_steps.make_proof_steps()
  problem = proof_steps.ProofProblem(jnp.int32(0), jnp.array([1, 4, 1]))

  def frequencies(stage):
    state = proof_steps.ProofState(jnp.int32(stage), jnp.full(3, M), jnp.int32(0))
    draw = lambda key: proof_steps.completer(key, state, problem)
    return np.bincount(jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(stage), 4000)), minlength=M + 2) / 4000

  np.testing.assert_allclose(frequencies(1), [0.06] * 4 + [0.6, 0.06, 0.1, 0], atol=0.03)
  np.testing.assert_allclose(frequencies(K), np.eye(M + 2)[M + 1])
  np.testing.assert_allclose(frequencies(K + 1), [0.4 / M] * M + [0.1, 0.5], atol=0.03)

  def episode(key):
    def advance(carry, key):
      state, alive, total = carry
      act_key, step_key = jax.random.split(key)
      action = proof_steps.completer(act_key, state, problem)
      _, state, reward, ended, _, _ = world.step(step_key, state, action, problem)
      return (state, alive & ~ended, total + jnp.where(alive, reward, 0)), None

    state = world.reset(key, problem)[1]
    return jax.lax.scan(advance, (state, True, 0.0), jax.random.split(key, 20))[0][2]

  success = jnp.mean(jax.jit(jax.vmap(episode))(jax.random.split(jax.random.key(0), 4000)))
  assert abs(float(success) - (0.6 / 0.9) ** 3) < 0.03
