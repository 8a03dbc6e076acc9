"""Reward design: rewards from a teacher who knows the best policy, or from the agent itself (arXiv:2503.21949).

`make_experiment` is ExploRS on a chain: a tabular REINFORCE agent that pays itself a learned term and a count bonus.
The arms differ in the floats `phi_coef` and `bonus` alone. `make_study` is EXPRD and ExpAdaRD on a line.
"""

from collections.abc import Mapping
import functools
import pathlib
from typing import Any

from flax import struct
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from experiments.control import reward_design_line
from rlcore import advantages, rewards, stats
from rlcore.envs import chain
from rlcore.training import plots, tabular_policy
from rlcore.training import state as state_lib
from rlcore.types import Array, Experiment, Trajectory

LEARN_EVERY, LEARN_ON = 2, 5  # the policy moves after every second episode, on the last five
SHAPE_EVERY, SHAPE_ON = 5, 10  # the learned reward after every fifth, on the last ten
make_study = reward_design_line.make_study


@struct.dataclass
class Episodes:
  """The last `SHAPE_ON` episodes: what both updates read of them, `[N, T]`, `probs` `[N, T, A]`."""

  states: Array
  actions: Array
  next_states: Array
  mask: Array
  probs: Array
  paid: Array
  returns: Array


@struct.dataclass
class State:
  """The agent: policy and learned reward `[S, A]`, critic and visits `[S]`, recent episodes, mean return by update."""

  step: Array
  key: Array
  theta: Array
  phi: Array
  value: Array
  counts: Array
  recent: Episodes
  record: Array


