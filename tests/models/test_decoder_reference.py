"""The decoder against a float64 decoder in NumPy, and its ways of running against each other."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore.models import DecoderConfig, make_decoder, stack_layers, unstack_layers
from tests.tolerance import close

# a short wavelength base and a large epsilon: mistakes in either show within a few tokens
_SMALL = dict(vocab_size=13, context=16, layers=2, dim=16, heads=4, ff_dim=24, rope_theta=30.0, norm_eps=0.05)
_VARIANTS = {
    "llama": DecoderConfig(**_SMALL, kv_heads=2, tie_embeddings=False),
    "qwen": DecoderConfig(**_SMALL, kv_heads=1, head_dim=6, qk_norm=True, scan_layers=True),
    "plain": DecoderConfig(**_SMALL),
}
_JUNK = (-7, 13, 10**6)
_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # compiles twice as fast


@functools.cache
def _hidden(config):
  """One compiled function a variant: every test gives it six rows of ten places."""
  return _jit(make_decoder(config).hidden)


def _params(config, seed=0):
  """Draws parameters of which every one matters, those of the norms too."""
  rng = np.random.default_rng(seed)
  draw = lambda path, x: np.float32((path[-1].key[-4:] == "norm") + 0.3 * rng.normal(size=x.shape))
  return jax.tree_util.tree_map_with_path(draw, jax.eval_shape(make_decoder(config).init, jax.random.key(0)))


def _with_junk(rng, mask):
  """Tokens where `mask` is 1, ids that mean nothing where it is 0."""
  return np.where(mask > 0, rng.integers(0, 13, mask.shape), rng.choice(_JUNK, mask.shape)).astype(np.int32)


def _ragged(seed=0):
  """Six sequences of ten places: padding on the left, on both sides, and a hole; junk ids where the mask is 0."""
  mask = np.array([[0, 0, 0, 1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 1, 1, 1, 1], [0, 1, 1, 1, 0, 1, 1, 1, 0, 0]])
  mask = np.tile(mask, (2, 1)).astype(np.float32)
  return _with_junk(np.random.default_rng(seed), mask), mask


def _norm(x, weight, eps):
  return x / np.sqrt(np.mean(x**2, -1, keepdims=True) + eps) * weight


def _turn(vector, position, theta):
  """Multiplies the complex numbers (x_i, x_{i + K/2}) by exp(1j * position * theta^(-2i/K))."""
  half = len(vector) // 2
  turned = [complex(vector[i], vector[i + half]) * np.exp(1j * position * theta ** (-2 * i / len(vector)))
            for i in range(half)]
  return np.array([z.real for z in turned] + [z.imag for z in turned])


def _oracle(config, params, tokens):
  """Runs one sequence without padding, one query head of one place at a time; returns hidden states and logits."""
  c = config
  params = jax.tree.map(lambda x: np.asarray(x, np.float64), unstack_layers(params) if c.scan_layers else params)
  x = params["embed"][tokens]
  for w in params["layers"]:
    h = _norm(x, w["attn_norm"], c.norm_eps)
    heads = {name: (h @ w[name]).reshape(len(tokens), -1, c.head_dim) for name in "qkv"}
    if c.qk_norm:
      heads["q"], heads["k"] = (_norm(heads[n], w[n + "_norm"], c.norm_eps) for n in "qk")
    for name in "qk":
      heads[name] = np.array([[_turn(v, s, c.rope_theta) for v in row] for s, row in enumerate(heads[name])])
    attended = np.zeros((len(tokens), c.heads, c.head_dim))
    for s in range(len(tokens)):
      for head in range(c.heads):
        shared = head // (c.heads // c.kv_heads)
        scores = heads["k"][:s + 1, shared] @ heads["q"][s, head] / np.sqrt(c.head_dim)
        weights = np.exp(scores - scores.max())
        attended[s, head] = weights / weights.sum() @ heads["v"][:s + 1, shared]
    x = x + attended.reshape(len(tokens), -1) @ w["o"]
    h = _norm(x, w["mlp_norm"], c.norm_eps)
    gate = h @ w["gate"]
    x = x + (gate / (1 + np.exp(-gate)) * (h @ w["up"])) @ w["down"]
  hidden = _norm(x, params["final_norm"], c.norm_eps)
  return hidden, hidden @ (params["embed"].T if c.tie_embeddings else params["unembed"])


@pytest.mark.parametrize("name", _VARIANTS)
def test_hidden_and_logits_equal_the_equations(name):
  config = _VARIANTS[name]
  model, params, (tokens, mask) = make_decoder(config), _params(config), _ragged()
  hidden = _hidden(config)(params, tokens, mask)
  logits = model.logits(params, hidden)
  assert hidden.shape == (6, 10, 16) and logits.shape == (6, 10, 13) and logits.dtype == jnp.float32
  assert np.isfinite(logits).all()
  for row in range(6):
    real = mask[row] > 0
    want_hidden, want_logits = _oracle(config, params, tokens[row][real])
    np.testing.assert_allclose(hidden[row][real], want_hidden, rtol=1e-4, atol=2e-5)
    np.testing.assert_allclose(logits[row][real], want_logits, rtol=1e-4, atol=5e-5)


def test_a_layer_list_and_stacked_layers_are_the_same_model():
  scanned = _VARIANTS["qwen"]
  listed = dataclasses.replace(scanned, scan_layers=False)
  params, (tokens, mask) = _params(listed), _ragged(1)
  stacked = stack_layers(params)
  jax.tree.map(np.testing.assert_array_equal, unstack_layers(stacked), params)
  shapes = lambda config: jax.tree.map(jnp.shape, jax.eval_shape(make_decoder(config).init, jax.random.key(0)))
  assert shapes(scanned) == jax.tree.map(jnp.shape, stacked)
  np.testing.assert_allclose(_hidden(scanned)(stacked, tokens, mask), _hidden(listed)(params, tokens, mask), atol=1e-5)


@pytest.mark.parametrize("name", ["llama", "qwen"])
def test_prefill_and_steps_equal_the_whole_sequence(name):
  """Two rows a prompt; room for three tokens at first, then for six."""
  config = _VARIANTS[name]
  model, params, (tokens, mask) = make_decoder(config), _params(config, 2), _ragged(2)
  prompts, prompt_mask = tokens[:3, :4], mask[:3, :4]
  responses = np.random.default_rng(3).integers(0, 13, (3, 2, 6)).astype(np.int32)
  last, cache = _jit(model.prefill, static_argnums=(3, 4))(params, prompts, prompt_mask, 2, 3)
  step, states = _jit(model.step), []
  for t in range(6):
    if t == 3:
      cache = _jit(model.extend, static_argnums=1)(cache, 6)
    state, cache = step(params, cache, responses[:, :, t], jnp.int32(t))
    states.append(state)
  rows = np.concatenate([np.repeat(prompts, 2, 0), responses.reshape(6, 6)], 1)
  rows_mask = np.concatenate([np.repeat(prompt_mask, 2, 0), np.ones((6, 6))], 1)
  want = _hidden(config)(params, rows, rows_mask).reshape(3, 2, 10, 16)
  np.testing.assert_allclose(last, want[:, 0, 3], atol=2e-5)
  np.testing.assert_allclose(np.stack(states, 2), want[:, :, 4:], atol=2e-5)


@pytest.mark.parametrize("name", ["llama", "qwen"])
def test_groups_after_a_shared_prompt_equal_whole_sequences(name):
  config = _VARIANTS[name]
  params, (tokens, mask) = _params(config, 4), _ragged(4)
  prompts, prompt_mask = tokens[:2, :5], mask[:2, :5]
  mask = np.array([[[1, 1, 1, 1, 1, 1], [1, 1, 0, 1, 1, 1], [1, 1, 1, 0, 0, 0]],
                   [[1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0], [0, 1, 1, 1, 0, 1]]], np.float32)
  tokens = _with_junk(np.random.default_rng(5), mask)
  rows = np.concatenate([np.repeat(prompts, 3, 0), tokens.reshape(6, 6)], 1)[:, :-1]
  rows_mask = np.concatenate([np.repeat(prompt_mask, 3, 0), mask.reshape(6, 6)], 1)[:, :-1]
  want = np.asarray(_hidden(config)(params, rows, rows_mask))[:, 4:].reshape(2, 3, 6, 16)
  respond = _jit(make_decoder(config).respond)
  got = np.asarray(respond(params, prompts, prompt_mask, tokens, mask))
  assert got.shape == (2, 3, 6, 16) and np.isfinite(got).all()
  np.testing.assert_allclose(got[mask > 0], want[mask > 0], atol=2e-5)
  np.testing.assert_allclose(got[:, :, 0], want[:, :, 0], atol=2e-5)
  if name == "llama":
    one = respond(params, prompts, prompt_mask, tokens[..., :1], mask[..., :1])
    np.testing.assert_allclose(one, want[:, :, :1], atol=2e-5)


def _loss(model, tokens, mask):
  def loss(params):
    logits = model.logits(params, model.hidden(params, tokens, mask))
    return jnp.sum(jax.nn.logsumexp(logits, -1) * mask) / 10
  return _jit(jax.value_and_grad(loss))


def test_remat_changes_no_number_and_junk_no_gradient():
  config = _VARIANTS["qwen"]
  params, (tokens, mask) = _params(config, 6), _ragged(6)
  clean = np.where(mask > 0, tokens, 3).astype(np.int32)
  value, grad = _loss(make_decoder(config), clean, mask)(params)
  assert all(np.isfinite(g).all() and np.any(g) for g in jax.tree.leaves(grad))
  other, other_grad = _loss(make_decoder(dataclasses.replace(config, remat=True)), tokens, mask)(params)
  close(other, value, rtol=1e-6)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), other_grad, grad)


def test_bfloat16_is_close_and_gives_float32_logits():
  config = _VARIANTS["qwen"]
  half = make_decoder(dataclasses.replace(config, dtype="bfloat16", param_dtype="bfloat16"))
  drawn = jax.eval_shape(half.init, jax.random.key(0))
  assert {x.dtype for x in jax.tree.leaves(drawn)} == {jnp.dtype(jnp.bfloat16)}
  params, (tokens, mask) = jax.tree.map(lambda x: x.astype(jnp.bfloat16), _params(config, 7)), _ragged(7)
  prompts, prompt_mask, responses = tokens[:3, :4], mask[:3, :4], np.full((3, 2, 2), 5, np.int32)
  rows = np.concatenate([np.repeat(prompts, 2, 0), responses.reshape(6, 2), np.zeros((6, 4), np.int32)], 1)
  rows_mask = np.concatenate([np.repeat(prompt_mask, 2, 0), np.ones((6, 6), np.float32)], 1)
  hidden = _jit(half.hidden)(params, rows, rows_mask)
  logits = half.logits(params, hidden)
  assert hidden.dtype == jnp.bfloat16 and logits.dtype == jnp.float32
  hidden = np.float64(hidden)
  for row in range(6):
    real = rows_mask[row] > 0
    want_hidden, want_logits = _oracle(config, params, rows[row][real])
    assert np.std(hidden[row][real] - want_hidden) < 0.05 * np.std(want_hidden)
    assert np.std(np.float64(logits[row])[real] - want_logits) < 0.05 * np.std(want_logits)

  state, cache = _jit(half.prefill, static_argnums=(3, 4))(params, prompts, prompt_mask, 2, 2)
  np.testing.assert_allclose(np.float64(state), hidden[::2, 3], atol=0.1)
  step = _jit(half.step)
  for t in range(2):
    state, cache = step(params, cache, responses[:, :, t], jnp.int32(t))
    assert state.dtype == jnp.bfloat16
    assert np.std(np.float64(state).reshape(6, 16) - hidden[:, 4 + t]) < 0.05 * np.std(hidden)


def test_too_long_sequences_are_refused_with_their_numbers():
  model = make_decoder(_VARIANTS["llama"])
  params = jax.eval_shape(model.init, jax.random.key(0))
  ids = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.int32)
  hidden = lambda n: jax.eval_shape(model.hidden, params, ids(1, n), ids(1, n))
  prefill = lambda n, t: jax.eval_shape(lambda p, x, m: model.prefill(p, x, m, 2, t), params, ids(1, n), ids(1, n))
  respond = lambda n, t: jax.eval_shape(model.respond, params, ids(1, n), ids(1, n), ids(1, 2, t), ids(1, 2, t))
  assert hidden(16).shape == (1, 16, 16) and respond(9, 7).shape == (1, 2, 7, 16)
  _, cache = prefill(9, 7)
  with pytest.raises(ValueError, match="17 .*16"):
    hidden(17)
  for length, room in ((17, 0), (9, 8)):
    with pytest.raises(ValueError, match=rf"{length}.*16"):
      prefill(length, room)
  with pytest.raises(ValueError, match="9.*8.*16"):
    jax.eval_shape(lambda cache: model.extend(cache, 8), cache)
  with pytest.raises(ValueError, match="9.*8.*16"):
    respond(9, 8)


def test_impossible_shapes_are_refused():
  with pytest.raises(ValueError, match="kv_heads=3 does not divide heads=4"):
    DecoderConfig(vocab_size=5, context=4, dim=16, heads=4, kv_heads=3)
  with pytest.raises(ValueError, match="head_dim=5"):
    DecoderConfig(vocab_size=5, context=4, dim=20, heads=4)
