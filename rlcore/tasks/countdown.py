"""Countdown: write an expression that uses the given numbers once each and equals the target.

The prompt `3,5,7=22:` asks for an expression such as `(7+15)*1`; the response is its characters and the end token.
"""

import ast
import functools
import itertools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rlcore import stats
from rlcore.types import Array, Problem, Task
from rlcore.verifiers import evaluate_expression
from rlcore.verifiers.arithmetic import SYMBOLS, operate

_TEXT = SYMBOLS + "=,: "
_EOS = len(_TEXT)
_PAD = _EOS + 1
_EOS_TEXT = "."
_NUMBER = -1  # the place of a number in a template
_NOTHING = -2
_SYMBOL_OF = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}


class CountdownTarget(NamedTuple):
  """What the verifier of a puzzle reads.

  Attributes:
    numbers: `[N]` int32, ascending.
    target: int32.
    solution: `[T]` int32, one correct response, with its end token, then padding.
  """

  numbers: Array
  target: Array
  solution: Array


def _chains(size: int, part, operators: str) -> list[str]:
  """Returns every `part op part op ...` of at least two parts with `size` numbers in total."""
  return [
      first + operator + rest
      for k in range(1, size) for first in part(k) for operator in operators
      for rest in part(size - k) + _chains(size - k, part, operators)]


def _sums(size: int) -> list[str]:
  return _chains(size, lambda k: ["n"] if k == 1 else _products(k), "+-")


def _products(size: int) -> list[str]:
  return _chains(size, lambda k: ["n"] if k == 1 else [f"({text})" for text in _sums(k)], "*/")


def _steps(text: str) -> list[tuple[int, int, int]]:
  """Returns the operations of a form in order: `(symbol, i, j)` replaces number i by `number i symbol number j`."""
  steps = []

  def visit(node, first: int) -> int:
    """Appends the operations of the subtree whose numbers begin at `first`; returns where the next one's begin."""
    if isinstance(node, ast.Name):
      return first + 1
    middle = visit(node.left, first)
    end = visit(node.right, middle)
    steps.append((SYMBOLS.index(_SYMBOL_OF[type(node.op)]), first, middle))
    return end

  visit(ast.parse(text, mode="eval").body, 0)
  return steps


@functools.cache
def _forms(size: int) -> tuple[np.ndarray, np.ndarray]:
  """Returns all forms of expression of `size` numbers: their templates `[M, L]` and operations `[M, size - 1, 3]`.

  Parentheses stand only around a sum inside a product. Every value that any expression reaches is reached by one of
  these forms, as `a-(b-c)` is `a-b+c` and so on.
  """
  texts = _sums(size) + _products(size)
  length = max(map(len, texts))
  codes = [[_NUMBER if c == "n" else SYMBOLS.index(c) for c in t] + [_NOTHING] * (length - len(t)) for t in texts]
  return np.array(codes, np.int32), np.array([_steps(t) for t in texts], np.int32)


def _mix(fields: list) -> Array:
  """Hashes uint32 arrays to one (NumPy or JAX alike), so that every bit of the result depends on every bit."""
  state = np.uint32(0x9E3779B9)
  for field in fields:
    state = (state ^ field) * np.uint32(0x85EBCA6B)
    state = (state ^ (state >> 15)) * np.uint32(0xC2B2AE35)
    state = state ^ (state >> 16)
  return state


def _is_test(numbers, target, test_fraction: float):
  """Says to which split a puzzle belongs: `numbers` `[..., N]` ascending, `target` `[...]`; order never matters."""
  fields = [numbers[..., i].astype(np.uint32) for i in range(numbers.shape[-1])] + [target.astype(np.uint32)]
  return _mix(fields) < np.uint32(round(test_fraction * 2**32))


def _digits(numbers: Array, width: int) -> tuple[Array, Array]:
  """Writes `[L]` numbers as `[L, width]` digits, right aligned, and says which of them are written."""
  powers = 10 ** np.arange(width - 1, -1, -1, dtype=np.int32)
  return numbers[:, None] // powers % 10, (numbers[:, None] >= powers) | (powers == 1)


