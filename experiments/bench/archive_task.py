"""What the contestants of `experiments.bench.archives` share: the sizes, the task and the mutation; jax alone."""

import jax
import jax.numpy as jnp

GENES, DESCRIPTORS, ITERATIONS = 100, 2, 100
SIZES = ((100, 1024), (1024, 1024), (100, 10_000))  # children an iteration, cells
ISO, LINE = 0.05, 0.1


def evaluate(genomes: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Scores genomes `[N, GENES]` in [0, 1]: a Rastrigin-like fitness, higher is better, and the first two genes."""
  x = 10.24 * genomes - 5.12
  fitness = -jnp.sum(jnp.square(x) - 10 * jnp.cos(2 * jnp.pi * x) + 10, -1)
  return fitness, genomes[:, :DESCRIPTORS]


def vary(key: jax.Array, first: jax.Array, second: jax.Array) -> jax.Array:
  """Makes a child of each pair: noise in all directions and along the line between the parents."""
  iso, line = jax.random.split(key)
  noise = ISO * jax.random.normal(iso, first.shape)
  along = LINE * jax.random.normal(line, (first.shape[0], 1))
  return jnp.clip(first + noise + along * (second - first), 0, 1)


def candidates(batch: int) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Draws what is inserted where insertion alone is timed: genomes `[ITERATIONS, batch, GENES]`, scores, descriptors."""
  genomes = jax.random.uniform(jax.random.key(4), (ITERATIONS, batch, GENES))
  return genomes, *jax.vmap(evaluate)(genomes)


def name(kind: str, batch: int, cells: int) -> str:
  """Names a part."""
  return f"{kind}, {batch} into {cells}"
