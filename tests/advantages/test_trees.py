"""The prefix tree and TEMPO against a dictionary trie in float64."""

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore import types
from rlcore.advantages import trees
from tests.tolerance import close

METHODS = ("auto", "refine", "pairwise", "scan", "sort")
SHAPES = ((1, 3), (4, 5), (8, 7))


class Trie:
  """Every prefix of every row in a dictionary, with the rows that have it."""

  def __init__(self, tokens, valid):
    self.rows = {}
    self.paths = []
    for i, (row, ok) in enumerate(zip(tokens.tolist(), (np.asarray(valid) > 0).tolist())):
      path = tuple(itertools.takewhile(lambda t: t is not None, (x if v else None for x, v in zip(row, ok))))
      self.paths.append(path)
      for t in range(len(path) + 1):
        self.rows.setdefault(path[:t], []).append(i)

  def values(self, rewards, shape):
    out = [np.zeros(shape) for _ in range(4)]
    for i, path in enumerate(self.paths):
      for t in range(len(path)):
        for shift in (0, 1):
          members = self.rows[path[:t + shift]]
          out[shift][i, t] = np.mean([float(rewards[k]) for k in members])
          out[2 + shift][i, t] = len(members)
    return out

  def advantage(self, rewards, mask, normalize_std, ddof, eps, td_coef):
    rewards = [float(r) for r in rewards]
    mean = sum(rewards) / len(rewards)
    squares = sum((r - mean)**2 for r in rewards)
    std = (squares / (len(rewards) - ddof))**0.5 if len(rewards) > ddof else 0.0
    v_prev, v_next, _, _ = self.values(rewards, mask.shape)
    out = np.zeros(mask.shape)
    for i, t in zip(*np.nonzero(mask > 0)):
      out[i, t] = rewards[i] - mean + td_coef * (v_next[i, t] - v_prev[i, t])
    if len(set(rewards)) == 1:
      return np.zeros(mask.shape)
    return out / (std + eps) if normalize_std else out


@st.composite
def groups(draw, shapes=SHAPES):
  """Rows over few ids (also negative and huge ones), with ragged ends, gaps, empty rows and duplicates."""
  size, length = draw(st.sampled_from(shapes))
  rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
  ids = np.array([7, -1, 2**31 - 1, 0, 5, -2**31], np.int64)[:draw(st.integers(1, 6))]
  tokens = rng.choice(ids, (size, length)).astype(np.int32)
  for i in range(1, size):
    if rng.random() < 0.6:
      cut = rng.integers(0, length + 1)
      tokens[i, :cut] = tokens[rng.integers(i), :cut]
  valid = (np.arange(length) < rng.integers(0, length + 1, size)[:, None]).astype(np.float32)
  if draw(st.booleans()):
    valid = np.ones_like(valid)
  valid = valid * (rng.random(valid.shape) > draw(st.sampled_from([0.0, 0.1])))
  mask = (rng.random(valid.shape) < 0.7).astype(np.float32)
  rewards = draw(st.sampled_from(["binary", "normal", "tied"]))
  rewards = {"binary": rng.integers(0, 2, size), "normal": rng.normal(size=size), "tied": np.full(size, 0.7)}[rewards]
  return tokens, rewards.astype(np.float32), mask, valid


_lcp = jax.jit(trees.prefix_lcp, static_argnames="method")
_values = jax.jit(trees.prefix_tree_values)
_branch_mask, _prefix_tree = jax.jit(trees.branch_mask), jax.jit(trees.prefix_tree)
_advantage = jax.jit(trees.tempo_advantage, static_argnames=("normalize_std", "ddof"))


@pytest.mark.parametrize("method", METHODS)
@given(groups())
@settings(max_examples=30, deadline=None)
def test_lcp_equals_a_trie(method, group):
  tokens, _, _, valid = group
  paths = Trie(tokens, valid).paths
  expected = [[sum(1 for _ in itertools.takewhile(lambda ab: ab[0] == ab[1], zip(a, b))) for b in paths] for a in paths]
  lcp = _lcp(tokens, valid, method=method)
  assert lcp.dtype == jnp.int32
  np.testing.assert_array_equal(lcp, expected)


