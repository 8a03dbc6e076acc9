"""What a quality-diversity search is made of: its state, its sizes, and the functions that a user gives it.

The steps are in `search.chunks`; `training.quality_diversity` makes an experiment of them.
"""

from collections.abc import Callable
from typing import NamedTuple

from flax import struct
import jax

from rlcore import diversity
from rlcore.types import Array, Metrics, PyTree


@struct.dataclass
class Solution:
  """What is kept of individuals, `[N]` of them: `genome` `[N, G]` and `outcome`, a pytree of `[N, ...]`."""

  genome: Array
  outcome: PyTree


@struct.dataclass
class Individuals:
  """N evaluated individuals.

  Attributes:
    solution: genomes and outcomes.
    rewards: `[N]` float32.
    descriptors: `[N, D]` float32, of the present model.
    surprise: `[N]` float32, of the present model.
  """

  solution: Solution
  rewards: Array
  descriptors: Array
  surprise: Array


@struct.dataclass
class Slot:
  """An emitter and what the search knows of it; E of them are the emitters of a search.

  Attributes:
    emitter: its population of `Solution`s.
    ancestor: one `Solution`.
    improvement: float32[], see `diversity.emitter_improvement`.
    alive: bool[].
    best: float32[], the largest reward that it has put into the reward archive; 0 for none.
    most_novel: float32[], the largest novelty of its members.
    sample: `[K]` `Solution`s, a uniform sample of the members that were more novel than all before.
    sample_order: `[K]` float32, -inf where the sample is not filled.
  """

  emitter: diversity.Emitter
  ancestor: Solution
  improvement: Array
  alive: Array
  best: Array
  most_novel: Array
  sample: Solution
  sample_order: Array


@struct.dataclass
class SearchState:
  """A search.

  Attributes:
    step: int32, updates done.
    key: PRNG key.
    settings: numbers by name, float32[]; they are here and not in the program, so that arms share it.
    population: M individuals.
    children: C individuals, the last generation's.
    children_mask: `[C]` bool, which of them were evaluated.
    archive: unstructured, of random children and of what emitters leave.
    rewarded: unstructured, of individuals with a reward.
    candidates: ancestors of emitters to be, as pairs `(Solution, step size)`.
    emitters: `[E]` slots.
    model: parameters behind the descriptors.
    tally: what `SearchParts.record` has counted.
    spent: int32, evaluations so far.
    exploiting: bool, whether the next chunk is for emitters.
    unlearned: int32, exploring chunks since the model was last trained.
    interval: int32, how many of them there will be.
  """

  step: Array
  key: Array
  settings: dict[str, Array]
  population: Individuals
  children: Individuals
  children_mask: Array
  archive: diversity.Archive
  rewarded: diversity.Archive
  candidates: diversity.Archive
  emitters: Slot
  model: PyTree
  tally: PyTree
  spent: Array
  exploiting: Array
  unlearned: Array
  interval: Array


class SearchSizes(NamedTuple):
  """Static sizes; the defaults are those of the paper's code where that is not too much for a small task.

  Attributes:
    budget: evaluations in all, those of the first population included.
    chunk: evaluations of a chunk.
    population: M.
    children: of each member in a generation.
    archived: children that enter the archive in a generation, and members that an emitter leaves.
    neighbours: k of novelty.
    capacity: of the archive and of the reward archive, which then forget what is oldest.
    candidates: most candidates that wait; the oldest is forgotten.
    emitters: E, most that live; further candidates wait.
    emitter_population: P.
    emitter_steps: L, recorded populations of an emitter.
    trial: populations after which a candidate is kept or dropped, at least 4.
  """

  budget: int = 20_000
  chunk: int = 1000
  population: int = 50
  children: int = 2
  archived: int = 5
  neighbours: int = 15
  capacity: int = 4096
  candidates: int = 1024
  emitters: int = 32
  emitter_population: int = 6
  emitter_steps: int = 1700
  trial: int = 6


class SearchParts(NamedTuple):
  """What a search is made of; pure functions.

  Attributes:
    first: `(key, N) -> genomes [N, G]`, the first population, and random search.
    evaluate: `(genomes [N, G]) -> (outcomes, pytree of [N, ...], rewards [N])`; a reward above 0 is one.
    describe: `(model, outcomes) -> (descriptors [N, D], surprise [N])`.
    worth: `(key, settings, novelty [N], surprise [N], rewards [N]) -> [N]`, by which parents and children survive.
    settings: numbers by name, which may be tracers: `exploit` (1: emitters), `fresh` (1: children are drawn by
      `first`), `step_size` of mutations, and whatever `worth` reads.
    tally: what has been counted before the search.
    record: `(tally, outcomes, rewards [N], mask [N]) -> tally`, counts everything that is evaluated.
    measure: `(tally) -> metrics`, scalars.
    model: `(key) -> parameters` behind the descriptors.
    learn: `(key, model, outcomes, mask) -> model`, or None where descriptors are not learned.
  """

  first: Callable[[Array, int], Array]
  evaluate: Callable[[Array], tuple[PyTree, Array]]
  describe: Callable[[PyTree, PyTree], tuple[Array, Array]]
  worth: Callable[[Array, dict[str, Array], Array, Array, Array], Array]
  settings: dict[str, Array | float]
  tally: PyTree
  record: Callable[[PyTree, PyTree, Array, Array], PyTree]
  measure: Callable[[PyTree], Metrics]
  model: Callable[[Array], PyTree] = lambda key: ()
  learn: Callable[[Array, PyTree, PyTree, Array], PyTree] | None = None


def learned_descriptors(
    observe: Callable[[PyTree], Array], encode: Callable[[PyTree, Array], tuple[Array, Array]]
) -> Callable[[PyTree, PyTree], tuple[Array, Array]]:
  """Makes `SearchParts.describe` of an auto-encoder: the code of what is observed, and how badly it is reconstructed.

  Args:
    observe: `(outcomes) -> observations [N, D]`.
    encode: `(parameters, observations) -> (codes, reconstructions)`.

  Returns:
    `(parameters, outcomes) -> (codes [N, C], surprise [N])`.
  """
  def describe(params, outcomes):
    seen = observe(outcomes)
    codes, reconstructions = encode(params, seen)
    return codes, jax.vmap(diversity.surprise)(seen, reconstructions)

  return describe
