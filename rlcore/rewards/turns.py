"""Rewards of the turns of an agent's episode, sparse or dense; `segments.step_rewards_to_tokens` puts them on tokens."""

import jax
import jax.numpy as jnp

from rlcore import checks, segments, stats
from rlcore.types import Array


def sparse_turn_rewards(final_reward: Array, turn_mask: Array) -> Array:
  """Gives the last valid turn the reward of the whole episode; no valid turn, no reward.

  Args:
    final_reward: `[]`, score of the episode.
    turn_mask: `[S]`, > 0 where a turn took place.

  Returns:
    `[S]` float32, 0 on all other turns; no gradient flows.

  Reference: multi-turn guide, arXiv:2510.01132 (reward type "single" of its code).
  """
  turn_mask = jnp.asarray(turn_mask)
  checks.rank(0, final_reward=final_reward)
  checks.rank(1, turn_mask=turn_mask)
  reward = jax.lax.stop_gradient(jnp.asarray(final_reward).astype(jnp.float32))
  return jnp.where(segments.is_last_counted(turn_mask), reward, 0.0)


def dense_turn_rewards(
    intermediate: Array, turn_mask: Array, won: Array | bool, max_total: Array | float = 1.0) -> Array:
  """Shares out an episode's reward among its turns: intermediate rewards over D, D at least 1.

  An episode that was won divides by the number of turns with a positive reward, so that its total is 1 if each of
  them earned 1; one that was lost divides by what could have been earned, so that its total is the share achieved. The
  two scales differ: compare runs by success, not by return. The final score is not added.

  Args:
    intermediate: `[S]`, what the world paid after each turn; a negative reward is divided as well.
    turn_mask: `[S]`, > 0 where a turn took place.
    won: `[]`, bool or 0 and 1, whether the episode succeeded.
    max_total: `[]`, the most that intermediate rewards can sum to.

  Returns:
    `[S]` float32, 0 where `turn_mask` is not set; no gradient flows.

  Reference: multi-turn guide, arXiv:2510.01132 (reward type "dense" of its code).
  """
  intermediate, turn_mask = jax.lax.stop_gradient((jnp.asarray(intermediate), jnp.asarray(turn_mask)))
  checks.rank(1, intermediate=intermediate, turn_mask=turn_mask)
  checks.rank(0, won=won, max_total=max_total)
  checks.same_shape(intermediate=intermediate, turn_mask=turn_mask)
  rewards = stats.masked(intermediate, turn_mask)
  max_total = jax.lax.stop_gradient(jnp.asarray(max_total).astype(jnp.float32))
  divisor = jnp.where(jnp.asarray(won) > 0, jnp.sum(rewards > 0).astype(jnp.float32), max_total)
  return rewards / jnp.maximum(divisor, 1)
