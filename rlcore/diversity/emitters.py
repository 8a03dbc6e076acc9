"""Emitters: small elitist evolutions on reward, each around one rewarding ancestor.

An emitter mutates with a Gaussian of fixed width (`initial_step_size`), keeps the best of parents and children
(`selection.elitist_update`), and ends when its rewards no longer grow (`is_stagnant`). No covariance is adapted.
"""

from flax import struct
import jax
import jax.numpy as jnp

from rlcore import checks
from rlcore import stats
from rlcore.diversity.novelty import distances
from rlcore.diversity.selection import as_records, elitist_update, pareto_front
from rlcore.types import Array, PyTree

_GENERATIONS = 20  # of the shortest history that can be stagnant: this many times genome size over population, and more


@struct.dataclass
class Emitter:
  """One emitter: a population of P genomes of size G, and what it has earned.

  Attributes:
    genomes: pytree of `[P, ...]`, an array `[P, G]` or records that hold one; best first from the first step on.
    scores: `[P]` float32, their rewards; -inf where nobody was evaluated yet.
    step_size: float32[], standard deviation of a mutation.
    history: `[L, P]` float32, rewards of the populations so far, the first included; 0 from row `num_steps` on.
    num_steps: int32[], how many populations were recorded.
  """

  genomes: PyTree
  scores: Array
  step_size: Array
  history: Array
  num_steps: Array


def initial_step_size(genome: Array, others: Array, mask: Array, fallback: Array) -> Array:
  """Computes an emitter's step size, a third of the distance to the nearest other genome.

  Args:
    genome: `[G]`, the ancestor's.
    others: `[N, G]`, the other genomes of population and offspring.
    mask: `[N]`, > 0 where one counts; those that are not finite do not. The ancestor itself must not count.
    fallback: scalar, taken if the nearest is equal to `genome` or none counts.

  Returns:
    float32[]; no gradient flows.

  Reference: SERENE, arXiv:2203.01027, initialisation of an emitter.
  """
  checks.rank(0, fallback=fallback)
  nearest = jnp.min(distances(genome, others, mask), initial=jnp.inf)
  usable = (nearest > 0) & (nearest < jnp.inf)
  return jax.lax.stop_gradient(jnp.where(usable, nearest / 3, jnp.asarray(fallback, jnp.float32)))


def gaussian_mutation(
    key: Array, genomes: Array, step_size: Array, *, children: int = 2, low: float = -5.0, high: float = 5.0) -> Array:
  """Makes children by adding Gaussian noise, clipped to the bounds.

  Args:
    key: PRNG key.
    genomes: `[P, G]`, floating.
    step_size: scalar, standard deviation of the noise.
    children: static, of each parent.
    low: lower bound of every gene.
    high: upper bound of every gene.

  Returns:
    `[P * children, G]` in the dtype of `genomes`; the children of a parent are neighbours.

  Reference: arXiv:2203.01027, mutation of policies.
  """
  genomes = jnp.asarray(genomes)
  checks.rank(2, genomes=genomes)
  checks.rank(0, step_size=step_size)
  parents = jnp.repeat(genomes, children, 0)
  noise = jax.random.normal(jnp.asarray(key), parents.shape, jnp.float32)
  return jnp.clip(parents.astype(jnp.float32) + step_size * noise, low, high).astype(genomes.dtype)


def emitter_init(genomes: PyTree, scores: Array, step_size: Array, length: int) -> Emitter:
  """Starts an emitter from its first population, which is recorded.

  Args:
    genomes: pytree of `[P, ...]`, mutations of the ancestor.
    scores: `[P]`, their rewards.
    step_size: scalar, see `initial_step_size`.
    length: static, L, how many populations the history can hold, at least 1.

  Returns:
    The emitter.

  Raises:
    ValueError: for a length below 1.

  Reference: SERENE, arXiv:2203.01027.
  """
  genomes, scores = as_records(genomes), jnp.asarray(scores)
  checks.rank(1, scores=scores)
  checks.rank(0, step_size=step_size)
  jax.tree.map(lambda x: checks.same_prefix(1, genomes=x, scores=scores), genomes)
  checks.at_least(1, length=length)
  scores = scores.astype(jnp.float32)
  history = jnp.zeros((length, scores.shape[0]), jnp.float32).at[0].set(scores)
  return Emitter(genomes, scores, jnp.asarray(step_size, jnp.float32), history, jnp.int32(1))


