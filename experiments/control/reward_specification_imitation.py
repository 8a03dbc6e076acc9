"""Imitation in tables, without a reward: ASAF, GAIL and behaviour cloning (arXiv:2412.07177; ASAF: arXiv:2006.13258).

The second part of the thesis; `experiments.control.reward_specification` has the first. A round plays some episodes and
learns from them and from the demonstrations. Arms whose policy is fitted by a loss differ in floats alone.
"""

from collections.abc import Mapping
import functools
import pathlib
from typing import Any

from flax import struct
import jax
import jax.numpy as jnp
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter
import ml_collections
import numpy as np
import optax

from rlcore import advantages, losses, rewards, segments, stats, tabular
from rlcore.envs import corner_grid
from rlcore.training import plots, state as state_lib, tabular_policy
from rlcore.types import Array, Experiment, PyTree, World

GOOD = 0.9  # of the way from the uniform policy's return to the expert's


@struct.dataclass
class Episodes:
  """What is imitated, or compared with it: `states`, `actions` and `mask`, `[N, T]`."""

  states: Array
  actions: Array
  mask: Array


@struct.dataclass
class State:
  """A run: its learner, its demonstrations, and what it is measured by.

  Attributes:
    step: rounds done.
    key: PRNG key of the next round.
    theta: `[S, A]`, logits of the policy, with `opt_state`.
    critic: `[S, A]`, logits of GAIL's discriminator, with `critic_opt_state`.
    expert: `[S, A]`, logits of the expert.
    demonstrations: all that could be used; how many are is in the config.
    visits: `[S]`, how often the expert was in each state, in other episodes.
    ends: `[2]`, mean return of the uniform policy and of the expert.
    good_after: episodes played until the policy was good; those played so far where it was not yet.
    is_good: 1 as soon as it was, else 0.
  """

  step: Array
  key: Array
  theta: Array
  opt_state: PyTree
  critic: Array
  critic_opt_state: PyTree
  expert: Array
  demonstrations: Episodes
  visits: Array
  ends: Array
  good_after: Array
  is_good: Array


def make_experiment(config: ml_collections.ConfigDict) -> Experiment:
  """Composes a method of imitation on the corner grid."""
  world = corner_grid.make_corner_grid(horizon=config.horizon)
  optimizer, critic_optimizer = (
      state_lib.make_optimizer(lr, b2=0.999, max_grad_norm=10.0) for lr in (config.lr, config.discriminator_lr))
  imitate = {"fit": fit, "gail": adversarial}[config.method]
  tables = corner_grid.corner_tables()

  def init(key):
    key, *keys = jax.random.split(key, 4)
    expert = expert_logits(tables, config)
    uniform = jnp.zeros_like(expert)
    demonstrations, _ = play(world, expert, keys[0], config.most_demonstrations)
    others, best = play(world, expert, keys[1], config.eval_episodes)
    worst = play(world, uniform, keys[2], config.eval_episodes)[1]
    visits = jnp.zeros(len(expert)).at[others.states].add(others.mask)
    zero = jnp.zeros(())
    return State(zero.astype(jnp.int32), key, uniform, optimizer.init(uniform), uniform, critic_optimizer.init(uniform),
                 expert, demonstrations, visits, jnp.stack([worst, best]), zero, zero)

  def measure(state, key):
    divergence = losses.kl_exact(state.expert, state.theta)
    found = play(world, state.theta, key, config.eval_episodes)[1]
    return {"return": found, "progress": (found - state.ends[0]) / (state.ends[1] - state.ends[0]),
            "kl": jnp.sum(state.visits * divergence) / jnp.sum(state.visits)}

  def update(state):
    key, play_key, fit_key, eval_key = jax.random.split(state.key, 4)
    learner, _ = play(world, state.theta, play_key, config.episodes)
    used = jnp.arange(config.most_demonstrations) < config.demonstrations
    shown = state.demonstrations.replace(mask=state.demonstrations.mask * used[:, None])
    after, loss = imitate(state, shown, learner, fit_key, config, optimizer, critic_optimizer)
    sound = state_lib.still_sound(after, state) & jnp.isfinite(loss)
    after = state_lib.select((state.step < config.rounds) & sound, after, state)
    after = after.replace(key=key, step=state.step + 1)
    metrics = measure(after, eval_key)
    # Cloning plays nothing: its loss reads no episode of the learner.
    played = jnp.where(jnp.asarray(config.weights.asaf + config.weights.asaf_window) > 0, 1.0, 0.0) * config.episodes
    good_after = jnp.where(state.is_good > 0, state.good_after, state.good_after + played)
    after = after.replace(good_after=good_after, is_good=jnp.maximum(state.is_good, metrics["progress"] >= GOOD))
    return after, metrics | {
        "loss": jnp.where(sound, loss, 0.0), "nonfinite_loss": 1.0 - sound, "episodes": played,
        "good_after": good_after, "is_good": after.is_good,
        "tokens": jnp.sum(learner.mask)}

  def evaluate(state):
    return measure(state, jax.random.fold_in(state.key, 1))

  return Experiment(init, update, evaluate, unit="steps")


