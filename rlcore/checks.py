"""Checks of what a pure function was given: chex's assertions, which then say whose arguments are wrong, and which.

The names are looked up only where a check fails, while a program is traced; a compiled program has no check. An
argument that is None was not given and is not checked.
"""

from collections.abc import Callable, Collection, Mapping
import sys

import chex
import jax.numpy as jnp
import numpy as np

from rlcore.types import Array


def rank(expected: int | Collection[int], /, **arrays: Array | None):
  """Asserts that every array has the expected rank, or one of several.

  Args:
    expected: number of axes of ONE unit.
    **arrays: by the name that the caller knows.

  Raises:
    AssertionError: naming the function, the array and both ranks; one axis too many is often a forgotten `jax.vmap`.
  """
  options = {expected} if isinstance(expected, int) else set(expected)

  def say(name, x):
    if x.ndim not in options:
      hint = ": did you forget a jax.vmap?" if x.ndim > max(options) else ""
      return f"{name} has rank {x.ndim}, expected {' or '.join(map(str, sorted(options)))}{hint}"

  _check(lambda given: chex.assert_rank(given, options), say, arrays)


def shape(expected: tuple[int, ...], /, **arrays: Array | None):
  """Asserts that every array has the expected shape.

  Raises:
    AssertionError: naming the function, the array and both shapes.
  """
  say = lambda name, x: f"{name} has shape {x.shape}, expected {expected}" if x.shape != expected else None
  _check(lambda given: chex.assert_shape(given, expected), say, arrays)


def same_shape(**arrays: Array | None):
  """Asserts that all arrays have the shape of the first.

  Raises:
    AssertionError: naming the function, the first array that differs, and both shapes.
  """
  _compare(chex.assert_equal_shape, lambda shape: shape, arrays)


def same_prefix(axes: int, /, **arrays: Array | None):
  """Asserts that the first `axes` axes of all arrays have the sizes of those of the first array.

  Raises:
    AssertionError: naming the function, the first array that differs, and both shapes.
  """
  _compare(lambda given: chex.assert_equal_shape_prefix(given, axes), lambda shape: shape[:axes], arrays)


def integers(**arrays: Array | None):
  """Asserts that every array holds integers.

  Raises:
    AssertionError: naming the function, the array and its dtype.
  """
  whole = lambda x: jnp.issubdtype(x.dtype, jnp.integer)
  say = lambda name, x: None if whole(x) else f"{name} has dtype {x.dtype}, expected integers"
  _check(lambda given: chex.assert_type(given, int), say, arrays)


def _compare(check: Callable, part: Callable, arrays: Mapping[str, Array | None]):
  first, shape = next((name, np.shape(x)) for name, x in arrays.items() if x is not None)
  say = lambda name, x: f"{name} has shape {x.shape}, {first} has {shape}" if part(x.shape) != part(shape) else None
  _check(check, say, arrays)


def _check(check: Callable, say: Callable[[str, Array], str | None], arrays: Mapping[str, Array | None]):
  """Runs chex's check of all arrays; where it fails, says of the first array of which there is something to say."""
  given = {name: x if hasattr(x, "shape") else np.asarray(x) for name, x in arrays.items() if x is not None}
  try:
    check(list(given.values()))
  except AssertionError:
    what = next(filter(None, (say(name, x) for name, x in given.items())))
    raise AssertionError(f"{_caller()}: {what}") from None


def _caller() -> str:
  """Names the public function of the library that was called last, "advantages.gae" say."""
  frame = sys._getframe()
  while frame is not None:
    library, _, module = frame.f_globals.get("__name__", "").partition(".")
    name = frame.f_code.co_qualname.partition(".")[0]  # of an inner function, the one that it stands in
    if library == "rlcore" and module != "checks" and name.isidentifier() and not name.startswith("_"):
      return f"{module.partition('.')[0]}.{name}"
    frame = frame.f_back
  return "rlcore"
