"""One reverse linear recurrence, the arithmetic of every estimator in `temporal.py`.

A batch of trajectories comes as `[B, T]` (`vmap` over axis 0) or as `[T, B]` (`vmap` over axis 1), and the fast way
through memory is not the same. A function of one trajectory cannot know in which it is, so the recurrence is a
primitive that carries its time axis along, as `jax.lax.cumsum` does: `vmap` moves nothing, and the lowering chooses the
form (`_on_cpu`).
"""

from collections.abc import Callable
import functools
from typing import NamedTuple

import jax
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir
import jax.numpy as jnp

from rlcore.types import Array

_BLOCK = 8
_SMALL = 2**15  # elements below which a tenth of a millisecond does not pay for twice the compile time


class Rule(NamedTuple):
  """What a recurrence computes at one step, elementwise; made of module-level functions, so that programs are cached.

  Attributes:
    coefficients: `(*inputs) -> (offset, factor)`; the carry that leaves a step, towards earlier ones, is
      `offset + factor * carry`, where `carry` entered it from later ones.
    output: `(entering, leaving, *inputs) -> output`, given the carry before and after the step.
  """

  coefficients: Callable[..., tuple[Array, Array]]
  output: Callable[..., Array]


def reverse_recurrence(rule: Rule, inputs: tuple, mask: Array | None = None, init: Array | float = 0.0) -> Array:
  """Runs a linear recurrence backwards over one trajectory; differentiable in `inputs` and `init`.

  Args:
    rule: the step.
    inputs: arrays of `[T]` or `[]`, the first of them `[T]`; computed in float32.
    mask: `[T]` or None; where it is not set the carry passes unchanged, the output is 0, and inputs play no part.
    init: `[]` or `[1]`, the carry that enters the last step.

  Returns:
    `[T]` float32.
  """
  operands = [jnp.asarray(x).astype(jnp.float32) for x in (*inputs, init)]
  operands += [] if mask is None else [jnp.asarray(mask) > 0]
  if not operands[0].shape[0]:
    return operands[0]  # no step, no credit
  return _compiled(rule, mask is not None, *(x if x.ndim else x.reshape(1) for x in operands))


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _recurrence(rule: Rule, has_mask: bool, *operands: Array) -> Array:
  """Operands are the inputs, init and the mask, if there is one; each has length T or 1 along the time axis."""
  return _recurrence_p.bind(*operands, rule=rule, has_mask=has_mask, axis=0)


@_recurrence.defjvp
def _recurrence_jvp(rule, has_mask, primals, tangents):
  """Differentiates the plain scan, which JAX can transpose and differentiate again."""
  mask = primals[len(primals) - has_mask:]

  def plain(*operands):
    if has_mask:  # junk must not meet a derivative either
      operands = [jnp.where(mask[0], x, 0) if x.shape == mask[0].shape else x for x in operands]
    return _scan(*operands, *mask, rule=rule, has_mask=has_mask, axis=0)

  floats = len(primals) - has_mask
  tangent = jax.jvp(plain, primals[:floats], tangents[:floats])[1]
  return _recurrence(rule, has_mask, *primals), tangent


_compiled = jax.jit(_recurrence, static_argnums=(0, 1))  # a bare primitive could not run outside of jit


_HEADS = Rule(lambda offset, factor: (offset, factor), lambda entering, leaving, offset, factor: entering)


def _step(rule: Rule, has_mask: bool) -> Rule:
  """The rule as a function of all operands but init, the mask included."""
  if not has_mask:
    return rule

  def coefficients(*operands):
    offset, factor = rule.coefficients(*operands[:-1])
    return jnp.where(operands[-1], offset, 0), jnp.where(operands[-1], factor, 1)

  def output(entering, leaving, *operands):
    return jnp.where(operands[-1], rule.output(entering, leaving, *operands[:-1]), 0)

  return Rule(coefficients, output)


def _split(operands, has_mask):
  """Returns init and the other operands."""
  place = len(operands) - has_mask - 1
  return operands[place], operands[:place] + operands[place + 1:]


def _scan(*operands: Array, rule: Rule, has_mask: bool, axis: int, unroll: int = 1) -> Array:
  """Goes step by step; what is read is read once, in the order of memory if `axis` is 0."""
  step = _step(rule, has_mask)
  init, operands = _split([jnp.moveaxis(x, axis, 0) for x in operands], has_mask)
  moving = [x.shape[0] == operands[0].shape[0] for x in operands]
  constant = [x[0] for x in operands]

  def body(entering, xs):
    xs = [x if moves else y for x, moves, y in zip(xs, moving, constant)]
    offset, factor = step.coefficients(*xs)
    leaving = offset + factor * entering
    return leaving, step.output(entering, leaving, *xs)

  xs = [x if moves else None for x, moves in zip(operands, moving)]
  _, outputs = lax.scan(body, _like_carry(init[0], step.coefficients(*constant)), xs, reverse=True, unroll=unroll)
  return jnp.moveaxis(outputs, 0, axis)


def _like_carry(init, coefficients):
  """Gives init the shape of the carry and, inside of `shard_map`, the axes over which the carry varies."""
  offset, factor = coefficients
  return jnp.where(offset == factor, init, init)


