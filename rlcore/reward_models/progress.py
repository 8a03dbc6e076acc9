"""A progress estimator that redistributes outcomes over steps and goes on learning inside the training loop."""

from collections.abc import Callable

from flax import struct
import jax
import jax.numpy as jnp
import optax

from rlcore import losses, stats
from rlcore import rewards as reward_lib
from rlcore.reward_models import learner
from rlcore.types import Array, PyTree, Rewards, RewardTransform, Trajectory


@struct.dataclass
class ProgressState:
  """The estimator and what is known of it.

  Attributes:
    learner: its parameters and the state of their optimiser.
    seen: int32 scalar, batches scored so far.
    residual: float32 scalar, the mean of outcome minus sum of contributions over the last batch, before it taught.
  """

  learner: learner.LearnerState
  seen: Array
  residual: Array


def redistributed(rewards: Rewards, contributions: Array, batch: Trajectory) -> Rewards:
  """Pays the contributions `[G, T]` in place of the outcome to which they sum."""
  return rewards.replace(outcome=jnp.zeros_like(rewards.outcome), process=stats.masked(contributions, batch.mask))


def progress_estimator(
    contributions: Callable[[PyTree, Trajectory], Array],
    init_params: Callable[[Array], PyTree],
    optimizer: optax.GradientTransformation,
    *,
    pay: Callable[[Rewards, Array, Trajectory], Rewards] = redistributed,
    every: Array | float = 1,
    steps: Array | float = 1,
    axis_name: stats.AxisName = None,
) -> RewardTransform:
  """Makes a transform that redistributes the outcome by a progress estimator and teaches the estimator.

  `apply` first scores the episodes with the estimator as it is; where it is due, gradient steps of the mean
  `losses.progress_loss` of these episodes follow: no reward comes from an estimator that has seen the outcomes of its
  episodes. `every=0` freezes the estimator, as the paper does. `every` and `steps` may be traced: an estimator that is
  frozen, learns, or is refreshed now and then is one compiled program.

  A gradient that is not finite leaves the estimator as it was; the batch does not count and the next one is tried.
  Every step of an episode is a step of the estimator, and what is not finite behind the mask is shown to it as 0.

  Args:
    contributions: `(params, Trajectory of [T]) -> [T]`, differentiable.
    init_params: `(key) -> params`; returns what was fitted beforehand, if anything was.
    optimizer: of the estimator.
    pay: `(rewards, contributions [G, T], batch) -> rewards`, such as `rewards.spa_step_rewards` of each episode.
    every: batches from one lesson to the next, a whole number; 0 for none.
    steps: gradient steps of a lesson, a whole number, all on the same batch.
    axis_name: mapped axes over the groups of a batch; gradients and the residual are averaged over them.

  Returns:
    The transform; its state is a `ProgressState`.

  Reference: SPA-RL, arXiv:2505.20732 (whose estimator is fitted before the training of the policy, and then frozen).
  """
  read = jax.vmap(contributions, (None, 0))

  def init(key, example):
    del example
    held = learner.start(init_params(key), optimizer)
    return ProgressState(held, jnp.zeros((), jnp.int32), jnp.zeros((), jnp.float32))

  def apply(rewards, batch, state):
    shown = learner.without_junk(batch)
    said = jax.lax.stop_gradient(read(state.learner.params, shown))
    residuals = jax.vmap(reward_lib.redistribution_residual)(said, batch.mask, rewards.outcome)
    residual = learner.average(jnp.mean(residuals), axis_name)

    def loss(params):
      return jnp.mean(jax.vmap(losses.progress_loss)(read(params, shown), batch.mask, rewards.outcome)), ()

    def step(_, carry):
      held, good = carry
      held, _, finite = learner.guarded_step(loss, optimizer, held, axis_name=axis_name)
      return held, good & finite

    due = (every > 0) & (jnp.mod(state.seen + 1, jnp.maximum(every, 1)) == 0)
    count = jnp.where(due, steps, 0).astype(jnp.int32)
    held, good = jax.lax.fori_loop(0, count, step, (state.learner, jnp.isfinite(residual)))
    seen = state.seen + good.astype(jnp.int32)
    residual = jnp.where(jnp.isfinite(residual), residual, state.residual)
    return pay(rewards, said, batch), ProgressState(held, seen, residual)

  return RewardTransform(init, apply)
