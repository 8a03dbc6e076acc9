"""A recurrent model with a control site in its middle, and the metacontroller that reads it there and writes to it.

Methods take ONE sequence `[T, ...]`, those called `..._step` one place of it; `jax.vmap` adds the batch. Frozen weights
that let the gradient through to what is written are `jax.lax.stop_gradient(params)`.
"""

from flax import linen as nn
import jax
import jax.numpy as jnp

from rlcore.models import recurrent
from rlcore.types import Array


class GRU(nn.Module):
  """A gated recurrent layer whose state starts at 0.

  Attributes:
    size: H.
    unroll: places of a sequence that one iteration of the scan computes.
  """

  size: int
  unroll: int = 4

  def setup(self):
    self.input = nn.Dense(3 * self.size)
    self.state = self.param("state", nn.initializers.lecun_normal(), (self.size, 3 * self.size))
    self.state_bias = self.param("state_bias", nn.initializers.zeros_init(), (self.size,))

  def step(self, state: Array, inputs: Array) -> Array:
    """Moves the state `[H]` by one input `[D]`."""
    return recurrent.advance({"state": self.state, "state_bias": self.state_bias}, state, self.input(inputs))

  def __call__(self, inputs: Array, mask: Array | None = None, reverse: bool = False) -> Array:
    """Maps `[T, D]` to the states `[T, H]` after each place; places whose mask `[T]` is 0 leave the state alone."""
    weights = {"state": self.state, "state_bias": self.state_bias}
    counted = jnp.ones(inputs.shape[0], bool) if mask is None else mask > 0

    def step(state, place):
      gates, counted = place
      state = jnp.where(counted, recurrent.advance(weights, state, gates), state)
      return state, state

    gates = self.input(jnp.where(counted[:, None], inputs, 0))
    start = jnp.zeros(self.size)
    return jax.lax.scan(step, start, (gates, counted), reverse=reverse, unroll=self.unroll)[1]


class ControlledGRU(nn.Module):
  """Two recurrent layers and a linear head; the output of the first may be rewritten on its way into the second.

  The first layer's own recurrence sees the state that was not rewritten.

  Attributes:
    size: D, of either layer.
    outputs: A, of the head.
  """

  size: int
  outputs: int

  def setup(self):
    self.lower, self.upper, self.head = GRU(self.size), GRU(self.size), nn.Dense(self.outputs)

  def read(self, inputs: Array) -> Array:
    """Maps `[T, I]` to the residual `[T, D]`; entry t has seen inputs 0..t."""
    return self.lower(inputs)

  def write(self, residual: Array) -> Array:
    """Goes on from a residual `[T, D]` to the logits `[T, A]`."""
    return self.head(self.upper(residual))

  def read_step(self, state: Array, inputs: Array) -> Array:
    """Moves the first layer's state `[D]` by one input `[I]`; the new state is the residual."""
    return self.lower.step(state, inputs)

  def write_step(self, state: Array, residual: Array) -> tuple[Array, Array]:
    """Moves the second layer's state `[D]` by a residual `[D]`; returns it and the logits `[A]`."""
    state = self.upper.step(state, residual)
    return state, self.head(state)

  def __call__(self, inputs: Array) -> Array:
    """Maps `[T, I]` to the logits `[T, A]` without control."""
    return self.write(self.read(inputs))


class Metacontroller(nn.Module):
  """Proposes codes from the whole sequence, decides when to take them over, and turns them into controllers.

  Attributes:
    size: D, of the residual.
    code: Z.
    rank: r, of the controller.
    hidden: of the recurrent layers.

  Reference: Internal RL, arXiv:2512.20605.
  """

  size: int
  code: int = 8
  rank: int = 4
  hidden: int = 32

  def setup(self):
    self.ahead, self.back, self.proposal, self.switch = (GRU(self.hidden) for _ in range(4))
    self.moments, self.gate = nn.Dense(2 * self.code), nn.Dense(1)
    self.decoder_hidden, self.decoder = nn.Dense(2 * self.code), nn.Dense(2 * self.size * self.rank)

  def propose(self, residual: Array, mask: Array) -> tuple[Array, Array]:
    """Reads a whole sequence `[T, D]`: mean and log-variance `[T, Z]` of the code proposed at each place."""
    context = jnp.concatenate([self.ahead(residual, mask), self.back(residual, mask, reverse=True), residual], -1)
    mean, log_var = jnp.split(self.moments(self.proposal(context, mask)), 2, -1)
    return mean, log_var

  def switch_step(self, state: Array, residual: Array, code: Array) -> tuple[Array, Array]:
    """Moves the switch's state `[hidden]` by a residual `[D]` and the code held before `[Z]`; returns it and beta."""
    state = self.switch.step(state, jnp.concatenate([residual, code]))
    return state, jax.nn.sigmoid(self.gate(state)[0])

  def decode(self, code: Array) -> Array:
    """Maps a code `[Z]` to its controller, the factors left and right in one `[2, D, r]`."""
    return self.decoder(nn.relu(self.decoder_hidden(code))).reshape(2, self.size, self.rank)

  def __call__(self, residual: Array, mask: Array) -> Array:
    """Runs every part once, for the initialisation."""
    mean, _ = self.propose(residual, mask)
    self.switch_step(jnp.zeros(self.hidden), residual[0], mean[0])
    return self.decode(mean[0])


class CodePolicy(nn.Module):
  """A causal policy over codes: a Gaussian whose mean follows the residual; it starts at N(0, I).

  Attributes:
    code: Z.
    hidden: of the recurrent layer.
  """

  code: int = 8
  hidden: int = 32

  def setup(self):
    self.memory = GRU(self.hidden)
    self.mean = nn.Dense(self.code, kernel_init=nn.initializers.zeros_init())
    self.log_std = self.param("log_std", nn.initializers.zeros_init(), (self.code,))

  def step(self, state: Array, residual: Array) -> tuple[Array, Array, Array]:
    """Moves the state `[hidden]` by a residual `[D]`; returns it, the mean and the log-variance `[Z]`."""
    state = self.memory.step(state, residual)
    return state, self.mean(state), 2 * self.log_std

  def __call__(self, residual: Array) -> tuple[Array, Array]:
    """Maps a sequence `[T, D]` to means `[T, Z]` and log-variances `[T, Z]`."""
    mean = self.mean(self.memory(residual))
    return mean, jnp.broadcast_to(2 * self.log_std, mean.shape)
