"""What the contestants of `experiments.bench.ppo` share: sizes, settings, parts and floor; JAX, flax and optax."""

from collections.abc import Callable
import tempfile
import time

from flax import linen as nn
import jax
from jax.experimental.compilation_cache import compilation_cache
import jax.numpy as jnp

from experiments.bench import peers

STEPS, UPDATES, HIDDEN, EPOCHS, MINIBATCHES = 128, 97, 64, 4, 4
GAMMA, LAM, CLIP, ENTROPY, VALUE, MAX_NORM, LR = 0.99, 0.95, 0.2, 0.01, 0.5, 0.5, 2.5e-4
OBSERVATION, ACTIONS = 4, 2
SIZES = ((4, 1), (64, 1), (4, 16))  # worlds, seeds


def name(kind: str, worlds: int, seeds: int) -> str:
  """Names a part."""
  return f"{kind}, {worlds} worlds x {seeds} seeds"


def _lanes(run: Callable, seeds: int) -> tuple[Callable, jax.Array]:
  """Compiles runs of several seeds as lanes of a `vmap`, and one as it is: XLA turns products of one lane around."""
  key = jax.random.key(0)
  return (jax.jit(run), key) if seeds == 1 else (jax.jit(jax.vmap(run)), jax.random.split(key, seeds))


def part(make: Callable[[int], Callable], worlds: int, seeds: int) -> Callable[[], float]:
  """Returns one call of whole runs, `make(worlds)(key) -> returns of the episodes that ended last`."""
  program, keys = _lanes(make(worlds), seeds)

  def call():
    learned = float(jnp.mean(jax.block_until_ready(program(keys))))
    assert learned > 60, f"CartPole was not learned: the last episodes had {learned:.0f} steps"

  return lambda: peers.cpu_seconds(call)


def compilation(make: Callable[[int], Callable], worlds: int, *, cached: bool = False) -> Callable[[], float]:
  """Returns one call that traces and compiles a whole run anew, or reads it from JAX's cache on disk; CPU seconds."""
  directory = tempfile.TemporaryDirectory() if cached else None

  def call():
    key = jax.random.key(0)
    fresh = make(worlds)
    jax.config.update("jax_compilation_cache_dir", directory and directory.name)
    compilation_cache.reset_cache()  # JAX asks for the directory once
    start = time.process_time()
    jax.jit(lambda key: fresh(key)).lower(key).compile()
    return time.process_time() - start

  return call


class _Pair(nn.Module):
  """The networks alone."""

  @nn.compact
  def __call__(self, x):
    tower = lambda x: nn.tanh(nn.Dense(HIDDEN)(nn.tanh(nn.Dense(HIDDEN)(x))))
    return nn.Dense(ACTIONS)(tower(x)), nn.Dense(1)(tower(x))


def passes(worlds: int) -> Callable:
  """Makes what no such learner can do without, `(key) -> a number`: the networks' passes, forwards and backwards.

  A forward pass of all worlds at every step, and forward and backward passes of every step in every epoch, with a
  plain gradient step; no world, no noise, no credit, no clipping, no Adam, and no random numbers, whose draws take
  longer to compile than all passes.
  """
  pair, size = _Pair(), STEPS * worlds // MINIBATCHES

  def loss(params, x):
    return sum(jnp.sum(jnp.square(y)) for y in pair.apply(params, x))

  def update(carry, _):
    params, data = carry
    see = lambda x, _: (x + 1e-6 * sum(jnp.sum(y) for y in pair.apply(params, x)), None)
    first, _ = jax.lax.scan(see, data[0, :worlds], length=STEPS)
    learn = lambda params, x: (jax.tree.map(lambda p, g: p - 1e-9 * g, params, jax.grad(loss)(params, x)), None)
    batches = jnp.tile(data, (EPOCHS, 1, 1))
    params, _ = jax.lax.scan(learn, params, batches)
    return (params, data.at[0, :worlds].set(first)), None

  def run(key):
    start = jax.random.key_data(key)[0] * 1e-9  # a number that the compiler does not know
    fill = lambda x: jnp.sin(start + jnp.arange(x.size, dtype=jnp.float32)).reshape(x.shape)
    data = fill(jnp.empty((MINIBATCHES, size, OBSERVATION)))
    carry = jax.tree.map(fill, jax.eval_shape(pair.init, key, data[0])), data
    return jax.lax.scan(update, carry, length=UPDATES)[0][1][0, 0]

  return run


def floor(worlds: int, seeds: int) -> Callable[[], float]:
  """Returns one call of the networks' passes of whole runs."""
  program, keys = _lanes(passes(worlds), seeds)
  return lambda: peers.cpu_seconds(lambda: jax.block_until_ready(program(keys)))


def serve(make: Callable[[int], Callable], versions: dict[str, str], *, with_floor: bool = False):
  """Serves runs of all sizes, one compilation, and the floor where asked for."""
  parts = {}
  for size in SIZES:
    parts[name("run", *size)] = part(make, *size)
    if with_floor:
      parts[name("floor", *size)] = floor(*size)
  parts["compile"] = compilation(make, SIZES[0][0])
  parts["compile cached"] = compilation(make, SIZES[0][0], cached=True)
  if with_floor:
    parts["compile floor"] = compilation(passes, SIZES[0][0])
  peers.serve(versions, parts)
