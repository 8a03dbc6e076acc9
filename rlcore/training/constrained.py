"""Rules as constraints of a policy on streams: a reward whose weights move once a rollout, by what the rollout cost.

The world counts the costs of a step in `info["costs"]` `[K]`, one for each rule; beside them stands the constraint that
episodes do not fail, that is, run out of time. Which Lagrangian it is are floats, so that all kinds are lanes of one
`vmap`; the functions of one step are those of `rewards.constraints`.

Reference: Direct behavior specification, arXiv:2112.12228.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from rlcore import rewards
from rlcore.training import stream_rewards
from rlcore.types import Array, PyTree, Stream, StreamReward


class Switches(NamedTuple):
  """Which Lagrangian; all floats.

  Attributes:
    normalised: 1 for multipliers that sum to 1 with the weight of the task, 0 for plain ones beside a weight of 1.
    bootstrap: 1 adds the constraint of success to the normalised ones.
    lr: of Adam on the logits of the normalised multipliers.
    step_size: of the plain multipliers; 0 keeps them fixed.
    start: `[K]`, the plain multipliers at the start.
  """

  normalised: Array | float
  bootstrap: Array | float
  lr: Array | float
  step_size: Array | float
  start: Array


def lagrangian(switches: Switches, limits: Array, window: int) -> StreamReward:
  """Pays the weighted task less the weighted costs, and then moves the weights by what the rollout cost.

  Args:
    switches: which Lagrangian.
    limits: `[K + 1]`, how often each cost may occur, and at the end the share of episodes that may fail.
    window: static, W, rollouts that the metrics look back on.

  Returns:
    The reward. Its state has the `logits` `[K + 1]` with their optimiser `adam`, the `plain` multipliers `[K + 1]`, and
    `recent` `[W, K + 2]`: mean costs, failed and ended episodes of the last rollouts.
  """
  adam = optax.adam(switches.lr)
  last = limits.shape[0] - 1  # the constraint of success: its cost is not subtracted
  penalize = jnp.arange(last + 1) != last

  def init(key, num_worlds):
    del key, num_worlds
    logits, plain = jnp.zeros(last + 1), jnp.append(switches.start, 0.0)
    return {"logits": logits, "adam": adam.init(logits), "plain": plain, "recent": jnp.zeros((window, last + 2))}

  def apply(state: PyTree, stream: Stream):
    costs = jnp.pad(stream_rewards.told(stream, "costs"), ((0, 0), (0, 0), (0, 1)))
    main, multipliers = weights(state, switches)
    pay = lambda reward, costs: rewards.lagrangian_reward(reward, costs, main, multipliers, penalize)
    paid = jax.vmap(jax.vmap(pay))(stream.reward_t, costs)
    failed, ended = jnp.sum(stream.truncated), jnp.sum(stream.truncated | (stream.discount_t == 0))
    rates = jnp.mean(costs, (0, 1)).at[last].set(
        jnp.where(ended > 0, failed / jnp.maximum(ended, 1), limits[last]))
    gradient = rewards.multiplier_gradient(switched(state["logits"], switches), rates, limits)
    updates, moments = adam.update(gradient, state["adam"])
    plain = rewards.plain_multiplier_update(state["plain"], rates, limits, switches.step_size)
    now = jnp.append(rates[:last], jnp.stack([failed, ended]))
    return paid, {"logits": state["logits"] + updates, "adam": moments, "plain": jnp.where(penalize, plain, 0.0),
                  "recent": jnp.roll(state["recent"], 1, 0).at[0].set(now)}

  return StreamReward(init, apply)


def switched(logits: Array, switches: Switches) -> Array:
  """Takes the constraint of success out, for good, where there is no bootstrap: its share and gradient are 0."""
  off = (jnp.arange(logits.shape[0]) == logits.shape[0] - 1) & (jnp.asarray(switches.bootstrap) == 0)
  return jnp.where(off, -1e9, logits)


def weights(state: PyTree, switches: Switches) -> tuple[Array, Array]:
  """Returns the weight of the task and the multipliers `[K + 1]` that a rollout is paid by."""
  share, shares = rewards.normalized_multipliers(switched(state["logits"], switches))
  main = rewards.bootstrap_weight(share, shares, shares.shape[0] - 1)
  normalised = jnp.asarray(switches.normalised) > 0
  return jnp.where(normalised, main, 1.0), jnp.where(normalised, shares, state["plain"])