@given(groups(), st.booleans())
@settings(max_examples=60, deadline=None)
def test_values_branches_and_nodes_equal_a_trie(group, whole):
  tokens, rewards, mask, valid = group
  valid = None if whole else valid
  trie = Trie(tokens, mask if whole else valid)
  out = _values(tokens, rewards, mask, valid)
  expected = trie.values(rewards, tokens.shape)
  for got, want in zip(out, expected):
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
  assert [x.dtype for x in out] == [jnp.float32] * 2 + [jnp.int32] * 2
  branch = (mask > 0) & (expected[3] < expected[2])
  np.testing.assert_array_equal(_branch_mask(tokens, mask, valid), branch)
  v_prev, v_next, n_prev, n_next = (np.asarray(x) for x in out)
  np.testing.assert_array_equal((v_next - v_prev)[n_prev == n_next], 0.0)
  nodes = np.full(tokens.shape, -1)
  for i, path in enumerate(trie.paths):
    nodes[i, :len(path)] = [min(trie.rows[path[:t + 1]]) for t in range(len(path))]
  np.testing.assert_array_equal(_prefix_tree(tokens, mask, valid), nodes)


@given(groups(), st.booleans(), st.sampled_from([0, 1]), st.sampled_from([0.0, 0.5, 1.0]))
@settings(max_examples=60, deadline=None)
def test_advantage_equals_a_trie(group, normalize_std, ddof, td_coef):
  tokens, rewards, mask, valid = group
  expected = Trie(tokens, valid).advantage(rewards, mask, normalize_std, ddof, 1e-3, td_coef)
  got = _advantage(tokens, rewards, mask, valid, normalize_std=normalize_std, ddof=ddof, eps=1e-3, td_coef=td_coef)
  np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-5)


