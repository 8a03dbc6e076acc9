"""A softmax policy in a table, in any world whose states have numbers: episodes, and REINFORCE on recorded ones."""

import jax
import jax.numpy as jnp

from rlcore import checks, losses
from rlcore.policies import actor_critic
from rlcore.training import state as state_lib
from rlcore.training.tabular_q import Index
from rlcore.types import Array, PyTree, Trajectory, World


def policy_episode(world: World, index: Index, theta: Array, key: Array, instance: PyTree) -> Trajectory:
  """Plays one episode of the softmax policy.

  Args:
    world: where.
    index: numbers the states of the world.
    theta: `[S, A]`, logits.
    key: PRNG key; all randomness of the episode comes from it.
    instance: the world's params.

  Returns:
    The episode `[horizon]`, see `policies.actor_critic.rollout`.
  """
  log_probs = jax.nn.log_softmax(jnp.asarray(theta).astype(jnp.float32))
  checks.rank(2, theta=log_probs)
  upto = jnp.cumsum(jnp.exp(log_probs), 1)[:, :-1]  # one number decides, which is cheaper than a Gumbel for each action
  value = lambda observation: jnp.zeros(())

  def act(key, observation, state):
    row = index(state)
    action = jnp.sum(jax.random.uniform(key) >= upto[row], dtype=jnp.int32)
    return action, log_probs[row, action]

  def step(carry, key):
    return actor_critic.transition(world, act, value, instance, carry, key)

  reset_key, run_key = jax.random.split(key)
  start = actor_critic.start(world, value, reset_key, instance)
  return jax.lax.scan(step, start, jax.random.split(run_key, world.horizon))[1]


def reinforce_step(
    theta: Array, states: Array, actions: Array, mask: Array, rewards: Array, *, learning_rate: Array | float = 0.1,
    discount: Array | float = 0.99) -> Array:
  """Moves a policy by REINFORCE on recorded episodes, as if it had drawn their actions itself.

  There are no importance weights, no baseline and no outer discount^t; the sum over steps is divided by their number.

  Args:
    theta: `[S, A]`, logits of today's policy.
    states: `[N, T]` int.
    actions: `[N, T]` int.
    mask: `[N, T]`, > 0 where a step counts.
    rewards: `[N, T]`, what was paid when the step was taken.
    learning_rate: `[]`.
    discount: `[]`.

  Returns:
    `[S, A]` float32, the logits after; unchanged if no step counts, or the step would not be finite.

  Reference: ExploRS, arXiv:2503.21949, ch. 5 (NeurIPS 2022, its code).
  """
  checks.rank(2, states=states, actions=actions, mask=mask, rewards=rewards)
  direction = jax.vmap(losses.tabular_inner_update, (None, 0, 0, 0, 0, None, None))(
      theta, states, actions, mask, rewards, discount, 0.0)
  count = jnp.sum(jnp.asarray(mask) > 0)
  after = theta + learning_rate * jnp.sum(direction, 0) / jnp.maximum(count, 1)
  return state_lib.select(state_lib.still_sound(after, theta), after, theta)


def counts_on_arrival(counts: Array, states: Array, next_states: Array, mask: Array) -> tuple[Array, Array]:
  """Says how often the state that each step led to had been left before, earlier steps of the episode included.

  Args:
    counts: `[S]`, how often each state was left before the episode.
    states: `[T]` int, left at each step.
    next_states: `[T]` int, reached by it.
    mask: `[T]`, > 0 where a step counts.

  Returns:
    `(counts_at_t [T], new_counts [S])`, in the dtype of `counts`; the former is junk where a step does not count.

  Reference: ExploRS, arXiv:2503.21949, ch. 5 (NeurIPS 2022, its code).
  """
  counts, states, next_states, mask = map(jnp.asarray, (counts, states, next_states, mask))
  checks.rank(1, counts=counts, states=states)
  checks.same_shape(states=states, next_states=next_states, mask=mask)
  keep = mask > 0
  place = jnp.arange(states.shape[0])
  earlier = (states[None] == next_states[:, None]) & keep[None] & (place[None] < place[:, None])
  arrived = counts[next_states] + jnp.sum(earlier, 1).astype(counts.dtype)
  return arrived, counts.at[jnp.where(keep, states, counts.shape[0])].add(1, mode="drop")
