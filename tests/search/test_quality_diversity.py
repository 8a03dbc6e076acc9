"""The search on a toy: each step against NumPy, the budget to the last evaluation, archives that are full."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore import search
from rlcore.training import quality_diversity
from tests.tolerance import close

SIZES = search.SearchSizes(budget=2500, chunk=700, population=8, children=2, archived=3, neighbours=3, capacity=64,
                           candidates=12, emitters=3, emitter_population=2, emitter_steps=400, trial=5)
SERENE, NOVELTY, BARREN = range(3)
_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # compiles faster


def _reward(genomes):
  return np.clip(np.asarray(genomes)[..., 2] - 2, 0, 1)


def _parts(exploit=1.0, step_size=0.5):
  """Behaviour is the first two genes, the third one's excess over 2 is rewarded up to 1; learning doubles the scale."""
  return search.SearchParts(
      first=lambda key, count: 0.3 * jax.random.normal(key, (count, 3)),
      evaluate=lambda genomes: ({"place": genomes[:, :2]}, jnp.clip(genomes[:, 2] - 2 + 0 * exploit, 0, 1)),
      describe=lambda model, outcomes: (model * outcomes["place"], jnp.abs(outcomes["place"][:, 0])),
      worth=lambda key, settings, novelty, surprise, rewards: novelty,
      settings=dict(exploit=exploit, fresh=0.0, step_size=step_size), tally=jnp.int32(0),
      record=lambda tally, outcomes, rewards, mask: tally + jnp.sum(mask, dtype=jnp.int32),
      measure=lambda tally: {"seen": tally.astype(jnp.float32)}, model=lambda key: jnp.float32(1),
      learn=lambda key, model, outcomes, mask: 2 * model)


@pytest.fixture(scope="module")
def runs():
  """Three lanes of one program: with emitters, without, and where nothing is rewarded; states and metrics by update."""
  def init(exploit, step_size, key):
    return quality_diversity.make_search_experiment(_parts(exploit, step_size), SIZES).init(key)

  settings = jnp.array([1.0, 0, 1]), jnp.array([0.5, 0.5, 0])  # exploit, step size
  state = _jit(jax.vmap(init))(*settings, jax.random.split(jax.random.key(0), 3))
  update = _jit(jax.vmap(lambda exploit, step_size, state: quality_diversity.make_search_experiment(
      _parts(exploit, step_size), SIZES).update(state)))  # as in a comparison: built from traced numbers
  states, rows = [], []
  for _ in range(4):
    state, metrics = update(*settings, state)
    states.append(jax.tree.map(np.asarray, state.replace(key=jax.random.key_data(state.key))))
    rows.append(jax.device_get(metrics))
  return states, {name: np.array([row[name] for row in rows]) for name in rows[0]}


def lane(states, index):
  state = jax.tree.map(lambda x: x[index], states)
  return state.replace(key=jax.random.wrap_key_data(state.key))


def test_the_budget_is_met_to_the_last_evaluation(runs):
  _, metrics = runs
  np.testing.assert_array_equal(metrics["spent"], metrics["seen"])
  np.testing.assert_array_equal(metrics["spent"][-1], [2500] * 3)
  np.testing.assert_array_equal(metrics["spent"][:, NOVELTY], [700, 1400, 2100, 2500])
  # The chunk for emitters was skipped and its evaluations were kept.
  np.testing.assert_array_equal(metrics["spent"][:, BARREN], [700, 1400, 2100, 2500])
  np.testing.assert_array_equal(np.cumsum(metrics["tokens"], 0) + 8, metrics["spent"])
  for name in ("emitters", "waiting", "rewarded"):
    assert metrics[name][:, SERENE].any() and not metrics[name][:, [NOVELTY, BARREN]].any()


def test_archives_hold_what_they_say(runs):
  state = lane(runs[0][-1], SERENE)
  kept = np.asarray(state.rewarded.mask)
  np.testing.assert_allclose(state.rewarded.scores[kept], _reward(state.rewarded.genomes.genome[kept]), atol=1e-6)
  assert (np.asarray(state.rewarded.scores)[kept] > 0).all()
  ancestors = np.asarray(state.candidates.genomes[0].genome)[np.asarray(state.candidates.mask)]
  assert (_reward(ancestors) > 0).all()
  alive = np.asarray(state.emitters.alive)
  assert alive.sum() <= 3 and (np.asarray(state.emitters.improvement)[alive] >= 0).all()
  emitter = state.emitters.emitter
  np.testing.assert_allclose(emitter.scores[alive], _reward(emitter.genomes.genome[alive]), atol=1e-6)
  assert (np.asarray(state.emitters.best)[alive] <= np.asarray(emitter.scores[alive]).max(1) + 1e-6).all()


def test_an_emitter_that_ends_frees_its_place_and_leaves_what_was_novel(runs):
  state = lane(runs[0][-1], SERENE)
  ended = ~np.asarray(state.emitters.alive) & (np.asarray(state.emitters.emitter.num_steps) > SIZES.trial)
  assert ended.any()
  left = np.isfinite(np.asarray(state.emitters.sample_order)[ended]).sum()
  generations = 2 * 44  # in each of two exploring chunks
  assert int(state.archive.pointer) == (3 * generations + left) % 64


