"""Searches that spend a budget of evaluations, as pure functions of their state."""

from rlcore.search.chunks import Chunks
from rlcore.search.quality_diversity import Individuals
from rlcore.search.quality_diversity import learned_descriptors
from rlcore.search.quality_diversity import SearchParts
from rlcore.search.quality_diversity import SearchSizes
from rlcore.search.quality_diversity import SearchState
from rlcore.search.quality_diversity import Slot
from rlcore.search.quality_diversity import Solution

__all__ = (
    "Chunks",
    "Individuals",
    "learned_descriptors",
    "SearchParts",
    "SearchSizes",
    "SearchState",
    "Slot",
    "Solution",
)
