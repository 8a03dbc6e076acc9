"""The sampler: what it draws, what it reports of it, and that a prompt's responses are its own."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore.models import DecoderConfig, make_decoder
from rlcore.policies import sample, token_log_probs
from rlcore.types import LanguageModel

_CONFIG = DecoderConfig(vocab_size=11, context=84, layers=2, dim=16, heads=4, kv_heads=2, ff_dim=24,
                        tie_embeddings=False, scan_layers=True)  # scanned: fast to compile
_MODEL = make_decoder(_CONFIG)
_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # compiles twice as fast


def _params(seed=0):
  rng = np.random.default_rng(seed)
  shapes = jax.eval_shape(_MODEL.init, jax.random.key(0))
  return jax.tree.map(lambda x: np.float32((x.ndim == 1) + 0.4 * rng.normal(size=x.shape)), shapes)


def _prompts(batch=3, length=5, seed=0):
  rng = np.random.default_rng(seed)
  mask = (np.arange(length) >= np.arange(batch)[:, None] % length).astype(np.float32)
  return np.where(mask > 0, rng.integers(0, 11, mask.shape), 10**6).astype(np.int32), mask


def _sampler(model=_MODEL, **settings):
  return lambda params, keys, prompts, mask, **traced: sample(model, params, keys, prompts, mask, **settings, **traced)


@functools.cache
def _jitted(model=_MODEL, **settings):
  return _jit(_sampler(model, **settings))


@functools.cache
def _constant(size):
  """A model whose parameters are the logits of every place."""
  zeros = lambda *shape: jnp.zeros((*shape, 1))
  return LanguageModel(
      init=lambda key: jnp.zeros(size), hidden=lambda params, tokens, mask: zeros(*tokens.shape),
      logits=lambda params, hidden: jnp.broadcast_to(params, (*hidden.shape[:-1], size)),
      prefill=lambda params, tokens, mask, group_size, room: (zeros(len(tokens)), ()),
      step=lambda params, cache, tokens, index: (zeros(*tokens.shape), cache), extend=lambda cache, room: cache,
      vocab_size=size)


def _draws(logits, group_size, max_new_tokens=1, top_k=0, **traced):
  """Draws tokens from constant logits; returns them with their log-probabilities, flat."""
  one = np.ones((1, 1), np.int32)
  run = _jitted(_constant(len(logits)), group_size=group_size, max_new_tokens=max_new_tokens, top_k=top_k)
  rollouts = run(np.float32(logits), jax.random.key(0), one, one, **traced)
  assert rollouts.tokens.dtype == jnp.int32 and rollouts.log_probs.dtype == jnp.float32
  return np.ravel(rollouts.tokens), np.ravel(rollouts.log_probs)


def _softmax(logits):
  weights = np.exp(np.float64(logits) - np.max(logits))
  return weights / weights.sum()


def _chi_square(tokens, probs):
  """Pearson's statistic over tokens with an expected count above 5, the others pooled; returns it and its degrees."""
  expected = probs * tokens.size
  counts = np.bincount(tokens, minlength=probs.size)
  large = expected > 5
  parts = [(counts[large], expected[large])]
  if expected[~large].sum() > 5:
    parts.append((counts[~large].sum(keepdims=True), expected[~large].sum(keepdims=True)))
  return sum(np.sum((c - e) ** 2 / e) for c, e in parts), sum(len(c) for c, _ in parts) - 1


def _fits(tokens, probs):
  """Whether the statistic is below its mean by less than five standard deviations (one in 10^5 fair samples)."""
  statistic, degrees = _chi_square(tokens, probs)
  return statistic <= degrees + 5 * np.sqrt(2 * degrees)


def test_first_tokens_follow_the_softmax_of_the_logits_over_the_temperature():
  params, (prompts, mask) = _params(), _prompts()
  logits = np.float64(_jit(lambda *args: _MODEL.logits(params, _MODEL.hidden(params, *args))[:, -1])(prompts, mask))
  run = _jitted(group_size=3000, max_new_tokens=1)
  for temperature in (1.0, 0.6, 1.7):
    rollouts = run(params, jax.random.key(1), prompts, mask, temperature=temperature)
    assert rollouts.tokens.shape == (3, 3000, 1) and np.all(np.asarray(rollouts.mask) == 1)
    for row in range(3):
      probs = _softmax(logits[row] / temperature)
      tokens = np.asarray(rollouts.tokens[row, :, 0])
      assert _fits(tokens, probs)
      assert not _fits(tokens, _softmax(logits[row] / (1.3 * temperature)))
      np.testing.assert_allclose(rollouts.log_probs[row, :, 0], np.log(probs[tokens]), atol=1e-5)