def expert_logits(tables: corner_grid.CornerTables, config: ml_collections.ConfigDict) -> Array:
  """Solves the grid; the softmax of the result is the expert."""
  q = tabular.soft_value_iteration(
      tables.rewards, tables.transition, config.discount, config.temperature, num_iterations=config.iterations)
  return q / config.temperature


def play(world: World, logits: Array, key: Array, count: int) -> tuple[Episodes, Array]:
  """Plays episodes of a policy; returns them and their mean return, which no learner sees."""
  one = lambda key: tabular_policy.policy_episode(world, corner_grid.number, logits, key, ())
  episodes = jax.vmap(one)(jax.random.split(key, count))
  told = Episodes(episodes.info["state"], episodes.action, episodes.mask)
  return told, jnp.mean(jnp.sum(episodes.reward_t, 1))


def log_probs(theta: Array, data: Episodes) -> Array:
  """Log-probabilities `[N, T]` of actions; junk where no step counts."""
  return jax.nn.log_softmax(theta)[data.states, data.actions]


def descend(loss, params: Array, opt_state: PyTree, optimizer: optax.GradientTransformation, keys: Array):
  """Minimises `loss(params, key)`, a step for each key; returns `(params, opt_state)` and the last loss."""
  def step(carry, key):
    value, slope = jax.value_and_grad(loss)(carry[0], key)
    moves, opt_state = optimizer.update(slope, carry[1], carry[0])
    return (optax.apply_updates(carry[0], moves), opt_state), value

  carry, values = jax.lax.scan(step, (params, opt_state), keys)
  return carry, values[-1]


def fit(state: State, shown: Episodes, learner: Episodes, key: Array, config: ml_collections.ConfigDict,
        optimizer: optax.GradientTransformation, _) -> tuple[State, Array]:
  """Fits the policy by a weighted sum of losses: ASAF of whole trajectories, of windows, and cloning."""
  expert_old, learner_old = (log_probs(state.theta, data) for data in (shown, learner))  # frozen for all epochs

  def loss(theta, key):
    expert_new, learner_new = (log_probs(theta, data) for data in (shown, learner))
    asaf = functools.partial(
        windows_loss, (expert_new, expert_old, shown.mask), (learner_new, learner_old, learner.mask), key)
    cloning = losses.behaviour_cloning_loss(expert_new.ravel(), shown.mask.ravel())
    return (config.weights.asaf * asaf(config.horizon) + config.weights.asaf_window * asaf(config.window)
            + config.weights.cloning * cloning)

  keys = jax.random.split(key, config.epochs)
  (theta, opt_state), value = descend(loss, state.theta, state.opt_state, optimizer, keys)
  return state.replace(theta=theta, opt_state=opt_state), value


