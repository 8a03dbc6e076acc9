"""The steps of a quality-diversity search: generations, emitters and a learned space under one evaluation budget.

A search goes in chunks of evaluations. An exploring chunk is generations: children of a population, survival of those
that are worth most (most novel, most surprising, best rewarded: `SearchParts.worth`), a few random children for the
archive. Where `settings["exploit"]` is 1, every second chunk is for emitters: individuals with a reward become
candidates, a candidate that improves becomes an emitter, and emitters run in turn. All of it is arrays of fixed size
with masks, so that a whole search is one program. The budget is met exactly: the last generation or step of a chunk is
cut to what is left.

Reference: TAXONS, SERENE and STAX, arXiv:2203.01027. Where the released code and this differ: novelties of an emitter's
members refer to population, children and archives as they are at the start of the chunk, and the sample of them that
enters the archive in the end is drawn while they come.
"""

import jax
import jax.numpy as jnp

from rlcore import diversity
from rlcore.search.quality_diversity import Individuals, SearchParts, SearchSizes, SearchState, Slot, Solution
from rlcore.types import Array, Metrics, PyTree


class Chunks:
  """The steps of a search as pure functions of its state."""

  def __init__(self, parts: SearchParts, sizes: SearchSizes):
    """Checks the sizes.

    Args:
      parts: what the search is made of.
      sizes: how large it is.

    Raises:
      ValueError: for sizes that do not fit together.
    """
    if not 0 < sizes.population < sizes.chunk <= sizes.budget:
      raise ValueError(f"a search needs population < chunk <= budget, not {sizes.population}, {sizes.chunk} and "
                       f"{sizes.budget}")
    if not 3 < sizes.trial <= sizes.emitter_steps:  # the first three populations are compared with the last three
      raise ValueError(f"trial={sizes.trial} must be above 3 and at most emitter_steps={sizes.emitter_steps}")
    self._parts, self._sizes = parts, sizes

  def init(self, key: Array) -> SearchState:
    """Draws and evaluates the first population."""
    parts, sizes = self._parts, self._sizes
    model_key, first_key, key = jax.random.split(key, 3)
    model = parts.model(model_key)
    population = self._individuals(model, parts.first(first_key, sizes.population))
    one = jax.tree.map(lambda x: x[0], population.solution)
    axes = population.descriptors.shape[1]
    several = lambda count: jax.tree.map(lambda x: jnp.zeros((count, *x.shape[1:]), x.dtype), population)
    archive = diversity.empty_archive(one, sizes.capacity, axes)
    step_size = jnp.float32(parts.settings["step_size"])
    slot = self.start(one, step_size)
    count = sizes.population * sizes.children
    state = SearchState(
        step=jnp.int32(0), key=key, settings={name: jnp.float32(x) for name, x in parts.settings.items()},
        population=population, children=several(count), children_mask=jnp.zeros(count, bool),
        archive=archive, rewarded=archive,
        candidates=diversity.empty_archive((one, step_size), sizes.candidates, axes),
        emitters=jax.tree.map(lambda x: jnp.zeros((sizes.emitters, *x.shape), x.dtype), slot), model=model,
        tally=parts.tally, spent=jnp.int32(0), exploiting=jnp.array(False), unlearned=jnp.int32(0),
        interval=jnp.int32(1))
    everybody = jnp.ones(sizes.population, bool)
    state = self._count(state, population.solution.outcome, population.rewards, everybody)
    return self._nominate(state, population, population, everybody)

  def update(self, state: SearchState) -> tuple[SearchState, Metrics]:
    """Goes on to the end of the chunk in which the next `chunk` evaluations are spent."""
    sizes, before = self._sizes, state.spent
    goal = jnp.minimum((state.step + 1) * sizes.chunk, sizes.budget)
    state = jax.lax.while_loop(lambda s: s.spent < goal, self.chunk, state)
    count = lambda mask: jnp.sum(mask).astype(jnp.float32)
    return state.replace(step=state.step + 1), self._parts.measure(state.tally) | {
        "tokens": (state.spent - before).astype(jnp.float32), "spent": state.spent.astype(jnp.float32),
        "emitters": count(state.emitters.alive), "waiting": count(state.candidates.mask),
        "archived": count(state.archive.mask), "rewarded": count(state.rewarded.mask)}

  def chunk(self, state: SearchState) -> SearchState:
    """One chunk of either kind, cut to the budget; the first population is part of the first chunk."""
    sizes = self._sizes
    size = sizes.chunk - jnp.where(state.spent == sizes.population, sizes.population, 0)
    end = jnp.minimum(state.spent + size, sizes.budget)
    return jax.lax.cond(state.exploiting, self.exploit, self.explore, state, end)

  def _individuals(self, model: PyTree, genomes: Array) -> Individuals:
    outcomes, rewards = self._parts.evaluate(genomes)
    return Individuals(Solution(genomes, outcomes), rewards, *self._parts.describe(model, outcomes))

  def _count(self, state: SearchState, outcomes: PyTree, rewards: Array, mask: Array) -> SearchState:
    """Charges for evaluations."""
    return state.replace(tally=self._parts.record(state.tally, outcomes, rewards, mask),
                         spent=state.spent + jnp.sum(mask, dtype=jnp.int32))

  def _reference(self, state: SearchState, *more: tuple[Array, Array]) -> tuple[Array, Array]:
    """Descriptors that novelty is measured against, and which of them count."""
    sets = (*more, (state.archive.descriptors, state.archive.mask), (state.rewarded.descriptors, state.rewarded.mask))
    return jnp.concatenate([x for x, _ in sets]), jnp.concatenate([mask for _, mask in sets])

  def _novelty(self, descriptors: Array, reference: Array, mask: Array) -> Array:
    return jax.vmap(lambda x: diversity.novelty(x, reference, mask, self._sizes.neighbours))(descriptors)

  # Exploring.

  def explore(self, state: SearchState, end: Array) -> SearchState:
    """Generations until `end` evaluations are spent, and the training of the model where it is due."""
    state = jax.lax.while_loop(lambda s: s.spent < end, lambda s: self.generation(s, end), state)
    state = state.replace(exploiting=state.settings["exploit"] > 0)
    if self._parts.learn is None:
      return state
    state = state.replace(unlearned=state.unlearned + 1)
    return jax.lax.cond(state.unlearned >= state.interval, self.learn, lambda s: s, state)

  def generation(self, state: SearchState, end: Array) -> SearchState:
    """One generation, of which as many children are evaluated as are left until `end` evaluations are spent."""
    parts, sizes, settings = self._parts, self._sizes, state.settings
    key, mutate_key, fresh_key, worth_key, archive_key = jax.random.split(state.key, 5)
    genomes = diversity.gaussian_mutation(
        mutate_key, state.population.solution.genome, settings["step_size"], children=sizes.children)
    genomes = jnp.where(settings["fresh"] > 0, parts.first(fresh_key, genomes.shape[0]), genomes)
    children = self._individuals(state.model, genomes)
    mask = jnp.arange(genomes.shape[0]) < end - state.spent
    everyone = _join(state.population, children)
    counts = jnp.append(jnp.ones(sizes.population, bool), mask)
    novelty = self._novelty(everyone.descriptors, *self._reference(state, (everyone.descriptors, counts)))
    worth = parts.worth(worth_key, settings, novelty, everyone.surprise, everyone.rewards)
    survivors, _ = diversity.elitist_update(
        state.population, worth[:sizes.population], children, jnp.where(mask, worth[sizes.population:], -jnp.inf))
    state = self._nominate(self._count(state, children.solution.outcome, children.rewards, mask), everyone,
                           children, mask, counts)
    chosen = diversity.select_top(jax.random.uniform(archive_key, mask.shape), sizes.archived, mask)
    archive, _ = diversity.append(state.archive, children.solution, children.descriptors, children.rewards, chosen)
    return state.replace(key=key, population=survivors, children=children, children_mask=mask, archive=archive)

  def _nominate(self, state: SearchState, everyone: Individuals, new: Individuals, mask: Array,
                counts: Array | None = None) -> SearchState:
    """Makes candidates of new individuals with a reward; they are the last of `everyone`."""
    genomes, first = everyone.solution.genome, everyone.rewards.shape[0] - new.rewards.shape[0]
    others = jnp.ones(genomes.shape[0], bool) if counts is None else counts
    size = lambda genome, own: diversity.initial_step_size(
        genome, genomes, others & (jnp.arange(genomes.shape[0]) != own), state.settings["step_size"])
    step_sizes = jax.vmap(size)(new.solution.genome, first + jnp.arange(new.rewards.shape[0]))
    mask = mask & (new.rewards > 0) & (state.settings["exploit"] > 0)
    candidates, _ = diversity.append(
        state.candidates, (new.solution, step_sizes), new.descriptors, new.rewards, mask)
    rewarded, _ = diversity.append(state.rewarded, new.solution, new.descriptors, new.rewards, mask)
    return state.replace(candidates=candidates, rewarded=rewarded)

  def learn(self, state: SearchState) -> SearchState:
    """Trains the model on what is kept and describes all of it anew."""
    parts, sizes = self._parts, self._sizes
    key, learn_key = jax.random.split(state.key)
    outcomes = _join(*(x.outcome for x in (state.population.solution, state.children.solution, state.archive.genomes,
                                           state.rewarded.genomes)))
    mask = jnp.concatenate([jnp.ones(sizes.population, bool), state.children_mask, state.archive.mask,
                            state.rewarded.mask])
    model = parts.learn(learn_key, state.model, outcomes, mask)
    described = lambda outcome: dict(zip(("descriptors", "surprise"), parts.describe(model, outcome), strict=True))
    again = lambda archive: archive.replace(descriptors=parts.describe(model, archive.genomes.outcome)[0])
    return state.replace(
        key=key, model=model, unlearned=jnp.int32(0), interval=state.interval + 1,
        population=state.population.replace(**described(state.population.solution.outcome)),
        children=state.children.replace(**described(state.children.solution.outcome)),
        archive=again(state.archive), rewarded=again(state.rewarded),
        emitters=state.emitters.replace(most_novel=jnp.full(sizes.emitters, -jnp.inf)))  # in another space now

  # Emitters.

  def start(self, ancestor: Solution, step_size: Array) -> Slot:
    """An emitter that has not evaluated anybody: its members are copies of the ancestor without a score."""
    sizes = self._sizes
    copies = lambda count: jax.tree.map(lambda x: jnp.broadcast_to(x, (count, *jnp.shape(x))), ancestor)
    nobody = jnp.full(sizes.emitter_population, -jnp.inf)
    history = jnp.zeros((sizes.emitter_steps, sizes.emitter_population))
    emitter = diversity.Emitter(copies(sizes.emitter_population), nobody, step_size, history, jnp.int32(0))
    return Slot(emitter, ancestor, jnp.float32(0), jnp.array(True), jnp.float32(0), jnp.float32(-jnp.inf),
                copies(sizes.archived), jnp.full(sizes.archived, -jnp.inf))

  def exploit(self, state: SearchState, end: Array) -> SearchState:
    """Tries candidates while more than a third of the chunk is left, then runs emitters; ends early without any."""
    size = end - state.spent
    describe = lambda outcome: self._parts.describe(state.model, outcome)[0]
    among_rewarded = (state.rewarded.descriptors, state.rewarded.mask)
    order = self._novelty(describe(state.candidates.genomes[0].outcome), *among_rewarded)
    reference = self._reference(
        state, (state.population.descriptors, jnp.ones(self._sizes.population, bool)),
        (state.children.descriptors, state.children_mask))
    may_try = lambda s: (
        (3 * (end - s.spent) > size) & jnp.any(s.candidates.mask) & ~jnp.all(s.emitters.alive))
    going = lambda s: (s.spent < end) & (may_try(s) | jnp.any(s.emitters.alive))
    turn = lambda s: self._turn(s, end, may_try(s), order, reference)
    return jax.lax.while_loop(going, turn, state).replace(exploiting=jnp.array(False))

  def _turn(self, state: SearchState, end: Array, trial: Array, order: Array,
            reference: tuple[Array, Array]) -> SearchState:
    """Runs one emitter: the most novel candidate for a few populations, or one of the front until it stops."""
    sizes, slots = self._sizes, state.emitters
    key, choice_key = jax.random.split(state.key)
    candidate = jnp.argmax(jnp.where(state.candidates.mask, order, -jnp.inf))
    ancestor, step_size = jax.tree.map(lambda x: x[candidate], state.candidates.genomes)
    novelty = self._novelty(self._parts.describe(state.model, slots.ancestor.outcome)[0], state.rewarded.descriptors,
                            state.rewarded.mask)
    chosen = diversity.choose_emitter(choice_key, novelty, slots.improvement, slots.alive)
    place = jnp.where(trial, jnp.argmin(slots.alive), chosen)
    slot = jax.tree.map(lambda new, old: jnp.where(trial, new, old[place]), self.start(ancestor, step_size), slots)
    waiting = state.candidates.mask & ~(trial & (jnp.arange(order.shape[0]) == candidate))
    state = state.replace(key=key, candidates=state.candidates.replace(mask=waiting))
    own = self._parts.describe(state.model, jax.tree.map(lambda x: x[None], slot.ancestor.outcome))[0]
    slot = slot.replace(most_novel=jnp.maximum(slot.most_novel, self._novelty(own, *reference)[0]))
    state, slot, stopped = self._run(state, slot, end, trial, reference)
    improvement = diversity.emitter_improvement(slot.emitter.history, slot.emitter.num_steps)
    slot = slot.replace(improvement=improvement, alive=jnp.where(trial, improvement > 0, ~stopped))
    left = (slot.sample_order > -jnp.inf) & ~trial & stopped
    archive, _ = diversity.append(
        state.archive, slot.sample, self._parts.describe(state.model, slot.sample.outcome)[0],
        jnp.zeros(sizes.archived), left)
    return state.replace(archive=archive, emitters=jax.tree.map(lambda all_, x: all_.at[place].set(x), slots, slot))

  def _run(self, state: SearchState, slot: Slot, end: Array, trial: Array,
           reference: tuple[Array, Array]) -> tuple[SearchState, Slot, Array]:
    """Steps of one emitter until it stops or the evaluations are spent; tells whether it stopped."""
    def going(carry):
      state, slot, stopped = carry
      return (state.spent < end) & ~stopped & ~(trial & (slot.emitter.num_steps >= self._sizes.trial))

    def step(carry):
      state, slot = self.emitter_step(*carry[:2], end, trial, reference)
      genome_size = slot.ancestor.genome.shape[0]
      return state, slot, diversity.is_stagnant(slot.emitter.history, slot.emitter.num_steps, genome_size) > 0

    return jax.lax.while_loop(going, step, (state, slot, jnp.array(False)))

  def emitter_step(self, state: SearchState, slot: Slot, end: Array, trial: Array,
                    reference: tuple[Array, Array]) -> tuple[SearchState, Slot]:
    """One step of an emitter; the first one evaluates its first population.

    Args:
      state: the search.
      slot: the emitter.
      end: int32, the evaluations that may be spent in all.
      trial: bool, whether it is a candidate, whose members are not measured for novelty.
      reference: descriptors `[N, D]` and mask `[N]` for the novelty of its members.

    Returns:
      The search and the emitter after the step.
    """
    size = self._sizes.emitter_population
    key, mutate_key, sample_key = jax.random.split(state.key, 3)
    first = slot.emitter.num_steps == 0
    genomes = diversity.gaussian_mutation(mutate_key, slot.emitter.genomes.genome, slot.emitter.step_size)
    outcomes, rewards = self._parts.evaluate(genomes)
    mask = jnp.arange(2 * size) < jnp.minimum(jnp.where(first, size, 2 * size), end - state.spent)
    state = self._count(state.replace(key=key), outcomes, rewards, mask)
    emitter = diversity.emitter_update(
        slot.emitter, Solution(genomes, outcomes), jnp.where(mask, rewards, -jnp.inf))
    members, scores = emitter.genomes, emitter.scores
    best_first = jnp.arange(size) == 0
    stored = ~first & (scores > slot.best) & ((slot.best > 0) | best_first)
    descriptors = self._parts.describe(state.model, members.outcome)[0]
    rewarded, _ = diversity.append(state.rewarded, members, descriptors, scores, stored)
    novelty = self._novelty(descriptors, *reference)
    admitted = (novelty > slot.most_novel) & (scores > -jnp.inf) & ~trial
    chance = jnp.where(admitted, jax.random.uniform(sample_key, (size,)), -jnp.inf)
    sample, sample_order = diversity.elitist_update(slot.sample, slot.sample_order, members, chance)
    slot = slot.replace(
        emitter=emitter, best=jnp.max(jnp.where(stored, scores, slot.best)), sample=sample, sample_order=sample_order,
        most_novel=jnp.max(jnp.where(admitted, novelty, slot.most_novel)))
    return state.replace(rewarded=rewarded), slot


def _join(*parts: PyTree) -> PyTree:
  return jax.tree.map(lambda *x: jnp.concatenate(x), *parts)
