"""Every number in docs/losses.md: against the library, and against float64 formulas derived by hand."""

import itertools
import pathlib
import re

import numpy as np
import pytest

from experiments.tables import losses as tables

DOCUMENT = pathlib.Path(__file__).parents[2] / "docs" / "losses.md"


def documented(name):
  """Rows of a table of the document, header included, as lists of cells."""
  block = re.search(rf"<!-- table: {name} -->\n((?:\|.*\n)+)", DOCUMENT.read_text(encoding="utf-8")).group(1)
  rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()]
  return rows[:1] + rows[2:]


def number(cell):
  try:
    return float(cell)
  except ValueError:
    return None


@pytest.mark.parametrize("name", tables.TABLES)
def test_the_document_says_what_the_library_computes(name):
  header, body = tables.TABLES[name]()
  rows = documented(name)
  assert len(rows) == len(body) + 1 and rows[0] == header
  for want, got in zip(body, rows[1:], strict=True):
    for x, y in zip(want, got, strict=True):
      assert x == y or abs(number(x) - number(y)) < 0.0015, f"{got[:3]}: {y} should be {x}: rerun the generator"


# From here on NumPy only. A sample's gradient is sum_t c_t grad log pi(x_t); c_t is derived by hand for each row.
VALUE = {"k1": lambda d: d, "k2": lambda d: d * d / 2, "k3": lambda d: np.exp(-d) - 1 + d}
SLOPE = {"k1": np.ones_like, "k2": lambda d: d, "k3": lambda d: 1 - np.exp(-d)}
ONE = dict(
    policy=[[0.5, 0.3, 0.15, 0.05]], reference=[[0.3, 0.3, 0.2, 0.2]], behaviour=[[0.4, 0.3, 0.2, 0.1]])
TWO = dict(
    policy=([0.6, 0.3, 0.1], [[0.7, 0.2, 0.1], [0.2, 0.5, 0.3], [0.1, 0.1, 0.8]]),
    reference=([0.4, 0.3, 0.3], [[0.4, 0.3, 0.3], [0.3, 0.4, 0.3], [0.3, 0.3, 0.4]]),
    behaviour=([0.5, 0.3, 0.2], [[0.6, 0.2, 0.2], [0.2, 0.4, 0.4], [0.2, 0.1, 0.7]]))


def chances(levels, x):
  """Probability of each token of a response."""
  return np.array([np.asarray(level)[tuple(x[:t + 1])] for t, level in enumerate(levels)])


def score(levels, x, coefficients):
  """sum_t c_t grad log pi(x_t | x_<t), with respect to all logits."""
  blocks = []
  for t, level in enumerate(levels):
    block = np.zeros(np.shape(level))
    block[tuple(x[:t])] = -np.asarray(level)[tuple(x[:t])] * coefficients[t]
    block[tuple(x[:t + 1])] += coefficients[t]
    blocks.append(block.ravel())
  return np.concatenate(blocks)


def coefficients(where, estimator, d, ratio, baseline):
  """c_t of one response, of log-ratios d to the reference and ratios to the sampler."""
  kind = estimator[:2]
  if where == "loss":
    return np.full(d.shape, SLOPE[kind](d.sum())) if "of the response" in estimator else SLOPE[kind](d)
  if where == "loss × ratio":
    return ratio * (VALUE[kind](d) + SLOPE[kind](d))
  kl = VALUE[kind](d)
  if "to go" in estimator:
    return np.array([kl[t:].sum() for t in range(kl.size)])
  if "of the response" in estimator:
    return np.full(d.shape, kl.sum())
  return kl - (baseline if "mean" in where else 0)


def bias_and_deviation(world, where, estimator, regime):
  sampler = world["policy"] if regime == "on policy" else world["behaviour"]
  responses = list(itertools.product(range(len(world["policy"][0])), repeat=len(world["policy"])))
  log_ratio = lambda x: np.log(chances(world["policy"], x) / chances(world["reference"], x))
  exact = sum(chances(world["policy"], x).prod() * score(world["policy"], x, np.full(len(x), log_ratio(x).sum()))
              for x in responses)
  baseline = sum(chances(world["policy"], x).prod() * log_ratio(x).sum() for x in responses)
  grads, probabilities = [], []
  for x in responses:
    ratio = chances(world["policy"], x) / chances(sampler, x)
    c = coefficients(where, estimator, log_ratio(x), ratio, baseline)
    if where != "loss × ratio" and "token ratio" in regime:
      c = c * ratio
    if "response ratio" in regime:
      c = c * ratio.prod()
    grads.append(score(world["policy"], x, c))
    probabilities.append(chances(sampler, x).prod())
  mean = np.average(grads, axis=0, weights=probabilities)
  variance = np.average(np.square(grads - mean).sum(1), weights=probabilities)
  return np.linalg.norm(mean - exact) / np.linalg.norm(exact), np.sqrt(variance) / np.linalg.norm(exact)


