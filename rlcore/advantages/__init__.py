"""Advantage estimators: credit for the elements of a group, a prefix tree or a trajectory."""

from rlcore.advantages.blocks import action_coverage
from rlcore.advantages.blocks import block_lengths_to_ends
from rlcore.advantages.blocks import hierarchical_discount
from rlcore.advantages.depths import depth_prune_mask
from rlcore.advantages.depths import depthwise_advantage
from rlcore.advantages.depths import fuse_rewards
from rlcore.advantages.depths import tree_nodes_per_depth
from rlcore.advantages.depths import width_prune_mask
from rlcore.advantages.episodes import gae_advantages
from rlcore.advantages.episodes import gae_returns
from rlcore.advantages.episodes import step_rewards
from rlcore.advantages.groups import broadcast_to_tokens
from rlcore.advantages.groups import degenerate_group
from rlcore.advantages.groups import group_advantage
from rlcore.advantages.groups import group_relative
from rlcore.advantages.groups import step_group_advantage
from rlcore.advantages.groups import total_rewards
from rlcore.advantages.groups import trajectory_rloo
from rlcore.advantages.steps import oprl_advantage
from rlcore.advantages.steps import reward_weighted_probs
from rlcore.advantages.steps import step_level_advantage
from rlcore.advantages.steps import thought_advantage
from rlcore.advantages.temporal import gae
from rlcore.advantages.temporal import lambda_returns
from rlcore.advantages.temporal import n_step_returns
from rlcore.advantages.temporal import regularized_returns
from rlcore.advantages.temporal import reinforce_pp_returns
from rlcore.advantages.temporal import reward_to_go
from rlcore.advantages.temporal import segment_rewards
from rlcore.advantages.temporal import vtrace
from rlcore.advantages.trees import branch_mask
from rlcore.advantages.trees import prefix_lcp
from rlcore.advantages.trees import prefix_tree
from rlcore.advantages.trees import prefix_tree_values
from rlcore.advantages.trees import tempo
from rlcore.advantages.trees import tempo_advantage

__all__ = (
    "action_coverage",
    "block_lengths_to_ends",
    "branch_mask",
    "broadcast_to_tokens",
    "degenerate_group",
    "depth_prune_mask",
    "depthwise_advantage",
    "fuse_rewards",
    "gae",
    "gae_advantages",
    "gae_returns",
    "group_advantage",
    "group_relative",
    "hierarchical_discount",
    "lambda_returns",
    "n_step_returns",
    "oprl_advantage",
    "prefix_lcp",
    "prefix_tree",
    "prefix_tree_values",
    "regularized_returns",
    "reinforce_pp_returns",
    "reward_to_go",
    "reward_weighted_probs",
    "segment_rewards",
    "step_group_advantage",
    "step_level_advantage",
    "step_rewards",
    "tempo",
    "tempo_advantage",
    "thought_advantage",
    "total_rewards",
    "trajectory_rloo",
    "tree_nodes_per_depth",
    "vtrace",
    "width_prune_mask",
)
