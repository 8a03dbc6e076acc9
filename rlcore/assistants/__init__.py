"""Language models in other roles: judges of answers and steps, behind a protocol that plain functions meet too."""

from rlcore.assistants.client import AssistantError
from rlcore.assistants.client import ChatClient
from rlcore.assistants.judges import ChatJudge
from rlcore.assistants.judges import Judge
from rlcore.assistants.judges import Judgement
from rlcore.assistants.judges import Request
from rlcore.assistants.judges import stand_in

__all__ = ["AssistantError", "ChatClient", "ChatJudge", "Judge", "Judgement", "Request", "stand_in"]
