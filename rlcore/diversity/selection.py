"""Who survives: the best by one score, the best of two objectives, the elite of parents and children.

NaN is the lowest score of all.
"""

import jax
import jax.numpy as jnp

from rlcore import checks
from rlcore.types import Array, PyTree


def _ranked(scores: Array) -> Array:
  """Scores as float32, NaN as -inf."""
  scores = jnp.asarray(scores).astype(jnp.float32)
  return jnp.where(jnp.isnan(scores), -jnp.inf, scores)


def as_records(tree: PyTree) -> PyTree:
  """Returns a pytree with arrays as leaves; a list is one array."""
  return jnp.asarray(tree) if isinstance(tree, list) else jax.tree.map(jnp.asarray, tree)


def select_top(scores: Array, n: int, mask: Array) -> Array:
  """Selects the n highest scores.

  Args:
    scores: `[N]`; of equal ones the lower index goes first, NaN goes last.
    n: static, how many; where fewer count, all of them are selected.
    mask: `[N]`, > 0 where a score counts.

  Returns:
    `[N]` float32, 1 where selected.

  Reference: survivors of novelty search, arXiv:2203.01027.
  """
  scores, mask = jnp.asarray(scores), jnp.asarray(mask)
  checks.rank(1, scores=scores)
  checks.same_shape(scores=scores, mask=mask)
  keep = mask > 0
  order = jnp.lexsort((-jnp.where(keep, _ranked(scores), 0), ~keep))  # stable; the last key sorts first
  chosen = jnp.zeros(scores.shape[0], bool).at[order[:max(n, 0)]].set(True)
  return (chosen & keep).astype(jnp.float32)


def pareto_front(first: Array, second: Array, mask: Array) -> Array:
  """Finds those that no other one dominates, both objectives being maximised.

  One dominates another if it is at least as good in both and better in one; equal points do not dominate each other.

  Args:
    first: `[N]`.
    second: `[N]`.
    mask: `[N]`, > 0 where one counts.

  Returns:
    `[N]` float32, 1 on the front.

  Reference: choice of an emitter, SERENE, arXiv:2203.01027.
  """
  first, second, mask = map(jnp.asarray, (first, second, mask))
  checks.rank(1, first=first)
  checks.same_shape(first=first, second=second, mask=mask)
  first, second, keep = _ranked(first), _ranked(second), mask > 0
  at_least = (first[:, None] >= first) & (second[:, None] >= second)
  better = (first[:, None] > first) | (second[:, None] > second)
  dominated = jnp.any(at_least & better & keep[:, None], 0)
  return (keep & ~dominated).astype(jnp.float32)


def elitist_update(
    parent_genomes: PyTree, parent_scores: Array, child_genomes: PyTree, child_scores: Array) -> tuple[PyTree, Array]:
  """Keeps the best of parents and children, as many as there are parents.

  Genomes may be any records, so that what is known of an individual survives with it. With novelty as the score this
  is the survival of novelty search; with random numbers it keeps a uniform sample of a stream of children.

  Args:
    parent_genomes: pytree of `[P, ...]`.
    parent_scores: `[P]`.
    child_genomes: pytree of `[C, ...]`.
    child_scores: `[C]`; NaN goes last, -inf marks a child that does not count.

  Returns:
    genomes `[P, ...]` in the parents' dtypes and scores `[P]` float32, best first; of equal ones parents go first, then
    the lower index. No gradient flows.

  Reference: step of a fitness emitter, SERENE, arXiv:2203.01027.
  """
  parent_scores, child_scores = jnp.asarray(parent_scores), jnp.asarray(child_scores)
  checks.rank(1, parent_scores=parent_scores, child_scores=child_scores)
  scores = jnp.concatenate([parent_scores.astype(jnp.float32), child_scores.astype(jnp.float32)])
  best = jnp.argsort(-_ranked(scores))[:parent_scores.shape[0]]  # stable

  def keep(parents, children):
    parents, children = jnp.asarray(parents), jnp.asarray(children)
    checks.shape((child_scores.shape[0], *parents.shape[1:]), child_genomes=children)
    checks.same_prefix(1, parent_genomes=parents, parent_scores=parent_scores)
    return jnp.concatenate([parents, children.astype(parents.dtype)])[best]

  return jax.lax.stop_gradient((jax.tree.map(keep, *map(as_records, (parent_genomes, child_genomes))), scores[best]))


def break_ties(key: Array, scores: Array) -> Array:
  """Ranks scores, equal ones in a random order.

  Where most rewards are 0, a selection by lower index would keep the same individuals for ever.

  Args:
    key: PRNG key.
    scores: `[N]`; NaN goes last.

  Returns:
    `[N]` float32, 0 for the lowest to N - 1 for the highest; no gradient flows.

  Reference: elitist baseline of this library's comparison in the setting of arXiv:2203.01027.
  """
  scores = _ranked(scores)
  checks.rank(1, scores=scores)
  chance = jax.random.uniform(jnp.asarray(key), scores.shape, jnp.float32)
  order = jnp.lexsort((chance, jax.lax.stop_gradient(scores)))  # the last key sorts first
  return jnp.zeros(scores.shape[0], jnp.float32).at[order].set(jnp.arange(scores.shape[0], dtype=jnp.float32))
