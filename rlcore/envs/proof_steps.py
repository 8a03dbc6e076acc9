"""Proof steps: a chain of secret right moves, in which repeating a known fact is always harmless.

Scores of prefix correctness, as a process reward model would give them, come with every step. Restating keeps a correct
prefix correct, so whoever is paid the scores themselves can collect them by restating (arXiv:2410.15115).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from rlcore.types import Array, World

SCORES = (0.8, 0.85, 0.9, 0.95, 0.1)
HISTORY = 3


class ProofProblem(NamedTuple):
  """One problem.

  Attributes:
    index: int32, which of the P problems this is; all that the policy sees of it.
    moves: `[K]` int32, the right move of every stage.
  """

  index: Array
  moves: Array


class ProofState(NamedTuple):
  """Where a proof stands.

  Attributes:
    stage: int32, right moves so far, or K + 1 once a move was wrong.
    history: `[3]` int32, the last moves, newest first; M where there is none. Restating is not in it.
    time: int32, steps so far.
  """

  stage: Array
  history: Array
  time: Array


def make_proof_steps(
    *, num_problems: int = 16, num_stages: int = 3, num_moves: int = 6, horizon: int = 20,
    scores: tuple[float, ...] = SCORES, noise: float = 0.05) -> World:
  """Makes the world of proofs.

  Actions: 0 to M - 1 are moves, M restates (nothing changes), M + 1 finishes. Only the right move of the stage keeps
  the proof right; any other move, one beyond the last stage included, spoils it for good. Finishing ends the episode,
  with reward 1 if all K moves are made and right, else 0; so does the horizon, with 0 (a failure that is foreseen).

  The observation `[P + 3 (M + 1) + 1]` float32 is the problem and the last three moves (or none), one-hot, and the
  share of the horizon that is over. `info` has `score` (of the state after the step, with noise, within [0, 1]) and
  `stage`.

  Args:
    num_problems: P.
    num_stages: K.
    num_moves: M.
    horizon: most steps.
    scores: K + 2 numbers, the score after 0 to K right moves and, last, once a move was wrong.
    noise: standard deviation of the scores.

  Returns:
    A `World`; its `params` is a `ProofProblem`.

  Raises:
    ValueError: for another number of scores than K + 2.

  Reference: Clip-Delta, arXiv:2410.15115 (the world is ours).
  """
  if len(scores) != num_stages + 2:
    raise ValueError(f"{len(scores)} scores, but {num_stages} stages have {num_stages + 2} states")
  restate, finish, wrong = num_moves, num_moves + 1, num_stages + 1

  def observe(state, problem):
    history = jax.nn.one_hot(state.history, num_moves + 1)
    share = state.time / horizon
    return jnp.concatenate([jax.nn.one_hot(problem.index, num_problems), history.reshape(-1), share[None]])

  def reset(key, problem):
    del key
    state = ProofState(jnp.int32(0), jnp.full(HISTORY, num_moves, jnp.int32), jnp.int32(0))
    return observe(state, problem), state

  def step(key, state, action, problem):
    moved, finished = action < restate, action == finish
    due = problem.moves[jnp.minimum(state.stage, num_stages - 1)]
    right = (state.stage < num_stages) & (action == due)
    stage = jnp.where(moved, jnp.where(right, state.stage + 1, wrong), state.stage)
    history = jnp.where(moved, jnp.append(action, state.history[:-1]), state.history).astype(jnp.int32)
    state = ProofState(stage, history, state.time + 1)
    reward = (finished & (stage == num_stages)).astype(jnp.float32)
    score = jnp.clip(jnp.array(scores, jnp.float32)[stage] + noise * jax.random.normal(key), 0, 1)
    info = {"score": score, "stage": stage}
    ended = finished | (state.time >= horizon)
    return observe(state, problem), state, reward, ended, jnp.zeros((), bool), info

  size = num_problems + HISTORY * (num_moves + 1) + 1
  return World(reset, step, num_moves + 2, size, horizon)


def draw_problems(key: Array, *, num_problems: int = 16, num_stages: int = 3, num_moves: int = 6) -> ProofProblem:
  """Draws P problems with uniform right moves; the key may be traced.

  Args:
    key: PRNG key.
    num_problems: P.
    num_stages: K.
    num_moves: M.

  Returns:
    A `ProofProblem` of `[P]` and `[P, K]`.
  """
  moves = jax.random.randint(key, (num_problems, num_stages), 0, num_moves)
  return ProofProblem(jnp.arange(num_problems, dtype=jnp.int32), moves)


def completer(
    key: Array, state: ProofState, problem: ProofProblem, *, num_moves: int = 6, right: float = 0.6,
    restate: float = 0.1) -> Array:
  """Draws an action of the scripted prover, which errs often but knows when it is done.

  While the proof is right: the right move, restating, else a uniform wrong move. When it is done: finish. In a spoilt
  proof: finish (one half), restate, else a uniform move.

  Args:
    key: PRNG key.
    state: where the proof stands.
    problem: the problem.
    num_moves: M.
    right: probability of the right move.
    restate: probability of restating.

  Returns:
    int32[], the action.
  """
  moves, num_stages = jnp.arange(num_moves), problem.moves.shape[0]
  due = problem.moves[jnp.minimum(state.stage, num_stages - 1)]
  on_track = jnp.where(moves == due, right, (1 - right - restate) / (num_moves - 1))
  lost = jnp.full(num_moves, (0.5 - restate) / num_moves)
  others = jnp.array([restate, 0.0]), jnp.array([restate, 0.5])
  probs = jnp.where(
      state.stage < num_stages, jnp.append(on_track, others[0]),
      jnp.where(state.stage == num_stages, jax.nn.one_hot(num_moves + 1, num_moves + 2), jnp.append(lost, others[1])))
  return jax.random.categorical(key, jnp.log(probs)).astype(jnp.int32)
