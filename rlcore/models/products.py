"""Matrix products in the forms that the compiler makes fast on a CPU, forwards and backwards."""

from typing import Any

import jax
import jax.numpy as jnp

from rlcore.types import Array


@jax.custom_vjp
def _product(x: Array, weight: Array) -> Array:
  """Multiplies `[rows, inputs]` by `[inputs, outputs]`."""
  return x @ weight


def _product_gradient(saved, change):
  """Turns the narrower factor of the weight's gradient by itself: a product over the rows of both is slow on a CPU."""
  x, weight = saved
  barrier, wide = jax.lax.optimization_barrier, x.shape[1] < change.shape[1]
  return change @ weight.T, barrier(x.T) @ change if wide else barrier(barrier(change.T) @ x).T


_product.defvjp(lambda x, weight: (x @ weight, (x, weight)), _product_gradient)


def matmul(x: Array, weight: Array) -> Array:
  """Multiplies `[..., inputs]` by `weight [inputs, outputs]`, in the dtype of `x`."""
  return _product(x.reshape(-1, x.shape[-1]), weight.astype(x.dtype)).reshape(*x.shape[:-1], -1)


def matmul_few(x: Array, weight: Array, dtype: Any = None) -> Array:
  """Multiplies few rows `[..., inputs]` by `weight [outputs, inputs]`, which is then read once and in order.

  Args:
    x: the rows.
    weight: taken in the dtype of `x`.
    dtype: of the result; None for that of `x`.

  Returns:
    `[..., outputs]`.
  """
  # without the barriers the compiler turns the product around again
  columns = jax.lax.optimization_barrier(x.reshape(-1, x.shape[-1]).T)
  out = jnp.matmul(weight.astype(x.dtype), columns, preferred_element_type=dtype)
  return jax.lax.optimization_barrier(out).T.reshape(*x.shape[:-1], -1)
