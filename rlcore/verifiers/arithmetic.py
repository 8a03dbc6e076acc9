"""Integer arithmetic on characters: parse and evaluate an expression inside a jitted program."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from rlcore import checks, stats
from rlcore.types import Array

SYMBOLS = "0123456789+-*/()"
"""The alphabet: the id of a symbol is its position here; any other id makes an expression invalid."""

LIMIT = 10**9
"""No number and no intermediate result may exceed this in magnitude (so the sum of any two still fits in int32)."""

_PLUS, _MINUS, _TIMES, _OVER, _OPEN, _CLOSE = (SYMBOLS.index(c) for c in "+-*/()")


class Evaluation(NamedTuple):
  """What an expression says; all zeros where it is not `ok`.

  Attributes:
    value: int32, the value of the expression.
    ok: bool, whether it parses and every division in it is exact.
    numbers: `[max_numbers]` int32, the numbers it uses from left to right, then zeros.
    count: int32, how many numbers it uses.
  """

  value: Array
  ok: Array
  numbers: Array
  count: Array


class _Level(NamedTuple):
  """One level of parentheses reads `total add (term multiply <next factor>)`; `add` and `multiply` are symbol ids."""

  total: Array
  add: Array
  term: Array
  multiply: Array


class _State(NamedTuple):
  level: _Level
  stack: _Level  # the enclosing levels, [D] each
  depth: Array
  number: Array  # the number being read
  reading: Array
  operand: Array  # whether an operand must come next
  ok: Array
  numbers: Array
  count: Array


def operate(symbol: Array, left: Array, right: Array) -> tuple[Array, Array]:
  """Computes `left symbol right` in exact integers.

  Args:
    symbol: int, the id of `+`, `-`, `*` or `/` in `SYMBOLS`.
    left: int32 of at most `LIMIT` in magnitude; all three broadcast.
    right: likewise.

  Returns:
    `(value, ok)`; `ok` is False, and the value 0, on a remainder, a division by zero or a result beyond `LIMIT`.

  Reference: the four operations of the Countdown numbers game; no paper.
  """
  symbol, left, right = map(jnp.asarray, (symbol, left, right))
  divisor = jnp.where(right == 0, 1, right)
  fits = jnp.abs(left) <= LIMIT // jnp.abs(divisor)
  product = jnp.where(fits, left, 0) * right
  exact = (right != 0) & (jax.lax.rem(left, divisor) == 0)
  kinds = [symbol == _PLUS, symbol == _MINUS, symbol == _TIMES]
  value = jnp.select(kinds, [left + right, left - right, product], jax.lax.div(left, divisor))
  ok = jnp.select(kinds, [True, True, fits], exact) & (jnp.abs(value) <= LIMIT)
  return jnp.where(ok, value, 0), ok


def _value(level: _Level) -> tuple[Array, Array]:
  return operate(level.add, level.total, level.term)


def _apply_factor(level: _Level, factor: Array) -> tuple[_Level, Array]:
  term, ok = operate(level.multiply, level.term, factor)
  return level._replace(term=term), ok


def _where(condition: Array, yes, no):
  return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)


def _new_level() -> _Level:
  return _Level(*(jnp.int32(x) for x in (0, _PLUS, 1, _TIMES)))


def _finish_number(state: _State) -> _State:
  """Ends the number being read, if any: it becomes a factor and is noted as used."""
  level, good = _apply_factor(state.level, state.number)
  slot = (jnp.arange(state.numbers.shape[0]) == state.count) & state.reading
  return state._replace(
      level=_where(state.reading, level, state.level),
      ok=state.ok & (~state.reading | (good & (state.count < state.numbers.shape[0]))),
      numbers=jnp.where(slot, state.number, state.numbers),
      count=state.count + state.reading,
      reading=jnp.zeros_like(state.reading))


def _digit(state: _State, char: Array) -> _State:
  number = jnp.where(state.reading, state.number * 10, 0) + char
  good = state.operand | (state.reading & (state.number > 0) & (state.number <= (LIMIT - char) // 10))
  return state._replace(
      number=jnp.where(good, number, 0), reading=jnp.ones_like(state.reading), ok=state.ok & good,
      operand=jnp.zeros_like(state.operand))


def _operator(state: _State, char: Array) -> _State:
  total, good = _value(state.level)
  ends_term = char <= _MINUS
  ended = _Level(total, char, jnp.int32(1), jnp.int32(_TIMES))
  return state._replace(
      level=_where(ends_term, ended, state.level._replace(multiply=char)),
      ok=state.ok & ~state.operand & (good | ~ends_term), operand=jnp.ones_like(state.operand))


def _open(state: _State) -> _State:
  slot = jnp.arange(state.stack.total.shape[0]) == state.depth
  return state._replace(
      level=_new_level(), stack=jax.tree.map(lambda s, x: jnp.where(slot, x, s), state.stack, state.level),
      depth=state.depth + 1, ok=state.ok & state.operand & jnp.any(slot))


def _close(state: _State) -> _State:
  value, in_bounds = _value(state.level)
  slot = jnp.arange(state.stack.total.shape[0]) == state.depth - 1
  outer = jax.tree.map(lambda s: jnp.sum(jnp.where(slot, s, 0)), state.stack)
  level, good = _apply_factor(outer, value)
  return state._replace(
      level=level, depth=state.depth - 1, ok=state.ok & ~state.operand & (state.depth > 0) & in_bounds & good)


def _read(state: _State, char: Array) -> _State:
  """Reads one character; everything it does costs O(1), as no operator waits on a stack inside one level."""
  done = _finish_number(state)
  forms = [((char >= 0) & (char <= 9), _digit(state, char)), ((char >= _PLUS) & (char <= _OVER), _operator(done, char)),
           (char == _OPEN, _open(done)), (char == _CLOSE, _close(done))]
  result = state._replace(ok=jnp.zeros_like(state.ok))
  for condition, after in forms:
    result = _where(condition, after, result)
  return result


def evaluate_expression(
    tokens: Array, mask: Array, *, max_numbers: int = 8, max_depth: int | None = None) -> Evaluation:
  """Parses and evaluates one integer expression of `+ - * /` and parentheses.

  Usual precedence, operators of one precedence from left to right. Wrong (`ok` False) are: an empty or malformed
  expression, a symbol outside the alphabet, a sign (`-3`), implicit multiplication, a leading zero (`07`; `0` itself
  is a number), a division by zero or with a remainder (every intermediate result is an integer; it may be
  negative), a magnitude above `LIMIT`, and more numbers or deeper parentheses than asked for.

  Args:
    tokens: `[T]` int, ids of `SYMBOLS`.
    mask: `[T]`, > 0 on the characters of the expression; the others are skipped, wherever they stand.
    max_numbers: most numbers an expression may use; static.
    max_depth: deepest nesting of parentheses; static. None: as deep as T characters can nest.

  Returns:
    An `Evaluation`.

  Reference: the four operations of the Countdown numbers game; no paper.
  """
  tokens, mask = map(jnp.asarray, (tokens, mask))
  checks.rank(1, tokens=tokens)
  checks.same_shape(tokens=tokens, mask=mask)
  depth = max(1, (tokens.shape[0] - 1) // 2) if max_depth is None else max_depth
  counted = stats.as_mask(mask, tokens)
  zero = 0 * jnp.sum(tokens.astype(jnp.int32) * counted)  # made of the input, so that it varies over the same devices
  start = _State(
      level=jax.tree.map(lambda x: x + zero, _new_level()), stack=_Level(*[jnp.zeros(depth, jnp.int32) + zero] * 4),
      depth=zero, number=zero, reading=zero > 0, operand=zero == 0, ok=zero == 0,
      numbers=jnp.zeros(max_numbers, jnp.int32) + zero, count=zero)

  def step(state, inputs):
    char, counts = inputs
    return _where(counts, _read(state, char), state), None

  state, _ = jax.lax.scan(step, start, (tokens.astype(jnp.int32), counted))
  state = _finish_number(state)
  value, in_bounds = _value(state.level)
  ok = state.ok & ~state.operand & (state.depth == 0) & in_bounds
  return Evaluation(
      value=jnp.where(ok, value, 0), ok=ok, numbers=jnp.where(ok, state.numbers, 0),
      count=jnp.where(ok, state.count, 0))
