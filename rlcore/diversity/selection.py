"""Who survives: the best by one score, the best of two objectives, the elite of parents and children.

NaN is the lowest score of all.
"""

import jax
import jax.numpy as jnp

from rlcore import checks
from rlcore.types import Array


def _ranked(scores: Array) -> Array:
  """Scores as float32, NaN as -inf."""
  scores = jnp.asarray(scores).astype(jnp.float32)
  return jnp.where(jnp.isnan(scores), -jnp.inf, scores)


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
    parent_genomes: Array, parent_scores: Array, child_genomes: Array, child_scores: Array) -> tuple[Array, Array]:
  """Keeps the best of parents and children, as many as there are parents.

  Args:
    parent_genomes: `[P, G]`.
    parent_scores: `[P]`.
    child_genomes: `[C, G]`.
    child_scores: `[C]`; NaN goes last, -inf marks a child that does not count.

  Returns:
    genomes `[P, G]` in the parents' dtype and scores `[P]` float32, best first; of equal ones parents go first, then
    the lower index. No gradient flows.

  Reference: step of a fitness emitter, SERENE, arXiv:2203.01027.
  """
  parent_genomes, parent_scores, child_genomes, child_scores = map(
      jnp.asarray, (parent_genomes, parent_scores, child_genomes, child_scores))
  checks.rank(2, parent_genomes=parent_genomes, child_genomes=child_genomes)
  checks.rank(1, parent_scores=parent_scores, child_scores=child_scores)
  checks.shape((child_genomes.shape[0], parent_genomes.shape[1]), child_genomes=child_genomes)
  checks.same_prefix(1, parent_genomes=parent_genomes, parent_scores=parent_scores)
  checks.same_prefix(1, child_genomes=child_genomes, child_scores=child_scores)
  genomes = jnp.concatenate([parent_genomes, child_genomes.astype(parent_genomes.dtype)])
  scores = jnp.concatenate([parent_scores.astype(jnp.float32), child_scores.astype(jnp.float32)])
  best = jnp.argsort(-_ranked(scores))[:parent_scores.shape[0]]  # stable
  return jax.lax.stop_gradient((genomes[best], scores[best]))
