"""Text faces: a `World` of feature vectors and tables of sentences make a `TextWorld`; the rules stay the world's.

The face says in words what the instance asks, what is seen, and how each action is told. Words that tell no action of
the world waste a turn: nothing happens, and time goes on.
"""

from collections.abc import Callable, Sequence
import math
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from rlcore.types import Array, PyTree, TextWorld, World

START, UNDERSTOOD, NONSENSE = range(3)  # what the last action was to the world


class Face(NamedTuple):
  """How a world is put into words.

  Attributes:
    words: the vocabulary of V words; see `vocabulary`.
    actions: the sentence of each action of the world, all different, all of the same A words; the last word ends the
      turn.
    prompt: `(params) -> [P]` int32, what the instance asks.
    observe: `(state, heard) -> [O]` int32, what is seen in a state of the world; `heard` is int32, `START` before the
      first action, then `UNDERSTOOD` or `NONSENSE`.
    prompt_length: P.
    observation_length: O.
    waste: `(state) -> state`, the state of the world after a turn in which nothing was done. None where every
      combination of the words that may stand at the places of an action is an action.
  """

  words: tuple[str, ...]
  actions: tuple[str, ...]
  prompt: Callable[[PyTree], Array]
  observe: Callable[[PyTree, Array], Array]
  prompt_length: int
  observation_length: int
  waste: Callable[[PyTree], PyTree] | None = None


class TextState(NamedTuple):
  """Where an episode is.

  Attributes:
    inner: state of the world of feature vectors.
    params: its instance.
    turn: int32, turns taken.
    key: of the world's own randomness.
  """

  inner: PyTree
  params: PyTree
  turn: Array
  key: Array


def vocabulary(actions: Sequence[str], *read: str) -> tuple[str, ...]:
  """Lists the words of sentences, each once: first those of actions, which a policy has to be able to draw."""
  return tuple(dict.fromkeys(" ".join((*actions, *read)).split()))


def encode(words: Sequence[str], sentences: Sequence[str]) -> np.ndarray:
  """Looks up sentences of the same number of words: `[N, L]` int32.

  Raises:
    ValueError: if their lengths differ, or for a word that is not in the vocabulary.
  """
  split = [sentence.split() for sentence in sentences]
  if len(set(map(len, split))) != 1:
    raise ValueError(f"sentences of one table need the same number of words: {', '.join(map(repr, sentences))}")
  strange = sorted({word for sentence in split for word in sentence} - set(words))
  if strange:
    raise ValueError(f"not in the vocabulary: {', '.join(strange)}")
  return np.array([[words.index(word) for word in sentence] for sentence in split], np.int32)


def decode(words: Sequence[str], tokens) -> str:
  """Writes tokens as words, `?` for what is none."""
  return " ".join(words[i] if 0 <= i < len(words) else "?" for i in np.asarray(tokens).reshape(-1).tolist())


def make_text_world(world: World, face: Face) -> TextWorld:
  """Gives a world its face; it plays by the world's own rules, reward and end included.

  Args:
    world: of feature vectors. Where it truncates an episode, the episode is done.
    face: its words.

  Returns:
    The text world, of `world.horizon` turns; its params are those of the world. `info` is the world's, all 0 after
    words that tell no action, and beside it `understood` (bool, whether the words were an action), `won` (bool, whether
    this turn was paid 1) and `num_goals` (1, the most that an episode pays).

  Raises:
    ValueError: if the sentences are not one for each action of the world, or some combination of their words is none
      of them and the face does not say what a wasted turn is.
  """
  table = encode(face.words, face.actions)
  if len(table) != world.num_actions or len(np.unique(table, axis=0)) != len(table):
    raise ValueError(
        f"the world has {world.num_actions} actions, the face {len(set(face.actions))} different sentences")
  allowed = np.stack([np.isin(np.arange(len(face.words)), column) for column in table.T])
  if face.waste is None and math.prod(allowed.sum(1).tolist()) > len(table):
    raise ValueError("some combinations of words tell no action, so the face must say what a wasted turn is")

  def observe(inner, heard):
    observation = face.observe(inner, jnp.asarray(heard, jnp.int32))
    chex.assert_shape(observation, (face.observation_length,))
    return observation.astype(jnp.int32)

  def reset(key, params):
    reset_key, key = jax.random.split(key)
    params = jax.tree.map(jnp.asarray, params)
    _, inner = world.reset(reset_key, params)
    prompt = face.prompt(params)
    chex.assert_shape(prompt, (face.prompt_length,))
    state = TextState(inner, params, jnp.zeros((), jnp.int32), key)
    return state, prompt.astype(jnp.int32), jnp.ones(face.prompt_length), observe(inner, START)

  def step(state, action):
    told = jnp.all(jnp.asarray(table) == action, -1)
    understood, turn = jnp.any(told), state.turn + 1
    _, inner, reward, terminated, truncated, info = world.step(
        jax.random.fold_in(state.key, state.turn), state.inner, jnp.argmax(told).astype(jnp.int32), state.params)
    if face.waste is not None:
      inner = jax.tree.map(lambda a, b: jnp.where(understood, a, b), inner, face.waste(state.inner))
    info = jax.tree.map(lambda x: jnp.where(understood, x, jnp.zeros_like(x)), info)
    reward = jnp.where(understood, reward, 0.0)
    done = jnp.where(understood, terminated | truncated, turn >= world.horizon)
    info |= {"understood": understood, "won": reward >= 1, "num_goals": jnp.ones((), jnp.int32)}
    heard = jnp.where(understood, UNDERSTOOD, NONSENSE)
    return TextState(inner, state.params, turn, state.key), observe(inner, heard), reward, done, info

  return TextWorld(
      reset=reset, step=step, decode=lambda tokens: decode(face.words, tokens), num_turns=world.horizon,
      prompt_length=face.prompt_length, observation_length=face.observation_length, action_length=table.shape[1],
      vocab_size=len(face.words), allowed=allowed, pad_id=int(table[0, -1]))