def _fill_in(template: Array, numbers: Array, width: int) -> tuple[Array, Array]:
  """Puts `numbers` `[N]` in the places of a template: characters and their mask, `[L * width]` (with gaps)."""
  is_number = template == _NUMBER
  digits, written = _digits(numbers[jnp.cumsum(is_number) - is_number], width)
  last = jnp.arange(width) == width - 1  # any other symbol takes one of the `width` places
  chars = jnp.where(is_number[:, None], digits, template[:, None])
  keep = jnp.where(is_number[:, None], written, last & (template != _NOTHING)[:, None])
  return chars.reshape(-1), keep.reshape(-1)


def _compact(chars: Array, keep: Array, length: int, fill: int, *, right: bool = False) -> Array:
  """Closes the gaps: the kept characters first (or, with `right`, last) in `[length]`, `fill` elsewhere."""
  index = jnp.cumsum(keep) - 1 + (length - jnp.sum(keep) if right else 0)
  return jnp.full(length, fill, jnp.int32).at[jnp.where(keep, index, length)].set(chars, mode="drop")


def _encode(text: str) -> list[int]:
  ids = {c: i for i, c in enumerate(_TEXT)} | {_EOS_TEXT: _EOS}
  for position, c in enumerate(text):
    if c not in ids:
      raise ValueError(f"character {c!r} at position {position} of {text!r} is not one of {''.join(ids)!r}")
  return [ids[c] for c in text]


def _decode(tokens) -> str:
  symbols = dict(enumerate(_TEXT)) | {_EOS: _EOS_TEXT, _PAD: ""}
  return "".join(symbols.get(int(i), "?") for i in np.asarray(tokens).reshape(-1))


def _check(num_numbers: int, max_number: int, max_target: int, test_fraction: float):
  if not 2 <= num_numbers <= 5:
    raise ValueError(f"num_numbers must be 2 to 5, not {num_numbers}")
  if not 1 <= max_number <= 999:
    raise ValueError(f"max_number must be 1 to 999, not {max_number}")
  if not 1 <= max_target <= 99999:
    raise ValueError(f"max_target must be 1 to 99999, not {max_target}")
  if not 0 < test_fraction < 1:
    raise ValueError(f"test_fraction must lie between 0 and 1, not {test_fraction}")
  # The plain sums are puzzles; if they fall into both splits, neither is empty and every draw comes to an end.
  multisets = itertools.combinations_with_replacement(range(1, max_number + 1), num_numbers)
  numbers = np.array(list(itertools.islice(multisets, 20000)), np.uint32)
  totals = numbers.sum(-1).astype(np.uint32)
  in_test = _is_test(numbers, totals, test_fraction)[totals <= max_target]
  if in_test.all() or not in_test.any():
    raise ValueError(
        f"num_numbers={num_numbers}, max_number={max_number}, max_target={max_target} give too few puzzles for "
        f"test_fraction={test_fraction}: raise max_number or max_target, or move test_fraction towards 0.5")


