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
  one_by_one = jax.custom_batching.sequential_vmap(search.update)  # needs a function of its arguments alone
  return Experiment(
      init=search.init, update=lambda state: one_by_one(state),
      evaluate=lambda state: parts.measure(state.tally) | samples(state.tally), unit="evaluations")
