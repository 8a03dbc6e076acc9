"""Caption quest: a key, a door and a chest on 8 x 8 cells, and a line of text about every step.

The agent has to touch the key, then the door, then the chest, which pays 1 and ends the episode; nothing blocks and
nothing else pays. Every step emits a caption: what happened, in one of several wordings. Captions have the numbers
`template * VARIANTS + variant`; `captions` gives their words.

Reference: ONI, arXiv:2410.23022 (the world is ours: messages of NetHack in miniature).
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rlcore.envs import cells, grids
from rlcore.types import Array, World

SIZE = 8  # cells a side
VARIANTS = 20  # wordings of a template
NOISE = ("wind", "rat", "echo", "drip", "creak", "moth", "draft", "spark")
TEMPLATES = (
    ("you", "pick", "key"), ("key", "opens", "door"), ("key", "opens", "chest"), ("door", "is", "locked"),
    ("chest", "is", "locked"), ("bump", "the", "wall"), ("you", "see", "key"), ("nothing", "happens", "here"),
    *(("here", "a", word) for word in NOISE))
"""What may happen, the first that holds; the last nine say nothing of the quest."""

SEE_KEY, QUIET = 6, 7  # templates: the key is beside the agent; nothing happens
NUM_CAPTIONS = len(TEMPLATES) * VARIANTS
LENGTH = 12  # words of a caption
_FILLERS = ("old", "grey", "cold", "long", "dim", "wet", "dust", "stone", "moss", "beam", "hall", "step", "now", "far",
            "again", "still", "near", "low", "high", "slow", "soft", "deep", "bare", "worn", "pale", "damp", "thin",
            "wide", "dark", "quiet", "heavy", "small")
WORDS = (*dict.fromkeys(word for template in TEMPLATES for word in template), *_FILLERS)
_TEXT_SEED = 20


class CaptionQuest(NamedTuple):
  """An instance: `start`, `key`, `door` and `chest`, `[2]` int32 (row, column), all different."""

  start: Array
  key: Array
  door: Array
  chest: Array


class QuestState(NamedTuple):
  """Where the agent is (`place` `[2]` int32), `has_key` and `door_open` (bool), and the `time` (int32)."""

  place: Array
  has_key: Array
  door_open: Array
  time: Array


@functools.cache
def captions() -> np.ndarray:
  """Returns the words of all captions, `[320, 12]` int32 places in `WORDS`: three of the template, nine fillers.

  The fillers of a caption mean nothing; they are drawn once and are the same in every process.
  """
  rng = np.random.default_rng(_TEXT_SEED)
  template = np.array([[WORDS.index(word) for word in words] for words in TEMPLATES])
  fillers = rng.integers(len(WORDS) - len(_FILLERS), len(WORDS), (NUM_CAPTIONS, LENGTH - template.shape[1]))
  return np.concatenate([np.repeat(template, VARIANTS, 0), fillers], 1).astype(np.int32)


def caption_texts() -> tuple[str, ...]:
  """Returns all captions as text, in the order of their numbers."""
  return tuple(" ".join(WORDS[word] for word in row) for row in captions())


def render(state: QuestState, quest: CaptionQuest) -> Array:
  """Returns the codes of `cells`, `[8, 8]`: key and door, each until it is done with, the chest, the agent on top."""
  picture = jnp.full((SIZE, SIZE), cells.FLOOR).at[tuple(quest.chest)].set(cells.GOAL)
  picture = picture.at[tuple(quest.key)].set(jnp.where(state.has_key, cells.FLOOR, cells.COLOUR))
  picture = picture.at[tuple(quest.door)].set(jnp.where(state.door_open, cells.FLOOR, cells.COLOUR + 1))
  return picture.at[tuple(state.place)].set(cells.AGENT)


def draw_caption_quest(key: Array) -> CaptionQuest:
  """Draws four different cells, uniformly."""
  places = jax.random.choice(key, SIZE**2, (4,), replace=False).astype(jnp.int32)
  return CaptionQuest(*jnp.stack(jnp.divmod(places, SIZE), -1))


def make_caption_quest(*, horizon: int = 64, variants: Array | int = VARIANTS) -> World:
  """Makes the world; its params are one `CaptionQuest`.

  Actions move up, down, left, right; the edge stops the agent. Entering a cell touches what is there. The observation
  is `[10]`: the places of the agent, the key, the door and the chest in units of the side, whether the key is taken and
  whether the door is open. The horizon terminates too. `info` holds the number of the `caption`, int32. The first of
  these that holds is told:
    the next object of the quest is touched (templates 0 to 2); the door is touched without the key; the chest before
    the door is open; the edge stopped the agent; the key, not taken yet, is one move away. Else nothing, half of the
    time, or one of eight kinds of noise.

  Args:
    horizon: most steps of an episode.
    variants: V, how many of the 20 wordings occur, each as often as the others; may be traced.

  Returns:
    The world.
  """
  def observe(quest, state):
    places = jnp.concatenate([state.place, quest.key, quest.door, quest.chest])
    return jnp.concatenate([places / SIZE, jnp.stack([state.has_key, state.door_open])]).astype(jnp.float32)

  def reset(key, params):
    del key
    no = jnp.zeros((), bool)
    state = QuestState(params.start, no, no, jnp.zeros((), jnp.int32))
    return observe(params, state), state

  def step(key, state, action, params):
    wording, luck = jax.random.uniform(key, (2,))
    place = jnp.clip(state.place + jnp.array(grids.MOVES)[action], 0, SIZE - 1)
    moved = jnp.any(place != state.place)
    touches = lambda thing: moved & jnp.all(place == thing)
    at_door, at_chest = touches(params.door), touches(params.chest)
    picks = touches(params.key) & ~state.has_key
    opens = at_door & state.has_key & ~state.door_open
    won = at_chest & state.door_open
    has_key, door_open = state.has_key | picks, state.door_open | opens
    beside = ~has_key & (jnp.sum(jnp.abs(place - params.key)) == 1)
    locked = at_door & ~state.has_key, at_chest & ~state.door_open
    happened = jnp.stack([picks, opens, won, *locked, ~moved, beside, True])
    noise = jnp.where(luck < 0.5, 0, 1 + ((luck - 0.5) * 2 * len(NOISE)).astype(jnp.int32))
    first = jnp.argmax(happened)
    template = first + jnp.where(first == QUIET, noise, 0)
    caption = template * VARIANTS + (wording * variants).astype(jnp.int32)
    state = QuestState(place, has_key, door_open, state.time + 1)
    ended = won | (state.time >= horizon)
    info = {"caption": caption.astype(jnp.int32)}
    return observe(params, state), state, won.astype(jnp.float32), ended, jnp.zeros((), bool), info

  return World(reset, step, len(grids.MOVES), 4 * 2 + 2, horizon)
