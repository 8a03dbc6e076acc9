"""A decoder language model of the Llama/Qwen3 kind as pure functions of a dictionary of arrays.

RMSNorm, rotary positions (half-rotation), grouped-query attention, SwiGLU, optionally RMSNorm of queries and keys and
tied embeddings. A matrix is `[inputs, outputs]`; the rows of heads are contiguous, so Hugging Face checkpoints of these
families fit after a transpose. Layers are a list of dictionaries (fastest), or one dictionary of stacked arrays that is
scanned (`scan_layers`, fastest to compile); `stack_layers` and `unstack_layers` convert parameters.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rlcore.models import products
from rlcore.models.attention import causal_mask
from rlcore.types import Array, LanguageModel, PyTree


_FEW = 64  # rows up to which the product with the embedding is taken as in a step
_MATRICES = ("q", "k", "v", "o", "gate", "up", "down")


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
  """Shape and numerics of a decoder.

  Attributes:
    vocab_size: V.
    context: greatest length of prompt + response.
    layers: number of blocks.
    dim: D, width of the residual stream.
    heads: query heads.
    kv_heads: key/value heads, a divisor of `heads`; None for `heads`.
    head_dim: K; None for `dim // heads`.
    ff_dim: width of the feed-forward part; None for `4 * dim`.
    rope_theta: base of the rotary wavelengths.
    norm_eps: added to the mean square in RMSNorm.
    qk_norm: RMSNorm of each head's query and key before the rotation (Qwen3).
    tie_embeddings: the output matrix is the embedding.
    scan_layers: stacked layers in `lax.scan` in place of a list.
    remat: recompute each block in the backward pass; saves memory, costs a third of the time.
    dtype: of activations, "float32" or "bfloat16"; norms, softmax and logits are float32 always.
    param_dtype: of the parameters.
  """

  vocab_size: int
  context: int
  layers: int = 4
  dim: int = 256
  heads: int = 4
  kv_heads: int | None = None
  head_dim: int | None = None
  ff_dim: int | None = None
  rope_theta: float = 10_000.0
  norm_eps: float = 1e-6
  qk_norm: bool = False
  tie_embeddings: bool = True
  scan_layers: bool = False
  remat: bool = False
  dtype: Any = "float32"
  param_dtype: Any = "float32"

  def __post_init__(self):
    set_ = lambda name, value: object.__setattr__(self, name, value)
    set_("kv_heads", self.heads if self.kv_heads is None else self.kv_heads)
    set_("head_dim", self.dim // max(self.heads, 1) if self.head_dim is None else self.head_dim)
    set_("ff_dim", 4 * self.dim if self.ff_dim is None else self.ff_dim)
    for name in ("vocab_size", "context", "dim", "heads", "kv_heads", "head_dim", "ff_dim"):
      if getattr(self, name) < 1:
        raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
    if self.heads % self.kv_heads:
      raise ValueError(f"kv_heads={self.kv_heads} does not divide heads={self.heads}")
    if self.head_dim % 2:
      raise ValueError(f"head_dim={self.head_dim} must be even: rotary positions turn pairs of coordinates")


def init(config: DecoderConfig, key: Array) -> PyTree:
  """Draws parameters: fan-in scaled normals, the projections back into the residual stream damped by its depth."""
  c = config
  embed_key, out_key, *layer_keys = jax.random.split(key, 2 + c.layers)
  normal = lambda key, shape, std: (std * jax.random.normal(key, shape)).astype(c.param_dtype)
  ones = lambda n: jnp.ones(n, c.param_dtype)

  def layer(key):
    keys = iter(jax.random.split(key, 7))
    matrix = lambda n_in, n_out, scale=1.0: normal(next(keys), (n_in, n_out), scale * n_in**-0.5)
    damp = (2 * c.layers) ** -0.5
    weights = dict(
        attn_norm=ones(c.dim), mlp_norm=ones(c.dim),
        q=matrix(c.dim, c.heads * c.head_dim), k=matrix(c.dim, c.kv_heads * c.head_dim),
        v=matrix(c.dim, c.kv_heads * c.head_dim), o=matrix(c.heads * c.head_dim, c.dim, damp),
        gate=matrix(c.dim, c.ff_dim), up=matrix(c.dim, c.ff_dim), down=matrix(c.ff_dim, c.dim, damp))
    return weights | (dict(q_norm=ones(c.head_dim), k_norm=ones(c.head_dim)) if c.qk_norm else {})

  params = dict(embed=normal(embed_key, (c.vocab_size, c.dim), c.dim**-0.5), layers=[layer(k) for k in layer_keys],
                final_norm=ones(c.dim))
  if not c.tie_embeddings:
    params["unembed"] = normal(out_key, (c.dim, c.vocab_size), c.dim**-0.5)
  return stack_layers(params) if c.scan_layers else params


def stack_layers(params: PyTree) -> PyTree:
  """Turns a list of layers into one dictionary of stacked arrays (for `scan_layers`)."""
  return params | {"layers": jax.tree.map(lambda *x: jnp.stack(x), *params["layers"])}


def unstack_layers(params: PyTree) -> PyTree:
  """Turns stacked layers into a list of dictionaries."""
  count = jax.tree.leaves(params["layers"])[0].shape[0]
  return params | {"layers": [jax.tree.map(lambda x: x[i], params["layers"]) for i in range(count)]}


def rms_norm(config: DecoderConfig, x: Array, weight: Array) -> Array:
  """Divides `[..., N]` by its root mean square and multiplies by `weight [N]`; in float32, returns `config.dtype`."""
  x32 = x.astype(jnp.float32)
  scale = jax.lax.rsqrt(jnp.mean(x32 * x32, -1, keepdims=True) + config.norm_eps)
  return (x32 * scale * weight).astype(config.dtype)


def _rotation(config: DecoderConfig, positions: Array) -> tuple[Array, Array]:
  """Looks up cosine and sine `[..., 1, K/2]` of the angles at `positions [...]`.

  From a table, and not computed: the compiler would compute them again in every layer, once per head.
  """
  frequency = np.float32(config.rope_theta) ** (-np.arange(0, config.head_dim, 2, dtype=np.float32) / config.head_dim)
  angle = np.arange(config.context, dtype=np.float32)[:, None] * frequency.astype(np.float32)
  look_up = lambda table: jnp.take(jnp.asarray(table), positions, axis=0, mode="clip")[..., None, :]
  return look_up(np.cos(angle)), look_up(np.sin(angle))


def _rotate(config: DecoderConfig, x: Array, rotation: tuple[Array, Array]) -> Array:
  """Turns `x [..., heads, K]`: coordinate i pairs with i + K/2."""
  cos, sin = rotation
  x1, x2 = jnp.split(x.astype(jnp.float32), 2, -1)
  return jnp.concatenate([x1 * cos - x2 * sin, x2 * cos + x1 * sin], -1).astype(config.dtype)


def _queries_keys_values(config: DecoderConfig, layer: PyTree, x: Array, rotation: PyTree,
                         matmul=products.matmul) -> tuple[Array, ...]:
  c = config
  x = rms_norm(c, x, layer["attn_norm"])
  split = lambda name: matmul(x, layer[name]).reshape(*x.shape[:-1], -1, c.head_dim)
  q, k, v = split("q"), split("k"), split("v")
  if c.qk_norm:
    q, k = rms_norm(c, q, layer["q_norm"]), rms_norm(c, k, layer["k_norm"])
  return _rotate(c, q, rotation), _rotate(c, k, rotation), v


def _after_attention(config: DecoderConfig, layer: PyTree, x: Array, attended: Array,
                     matmul=products.matmul) -> Array:
  shape = x.shape
  through = lambda x, name: matmul(x, layer[name])
  x = x.reshape(-1, config.dim) + through(attended.reshape(-1, config.heads * config.head_dim), "o")
  h = rms_norm(config, x, layer["mlp_norm"])
  return (x + through(jax.nn.silu(through(h, "gate")) * through(h, "up"), "down")).reshape(shape)


def embed(config: DecoderConfig, params: PyTree, tokens: Array) -> Array:
  """Looks up `[..., D]`, where the residual stream begins."""
  return jnp.take(params["embed"], tokens, axis=0, mode="clip").astype(config.dtype)


def check_length(config: DecoderConfig, length: int, what: str):
  """Raises a ValueError that names `what` if it is longer than the context."""
  if length > config.context:
    raise ValueError(f"{what} is {length} tokens long, but the context is {config.context}")


def run_layers(config: DecoderConfig, layers: PyTree, x: Array, mask: Array) -> tuple[Array, PyTree]:
  """Returns the stream `[B, S, D]` after some layers and the keys and values `[B, S, kv_heads, K]` of each of them."""
  counted = mask > 0
  rotation = _rotation(config, jnp.maximum(jnp.cumsum(counted, -1) - 1, 0))
  visible = causal_mask(counted, mask.shape[1])

  def block(x, layer):
    q, k, v = _queries_keys_values(config, layer, x, rotation)
    attended = jax.nn.dot_product_attention(q, k, v, mask=visible)
    return _after_attention(config, layer, x, attended), (k, v)

  if config.remat:
    block = jax.checkpoint(block)
  return _through_layers(config, block, x, layers)


def forward(config: DecoderConfig, params: PyTree, tokens: Array, mask: Array) -> tuple[Array, PyTree]:
  """`run_layers` of the embedded tokens."""
  return run_layers(config, params["layers"], embed(config, params, jnp.where(mask > 0, tokens, 0)), mask)


def respond(config: DecoderConfig, params: PyTree, prompts: Array, prompt_mask: Array, tokens: Array,
            mask: Array) -> Array:
  """Runs each prompt `[B, P]` once and its responses `[B, G, T]` after it; see `LanguageModel.respond`."""
  batch, group, length = tokens.shape
  check_length(config, prompts.shape[1] + length, f"the prompt ({prompts.shape[1]}) with its response ({length})")
  prompt_on, response_on = prompt_mask > 0, mask[..., :-1].reshape(batch * group, -1) > 0
  repeat = lambda x: jnp.repeat(x, group, 0)
  join = lambda prompt, response: jnp.concatenate([prompt.reshape(-1, *prompt.shape[2:]),
                                                   response.reshape(-1, *response.shape[2:])])
  split = lambda x: (x[:prompts.size].reshape(*prompts.shape, *x.shape[1:]),
                     x[prompts.size:].reshape(*response_on.shape, *x.shape[1:]))
  every_on = jnp.concatenate([repeat(prompt_on), response_on], 1)
  position = jnp.maximum(jnp.cumsum(every_on, -1) - 1, 0)
  position = join(position.reshape(batch, group, -1)[:, 0, :prompts.shape[1]], position[:, prompts.shape[1]:])
  rotation = _rotation(config, position)
  prompt_sees, response_sees = causal_mask(prompt_on, prompts.shape[1]), causal_mask(every_on, length - 1)

  def block(x, layer):
    (q0, q1), (k0, k1), (v0, v1) = map(split, _queries_keys_values(config, layer, x, rotation))
    every = lambda prompt, response: jnp.concatenate([repeat(prompt), response], 1)
    attended = join(jax.nn.dot_product_attention(q0, k0, v0, mask=prompt_sees),
                    jax.nn.dot_product_attention(q1, every(k0, k1), every(v0, v1), mask=response_sees))
    return _after_attention(config, layer, x, attended), None

  if config.remat:
    block = jax.checkpoint(block)
  flat = join(jnp.where(prompt_on, prompts, 0), jnp.where(response_on, tokens[..., :-1].reshape(response_on.shape), 0))
  x, _ = _through_layers(config, block, embed(config, params, flat), params["layers"])
  before, after = split(rms_norm(config, x, params["final_norm"]))
  first = jnp.broadcast_to(before[:, None, -1:], (batch, group, 1, config.dim))
  return jnp.concatenate([first, after.reshape(batch, group, -1, config.dim)], 2)


def _through_layers(config: DecoderConfig, block, x: Array, layers: PyTree) -> tuple[Array, PyTree]:
  """Runs `block(x, layer) -> (x, out)` over the layers; `out` is stacked, or a list, like the layers."""
  if config.scan_layers:
    return jax.lax.scan(block, x, layers)
  outs = []
  for layer in layers:
    x, out = block(x, layer)
    outs.append(out)
  return x, outs


def hidden(config: DecoderConfig, params: PyTree, tokens: Array, mask: Array) -> Array:
  """Runs whole sequences `[B, S]`; see `LanguageModel.hidden`."""
  check_length(config, tokens.shape[1], "the sequence")
  return rms_norm(config, forward(config, params, tokens, mask)[0], params["final_norm"])


def logits(config: DecoderConfig, params: PyTree, hidden: Array) -> Array:
  """Maps `[..., D]` to `[..., V]` float32."""
  if config.tie_embeddings and hidden.size <= _FEW * config.dim:
    return products.matmul_few(hidden, params["embed"], jnp.float32)
  weight, axis = (params["embed"], 1) if config.tie_embeddings else (params["unembed"], 0)
  dims = (((hidden.ndim - 1,), (axis,)), ((), ()))
  return jax.lax.dot_general(hidden, weight.astype(config.dtype), dims, preferred_element_type=jnp.float32)


def prefill(config: DecoderConfig, params: PyTree, tokens: Array, mask: Array, group_size: int,
            max_new_tokens: int) -> tuple[Array, PyTree]:
  """Runs the prompts `[B, P]` once and makes room for `group_size` responses to each; see `LanguageModel.prefill`."""
  batch, length = tokens.shape
  check_length(config, length, "the prompt")
  x, kv = forward(config, params, tokens, mask)
  def layer_cache(keys, values):
    # heads before places: the products of a step then read memory in order
    keys, values = jnp.swapaxes(keys, -3, -2), jnp.swapaxes(values, -3, -2)
    own = jnp.zeros((*keys.shape[:-2], group_size, max_new_tokens, config.head_dim), keys.dtype)
    return dict(prompt_keys=jnp.swapaxes(keys, -2, -1), prompt_values=values, keys=(own,), values=(own,))

  counted = mask > 0
  turned = lambda x: jnp.swapaxes(x, -2, -1).astype(config.dtype)
  turn = lambda layer: {name: turned(x) if name in _MATRICES else x for name, x in layer.items()}
  weights = turn(params["layers"]) if config.scan_layers else [turn(layer) for layer in params["layers"]]
  cache = dict(weights=jax.lax.optimization_barrier(weights),
               layers=layer_cache(*kv) if config.scan_layers else [layer_cache(*one) for one in kv],
               prompt_bias=jnp.where(counted, 0.0, -jnp.inf), prompt_length=jnp.sum(counted, -1, dtype=jnp.int32))
  cache = cache | dict(rotation=_response_rotation(config, cache, max_new_tokens))
  return rms_norm(config, x[:, -1], params["final_norm"]), cache


def _response_rotation(config: DecoderConfig, cache: PyTree, room: int) -> tuple[Array, Array]:
  length = cache["prompt_bias"].shape[1]
  check_length(config, length + room, f"the prompt ({length}) with its response ({room})")
  return _rotation(config, cache["prompt_length"][:, None] + jnp.arange(room))


def extend(config: DecoderConfig, cache: PyTree, max_new_tokens: int) -> PyTree:
  """Makes room for responses of `max_new_tokens`; see `LanguageModel.extend`."""
  room = max_new_tokens - cache["rotation"][0].shape[1]

  def more(pieces):  # beside the others: to copy them into a larger array takes longer than many steps
    new = jnp.zeros((*pieces[0].shape[:-2], room, config.head_dim), pieces[0].dtype)
    return (*(x for x in pieces if x.size), new)

  grow_layer = lambda layer: layer | {name: more(layer[name]) for name in ("keys", "values")}
  layers = cache["layers"]
  layers = grow_layer(layers) if config.scan_layers else [grow_layer(layer) for layer in layers]
  return cache | dict(layers=layers, rotation=_response_rotation(config, cache, max_new_tokens))


def _attend_cached(config: DecoderConfig, q: Array, k: Array, v: Array, cache: PyTree, bias: Array, index: Array):
  """Attends from `q [B, G, heads, K]` to the shared prompt and to each row's own response; writes `k` and `v`."""
  batch, group, _, width = q.shape
  by_head = lambda x: jnp.swapaxes(x.reshape(batch, group, config.kv_heads, -1, width), 1, 2)
  q, place = by_head(q) * width**-0.5, (0, 0, 0, index - sum(x.shape[3] for x in cache["keys"][:-1]), 0)
  write = lambda pieces, x: (*pieces[:-1], jax.lax.dynamic_update_slice(pieces[-1], by_head(x), place))
  keys, values = write(cache["keys"], k), write(cache["values"], v)
  dot = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)
  scores = [dot("bkgrd,bkdp->bkgrp", q, cache["prompt_keys"])] + [dot("bkgrd,bkgtd->bkgrt", q, x) for x in keys]
  ends = np.cumsum([x.shape[-1] for x in scores])[:-1]
  scores = jnp.concatenate(scores, -1) + bias
  weights = jnp.exp(scores - jnp.max(scores, -1, keepdims=True))
  total = jnp.sum(weights, -1, keepdims=True)
  shared, *own = jnp.split(weights.astype(v.dtype), ends, -1)
  attended = dot("bkgrp,bkpd->bkgrd", shared, cache["prompt_values"])
  for one_weights, one_values in zip(own, values):
    attended += dot("bkgrt,bkgtd->bkgrd", one_weights, one_values)
  attended = jnp.swapaxes((attended / total).astype(v.dtype), 1, 2)
  return attended, cache | dict(keys=keys, values=values)


