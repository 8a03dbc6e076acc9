"""How a policy acts and what it thinks of what it did."""

from rlcore.policies.actor_critic import categorical_scores
from rlcore.policies.actor_critic import make_actor_critic
from rlcore.policies.actor_critic import rollout
from rlcore.policies.actor_critic import scripted_rollout
from rlcore.policies.branching import branch
from rlcore.policies.branching import make_host_branch
from rlcore.policies.log_probs import token_log_probs
from rlcore.policies.sampling import sample
from rlcore.policies.world_branching import branching_rollout

__all__ = (
    "branch",
    "branching_rollout",
    "categorical_scores",
    "make_actor_critic",
    "make_host_branch",
    "rollout",
    "sample",
    "scripted_rollout",
    "token_log_probs",
)
