"""Potential-based shaping: rewards for progress that leave the best policy what it was.

The terminal rule: what follows a terminal step has potential 0, whatever the potential function says of that state;
otherwise termination would pay the potential in which it happens, and a policy could earn by ending early or late. Here
this follows from the discount of 0 with which a step terminates. A truncated step keeps its discount and the potential
of the true next state.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from rlcore import checks, stats
from rlcore.types import Array, RewardTransform, Trajectory


def potential_shaping(
    potential_t: Array, potential_tp1: Array, discount_t: Array, mask: Array | None = None) -> Array:
  """Pays every step the discounted potential of its next state less that of its own.

  Added to any reward it changes no optimal policy, if the discount is the learner's: the discounted return of an
  episode changes by minus the potential of its first state. Rescaling or clipping the sum afterwards loses this.

  Args:
    potential_t: `[T]`, of the state in which each action is taken.
    potential_tp1: `[T]`, of the true next state, also where an episode is truncated; not read where it terminates.
    discount_t: `[T]`, the learner's gamma, 0 where the episode terminates.
    mask: `[T]`, 1 where a step counts; None counts all.

  Returns:
    `[T]` float32, 0 in masked places; no gradient flows.

  Reference: Ng, Harada and Russell, 1999; Grzes, 2017 (terminal states).
  """
  potential_t, potential_tp1, discount_t = map(jnp.asarray, (potential_t, potential_tp1, discount_t))
  checks.rank(1, potential_t=potential_t)
  checks.same_shape(potential_t=potential_t, potential_tp1=potential_tp1, discount_t=discount_t, mask=mask)
  keep = stats.as_mask(mask, potential_t)
  discount_t = stats.masked(discount_t, keep)
  later = discount_t * stats.masked(potential_tp1, keep & (discount_t != 0))
  return jax.lax.stop_gradient(later - stats.masked(potential_t, keep))


def with_potential(potentials: Callable[[Trajectory], tuple[Array, Array]]) -> RewardTransform:
  """Makes the transform that adds potential-based shaping to the rewards of every step.

  Args:
    potentials: `(Trajectory of [T]) -> (potential_t [T], potential_tp1 [T])` of one episode.

  Returns:
    The transform, for batches of `Trajectory` `[G, T]`; its state is `()`. Without process rewards it starts from 0.

  Reference: Ng, Harada and Russell, 1999.
  """
  def apply(rewards, batch, state):
    pay = lambda episode: potential_shaping(*potentials(episode), episode.discount_t, episode.mask)
    shaping = jax.vmap(pay)(batch)
    process = shaping if rewards.process is None else stats.masked(rewards.process, batch.mask) + shaping
    return rewards.replace(process=process), state

  return RewardTransform(lambda key, example: (), apply)
