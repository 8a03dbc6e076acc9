"""Rings of Gaussians in the plane, one prompt a ring, where the reward prefers one mode of each."""

import math

import jax
import jax.numpy as jnp

from rlcore.types import DenoisingTask


def make_rings(
    num_prompts: int = 4, num_modes: int = 8, radius: float = 2.0, std: float = 0.15,
    reward_width: float = 0.8) -> DenoisingTask:
  """Makes the task: prompt c is a ring of modes, turned by c / 2 of their distance / num_prompts; mode 2 c is wanted.

  Args:
    num_prompts: rings.
    num_modes: modes of a ring, evenly spaced and equally likely.
    radius: of the rings.
    std: of a mode.
    reward_width: w of the reward `exp(-|x - wanted mode|^2 / (2 w^2))`, so in (0, 1].

  Returns:
    The task; it has no judge beside the reward.
  """
  def centre(condition, mode):
    angle = 2 * math.pi * mode / num_modes + condition * math.pi / (num_modes * num_prompts / 2)
    return radius * jnp.stack([jnp.cos(angle), jnp.sin(angle)], -1)

  def sample(key, size):
    condition_key, mode_key, noise_key = jax.random.split(key, 3)
    condition = jax.random.randint(condition_key, (size,), 0, num_prompts)
    mode = jax.random.randint(mode_key, (size,), 0, num_modes)
    return centre(condition, mode) + std * jax.random.normal(noise_key, (size, 2)), condition

  def score(x, condition):
    distance = jnp.sum(jnp.square(x - centre(condition, 2 * condition)))
    return jnp.exp(-distance / (2 * reward_width**2))

  return DenoisingTask(sample, score, lambda x, condition: {}, (2,), num_prompts)
