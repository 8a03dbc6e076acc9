"""Losses: from arrays (log-probabilities, advantages, masks) to a scalar to be minimised."""

from rlcore.losses.aggregate import aggregate
from rlcore.losses.aggregate import aggregation_weight
from rlcore.losses.branching import branch_grpo_loss
from rlcore.losses.candidates import slate_objective
from rlcore.losses.divergences import entropy
from rlcore.losses.divergences import gaussian_kl
from rlcore.losses.divergences import kl_estimate
from rlcore.losses.divergences import kl_exact
from rlcore.losses.imitation import asaf_log_discriminator
from rlcore.losses.imitation import asaf_loss
from rlcore.losses.imitation import behaviour_cloning_loss
from rlcore.losses.imitation import gail_discriminator_loss
from rlcore.losses.importance import importance_ratio
from rlcore.losses.importance import truncated_importance_weights
from rlcore.losses.latents import discovery_loss
from rlcore.losses.latents import internal_policy_loss
from rlcore.losses.matching import connectivity_loss
from rlcore.losses.matching import flow_matching_loss
from rlcore.losses.matching import team_predictability_loss
from rlcore.losses.off_policy import critics_loss
from rlcore.losses.off_policy import deterministic_policy_loss
from rlcore.losses.off_policy import double_q_target
from rlcore.losses.off_policy import sac_policy_loss
from rlcore.losses.off_policy import sac_target
from rlcore.losses.off_policy import td3_target
from rlcore.losses.off_policy import temperature_loss
from rlcore.losses.policy import cispo_loss
from rlcore.losses.policy import cispo_policy_loss
from rlcore.losses.policy import clip_loss
from rlcore.losses.policy import clip_policy_loss
from rlcore.losses.policy import clipped_surrogate
from rlcore.losses.policy import reinforce_loss
from rlcore.losses.policy import reinforce_policy_loss
from rlcore.losses.reward_models import classification_loss
from rlcore.losses.reward_models import progress_loss
from rlcore.losses.reward_models import ranking_loss
from rlcore.losses.reward_models import trajectory_dpo_loss
from rlcore.losses.tabular import outer_objective_gradient
from rlcore.losses.tabular import tabular_inner_jacobians
from rlcore.losses.tabular import tabular_inner_update
from rlcore.losses.value import dqn_loss
from rlcore.losses.value import greedy_td_target
from rlcore.losses.value import value_loss

__all__ = (
    "aggregate",
    "aggregation_weight",
    "asaf_log_discriminator",
    "asaf_loss",
    "behaviour_cloning_loss",
    "branch_grpo_loss",
    "cispo_loss",
    "cispo_policy_loss",
    "classification_loss",
    "clip_loss",
    "clip_policy_loss",
    "clipped_surrogate",
    "connectivity_loss",
    "critics_loss",
    "deterministic_policy_loss",
    "discovery_loss",
    "double_q_target",
    "dqn_loss",
    "entropy",
    "flow_matching_loss",
    "gail_discriminator_loss",
    "gaussian_kl",
    "greedy_td_target",
    "importance_ratio",
    "internal_policy_loss",
    "kl_estimate",
    "kl_exact",
    "outer_objective_gradient",
    "progress_loss",
    "ranking_loss",
    "reinforce_loss",
    "reinforce_policy_loss",
    "sac_policy_loss",
    "sac_target",
    "slate_objective",
    "tabular_inner_jacobians",
    "tabular_inner_update",
    "td3_target",
    "team_predictability_loss",
    "temperature_loss",
    "trajectory_dpo_loss",
    "truncated_importance_weights",
    "value_loss",
)
