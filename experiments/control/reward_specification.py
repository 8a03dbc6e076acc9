"""Rules as constraints whose weights are learned, on a grid with four of them (arXiv:2412.07177, arXiv:2112.12228).

PPO on streams is paid a Lagrangian, whose multipliers move once a rollout. The arms differ in floats alone, see
`Switches`; `make_study` trains with many settings of fixed penalties instead.
"""

from collections.abc import Mapping
import functools
import itertools
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from matplotlib.figure import Figure
import ml_collections
import numpy as np
import optax

from rlcore import policies, rewards
from rlcore.envs import ruled_grid
from rlcore.training import on_policy, on_policy_settings, plots
from rlcore.training import state as state_lib
from rlcore.types import Array, Experiment, Metrics, PyTree, Stream, StreamReward

RULES = ruled_grid.RULES
CONSTRAINTS = (*RULES, "success")
BOOTSTRAP = len(RULES)  # the constraint of success; its cost is not subtracted
PENALTIES = (0.1, 1.0, 10.0)  # of a rule, in the grid of fixed settings
KEPT = ("feasible", "window/success", "window/rules", *(f"rate/{name}" for name in RULES))


class Switches(NamedTuple):
  """Which Lagrangian; all floats.

  Attributes:
    normalised: 1 for multipliers that sum to 1 with the weight of the task, 0 for plain ones beside a weight of 1.
    bootstrap: 1 adds the constraint of success to the normalised ones.
    lr: of Adam on the logits of the normalised multipliers.
    step_size: of the plain multipliers; 0 keeps them fixed.
    start: `[4]`, the plain multipliers at the start.
  """

  normalised: Array | float
  bootstrap: Array | float
  lr: Array | float
  step_size: Array | float
  start: Array


def make_experiment(config: ml_collections.ConfigDict) -> Experiment:
  """Composes the arm that the config's switches choose."""
  start = jnp.stack([jnp.asarray(config.start[name], jnp.float32) for name in RULES])
  return compose(config, config.seed, Switches(**config.lagrangian, start=start))


def compose(config: ml_collections.ConfigDict, seed: Array | int, switches: Switches) -> Experiment:
  """Composes PPO with a Lagrangian; the seed draws where the lava is, once for the whole run."""
  lava = ruled_grid.draw_lava(jax.random.fold_in(jax.random.key(seed), 1))
  world = ruled_grid.make_ruled_grid(horizon=config.horizon)
  limits = jnp.array([config.limits[name] for name in CONSTRAINTS])
  return on_policy.make_on_policy_experiment(on_policy.OnPolicyParts(
      world=world, policy=policies.make_stream_policy(world, hidden=config.hidden),
      instances=functools.partial(ruled_grid.draw_task, lava=lava),
      optimizer=state_lib.make_optimizer(config.lr, b2=0.999, max_grad_norm=0.5), num_worlds=config.num_worlds,
      num_steps=config.num_steps, gamma=config.gamma, reward=lagrangian(switches, limits, config.window),
      describe=functools.partial(describe, switches=switches, limits=limits, slack=config.slack),
      **on_policy_settings.ppo(lam=config.lam, clip=config.clip, entropy_coef=config.entropy_coef,
                               epochs=config.epochs, minibatches=config.minibatches)))


