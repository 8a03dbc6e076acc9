"""Log-probabilities of given responses against the full logits, and the memory they take."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore.models import DecoderConfig, make_decoder
from rlcore.policies import token_log_probs
from tests.tolerance import close

_CONFIG = DecoderConfig(vocab_size=17, context=16, layers=2, dim=16, heads=4, kv_heads=2, ff_dim=24, qk_norm=True)
_MODEL = make_decoder(_CONFIG)
_JUNK = (-3, 17, 10**6)
_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # compiles twice as fast


def _params(seed=0):
  rng = np.random.default_rng(seed)
  shapes = jax.eval_shape(_MODEL.init, jax.random.key(0))
  return jax.tree.map(lambda x: np.float32((x.ndim == 1) + 0.4 * rng.normal(size=x.shape)), shapes)


def _batch(seed=0):
  """Two groups of three responses of seven places, ragged on both sides; row 5 is empty; junk in the padding."""
  rng = np.random.default_rng(seed)
  prompt_mask = np.array([[0, 0, 1, 1], [1, 1, 1, 1]], np.float32)
  lengths = np.array([[7, 3, 1], [5, 6, 0]])
  mask = (np.arange(7) < lengths[..., None]).astype(np.float32)
  draw = lambda mask: np.where(mask > 0, rng.integers(0, 17, mask.shape), rng.choice(_JUNK, mask.shape))
  fill = lambda mask: draw(mask).astype(np.int32)
  return fill(prompt_mask), prompt_mask, fill(mask), mask


def _flat(prompts, prompt_mask, tokens, mask):
  return np.repeat(prompts, 3, 0), np.repeat(prompt_mask, 3, 0), tokens.reshape(6, 7), mask.reshape(6, 7)


def _full_logits(params, prompts, prompt_mask, tokens, valid):
  """The logits before each response token, `[N, T, V]`, all at once."""
  rows, rows_mask = jnp.concatenate([prompts, tokens], 1), jnp.concatenate([prompt_mask, valid], 1)
  return _MODEL.logits(params, _MODEL.hidden(params, rows, rows_mask))[:, prompts.shape[1] - 1:-1]


def _reference(params, batch, temperature=1.0, valid=None):
  """Log-probabilities and entropies in float64, by the definition."""
  prompts, prompt_mask, tokens, mask = batch
  logits = _jit(_full_logits)(params, prompts, prompt_mask, tokens, mask if valid is None else valid)
  logits = np.float64(logits) / temperature
  log_probs = np.zeros(mask.shape)
  entropy = np.zeros(mask.shape)
  for place in zip(*np.nonzero(mask)):
    probs = np.exp(logits[place] - logits[place].max())
    probs /= probs.sum()
    log_probs[place], entropy[place] = np.log(probs[tokens[place]]), -np.sum(probs * np.log(probs))
  return log_probs, entropy


@pytest.mark.parametrize("chunk_size", [1, 24])
def test_chunks_of_any_size_give_the_log_probs_and_entropies(chunk_size):
  """With six rows: chunks of one and of four of the seven places."""
  params, batch, temperature = _params(), _flat(*_batch()), 0.7
  score = _jit(lambda params, temperature, *batch: token_log_probs(
      _MODEL, params, *batch, temperature=temperature, chunk_size=chunk_size, with_entropy=True))
  log_probs, entropy = score(params, temperature, *batch)
  assert log_probs.shape == entropy.shape == (6, 7) and log_probs.dtype == entropy.dtype == jnp.float32
  want_log_probs, want_entropy = _reference(params, batch, temperature)
  np.testing.assert_allclose(log_probs, want_log_probs, atol=2e-5)
  np.testing.assert_allclose(entropy, want_entropy, atol=2e-5)
  assert not np.any(np.asarray(log_probs)[batch[3] == 0]) and not np.any(np.asarray(entropy)[batch[3] == 0])


def test_groups_equal_rows_and_valid_tokens_are_read_but_not_scored():
  """An environment's tokens sit in the middle of a response; they condition what follows."""
  params, batch = _params(1), _batch(1)
  prompts, prompt_mask, tokens, valid = batch
  mask = valid * np.array([1, 0, 0, 1, 1, 0, 1], np.float32)
  score = _jit(lambda params, *args: token_log_probs(_MODEL, params, *args[:4], valid=args[4], chunk_size=9))
  got = score(params, prompts, prompt_mask, tokens, mask, valid)
  flat = _flat(prompts, prompt_mask, tokens, mask)
  want, _ = _reference(params, flat, valid=valid.reshape(6, 7))
  assert got.shape == (2, 3, 7)
  np.testing.assert_allclose(got.reshape(6, 7), want, atol=2e-5)
  np.testing.assert_allclose(score(params, *flat, valid.reshape(6, 7)), want, atol=2e-5)
  unread, _ = _reference(params, flat)
  assert np.max(np.abs(unread - want)) > 0.1