def test_a_full_archive_forgets_what_is_oldest(runs):
  states, metrics = runs
  assert metrics["archived"][0, NOVELTY] == 64  # 44 generations, 3 children of each
  state = lane(states[-1], NOVELTY)
  last = np.asarray(state.children.solution.genome)[np.asarray(state.children_mask)]
  newest = np.asarray(state.archive.genomes.genome)[(int(state.archive.pointer) - 1 - np.arange(3)) % 64]
  assert all((genome == last).all(1).any() for genome in newest)


def test_the_model_is_trained_ever_more_rarely(runs):
  """After exploring chunk 1, then after 2 more."""
  assert [float(state.model[NOVELTY]) for state in runs[0]] == [2, 2, 4, 4]


def test_all_that_is_kept_is_described_by_the_latest_model(runs):
  for which in (NOVELTY, SERENE):
    state = lane(runs[0][-1], which)
    assert state.interval > 1 and state.model == 2.0 ** (int(state.interval) - 1)
    for kept in (state.archive, state.rewarded):
      close(kept.descriptors, state.model * kept.genomes.outcome["place"], rtol=1e-6)
    for kept in (state.population, state.children):
      close(kept.descriptors, state.model * kept.solution.outcome["place"], rtol=1e-6)


def _novelty(points, reference, k=3):
  distance = np.linalg.norm(points[:, None].astype(float) - reference[None], axis=-1)
  return np.sort(distance, 1)[:, 1:k + 1].mean(1)


def test_a_generation_keeps_the_most_novel(runs):
  """Of which only 5 children are evaluated, the last ones of a chunk."""
  before = lane(runs[0][0], SERENE)
  chunks = search.Chunks(_parts(), SIZES)
  after = _jit(lambda s: chunks.generation(s, s.spent + 5))(before)
  assert int(after.spent) - int(before.spent) == int(after.tally) - int(before.tally) == 5
  np.testing.assert_array_equal(after.children_mask, np.arange(16) < 5)
  genomes = np.concatenate([before.population.solution.genome, after.children.solution.genome[:5]])
  reference = np.concatenate([float(before.model) * genomes[:, :2]] + [
      np.asarray(archive.descriptors)[np.asarray(archive.mask)] for archive in (before.archive, before.rewarded)])
  order = np.argsort(-_novelty(float(before.model) * genomes[:, :2], reference), kind="stable")
  np.testing.assert_array_equal(after.population.solution.genome, genomes[order[:8]])
  moved = (int(after.archive.pointer) - int(before.archive.pointer)) % 64
  new = np.asarray(after.archive.genomes.genome)[(int(before.archive.pointer) + np.arange(3)) % 64]
  assert moved == 3 and all((genome == genomes[8:]).all(1).any() for genome in new) and len(np.unique(new, axis=0)) == 3
  rewarding = genomes[8:][_reward(genomes[8:]) > 0]
  assert (int(after.rewarded.pointer) - int(before.rewarded.pointer)) % 64 == len(rewarding)


def test_steps_of_an_emitter(runs):
  before = lane(runs[0][0], SERENE)
  chunks = search.Chunks(_parts(), SIZES)
  genome = jnp.array([0.0, 0, 2.2])
  slot = chunks.start(search.Solution(genome, {"place": genome[:2]}), jnp.float32(0.2))
  reference = before.archive.descriptors, before.archive.mask
  step = _jit(chunks.emitter_step)
  state, best = before, 0.0
  for i, (left, spent) in enumerate([(99, 2), (99, 4), (3, 3), (99, 4), (99, 4)]):
    old = slot
    state, slot = step(state.replace(spent=jnp.int32(0)), slot, jnp.int32(left), jnp.array(False), reference)
    assert int(state.spent) == spent and int(slot.emitter.num_steps) == i + 1
    scores = np.asarray(slot.emitter.scores)
    np.testing.assert_allclose(scores, _reward(slot.emitter.genomes.genome), atol=1e-6)
    np.testing.assert_array_equal(slot.emitter.history[i], scores)
    assert (scores >= np.asarray(old.emitter.scores)).all() and scores[0] >= scores[1]
    stored = [] if i == 0 else scores[scores > best][:None if best else 1]  # the first time the best one only
    best = max([best, *stored])
    assert float(slot.best) == pytest.approx(best)
    novelty = [_novelty(float(state.model) * np.asarray(slot.emitter.genomes.outcome["place"]),
                        np.asarray(reference[0])[np.asarray(reference[1])])]
    close(slot.most_novel, max(float(old.most_novel), np.max(novelty)), rtol=1e-4)
  filled = (int(state.rewarded.pointer) - int(before.rewarded.pointer)) % 64
  assert best > 0.2 and filled >= 1


@pytest.mark.parametrize("wrong", [dict(population=700), dict(chunk=3000), dict(trial=500), dict(trial=3)])
def test_sizes_that_do_not_fit_are_told(wrong):
  with pytest.raises(ValueError, match="population < chunk <= budget|must be above 3"):
    search.Chunks(_parts(), SIZES._replace(**wrong))
