"""Bonuses for exploration: counts, novelty, ellipsoids and the feedback of language models, and their combination."""

from rlcore.exploration.combine import augmented_reward
from rlcore.exploration.combine import combine_bonuses
from rlcore.exploration.combine import scale_bonus
from rlcore.exploration.combine import value_context_variance
from rlcore.exploration.counts import count_bonus
from rlcore.exploration.counts import episodic_count
from rlcore.exploration.counts import episodic_message_count
from rlcore.exploration.counts import global_count
from rlcore.exploration.elliptical import elliptical_bonus
from rlcore.exploration.elliptical import elliptical_inverse_update
from rlcore.exploration.elliptical import elliptical_join
from rlcore.exploration.elliptical import elliptical_pair_update
from rlcore.exploration.elliptical import elliptical_root_update
from rlcore.exploration.language import classification_reward
from rlcore.exploration.language import newest_first_batch
from rlcore.exploration.language import oni_reward
from rlcore.exploration.language import ranking_reward
from rlcore.exploration.language import retrieval_reward
from rlcore.exploration.novelty import noveld_bonus
from rlcore.exploration.novelty import rnd_novelty
from rlcore.exploration.transforms import combined
from rlcore.exploration.transforms import elliptical_source
from rlcore.exploration.transforms import episodic_count_bonus
from rlcore.exploration.transforms import global_count_bonus
from rlcore.exploration.transforms import hashed_keys
from rlcore.exploration.transforms import scaled_by_std

__all__ = (
    "augmented_reward",
    "classification_reward",
    "combine_bonuses",
    "combined",
    "count_bonus",
    "elliptical_bonus",
    "elliptical_inverse_update",
    "elliptical_join",
    "elliptical_pair_update",
    "elliptical_root_update",
    "elliptical_source",
    "episodic_count",
    "episodic_count_bonus",
    "episodic_message_count",
    "global_count",
    "global_count_bonus",
    "hashed_keys",
    "newest_first_batch",
    "noveld_bonus",
    "oni_reward",
    "ranking_reward",
    "retrieval_reward",
    "rnd_novelty",
    "scale_bonus",
    "scaled_by_std",
    "value_context_variance",
)
