"""How a policy acts and what it thinks of what it did."""

from rlcore.policies.log_probs import token_log_probs
from rlcore.policies.sampling import sample

__all__ = ["sample", "token_log_probs"]
