"""Velocity networks of flow models."""

from collections.abc import Sequence
import math

import jax
import jax.numpy as jnp

from rlcore.models import mlp
from rlcore.types import Array, PyTree, VelocityModel


def make_velocity_mlp(
    dim: int, num_conditions: int, *, hidden: Sequence[int] = (64, 64, 64), embedding: int = 16,
    frequencies: int = 0) -> VelocityModel:
  """Makes a perceptron that reads the state, the noise level and a learnt embedding of the prompt.

  Args:
    dim: D, of the state.
    num_conditions: prompts, numbered from 0.
    hidden: width of each hidden layer (SiLU).
    embedding: width of the embedding of a prompt.
    frequencies: sines and cosines of pi sigma, 2 pi sigma, 4 pi sigma .. that are read beside sigma itself.

  Returns:
    The model; its parameters are float32.
  """
  network = mlp.MLP(tuple(hidden), dim, activation="silu")

  def init(key: Array) -> PyTree:
    embed_key, key = jax.random.split(key)
    inputs = jnp.zeros((1, dim + 1 + 2 * frequencies + embedding))
    return dict(embedding=jax.random.normal(embed_key, (num_conditions, embedding)), network=network.init(key, inputs))

  def velocity(params: PyTree, z: Array, sigma: Array, condition: Array) -> Array:
    angle = math.pi * sigma[:, None] * 2.0 ** jnp.arange(frequencies)
    embedded = jnp.take(params["embedding"], condition, axis=0, mode="clip")
    embedded = jnp.broadcast_to(embedded, (z.shape[0], embedding))
    inputs = jnp.concatenate([z, sigma[:, None], jnp.sin(angle), jnp.cos(angle), embedded], axis=1)
    return network.apply(params["network"], inputs)

  return VelocityModel(init, velocity)
