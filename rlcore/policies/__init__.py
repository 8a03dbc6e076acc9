"""How a policy acts and what it thinks of what it did."""

from rlcore.policies.branching import branch
from rlcore.policies.branching import make_host_branch
from rlcore.policies.log_probs import token_log_probs
from rlcore.policies.sampling import sample

__all__ = ["branch", "make_host_branch", "sample", "token_log_probs"]