def make_experiment(config: ml_collections.ConfigDict) -> Experiment:
  """Composes ExploRS, or by its switches the bonus alone, the learned term alone, or neither."""
  if config.episodes % SHAPE_ON:
    raise ValueError(f"episodes={config.episodes} must be a multiple of {SHAPE_ON}, so that updates fall alike")
  shape = dict(places=config.places, start=config.start, distractor_at=config.distractor_at)
  world = chain.make_chain(horizon=config.horizon, **shape)
  size, actions, discount = world.observation_size, world.num_actions, config.discount
  instance = chain.ChainParams(config.slip, 1.0, config.distractor)

  def init(key):
    table, steps = jnp.zeros((size, actions)), jnp.zeros((SHAPE_ON, world.horizon))
    whole = steps.astype(jnp.int32)
    recent = Episodes(whole, whole, whole, steps, jnp.zeros((*steps.shape, actions)), steps, steps)
    return State(jnp.zeros((), jnp.int32), key, table, table, table[:, 0], table[:, 0], recent, jnp.zeros(config.steps))

  def one_episode(state, i):
    key, play_key = jax.random.split(state.key)
    episode = tabular_policy.policy_episode(world, chain.place, state.theta, play_key, instance)
    recorded, counts = record(state, episode, config)
    recent = jax.tree.map(lambda all_, one: all_.at[i % SHAPE_ON].set(one), state.recent, recorded)
    state = state.replace(key=key, counts=counts, recent=recent)
    # Every seed and arm counts alike, so that these stay branches under `vmap`.
    state = jax.lax.cond(i % SHAPE_EVERY == SHAPE_EVERY - 1, functools.partial(shape_reward, config=config),
                         lambda state: state, state)
    learn = functools.partial(learn_policy, i=i, config=config)
    state = jax.lax.cond(i % LEARN_EVERY == LEARN_EVERY - 1, learn, lambda state: state, state)
    return state, {"return": recorded.returns[0], "reward": jnp.sum(episode.reward_t),
                   "tokens": jnp.sum(episode.mask), "paid": stats.masked_sum(recorded.paid, episode.mask)}

  def update(state):
    after, metrics = jax.lax.scan(one_episode, state, jnp.arange(config.episodes))
    learned = lambda state: (state.theta, state.phi, state.value, state.counts, state.recent)
    sound = state_lib.still_sound(learned(after), learned(state))
    state = state_lib.select(sound, after, state.replace(key=after.key))
    metrics = {name: jnp.mean(x) for name, x in metrics.items()}
    metrics["tokens"] *= config.episodes
    metrics |= {"phi_abs": jnp.mean(jnp.abs(state.phi)), "nonfinite_reward_state": 1.0 - sound}
    history = state.record.at[state.step].set(metrics["return"])
    return state.replace(step=state.step + 1, record=history), metrics

  def evaluate(state):
    window = lambda last: jnp.mean(state.record[max(last - config.window, 0):last])
    return {"midway": window(config.steps // 2), "end": window(config.steps)}

  return Experiment(init, update, evaluate, unit="steps")


def record(state: State, episode: Trajectory, config: ml_collections.ConfigDict) -> tuple[Episodes, Array]:
  """Pays for an episode what its agent pays itself; returns what is kept of it, and the visits after it."""
  here, there = episode.info["state"], episode.info["next_state"]
  arrived, counts = tabular_policy.counts_on_arrival(state.counts, here, there, episode.mask)
  paid = rewards.explors_reward(
      episode.reward_t, config.phi_coef * state.phi[here, episode.action], arrived, episode.discount_t == 0,
      config.bonus, config.max_bonus)
  returns = advantages.reward_to_go(episode.reward_t, episode.mask, config.discount)
  probs = jax.nn.softmax(state.theta)[here]
  return Episodes(here, episode.action, there, episode.mask, probs, paid, returns), counts


def shape_reward(state: State, *, config: ml_collections.ConfigDict) -> State:
  """Moves the learned reward and its critic."""
  recent = state.recent
  phi, value = rewards.selfrs_update(
      state.phi, state.value, recent.states, recent.actions, recent.mask, recent.probs, recent.returns,
      config.reward_lr, config.critic_lr)
  return state.replace(phi=phi, value=value)


def learn_policy(state: State, *, i: Array, config: ml_collections.ConfigDict) -> State:
  """Moves the policy on the youngest episodes."""
  rows = (i - jnp.arange(LEARN_ON)) % SHAPE_ON
  some = jax.tree.map(lambda x: x[rows], state.recent)
  theta = tabular_policy.reinforce_step(
      state.theta, some.states, some.actions, some.mask, some.paid, learning_rate=config.lr, discount=config.discount)
  return state.replace(theta=theta)


def figure(result: Mapping[str, Any], path: pathlib.Path):
  """Draws the arms on the chain, without distractor and with it, and how long Q-learning takes on the line."""
  picture, room = plots.result_figure(result, width=13.5, height=4.2)
  *panels, last = room.subplots(1, len(result["variants"]) + 1)
  for axes, (name, variant) in zip(panels, result["variants"].items(), strict=True):
    curves = {arm: np.array(entry["curve"]["seeds"]) for arm, entry in variant["arms"].items()}
    episodes = variant["config"]["episodes"] * next(iter(variant["arms"].values()))["curve"]["stride"]
    costs = {arm: episodes * (1 + np.arange(values.shape[1])) for arm, values in curves.items()}
    plots.plot_arms(axes, curves, title=f"chain, {name}", y_label="discounted return", costs=costs, x_label="episodes")
    axes.axvline(variant["config"]["episodes"] * variant["config"]["steps"] / 2, color="0.6", linestyle=":")
  found = {name.removeprefix("episodes/"): np.array(x) for name, x in result["study"]["metrics"].items()
           if name.startswith("episodes/")}
  found = dict(sorted(found.items(), key=lambda item: np.median(item[1])))
  for i, values in enumerate(found.values()):
    last.plot(values, np.full(len(values), i) + np.linspace(-0.25, 0.25, len(values)), "o", markersize=3, alpha=0.7,
              color=plots.COLOURS[i % len(plots.COLOURS)])
    last.plot([np.median(values)] * 2, [i - 0.35, i + 0.35], color="0.2", linewidth=2)
  last.set_yticks(range(len(found)), [f"{name}: {np.median(x):g}" for name, x in found.items()], fontsize=8)
  last.set_xscale("log")
  last.invert_yaxis()
  last.set_title("line: episodes until Q-learning is right", fontsize=10, loc="left", fontweight="bold")
  last.set_xlabel("episodes, of each seed and their median", fontsize=8, color="0.35")
  last.grid(True, axis="x", color="0.92")
  picture.savefig(path, dpi=110)
