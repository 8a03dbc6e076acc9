"""Learned and designed rewards: the second learners as states of reward transforms, and programs that find rewards."""

from rlcore.reward_models.design import exprd_design
from rlcore.reward_models.design import exprd_optimum
from rlcore.reward_models.design import greedy_active_states
from rlcore.reward_models.implicit import implicit_process_reward
from rlcore.reward_models.implicit import ImplicitState

__all__ = (
    "ImplicitState",
    "exprd_design",
    "exprd_optimum",
    "greedy_active_states",
    "implicit_process_reward",
)