def windows_loss(
    expert: tuple[Array, Array, Array], learner: tuple[Array, Array, Array], key: Array, window: int) -> Array:
  """Computes ASAF's loss on all windows of the learner and as many of the expert's, drawn anew.

  Args:
    expert: new and old log-probabilities and mask, `[N, T]` each.
    learner: the same of the learner, `[M, T]`.
    key: PRNG key.
    window: static, steps in a window.

  Returns:
    float32 scalar.
  """
  def cut(new, old, mask):
    split = jax.vmap(functools.partial(segments.split_windows, window=window))
    flat = lambda x: x.reshape(-1, window)
    return flat(split(new, mask)[0]), flat(split(old, mask)[0]), flat(split(mask, mask)[1])

  (new, old, mask), learner = cut(*expert), cut(*learner)
  exists, count = jnp.any(mask > 0, 1), jnp.sum(jnp.any(learner[2] > 0, 1))
  rows = jax.random.choice(key, len(new), (len(learner[0]),), p=exists / jnp.sum(exists))
  kept = mask[rows] * (jnp.arange(len(rows)) < count)[:, None]
  return losses.asaf_loss(new[rows], old[rows], kept, *learner)


def adversarial(state: State, shown: Episodes, learner: Episodes, key: Array, config: ml_collections.ConfigDict,
                optimizer: optax.GradientTransformation,
                critic_optimizer: optax.GradientTransformation) -> tuple[State, Array]:
  """Fits GAIL's discriminator, then takes one REINFORCE step on the reward that it pays."""
  def loss(critic, _):
    logits = lambda data: critic[data.states, data.actions].ravel()
    return losses.gail_discriminator_loss(logits(shown), shown.mask.ravel(), logits(learner), learner.mask.ravel())

  keys = jax.random.split(key, config.epochs)
  (critic, critic_opt_state), value = descend(loss, state.critic, state.critic_opt_state, critic_optimizer, keys)
  paid = jax.vmap(rewards.gail_reward)(critic[learner.states, learner.actions], learner.mask)
  returns = jax.vmap(advantages.reward_to_go, (0, 0, None))(paid, learner.mask, config.discount)
  better = returns - stats.masked_mean(returns, learner.mask)
  surrogate = lambda theta, _: losses.reinforce_loss(log_probs(theta, learner), better, learner.mask)[0]
  (theta, opt_state), _ = descend(surrogate, state.theta, state.opt_state, optimizer, keys[:1])
  return state.replace(theta=theta, opt_state=opt_state, critic=critic, critic_opt_state=critic_opt_state), value


def figure(result: Mapping[str, Any], path: pathlib.Path):
  """Draws, for each number of demonstrations, progress and divergence against the episodes of the learner."""
  arms = result["variants"]["default"]["arms"]
  counts = list(dict.fromkeys(name.split(", ")[1] for name in arms))
  picture, room = plots.result_figure(result, width=4.3 * len(counts), height=7.6)
  panels = room.subplots(2, len(counts), sharex=True, sharey="row", squeeze=False)
  for i, count in enumerate(counts):
    own = {", ".join(name.split(", ")[::2]): entry for name, entry in arms.items() if name.split(", ")[1] == count}
    title = f"{count} demonstration{'s' * (count != '1')}"
    for axes, key in zip(panels[:, i], ("progress", "kl"), strict=True):
      draw_arms(axes, own, key, title)
    panels[0, i].axhline(GOOD, color="0.5", linestyle=":", linewidth=1)
    panels[1, i].set_yscale("log")
    for axes in panels[:, i]:
      axes.yaxis.set_minor_formatter(NullFormatter())
      if i:
        axes.set_ylabel("")
      if i or axes is panels[1, 0]:
        axes.get_legend().remove()
  panels[1, 0].set_yticks([0.5, 1, 2, 4, 8], ["0.5", "1", "2", "4", "8"])
  picture.savefig(path, dpi=110)


def draw_arms(axes: Axes, arms: Mapping[str, Any], key: str, title: str):
  """Draws one measure of some arms; what plays no episodes is drawn as the level that it ends at."""
  label = {"progress": "progress", "kl": "KL(expert || policy) in nats"}[key]
  found = {name: entry["curve"] if key == "progress" else entry["curves"][key] for name, entry in arms.items()}
  curves = {name: np.array(curve["seeds"]) for name, curve in found.items()}
  costs = {name: np.array(curve["cost"][0]) for name, curve in found.items()}
  longest = max(costs.values(), key=lambda cost: cost[-1])
  for name in [name for name, cost in costs.items() if not cost[-1]]:
    curves[name], costs[name] = np.repeat(curves[name][:, -1:], len(longest), 1), longest
  plots.plot_arms(axes, curves, title=title, y_label=label, costs=costs, x_label="episodes of the learner")