def step_layers(config: DecoderConfig, cache: PyTree, weights: PyTree, layers: PyTree, x: Array,
                index: Array) -> tuple[Array, PyTree]:
  """Runs one place `[B, G, D]` of each row through some layers, given their weights and caches; returns new caches."""
  rotation = jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, index, 1), cache["rotation"])
  room = cache["rotation"][0].shape[1]
  own_bias = jnp.where(jnp.arange(room) <= index, 0.0, -jnp.inf)
  bias = jnp.concatenate([cache["prompt_bias"], jnp.broadcast_to(own_bias, (x.shape[0], room))], -1)

  def block(x, inputs):
    layer, layer_cache = inputs
    q, k, v = _queries_keys_values(config, layer, x, rotation, products.matmul_few)
    attended, layer_cache = _attend_cached(config, q, k, v, layer_cache, bias[:, None, None, None], index)
    return _after_attention(config, layer, x, attended, products.matmul_few), layer_cache

  pairs = (weights, layers)
  return _through_layers(config, block, x, pairs if config.scan_layers else list(zip(*pairs)))


def step(config: DecoderConfig, params: PyTree, cache: PyTree, tokens: Array, index: Array) -> tuple[Array, PyTree]:
  """Appends one token to each row; see `LanguageModel.step`."""
  x, layers = step_layers(config, cache, cache["weights"], cache["layers"], embed(config, params, tokens), index)
  return rms_norm(config, x, params["final_norm"]), cache | {"layers": layers}


