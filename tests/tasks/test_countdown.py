"""Countdown: puzzles, splits and verdicts against brute force in Python."""

import ast
from collections import Counter
from fractions import Fraction
import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore.tasks import make_countdown

_SMALL = dict(num_numbers=3, max_number=4, max_target=12, test_fraction=0.3)


def _draw(task, split, count, seed=0):
  keys = jax.random.split(jax.random.key(seed), count)
  return jax.device_get(jax.jit(jax.vmap(lambda key: task.sample(key, split)))(keys))


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
  task = make_countdown()
  train, test = _puzzles(_draw(task, "train", 100_000)), _puzzles(_draw(task, "test", 10_000, seed=1))
  assert not train & test
  assert 0.07 < len(test) / (len(train) + len(test)) < 0.13


def test_both_splits_together_are_every_solvable_puzzle():
  task = make_countdown(**_SMALL)
  drawn = [_puzzles(_draw(task, split, 15_000)) for split in ("train", "test")]
  solvable = {
      (*numbers, int(v)) for numbers in itertools.combinations_with_replacement(range(1, 5), 3)
      for order in itertools.permutations(numbers) for v in _values(order) if 1 <= v <= 12}
  assert drawn[0] | drawn[1] == solvable


@pytest.mark.parametrize("kwargs", [
    dict(num_numbers=2, max_number=20, max_target=120), dict(max_number=12, shuffle=False),
    dict(num_numbers=4, max_number=25, max_target=100, test_fraction=0.5)])
def test_demonstrations_are_right_and_prompts_say_the_puzzle(kwargs):
  task = make_countdown(**kwargs)
  for split in ("train", "test"):
    problems = _draw(task, split, 200)
    tokens, mask = jax.vmap(task.demonstration)(problems)
    np.testing.assert_array_equal(jax.vmap(task.score)(problems, tokens, mask), 1)
    for i in range(200):
      numbers, target = problems.target.numbers[i].tolist(), int(problems.target.target[i])
      assert numbers == sorted(numbers) and 1 <= numbers[0] and numbers[-1] <= kwargs["max_number"]
      shown, goal = re.fullmatch(r"([\d,]+)=(\d+):", task.decode(problems.prompt[i])).groups()
      shown = [int(n) for n in shown.split(",")]
      assert (sorted(shown) if kwargs.get("shuffle", True) else shown) == numbers and int(goal) == target
      assert 1 <= target <= kwargs.get("max_target", 50)
      length = int(problems.prompt_mask[i].sum())
      assert (problems.prompt[i, :-length] == task.pad_id).all() and problems.prompt_mask[i, -length:].all()
      text = task.decode(np.asarray(tokens)[i][np.asarray(mask)[i] > 0])
      assert text.endswith(".")
      assert eval(text[:-1]) == target and sorted(map(int, re.findall(r"\d+", text))) == numbers
      assert text.count("(") <= 2 and task.decode(tokens[i]) == text


def test_the_longest_demonstration_fits_exactly():
  for size in (2, 3, 4):
    task = make_countdown(num_numbers=size, max_number=9, max_target=500)
    longest = max(mask.sum() for mask in jax.vmap(task.demonstration)(_draw(task, "train", 3000))[1])
    assert longest == task.max_response


def test_forms_are_distinct_and_diverse():
  task = make_countdown(max_number=9, max_target=500)
  problems = _draw(task, "train", 5000)
  forms = Counter(re.sub(r"\d", "n", task.decode(t)) for t in problems.target.solution)
  assert len(forms) == 24  # n+n*n and the like: 12 sums, 12 products
  names = Counter(map(str, (ast.dump(ast.parse(f[:-1], mode="eval")) for f in forms)))
  assert max(names.values()) == 1


def test_prompt_order_does_not_leak_the_solution():
  task = make_countdown(max_number=99, max_target=200)
  problems = _draw(task, "train", 6000)
  where = Counter()
  for prompt, solution in zip(problems.prompt, problems.target.solution):
    shown = re.findall(r"\d+", task.decode(prompt))[:3]
    used = re.findall(r"\d+", task.decode(solution))
    if len(set(shown)) == 3:
      where[tuple(shown.index(n) for n in used)] += 1
  counts = np.array(list(where.values()))
  assert len(counts) == 6 and np.all(abs(counts / counts.sum() - 1 / 6) < 0.025)  # five standard errors


@pytest.mark.parametrize("text, reward", [
    ("3*5+7.", 1), ("7+5*3.", 1), ("(3*5)+7.", 1), ("((7+3*5)).", 1), ("3*5+7.+++", 1), ("3*5+7", 0), ("3*5+7 .", 0),
    ("3+5+7.", 0), ("15+7.", 0), ("3*5+7+0.", 0), ("22.", 0), ("3*5+7*3/3.", 0), (".3*5+7.", 0), ("", 0), (".", 0),
    ("03*5+7.", 0), ("3*5--7.", 0), ("3,5=22.", 0), ("7*5-3-5-5.", 0)])
def test_verdicts(text, reward):
  task = make_countdown(max_number=12)
  numbers = jnp.array([3, 5, 7])
  problem = _draw(task, "train", 1)
  problem = jax.tree.map(lambda x: x[0], problem)
  problem = problem.replace(target=problem.target._replace(numbers=numbers, target=jnp.int32(22)))
  ids = task.encode(text)
  for junk in (task.eos_id, task.encode("9")[0], -1, 10**6):  # masked places after and between never matter
    tokens = np.full(2 * task.max_response, junk, np.int32)
    mask = np.zeros(2 * task.max_response, np.float32)
    tokens[:2 * len(ids):2], mask[:2 * len(ids):2] = ids, 1
    assert task.score(problem, tokens, mask) == reward


def test_repeated_numbers_are_counted():
  task = make_countdown()
  problem = jax.tree.map(lambda x: x[0], _draw(task, "train", 1))
  problem = problem.replace(target=problem.target._replace(numbers=jnp.array([2, 2, 8]), target=jnp.int32(12)))
  for text, reward in (("2+2+8.", 1), ("8/2*2+4.", 0), ("2+8+2.", 1), ("8+8/2.", 0), ("8*2-2-2.", 0)):
    tokens = np.array(task.encode(text))
    assert task.score(problem, tokens, np.ones(len(tokens))) == reward, text


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
    (dict(max_target=0), "max_target"), (dict(test_fraction=0.0), "test_fraction"), (dict(test_fraction=1), "test_fraction"),
    (dict(max_number=1), "too few puzzles"), (dict(max_target=2), "too few puzzles")])
def test_bad_arguments(kwargs, message):
  with pytest.raises(ValueError, match=message):
    make_countdown(**kwargs)


def test_bad_split():
  with pytest.raises(ValueError, match="split must be"):
    make_countdown().sample(jax.random.key(0), "valid")
