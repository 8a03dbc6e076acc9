"""Advantage estimators: credit for the elements of a group, a prefix tree or a trajectory."""

from rlcore.advantages.groups import broadcast_to_tokens
from rlcore.advantages.groups import degenerate_group
from rlcore.advantages.groups import group_advantage
from rlcore.advantages.groups import group_relative
    "reward_weighted_probs",
