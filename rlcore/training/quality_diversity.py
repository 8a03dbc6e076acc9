"""Quality diversity as an `Experiment`: an update is a chunk of the evaluation budget.

Lanes of a `vmap` run one after the other: loops then end when they should and only one kind of chunk is computed, which
on a CPU is faster than all lanes in step.

Reference: TAXONS, SERENE and STAX, arXiv:2203.01027.
"""

from collections.abc import Callable

import jax

from rlcore import search as search_lib
from rlcore.types import Experiment, Metrics, PyTree


def make_search_experiment(
    parts: search_lib.SearchParts, sizes: search_lib.SearchSizes = search_lib.SearchSizes(), *,
    samples: Callable[[PyTree], Metrics] = lambda tally: {}) -> Experiment:
  """Builds a search as an experiment; `ceil(budget / chunk)` updates spend the budget.

  Args:
    parts: what it is made of.
    sizes: how large.
    samples: `(tally) -> arrays` for a figure, which the evaluation returns beside `SearchParts.measure`.

  Returns:
    The experiment. Metrics of an update: those of `measure`, `tokens` (evaluations of this update), `spent` (of all),
    `emitters`, `waiting` (candidates), `archived`, `rewarded` (filled cells).
  """
  search = search_lib.Chunks(parts, sizes)
  return Experiment(
      init=search.init, update=_one_by_one(search.update),
      evaluate=lambda state: parts.measure(state.tally) | samples(state.tally), unit="evaluations")


def _one_by_one(function: Callable[[PyTree], PyTree]) -> Callable[[PyTree], PyTree]:
  """Makes a function whose lanes run one after the other under `vmap`."""
  def run(argument):
    # What the function closes over may be traced, and must then be an argument.
    traced, shapes = jax.make_jaxpr(function, return_shape=True)(argument)

    @jax.custom_batching.sequential_vmap
    def flat(consts, leaves):
      return tuple(jax.core.eval_jaxpr(traced.jaxpr, consts, *leaves))

    return jax.tree.unflatten(jax.tree.structure(shapes), flat(tuple(traced.consts), tuple(jax.tree.leaves(argument))))

  return run