def adopt(config: DecoderConfig, cache: PyTree, rows: Array, mask: Array, width: int) -> PyTree:
  """Makes a row's response a part of the prompt of its group, without computing it again; see `LanguageModel.adopt`.

  The prompt's keys and values move to the left, so that their room stays `width` places however often this happens.
  """
  length = mask.shape[1]

  def join(prompt, own, axis):
    joined = jnp.concatenate([prompt, own], axis)
    padding = [(0, 0)] * joined.ndim
    padding[axis] = (max(width - joined.shape[axis], 0), 0)
    return jax.lax.slice_in_dim(jnp.pad(joined, padding), -width, None, axis=axis)

  def grow(layer):
    def chosen(pieces):  # [..., B, kv_heads, G, T, K]
      own = jnp.concatenate(pieces, -2)
      index = rows.reshape((1,) * (own.ndim - 5) + (-1, 1, 1, 1, 1))
      return jnp.take_along_axis(own[..., :length, :], index, -3)[..., 0, :, :]
    return dict(prompt_keys=join(layer["prompt_keys"], jnp.swapaxes(chosen(layer["keys"]), -2, -1), -1),
                prompt_values=join(layer["prompt_values"], chosen(layer["values"]), -2),
                keys=(layer["keys"][0][..., :0, :],), values=(layer["values"][0][..., :0, :],))

  bias = jnp.concatenate([cache["prompt_bias"], jnp.where(mask > 0, 0.0, -jnp.inf)], -1)
  bias = jnp.pad(bias, ((0, 0), (max(width - bias.shape[1], 0), 0)), constant_values=-jnp.inf)[:, -width:]
  layers = cache["layers"]
  layers = grow(layers) if config.scan_layers else [grow(layer) for layer in layers]
  length = cache["prompt_length"] + jnp.sum(mask > 0, -1, dtype=jnp.int32)
  cache = cache | dict(layers=layers, prompt_bias=bias, prompt_length=length)
  return cache | dict(rotation=_response_rotation(config, cache, 0))


def make_decoder(config: DecoderConfig) -> LanguageModel:
  """Binds the configuration: a decoder as pure functions of its parameters.

  Args:
    config: shape and numerics.

  Returns:
    The model.
  """
  bind = lambda function: lambda *args: function(config, *args)
  return LanguageModel(init=bind(init), hidden=bind(hidden), logits=bind(logits), prefill=bind(prefill),
                       step=bind(step), extend=bind(extend), respond=bind(respond), adopt=bind(adopt),
                       vocab_size=config.vocab_size)
