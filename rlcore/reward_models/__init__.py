"""Learned reward models: the second learners, as states of reward transforms."""

from rlcore.reward_models.coalitions import coalition_text
from rlcore.reward_models.implicit import implicit_process_reward
from rlcore.reward_models.implicit import ImplicitState

__all__ = ("ImplicitState", "coalition_text", "implicit_process_reward")
