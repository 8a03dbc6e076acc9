"""A small auto-encoder, for spaces of behaviour that are learned."""

from collections.abc import Sequence

from flax import linen as nn
import jax.numpy as jnp

from rlcore.models.mlp import MLP
from rlcore.types import Array


class AutoEncoder(nn.Module):
  """An encoder and a decoder that mirrors it; tanh everywhere, the code included, but for the linear output.

  Attributes:
    outputs: D, length of what is encoded.
    code: length of the code.
    hidden: widths of the encoder's hidden layers; the decoder has them in the reverse order.
  """

  outputs: int
  code: int
  hidden: Sequence[int] = (32,)

  @nn.compact
  def __call__(self, inputs: Array) -> tuple[Array, Array]:
    """Maps `[..., D]` to codes `[..., code]` and reconstructions `[..., D]`."""
    code = jnp.tanh(MLP(self.hidden, self.code, name="encoder")(inputs))
    return code, MLP(tuple(self.hidden)[::-1], self.outputs, name="decoder")(code)
