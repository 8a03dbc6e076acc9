"""One GRU layer: behind the `LanguageModel` interface, and as a network on vectors."""

from collections.abc import Callable
import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rlcore.types import Array, LanguageModel, PyTree


@dataclasses.dataclass(frozen=True)
class GRUConfig:
  """Shape of a GRU language model.

  Attributes:
    vocab_size: V, tokens that can be drawn: ids 0 to V - 1.
    context: most tokens in a sequence, prompt and response together.
    dim: D, width of the embeddings and of the state.
    input_size: token ids that can be read; larger than V where a prompt uses tokens that cannot be drawn. None: V.
    unroll: places of a sequence that one iteration of the scan computes.
  """

  vocab_size: int
  context: int
  dim: int = 48
  input_size: int | None = None
  unroll: int = 4

  def __post_init__(self):
    if self.input_size is not None and self.input_size < self.vocab_size:
      raise ValueError(f"input_size={self.input_size} is smaller than vocab_size={self.vocab_size}")


def init(config: GRUConfig, key: Array) -> PyTree:
  """Draws the parameters: prompt embeddings with standard deviation 1, the other embeddings with 0.3."""
  size, dim = config.input_size or config.vocab_size, config.dim
  fan_in = dim**-0.5
  shapes = dict(prompt=(size, dim), token=(size, dim), position=(config.context, dim), input=(dim, 3 * dim),
                state=(dim, 3 * dim), output=(dim, config.vocab_size))
  scales = dict(prompt=1.0, token=0.3, position=0.3, input=fan_in, state=fan_in, output=fan_in)
  ends = np.cumsum([math.prod(shape) for shape in shapes.values()])
  flat = jax.random.normal(key, (ends[-1],))  # one call: the generator is slow to compile
  parts = dict(zip(shapes, jnp.split(flat, ends[:-1])))
  weights = {name: scales[name] * parts[name].reshape(shape) for name, shape in shapes.items()}
  biases = dict(input_bias=3 * dim, state_bias=dim, output_bias=config.vocab_size)
  return weights | {name: jnp.zeros(width) for name, width in biases.items()}


def _inputs(params: PyTree, tokens: Array, prompt: Array, positions: Array) -> Array:
  """Sums token, prompt and position embeddings `[..., D]` and projects them to the three gates `[..., 3 D]`."""
  take = lambda name, index: jnp.take(params[name], index, axis=0, mode="clip")
  x = take("token", tokens) + take("prompt", prompt) + take("position", positions)
  return x @ params["input"] + params["input_bias"]


def advance(params: PyTree, state: Array, inputs: Array) -> Array:
  """Moves the state `[..., D]` by one token: reset gate, update gate, candidate."""
  reset_in, update_in, new_in = jnp.split(inputs, 3, -1)
  reset_h, update_h, new_h = jnp.split(state @ params["state"], 3, -1)
  reset, update = jax.nn.sigmoid(reset_in + reset_h), jax.nn.sigmoid(update_in + update_h)
  new = jnp.tanh(new_in + reset * (new_h + params["state_bias"]))
  return (1 - update) * new + update * state


def _check_length(config: GRUConfig, length: int, what: str):
  if length > config.context:
    raise ValueError(f"{what} is {length} tokens long, but the context is {config.context}")


def _first_token(tokens: Array, mask: Array) -> Array:
  """Returns the first counted token `[B]` of `[B, S]`."""
  return jnp.take_along_axis(tokens, jnp.argmax(mask > 0, -1)[:, None], -1)[:, 0]


def hidden(config: GRUConfig, params: PyTree, tokens: Array, mask: Array) -> Array:
  """Runs whole sequences `[B, S]`; see `LanguageModel.hidden`. A masked place leaves the state as it is."""
  _check_length(config, tokens.shape[1], "the sequence")
  counted = mask > 0
  tokens = jnp.where(counted, tokens, 0)
  positions = jnp.maximum(jnp.cumsum(counted, -1) - 1, 0)
  inputs = _inputs(params, tokens, _first_token(tokens, mask)[:, None], positions)

  def step(state, place):
    inputs, counted = place
    state = jnp.where(counted[:, None], advance(params, state, inputs), state)
    return state, state

  start = jnp.zeros_like(inputs[:, 0, :config.dim])
  _, states = jax.lax.scan(step, start, (inputs.swapaxes(0, 1), counted.T), unroll=config.unroll)
  return states.swapaxes(0, 1)


def logits(config: GRUConfig, params: PyTree, hidden: Array) -> Array:
  """Maps `[..., D]` to `[..., V]` float32."""
  del config
  return hidden @ params["output"] + params["output_bias"]


