"""Advantage estimators: credit for the elements of a group, a prefix tree or a trajectory."""

from rlcore.advantages.trees import branch_mask
from rlcore.advantages.trees import prefix_lcp
from rlcore.advantages.trees import prefix_tree
from rlcore.advantages.trees import prefix_tree_values
from rlcore.advantages.trees import tempo
from rlcore.advantages.trees import tempo_advantage

__all__ = (
    "branch_mask",
    "prefix_lcp",
    "prefix_tree",
    "prefix_tree_values",
    "tempo",
    "tempo_advantage",
)
