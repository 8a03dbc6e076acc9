"""Maps of rewards and their composition."""

from rlcore.rewards.composite import gated_reward
from rlcore.rewards.composite import lexicographic_reward
from rlcore.rewards.composite import mixture
from rlcore.rewards.composite import only_where
from rlcore.rewards.composite import weighted_sum
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
    "chain",
    "clip_reward",
    "clip_to_bounds",
    "dense_turn_rewards",
    "gated_reward",
    "identity",
    "kl_in_reward",
    "kl_penalized_rewards",
    "length_penalized_reward",
    "lexicographic_reward",
    "meanstd_reward",
    "minmax_reward",
    "mixture",
    "on_outcome",
    "on_process",
    "only_where",
    "overlong_reward",
    "relative_length_reward",
    "sparse_turn_rewards",
    "standardized_reward",
    "stateless",
    "weighted_sum",
    "with_lengths",
    "with_running_stats",
)