@given(groups())
@settings(max_examples=60, deadline=None)
def test_values_telescope_along_a_row(group):
  tokens, rewards, mask, valid = group
  v_prev, v_next, _, _ = (np.asarray(x, np.float64) for x in _values(tokens, rewards, mask, valid))
  trie = Trie(tokens, valid)
  leaf = [np.mean(rewards[trie.rows[path]]) for path in trie.paths]
  np.testing.assert_allclose((v_next - v_prev).sum(1), leaf - rewards.mean(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("td_coef", [0.5, 1.0])
def test_root_branch_scales_the_gradient_of_grpo(td_coef):
  """Summed over the root's children (one state, so one score function per token id), TEMPO is (1 + td_coef) GRPO."""
  rng = np.random.default_rng(0)
  tokens, rewards = rng.integers(0, 3, (12, 5)), rng.normal(size=12)
  mask = np.ones((12, 5))
  def first_token_gradient(coef):
    credit = np.asarray(_advantage(tokens, rewards, mask, td_coef=coef))[:, 0]
    return np.bincount(tokens[:, 0], weights=credit, minlength=3)
  close(first_token_gradient(td_coef), (1 + td_coef) * first_token_gradient(0.0), rtol=1e-5)


@given(groups(shapes=((5, 7),)))
@settings(max_examples=30, deadline=None)
def test_every_node_sums_to_a_baseline(group):
  """Within a node TEMPO's summed score is GRPO's plus that of a policy gradient whose baseline is the node's value."""
  tokens, rewards, _, valid = group
  mask = np.ones_like(valid)
  expected = Trie(tokens, valid)
  v_prev, _, _, _ = expected.values(rewards, tokens.shape)
  full, plain = (
      np.asarray(_advantage(tokens, rewards, mask, valid, normalize_std=False, td_coef=c)) for c in (1.0, 0.0))
  for path, members in expected.rows.items():
    if path:
      t = len(path) - 1
      baseline = sum(float(rewards[i]) - v_prev[i, t] for i in members)
      np.testing.assert_allclose((full - plain)[members, t].sum(), baseline, rtol=1e-4, atol=1e-5)


WORKED = np.array([[1, 2, 3, 9], [1, 2, 4, 9], [1, 5, 9, 0], [1, 2, 3, 9]]), np.array([1.0, 0, 0, 1])
WORKED_MASK = np.array([[1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 1, 1]])


@pytest.mark.parametrize("pad", [0, 9])
def test_worked_example(pad):
  tokens, rewards = WORKED
  tokens = np.where(WORKED_MASK, tokens, pad)
  third = 2 / 3
  v_prev, v_next, n_prev, n_next = _values(tokens, rewards, WORKED_MASK)
  row = [0.5, third, 1, 1]
  np.testing.assert_allclose(v_next, [row, [0.5, third, 0, 0], [0.5, 0, 0, 0], row], atol=1e-6)
  before = [0.5, 0.5, third, 1]
  np.testing.assert_allclose(v_prev, [before, [0.5, 0.5, third, 0], [0.5, 0.5, 0, 0], before], atol=1e-6)
  np.testing.assert_array_equal(n_next, [[4, 3, 2, 2], [4, 3, 1, 1], [4, 1, 1, 0], [4, 3, 2, 2]])
  np.testing.assert_array_equal(n_prev, [[4, 4, 3, 2], [4, 4, 3, 1], [4, 4, 1, 0], [4, 4, 3, 2]])
  inner = [False, True, True, False]
  np.testing.assert_array_equal(
      _branch_mask(tokens, WORKED_MASK), [inner, inner, [False, True, False, False], inner])
  np.testing.assert_array_equal(
      _prefix_tree(tokens, WORKED_MASK), [[0, 0, 0, 0], [0, 0, 1, 1], [0, 2, 2, -1], [0, 0, 0, 0]])
  a = 0.866024
  row = [a, 1.154699, 1.443373, a]
  np.testing.assert_allclose(
      _advantage(tokens, rewards, WORKED_MASK),
      [row, [-a, -0.577349, -2.020722, -a], [-a, -1.732048, -a, 0], row], atol=2e-6)
  np.testing.assert_allclose(
      _advantage(tokens, rewards, WORKED_MASK, td_coef=0.0),
      np.array([[a], [-a], [-a], [a]]) * WORKED_MASK, atol=2e-6)


@pytest.mark.parametrize("size", [3, 7, 24])
@pytest.mark.parametrize("eps", [1e-6, 0.0])
def test_equal_rewards_give_exactly_zero(size, eps):
  tokens = np.random.default_rng(size).integers(0, 2, (size, 5))
  rewards, mask = np.full(size, 0.7, np.float32), np.ones((size, 5))
  assert not np.any(np.asarray(_advantage(tokens, rewards, mask, eps=eps)))
  v_prev, v_next, _, _ = _values(tokens, rewards, mask)
  assert np.all(v_prev == np.float32(0.7)) and np.all(v_next == np.float32(0.7))


def test_rows_without_a_token_count_in_the_root_only():
  tokens, valid = np.zeros((3, 2), int), np.array([[1, 1], [1, 1], [0, 0]])
  v_prev, v_next, n_prev, n_next = _values(tokens, np.array([1.0, 1.0, 4.0]), valid)
  np.testing.assert_allclose(v_prev[0], [2.0, 1.0])
  np.testing.assert_allclose(v_next[0], [1.0, 1.0])
  np.testing.assert_array_equal(n_prev[0], [3, 2])
  np.testing.assert_array_equal(n_next[2], [0, 0])


def test_a_gap_ends_the_path_and_leaves_grpo():
  tokens = np.array([[1, 2, 3, 4], [1, 2, 3, 5]])
  valid = np.array([[1, 0, 1, 1], [1, 1, 1, 1]])
  rewards, mask = np.array([1.0, 0.0]), np.ones((2, 4))
  full, plain = (np.asarray(_advantage(tokens, rewards, mask, valid, td_coef=c)) for c in (1.0, 0.0))
  np.testing.assert_array_equal(full[0], plain[0])
  np.testing.assert_array_equal((full != plain)[1], [False, True, False, False])  # row 1 goes on alone
  assert np.all(full[0] != 0)


def test_observations_move_the_value_but_earn_nothing():
  tokens = np.array([[1, 8, 2], [1, 9, 2]])  # the environment answers 8 or 9
  mask, valid = np.array([[1, 0, 1]] * 2), np.ones((2, 3))
  rewards = np.array([1.0, 0.0])
  out = np.asarray(_advantage(tokens, rewards, mask, valid))
  np.testing.assert_array_equal(out, _advantage(tokens, rewards, mask, valid, td_coef=0.0))
  _, v_next, _, _ = _values(tokens, rewards, mask, valid)
  np.testing.assert_allclose(v_next, [[0.5, 1, 1], [0.5, 0, 0]])


def _long_groups(size, length):
  """Shapes of tree that strain `refine`: late parting, a caterpillar, a star, duplicates, ends at a block's edge."""
  rng = np.random.default_rng(size)
  base = np.tile(rng.integers(0, 50, length), (size, 1))
  late, caterpillar, star, ends = (base.copy() for _ in range(4))
  late[:, -8:] = rng.integers(0, 3, (size, 8))
  for i in range(size):
    caterpillar[i, (i * length) // size:] = 100 + i
    star[i, length // 2] = 100 + i
  late[1] = late[0]
  end = np.full((size, 1), length)
  edges = rng.choice([0, 1, 255, 256, 257, 300, 511, 512, 513, length - 1, length], (size, 1))
  whole = np.arange(length) < end
  return {"late": (late, whole), "caterpillar": (caterpillar, whole), "reversed": (caterpillar[::-1], whole),
          "star": (star, whole), "ends": (ends, np.arange(length) < edges), "same": (base, whole)}


@pytest.mark.parametrize("size,length", [(9, 700), (12, 512), (300, 310)])
def test_refine_equals_pairwise_on_long_groups(size, length):
  cases = _long_groups(size, length)
  for name, (tokens, valid) in cases.items():
    np.testing.assert_array_equal(
        _lcp(tokens, valid, method="refine"), _lcp(tokens, valid, method="pairwise"), err_msg=name)
  if size < 100:
    tokens, valid = (np.stack(x) for x in zip(*cases.values()))
    batched = [jax.jit(jax.vmap(lambda t, v, m=m: trees.prefix_lcp(t, v, method=m)))(tokens, valid)
               for m in ("refine", "pairwise")]
    np.testing.assert_array_equal(*batched)


def test_no_tokens_at_all():
  tokens, rewards = np.zeros((3, 0), int), np.array([1.0, 0, 0])
  assert _advantage(tokens, rewards, tokens).shape == (3, 0)
  assert [x.shape for x in _values(tokens, rewards, tokens)] == [(3, 0)] * 4
  assert not np.any(_lcp(tokens, tokens, method="refine"))


def test_bad_input_is_refused():
  tokens, rewards, mask = np.zeros((2, 3), int), np.zeros(2), np.ones((2, 3))
  with pytest.raises(ValueError, match="hash.*refine"):
    trees.prefix_lcp(tokens, mask, method="hash")
  with pytest.raises(AssertionError):
    trees.tempo_advantage(tokens, np.zeros(3), mask)
  with pytest.raises(AssertionError):
    trees.tempo_advantage(tokens[None], rewards, mask[None])
  with pytest.raises(AssertionError):
    trees.tempo_advantage(tokens.astype(float), rewards, mask)


def test_one_program_serves_every_coefficient():
  tokens, rewards = WORKED
  traces = []
  @jax.jit
  def f(coef):
    traces.append(1)
    return trees.tempo_advantage(tokens, rewards, WORKED_MASK, td_coef=coef, eps=coef * 0 + 1e-6)
  assert np.any(f(0.0) != f(1.0)) and len(traces) == 1
  assert jax.grad(lambda c: f(c)[0].sum())(1.0) == 0


@pytest.mark.parametrize("platform,length,loops", [("cpu", 16, False), ("cpu", 1024, True), ("cuda", 1024, False),
                                                   ("tpu", 1024, False)])
def test_auto_picks_by_shape_and_platform(platform, length, loops):
  tokens = jax.ShapeDtypeStruct((8, length), jnp.int32)
  lowered = jax.jit(trees.prefix_lcp).trace(tokens, tokens).lower(lowering_platforms=(platform,))
  assert ("stablehlo.while" in lowered.as_text()) == loops


def test_gradients_pass_a_mask_that_is_differentiated():
  tokens, rewards = WORKED
  weights = jnp.linspace(0.5, 1, 16).reshape(4, 4)
  def loss(weights):
    return jnp.sum(trees.tempo_advantage(tokens, rewards, weights, method="refine") * weights)
  close(jax.jit(jax.grad(loss))(weights), _advantage(tokens, rewards, np.ones((4, 4))), rtol=1e-6)


def test_records_earn_what_their_process_rewards_add_up_to():
  tokens, mask = jnp.array([[1, 2, 3], [1, 2, 4], [1, 5, 9]]), jnp.array([[1, 1, 1], [1, 1, 1], [1, 1, 0]])
  outcome, process = jnp.array([1.0, 0.0, 0.0]), jnp.array([[0, 0, 0.5], [0.25, 0, 0], [0, 0, jnp.nan]])
  batch = types.Rollouts(tokens, mask, jnp.zeros((3, 3)), prompt=jnp.zeros(1), prompt_mask=jnp.zeros(1))
  got = trees.tempo(types.Rewards(outcome, process), batch)
  np.testing.assert_allclose(got, trees.tempo_advantage(tokens, jnp.array([1.5, 0.25, 0.0]), mask), atol=1e-6)
