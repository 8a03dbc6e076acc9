"""Contract rows of `rlcore.verifiers`."""

import numpy as np

from rlcore import verifiers
from rlcore.verifiers import arithmetic
from tests.contract import Row

_TEXTS = ("(7+15)*2-9/3", "12*3-40", "8/(3-1)*(4+4)", "7/2+1", "3+(4", "((2))")


def _tokens(text, length=14):
  ids = [arithmetic.SYMBOLS.index(c) for c in text]
  return np.array(ids + [0] * (length - len(ids)), np.int32), np.arange(length) < len(ids)


def _expression(rng):
  tokens, mask = _tokens(_TEXTS[rng.integers(len(_TEXTS))])
  return tokens, mask.astype(np.float32)


def _operands(rng):
  return tuple(rng.integers(lo, hi, 6).astype(np.int32) for lo, hi in ((10, 14), (-20, 20), (-4, 4)))


_NOTHING = (np.zeros(4, np.int32), np.zeros(4, np.float32))
_LIMIT = np.int32(arithmetic.LIMIT)

ROWS = [
    Row("evaluate_expression", verifiers.evaluate_expression, _expression, masked={1: (0,)}, degenerate=(
        (_NOTHING, (0, False, np.zeros(8), 0)), (_tokens("(1+2)*3"), (9, True, [1, 2, 3] + [0] * 5, 3)),
        (_tokens("5/0"), (0, False, np.zeros(8), 0)))),
    Row("operate", arithmetic.operate, _operands, group=(0, 1, 2), order="equivariant", degenerate=(
        ((np.int32(12), _LIMIT, np.int32(2)), (0, False)), ((np.int32(12), np.int32(0), _LIMIT), (0, True)),
        ((np.int32(13), np.int32(0), np.int32(0)), (0, False)), ((np.int32(13), np.int32(-6), np.int32(3)), (-2, True)),
        ((np.int32(11), -_LIMIT, np.int32(1)), (0, False)))),
]
