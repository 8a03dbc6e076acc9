"""Multilayer perceptrons for small worlds."""

from collections.abc import Callable, Sequence

from flax import linen as nn
import jax
import jax.numpy as jnp

from rlcore.models import dense
from rlcore.types import Array

ACTIVATIONS = {"tanh": jnp.tanh, "relu": jax.nn.relu, "silu": jax.nn.silu}


class MLP(nn.Module):
  """Hidden layers with an activation each, then a linear layer.

  Attributes:
    hidden: widths of the hidden layers.
    outputs: width of the last layer.
    activation: "tanh", "relu" or "silu".
    zero_last: start the last layer at 0: a policy then starts uniform, a value at 0.
    kernel_init: `(factor) -> initialiser`, see `dense.init_at_once`.
  """

  hidden: Sequence[int]
  outputs: int
  activation: str = "tanh"
  zero_last: bool = False
  kernel_init: Callable[[float], nn.initializers.Initializer] = dense.lecun_normal

  @nn.compact
  def __call__(self, inputs: Array) -> Array:
    """Maps `[..., D]` to `[..., outputs]`."""
    if self.activation not in ACTIVATIONS:
      raise ValueError(f"activation={self.activation!r} is none of {', '.join(ACTIVATIONS)}")
    x = inputs
    for width in self.hidden:
      x = ACTIVATIONS[self.activation](dense.Dense(width, kernel_init=self.kernel_init(1.0))(x))
    last = nn.initializers.zeros_init() if self.zero_last else self.kernel_init(1.0)
    return dense.Dense(self.outputs, kernel_init=last)(x)