def _kept(probs, top_k, top_p):
  """The tokens that remain: the k likeliest, then the fewest of them whose renormalised probability reaches top_p."""
  order = sorted(range(len(probs)), key=lambda i: (-probs[i], i))[:top_k or None]
  total, reached, kept = sum(probs[i] for i in order), 0.0, []
  for token in order:
    if reached >= top_p:
      break
    kept.append(token)
    reached += probs[token] / total
  return kept


@pytest.mark.parametrize("top_k, top_p, temperature", [(3, 1.0, 1.0), (0, 0.7, 0.8), (5, 0.8, 1.5), (0, 1e-6, 1.0)])
def test_top_k_and_top_p_leave_the_likeliest_and_renormalise(top_k, top_p, temperature):
  logits = np.random.default_rng(3).normal(size=20) * 1.5
  probs = _softmax(logits / temperature)
  kept = _kept(probs, top_k, top_p)
  tokens, log_probs = _draws(logits, 4000, top_k=top_k, top_p=top_p, temperature=temperature)
  want = np.zeros(20)
  want[kept] = probs[kept] / probs[kept].sum()
  assert set(tokens) == set(kept) and _fits(tokens, want)
  np.testing.assert_allclose(log_probs, np.log(want[tokens]), atol=1e-5)


def test_ties_go_to_the_smaller_id():
  tied = np.zeros(7)
  assert set(_draws(tied, 200, top_k=3)[0]) == {0, 1, 2}
  assert set(_draws(np.where(np.arange(7) < 2, -0.0, 0.0), 200, top_k=3)[0]) == {0, 1, 2}  # zeros of both signs tie
  tied[4] = 1.0
  total = np.e + 6  # token 4 holds e / total, the others 1 / total each
  for top_p, want in ((0.9 * np.e / total, {4}), (1.1 * np.e / total, {4, 0}), ((np.e + 1.5) / total, {4, 0, 1})):
    assert set(_draws(tied, 200, top_p=top_p)[0]) == want


def test_greedy_is_the_chain_of_argmaxes():
  params, (prompts, mask) = _params(1), _prompts()
  rollouts = _jitted(group_size=2, max_new_tokens=20, temperature=0)(params, jax.random.key(0), prompts, mask)
  assert np.all(np.asarray(rollouts.log_probs) == 0) and np.all(np.asarray(rollouts.mask) == 1)
  np.testing.assert_array_equal(rollouts.tokens[:, 0], rollouts.tokens[:, 1])
  rows = np.concatenate([prompts, rollouts.tokens[:, 0]], 1)
  rows_mask = np.concatenate([mask, np.ones((3, 20))], 1)
  logits = _jit(lambda *args: _MODEL.logits(params, _MODEL.hidden(params, *args)))(rows, rows_mask)
  np.testing.assert_array_equal(np.argmax(logits, -1)[:, 4:-1], rows[:, 5:])
  assert len(set(rows[:, 5:].ravel())) > 2


def test_log_probs_are_those_of_scoring_and_stops_end_a_response():
  """Seventy-five tokens: past the first growth of the cache."""
  params, (prompts, mask) = _params(2), _prompts()
  stops, settings = (2, 7), dict(group_size=6, max_new_tokens=75)
  run = _jitted(**settings, stop_tokens=stops, pad_id=9)
  score = _jit(lambda params, rollouts, temperature: token_log_probs(
      _MODEL, params, prompts, mask, rollouts.tokens, rollouts.mask, temperature=temperature))
  for temperature in (1.0, 1.6):
    rollouts = run(params, jax.random.key(3), prompts, mask, temperature=temperature)
    tokens, counted, log_probs = map(np.asarray, (rollouts.tokens, rollouts.mask, rollouts.log_probs))
    lengths = counted.sum(-1).astype(int)
    assert len(set(lengths.ravel())) > 3
    for index in np.ndindex(3, 6):
      n = lengths[index]
      is_stop = np.isin(tokens[index][:n], stops)
      assert not is_stop[:-1].any() and (is_stop[-1] or n == 75)
      assert np.all(counted[index][:n] == 1) and np.all(log_probs[index][:n] < 0)
      assert np.all(tokens[index][n:] == 9) and not counted[index][n:].any() and not log_probs[index][n:].any()
    np.testing.assert_allclose(log_probs, score(params, rollouts, temperature), atol=1e-5)
    np.testing.assert_array_equal(rollouts.prompt, prompts)
    np.testing.assert_array_equal(rollouts.prompt_mask, mask)