@pytest.mark.parametrize("name, world, numbers", [("kl-one-token", ONE, 54), ("kl-two-tokens", TWO, 58)])
def test_the_divergence_tables_equal_the_formulas(name, world, numbers):
  header, *rows = documented(name)
  checked = 0
  for row in rows:
    for column in range(3, len(header), 2):
      regime, what = header[column].split(": ")
      assert what == "bias" and header[column + 1] == f"{regime}: sd"
      if row[column] == "–":
        continue
      want = bias_and_deviation(world, row[0], row[1], regime)
      np.testing.assert_allclose((number(row[column]), number(row[column + 1])), want, atol=6e-4, err_msg=str(row))
      checked += 2
  assert checked == numbers


def test_the_expected_gradients_are_those_named():
  """The column in words, by the closed forms of each gradient for one softmax decision."""
  p, q = np.array(ONE["policy"][0]), np.array(ONE["reference"][0])
  d = np.log(p / q)
  reverse = p * (d - np.sum(p * d))
  forward = p - q
  of_k2 = p * (d * d / 2 + d - np.sum(p * (d * d / 2 + d)))
  named = {"0": 0 * p, "∇KL(π‖ref)": reverse, "∇KL(ref‖π)": forward, "∇E[k2]": of_k2,
           "∇E[k2] − ∇KL(π‖ref)": of_k2 - reverse, "∇KL(π‖ref) − ∇KL(ref‖π)": reverse - forward}
  for where, estimator, words, *_ in documented("kl-one-token")[1:]:
    mean = sum(p[x] * score([p], (x,), coefficients(where, estimator, d[[x]], np.ones(1), p @ d)) for x in range(4))
    np.testing.assert_allclose(mean, named[words], atol=1e-12, err_msg=f"{where} {estimator}")


def test_the_aggregation_tables_equal_their_formulas():
  short, long, width = 2, 10, 20
  weight = {"token": lambda n, a, b: 1 / (a + b), "sequence": lambda n, a, b: 1 / (2 * n),
            "constant, length=20": lambda n, a, b: 1 / (2 * width)}
  for mode, *cells in documented("aggregation")[1:]:
    x, y = (weight[mode](n, short, long) for n in (short, long))
    doubled = weight[mode](2 * short, 2 * short, 2 * long)
    want = [x, y, short * x, long * y, short * x + long * y, doubled]
    np.testing.assert_allclose([number(c) for c in cells], want, atol=6e-4)
  plain = {"token": 1 / 2, "sequence": 1 / 2, "constant, length=20": short / width / 2}
  for mode, *cells in documented("accumulation")[1:]:
    exact = short * weight[mode](short, short, long)
    np.testing.assert_allclose([number(c) for c in cells], [exact, plain[mode], exact], atol=6e-4)


def test_the_zero_spread_table_equals_its_formulas():
  # Four responses, 20 tokens, 2 rows of 8 (tied) and 2 of 2; a token of the tied group pulls 0.1 * 0.5 = 0.05 by k2.
  share = {"token": (1 / 20, 1 / 20, 1 / 4), "sequence": (1 / 32, 1 / 8, 1 / 4),
           "constant, length=20": (1 / 80, 1 / 80, 1 / 40)}
  for mode, coefficient, *cells in documented("zero-spread")[1:]:
    tied, other, alone = share[mode]
    pull = float(coefficient) * 0.5
    moved = np.sqrt(2 * (1 - pull)**2 + 2 * (1 + pull)**2)  # two tokens are pushed up and two down
    np.testing.assert_allclose([number(c) for c in cells], [tied * pull * 4, other * moved, alone * moved], atol=6e-4)


def test_the_clip_table_equals_its_formulas():
  header, *rows = documented("clip")
  grid = [float(cell.split()[1]) for cell in header[2:]]
  pull = {
      "PPO": lambda r, a: r if (r <= 1.2 if a > 0 else r >= 0.8) else 0,
      "DAPO (default)": lambda r, a: r if (r <= 1.28 if a > 0 else r >= 0.8) else 0,
      "dual clip 3": lambda r, a: r if (r <= 1.2 if a > 0 else 0.8 <= r <= 3) else 0,
      "CISPO (default)": lambda r, a: min(r, 5),
      "REINFORCE": lambda r, a: 1,
  }
  for name, sign, *cells in rows:
    np.testing.assert_allclose([number(c) for c in cells], [float(sign) * pull[name](r, float(sign)) for r in grid])
