"""How a policy acts and what it thinks of what it did."""

from rlcore.policies.actor_critic import categorical_scores
from rlcore.policies.actor_critic import make_actor_critic
from rlcore.policies.actor_critic import rollout
from rlcore.policies.actor_critic import scripted_rollout
from rlcore.policies.bandits import epsilon_greedy
from rlcore.policies.bandits import gaussian_posterior
from rlcore.policies.bandits import make_epsilon_greedy
from rlcore.policies.bandits import make_thompson_sampling
from rlcore.policies.bandits import remembering_rollout
from rlcore.policies.bandits import RememberingPolicy
from rlcore.policies.branching import branch
from rlcore.policies.branching import make_host_branch
from rlcore.policies.controller import apply_controller
from rlcore.policies.controller import gaussian_log_prob
from rlcore.policies.controller import harden_switch
from rlcore.policies.controller import temporal_integration
from rlcore.policies.flow import branch_noise
from rlcore.policies.flow import DenoisingTree
from rlcore.policies.flow import edges_to_paths
from rlcore.policies.flow import flow_sde_mean_std
from rlcore.policies.flow import gaussian_step_log_prob
from rlcore.policies.flow import interpolate
from rlcore.policies.flow import ode_sample
from rlcore.policies.flow import sigma_schedule
from rlcore.policies.flow import tree_log_probs
from rlcore.policies.flow import tree_rollout
from rlcore.policies.internal import discover
from rlcore.policies.internal import make_internal_agent
from rlcore.policies.internal import make_recurrent_agent
from rlcore.policies.log_probs import token_log_probs
from rlcore.policies.multi_turn import make_token_agent
from rlcore.policies.sampling import sample
from rlcore.policies.streams import make_stream_policy
from rlcore.policies.tanh_gaussian import action_box
from rlcore.policies.tanh_gaussian import log_volume
from rlcore.policies.tanh_gaussian import tanh_gaussian_log_prob
from rlcore.policies.tanh_gaussian import tanh_gaussian_sample
from rlcore.policies.world_branching import branching_rollout

__all__ = (
    "apply_controller",
    "branch",
    "branch_noise",
    "branching_rollout",
    "categorical_scores",
    "DenoisingTree",
    "discover",
    "edges_to_paths",
    "epsilon_greedy",
    "flow_sde_mean_std",
    "gaussian_log_prob",
    "gaussian_posterior",
    "gaussian_step_log_prob",
    "harden_switch",
    "interpolate",
    "make_actor_critic",
    "make_epsilon_greedy",
    "make_host_branch",
    "make_internal_agent",
    "make_recurrent_agent",
    "make_stream_policy",
    "make_thompson_sampling",
    "make_token_agent",
    "ode_sample",
    "remembering_rollout",
    "RememberingPolicy",
    "rollout",
    "sample",
    "scripted_rollout",
    "sigma_schedule",
    "action_box",
    "log_volume",
    "tanh_gaussian_log_prob",
    "tanh_gaussian_sample",
    "temporal_integration",
    "token_log_probs",
    "tree_log_probs",
    "tree_rollout",
)
