"""BARFI: learn how much of a heuristic reward to believe, through the fixed point of the policy (arXiv:2310.19007).

The inner learner is a tabular policy gradient, paid by a mixture of true and heuristic reward; the outer one moves the
mixture and the discount along the hypergradient of the true return, matrix-free. All arms are numbers: an arm without
the outer learner takes one inner step more with the episodes that the outer one would have played.
"""

from collections.abc import Callable
import functools

import jax
import jax.numpy as jnp
import ml_collections

from rlcore import advantages, losses, rewards as reward_lib, stats
from rlcore.envs import decoy_grid
from rlcore.policies import actor_critic
from rlcore.training import bilevel
from rlcore.training import state as state_lib
from rlcore.types import Array, Experiment, PyTree, Trajectory, World

Play = Callable[[Array, Array, int], Trajectory]


def make_experiment(config: ml_collections.ConfigDict) -> Experiment:
  """Composes the bi-level learner, or one of its baselines, on the grid with a decoy.

  An update is `config.inner_steps` steps of the policy, each on a batch of its own, and one batch more: of the outer
  step where `config.outer` is 1, of another step of the policy where it is 0.
  """
  world = decoy_grid.make_decoy_grid(**config.world)
  optimizer = state_lib.make_optimizer(config.outer_lr, b2=0.999, max_grad_norm=None)
  heuristic = decoy_grid.Heuristic(**{name: jnp.float32(value) for name, value in config.heuristic.items()})
  play = make_play(world, heuristic)
  delta = functools.partial(inner_update, config)

  def init(key):
    mixture = {"weights": jnp.stack([jnp.float32(config.start[k]) for k in ("bias", "w_primary", "w_aux")]),
               "logit": jnp.float32(config.start.logit)}
    params = {"theta": jnp.zeros((world.observation_size, world.num_actions)), "mixture": mixture}
    return state_lib.TrainState(step=jnp.zeros((), jnp.int32), key=key, params=params,
                                opt_state=optimizer.init(mixture))

  def update(state):
    key, *keys = jax.random.split(state.key, config.inner_steps + 2)
    mixture = state.params["mixture"]

    def inner_step(theta, key):
      episodes = play(theta, key, config.episodes)
      return theta + config.inner_lr * delta(theta, mixture, episodes), (theta, episodes)

    theta, batches = jax.lax.scan(inner_step, state.params["theta"], jnp.stack(keys[:-1]))
    newest_theta, newest = jax.tree.map(lambda x: x[-1], batches)  # on-policy: theta that drew the batch
    fresh = play(theta, keys[-1], config.episodes)
    slope = bilevel.bilevel_hypergradient(
        lambda theta, mixture: delta(theta, mixture, newest), outer_gradient(theta, fresh), newest_theta, mixture,
        config.neumann.step_size, config.neumann.terms, config.neumann.damping)
    learns = {"weights": config.outer * config.learn_weights, "logit": config.outer * config.learn_discount}
    success = jnp.append(jax.vmap(success_rate)(batches[1]), success_rate(fresh))
    descent = state_lib.Gradient(-success[-1], jax.tree.map(lambda on, x: -on * x, learns, slope), {})
    moved, opt_state, metrics = state_lib.apply_gradient(optimizer, mixture, state.opt_state, descent)
    applied = metrics.pop("applied")
    theta += (1 - config.outer) * config.inner_lr * delta(theta, moved, fresh)
    before = state.params["theta"], mixture, state.opt_state
    sound = state_lib.still_sound(theta, before[0])
    theta, mixture, opt_state = state_lib.select(sound & (applied > 0), (theta, moved, opt_state), before)
    bias, w_primary, w_aux = mixture["weights"]
    metrics |= {"success": jnp.mean(success), "bias": bias, "w_primary": w_primary, "w_aux": w_aux,
                "nonfinite_policy": 1.0 - sound,
                "discount": reward_lib.learned_discount(mixture["logit"]),
                "tokens": stats.masked_sum(batches[1].mask) + stats.masked_sum(fresh.mask)}
    return state.replace(step=state.step + 1, key=key, params={"theta": theta, "mixture": mixture},
                         opt_state=opt_state,
                         skipped=state.skipped + (~sound | (applied == 0)).astype(jnp.int32)), metrics

  def evaluate(state):
    return {"success": success_rate(play(state.params["theta"], jax.random.key(2**20), config.eval_episodes))}

  return Experiment(init, update, evaluate, unit="steps")


def make_play(world: World, heuristic: decoy_grid.Heuristic) -> Play:
  """Returns `(theta [S, A], key, count) -> Trajectory` of `[count, T]`, the episodes of a tabular policy."""
  logits = lambda theta, observation: theta[jnp.argmax(observation)]
  value = lambda theta, observation: jnp.zeros(())

  def play(theta, key, count):
    one = lambda key: actor_critic.rollout(world, logits, value, theta, key, heuristic)
    return jax.vmap(one)(jax.random.split(key, count)).replace(observation=())

  return play


def success_rate(episodes: Trajectory) -> Array:
  """Averages the true return of `[N, T]` episodes, which is 1 at the goal."""
  return jnp.mean(stats.masked_sum(episodes.reward_t, episodes.mask, axis=1))


def inner_update(config: ml_collections.ConfigDict, theta: Array, mixture: PyTree, episodes: Trajectory) -> Array:
  """Averages the direction of the policy `[S, A]` over `[N, T]` episodes; differentiable in policy and mixture."""
  discount = reward_lib.learned_discount(mixture["logit"])

  def one(episode):
    info, mask = episode.info, episode.mask
    shaped = reward_lib.potential_shaping(
        info["potential"], info["next_potential"], discount * episode.discount_t, mask)
    aux = jnp.where(jnp.asarray(config.shaping) > 0, shaped, stats.masked(info["aux"], mask))
    paid = reward_lib.alignment_reward(*mixture["weights"], episode.reward_t, aux, mask)
    return losses.tabular_inner_update(theta, info["cell"], episode.action, mask, paid, discount, config.ent_coef)

  return jnp.mean(jax.vmap(one)(episodes), 0)


def outer_gradient(theta: Array, episodes: Trajectory) -> Array:
  """Estimates the gradient `[S, A]` of the undiscounted true return from `[N, T]` episodes of the policy itself.

  The baseline of a step is the mean return from there of the episodes that still go on.
  """
  go = lambda episode: advantages.regularized_returns(
      episode.reward_t, jnp.zeros_like(episode.mask), episode.mask, 1.0, 0.0)
  baseline = stats.masked_mean(jax.vmap(go)(episodes), episodes.mask, axis=0)
  one = lambda episode: losses.outer_objective_gradient(
      theta, episode.info["cell"], episode.action, episode.mask, episode.reward_t, 1.0, baseline)
  return jnp.mean(jax.vmap(one)(episodes), 0)
