"""The hook into a decoder's residual stream: nothing written changes nothing, and steps do what whole sequences do."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore import policies
from rlcore.models import DecoderConfig, make_decoder, make_residual_hook, unstack_layers
from tests.tolerance import close

_SMALL = dict(vocab_size=13, context=16, layers=3, dim=16, heads=4, ff_dim=24)
_VARIANTS = {
    "list": DecoderConfig(**_SMALL, kv_heads=2, tie_embeddings=False),
    "scan": DecoderConfig(**_SMALL, qk_norm=True, scan_layers=True),
}
_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
_variants = pytest.mark.parametrize("config", _VARIANTS.values(), ids=_VARIANTS)


def _sequences():
  rng = np.random.default_rng(0)
  tokens, mask = rng.integers(0, 13, (2, 8)).astype(np.int32), np.ones((2, 8), np.float32)
  mask[0, :2] = 0
  return np.where(mask > 0, tokens, 10**6), mask


def _params(config):
  return make_decoder(config).init(jax.random.key(0))


@_variants
@pytest.mark.parametrize("layer", [0, 1, 3])
def test_writing_what_was_read_is_the_decoder(config, layer):
  hook, params, (tokens, mask) = make_residual_hook(config, layer), _params(config), _sequences()
  got = _jit(lambda p: hook.write(p, hook.read(p, tokens, mask), mask))(params)
  want = _jit(make_decoder(config).hidden)(params, tokens, mask)
  np.testing.assert_allclose(np.where(mask[..., None], got, 0), np.where(mask[..., None], want, 0), atol=2e-6)


@_variants
def test_reading_is_a_shallower_decoder(config):
  params, (tokens, mask) = _params(config), _sequences()
  got = _jit(make_residual_hook(config, 0).read)(params, tokens, mask)
  close(got[mask > 0], params["embed"][tokens[mask > 0]], rtol=1e-6)
  whole = _jit(make_residual_hook(config, 3).read)(params, tokens, mask)
  scale = np.sqrt(np.mean(np.square(whole), -1, keepdims=True) + config.norm_eps)
  want = _jit(make_decoder(config).hidden)(params, tokens, mask)
  np.testing.assert_allclose((whole / scale)[mask > 0], want[mask > 0], rtol=1e-4, atol=1e-5)


@_variants
def test_a_controller_acts_alike_in_steps_and_in_whole_sequences(config):
  model, hook, params, (tokens, mask) = make_decoder(config), make_residual_hook(config), _params(config), _sequences()
  rng = np.random.default_rng(1)
  left, right = (jnp.asarray(0.3 * rng.normal(size=(16, 2)), jnp.float32) for _ in range(2))
  control = jax.vmap(jax.vmap(lambda e: policies.apply_controller(e, left, right)))
  prompt, steps = 4, 4

  @_jit
  def in_steps(params):
    _, cache = model.prefill(params, tokens[:, :prompt], mask[:, :prompt], 1, steps)
    out = []
    for i in range(steps):
      residual, cache = hook.read_step(params, cache, tokens[:, prompt + i:prompt + i + 1], jnp.int32(i))
      hidden, cache = hook.write_step(params, cache, control(residual), jnp.int32(i))
      out.append(hidden[:, 0])
    return jnp.stack(out, 1)

  @_jit
  def whole(params):
    residual = hook.read(params, tokens, mask)
    residual = residual.at[:, prompt:].set(control(residual[:, prompt:]))
    return hook.write(params, residual, mask)[:, prompt:]

  got, want = in_steps(params), whole(params)
  np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
  plain = _jit(model.hidden)(params, tokens, mask)[:, prompt:]
  assert np.abs(got - plain).max() > 0.01


def test_frozen_weights_let_the_gradient_through_to_the_controller():
  config, (tokens, mask) = _VARIANTS["list"], _sequences()
  hook, params = make_residual_hook(config, 1), _params(config)

  def loss(params, left):
    params = jax.lax.stop_gradient(params)
    residual = hook.read(params, tokens, mask)
    hidden = hook.write(params, residual + residual @ left @ left.T, mask)
    return jnp.sum(jnp.where(mask[..., None] > 0, hidden, 0)**3)  # the squares of a normed row have a constant sum

  weights, left = _jit(jax.grad(loss, (0, 1)))(params, jnp.full((16, 2), 0.1).at[3].set(-0.5))
  assert np.any(left) and not any(np.any(x) for x in jax.tree.leaves(weights))


def test_stacked_layers_read_the_same():
  config, (tokens, mask) = _VARIANTS["scan"], _sequences()
  params = _params(config)
  single = unstack_layers(params)
  listed = DecoderConfig(**_SMALL, qk_norm=True)
  got = _jit(make_residual_hook(listed, 2).read)(single, tokens, mask)
  want = _jit(make_residual_hook(config, 2).read)(params, tokens, mask)
  np.testing.assert_allclose(got[mask > 0], want[mask > 0], rtol=1e-4, atol=1e-5)


def test_a_layer_that_is_not_there_is_refused():
  with pytest.raises(ValueError, match="layer=4 must lie between 0 and layers=3"):
    make_residual_hook(_VARIANTS["list"], 4)
  hook = make_residual_hook(_VARIANTS["list"])
  with pytest.raises(ValueError, match="17 tokens long, but the context is 16"):
    hook.read(_params(_VARIANTS["list"]), np.zeros((1, 17), int), np.ones((1, 17)))
