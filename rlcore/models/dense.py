"""Linear layers whose weight gradients CPUs are quick at where outputs are few, and that are initialised at once."""

from collections.abc import Callable
import functools
import math
from typing import Any

from flax import linen as nn
import jax
from jax import lax
import jax.numpy as jnp

from rlcore.types import Array, PyTree

_NARROW = 4  # times as many inputs as outputs
_TRUNCATED_STD = 0.87962566103423978  # of a standard normal that is cut off at -2 and 2
_SymbolicZero = jax.custom_derivatives.SymbolicZero


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3, 4))
def dot_general(inputs: Array, kernel: Array, dimension_numbers: Any, precision: Any = None,
                preferred_element_type: Any = None) -> Array:
  """Multiplies as `lax.dot_general` does; the same number, and the same derivatives, by another road.

  A kernel's gradient sums over the batch, which both factors have in front. The quick kernels of a CPU want the sum
  over the last axis of the first factor, and XLA folds every transposition that would bring it there back into the
  product. So the derivative puts the kernel first, which leaves the batch last, and a barrier keeps it there.
  Transposing costs as much as there are outputs: with 16 of them for 64 inputs the gradient takes 0.4 to 1 of the time,
  with 2 a third at 128 rows and a tenth at 2048, seeds as lanes of a `vmap` or not. Layers with as many outputs as
  inputs, or more, lose (1.2 to 6 times the time); they and what lies between, not measured, take the plain road, as do
  other devices. Two outputs are two products with a vector: a quarter of the time at 4 rows, as in a step of a few
  worlds, and about the same at 2048.

  Args:
    inputs: `[..., D]`.
    kernel: `[D, outputs]`.
    dimension_numbers: of `lax.dot_general`: the last axis of the inputs with the first of the kernel.
    precision: of `lax.dot_general`.
    preferred_element_type: of `lax.dot_general`.

  Returns:
    `[..., outputs]`.
  """
  return _product(inputs, kernel, dimension_numbers, precision, preferred_element_type)


def _product(inputs, kernel, dimension_numbers, precision, preferred_element_type):
  product = functools.partial(lax.dot_general, precision=precision, preferred_element_type=preferred_element_type)
  if kernel.shape[1] != 2 or jax.default_backend() != "cpu":
    return product(inputs, kernel, dimension_numbers)
  return jnp.stack([product(inputs, kernel[:, i], dimension_numbers) for i in range(2)], -1)


@functools.partial(dot_general.defjvp, symbolic_zeros=True)
def _derivative(dimension_numbers, precision, preferred_element_type, primals, tangents):
  (inputs, kernel), (d_inputs, d_kernel) = primals, tangents
  settings = dict(precision=precision, preferred_element_type=preferred_element_type)
  product = functools.partial(_product, dimension_numbers=dimension_numbers, **settings)
  terms = []
  if not isinstance(d_inputs, _SymbolicZero):
    terms.append(product(d_inputs, kernel))
  if not isinstance(d_kernel, _SymbolicZero):
    if kernel.shape[1] * _NARROW <= kernel.shape[0] and jax.default_backend() == "cpu":
      rows = lax.optimization_barrier(d_kernel.T)
      transposed = lax.dot_general(rows, inputs, (((1,), (inputs.ndim - 1,)), ((), ())), **settings)
      terms.append(jnp.moveaxis(lax.optimization_barrier(transposed), 0, -1))
    else:
      terms.append(product(inputs, d_kernel))
  return product(inputs, kernel), functools.reduce(jnp.add, terms)


Dense = functools.partial(nn.Dense, dot_general=dot_general)


class _Pool:
  """An initialiser of kernels that cuts them from one draw, one after the other; LeCun normal times a factor."""

  def __init__(self, key: Array, size: int):
    self._numbers = jax.random.truncated_normal(key, -2.0, 2.0, (size,)) / _TRUNCATED_STD
    self._used = 0

  def __call__(self, factor: float) -> nn.initializers.Initializer:
    def cut(key, shape, dtype=jnp.float32):
      del key
      start, self._used = self._used, self._used + math.prod(shape)
      return (self._numbers[start:self._used].reshape(shape) * (factor * shape[0] ** -0.5)).astype(dtype)
    return cut


def lecun_normal(factor: float) -> nn.initializers.Initializer:
  """Makes flax's own initialiser of kernels, scaled: normal, cut off at two deviations, of variance `factor**2 / D`."""
  return nn.initializers.variance_scaling(factor**2, "fan_in", "truncated_normal")


def init_at_once(make: Callable[[Callable[[float], nn.initializers.Initializer]], nn.Module], key: Array,
                 *arguments: Any) -> PyTree:
  """Initialises a module whose kernels are cut from one draw: a kernel's own takes XLA 0.1 s of a CPU to compile.

  Args:
    make: `(kernel_init) -> module`; `kernel_init(factor)` is an initialiser like `lecun_normal(factor)`.
    key: PRNG key; parameters with another initialiser draw from it as `module.init` does.
    *arguments: of the module.

  Returns:
    Its parameters.
  """
  shapes = jax.eval_shape(make(lecun_normal).init, key, *arguments)
  return make(_Pool(key, sum(math.prod(x.shape) for x in jax.tree.leaves(shapes)))).init(key, *arguments)
