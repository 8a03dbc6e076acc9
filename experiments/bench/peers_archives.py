"""rlcore as a contestant of `experiments.bench.archives`."""

import functools
import importlib.metadata

import jax
import jax.numpy as jnp
import numpy as np

from experiments.bench import archive_task as task
from experiments.bench import peers
from rlcore import diversity

_LOW, _HIGH = jnp.zeros(task.DESCRIPTORS), jnp.ones(task.DESCRIPTORS)


def iterate(carry, _, *, batch: int, find):
  """One iteration of MAP-Elites; `find` gives the cells of descriptors."""
  archive, key = carry
  key, *keys = jax.random.split(key, 4)
  parents = (archive.genomes[diversity.sample_cells(k, archive.mask, batch)] for k in keys[:2])
  children = task.vary(keys[2], *parents)
  scores, descriptors = task.evaluate(children)
  archive, _ = diversity.insert(archive, find(descriptors), children, descriptors, scores)
  return (archive, key), None


def part(batch: int, cells: int, find):
  """Returns one call of many iterations; the archive goes on from call to call."""
  start = jax.random.uniform(jax.random.key(0), (batch, task.GENES))
  scores, descriptors = task.evaluate(start)
  archive = diversity.empty_archive(start[0], cells, task.DESCRIPTORS)
  archive, _ = diversity.insert(archive, find(descriptors), start, descriptors, scores)
  carry = [(archive, jax.random.key(1))]
  step = functools.partial(iterate, batch=batch, find=find)
  program = jax.jit(lambda carry: jax.lax.scan(step, carry, length=task.ITERATIONS)[0], donate_argnums=0)

  def call():
    carry[0] = jax.block_until_ready(program(carry[0]))

  def timed():
    seconds = peers.cpu_seconds(call)
    assert np.sum(carry[0][0].mask) > min(batch, cells) / 2, "the archive does not fill"
    return seconds

  return timed


def main():
  """Serves grids and centroids of all sizes."""
  parts = {}
  for batch, cells in task.SIZES:
    bins = int(cells ** (1 / task.DESCRIPTORS))
    grid = functools.partial(diversity.grid_cells, low=_LOW, high=_HIGH, bins=bins)
    parts[task.name("grid", batch, cells)] = part(batch, bins ** task.DESCRIPTORS, grid)
    centroids = diversity.cvt_centroids(jax.random.key(2), cells, _LOW, _HIGH)
    parts[task.name("centroids", batch, cells)] = part(
        batch, cells, functools.partial(diversity.centroid_cells, centroids=centroids))
  peers.serve({name: importlib.metadata.version(name) for name in ("jax", "jaxlib")}, parts)


if __name__ == "__main__":
  main()
