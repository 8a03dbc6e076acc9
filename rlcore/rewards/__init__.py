"""Maps of rewards and their composition."""

from rlcore.rewards.alignment import alignment_reward
from rlcore.rewards.alignment import learned_discount
from rlcore.rewards.attribution import mixed_token_rewards
from rlcore.rewards.attribution import owen_values
from rlcore.rewards.attribution import shapley_from_permutations
from rlcore.rewards.attribution import shapley_values
from rlcore.rewards.composite import gated_reward
from rlcore.rewards.composite import lexicographic_reward
from rlcore.rewards.composite import mixture
from rlcore.rewards.composite import only_where
from rlcore.rewards.composite import weighted_sum
from rlcore.rewards.constraints import bootstrap_weight
from rlcore.rewards.constraints import cost_rate
from rlcore.rewards.constraints import focus_reward
from rlcore.rewards.constraints import lagrangian_reward
from rlcore.rewards.constraints import multiplier_gradient
from rlcore.rewards.constraints import multiplier_loss
from rlcore.rewards.constraints import normalized_multipliers
from rlcore.rewards.constraints import plain_multiplier_update
from rlcore.rewards.design import adaptive_informativeness
from rlcore.rewards.design import adaptive_weights
from rlcore.rewards.design import informativeness
from rlcore.rewards.design import invariance_violation
from rlcore.rewards.graphs import connectivity_targets
from rlcore.rewards.graphs import graph_guided_reward
from rlcore.rewards.graphs import graph_observe
from rlcore.rewards.graphs import normalized_laplacian
from rlcore.rewards.graphs import spectral_distance
from rlcore.rewards.imitation import gail_reward
from rlcore.rewards.implicit import implicit_step_rewards
from rlcore.rewards.implicit import normalize_step_rewards
from rlcore.rewards.implicit import trajectory_scores
from rlcore.rewards.normalise import clip_reward
from rlcore.rewards.normalise import clip_to_bounds
from rlcore.rewards.normalise import meanstd_reward
from rlcore.rewards.normalise import minmax_reward
from rlcore.rewards.normalise import standardized_reward
from rlcore.rewards.penalties import kl_in_reward
from rlcore.rewards.penalties import kl_penalized_rewards
from rlcore.rewards.penalties import length_penalized_reward
from rlcore.rewards.penalties import overlong_reward
from rlcore.rewards.penalties import relative_length_reward
from rlcore.rewards.principles import ppr_step_rewards
from rlcore.rewards.principles import principle_score
from rlcore.rewards.principles import renorm
from rlcore.rewards.principles import slate_step_reward
from rlcore.rewards.process import clip_rewards
from rlcore.rewards.process import delta_rewards
from rlcore.rewards.process import refine_process_rewards
from rlcore.rewards.process import return_upper_bound
from rlcore.rewards.process import shaped_step_rewards
from rlcore.rewards.redistribution import predicted_outcome
from rlcore.rewards.redistribution import redistribution_residual
from rlcore.rewards.redistribution import spa_step_rewards
from rlcore.rewards.self_shaping import count_exploration_bonus
from rlcore.rewards.self_shaping import explors_reward
from rlcore.rewards.self_shaping import selfrs_update
from rlcore.rewards.shaping import potential_shaping
from rlcore.rewards.shaping import with_potential
from rlcore.rewards.thoughts import capability_reward
from rlcore.rewards.thoughts import good_steps
from rlcore.rewards.thoughts import labels_from_reflections
from rlcore.rewards.thoughts import merge_thoughts
from rlcore.rewards.thoughts import thought_rewards
from rlcore.rewards.transforms import chain
from rlcore.rewards.transforms import identity
from rlcore.rewards.transforms import on_outcome
from rlcore.rewards.transforms import on_process
from rlcore.rewards.transforms import stateless
from rlcore.rewards.transforms import with_lengths
from rlcore.rewards.transforms import with_running_stats
from rlcore.rewards.turns import dense_turn_rewards
from rlcore.rewards.turns import sparse_turn_rewards

__all__ = (
    "adaptive_informativeness",
    "adaptive_weights",
    "alignment_reward",
    "bootstrap_weight",
    "capability_reward",
    "chain",
    "clip_reward",
    "clip_rewards",
    "clip_to_bounds",
    "connectivity_targets",
    "cost_rate",
    "count_exploration_bonus",
    "delta_rewards",
    "dense_turn_rewards",
    "explors_reward",
    "focus_reward",
    "gail_reward",
    "gated_reward",
    "good_steps",
    "graph_guided_reward",
    "graph_observe",
    "identity",
    "implicit_step_rewards",
    "informativeness",
    "invariance_violation",
    "kl_in_reward",
    "kl_penalized_rewards",
    "labels_from_reflections",
    "lagrangian_reward",
    "learned_discount",
    "length_penalized_reward",
    "lexicographic_reward",
    "meanstd_reward",
    "merge_thoughts",
    "minmax_reward",
    "mixed_token_rewards",
    "mixture",
    "multiplier_gradient",
    "multiplier_loss",
    "normalize_step_rewards",
    "normalized_laplacian",
    "normalized_multipliers",
    "on_outcome",
    "on_process",
    "only_where",
    "overlong_reward",
    "owen_values",
    "plain_multiplier_update",
    "potential_shaping",
    "ppr_step_rewards",
    "predicted_outcome",
    "principle_score",
    "redistribution_residual",
    "refine_process_rewards",
    "relative_length_reward",
    "renorm",
    "return_upper_bound",
    "selfrs_update",
    "shaped_step_rewards",
    "shapley_from_permutations",
    "shapley_values",
    "slate_step_reward",
    "spa_step_rewards",
    "sparse_turn_rewards",
    "spectral_distance",
    "standardized_reward",
    "stateless",
    "thought_rewards",
    "trajectory_scores",
    "weighted_sum",
    "with_lengths",
    "with_potential",
    "with_running_stats",
)