def lagrangian(switches: Switches, limits: Array, window: int) -> StreamReward:
  """Pays the weighted task less the weighted costs, and then moves the weights by what the rollout cost.

  Args:
    switches: which Lagrangian.
    limits: `[5]`, how often each cost may occur; the last is that of failed episodes.
    window: static, W, rollouts that the metrics look back on.

  Returns:
    The reward. Its state has the `logits` `[5]` with their optimiser `adam`, the `plain` multipliers `[5]`, and
    `recent` `[W, 6]`: mean costs, failed and ended episodes of the last rollouts.
  """
  adam = optax.adam(switches.lr)
  penalize = jnp.arange(len(CONSTRAINTS)) != BOOTSTRAP

  def init(key, num_worlds):
    del key, num_worlds
    logits, plain = jnp.zeros(len(CONSTRAINTS)), jnp.append(switches.start, 0.0)
    return {"logits": logits, "adam": adam.init(logits), "plain": plain, "recent": jnp.zeros((window, 6))}

  def apply(state: PyTree, stream: Stream):
    costs = jnp.pad(stream.info["costs"], ((0, 0), (0, 0), (0, 1)))
    main, multipliers = weights(state, switches)
    pay = lambda reward, costs: rewards.lagrangian_reward(reward, costs, main, multipliers, penalize)
    paid = jax.vmap(jax.vmap(pay))(stream.reward_t, costs)
    failed, ended = jnp.sum(stream.truncated), jnp.sum(stream.truncated | (stream.discount_t == 0))
    rates = jnp.mean(costs, (0, 1)).at[BOOTSTRAP].set(
        jnp.where(ended > 0, failed / jnp.maximum(ended, 1), limits[BOOTSTRAP]))
    gradient = rewards.multiplier_gradient(switched(state["logits"], switches), rates, limits)
    updates, moments = adam.update(gradient, state["adam"])
    plain = rewards.plain_multiplier_update(state["plain"], rates, limits, switches.step_size)
    now = jnp.append(rates[:BOOTSTRAP], jnp.stack([failed, ended]))
    return paid, {"logits": state["logits"] + updates, "adam": moments, "plain": jnp.where(penalize, plain, 0.0),
                  "recent": jnp.roll(state["recent"], 1, 0).at[0].set(now)}

  return StreamReward(init, apply)


def switched(logits: Array, switches: Switches) -> Array:
  """Takes the constraint of success out, for good, where there is no bootstrap: its share and gradient are 0."""
  off = (jnp.arange(logits.shape[0]) == BOOTSTRAP) & (jnp.asarray(switches.bootstrap) == 0)
  return jnp.where(off, -1e9, logits)


def weights(state: PyTree, switches: Switches) -> tuple[Array, Array]:
  """Returns the weight of the task and the multipliers `[5]` that a rollout is paid by."""
  share, shares = rewards.normalized_multipliers(switched(state["logits"], switches))
  main = rewards.bootstrap_weight(share, shares, BOOTSTRAP)
  normalised = jnp.asarray(switches.normalised) > 0
  return jnp.where(normalised, main, 1.0), jnp.where(normalised, shares, state["plain"])


def describe(reward_state: PyTree, stream: Stream, paid: Array, advantages: Array, *, switches: Switches,
             limits: Array, slack: float) -> Metrics:
  """Reports success and rates over the last rollouts, which rules they satisfied, and the weights from here on."""
  del stream, paid, advantages
  recent = reward_state["recent"]
  failed, ended = jnp.sum(recent[:, 4:], 0)
  success = jnp.where(ended > 0, 1 - failed / jnp.maximum(ended, 1), 0.0)
  rates = jnp.sum(recent[:, :BOOTSTRAP], 0) / jnp.maximum(jnp.sum(recent[:, 5] > 0), 1)
  kept = rates <= limits[:BOOTSTRAP] + slack
  feasible = jnp.all(kept) & (success >= 1 - limits[BOOTSTRAP])
  main, multipliers = weights(reward_state, switches)
  metrics = {"window/success": success, "window/rules": jnp.mean(kept), "feasible": feasible, "weight/task": main}
  metrics |= {f"rate/{name}": rate for name, rate in zip(RULES, rates, strict=True)}
  metrics |= {f"weight/{name}": x for name, x in zip(CONSTRAINTS, multipliers, strict=True)}
  return {name: jnp.asarray(x, jnp.float32) for name, x in metrics.items()}


def make_study(config: ml_collections.ConfigDict):
  """Returns `(key) -> metrics [N]` of whole runs with N settings of fixed penalties, which the key draws.

  Every setting is run with one seed, the verdict's one after another, so that the maps are those of the arms.
  """
  grid = jnp.array(list(itertools.product(PENALTIES, repeat=len(RULES))))
  count = config.fixed.settings

  def one(penalties, seed):
    experiment = compose(config, seed, Switches(0.0, 0.0, 0.0, 0.0, penalties))
    state = experiment.init(jax.random.key(seed))
    metrics = jax.lax.scan(lambda state, _: experiment.update(state), state, None, config.steps)[1]
    return {name: metrics[name][-1] for name in KEPT}

  def study(key):
    penalties = grid[jax.random.choice(key, len(grid), (count,), replace=False)]
    found = jax.vmap(one)(penalties, jnp.resize(jnp.array(config.fixed.seeds), count))
    return found | {f"penalty/{name}": penalties[:, i] for i, name in enumerate(RULES)}

  return study
