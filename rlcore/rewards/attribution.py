"""A score attributed to the parts that earned it: the players of a cooperative game, say the spans of a response.

The values are a reward model's, of partial responses (`reward_models.coalition_text` cuts them). The credits of all
players sum to what the whole earns above nothing; `segments.segment_to_token_rewards` puts them on tokens.
"""

from collections.abc import Sequence
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from rlcore import checks, stats
from rlcore.rewards import turns
from rlcore.types import Array


def shapley_values(coalition_values: Array, num_players: int) -> Array:
  """Shares out the value of all players by their mean marginal over all orders in which they could have come.

  Args:
    coalition_values: `[2**n]`, value of every coalition; player i is in it if bit i of its index is set. The value of
      nobody, in place 0, need not be 0.
    num_players: n, static; memory grows as `n 2**n`, so sample orders (`shapley_from_permutations`) from 12 or so on.

  Returns:
    `[n]` float32, whose sum is the value of all minus that of nobody; no gradient flows.

  Raises:
    ValueError: for fewer than 0 players.

  Reference: SCAR, arXiv:2505.20417; L. Shapley, A Value for n-Person Games (1953).
  """
  if num_players < 0:
    raise ValueError(f"num_players={num_players} must be at least 0")
  return _credits(coalition_values, (0,) * num_players)


def owen_values(coalition_values: Array, groups: Sequence[int], num_players: int) -> Array:
  """Shares out the value of all players by their mean marginal over the orders that keep every group together.

  Special cases: one group of all players, or a group for each, give the Shapley value. Only coalitions of whole groups
  and a part of one more are read, the others may be NaN.

  Args:
    coalition_values: `[2**n]`, as in `shapley_values`.
    groups: `[n]` integers on the host (static), equal for the players of one group.
    num_players: n, static.

  Returns:
    `[n]` float32, whose sum is the value of all minus that of nobody; no gradient flows.

  Raises:
    ValueError: if `groups` are not n integers.

  Reference: SCAR, arXiv:2505.20417; G. Owen, Values of Games with a Priori Unions (1977).
  """
  groups = np.asarray(groups, np.int64 if np.size(groups) == 0 else None)
  if groups.shape != (num_players,) or not np.issubdtype(groups.dtype, np.integer):
    raise ValueError(f"groups must be num_players={num_players} integers, not {groups.dtype}{list(groups.shape)}")
  return _credits(coalition_values, tuple(groups.tolist()))


def shapley_from_permutations(orders: Array, prefix_values: Array, mask: Array) -> Array:
  """Estimates Shapley values by the mean marginal of every player over sampled orders.

  Unbiased for uniform orders, and of every single order the credits sum to the value of all minus that of nobody.

  Args:
    orders: `[M, n]` int32, a permutation of the players a row.
    prefix_values: `[M, n + 1]`, value of the first k players of the order; column 0 is that of nobody.
    mask: `[M]`, > 0 where an order counts.

  Returns:
    `[n]` float32, 0 if no order counts; no gradient flows.

  Reference: SCAR, arXiv:2505.20417; J. Castro et al., Polynomial calculation of the Shapley value based on sampling
  (2009).
  """
  orders, prefix_values, mask = map(jnp.asarray, (orders, prefix_values, mask))
  checks.rank(2, orders=orders, prefix_values=prefix_values)
  checks.integers(orders=orders)
  count, players = orders.shape
  checks.shape((count, players + 1), prefix_values=prefix_values)
  checks.shape((count,), mask=mask)
  keep = jnp.broadcast_to((mask > 0)[:, None], orders.shape)
  values = jax.lax.stop_gradient(prefix_values.astype(jnp.float32))
  slots = jnp.where(keep & (orders >= 0) & (orders < players), orders, players)
  totals = jnp.zeros(players, jnp.float32).at[slots].add(stats.masked(jnp.diff(values), keep), mode="drop")
  return totals / jnp.maximum(stats.masked_count(mask, mask), 1)


def mixed_token_rewards(
    token_credit: Array, final_reward: Array | float, mask: Array, alpha: Array | float = 0.8) -> Array:
  """Mixes credit that lies on tokens with the reward of the whole response, which lies on its last token.

  If the credits sum to the reward, so do the mixed rewards: the reward is not to be added again. Credits sum to what a
  response earns above an empty one, whose value the caller adds to the last token where it is not 0.

  Args:
    token_credit: `[T]`, see `segments.segment_to_token_rewards`.
    final_reward: `[]`, of the whole response.
    mask: `[T]`, > 0 where a token counts.
    alpha: share of the credit; 0 leaves the reward on the last token.

  Returns:
    `[T]` float32, 0 in masked places; no gradient flows.

  Reference: SCAR, arXiv:2505.20417.
  """
  token_credit, mask = map(jnp.asarray, (token_credit, mask))
  checks.rank(1, token_credit=token_credit)
  checks.same_shape(token_credit=token_credit, mask=mask)
  last = turns.sparse_turn_rewards(final_reward, mask)
  return jax.lax.stop_gradient(alpha * stats.masked(token_credit, mask) + (1 - alpha) * last)


def _credits(coalition_values: Array, groups: tuple[int, ...]) -> Array:
  values = jax.lax.stop_gradient(jnp.asarray(coalition_values))
  checks.rank(1, coalition_values=values)
  checks.shape((2**len(groups),), coalition_values=values)
  weights = _marginal_weights(groups)
  # From the value of nobody: the weights of a player sum to 0, but for rounding. No matrix product, whose precision
  # an accelerator may lower.
  gained = stats.masked(values.astype(jnp.float32) - values[0].astype(jnp.float32), np.any(weights != 0, 0))
  return jnp.sum(weights * gained, 1)


@functools.lru_cache(maxsize=64)
def _marginal_weights(groups: tuple[int, ...]) -> np.ndarray:
  """Weighs every coalition in the mean marginal of every player: `[n, 2**n]` float32.

  The players before i in an order are whole other groups, h of m - 1, and t of the g - 1 others of its own group. Each
  such set comes before i in `1 / (m C(m - 1, h) g C(g - 1, t))` of the orders.
  """
  labels, own = np.unique(np.asarray(groups, np.int64), return_inverse=True)
  players = np.arange(len(groups))
  coalitions = np.arange(2**len(groups))
  inside = (coalitions[:, None] >> players) & 1  # [2**n, n]
  sizes = np.bincount(own, minlength=len(labels))
  counts = inside @ np.eye(len(labels), dtype=int)[own]  # [2**n, m], members of each group
  whole, torn = counts == sizes, (counts > 0) & (counts < sizes)
  weights = np.zeros((len(groups), len(coalitions)))
  for i in players:
    others = np.arange(len(labels)) != own[i]
    before = coalitions[(inside[:, i] == 0) & ~torn[:, others].any(1)]
    orders = len(labels) * _binomials(len(labels) - 1)[whole[before][:, others].sum(1)]
    orders *= sizes[own[i]] * _binomials(sizes[own[i]] - 1)[counts[before, own[i]]]
    weights[i, before] -= 1 / orders
    weights[i, before | 1 << i] += 1 / orders
  return weights.astype(np.float32)


def _binomials(n: int) -> np.ndarray:
  return np.array([float(math.comb(n, k)) for k in range(n + 1)])
