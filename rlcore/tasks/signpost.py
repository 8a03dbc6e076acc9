"""Signpost: a formal language of decisions and fillers in which only some of the decisions matter.

A response is NB blocks of one decision and two fillers that the decision and the block determine, then the end token.
It is right if its form is, and if every relevant decision is the prompt's secret one.
"""

import re
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from rlcore import stats
from rlcore.types import Array, Problem, Task

_START = 0
_FILLERS = 7
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


class SignpostTarget(NamedTuple):
  """What the verifier and the demonstration read.

  Attributes:
    prompt: int32, which of the P prompts this is.
    secrets: `[P, R]` int32, for every prompt the right option of each relevant block.
    decisions: `[NB]` int32, the options of the demonstration.
  """

  prompt: Array
  secrets: Array
  decisions: Array


def _check(num_blocks: int, num_options: int, num_prompts: int, relevant: tuple[int, ...]):
  if not (num_blocks >= 1 and num_prompts >= 1 and 1 <= num_options <= len(_LETTERS)):
    raise ValueError(
        f"num_blocks={num_blocks} and num_prompts={num_prompts} must be at least 1 and num_options={num_options} "
        f"1 to {len(_LETTERS)}")
  if not relevant or len(set(relevant)) < len(relevant) or not all(0 <= j < num_blocks for j in relevant):
    raise ValueError(f"relevant={relevant} must name at least one of the blocks 0 to {num_blocks - 1}, each once")


def _problem(prompt: Array, secrets: Array, decisions: Array, vocab_size: int) -> Problem:
  tokens = jnp.stack([vocab_size + prompt, jnp.full_like(prompt, _START)])
  return Problem(tokens, jnp.ones(2), SignpostTarget(prompt, secrets, decisions))


def _text_functions(num_options: int, vocab_size: int, num_prompts: int):
  """Returns `encode` and `decode`: `>` start, letters options, digits fillers, `.` the end, `[3]` a prompt."""
  words = [">", *_LETTERS[:num_options], *map(str, range(_FILLERS)), "."]
  words += [f"[{p}]" for p in range(num_prompts)]
  assert len(words) == vocab_size + num_prompts
  ids = {word: i for i, word in enumerate(words)}

  def encode(text: str) -> list[int]:
    found = re.findall(r"\[\d+\]|.", text, re.DOTALL)
    for word in found:
      if word not in ids:
        raise ValueError(f"{word!r} in {text!r} is none of {' '.join(words)}")
    return [ids[word] for word in found]

  def decode(tokens) -> str:
    return "".join(words[i] if 0 <= i < len(words) else "?" for i in np.asarray(tokens).reshape(-1).tolist())

  return encode, decode


def make_signpost(
    *, num_blocks: int, num_options: int, num_prompts: int, relevant: tuple[int, ...],
    secret_key: Array | None = None) -> Task:
  """Makes the signpost task.

  Ids: 0 start, 1 + d option d, 1 + M + (3 d + 5 j + 2 k) mod 7 filler k (1 or 2) of block j after option d, M + 8 the
  end; so V = M + 9 tokens can be drawn. The prompt is `[V + p, 0]`: its first token lies outside those V, and the
  task's `vocab_size` is V + P. A response earns 1 if it is T = 3 NB + 1 counted tokens of the right form with every
  relevant decision right, else 0.

  There are only P prompts, and one says nothing of another: either split is all of them. A demonstration is right in
  its form and uniform in its decisions (the relevant ones included): it teaches the language, not the answers.

  Args:
    num_blocks: NB.
    num_options: M.
    num_prompts: P.
    relevant: the R blocks, from 0, whose decision matters.
    secret_key: draws the secrets, uniform options; may be traced, so that every seed has its own. None: key 0.

  Returns:
    A `Task` whose `Problem.target` is a `SignpostTarget`.

  Raises:
    ValueError: a size below 1, more options than letters, or `relevant` empty, repeated or out of range.

  Reference: TEMPO, arXiv:2509.18314 (the task is ours: the paper's premise in its purest form).
  """
  relevant = tuple(relevant)
  _check(num_blocks, num_options, num_prompts, relevant)
  vocab_size, length = num_options + 9, 3 * num_blocks + 1
  eos = num_options + 8
  key = jax.random.key(0) if secret_key is None else secret_key
  secrets = jax.random.randint(key, (num_prompts, len(relevant)), 0, num_options)

  def write(decisions):
    """Writes the only right response `[T]` with these decisions `[NB]`."""
    j, k = jnp.arange(num_blocks)[:, None], jnp.arange(1, 3)
    fillers = 1 + num_options + (3 * decisions[:, None] + 5 * j + 2 * k) % _FILLERS
    return jnp.append(jnp.concatenate([1 + decisions[:, None], fillers], 1), eos).astype(jnp.int32)

  def sample(key, split):
    if split not in ("train", "test"):
      raise ValueError(f"split must be 'train' or 'test', not {split!r}")
    bits = jax.random.bits(key, (1 + num_blocks,))
    decisions = (bits[1:] % num_options).astype(jnp.int32)
    return _problem((bits[0] % num_prompts).astype(jnp.int32), secrets, decisions, vocab_size)

  def score(problem, tokens, mask):
    chex.assert_shape([tokens, mask], (length,))
    options = tokens[:-1:3]
    decisions = jnp.clip(options - 1, 0, num_options - 1)
    form = jnp.all(stats.as_mask(mask, tokens)) & jnp.all(tokens == write(decisions))
    right = jnp.all(decisions[np.array(relevant)] == problem.target.secrets[problem.target.prompt])
    return (form & right).astype(jnp.float32)

  def demonstration(problem):
    return write(problem.target.decisions), jnp.ones(length)

  encode, decode = _text_functions(num_options, vocab_size, num_prompts)
  return Task(
      sample=sample, score=score, demonstration=demonstration, encode=encode, decode=decode,
      vocab_size=vocab_size + num_prompts, eos_id=eos, pad_id=_START, max_prompt=2, max_response=length)


def all_prompts(task: Task, num_prompts: int) -> Problem:
  """Returns all prompts of a signpost task as one batch.

  Args:
    task: made by `make_signpost`.
    num_prompts: its P.

  Returns:
    A `Problem` of `[P, ...]`; prompt p is entry p, and all share one demonstration.
  """
  one = task.sample(jax.random.key(0), "train").target
  if one.secrets.shape[0] != num_prompts:
    raise ValueError(f"this task has {one.secrets.shape[0]} prompts, not {num_prompts}")
  make = lambda p: _problem(p, one.secrets, one.decisions, task.vocab_size - num_prompts)
  return jax.vmap(make)(jnp.arange(num_prompts, dtype=jnp.int32))
