"""Span words: a response should hold the prompt's three good words, in their order, and not its two bad ones.

What a response earns depends on which words it holds and in which order, with gaps allowed, so that a partial response
has a meaning too: `score` reads the counted tokens alone, as if the others had been cut out.
"""

import jax
import jax.numpy as jnp
import numpy as np

from rlcore import checks
from rlcore.types import Array, Problem, Task

GOOD, BAD = 3, 2
BEST = 1.5
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_SPLITS = 4  # of the residues of the prompt's sum, one is for testing
_GOOD_REWARD, _BAD_PENALTY, _ORDER_REWARD = 0.3, 0.2, 0.6


def make_span_words(*, vocab_size: int = 16, length: int = 12) -> Task:
  """Makes the task of span words.

  The prompt is five distinct words, three good and two bad. A response earns 0.3 for each of the good words that it
  holds, loses 0.2 for every occurrence of a bad one, and earns 0.6 if the good ones occur in the prompt's order: 1.5
  at most, 0 if nothing counts. Prompts of the test split have a sum of ids that is divisible by 4.

  Args:
    vocab_size: V, words that can be drawn: ids 0 to V - 1, written as letters; a multiple of 4, 8 to 24.
    length: T, words of a response, all of which count. No word ends it: `eos_id` and `pad_id` are V, the task's
      `vocab_size` is V + 1.

  Returns:
    A `Task` without demonstrations; `Problem.target` is the prompt again, `[5]`.

  Raises:
    ValueError: for a vocabulary or length that does not fit.

  Reference: SCAR, arXiv:2512.04302 (the task is ours, in place of text and a learned reward model).
  """
  if not (8 <= vocab_size <= 24 and vocab_size % _SPLITS == 0):
    raise ValueError(f"vocab_size={vocab_size} must be a multiple of {_SPLITS} from 8 to 24")
  if length < GOOD:
    raise ValueError(f"length={length} must be at least {GOOD}")
  words = _LETTERS[:vocab_size] + "."

  def sample(key, split):
    if split not in ("train", "test"):
      raise ValueError(f"split must be 'train' or 'test', not {split!r}")
    word_key, split_key = jax.random.split(key)
    prompt = jax.random.permutation(word_key, vocab_size)[:GOOD + BAD]
    residue = jax.random.randint(split_key, (), 1, _SPLITS) if split == "train" else 0
    # Adding c to every id adds 5 c, that is c, to the residue of the sum: uniform prompts remain uniform.
    prompt = ((prompt + (residue - jnp.sum(prompt)) % _SPLITS) % vocab_size).astype(jnp.int32)
    return Problem(prompt, jnp.ones(GOOD + BAD), prompt)

  def score(problem, tokens, mask):
    tokens, mask = jnp.asarray(tokens), jnp.asarray(mask)
    checks.shape((length,), tokens=tokens, mask=mask)
    return _score(problem.target, tokens, mask)

  def encode(text):
    for position, word in enumerate(text):
      if word not in words:
        raise ValueError(f"word {word!r} at position {position} of {text!r} is not one of {words!r}")
    return [words.index(word) for word in text]

  def decode(tokens):
    ids = np.asarray(tokens).reshape(-1).tolist()
    return "".join(words[i] if 0 <= i < len(words) else "?" for i in ids)

  return Task(
      sample=sample, score=score, demonstration=None, encode=encode, decode=decode, vocab_size=vocab_size + 1,
      eos_id=vocab_size, pad_id=vocab_size, max_prompt=GOOD + BAD, max_response=length)


def _score(prompt: Array, tokens: Array, mask: Array) -> Array:
  same = (tokens[:, None] == prompt) & (mask > 0)[:, None]  # [T, 5]
  good, bad = same[:, :GOOD], same[:, GOOD:]
  held = jnp.sum(jnp.any(good, 0).astype(jnp.float32))
  # One good word after another: the first place of each that comes after the first place of the one before.
  reached = jnp.ones(tokens.shape[0], bool)
  for i in range(GOOD):
    found = jnp.cumsum(good[:, i] & reached) > 0
    reached = jnp.concatenate([jnp.zeros(1, bool), found[:-1]])
  return _GOOD_REWARD * held - _BAD_PENALTY * jnp.sum(bad.astype(jnp.float32)) + _ORDER_REWARD * found[-1]
