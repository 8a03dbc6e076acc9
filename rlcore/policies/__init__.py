"""How a policy acts and what it thinks of what it did."""

from rlcore.policies.actor_critic import categorical_scores
from rlcore.policies.actor_critic import make_actor_critic
from rlcore.policies.actor_critic import rollout
from rlcore.policies.log_probs import token_log_probs
from rlcore.policies.sampling import sample

__all__ = ["categorical_scores", "make_actor_critic", "rollout", "sample", "token_log_probs"]
