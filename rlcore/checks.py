"""Checks of what a pure function was given: chex's assertions, which then say whose arguments are wrong, and which.

The names are looked up only where a check fails, while a program is traced; a compiled program has no check. An
argument that is None was not given and is not checked.
"""

from collections.abc import Callable, Collection, Mapping
import itertools
import numbers
import sys

import chex
import jax
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


def nonempty(axis: int, /, **arrays: Array | None):
  """Asserts that there is something along an axis over which a choice is made: actions, critics, classes, states.

  An empty axis of what is counted (tokens, steps, members) is like one in which all is masked and needs no check.

  Raises:
    ValueError: naming the function, the array and its shape.
  """
  for name, x in arrays.items():
    if x is not None and np.shape(x)[axis] == 0:
      raise ValueError(f"{_caller()}: {name} has shape {np.shape(x)}: nothing to choose from along axis {axis}")


def known(x) -> bool:
  """Says whether a setting was given, and as numbers: of a tracer, or an array on a device, nothing is asked."""
  return x is not None and not any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(x))


def above(bound: float, /, **settings: float | Array | None):
  """Asserts that every setting is a number above the bound; what is traced (or on a device) is not looked at.

  Raises:
    ValueError: naming the function, the setting and its value; so do the checks of settings below.
  """
  _settings(lambda x: x > bound, f"must be above {bound:g}", settings)


def at_least(bound: float, /, **settings: float | Array | None):
  """Asserts that every setting is a number not below the bound."""
  _settings(lambda x: x >= bound, f"must be at least {bound:g}", settings)


def between(low: float, high: float, /, **settings: float | Array | None):
  """Asserts that every setting is a number from `low` to `high`, both included."""
  _settings(lambda x: (x >= low) & (x <= high), f"must lie between {low:g} and {high:g}", settings)


def whole(bound: int, /, **settings: int | None):
  """Asserts that every setting is a whole number (of an integer type) not below the bound."""
  _settings(lambda x: np.issubdtype(x.dtype, np.integer), "must be a whole number", settings)
  at_least(bound, **settings)


def widths(**settings):
  """Asserts that every setting is a sequence of whole numbers above 0, hidden layers say."""
  for name, x in settings.items():
    if isinstance(x, numbers.Integral):
      raise ValueError(f"{_caller()}: {name}={x} is one width; {name} layers are a sequence of them, ({x},)")
    if np.ndim(x) != 1 or not all(isinstance(width, numbers.Integral) and width > 0 for width in x):
      raise ValueError(f"{_caller()}: {name}={_said(x)} must be a sequence of whole numbers above 0")


def ordered(**settings: float | Array | None):
  """Asserts that every setting is, element by element, below the one after it."""
  values = {name: np.asarray(x) for name, x in settings.items() if known(x)}
  for (name, x), (other, y) in itertools.pairwise(values.items()):
    if not np.all(x < y):
      raise ValueError(f"{_caller()}: {name}={_said(x)} must be below {other}={_said(y)}")


def _settings(right: Callable, rule: str, settings: Mapping[str, float | Array | None]):
  for name, x in settings.items():
    if not known(x):
      continue
    value = np.asarray(x)
    if value.dtype == object or not np.issubdtype(value.dtype, np.number) or not np.all(right(value)):
      raise ValueError(f"{_caller()}: {name}={_said(x)} {rule}")


def _said(x) -> str:
  return str(x.tolist()) if isinstance(x, (np.ndarray, np.generic)) else repr(x)


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
