"""Learned reward models: the second learners, as states of reward transforms."""

from rlcore.reward_models.coalitions import coalition_text
from rlcore.reward_models.implicit import implicit_process_reward
from rlcore.reward_models.learner import guarded_step
from rlcore.reward_models.learner import LearnerState
from rlcore.reward_models.progress import progress_estimator
from rlcore.reward_models.progress import ProgressState

__all__ = (
    "coalition_text", "LearnerState", "ProgressState", "guarded_step", "implicit_process_reward", "progress_estimator")
