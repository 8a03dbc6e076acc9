"""What reward models that learn inside the training loop share: their state and their one guarded gradient step."""

from collections.abc import Callable
from typing import Any

from flax import struct
import jax
import jax.numpy as jnp
import optax

from rlcore import stats
from rlcore.types import Array, PyTree, Trajectory


@struct.dataclass
class LearnerState:
  """A model that learns: its parameters `params` and the state `opt_state` of their optimiser."""

  params: PyTree
  opt_state: PyTree


def start(params: PyTree, optimizer: optax.GradientTransformation) -> LearnerState:
  """Returns the state of a model that has not learned anything yet."""
  return LearnerState(params, optimizer.init(params))


def guarded_step(
    loss: Callable[[PyTree], tuple[Array, Any]],
    optimizer: optax.GradientTransformation,
    state: LearnerState,
    *,
    axis_name: stats.AxisName = None,
) -> tuple[LearnerState, Any, Array]:
  """Takes one gradient step, or leaves the model as it is where the gradient is not finite.

  Args:
    loss: `(params) -> (scalar, anything)`.
    optimizer: of the model.
    state: before the step.
    axis_name: mapped axes over which the gradient is averaged.

  Returns:
    `(state, what the loss said beside its value before the step, whether the gradient was finite)`.
  """
  gradient, beside = jax.grad(loss, has_aux=True)(state.params)
  if axis_name is not None:
    copies = gradient_copies(axis_name)
    gradient = jax.tree.map(lambda x: x / copies.astype(x.dtype), average(gradient, axis_name))
  updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
  after = LearnerState(optax.apply_updates(state.params, updates), opt_state)
  finite = jnp.isfinite(optax.global_norm(gradient))
  return jax.tree.map(lambda new, old: jnp.where(finite, new, old), after, state), beside, finite


def average(tree: PyTree, axis_name: stats.AxisName) -> PyTree:
  """Averages over mapped axes; over none for None."""
  return tree if axis_name is None else jax.lax.pmean(tree, axis_name)


def gradient_copies(axis_name: stats.AxisName) -> Array:
  """Tells how often a gradient with respect to parameters that all devices hold has been summed over them already.

  `shard_map` sums such a derivative over the devices by itself (unless `check_vma=False`), under `vmap` and `pmap` it is
  each device's own. The same derivative of a known function tells which it is, whatever the version of JAX.

  Args:
    axis_name: mapped axes.

  Returns:
    float32 scalar: 1, or the number of devices, by which a sum or mean of gradients over the axes must be divided.
  """
  one = 1.0 + 0.0 * jax.lax.axis_index(axis_name)
  return jax.lax.pmean(jax.grad(lambda x: x * one)(1.0), axis_name)


def without_junk(batch: Trajectory) -> Trajectory:
  """Replaces by 0 what is not finite where nothing counts: times 0 it would still spoil a gradient.

  Anything else stays as it is, for a model may read what does not count (observation tokens).

  Args:
    batch: a group `[G, T]`, or anything else with a mask of that shape.

  Returns:
    The same record.
  """
  def clean(x):
    if not jnp.issubdtype(jnp.asarray(x).dtype, jnp.floating):
      return x
    counts = jnp.reshape(batch.mask > 0, batch.mask.shape + (1,) * (x.ndim - batch.mask.ndim))
    return jnp.where(counts | jnp.isfinite(x), x, 0)

  return jax.tree.map(clean, batch)
