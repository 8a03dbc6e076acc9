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
  key, parent_key, child_key = jax.random.split(key, 3)
  parents = archive.genomes[diversity.sample_cells(parent_key, archive.mask, 2 * batch)]
  children = task.vary(child_key, parents[:batch], parents[batch:])
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


def insertions(batch: int, cells: int, find):
  """Returns one call that inserts the task's candidates, batch by batch, into an archive that goes on."""
  candidates = task.candidates(batch)
  carry = [diversity.empty_archive(candidates[0][0, 0], cells, task.DESCRIPTORS)]

  def step(archive, candidates):
    genomes, scores, descriptors = candidates
    return diversity.insert(archive, find(descriptors), genomes, descriptors, scores)[0], None

  program = jax.jit(lambda archive, candidates: jax.lax.scan(step, archive, candidates)[0], donate_argnums=0)

  def call():
    carry[0] = jax.block_until_ready(program(carry[0], candidates))

  return lambda: peers.cpu_seconds(call)


def floor(batch: int):
  """Returns one call that draws the noise and evaluates, but keeps nothing: what no archive can do without."""
  def step(carry, _):
    children, key = carry
    key, own = jax.random.split(key)
    children = task.vary(own, children, children[::-1])
    return (children, key), task.evaluate(children)[0]

  program = jax.jit(lambda carry: jax.lax.scan(step, carry, length=task.ITERATIONS))
  carry = jax.random.uniform(jax.random.key(0), (batch, task.GENES)), jax.random.key(1)
  return lambda: peers.cpu_seconds(lambda: jax.block_until_ready(program(carry)))


def main():
  """Serves grids and centroids of all sizes."""
  parts = {}
  for batch, cells in task.SIZES:
    bins = int(cells ** (1 / task.DESCRIPTORS))
    grid = functools.partial(diversity.grid_cells, low=_LOW, high=_HIGH, bins=bins)
    parts[task.name("grid", batch, cells)] = part(batch, bins ** task.DESCRIPTORS, grid)
    centroids = diversity.cvt_centroids(jax.random.key(2), cells, _LOW, _HIGH)
    find = functools.partial(diversity.centroid_cells, centroids=centroids)
    parts[task.name("centroids", batch, cells)] = part(batch, cells, find)
    parts[task.name("insert by centroid", batch, cells)] = insertions(batch, cells, find)
    parts[task.name("insert by grid", batch, cells)] = insertions(batch, bins ** task.DESCRIPTORS, grid)
    parts[task.name("floor", batch, cells)] = floor(batch)
  peers.serve({name: importlib.metadata.version(name) for name in ("jax", "jaxlib")}, parts)


if __name__ == "__main__":
  main()
