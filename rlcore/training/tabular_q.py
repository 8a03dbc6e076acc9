"""Tabular Q-learning in any world whose states have numbers: pure functions of one episode.

Numbers may be tracers, so that seeds and hyper-parameters are one `vmap`. An episode that terminates has nothing after
its last step; one that is truncated would have gone on, and is bootstrapped from the state it was cut off in.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from rlcore import checks
from rlcore.policies import actor_critic, bandits
from rlcore.training import state as state_lib
from rlcore.types import Array, PyTree, Trajectory, World

Index = Callable[[PyTree], Array]
"""`(state of the world) -> int32[]`, its row in the tables."""
Pay = Callable[[Array, Array, Array, Array], Array]
"""`(reward, state, action, next state) -> float32[]`, what the learner gets for a step; states by their numbers."""


def greedy_probs(q: Array, epsilon: Array | float = 0.0) -> Array:
  """Writes the epsilon-greedy policy out; the best actions of a state share what is left by chance.

  Args:
    q: `[S, A]`.
    epsilon: probability of a uniform action, which may be the best one too.

  Returns:
    `[S, A]` float32, each row a distribution. Ties are exact.
  """
  q = jnp.asarray(q).astype(jnp.float32)
  checks.rank(2, q=q)
  best = (q >= jnp.max(q, 1, keepdims=True)).astype(jnp.float32)
  return (1 - epsilon) * best / jnp.sum(best, 1, keepdims=True) + epsilon / q.shape[1]


def q_learning_episode(
    world: World, index: Index, q: Array, key: Array, instance: PyTree, *, learning_rate: Array | float = 0.5,
    epsilon: Array | float = 0.1, discount: Array | float = 0.99, pay: Pay | None = None,
    with_soundness: bool = False) -> tuple[Array, Trajectory] | tuple[Array, Trajectory, Array]:
  """Plays one episode and learns at every step of it; one that brings a number that is not finite teaches nothing.

  Args:
    world: where.
    index: numbers the states of the world.
    q: `[S, A]`, the table before.
    key: PRNG key; all randomness of the episode comes from it.
    instance: the world's params.
    learning_rate: `[]`.
    epsilon: `[]`.
    discount: `[]`; 0 after a step that terminates, as it is after one that is truncated.
    pay: what the learner is paid; None for the world's reward. Its results past the end of an episode do not count.
    with_soundness: static, also return whether the table after the episode was sound: if not, it is left as it was.

  Returns:
    The table after, and the episode `[horizon]` with the world's own rewards and `info`, see
    `policies.actor_critic.rollout`; with `with_soundness` a bool scalar, too.

  Reference: Watkins, 1989; Pardo et al., arXiv:1712.00378 (time limits).
  """
  q = jnp.asarray(q).astype(jnp.float32)
  checks.rank(2, q=q)
  value = lambda observation: jnp.zeros(())

  def step(carry, key):
    q, before = carry
    choose = lambda key, state: bandits.epsilon_greedy(key, q[index(state)], epsilon, random_ties=True)
    act = lambda key, _, state: (choose(key, state), jnp.zeros(()))
    after, row = actor_critic.transition(world, act, value, instance, before, key)
    state, next_state = index(before[1]), index(after[1])
    paid = row.reward_t if pay is None else pay(row.reward_t, state, row.action, next_state)
    target = paid + discount * row.discount_t * jnp.max(q[next_state])
    change = jnp.where(row.mask > 0, learning_rate * (target - q[state, row.action]), 0)
    return (q.at[state, row.action].add(change), after), row

  reset_key, run_key = jax.random.split(key)
  start = actor_critic.start(world, value, reset_key, instance)
  (after, _), episode = jax.lax.scan(step, (q, start), jax.random.split(run_key, world.horizon))
  sound = state_lib.still_sound(after, q)
  q = state_lib.select(sound, after, q)
  return (q, episode, sound) if with_soundness else (q, episode)
