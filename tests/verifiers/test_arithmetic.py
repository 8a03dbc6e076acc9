"""`evaluate_expression` against Python's own parser and exact fractions."""

import ast
from fractions import Fraction
import functools
import itertools
import re
import warnings

from hypothesis import given, settings, strategies as st
import jax
import numpy as np
import pytest

from rlcore.verifiers import evaluate_expression
from rlcore.verifiers.arithmetic import LIMIT, SYMBOLS

_LENGTH = 24
_evaluate = jax.jit(evaluate_expression)
_evaluate_all = jax.jit(jax.vmap(evaluate_expression))


def _oracle(text):
  """Returns (value, numbers) by Python's parser, or None if the text is not a right expression."""
  if re.search(r"(?<!\d)0\d", text):
    return None
  try:
    with warnings.catch_warnings():
      warnings.simplefilter("ignore")
      tree = ast.parse(text, mode="eval").body
  except SyntaxError:
    return None
  numbers = []

  def bounded(value):
    if value.denominator != 1 or abs(value) > LIMIT:
      raise ArithmeticError
    return value

  def visit(node):
    if isinstance(node, ast.Constant):
      numbers.append(node.value)
      return bounded(Fraction(node.value))
    if not isinstance(node, ast.BinOp):
      raise ArithmeticError
    left, right = visit(node.left), visit(node.right)
    kind = type(node.op)
    if kind is ast.Add:
      return bounded(left + right)
    if kind is ast.Sub:
      return bounded(left - right)
    if kind is ast.Mult:
      return bounded(left * right)
    if kind is ast.Div:
      return bounded(left / right)
    raise ArithmeticError

  try:
    return int(visit(tree)), numbers
  except ArithmeticError:  # ZeroDivisionError is one
    return None


def _ids(text):
  return [SYMBOLS.index(c) if c in SYMBOLS else len(SYMBOLS) for c in text]


def _check(text, result, max_numbers=8):
  want = _oracle(text)
  if want is None or len(want[1]) > max_numbers:
    assert not result.ok, text
    assert result.value == 0 and result.count == 0 and not np.any(result.numbers)
  else:
    value, numbers = want
    assert result.ok, text
    assert result.value == value and result.count == len(numbers), text
    np.testing.assert_array_equal(result.numbers, numbers + [0] * (max_numbers - len(numbers)))


_NUMBERS = st.one_of(st.integers(0, 12), st.sampled_from([46341, 99999, 10**9, 10**9 + 1])).map(str)
_VALID = st.recursive(_NUMBERS, lambda inner: st.one_of(
    st.tuples(inner, st.sampled_from("+-*/"), inner).map("".join), inner.map(lambda text: f"({text})")), max_leaves=6)


@st.composite
def _texts(draw):
  """A valid expression, often with a few characters replaced, removed or inserted, or any string at all."""
  text = draw(st.one_of(_VALID, _VALID, _VALID, st.text(SYMBOLS + "=", max_size=8)))
  for _ in range(draw(st.integers(0, 2))):
    i = draw(st.integers(0, len(text)))
    text = text[:i] + draw(st.sampled_from(["", *SYMBOLS])) + text[i + draw(st.integers(0, 1)):]
  return text[:_LENGTH]


@settings(max_examples=400, deadline=None)
@given(_texts(), st.randoms(use_true_random=False))
def test_equals_python(text, random):
  places = sorted(random.sample(range(_LENGTH), len(text)))  # what is between the places is masked junk
  tokens = np.array([random.choice([*range(20), -1, 10**6]) for _ in range(_LENGTH)], np.int32)
  mask = np.zeros(_LENGTH, np.float32)
  tokens[places], mask[places] = _ids(text), 1
  _check(text, jax.device_get(_evaluate(tokens, mask)))


def test_equals_python_on_every_short_string():
  texts = ["".join(t) for n in range(6) for t in itertools.product("03+-*/()"[:8 if n < 5 else 7], repeat=n)]
  texts += ["".join(t) for t in itertools.product("36/-()", repeat=5)]
  tokens = np.zeros((len(texts), 5), np.int32)
  mask = np.zeros((len(texts), 5), np.float32)
  for i, text in enumerate(texts):
    tokens[i, :len(text)], mask[i, :len(text)] = _ids(text), 1
  result = jax.device_get(_evaluate_all(tokens, mask))
  assert result.ok.sum() > 50
  want = [_oracle(text) for text in texts]
  np.testing.assert_array_equal(result.ok, [w is not None for w in want])
  np.testing.assert_array_equal(result.value, [w[0] if w else 0 for w in want])
  np.testing.assert_array_equal(result.count, [len(w[1]) if w else 0 for w in want])


@pytest.mark.parametrize("text, value", [
    ("2+3*4", 14), ("(2+3)*4", 20), ("9-4-3", 2), ("8/4/2", 1), ("8/4*2", 4), ("3-7+5", 1), ("(3-7)/2", -2),
    ("((7))", 7), ("1000000000", 10**9), ("40000*40000", None), ("1000000000+1", None), ("1000000001", None),
    ("0-1000000000-1", None), ("7/2", None), ("7/2*2", None), ("1/0", None), ("0/5", 0), ("-3", None),
    ("+3", None), ("3-+4", None), ("2*-3", None), ("03", None), ("10", 10), ("", None), ("()", None),
    ("(3)(4)", None), ("3(4)", None), ("(3)4", None), (")3(", None), ("3+", None), ("*3", None), ("(3", None),
    ("3)", None), ("2**3", None), ("7//2", None), ("3=3", None)])
def test_worked_examples(text, value):
  tokens, mask = np.zeros(_LENGTH, np.int32), np.zeros(_LENGTH, np.float32)
  tokens[:len(text)], mask[:len(text)] = _ids(text), 1
  result = _evaluate(tokens, mask)
  assert (int(result.value) if result.ok else None) == value


def test_bounds_on_numbers_and_depth():
  tokens, mask = np.array(_ids("((1+2)+3)")), np.ones(9)
  assert jax.jit(functools.partial(evaluate_expression, max_numbers=3, max_depth=2))(tokens, mask).ok
  assert not jax.jit(functools.partial(evaluate_expression, max_numbers=2))(tokens, mask).ok
  assert not jax.jit(functools.partial(evaluate_expression, max_depth=1))(tokens, mask).ok


def test_forgotten_vmap_fails():
  with pytest.raises(AssertionError):
    evaluate_expression(np.zeros((2, 3), np.int32), np.ones((2, 3)))
