"""Learned and designed rewards: the second learners as states of reward transforms, and programs that find rewards."""

from rlcore.reward_models.coalitions import coalition_text
from rlcore.reward_models.design import adaptive_design
from rlcore.reward_models.design import exprd_design
from rlcore.reward_models.design import exprd_optimum
from rlcore.reward_models.design import greedy_active_states
from rlcore.reward_models.implicit import implicit_process_reward
from rlcore.reward_models.learner import LearnerState
from rlcore.reward_models.learner import guarded_step
from rlcore.reward_models.novelty import NoveltyState
from rlcore.reward_models.novelty import novelty_source
from rlcore.reward_models.progress import ProgressState
from rlcore.reward_models.progress import progress_estimator

__all__ = (
    "LearnerState",
    "NoveltyState",
    "ProgressState",
    "adaptive_design",
    "coalition_text",
    "exprd_design",
    "exprd_optimum",
    "greedy_active_states",
    "guarded_step",
    "implicit_process_reward",
    "novelty_source",
    "progress_estimator",
)
