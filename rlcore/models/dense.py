"""Linear layers of few outputs, heads above all, whose weight gradients CPUs are quick at."""

import functools
from typing import Any

from flax import linen as nn
import jax
from jax import lax
import jax.numpy as jnp

from rlcore.types import Array

_NARROW = 4  # times as many inputs as outputs
_SymbolicZero = jax.custom_derivatives.SymbolicZero


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3, 4))
def dot_general(inputs: Array, kernel: Array, dimension_numbers: Any, precision: Any = None,
                preferred_element_type: Any = None) -> Array:
  """Multiplies as `lax.dot_general` does; the same number, and the same derivatives, by another road.

  A kernel's gradient sums over the batch, which both factors have in front. The quick kernels of a CPU want the sum over
  the last axis of the first factor, and XLA folds every transposition that would bring it there back into the product.
  So the derivative puts the kernel first, which leaves the batch last, and a barrier keeps it there. Transposing costs
  as much as there are outputs: with a quarter as many outputs as inputs the gradient takes 0.4 to 0.9 of the time, with
  2 for 64 a third at 128 rows and a tenth at 2048, seeds as lanes of a `vmap` or not. Wider layers lose (1.2 to 6 times
  the time) and take the plain road, as do other devices.

  Args:
    inputs: `[..., D]`.
    kernel: `[D, outputs]`.
    dimension_numbers: of `lax.dot_general`: the last axis of the inputs with the first of the kernel.
    precision: of `lax.dot_general`.
    preferred_element_type: of `lax.dot_general`.

  Returns:
    `[..., outputs]`.
  """
  return lax.dot_general(inputs, kernel, dimension_numbers, precision, preferred_element_type)


@functools.partial(dot_general.defjvp, symbolic_zeros=True)
def _derivative(dimension_numbers, precision, preferred_element_type, primals, tangents):
  (inputs, kernel), (d_inputs, d_kernel) = primals, tangents
  product = functools.partial(lax.dot_general, precision=precision, preferred_element_type=preferred_element_type)
  terms = []
  if not isinstance(d_inputs, _SymbolicZero):
    terms.append(product(d_inputs, kernel, dimension_numbers))
  if not isinstance(d_kernel, _SymbolicZero):
    if kernel.shape[1] * _NARROW <= kernel.shape[0] and jax.default_backend() == "cpu":
      rows = lax.optimization_barrier(d_kernel.T)
      transposed = product(rows, inputs, (((1,), (inputs.ndim - 1,)), ((), ())))
      terms.append(jnp.moveaxis(lax.optimization_barrier(transposed), 0, -1))
    else:
      terms.append(product(inputs, d_kernel, dimension_numbers))
  return product(inputs, kernel, dimension_numbers), functools.reduce(jnp.add, terms)


Dense = functools.partial(nn.Dense, dot_general=dot_general)
