"""Quality diversity: novelty search, archives, emitters and what behaviours are described by."""

from rlcore.diversity.archives import append
from rlcore.diversity.archives import Archive
from rlcore.diversity.archives import centroid_cells
from rlcore.diversity.archives import cvt_centroids
from rlcore.diversity.archives import empty_archive
from rlcore.diversity.archives import grid_cells
from rlcore.diversity.archives import insert
from rlcore.diversity.archives import sample_cells
from rlcore.diversity.descriptors import coverage
from rlcore.diversity.descriptors import path_signature
from rlcore.diversity.emitters import choose_emitter
from rlcore.diversity.emitters import Emitter
from rlcore.diversity.emitters import emitter_improvement
from rlcore.diversity.emitters import emitter_init
from rlcore.diversity.emitters import emitter_update
from rlcore.diversity.emitters import gaussian_mutation
from rlcore.diversity.emitters import initial_step_size
from rlcore.diversity.emitters import is_stagnant
from rlcore.diversity.novelty import distances
from rlcore.diversity.novelty import local_competition
from rlcore.diversity.novelty import novelty
from rlcore.diversity.novelty import surprise
from rlcore.diversity.selection import break_ties
from rlcore.diversity.selection import elitist_update
from rlcore.diversity.selection import pareto_front
from rlcore.diversity.selection import select_top

__all__ = (
    "Archive",
    "Emitter",
    "append",
    "break_ties",
    "centroid_cells",
    "choose_emitter",
    "coverage",
    "cvt_centroids",
    "distances",
    "elitist_update",
    "emitter_improvement",
    "emitter_init",
    "emitter_update",
    "empty_archive",
    "gaussian_mutation",
    "grid_cells",
    "initial_step_size",
    "insert",
    "is_stagnant",
    "local_competition",
    "novelty",
    "pareto_front",
    "path_signature",
    "sample_cells",
    "select_top",
    "surprise",
)