def make_countdown(
    *, num_numbers: int = 3, max_number: int = 9, max_target: int = 50, test_fraction: float = 0.1,
    shuffle: bool = True) -> Task:
  """Makes the Countdown task: reach a target with given numbers, each used once, by `+ - * /`.

  A response earns 1 if the characters before its first end token are an expression in the sense of
  `verifiers.evaluate_expression` (parentheses allowed, exact division only, negative intermediate results allowed)
  that uses every given number exactly once and equals the target, else 0; so does a response without end token.

  A puzzle is the multiset of its numbers and the target; an integer hash of it decides its split, so a test puzzle
  occurs in training in no order of its numbers. Sampling draws uniform numbers and a uniform form of expression
  (`demonstration` is that expression: least parentheses, operands in any order) until the target is in range and the
  puzzle belongs to the split asked for; both splits are known to be non-empty, so that ends and is always right.

  Args:
    num_numbers: how many numbers, 2 to 5.
    max_number: numbers are 1 to this, drawn with replacement.
    max_target: targets are 1 to this.
    test_fraction: share of the puzzles that is held out.
    shuffle: whether the prompt lists the numbers in random order; ascending otherwise.

  Returns:
    A `Task` whose `Problem.target` is a `CountdownTarget`. All arguments are static.

  Raises:
    ValueError: an argument is out of range or leaves a split empty.

  Reference: the numbers round of the television game Countdown; no paper.
  """
  _check(num_numbers, max_number, max_target, test_fraction)
  templates, steps = _forms(num_numbers)
  width = len(str(max_number))
  symbols = (templates >= 0).sum(-1).max()
  max_response = int(symbols) + num_numbers * width + 1
  max_prompt = num_numbers * (width + 1) + len(str(max_target)) + 1

  def candidate(bits):
    """Makes a puzzle of `[N + 1]` random bits (the bias of the modulo is below one in a million)."""
    numbers = (bits[1:] % max_number).astype(jnp.int32) + 1
    form = (bits[0] % len(templates)).astype(jnp.int32)
    values, good = numbers, True
    for symbol, i, j in jnp.asarray(steps)[form]:
      value, exact = operate(symbol, values[i], values[j])
      values, good = jnp.where(jnp.arange(num_numbers) == i, value, values), good & exact
    return good & (values[0] >= 1) & (values[0] <= max_target), numbers, form, values[0]

  def draw(words, split):
    """Draws batches of candidates, some eight of the right split each, until one of them will do."""
    share = test_fraction if split == "test" else 1 - test_fraction
    count = min(512, math.ceil(8 / share))
    counter = np.arange(count * (num_numbers + 1), dtype=np.uint32).reshape(count, num_numbers + 1)

    def attempt(carry):
      good, numbers, form, target = jax.vmap(candidate)(_mix([*words, carry[0] + counter]))
      good &= _is_test(jnp.sort(numbers), target, test_fraction) == (split == "test")
      first = jnp.argmax(good)
      return carry[0] + counter.size, good[first], numbers[first], form[first], target[first]

    zero = 0 * words[0]  # made of the key, so that it varies over the same devices
    start = (zero, zero > 0, jnp.zeros(num_numbers, jnp.int32) + zero.astype(jnp.int32), *[zero.astype(jnp.int32)] * 2)
    return jax.lax.while_loop(lambda carry: ~carry[1], attempt, start)[2:]

  def write_prompt(numbers, target):
    template = [t for _ in range(num_numbers) for t in (_TEXT.index(","), _NUMBER)][1:]
    template += [_TEXT.index("="), _NUMBER, _TEXT.index(":")]
    width_all = max(width, len(str(max_target)))
    chars, keep = _fill_in(jnp.array(template), jnp.append(numbers, target), width_all)
    return _compact(chars, keep, max_prompt, _PAD, right=True)

  def sample(key, split):
    if split not in ("train", "test"):
      raise ValueError(f"split must be 'train' or 'test', not {split!r}")
    # One call of the generator, then a hash of its words and a counter: threefry is slow to compile, most of all in
    # a loop.
    words = jax.random.bits(key, (3,))
    numbers, form, target = draw(words[:2], split)
    ascending = jnp.sort(numbers)
    shown = ascending[jnp.argsort(_mix([words[2], np.arange(num_numbers, dtype=np.uint32)]))] if shuffle else ascending
    chars, keep = _fill_in(jnp.asarray(templates)[form], numbers, width)
    chars, keep = jnp.append(chars, _EOS), jnp.append(keep, True)
    prompt = write_prompt(shown, target)
    solution = _compact(chars, keep, max_response, _PAD)
    return Problem(prompt, (prompt != _PAD).astype(jnp.float32), CountdownTarget(ascending, target, solution))

  def score(problem, tokens, mask):
    counted = stats.as_mask(mask, tokens)
    ends = counted & (tokens == _EOS)
    before_end = counted & (jnp.cumsum(ends) == 0)
    result = evaluate_expression(tokens, before_end, max_numbers=num_numbers)
    same_numbers = (result.count == num_numbers) & jnp.all(jnp.sort(result.numbers) == problem.target.numbers)
    right = result.ok & same_numbers & (result.value == problem.target.target) & jnp.any(ends)
    return right.astype(jnp.float32)

  def demonstration(problem):
    tokens = problem.target.solution
    return tokens, (tokens != _PAD).astype(jnp.float32)

  return Task(
      sample=sample, score=score, demonstration=demonstration, encode=_encode, decode=_decode,
      vocab_size=_PAD + 1, eos_id=_EOS, pad_id=_PAD, max_prompt=max_prompt, max_response=max_response)
