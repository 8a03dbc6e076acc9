"""Velocity networks of flow models."""

from collections.abc import Sequence
import math

import jax
import jax.numpy as jnp

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
  widths = (dim + 1 + 2 * frequencies + embedding, *hidden, dim)

  def init(key: Array) -> PyTree:
    embed_key, *keys = jax.random.split(key, len(widths))
    layer = lambda key, rows, columns: dict(
        kernel=jax.random.normal(key, (rows, columns)) / math.sqrt(rows), bias=jnp.zeros(columns))
    return dict(embedding=jax.random.normal(embed_key, (num_conditions, embedding)),
                layers=[layer(*spec) for spec in zip(keys, widths[:-1], widths[1:], strict=True)])

  def velocity(params: PyTree, z: Array, sigma: Array, condition: Array) -> Array:
    angle = math.pi * sigma[:, None] * 2.0 ** jnp.arange(frequencies)
    embedded = jnp.take(params["embedding"], condition, axis=0, mode="clip")
    x = jnp.concatenate([z, sigma[:, None], jnp.sin(angle), jnp.cos(angle),
                         jnp.broadcast_to(embedded, (z.shape[0], embedding))], axis=1)
    *inner, last = params["layers"]
    for layer in inner:
      x = jax.nn.silu(x @ layer["kernel"] + layer["bias"])
    return x @ last["kernel"] + last["bias"]

  return VelocityModel(init, velocity)
