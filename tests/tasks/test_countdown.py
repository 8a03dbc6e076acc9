"""Countdown: puzzles, splits and verdicts against brute force in Python."""

import ast
from collections import Counter
from fractions import Fraction
import functools
import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore.tasks import make_countdown
from rlcore.tasks.countdown import CountdownTarget
from rlcore.types import Problem

_SMALL = dict(num_numbers=3, max_number=4, max_target=12, test_fraction=0.3)


@functools.cache
def _make(**kwargs):
  """Returns the task, its sampler over `[B]` keys and its scorer of `[B]` responses, compiled once per test run."""
  task = make_countdown(**kwargs)
  sample = jax.jit(lambda keys, split: jax.vmap(lambda key: task.sample(key, split))(keys), static_argnums=1)
  return task, sample, jax.jit(jax.vmap(task.score))


def _draw(kwargs, split, count, seed=0):
  return jax.device_get(_make(**kwargs)[1](jax.random.split(jax.random.key(seed), count), split))


def _puzzles(problems):
  return {(*numbers, target) for numbers, target in zip(
      problems.target.numbers.tolist(), problems.target.target.tolist())}


def _values(numbers):
  """Returns what any expression of all the numbers in this order can reach with integer intermediate results."""
  if len(numbers) == 1:
    return {Fraction(numbers[0])}
  values = set()
  for k in range(1, len(numbers)):
    for a, b in itertools.product(_values(numbers[:k]), _values(numbers[k:])):
      values |= {a + b, a - b, a * b} | ({a / b} if b and (a / b).denominator == 1 else set())
  return values


def test_splits_have_no_puzzle_in_common():
  train, test = _puzzles(_draw({}, "train", 100_000)), _puzzles(_draw({}, "test", 10_000, seed=1))
  assert not train & test
  assert 0.07 < len(test) / (len(train) + len(test)) < 0.13


def test_both_splits_together_are_every_solvable_puzzle():
  drawn = [_puzzles(_draw(_SMALL, split, 15_000)) for split in ("train", "test")]
  solvable = {
      (*numbers, int(v)) for numbers in itertools.combinations_with_replacement(range(1, 5), 3)
      for order in itertools.permutations(numbers) for v in _values(order) if 1 <= v <= 12}
  assert drawn[0] | drawn[1] == solvable


@pytest.mark.parametrize("kwargs, split", [
    (dict(num_numbers=2, max_number=120, max_target=120, shuffle=False), "train"),
    (dict(num_numbers=4, max_number=25, max_target=100, test_fraction=0.4), "test")])
def test_demonstrations_are_right_and_prompts_say_the_puzzle(kwargs, split):
  task, _, score = _make(**kwargs)
  problems = _draw(kwargs, split, 300)
  tokens, mask = jax.vmap(task.demonstration)(problems)
  np.testing.assert_array_equal(score(problems, tokens, mask), 1)
  for i in range(300):
    numbers, target = problems.target.numbers[i].tolist(), int(problems.target.target[i])
    assert numbers == sorted(numbers) and 1 <= numbers[0] and numbers[-1] <= kwargs["max_number"]
    shown, goal = re.fullmatch(r"([\d,]+)=(\d+):", task.decode(problems.prompt[i])).groups()
    shown = [int(n) for n in shown.split(",")]
    assert (sorted(shown) if kwargs.get("shuffle", True) else shown) == numbers and int(goal) == target
    assert 1 <= target <= kwargs["max_target"]
    length = int(problems.prompt_mask[i].sum())
    assert (problems.prompt[i, :-length] == task.pad_id).all() and problems.prompt_mask[i, -length:].all()
    text = task.decode(np.asarray(tokens)[i][np.asarray(mask)[i] > 0])
    assert text.endswith(".")
    assert eval(text[:-1]) == target and sorted(map(int, re.findall(r"\d+", text))) == numbers
    assert text.count("(") <= 2 and task.decode(tokens[i]) == text


def test_forms_are_distinct_and_diverse_and_the_longest_fits_exactly():
  task = _make()[0]
  problems = _draw({}, "train", 100_000)
  texts = [task.decode(t) for t in problems.target.solution[:5000]]
  forms = Counter(re.sub(r"\d", "n", text) for text in texts)
  assert len(forms) == 24  # n+n*n and the like: 12 sums, 12 products
  names = Counter(ast.dump(ast.parse(f[:-1], mode="eval")) for f in forms)
  assert max(names.values()) == 1
  assert max(map(len, texts)) == task.max_response


