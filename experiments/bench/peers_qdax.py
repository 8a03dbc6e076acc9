"""QDax as a contestant of `experiments.bench.archives`; written for version 0.5."""

import functools
import importlib.metadata

import jax
import jax.numpy as jnp
from qdax.core.containers.mapelites_repertoire import MapElitesRepertoire
from qdax.core.emitters.mutation_operators import isoline_variation
from qdax.core.emitters.standard_emitters import MixingEmitter
from qdax.core.map_elites import MAPElites

from experiments.bench import archive_task as task
from experiments.bench import peers


def score(genomes, key):
  """Scores genomes as QDax wants it."""
  del key
  return *task.evaluate(genomes), {}


def draw_centroids(cells: int) -> jax.Array:
  """Draws centroids; where they lie does not change what it costs to find the nearest."""
  return jax.random.uniform(jax.random.key(2), (cells, task.DESCRIPTORS))


def part(batch: int, cells: int):
  """Returns one call of many iterations; the repertoire goes on from call to call."""
  variation = functools.partial(isoline_variation, iso_sigma=task.ISO, line_sigma=task.LINE, minval=0, maxval=1)
  emitter = MixingEmitter(None, variation, 1.0, batch)
  algorithm = MAPElites(score, emitter, lambda repertoire: {"filled": jnp.sum(repertoire.fitnesses > -jnp.inf)})
  start = jax.random.uniform(jax.random.key(0), (batch, task.GENES))
  centroids = draw_centroids(cells)
  repertoire, state, *_ = algorithm.init(start, centroids, jax.random.key(1))
  carry = [(repertoire, state, jax.random.key(3))]
  program = jax.jit(lambda carry: jax.lax.scan(algorithm.scan_update, carry, length=task.ITERATIONS), donate_argnums=0)

  def call():
    carry[0], metrics = jax.block_until_ready(program(carry[0]))
    assert metrics["filled"][-1] > min(batch, cells) / 2, "the archive does not fill"

  return lambda: peers.cpu_seconds(call)


def insertions(batch: int, cells: int):
  """Returns one call that inserts the task's candidates, batch by batch, into a repertoire that goes on."""
  candidates = task.candidates(batch)
  genomes, scores, descriptors = (x[0] for x in candidates)
  carry = [MapElitesRepertoire.init(genomes, scores, descriptors, draw_centroids(cells))]

  def step(repertoire, candidates):
    genomes, scores, descriptors = candidates
    return repertoire.add(genomes, descriptors, scores), None

  program = jax.jit(lambda carry, candidates: jax.lax.scan(step, carry, candidates)[0], donate_argnums=0)

  def call():
    carry[0] = jax.block_until_ready(program(carry[0], candidates))

  return lambda: peers.cpu_seconds(call)


def main():
  """Serves centroids of all sizes."""
  parts = {}
  for size in task.SIZES:
    parts[task.name("centroids", *size)] = part(*size)
    parts[task.name("insert by centroid", *size)] = insertions(*size)
  peers.serve({name: importlib.metadata.version(name) for name in ("qdax", "jax", "jaxlib")}, parts)


if __name__ == "__main__":
  main()
