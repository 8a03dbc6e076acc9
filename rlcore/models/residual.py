"""A hook into the residual stream of a decoder: read it after some layers, write it, and go on from what was written.

The layers below the hook read, those above it write. What is written at one place is seen by the upper layers of later
places, the lower ones see tokens alone.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax

from rlcore.models import decoder
from rlcore.models.decoder import DecoderConfig
from rlcore.types import Array, PyTree


class ResidualHook(NamedTuple):
  """A decoder cut in two. Writing what was read is the decoder itself; its `logits` and `prefill` serve both halves.

  Frozen weights that let the gradient through to what is written are `jax.lax.stop_gradient(params)`.

  Attributes:
    read: `(params, tokens [B, S], mask [B, S]) -> residual [B, S, D]`; entry s has seen tokens 0..s.
    write: `(params, residual [B, S, D], mask [B, S]) -> hidden [B, S, D]`, as `LanguageModel.hidden`.
    read_step: `(params, cache, tokens [B, G], index) -> (residual [B, G, D], cache)`, the lower half of
      `LanguageModel.step`.
    write_step: `(params, cache, residual [B, G, D], index) -> (hidden [B, G, D], cache)`, the upper half. Every token
      is read, then written.
  """

  read: Callable[[PyTree, Array, Array], Array]
  write: Callable[[PyTree, Array, Array], Array]
  read_step: Callable[[PyTree, PyTree, Array, Array], tuple[Array, PyTree]]
  write_step: Callable[[PyTree, PyTree, Array, Array], tuple[Array, PyTree]]


def make_residual_hook(config: DecoderConfig, layer: int | None = None) -> ResidualHook:
  """Cuts a decoder after some of its layers.

  Args:
    config: of the decoder.
    layer: number of layers below the hook, 0 to all of them; None for half.

  Returns:
    The hook.

  Raises:
    ValueError: if there are not so many layers; as the decoder's own functions for sequences that are too long.

  Reference: Internal RL, arXiv:2512.20605 (a controller at middle depth).
  """
  cut = config.layers // 2 if layer is None else layer
  if not 0 <= cut <= config.layers:
    raise ValueError(f"layer={cut} must lie between 0 and layers={config.layers}")
  lower, upper = slice(0, cut), slice(cut, config.layers)
  part = lambda layers, half: jax.tree.map(lambda x: x[half], layers) if config.scan_layers else layers[half]
  norm = lambda params, x: decoder.rms_norm(config, x, params["final_norm"])

  def read(params, tokens, mask):
    decoder.check_length(config, tokens.shape[1], "the sequence")
    return decoder.forward(config, params | {"layers": part(params["layers"], lower)}, tokens, mask)[0]

  def write(params, residual, mask):
    residual = residual.astype(config.dtype)
    return norm(params, decoder.run_layers(config, part(params["layers"], upper), residual, mask)[0])

  def through(cache, half, x, index):
    x, new = decoder.step_layers(
        config, cache, part(cache["weights"], half), part(cache["layers"], half), x.astype(config.dtype), index)
    if config.scan_layers:
      layers = jax.tree.map(lambda whole, piece: whole.at[half].set(piece), cache["layers"], new)
    else:
      layers = [*cache["layers"][:half.start], *new, *cache["layers"][half.stop:]]
    return x, cache | {"layers": layers}

  def read_step(params, cache, tokens, index):
    return through(cache, lower, decoder.embed(config, params, tokens), index)

  def write_step(params, cache, residual, index):
    x, cache = through(cache, upper, residual, index)
    return norm(params, x), cache

  return ResidualHook(read, write, read_step, write_step)
