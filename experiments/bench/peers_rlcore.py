"""rlcore as a contestant of `experiments.bench.language`; besides, the floors of this machine."""

import importlib.metadata

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.bench import peers
from rlcore import advantages
from rlcore import losses
from rlcore import policies
from rlcore.models import decoder
from rlcore.training import memory

MODEL = decoder.make_decoder(decoder.DecoderConfig(
    vocab_size=peers.VOCAB, context=peers.PROMPT + peers.NEW, layers=peers.LAYERS, dim=peers.DIM, heads=peers.HEADS,
    head_dim=peers.HEAD_DIM, ff_dim=peers.FF_DIM))
OPTIMIZER = optax.adamw(peers.LEARNING_RATE, weight_decay=0.01)


def sample(params, key, prompts, prompt_mask):
  """Samples the responses."""
  return policies.sample(MODEL, params, key, prompts, prompt_mask, group_size=peers.GROUP, max_new_tokens=peers.NEW)


def step(params, state, prompts, prompt_mask, rollouts, advantage):
  """Makes one update; `advantage [B, G]`."""
  rows = lambda x: x.reshape(peers.BATCH, peers.NEW)

  def loss_fn(params):
    log_probs = policies.token_log_probs(MODEL, params, prompts, prompt_mask, rollouts.tokens, rollouts.mask)
    advantage_tokens = jnp.broadcast_to(advantage[..., None], log_probs.shape)
    return losses.clip_loss(*map(rows, (log_probs, rollouts.log_probs, advantage_tokens, rollouts.mask)),
                            clip_low=peers.CLIP_LOW, clip_high=peers.CLIP_HIGH)

  (loss, metrics), gradient = jax.value_and_grad(loss_fn, has_aux=True)(params)
  change, state = OPTIMIZER.update(gradient, state, params)
  return optax.apply_updates(params, change), state, loss, metrics


def whole(params, state, key, prompts, prompt_mask):
  """Generates, scores, compares and updates."""
  rollouts = sample(params, key, prompts, prompt_mask)
  reward = jnp.mean(rollouts.tokens % 2 == 0, -1, dtype=jnp.float32)
  return step(params, state, prompts, prompt_mask, rollouts, jax.vmap(advantages.group_advantage)(reward))


def training(function, *arrays):
  """Returns one call of a donated program that hands its parameters and optimiser state on to the next call."""
  params = MODEL.init(jax.random.key(0))
  carry = [params, OPTIMIZER.init(params)]
  program = jax.jit(function, donate_argnums=(0, 1))

  def call():
    *carry[:], loss, _ = program(*carry, *arrays)
    assert np.isfinite(jax.block_until_ready(loss))
    jax.block_until_ready(carry)

  return call


def matmul_floor() -> float:
  """Returns the CPU seconds that the matrix products of the sampled tokens take at the rate of `32 x 256 x 1024`."""
  repeats = 400
  weight = jnp.full((peers.DIM, peers.FF_DIM), 1 / peers.DIM)
  chain = jax.jit(lambda x: jax.lax.fori_loop(0, repeats, lambda _, x: (x @ weight)[:, :peers.DIM], x))
  x = jnp.ones((peers.BATCH, peers.DIM))
  once = lambda: peers.cpu_seconds(lambda: jax.block_until_ready(chain(x)))
  seconds = np.median([once() for _ in range(9)][1:]) / repeats
  parameters = peers.LAYERS * (4 * peers.DIM**2 + 3 * peers.DIM * peers.FF_DIM) + peers.VOCAB * peers.DIM
  return float(seconds * peers.NEW * parameters / weight.size)


def cache_floor() -> float:
  """Returns the CPU seconds of reading all keys and values at the rate of copying 64 MiB; a prompt's once a group."""
  source = np.ones(2**23, np.float64)
  target = np.zeros_like(source)
  once = lambda: peers.cpu_seconds(lambda: np.copyto(target, source))
  per_byte = np.median([once() for _ in range(9)][1:]) / (2 * source.nbytes)
  places = peers.PROMPTS * peers.PROMPT * peers.NEW + peers.BATCH * peers.NEW * (peers.NEW + 1) / 2
  return float(per_byte * places * 2 * peers.LAYERS * peers.HEADS * peers.HEAD_DIM * 4)


def main():
  """Takes turns."""
  memory.keep_freed_memory()  # as every run does
  params, key = MODEL.init(jax.random.key(0)), jax.random.key(1)
  prompts = jax.random.randint(key, (peers.PROMPTS, peers.PROMPT), 1, peers.VOCAB)
  prompt_mask = jnp.ones(prompts.shape)
  generate = jax.jit(sample)
  rollouts = generate(params, key, prompts, prompt_mask)
  advantage = jax.random.normal(key, (peers.PROMPTS, peers.GROUP))
  calls = {"generate": lambda: jax.block_until_ready(generate(params, key, prompts, prompt_mask)),
           "update": training(step, prompts, prompt_mask, rollouts, advantage),
           "iteration": training(whole, key, prompts, prompt_mask)}
  parts = {name: lambda call=call: peers.cpu_seconds(call) for name, call in calls.items()}
  versions = {name: importlib.metadata.version(name) for name in ("jax", "optax")}
  peers.serve(versions, parts | {"floor, matmul": matmul_floor, "floor, cache": cache_floor})


if __name__ == "__main__":
  main()
