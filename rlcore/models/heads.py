"""Heads on the hidden states of a sequence model."""

import jax
import jax.numpy as jnp

from rlcore.types import Array, PyTree


def init_value_head(key: Array, dim: int, *, hidden: int | None = None) -> PyTree:
  """Draws a value head; it begins with the value 0 everywhere.

  Args:
    key: PRNG key.
    dim: D, width of the hidden states.
    hidden: width of one tanh layer in between, or None for a linear head.

  Returns:
    Parameters for `value_head`.
  """
  width = dim if hidden is None else hidden
  params = {"weight": jnp.zeros(width), "bias": jnp.zeros(())}
  if hidden is not None:
    params |= {"layer": dim**-0.5 * jax.random.normal(key, (dim, hidden)), "layer_bias": jnp.zeros(hidden)}
  return params


def value_head(params: PyTree, hidden: Array) -> Array:
  """Estimates the value of the state that each hidden state stands for.

  Args:
    params: from `init_value_head`.
    hidden: `[..., D]`.

  Returns:
    `[...]` float32.
  """
  hidden = hidden.astype(jnp.float32)
  if "layer" in params:
    hidden = jnp.tanh(hidden @ params["layer"] + params["layer_bias"])
  return hidden @ params["weight"] + params["bias"]
