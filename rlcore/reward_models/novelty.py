"""Novelty that a network learns away: random network distillation as a source of reward, with the gain of NovelD."""

from collections.abc import Callable

from flax import struct
import jax
import jax.numpy as jnp
import optax

from rlcore import exploration, stats
from rlcore.reward_models import learner
from rlcore.types import Array, PyTree, RewardTransform, Trajectory


@struct.dataclass
class NoveltyState:
  """The random network's parameters `target`, which never change, and the `predictor` that learns to be like it."""

  target: PyTree
  predictor: learner.LearnerState


def novelty_source(
    embed: Callable[[PyTree, PyTree], Array],
    init_params: Callable[[Array], PyTree],
    states: Callable[[Trajectory], PyTree],
    optimizer: optax.GradientTransformation,
    *,
    alpha: Array | float = 0.5,
    axis_name: stats.AxisName = None,
) -> RewardTransform:
  """Makes the source that pays novelty, and trains the predictor on the states that it has paid for.

  The process rewards become `noveld_bonus` of the states of each episode, the outcome 0; `alpha=0` is plain random
  network distillation. `apply` first scores the episodes, then takes one gradient step of the mean `rnd_novelty` of
  their counted next states; one that is not finite leaves the predictor as it was.

  Args:
    embed: `(params, state) -> [E]`, of one state.
    init_params: `(key) -> params`; called twice, for the random network and for the predictor.
    states: `(Trajectory of [T]) -> pytree of [T + 1, ...]`, all states of an episode, the last next state included.
    optimizer: of the predictor.
    alpha: of `noveld_bonus`.
    axis_name: mapped axes over the groups of a batch, all of whose states weigh the same.

  Returns:
    The transform, for batches of `Trajectory` `[G, T]`; its state is a `NoveltyState`.

  Reference: RND, arXiv:1810.12894; NovelD, Zhang et al., NeurIPS 2021; arXiv:2306.03236 (its code).
  """
  def novelties(params, target, visited):
    one = lambda state: exploration.rnd_novelty(embed(params, state), embed(target, state))
    return jax.vmap(jax.vmap(one))(visited)

  def init(key, example):
    del example
    first, second = jax.random.split(key)
    return NoveltyState(init_params(first), learner.start(init_params(second), optimizer))

  def apply(rewards, batch, state):
    counts = batch.mask > 0
    visited = jax.vmap(_where_used)(counts, jax.vmap(states)(batch))
    share = learner.average(jnp.sum(counts.astype(jnp.float32)), axis_name)

    def loss(params):
      novelty = novelties(params, state.target, visited)
      return stats.masked_sum(novelty[:, 1:], counts) / jnp.maximum(share, 1e-6), novelty

    predictor, novelty, _ = learner.guarded_step(loss, optimizer, state.predictor, axis_name=axis_name)
    bonus = jax.vmap(lambda n, keep: exploration.noveld_bonus(n, keep, alpha))(novelty, counts)
    outcome = jnp.zeros_like(rewards.outcome, jnp.float32)
    return rewards.replace(outcome=outcome, process=bonus), state.replace(predictor=predictor)

  return RewardTransform(init, apply)


def _where_used(keep: Array, states: PyTree) -> PyTree:
  """Sets to 0 the states `[T + 1, ...]` that no counted transition leaves or enters: junk would spoil a gradient."""
  used = jnp.append(keep, False) | jnp.append(jnp.array(False), keep)
  return jax.tree.map(lambda x: jnp.where(used.reshape(-1, *[1] * (x.ndim - 1)), x, 0).astype(x.dtype), states)