def test_a_model_without_respond_scores_the_same():
  params, batch = _params(2), _batch(2)
  score = lambda model: _jit(lambda params, *batch: token_log_probs(model, params, *batch))(params, *batch)
  want = score(_MODEL)
  np.testing.assert_allclose(score(_MODEL._replace(respond=None)), want, atol=2e-5)


def test_gradients_are_those_of_the_full_logits_and_ignore_junk():
  params, groups = _params(3), _batch(3)
  flat = _flat(*groups)
  clean = np.where(flat[1] > 0, flat[0], 1), flat[1], np.where(flat[3] > 0, flat[2], 1), flat[3]
  weights = np.random.default_rng(4).normal(size=(6, 7)).astype(np.float32)

  def chunked(params, *batch):
    log_probs, entropy = token_log_probs(_MODEL, params, *batch, temperature=1.3, chunk_size=12, with_entropy=True)
    return jnp.sum(weights * (log_probs + 0.5 * entropy).reshape(6, 7))

  def full(params):
    log_p = jax.nn.log_softmax(_full_logits(params, *clean) / 1.3, -1)
    chosen = jnp.take_along_axis(log_p, clean[2][..., None], -1)[..., 0]
    return jnp.sum(weights * clean[3] * (chosen - 0.5 * jnp.sum(jnp.exp(log_p) * log_p, -1)))

  want, want_grad = _jit(jax.value_and_grad(full))(params)
  assert all(np.any(g) for g in jax.tree.leaves(want_grad))
  for batch in (flat, groups):
    value, grad = _jit(jax.value_and_grad(chunked))(params, *batch)
    close(value, want, rtol=1e-5)
    jax.tree.map(functools.partial(close, rtol=1e-4), grad, want_grad)


def test_the_gradient_needs_a_fraction_of_the_memory_of_the_logits():
  """Compiled, not run: the logits of 64 x 128 tokens of 32768 would take 1 GiB."""
  n, length, vocab = 64, 128, 32768
  model = make_decoder(DecoderConfig(vocab_size=vocab, context=132, layers=1, dim=16, heads=1, ff_dim=16))
  loss = lambda *args: jnp.sum(jnp.stack(token_log_probs(model, *args, with_entropy=True)))
  ids = lambda width: jax.ShapeDtypeStruct((n, width), jnp.int32)
  args = jax.eval_shape(model.init, jax.random.key(0)), ids(4), ids(4), ids(length), ids(length)
  peak = jax.jit(jax.grad(loss)).lower(*args).compile().memory_analysis().temp_size_in_bytes
  assert 0 < peak <= 4 * n * length * vocab / 8


def test_a_prompt_and_response_beyond_the_context_are_refused():
  ids = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.int32)
  params = jax.eval_shape(_MODEL.init, jax.random.key(0))
  with pytest.raises(ValueError, match="context is 16"):
    jax.eval_shape(lambda *args: token_log_probs(_MODEL, *args), params, ids(2, 9), ids(2, 9), ids(2, 9), ids(2, 9))
