"""The GRU language model against a NumPy loop, and its two ways of running against each other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore.models import GRUConfig, make_gru

_CONFIG = GRUConfig(vocab_size=7, context=9, dim=6, input_size=10, unroll=2)


def _setup(seed=0, batch=3, length=9):
  rng = np.random.default_rng(seed)
  params = make_gru(_CONFIG).init(jax.random.key(seed))
  params = jax.tree.map(lambda x: x + 0.1 * jnp.asarray(rng.normal(size=x.shape), jnp.float32), params)  # biases too
  tokens = rng.integers(0, 10, (batch, length)).astype(np.int32)
  return rng, params, tokens


def _oracle(params, tokens, mask):
  """Runs one sequence in float64; returns the state after every place."""
  p = {name: np.asarray(x, np.float64) for name, x in params.items()}
  sigmoid = lambda x: 1 / (1 + np.exp(-x))
  dim = p["token"].shape[1]
  state, states, seen = np.zeros(dim), [], []
  for token, counted in zip(tokens, mask):
    if counted:
      seen.append(token)
      x = p["token"][token] + p["prompt"][seen[0]] + p["position"][len(seen) - 1]
      gate = lambda i: x @ p["input"][:, i * dim:(i + 1) * dim] + p["input_bias"][i * dim:(i + 1) * dim]
      rec = lambda i: state @ p["state"][:, i * dim:(i + 1) * dim]
      reset, update = sigmoid(gate(0) + rec(0)), sigmoid(gate(1) + rec(1))
      state = (1 - update) * np.tanh(gate(2) + reset * (rec(2) + p["state_bias"])) + update * state
    states.append(state)
  return np.stack(states)


def test_hidden_and_logits_equal_the_recurrence():
  rng, params, tokens = _setup()
  model = make_gru(_CONFIG)
  mask = np.array([[0, 0, 1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 0, 0, 0], [0, 1, 1, 0, 1, 1, 1, 0, 1]], np.float32)
  want = np.stack([_oracle(params, t, m) for t, m in zip(tokens, mask)])
  junk = np.where(mask > 0, tokens, rng.choice([-5, 99, 10**6], tokens.shape)).astype(np.int32)
  hidden = jax.jit(model.hidden)(params, junk, mask)
  np.testing.assert_allclose(hidden, want, atol=2e-6)
  logits = model.logits(params, hidden)
  assert logits.shape == (3, 9, model.vocab_size) and logits.dtype == jnp.float32
  np.testing.assert_allclose(logits, want @ np.float64(params["output"]) + np.float64(params["output_bias"]), atol=5e-6)


def test_prefill_and_steps_equal_the_whole_sequence():
  rng, params, tokens = _setup(1, batch=2, length=4)
  model = make_gru(_CONFIG)
  prompt_mask = np.array([[0, 0, 1, 1], [1, 1, 1, 1]], np.float32)
  responses = rng.integers(0, 7, (2, 3, 5)).astype(np.int32)
  last, cache = jax.jit(model.prefill, static_argnums=(3, 4))(params, tokens, prompt_mask, 3, 5)
  cache = model.extend(cache, 5)  # a state needs no room
  states, step = [], jax.jit(model.step)
  for t in range(5):
    hidden, cache = step(params, cache, responses[:, :, t], jnp.int32(t))
    states.append(hidden)
  whole_sequence = jax.jit(model.hidden)
  for g in range(3):
    whole = np.concatenate([tokens, responses[:, g]], 1)
    mask = np.concatenate([prompt_mask, np.ones((2, 5))], 1)
    hidden = whole_sequence(params, whole, mask)
    np.testing.assert_allclose(last, hidden[:, 3], atol=1e-6)
    np.testing.assert_allclose(np.stack(states, 2)[:, g], hidden[:, 4:], atol=1e-6)


def test_initial_scales_and_gradients():
  config = GRUConfig(vocab_size=40, context=50, dim=64)
  model = make_gru(config)
  params = jax.jit(model.init)(jax.random.key(0))
  for name, std in (("prompt", 1.0), ("token", 0.3), ("position", 0.3)):
    assert abs(params[name].std() / std - 1) < 0.05
  tokens, mask = np.arange(20).reshape(2, 10), np.ones((2, 10))
  def loss(params):
    return jnp.sum(jax.nn.logsumexp(model.logits(params, model.hidden(params, tokens, mask)), -1))
  for name, grad in jax.jit(jax.grad(loss))(params).items():
    assert np.isfinite(grad).all() and np.any(grad), name


def test_too_long_sequences_are_refused():
  model = make_gru(_CONFIG)
  _, params, tokens = _setup(length=10)
  with pytest.raises(ValueError, match="10 tokens long, but the context is 9"):
    model.hidden(params, tokens, np.ones((3, 10)))
  with pytest.raises(ValueError, match="context is 9"):
    model.prefill(params, tokens[:, :6], np.ones((3, 6)), 2, 4)
  _, cache = model.prefill(params, tokens[:, :6], np.ones((3, 6)), 2, 2)
  with pytest.raises(ValueError, match=r"prompt \(6\) with its response \(4\)"):
    model.extend(cache, 4)
  with pytest.raises(ValueError, match="input_size=3"):
    GRUConfig(vocab_size=7, context=9, input_size=3)