def test_prompt_order_does_not_leak_the_solution():
  task = _make()[0]
  problems = jax.tree.map(lambda x: x[:20_000], _draw({}, "train", 100_000))
  where = Counter()
  for prompt, solution in zip(problems.prompt, problems.target.solution):
    shown = re.findall(r"\d+", task.decode(prompt))[:3]
    used = re.findall(r"\d+", task.decode(solution))
    if len(set(shown)) == 3:
      where[tuple(shown.index(n) for n in used)] += 1
  counts = np.array(list(where.values()))
  assert len(counts) == 6 and np.all(abs(counts / counts.sum() - 1 / 6) < 0.025)  # five standard errors


_VERDICTS = {
    ((3, 5, 7), 22): dict.fromkeys(("3*5+7.", "7+5*3.", "(3*5)+7.", "((7+3*5)).", "3*5+7.+++"), 1) | dict.fromkeys(
        ("3*5+7", "3*5+7 .", "3+5+7.", "15+7.", "3*5+7+0.", "22.", "3*5+7*3/3.", ".3*5+7.", "", ".", "03*5+7.",
         "3*5--7.", "3,5=22.", "7*5-3-5-5.", "7*3+1."), 0),
    ((2, 2, 8), 12): {"2+2+8.": 1, "2+8+2.": 1, "8/2*2+4.": 0, "8+8/2.": 0, "8*2-2-2.": 0},
    ((2, 4, 7), 1): {"(7-4)/2.": 0, "7-4-2.": 1, "7-(4+2).": 1, "7/4.": 0, "(2-4)+7.": 0},
    ((1, 3, 6), 3): {"3*1/(6-6).": 0, "6/(3-1).": 1, "3-6+6.": 0, "(1-3)*6.": 0, "1*3+6.": 0},
}


def test_verdicts():
  score = _make()[2]
  task, length = _make()[0], 32
  rows = []
  for (numbers, target), verdicts in _VERDICTS.items():
    for text, reward in verdicts.items():
      ids = task.encode(text)
      for junk in (task.eos_id, task.encode("9")[0], -1, 10**6):  # masked places after and between never matter
        tokens, mask = np.full(length, junk, np.int32), np.zeros(length, np.float32)
        tokens[:2 * len(ids):2], mask[:2 * len(ids):2] = ids, 1
        rows.append((numbers, target, tokens, mask, reward, text))
  numbers, target, tokens, mask, reward, text = (list(x) for x in zip(*rows))
  nothing = np.zeros((len(rows), 1))
  problems = Problem(nothing, nothing, CountdownTarget(np.array(numbers), np.array(target), nothing))
  got = score(problems, np.array(tokens), np.array(mask))
  assert got.dtype == jnp.float32
  assert [t for t, g, r in zip(text, got.tolist(), reward) if g != r] == []


def test_text_goes_round():
  task = make_countdown()
  text = "3, 5,7=22:(3*5)+7/1-2."
  assert task.decode(task.encode(text)) == text
  assert task.decode([task.pad_id, 3, task.eos_id, 99, -5]) == "3.??"
  assert max(task.encode(text)) < task.vocab_size
  with pytest.raises(ValueError, match="'x' at position 1"):
    task.encode("3x4")


@pytest.mark.parametrize("kwargs, message", [
    (dict(num_numbers=1), "num_numbers"), (dict(num_numbers=6), "num_numbers"), (dict(max_number=0), "max_number"),
    (dict(max_target=0), "max_target"), (dict(test_fraction=0.0), "test_fraction"),
    (dict(test_fraction=1), "test_fraction"), (dict(max_number=1), "too few puzzles"),
    (dict(max_target=2), "too few puzzles")])
def test_bad_arguments(kwargs, message):
  with pytest.raises(ValueError, match=message):
    make_countdown(**kwargs)


def test_bad_split():
  with pytest.raises(ValueError, match="split must be"):
    make_countdown().sample(jax.random.key(0), "valid")
