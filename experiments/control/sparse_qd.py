"""Quality diversity under sparse rewards (arXiv:2203.01027): SERENE, TAXONS and STAX in the walled square.

`make_experiment` composes a search of which the arms are settings: what the members of a population survive by
(`worth`), whether emitters get every second chunk of the budget (`exploit`), whether children are drawn afresh
(`fresh`), and whether behaviours are described by an auto-encoder (`learned`, which makes another program).
"""

from collections.abc import Mapping
import pathlib

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from rlcore import diversity, models, search
from rlcore.envs import walled_square
from rlcore.training import fitting, pictures, plots, quality_diversity
from rlcore.types import Array, Experiment

GENE = 5.0  # bound of every weight
BINS = 20  # of an axis of the square, for coverage


def make_experiment(config: ml_collections.ConfigDict) -> Experiment:
  """Composes the search of one arm."""
  task = walled_square.square_task()

  def evaluate(genomes):
    positions, areas = walled_square.evaluate(genomes, task, horizon=config.horizon)
    return {"position": positions, "areas": areas}, jnp.sum(areas, -1)

  settings = {name: config[name] for name in ("exploit", "fresh", "greedy", "surprise_rate", "step_size")}
  parts = search.SearchParts(first=first_genomes, evaluate=evaluate, describe=true_descriptors, worth=worth,
                         settings=settings, tally=empty_tally(), record=record, measure=measure)
  if config.learned:
    model = models.AutoEncoder(walled_square.PICTURE**2, config.encoder.code, config.encoder.hidden)
    observe = lambda outcomes: jax.vmap(walled_square.picture)(outcomes["position"])

    def learn(key, params, outcomes, mask):
      def losses(params, outcomes):
        seen = observe(outcomes)
        return jax.vmap(diversity.surprise)(seen, model.apply(params, seen)[1])

      return fitting.fit_epochs(
          losses, params, outcomes, mask, key, optimizer=optax.adam(config.encoder.lr),
          batch_size=config.encoder.batch_size, epochs=config.encoder.epochs)[0]

    parts = parts._replace(
        describe=search.learned_descriptors(observe, model.apply), learn=learn,
        model=lambda key: model.init(key, jnp.zeros(walled_square.PICTURE**2)))
  sizes = search.SearchSizes(**config.sizes)
  return quality_diversity.make_search_experiment(parts, sizes, samples=lambda tally: {"visits": tally["visits"]})


def first_genomes(key: Array, count: int) -> Array:
  """Draws controllers: what a search begins with, and all that random search does."""
  return jnp.clip(jax.random.normal(key, (count, walled_square.GENOME_SIZE)), -GENE, GENE)


def true_descriptors(model: tuple, outcomes: Mapping[str, Array]) -> tuple[Array, Array]:
  """Describes an individual by where it ended; nothing surprises."""
  del model
  return outcomes["position"], jnp.zeros(outcomes["position"].shape[0])


def worth(key: Array, settings: Mapping[str, Array], novelty: Array, surprise: Array, rewards: Array) -> Array:
  """Says who survives: the best rewarded (`greedy`), else the most surprising or the most novel, drawn each time."""
  rate_key, tie_key = jax.random.split(key)
  explored = jnp.where(jax.random.bernoulli(rate_key, settings["surprise_rate"]), surprise, novelty)
  return jnp.where(settings["greedy"] > 0, diversity.break_ties(tie_key, rewards), explored)


def empty_tally() -> dict[str, Array]:
  """Counts of nothing: ends in each cell of a grid twice as fine as that of the coverage, and the best of each disc."""
  return {"visits": jnp.zeros((2 * BINS, 2 * BINS)), "best": jnp.zeros(2)}


def record(tally: Mapping[str, Array], outcomes: Mapping[str, Array], rewards: Array, mask: Array) -> dict[str, Array]:
  """Adds what was evaluated to the tally."""
  del rewards
  bound = jnp.ones(2)
  cells = diversity.grid_cells(outcomes["position"], -bound, bound, 2 * BINS)
  visits = tally["visits"].reshape(-1).at[cells].add(mask.astype(jnp.float32)).reshape(tally["visits"].shape)
  best = jnp.max(jnp.where(mask[:, None], outcomes["areas"], 0), 0)
  return {"visits": visits, "best": jnp.maximum(tally["best"], best)}


def measure(tally: Mapping[str, Array]) -> dict[str, Array]:
  """Returns the best of each disc, their mean, how often both were found (0 or 1), and the coverage."""
  best = tally["best"]
  found = tally["visits"].reshape(BINS, 2, BINS, 2).sum((1, 3)) > 0
  return {"best": jnp.mean(best), "best_a": best[0], "best_b": best[1],
          "areas": jnp.sum(best > 0).astype(jnp.float32), "both": jnp.all(best > 0).astype(jnp.float32),
          "coverage": jnp.mean(found.astype(jnp.float32))}


def figure(result: Mapping, path: str | pathlib.Path):
  """Draws the curves over evaluations, and for each arm the square with where it ended up.

  Args:
    result: as in its file.
    path: the picture to write.
  """
  claim, variant, task = result["claim"], result["variants"]["default"], walled_square.square_task()
  arms = variant["arms"]
  canvas, room = plots.result_figure(result, width=15, height=7.4)
  top, bottom = room.subfigures(2, 1, height_ratios=(1.25, 1))
  panels = top.subplots(1, 3)
  titles = {"best_a": "best reward in A", "best_b": "best reward in B", "coverage": "coverage"}
  for axes, (key, title) in zip(panels, titles.items(), strict=True):
    curves = {arm: np.array(entry["curves"][key]["seeds"]) for arm, entry in arms.items()}
    costs = {arm: np.mean(entry["curves"][key]["cost"], 0) for arm, entry in arms.items()}
    plots.plot_arms(axes, curves, title=title, costs=costs, x_label="evaluations")
    axes.locator_params("x", nbins=5)
    if axes is not panels[0]:
      axes.get_legend().remove()
  for axes, (arm, entry) in zip(bottom.subplots(1, len(arms)), arms.items(), strict=True):
    pictures.draw_plane(axes, heat=np.array(entry["kept"]["eval/visits"])[-1].T, walls=walled_square.walls(),
                        discs=zip(task.centres, (task.radius,) * 2, strict=True))
    axes.set_title(f"{arm}: coverage {np.mean(entry['values']['last:coverage']):.2f}", fontsize=9, loc="left")
  bottom.suptitle(f"where the episodes of seed {claim['seeds'][0]} ended (dark: often)", fontsize=9)
  canvas.savefig(path, dpi=110)
