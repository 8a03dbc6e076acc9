"""The contract of every public function of the pure rooms, one `Row` each.

A room's rows live in `tests/contract/<room>.py` as a list called `ROWS`; `tests/test_contract.py` collects them all.
"""

from collections.abc import Callable, Mapping
import dataclasses
import importlib
import pkgutil
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Row:
  """One function with the settings under which it is checked.

  Attributes:
    name: `function` or `function[variant]`; the part before the bracket is the public name.
    fn: the function.
    example: `(rng) -> tuple of arrays`, the positional arguments of ONE unit; shapes must not depend on `rng`.
    kwargs: keyword arguments bound statically.
    grads: positions whose gradient must be finite, and not all zero.
    stopped: positions whose gradient must be exactly zero (estimators stop gradients).
    masked: position of a mask -> positions of the arrays it hides; NaN, inf and huge junk there changes nothing.
    group: positions whose axis 0 is the group (or any set whose order must not matter).
    order: what a permutation of `group` does: outputs are "equivariant" along axis 0, "invariant", or not checked ("").
    low_precision: positions that are also tried in bfloat16; every floating output must stay float32.
    split: positions whose axis 0 may be spread over devices when the function takes `axis_name`.
    split_out: for each output leaf, "split" (axis 0 is spread too) or "same" (every device holds it whole).
    degenerate: pairs (args, expected); expected is a tuple of arrays, or a predicate of the output.
    rtol: relative tolerance between the compiled forms and the eager form.
  """

  name: str
  fn: Callable
  example: Callable[[np.random.Generator], tuple]
  kwargs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  grads: tuple[int, ...] = ()
  stopped: tuple[int, ...] = ()
  masked: Mapping[int, tuple[int, ...]] = dataclasses.field(default_factory=dict)
  group: tuple[int, ...] = ()
  order: str = ""
  low_precision: tuple[int, ...] = ()
  split: tuple[int, ...] = ()
  split_out: tuple[str, ...] = ()
  degenerate: tuple = ()
  rtol: float = 2e-5


def all_rows() -> list[Row]:
  """Collects the `ROWS` of every module of this package."""
  rows = []
  for info in pkgutil.iter_modules(__path__):
    rows += importlib.import_module(f"{__name__}.{info.name}").ROWS
  return rows
