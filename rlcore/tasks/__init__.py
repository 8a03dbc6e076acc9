"""Prompts and the verifiers of their answers."""

from rlcore.tasks.countdown import make_countdown
from rlcore.tasks.finite import with_test_set
from rlcore.tasks.quests import make_quests
from rlcore.tasks.rings import make_rings
from rlcore.tasks.signpost import all_prompts
from rlcore.tasks.signpost import make_signpost
from rlcore.tasks.span_words import make_span_words

__all__ = ["all_prompts", "make_countdown", "make_quests", "make_rings", "make_signpost", "make_span_words",
           "with_test_set"]
