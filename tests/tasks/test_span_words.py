"""Span words against the rules of the score, spelled out in plain Python."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore.tasks import make_span_words
from rlcore.types import Problem

_T = 8


@functools.cache
def _task():
  task = make_span_words(vocab_size=8, length=_T)
  draw = lambda split: jax.jit(jax.vmap(lambda key: task.sample(key, split)))
  return task, jax.jit(jax.vmap(task.score)), {split: draw(split) for split in ("train", "test")}


def _score(prompt, response):
  good, bad = list(prompt[:3]), list(prompt[3:])
  ordered = any(list(picked) == good for picked in itertools.combinations(response, 3))
  return 0.3 * len(set(response) & set(good)) - 0.2 * sum(word in bad for word in response) + 0.6 * ordered


def test_score_equals_the_rules_on_the_words_that_are_left():
  _, score, draw = _task()
  rng = np.random.default_rng(0)
  problems = draw["train"](jax.random.split(jax.random.key(0), 400))
  prompts = np.asarray(problems.prompt)
  tokens = np.where(rng.random((400, _T)) < 0.6, prompts[np.arange(400)[:, None], rng.integers(0, 3, (400, _T))],
                    rng.integers(0, 8, (400, _T)))
  mask = rng.random((400, _T)) < rng.random((400, 1)) + 0.2
  mask[0] = False
  want = [_score(p, t[m].tolist()) for p, t, m in zip(prompts, tokens, mask)]
  assert min(want) < 0 and max(want) == pytest.approx(1.5) and want[0] == 0
  junk = np.where(mask, tokens, -99)
  for shown in (tokens, junk):
    np.testing.assert_allclose(score(problems, jnp.asarray(shown), jnp.asarray(mask, jnp.float32)), want, atol=1e-6)


def test_prompts_are_distinct_words_evenly_drawn_and_no_split_knows_the_other():
  _, _, draw = _task()
  for split, residues in (("train", {1, 2, 3}), ("test", {0})):
    prompts = np.asarray(draw[split](jax.random.split(jax.random.key(1), 400)).prompt)
    assert all(len(set(row)) == 5 for row in prompts.tolist())
    assert {sum(row) % 4 for row in prompts.tolist()} == residues
    shares = np.stack([np.bincount(column, minlength=8) for column in prompts.T]) / 400
    assert np.all(np.abs(shares - 1 / 8) < 0.07)  # over four standard deviations


def test_text_and_bad_input():
  task, _, _ = _task()
  assert task.encode("hab.") == [7, 0, 1, 8] and task.decode(np.array([7, 0, 1, 8, 9])) == "hab.?"
  with pytest.raises(ValueError, match="'z' at position 1"):
    task.encode("az")
  for settings in (dict(vocab_size=10), dict(vocab_size=4), dict(vocab_size=28), dict(length=2)):
    with pytest.raises(ValueError, match="must be"):
      make_span_words(**settings)
  with pytest.raises(ValueError, match="split"):
    task.sample(jax.random.key(0), "dev")
  prompt = jnp.arange(5)
  with pytest.raises(AssertionError, match="tokens has shape"):
    task.score(Problem(prompt, jnp.ones(5), prompt), jnp.zeros(3, jnp.int32), jnp.ones(3))
