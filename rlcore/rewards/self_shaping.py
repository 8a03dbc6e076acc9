"""An agent that shapes its own reward: a bonus for rare states, and a learned term that resembles an advantage."""

import jax
import jax.numpy as jnp

from rlcore import checks, stats
from rlcore.types import Array


def count_exploration_bonus(count: Array, scale: Array | float = 1.0, max_bonus: Array | float = 1.0) -> Array:
  """Pays for a state by how rarely it was visited, `scale / sqrt((scale / max_bonus)^2 + count)`.

  Args:
    count: any shape, visits so far.
    scale: what the bonus times the root of the count tends to; 0 switches it off.
    max_bonus: bonus of a state never visited; 0 switches it off.

  Returns:
    float32 of the shape of `count`; no gradient flows.

  Raises:
    AssertionError: for settings that are neither scalars nor of the shape of `count`.

  Reference: ExploRS, arXiv:2503.21949, ch. 5 (NeurIPS 2022).
  """
  _same_or_scalar(count=count, scale=scale, max_bonus=max_bonus)
  count, scale, max_bonus = _constant(count, scale, max_bonus)
  on = (scale != 0) & (max_bonus != 0)
  scale, max_bonus = jnp.where(on, scale, 1), jnp.where(on, max_bonus, 1)
  # the larger of the two scales goes through the root, for its square may not fit
  bonus = scale * jax.lax.rsqrt(jnp.square(scale / max_bonus) + count)
  return jnp.where(on, jnp.where(jnp.abs(scale / max_bonus) > 1e18, jnp.sign(scale) * jnp.abs(max_bonus), bonus), 0)


def explors_reward(
    reward: Array, phi_sa: Array, next_count: Array, next_terminal: Array, scale: Array | float = 1.0,
    max_bonus: Array | float = 1.0) -> Array:
  """Adds to a reward what the agent has learned to pay itself and the bonus of the state that it came to.

  `phi_sa=0` leaves the count bonus alone, `scale=0` the learned term.

  Args:
    reward: any shape, the original reward of a step.
    phi_sa: the same shape, the learned term of its state and action.
    next_count: the same shape, visits of the state that the step led to; that state's own count goes up only when it is
      left, after the reward.
    next_terminal: the same shape, True or 1 where the episode terminated: then no bonus, or agents would die for it.
    scale: as in `count_exploration_bonus`.
    max_bonus: as in `count_exploration_bonus`.

  Returns:
    float32 of the same shape; no gradient flows.

  Raises:
    AssertionError: for arguments that are neither scalars nor of one shape.

  Reference: ExploRS, arXiv:2503.21949, ch. 5 (NeurIPS 2022).
  """
  _same_or_scalar(
      reward=reward, phi_sa=phi_sa, next_count=next_count, next_terminal=next_terminal, scale=scale,
      max_bonus=max_bonus)
  reward, phi_sa = _constant(reward, phi_sa)
  bonus = count_exploration_bonus(next_count, scale, max_bonus)
  return reward + phi_sa + jnp.where(jnp.asarray(next_terminal) > 0, 0, bonus)


def selfrs_update(
    phi: Array, value: Array, states: Array, actions: Array, mask: Array, probs: Array, returns: Array,
    reward_lr: Array | float = 0.01, critic_lr: Array | float = 0.01,
    clip: Array | float = 0.0) -> tuple[Array, Array]:
  """Moves the learned reward along its gradient on recent episodes, and the critic towards their returns.

  With `d = G_t - V(s_t)` of the old V and the recorded policy p of `s_t`, `phi(s_t)` gains
  `reward_lr p(a_t) d (e_a_t - p)` SUMMED over steps, while V gains `critic_lr` times the sum of d over its steps,
  divided by the number of ALL steps, as the released code does.

  Args:
    phi: `[S, A]`, the learned reward.
    value: `[S]`, the critic.
    states: `[N, T]` int.
    actions: `[N, T]` int.
    mask: `[N, T]`, > 0 where a step counts.
    probs: `[N, T, A]`, the policy of the step's state when the action was drawn, not today's.
    returns: `[N, T]`, returns of the ORIGINAL reward from each step on.
    reward_lr: step size of `phi`.
    critic_lr: step size of `value`.
    clip: largest size of `phi` itself after the step; 0 or less for none.

  Returns:
    `(phi, value)`, float32 of the same shapes, unchanged if nothing counts; no gradient flows. A step that counts but
    names no state or action of the tables moves nothing.

  Raises:
    AssertionError: for shapes that do not fit.

  Reference: ExploRS, arXiv:2503.21949, ch. 5 (NeurIPS 2022, its code).
  """
  states, actions, mask = map(jnp.asarray, (states, actions, mask))
  phi, value, probs, returns, reward_lr, critic_lr, clip = _constant(
      phi, value, probs, returns, reward_lr, critic_lr, clip)
  checks.rank(2, phi=phi, states=states)
  checks.nonempty(0, phi=phi)
  checks.nonempty(1, phi=phi)
  checks.integers(states=states, actions=actions)
  checks.shape(phi.shape[:1], value=value)
  checks.same_shape(states=states, actions=actions, mask=mask, returns=returns)
  checks.shape((*states.shape, phi.shape[1]), probs=probs)
  keep = (mask > 0) & (states >= 0) & (states < phi.shape[0]) & (actions >= 0) & (actions < phi.shape[1])
  states, actions = jnp.where(keep, states, 0), jnp.where(keep, actions, 0)
  surprise = stats.masked(returns - value[states], keep)
  probs = stats.masked(probs, keep[..., None])
  taken = jax.nn.one_hot(actions, phi.shape[1], dtype=jnp.float32)
  gradient = (jnp.sum(taken * probs, -1) * surprise)[..., None] * (taken - probs)
  moved = phi + reward_lr * jnp.zeros_like(phi).at[states].add(gradient)
  moved = jnp.where(clip > 0, jnp.clip(moved, -clip, clip), moved)
  count = stats.masked_count(returns, mask)
  error = jnp.zeros_like(value).at[states].add(surprise) / jnp.maximum(count, 1)
  return jnp.where(count > 0, moved, phi), value + critic_lr * error


def _constant(*arrays: Array) -> list[Array]:
  return [jax.lax.stop_gradient(jnp.asarray(x).astype(jnp.float32)) for x in arrays]


def _same_or_scalar(**arrays: Array | float):
  """Asserts that all arrays but scalars have one shape."""
  given = {name: x for name, x in arrays.items() if jnp.ndim(x)}
  if given:
    checks.same_shape(**given)
