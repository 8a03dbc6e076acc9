"""Jittable worlds with gymnax's functional signature, one a file; see `rlcore.types.World` and `TextWorld`."""

from rlcore.envs.household import make_household
from rlcore.envs.mini_quest import draw_quests
from rlcore.envs.mini_quest import make_mini_quest
from rlcore.envs.pinpad import draw_pinpad_task
from rlcore.envs.pinpad import make_pinpad
from rlcore.envs.proof_steps import make_proof_steps
from rlcore.envs.text_face import make_text_world
from rlcore.envs.text_worlds import make_text_corridor
from rlcore.envs.text_worlds import make_text_hops
from rlcore.envs.text_worlds import make_text_household

__all__ = ("draw_pinpad_task", "draw_quests", "make_household", "make_mini_quest", "make_pinpad", "make_proof_steps",
           "make_text_corridor", "make_text_hops", "make_text_household", "make_text_world")
