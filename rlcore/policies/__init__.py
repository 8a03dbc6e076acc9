"""How a policy acts and what it thinks of what it did."""

from rlcore.policies.flow import DenoisingTree
from rlcore.policies.flow import branch_noise
from rlcore.policies.flow import edges_to_paths
from rlcore.policies.flow import flow_sde_mean_std
from rlcore.policies.flow import gaussian_step_log_prob
from rlcore.policies.flow import interpolate
from rlcore.policies.flow import ode_sample
from rlcore.policies.flow import sigma_schedule
from rlcore.policies.flow import tree_log_probs
from rlcore.policies.flow import tree_rollout
from rlcore.policies.log_probs import token_log_probs
from rlcore.policies.sampling import sample

__all__ = (
    "branch_noise",
    "DenoisingTree",
    "edges_to_paths",
    "flow_sde_mean_std",
    "gaussian_step_log_prob",
    "interpolate",
    "ode_sample",
    "sample",
    "sigma_schedule",
    "token_log_probs",
    "tree_log_probs",
    "tree_rollout",
)
