"""Jittable worlds with gymnax's functional signature, one a file; see `rlcore.types.World`."""

from rlcore.envs.household import make_household
from rlcore.envs.mini_quest import draw_quests
from rlcore.envs.mini_quest import make_mini_quest
from rlcore.envs.proof_steps import make_proof_steps

__all__ = ("draw_quests", "make_household", "make_mini_quest", "make_proof_steps")
