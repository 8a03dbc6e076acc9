"""Temporal estimators in the shape that composes: from the records of one group to credit for its steps.

An outcome is paid at the last counted step of an episode, a process reward where it stands; their sum is the return, as
in `group_relative`.
"""

import jax
import jax.numpy as jnp

from rlcore import checks
from rlcore import segments
from rlcore import stats
from rlcore.advantages import temporal
from rlcore.types import Array, Rewards, Trajectory


def step_rewards(rewards: Rewards, mask: Array) -> Array:
  """Puts the outcome of every episode on its last counted step and adds the process rewards.

  Args:
    rewards: `outcome` `[G]` and, where there are any, `process` `[G, T]` and `valid` `[G]` are used; an episode that is
      not valid is paid nothing.
    mask: `[G, T]`, > 0 where a step counts.

  Returns:
    `[G, T]` float32, 0 where `mask` is not set; an episode without a counted step loses its outcome. No gradient flows.

  Reference: multi-turn guide, arXiv:2510.01132, sec. 3 (rewards sit on the last token of an action).
  """
  outcome, process, mask = jax.lax.stop_gradient((rewards.outcome, rewards.process, jnp.asarray(mask)))
  if rewards.valid is not None:
    checks.same_shape(**{"rewards.outcome": outcome, "rewards.valid": rewards.valid})
    scored = jnp.asarray(rewards.valid) > 0
    outcome, mask = stats.masked(outcome, scored), jnp.where(scored[:, None], mask, 0)
  checks.rank(1, **{"rewards.outcome": outcome})
  checks.rank(2, mask=mask)
  checks.same_prefix(1, **{"mask": mask, "rewards.outcome": outcome})
  checks.same_shape(**{"mask": mask, "rewards.process": process})
  last = jax.vmap(segments.is_last_counted)(mask)
  paid = jnp.where(last, jnp.asarray(outcome, jnp.float32)[:, None], 0.0)
  return paid if process is None else paid + stats.masked(process, mask)


def gae_advantages(
    rewards: Rewards, batch: Trajectory, *, gamma: Array | float = 1.0, lam: Array | float = 1.0,
    bootstrap: bool = False) -> Array:
  """Applies `gae` to the records of one group; a `functools.partial` of it is an `AdvantageEstimator`.

  Args:
    rewards: `outcome` `[G]` and, where there is one, `process` `[G, T]`.
    batch: `[G, T]`; reads `value_t` and `mask`, with `bootstrap` also `value_tp1` and `discount_t`.
    gamma: `[]`, discount.
    lam: `[]`.
    bootstrap: static. False: the episode ends by itself after its last counted step, whose successor has no value.
      True: it may be cut off, so every step bootstraps from `value_tp1`, unless `discount_t` is 0 there.

  Returns:
    `[G, T]` float32, 0 where `mask` is not set; no gradient flows.

  Reference: GAE, arXiv:1506.02438, eq. 16.
  """
  return _gae(rewards, batch, gamma, lam, bootstrap)[0]


def gae_returns(
    rewards: Rewards, batch: Trajectory, *, gamma: Array | float = 1.0, lam: Array | float = 1.0,
    bootstrap: bool = False) -> Array:
  """Computes what a critic learns beside `gae_advantages`: advantages plus values.

  Args:
    rewards: as in `gae_advantages`.
    batch: as in `gae_advantages`.
    gamma: as in `gae_advantages`.
    lam: as in `gae_advantages`.
    bootstrap: as in `gae_advantages`.

  Returns:
    `[G, T]` float32, 0 where `mask` is not set; no gradient flows.

  Reference: GAE, arXiv:1506.02438, eq. 28.
  """
  return _gae(rewards, batch, gamma, lam, bootstrap)[1]


def _gae(rewards: Rewards, batch: Trajectory, gamma, lam, bootstrap: bool) -> tuple[Array, Array]:
  paid = step_rewards(rewards, batch.mask)
  value_t, mask = jnp.asarray(batch.value_t), jnp.asarray(batch.mask)
  checks.same_shape(**{"batch.mask": mask, "batch.value_t": value_t})
  if not bootstrap:
    one = lambda r, v, mask: temporal.gae(r, v, mask, gamma, lam)
    return jax.vmap(one)(paid, value_t, mask)
  one = lambda r, v, v_tp1, d, mask: temporal.gae(r, v, mask, gamma * d, lam, value_tp1=v_tp1)
  value_tp1, discount_t = jnp.asarray(batch.value_tp1), jnp.asarray(batch.discount_t)
  checks.same_shape(**{"batch.mask": mask, "batch.value_tp1": value_tp1, "batch.discount_t": discount_t})
  return jax.vmap(one)(paid, value_t, value_tp1, discount_t, mask)
