"""Jittable worlds with gymnax's functional signature, one a file; see `rlcore.types.World` and `TextWorld`."""

from rlcore.envs.adapters import adapt_brax
from rlcore.envs.adapters import adapt_gymnax
from rlcore.envs.adapters import adapt_jumanji
from rlcore.envs.adapters import adapt_xminigrid
from rlcore.envs.bandit_stream import make_bandit_stream
from rlcore.envs.caption_quest import draw_caption_quest
from rlcore.envs.caption_quest import make_caption_quest
from rlcore.envs.chain import chain_tables
from rlcore.envs.chain import make_chain
from rlcore.envs.corner_grid import corner_tables
from rlcore.envs.corner_grid import make_corner_grid
from rlcore.envs.corridors import make_corridors
from rlcore.envs.decoy_grid import make_decoy_grid
from rlcore.envs.household import make_household
from rlcore.envs.mini_quest import draw_quests
from rlcore.envs.mini_quest import make_mini_quest
from rlcore.envs.pinpad import draw_pinpad_task
from rlcore.envs.pinpad import make_pinpad
from rlcore.envs.proof_steps import make_proof_steps
from rlcore.envs.random_maze import make_random_maze
from rlcore.envs.ruled_grid import make_ruled_grid
from rlcore.envs.text_face import make_text_world
from rlcore.envs.text_worlds import make_text_corridor
from rlcore.envs.text_worlds import make_text_hops
from rlcore.envs.text_worlds import make_text_household
from rlcore.envs.walled_square import make_walled_square

__all__ = ("adapt_brax", "adapt_gymnax", "adapt_jumanji", "adapt_xminigrid", "chain_tables", "corner_tables",
           "draw_caption_quest", "draw_pinpad_task", "draw_quests", "make_bandit_stream", "make_caption_quest",
           "make_chain", "make_corner_grid", "make_corridors", "make_decoy_grid", "make_household", "make_mini_quest",
           "make_pinpad", "make_proof_steps", "make_random_maze", "make_ruled_grid", "make_text_corridor",
           "make_text_hops", "make_text_household", "make_text_world", "make_walled_square")
