"""Gaussians squashed into the box of a world's actions, and the affine map from the cube [-1, 1] onto such a box."""

import jax
import jax.numpy as jnp
import numpy as np

from rlcore import checks
from rlcore.policies import controller
from rlcore.types import Array, World


def tanh_gaussian_log_prob(before: Array, mean: Array, log_std: Array) -> Array:
  """Computes the log-density of the action `tanh(before)`, exactly, also where the tanh is 1 in float32.

  Args:
    before: `[A]`, the action before the tanh.
    mean: `[A]`, of the Gaussian.
    log_std: `[A]`, of the Gaussian.

  Returns:
    float32[]; differentiable in all three.

  Reference: SAC, arXiv:1812.05905, app. C, with log(1 - tanh(u)^2) = 2 (log 2 - u - softplus(-2 u)).
  """
  before, mean, log_std = (jnp.asarray(x, jnp.float32) for x in (before, mean, log_std))
  checks.rank(1, before=before)
  checks.same_shape(before=before, mean=mean, log_std=log_std)
  slope = 2 * (jnp.log(2.0) - before - jax.nn.softplus(-2 * before))
  return controller.gaussian_log_prob(before, mean, 2 * log_std) - jnp.sum(slope)


def tanh_gaussian_sample(
    key: Array, mean: Array, log_std: Array, center: Array | float = 0.0,
    half_width: Array | float = 1.0) -> tuple[Array, Array]:
  """Draws an action and says its log-density.

  Args:
    key: PRNG key.
    mean: `[A]`.
    log_std: `[A]`.
    center: `[]` or `[A]`, middle of the box of actions.
    half_width: `[]` or `[A]`, above 0, half of the box's width.

  Returns:
    `(action [A] in center +- half_width, log_prob [] of that action)`; differentiable in mean and log_std
    (reparametrised).

  Reference: SAC, arXiv:1812.05905, app. C.
  """
  before = mean + jnp.exp(log_std) * jax.random.normal(key, jnp.shape(mean), jnp.float32)
  log_prob = tanh_gaussian_log_prob(before, mean, log_std) - log_volume(half_width, before.shape[0])
  return center + half_width * jnp.tanh(before), log_prob


def log_volume(half_width: Array | float, size: int) -> Array:
  """Returns by how much the log-density of `[A]` actions falls when the cube [-1, 1] is mapped onto a box.

  Args:
    half_width: `[]` or `[A]`, half of the box's width.
    size: static, A.

  Returns:
    float32[].
  """
  return jnp.sum(jnp.broadcast_to(jnp.log(jnp.asarray(half_width, jnp.float32)), (size,)))


def action_box(world: World, *, bounded: bool = True) -> tuple[Array, Array]:
  """Reads the box of a world's real actions: `center + half_width * x` maps the cube [-1, 1] onto it.

  Args:
    world: its `action_low` and `action_high` are read, numbers, arrays or (inside of a sweep) tracers.
    bounded: whether the box has to have bounds: what is squashed or clipped needs some. Without, a direction that has
      no two bounds keeps its unit.

  Returns:
    `(center [A], half_width [A])` float32.

  Raises:
    ValueError: for a world without real actions, a box of no width, or one without bounds that needs them.
  """
  size = world.action_size
  if size < 1:
    raise ValueError(f"action_size={size}: this world has no real actions")
  for name, bound in (("action_low", world.action_low), ("action_high", world.action_high)):
    if jnp.ndim(bound) and jnp.shape(bound) != (size,):
      raise ValueError(f"{name} of the world has shape {jnp.shape(bound)}, but its actions are {size} real numbers")
    if bounded and checks.known(bound) and not np.all(np.isfinite(bound)):
      raise ValueError(f"{name}={bound} of the world is no bound: actions that are squashed or clipped need two")
  checks.ordered(action_low=world.action_low, action_high=world.action_high)
  low, high = (jnp.broadcast_to(jnp.asarray(x, jnp.float32), (size,)) for x in (world.action_low, world.action_high))
  both = jnp.isfinite(low) & jnp.isfinite(high)
  low, high = jnp.where(both, low, -1), jnp.where(both, high, 1)
  return low / 2 + high / 2, high / 2 - low / 2
