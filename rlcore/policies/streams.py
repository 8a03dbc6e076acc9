"""Policies for streams of steps: discrete or continuous actions, vectors or images, with a memory or without."""

from collections.abc import Callable, Sequence
import functools

from flax import linen as nn
import jax
import jax.numpy as jnp

from rlcore import checks
from rlcore.models import dense, mlp
from rlcore.policies import controller, tanh_gaussian
from rlcore.types import Array, StreamPolicy, World

_TORSOS = ("mlp", "cnn", "gru")


class _Encoder(nn.Module):
  """What comes before the heads: convolutions for images, then hidden layers."""

  hidden: Sequence[int]
  activation: str
  channels: Sequence[int]
  kernel_init: Callable[[float], nn.initializers.Initializer]

  @nn.compact
  def __call__(self, observation: Array) -> Array:
    x = observation.astype(jnp.float32)
    for width in self.channels:
      x = nn.relu(nn.Conv(width, (3, 3))(x))
    x = x.reshape(-1)
    return x if not self.hidden else mlp.ACTIVATIONS[self.activation](
        mlp.MLP(self.hidden[:-1], self.hidden[-1], self.activation, kernel_init=self.kernel_init)(x))


class _Network(nn.Module):
  """Encoder, memory and heads; with `shared` the value is read from the policy's own features."""

  outputs: int
  hidden: Sequence[int]
  activation: str
  channels: Sequence[int]
  memory_size: int
  shared: bool
  critic: bool
  continuous: bool
  kernel_init: Callable[[float], nn.initializers.Initializer] = dense.lecun_normal

  @nn.compact
  def __call__(self, memory: dict[str, Array], observation: Array):
    outputs, actor = self._trunk("actor", memory, observation)
    nearly_uniform = self.kernel_init(0.01)
    scores = dense.Dense(self.outputs, kernel_init=nearly_uniform, name="policy")(outputs)
    if self.continuous:
      scores = scores, self.param("log_std", nn.initializers.zeros_init(), (self.outputs,))
    value, critic = jnp.zeros(()), {}
    if self.critic:
      if not self.shared:
        outputs, critic = self._trunk("critic", memory, observation)
      value = dense.Dense(1, kernel_init=self.kernel_init(1.0), name="value")(outputs)[0]
    return scores, value, actor | critic

  def _trunk(self, name, memory, observation):
    x = _Encoder(self.hidden, self.activation, self.channels, self.kernel_init, name=name)(observation)
    if not self.memory_size:
      return x, {}
    state, x = nn.GRUCell(self.memory_size, name=f"{name}_memory")(memory[name], x)
    return x, {name: state}


def make_stream_policy(
    world: World,
    *,
    torso: str = "mlp",
    hidden: Sequence[int] = (64, 64),
    activation: str = "tanh",
    channels: Sequence[int] = (16, 32),
    memory_size: int = 64,
    shared: bool = False,
    critic: bool = True,
) -> StreamPolicy:
  """Makes policy and critic for the observations and actions of a world.

  Discrete actions are drawn from a categorical distribution, real ones from a Gaussian with diagonal covariance whose
  standard deviations do not depend on the state. The policy starts close to uniform, or close to the standard normal in
  units of half the world's box of actions, about its middle; the world clips what lies beyond.

  Args:
    world: whose shapes are read.
    torso: "mlp"; "cnn" puts 3x3 convolutions before it, for `[H, W, C]`; "gru" puts a memory behind it.
    hidden: widths of the hidden layers.
    activation: of the hidden layers, see `models.MLP`.
    channels: of the convolutions, read by "cnn" only.
    memory_size: width of the memory, read by "gru" only.
    shared: whether the critic reads the policy's features; else it has layers of its own, memory included.
    critic: whether there is one; values are 0 without.

  Returns:
    The policy; its distribution is logits `[A]`, or `(mean [A], log_std [A])` of what is mapped onto the box.

  Raises:
    ValueError: for another torso or activation, hidden layers that are one number, or a "cnn" on observations that are
      not `[H, W, C]`.
  """
  shape = world.observation_shape or (world.observation_size,)
  if torso not in _TORSOS:
    raise ValueError(f"torso={torso!r} is none of {', '.join(_TORSOS)}")
  if torso == "cnn" and len(shape) != 3:
    raise ValueError(f"torso='cnn' takes observations [H, W, C]; those of this world have shape {shape}")
  checks.widths(hidden=hidden)
  if activation not in mlp.ACTIVATIONS:
    raise ValueError(f"activation={activation!r} is none of {', '.join(mlp.ACTIVATIONS)}")
  continuous = world.action_size > 0
  outputs = world.action_size or world.num_actions
  network = functools.partial(
      _Network, outputs, tuple(hidden), activation, tuple(channels) if torso == "cnn" else (),
      memory_size if torso == "gru" else 0, shared, critic, continuous)
  init = lambda key: dense.init_at_once(lambda draw: network(kernel_init=draw), key, memory, jnp.zeros(shape))
  names = ("actor",) if shared or not critic else ("actor", "critic")
  memory = {name: jnp.zeros(memory_size) for name in names} if torso == "gru" else {}
  draw = jax.random.normal if continuous else jax.random.gumbel
  sample, score = _categorical_sample, _categorical_score
  if continuous:
    sample, score = _gaussian(*tanh_gaussian.action_box(world, bounded=False))
  return StreamPolicy(init, memory, network().apply, sample, score,
                      noise=lambda key, count: draw(key, (count, outputs)))


def _drawn(noise, draw, shape):
  """Takes a key in the place of the noise, too."""
  return draw(noise, shape) if jnp.issubdtype(noise.dtype, jax.dtypes.prng_key) else noise


def _categorical_sample(noise, logits):
  action = jnp.argmax(logits + _drawn(noise, jax.random.gumbel, logits.shape)).astype(jnp.int32)
  return action, _chosen(jax.nn.log_softmax(logits), action)


def _categorical_score(logits, action):
  log_probs = jax.nn.log_softmax(logits)
  return _chosen(log_probs, action), -jnp.sum(jnp.exp(log_probs) * log_probs)


def _chosen(log_probs, action):
  """Looks up by comparing: gathers, and the scatters they become backwards, are slow where there are few actions."""
  return jnp.sum(jnp.where(jnp.arange(log_probs.shape[0]) == action, log_probs, 0.0))


def _gaussian(center: Array, half_width: Array):
  """Returns `sample` and `score` of actions `center + half_width * x` with Gaussian x; densities are of the actions."""
  volume = tanh_gaussian.log_volume(half_width, half_width.shape[0])

  def log_prob(x, distribution):
    mean, log_std = distribution
    return controller.gaussian_log_prob(x, mean, 2 * log_std) - volume

  def sample(noise, distribution):
    mean, log_std = distribution
    x = mean + jnp.exp(log_std) * _drawn(noise, jax.random.normal, mean.shape)
    return center + half_width * x, log_prob(x, distribution)

  def score(distribution, action):
    entropy = jnp.sum(distribution[1] + 0.5 * jnp.log(2 * jnp.pi * jnp.e)) + volume
    return log_prob((action - center) / half_width, distribution), entropy

  return sample, score
