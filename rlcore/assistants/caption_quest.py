"""What annotators of `envs.caption_quest` are asked, and the plain functions that stand in for them.

All of it sees the words of a caption alone, never the state of the world.
"""

import functools
import zlib

from rlcore.assistants import prompts
from rlcore.assistants.judges import Request
from rlcore.envs import caption_quest

GOAL = ("Take the key, then open the door with it, then open the chest. Only the chest pays, and each of the three "
        "counts once.")
EXAMPLES = (
    ("the lamp goes out here far old", False), ("you climb rope up slow grey", True),
    ("you hear a cart cold near", False), ("rope breaks in two dim high", False))
"""Messages of another world, and whether they are helpful there: what an answer looks like."""

PROGRESS = ("pick key", "opens door", "opens chest")
"""Verb and object of what leads on; a later one is further on the way."""

SIGHT = "see key"  # no progress, but somebody might take it for that


def label_caption(caption: str, flip: float = 0.0, helpful: tuple[str, ...] = PROGRESS) -> int:
  """Stands in for the annotator that `ask_about_caption` asks.

  Args:
    caption: the text.
    flip: share of the captions of the world whose label is wrong, see `flip_draw`; 0 takes any text.
    helpful: words that make a caption helpful.

  Returns:
    1 if it is helpful, else 0.
  """
  right = any(words in caption for words in helpful)
  return int(right != (flip > 0 and flip_draw(caption) < flip))


def flip_draw(caption: str) -> float:
  """Returns a fixed draw from [0, 1) for a caption of the world: every wording of a template has its own twentieth.

  So a share of 0.05 makes one wording of each template wrong, which favours no template.
  """
  return _draws()[caption]


@functools.cache
def _draws() -> dict[str, float]:
  texts, draws = caption_quest.caption_texts(), {}
  for start in range(0, len(texts), caption_quest.VARIANTS):
    wordings = sorted(texts[start:start + caption_quest.VARIANTS], key=lambda text: zlib.crc32(text.encode()))
    draws |= {text: rank / caption_quest.VARIANTS for rank, text in enumerate(wordings)}
  return draws


def progress(caption: str) -> int:
  """Returns how far on the way a caption shows the agent: 0 to 3."""
  return max((i for i, words in enumerate(PROGRESS, 1) if words in caption), default=0)


def prefer_caption(pair: tuple[str, str]) -> int:
  """Stands in for the annotator that `ask_about_pair` asks: 0 for the first, 1 for the second, 2 for a tie."""
  first, second = map(progress, pair)
  return 0 if first > second else 1 if second > first else 2


def ask_about_caption(caption: str) -> Request:
  """Asks whether a caption is helpful; the value is 1 or 0.

  Reference: ONI, arXiv:2410.23022.
  """
  return Request(prompts.helpful_prompt(GOAL, caption, EXAMPLES), caption, prompts.parse_binary_label)


def ask_about_pair(pair: tuple[str, str]) -> Request:
  """Asks which of two captions shows more progress; the value is 0, 1 or 2.

  Reference: ONI, arXiv:2410.23022 (ranking).
  """
  return Request(prompts.progress_prompt(GOAL, *pair), pair, prompts.parse_preference)