def test_responses_depend_on_nothing_but_their_own_prompt_and_key():
  """Keys of the old kind, too: rows of numbers."""
  params, (prompts, mask) = _params(3), _prompts()
  keys = np.asarray(jax.random.split(jax.random.PRNGKey(4), 3))
  compiled = _jitted(group_size=4, max_new_tokens=8, stop_tokens=(1,))
  run = lambda rows, key_rows, mask=mask: jax.tree.map(
      np.asarray, compiled(params, keys[key_rows], prompts[rows], mask[rows]))
  whole = run([0, 1, 2], [0, 1, 2])
  for rows in ([1, 1, 1], [2, 0, 1]):
    part = run(rows, rows)
    np.testing.assert_array_equal(part.tokens, whole.tokens[rows])
    np.testing.assert_allclose(part.log_probs, whole.log_probs[rows], atol=1e-5)
  assert np.any(whole.tokens[:, 0] != whole.tokens[:, 1])
  repeated = run([0, 0, 0], [0, 0, 1]).tokens
  np.testing.assert_array_equal(repeated[0], repeated[1])
  assert np.any(repeated[0] != repeated[2])
  no_second = run([0, 1, 2], [0, 1, 2], mask * np.float32([[1], [0], [1]]))  # an empty prompt has empty responses
  np.testing.assert_array_equal(no_second.tokens[[0, 2]], whole.tokens[[0, 2]])
  np.testing.assert_allclose(no_second.log_probs[[0, 2]], whole.log_probs[[0, 2]], atol=1e-5)
  assert not np.any(no_second.tokens[1]) and not np.any(no_second.mask[1]) and not np.any(no_second.log_probs[1])


def test_vmap_over_seeds_and_temperatures_changes_nothing():
  """One key is as good as the keys it splits into."""
  params, (prompts, mask) = _params(4), _prompts(2)
  keys, temperatures = np.asarray(jax.random.split(jax.random.PRNGKey(5), 3)), np.float32([0.3, 1.0, 1.5])
  settings = dict(group_size=3, max_new_tokens=8, stop_tokens=(0, 4), pad_id=10)
  run = lambda sampler: lambda key, temperature: sampler(params, key, prompts, mask, temperature=temperature)
  mapped = jax.tree.map(np.asarray, _jit(jax.vmap(run(_sampler(**settings))))(keys, temperatures))
  assert len({tuple(lengths) for lengths in mapped.mask.sum(-1).reshape(3, -1)}) > 1
  for i in range(3):
    alone = run(_jitted(**settings))(jax.random.split(keys[i], 2), temperatures[i])
    np.testing.assert_array_equal(mapped.tokens[i], alone.tokens)
    np.testing.assert_array_equal(mapped.mask[i], alone.mask)
    np.testing.assert_allclose(mapped.log_probs[i], alone.log_probs, atol=1e-5)


def test_a_large_vocabulary_of_any_size():
  """50257 tokens, of which two thirds are impossible; the last token and a block's edge are likely."""
  rng, size = np.random.default_rng(6), 50257
  logits = np.where(np.arange(size) % 3 == 1, rng.normal(size=size), -np.inf)
  logits[[0, 255, 256, 50175, 50256]] = 9.0, -np.inf, 8.5, 8.0, 9.5
  probs = _softmax(logits)
  tokens, log_probs = _draws(logits, 50, 40)
  assert np.all(probs[tokens] > 0)
  np.testing.assert_allclose(log_probs, np.log(probs[tokens]), atol=2e-5)
  assert _fits(tokens, probs)
  thousands = np.bincount(np.arange(size) // 1000, probs)  # the small ones too lie where they should
  assert _fits(tokens // 1000, thousands)


@pytest.mark.parametrize("size, place", [(50257, 50256), (11, 10), (65, 64), (64, 0)])
def test_a_certain_token_is_always_drawn(size, place):
  logits = np.full(size, -np.inf)
  logits[place] = -3.0
  tokens, log_probs = _draws(logits, 30)
  assert np.all(tokens == place) and np.all(log_probs == 0)


@pytest.mark.parametrize("uniform, place", [(0.0, 70), (1 - 2.0**-24, 150)])
def test_the_ends_of_the_unit_interval_draw_possible_tokens(monkeypatch, uniform, place):
  """Only tokens 70 to 150 of 200 are possible; the numbers that the draw starts from are replaced."""
  monkeypatch.setattr(jax.random, "uniform", lambda key, shape, dtype: jnp.full(shape, uniform, dtype))
  logits = np.where((np.arange(200) >= 70) & (np.arange(200) <= 150), 0.1, -np.inf).astype(np.float32)
  run, one = _jit(_sampler(_constant(200), group_size=2, max_new_tokens=2)), np.ones((1, 1), np.int32)
  assert np.all(np.asarray(run(logits, jax.random.key(0), one, one).tokens) == place)


@pytest.mark.parametrize("settings, message", [
    (dict(group_size=2, max_new_tokens=80), "5.*80.*84"), (dict(group_size=0, max_new_tokens=8), "group_size=0"),
    (dict(group_size=2, max_new_tokens=0), "max_new_tokens=0"),
    (dict(group_size=2, max_new_tokens=8, top_k=-1), "top_k=-1")])
def test_what_cannot_be_sampled_is_refused(settings, message):
  params, (prompts, mask) = _params(), _prompts()
  with pytest.raises(ValueError, match=message):
    jax.eval_shape(_sampler(**settings), params, jax.random.key(0), prompts, mask)