def prefill(config: GRUConfig, params: PyTree, tokens: Array, mask: Array, group_size: int,
            max_new_tokens: int) -> tuple[Array, PyTree]:
  """Reads the prompts `[B, P]` once for `group_size` responses to each; see `LanguageModel.prefill`."""
  last = hidden(config, params, tokens, mask)[:, -1]
  state = jnp.broadcast_to(last[:, None], (last.shape[0], group_size, last.shape[1]))
  cache = dict(state=state, prompt=_first_token(tokens, mask), counted=mask > 0)
  return last, extend(config, cache, max_new_tokens)


def extend(config: GRUConfig, cache: PyTree, max_new_tokens: int) -> PyTree:
  """Checks that responses of `max_new_tokens` fit; a state needs no room. See `LanguageModel.extend`."""
  length = cache["counted"].shape[1]
  _check_length(config, length + max_new_tokens, f"the prompt ({length}) with its response ({max_new_tokens})")
  return cache


def step(config: GRUConfig, params: PyTree, cache: PyTree, tokens: Array, index: Array) -> tuple[Array, PyTree]:
  """Appends one token to each row; see `LanguageModel.step`."""
  del config
  positions = jnp.sum(cache["counted"], -1, dtype=jnp.int32, keepdims=True) + index
  inputs = _inputs(params, tokens, cache["prompt"][:, None], positions)
  state = jnp.where(tokens[..., None] >= 0, advance(params, cache["state"], inputs), cache["state"])
  return state, cache | {"state": state}


def adopt(config: GRUConfig, cache: PyTree, rows: Array, mask: Array, width: int) -> PyTree:
  """Hands the state of one row to all of its group; see `LanguageModel.adopt`."""
  state = jnp.take_along_axis(cache["state"], rows[:, None, None], 1)
  counted = jnp.concatenate([cache["counted"], mask > 0], 1)
  counted = jnp.pad(counted, ((0, 0), (max(width - counted.shape[1], 0), 0)))[:, -width:]
  return extend(config, cache | dict(state=jnp.broadcast_to(state, cache["state"].shape), counted=counted), 0)


def make_gru(config: GRUConfig) -> LanguageModel:
  """Binds the configuration: a GRU whose every input is token + prompt + position embedding.

  "Prompt" is the first token of the sequence: its own embedding is added at every place, so that what it stands for
  need not be remembered by the state.

  Args:
    config: shape.

  Returns:
    The model; its parameters are float32.

  Reference: GRU, arXiv:1406.1078 (reset gate after the matrix product, as cuDNN has it).
  """
  bind = lambda function: lambda *args: function(config, *args)
  return LanguageModel(init=bind(init), hidden=bind(hidden), logits=bind(logits), prefill=bind(prefill),
                       step=bind(step), extend=bind(extend), adopt=bind(adopt), vocab_size=config.vocab_size)


class GRUNetwork(NamedTuple):
  """A GRU layer with a linear head, on vectors.

  Attributes:
    init: `(key) -> params`.
    start: `[D]` float32, the state before the first input.
    step: `(params, state [..., D], inputs [..., I]) -> (state [..., D], outputs [..., O])`.
  """

  init: Callable[[Array], PyTree]
  start: Array
  step: Callable[[PyTree, Array, Array], tuple[Array, Array]]


def make_gru_network(input_size: int, dim: int, output_size: int) -> GRUNetwork:
  """Makes a GRU that reads vectors; its head starts at a tenth of the usual scale, so that first outputs are small.

  Args:
    input_size: I.
    dim: D, width of the state.
    output_size: O.

  Returns:
    The network; its parameters are float32.

  Reference: GRU, arXiv:1406.1078 (reset gate after the matrix product, as cuDNN has it).
  """
  scales = dict(input=input_size**-0.5, state=dim**-0.5, output=0.1 * dim**-0.5)
  shapes = dict(input=(input_size, 3 * dim), state=(dim, 3 * dim), output=(dim, output_size))

  def init(key):
    keys = jax.random.split(key, len(shapes))
    weights = {name: scales[name] * jax.random.normal(k, shape) for k, (name, shape) in zip(keys, shapes.items())}
    biases = dict(input_bias=3 * dim, state_bias=dim, output_bias=output_size)
    return weights | {name: jnp.zeros(width) for name, width in biases.items()}

  def step(params, state, inputs):
    state = advance(params, state, inputs @ params["input"] + params["input_bias"])
    return state, state @ params["output"] + params["output_bias"]

  return GRUNetwork(init, jnp.zeros(dim), step)