def _blocks(*operands: Array, rule: Rule, has_mask: bool, axis: int, block: int = _BLOCK) -> Array:
  """Composes the steps of each block, scans over blocks, then solves all blocks at once; `axis` is the last.

  Every pass runs along the last axis, where the trajectory lies, and nothing is transposed but one carry per block.
  In the last pass element i of a block takes the steps of its block from the last down to i + 1: `block` / 2
  times the arithmetic, but all of it vectorised.
  """
  step = _step(rule, has_mask)
  length = operands[0].shape[axis]
  cut = lambda x: x.reshape(*x.shape[:-1], -1, block) if x.shape[-1] == length else x[..., None]
  init, operands = _split(operands, has_mask)
  operands = [cut(x) for x in operands]
  at = lambda s: step.coefficients(*(x[..., s:s + 1] if x.shape[-1] > 1 else x for x in operands))
  offset, factor = at(block - 1)
  for s in range(block - 2, -1, -1):
    offset_s, factor_s = at(s)
    offset, factor = offset_s + factor_s * offset, factor_s * factor
  offset, factor = jnp.broadcast_arrays(offset[..., 0], factor[..., 0])
  carry = _scan(offset, factor, init, rule=_HEADS, has_mask=False, axis=axis)[..., None]
  place = lax.broadcasted_iota(jnp.int32, (1,) * (axis + 1) + (block,), axis + 1)
  for s in range(block - 1, 0, -1):
    offset, factor = at(s)
    carry = jnp.where(place < s, offset + factor * carry, carry)
  offset, factor = step.coefficients(*operands)
  outputs = step.output(carry, offset + factor * carry, *operands)
  return outputs.reshape(*outputs.shape[:-2], length)


def _associative(*operands: Array, rule: Rule, has_mask: bool, axis: int) -> Array:
  """Composes steps pairwise, with depth log2 T."""
  step = _step(rule, has_mask)
  init, operands = _split(operands, has_mask)
  offset, factor = jnp.broadcast_arrays(*step.coefficients(*operands))
  compose = lambda late, early: (early[0] + early[1] * late[0], early[1] * late[1])
  offset, factor = lax.associative_scan(compose, (offset, factor), reverse=True, axis=axis)
  leaving = offset + factor * init
  last = jnp.broadcast_to(init, leaving.shape[:axis] + (1,) + leaving.shape[axis + 1:])
  entering = jnp.concatenate([lax.slice_in_dim(leaving, 1, None, axis=axis), last], axis)
  return step.output(entering, leaving, *operands)


def _on_cpu(*operands: Array, rule: Rule, has_mask: bool, axis: int) -> Array:
  """Picks the form.

  CPU milliseconds of one thread for advantages with an array of discounts, 1024 trajectories of 1024 steps, on a busy
  2-core AMD EPYC with jax 0.10.2 (`python -m experiments.bench.temporal` measures again):

  | form | `[T, B]` | `[B, T]` |
  |---|---|---|
  | scan, unroll 1 / 2 / 8 | 1.5 / 3.0 / 4.7 | 6.7 / 6.5 / 8.7 |
  | blocks of 4 / 8 / 16 | | 3.2 / 2.4 / 3.4 |
  | associative scan | 12 | 25 |

  Accelerators take the associative scan, which is not measured: its depth is log2 T, while a scan launches its kernels
  T times.
  """
  scan, blocks = (functools.partial(form, rule=rule, has_mask=has_mask, axis=axis) for form in (_scan, _blocks))
  length = operands[0].shape[axis]
  if axis < operands[0].ndim - 1 or operands[0].size < _SMALL or length < _BLOCK:
    return scan(*operands)
  lead = -length % _BLOCK  # steps before the first, whose outputs are dropped
  pad = lambda x: jnp.pad(x, [(0, 0)] * axis + [(lead, 0)]) if x.shape[-1] == length else x
  operands = [pad(x) for x in operands]
  # The first branch is taken always, but the compiler does not know, so it writes the operands to memory first: fused
  # into `_blocks`, which reads every element several times, whatever made them would be computed as often.
  probe = operands[0].ravel()[0]
  return lax.cond(~(probe < 0) | (probe < 1), blocks, scan, *operands)[..., lead:]


def _abstract(*operands, **_):
  shape = jnp.broadcast_shapes(*(x.shape for x in operands))
  return operands[0].update(shape=shape, dtype=jnp.dtype(jnp.float32), weak_type=False)


def _batched(operands, dims, *, axis, **params):
  """Keeps the batch axis where the first operand has it."""
  size = next(x.shape[d] for x, d in zip(operands, dims) if d is not None)
  place = next((d for d in dims if d is not None)) if dims[0] is None else dims[0]
  moved = [jnp.expand_dims(x, place) if d is None else jnp.moveaxis(x, d, place) for x, d in zip(operands, dims)]
  if dims[0] is None:
    moved[0] = jnp.repeat(moved[0], size, place)
  return _recurrence_p.bind(*moved, axis=axis + (place <= axis), **params), place


_recurrence_p = Primitive("reverse_recurrence")
_recurrence_p.def_abstract_eval(_abstract)
batching.primitive_batchers[_recurrence_p] = _batched
mlir.register_lowering(_recurrence_p, mlir.lower_fun(_associative, multiple_results=False))
mlir.register_lowering(_recurrence_p, mlir.lower_fun(_on_cpu, multiple_results=False), platform="cpu")
