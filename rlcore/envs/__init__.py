"""Jittable worlds with gymnax's functional signature, one a file; see `rlcore.types.World`."""

from rlcore.envs.household import make_household
from rlcore.envs.proof_steps import make_proof_steps

__all__ = ("make_household", "make_proof_steps")