def emitter_update(emitter: Emitter, child_genomes: PyTree, child_scores: Array) -> Emitter:
  """Lets evaluated children compete with an emitter's population and records the outcome.

  Once the history is full, populations still change but are no longer recorded.

  Args:
    emitter: of P genomes.
    child_genomes: pytree of `[C, ...]`, from `gaussian_mutation`.
    child_scores: `[C]`, their rewards; NaN goes last, -inf marks a child that was not evaluated.

  Returns:
    The emitter after the step.

  Reference: fitness emitter, SERENE, arXiv:2203.01027.
  """
  genomes, scores = elitist_update(emitter.genomes, emitter.scores, child_genomes, child_scores)
  checks.nonempty(0, **{"emitter.history": emitter.history})
  history = emitter.history.at[emitter.num_steps].set(scores, mode="drop")
  num_steps = jnp.minimum(emitter.num_steps + 1, history.shape[0])
  return emitter.replace(genomes=genomes, scores=scores, history=history, num_steps=num_steps)


def emitter_improvement(values: Array, num_steps: Array, window: int = 3) -> Array:
  """Computes by how much the last populations of an emitter earn more than its first ones.

  Args:
    values: `[L, P]`, the rewards of each population; rows from `num_steps` on are not read.
    num_steps: integer scalar, number of real rows.
    window: static, how many rows at either end; with fewer rows than that, all of them.

  Returns:
    float32[] >= 0; 0 without rows. No gradient flows.

  Reference: SERENE, arXiv:2203.01027, improvement of an emitter.
  """
  values = jnp.asarray(values)
  checks.rank(2, values=values)
  checks.rank(0, num_steps=num_steps)
  steps = jnp.clip(jnp.asarray(num_steps), 0, values.shape[0])
  row = jnp.arange(values.shape[0])[:, None]
  mean = lambda rows: stats.masked_mean(values, stats.as_mask(rows, values))
  first, last = mean(row < jnp.minimum(steps, window)), mean((row >= steps - window) & (row < steps))
  return jax.lax.stop_gradient(jnp.maximum(last - first, 0))


def is_stagnant(
    values: Array, num_steps: Array, genome_size: int, window_base: int = 120, compare: int = 20) -> Array:
  """Tells whether an emitter's rewards have stopped growing.

  Looks at the last `20 * genome_size // P + window_base` populations, once there are more than that: the emitter is
  stagnant if the median or the maximum over the first `compare` of them is at least that over the last `compare`.

  Args:
    values: `[L, P]`, the rewards of each population; rows from `num_steps` on do not matter.
    num_steps: integer scalar, number of real rows.
    genome_size: static, G.
    window_base: static.
    compare: static, number of rows; no more than there are to look at.

  Returns:
    float32[], 1 if stagnant, else 0.

  Reference: SERENE, arXiv:2203.01027, stopping rule (akin to that of CMA-ES, arXiv:1604.00772).
  """
  values = jnp.asarray(values)
  checks.rank(2, values=values)
  checks.rank(0, num_steps=num_steps)
  length, population = values.shape
  bottom = _GENERATIONS * genome_size // max(population, 1) + window_base
  compare = min(compare, bottom)
  if not population or bottom >= length or compare < 1:
    # nobody, a history that never has more rows than are looked at, or no rows to look at
    return jnp.float32(0)
  steps = jnp.minimum(jnp.asarray(num_steps), length)
  rows = lambda start: jnp.sort(jax.lax.dynamic_slice_in_dim(values, start, compare).astype(jnp.float32), axis=None)
  first, last = rows(steps - bottom), rows(steps - compare)
  middle = lambda x: x[(x.size - 1) // 2] / 2 + x[x.size // 2] / 2
  stagnant = (middle(first) >= middle(last)) | (first[-1] >= last[-1])
  return ((steps > bottom) & stagnant).astype(jnp.float32)


def choose_emitter(key: Array, novelty: Array, improvement: Array, mask: Array) -> Array:
  """Chooses the emitter that runs next, uniformly from the Pareto front of novelty and improvement.

  Args:
    key: PRNG key.
    novelty: `[E]`, of the ancestors.
    improvement: `[E]`, see `emitter_improvement`.
    mask: `[E]`, > 0 where an emitter lives.

  Returns:
    int32[], its index; -1 where none lives.

  Reference: SERENE, arXiv:2203.01027.
  """
  front = pareto_front(novelty, improvement, mask) > 0
  if not front.size:
    return jnp.int32(-1)
  chance = jnp.where(front, jax.random.uniform(jnp.asarray(key), front.shape, jnp.float32), -1)
  return jnp.where(jnp.any(front), jnp.argmax(chance), -1).astype(jnp.int32)
