"""Signpost against the rules of the language, spelled out in plain Python."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore.tasks import all_prompts, make_signpost

_SIZES = dict(num_blocks=4, num_options=3, num_prompts=5, relevant=(0, 2))


def _right(tokens, secret, *, num_blocks, num_options, relevant, **_):
  """Judges one response token by token."""
  m = num_options
  if len(tokens) != 3 * num_blocks + 1 or tokens[-1] != m + 8:
    return False
  for j in range(num_blocks):
    option, *fillers = tokens[3 * j:3 * j + 3]
    d = option - 1
    if not 0 <= d < m or fillers != [1 + m + (3 * d + 5 * j + 2 * k) % 7 for k in (1, 2)]:
      return False
    if j in relevant and d != secret[relevant.index(j)]:
      return False
  return True


@functools.cache
def _task():
  task = make_signpost(**_SIZES, secret_key=jax.random.key(3))
  return task, jax.jit(jax.vmap(task.score, (None, 0, 0))), jax.jit(jax.vmap(lambda key: task.sample(key, "train")))


def _write(decisions):
  """Writes a response of the right form, M = 3."""
  blocks = [[1 + d, 4 + (3 * d + 5 * j + 2) % 7, 4 + (3 * d + 5 * j + 4) % 7] for j, d in enumerate(decisions)]
  return sum(blocks, []) + [11]


def test_score_equals_the_rules_on_every_decision_and_on_corrupted_responses():
  task, score, _ = _task()
  rng = np.random.default_rng(0)
  rows = np.array([_write(decisions) for decisions in itertools.product(range(3), repeat=4)])
  for p in range(5):
    problem = jax.tree.map(lambda x: x[p], all_prompts(task, 5))
    broken = rows.copy()
    for row in broken:
      row[rng.integers(len(row))] = rng.integers(task.vocab_size)
    both = np.concatenate([rows, broken])
    want = [_right(row.tolist(), problem.target.secrets[p].tolist(), **_SIZES) for row in both]
    assert sum(want[:81]) == 9  # two of four decisions matter
    np.testing.assert_array_equal(score(problem, both, np.ones(both.shape)), want)
    assert not score(problem, both, (np.arange(13) < 12) * np.ones(both.shape)).any()  # the end was not drawn


def test_samples_are_uniform_and_demonstrations_right_in_form():
  task, _, sample = _task()
  problems = jax.device_get(sample(jax.random.split(jax.random.key(0), 4000)))
  tokens, mask = jax.vmap(task.demonstration)(problems)
  assert mask.shape == (4000, task.max_response) and np.all(mask == 1)
  for row, decisions in zip(np.asarray(tokens).tolist(), problems.target.decisions.tolist()):
    assert row == _write(decisions)
  share = np.stack([(problems.target.decisions == d).mean(0) for d in range(3)])
  np.testing.assert_allclose(share, 1 / 3, atol=0.04)
  np.testing.assert_allclose(np.bincount(problems.target.prompt) / 4000, 0.2, atol=0.03)
  np.testing.assert_array_equal(problems.prompt, np.stack([12 + problems.target.prompt, 0 * problems.target.prompt], 1))
  assert task.vocab_size == 17 and task.max_prompt == 2 and task.eos_id == 11 and (problems.prompt_mask == 1).all()


def test_all_prompts():
  task = _task()[0]
  problems = all_prompts(task, 5)
  assert task.decode(problems.prompt[:, 0]) == "[0][1][2][3][4]"
  np.testing.assert_array_equal(problems.target.prompt, np.arange(5))
  one = task.sample(jax.random.key(9), "test")
  assert jax.tree.structure(one) == jax.tree.structure(problems)
  assert jax.tree.map(lambda x: (5, *x.shape), one) == jax.tree.map(lambda x: x.shape, problems)
  with pytest.raises(ValueError, match="5 prompts, not 4"):
    all_prompts(task, 4)


def test_every_seed_draws_its_own_secrets():
  def secrets(key):
    return all_prompts(make_signpost(**_SIZES, secret_key=key), 5).target.secrets[0]
  drawn = jax.vmap(secrets)(jax.random.split(jax.random.key(1), 60))
  assert len(np.unique(drawn.reshape(60, -1), axis=0)) > 50
  np.testing.assert_allclose([(drawn == d).mean() for d in range(3)], 1 / 3, atol=0.1)
  again = jax.vmap(secrets)(jax.random.split(jax.random.key(1), 60))
  np.testing.assert_array_equal(drawn, again)


def test_worked_example():
  """M = 2, block 0: option 1 has fillers (3 + 2) mod 7 and (3 + 4) mod 7; block 1: option 0 has 5 + 2 and 5 + 4."""
  task = make_signpost(num_blocks=2, num_options=2, num_prompts=1, relevant=(0,))
  assert task.encode("b50a02.") == [2, 8, 3, 1, 3, 5, 10] and task.max_response == 7
  problem = jax.tree.map(lambda x: x[0], all_prompts(task, 1))
  problem = problem.replace(target=problem.target._replace(secrets=jnp.array([[1]])))
  for text, reward in (("b50a02.", 1), ("b50b35.", 1), ("a24a02.", 0), ("b50a03.", 0), ("b50a02>", 0)):
    assert task.score(problem, jnp.array(task.encode(text)), jnp.ones(7)) == reward, text


def test_text_goes_round():
  task = _task()[0]
  ids = list(range(task.vocab_size))
  assert task.encode(task.decode(ids)) == ids
  assert task.decode([-1, 99]) == "??"
  with pytest.raises(ValueError, match="'z'"):
    task.encode("az")
  with pytest.raises(ValueError, match=r"'\[5\]'"):
    task.encode("[5]")


@pytest.mark.parametrize("change", [
    dict(num_blocks=0), dict(num_options=0), dict(num_options=27), dict(num_prompts=0), dict(relevant=()),
    dict(relevant=(0, 0)), dict(relevant=(4,)), dict(relevant=(-1,))])
def test_bad_arguments(change):
  with pytest.raises(ValueError, match=next(iter(change))):
    make_signpost(**(_SIZES | change))


def test_bad_split():
  with pytest.raises(ValueError, match="split must be"):
    _task()[0].sample(jax.random.key(0), "all")
