"""Language models in other roles: judges of answers and steps, behind a protocol that plain functions meet too.

Annotators are judges of messages that work beside the learner.
"""

from rlcore.assistants.annotators import Annotator
from rlcore.assistants.annotators import AsyncAnnotator
from rlcore.assistants.annotators import judge_annotator
from rlcore.assistants.client import AssistantError
from rlcore.assistants.client import ChatClient
from rlcore.assistants.judges import ChatJudge
from rlcore.assistants.judges import Judge
from rlcore.assistants.judges import Judgement
from rlcore.assistants.judges import Request
from rlcore.assistants.judges import stand_in
from rlcore.assistants.traced import own_errors
from rlcore.assistants.traced import traced_judge

__all__ = [
    "Annotator", "AssistantError", "AsyncAnnotator", "ChatClient", "ChatJudge", "Judge", "judge_annotator", "Judgement",
    "own_errors", "Request", "stand_in", "traced_judge"]
