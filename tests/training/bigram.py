"""A language model in closed form: the next token depends on the last one alone. Programs of it compile in no time."""

import jax
import jax.numpy as jnp
import numpy as np

from rlcore.types import LanguageModel, Problem, Task

VOCAB, DIM, LENGTH, PROMPT = 11, 4, 6, 3


def make_bigram(dtype="float32", vocab=VOCAB) -> LanguageModel:
  """Logits are `embed[last] @ out`, float32; the two factors are in `dtype`."""
  def init(key):
    first, second = jax.random.split(key)
    return {"embed": jax.random.normal(first, (vocab, DIM)).astype(dtype),
            "out": jax.random.normal(second, (DIM, vocab)).astype(dtype)}

  def respond(params, prompts, mask, tokens, valid):
    before = jnp.concatenate([jnp.broadcast_to(prompts[:, None, -1:], (*tokens.shape[:2], 1)), tokens[..., :-1]], -1)
    return params["embed"][before]

  return LanguageModel(
      init=init, hidden=lambda params, tokens, mask: params["embed"][tokens],
      logits=lambda params, hidden: jnp.dot(hidden, params["out"], preferred_element_type=jnp.float32),
      prefill=lambda params, prompts, mask, group, room: (params["embed"][prompts[:, -1]], ()),
      step=lambda params, cache, tokens, index: (params["embed"][jnp.maximum(tokens, 0)], cache),
      extend=lambda cache, room: cache, vocab_size=vocab, respond=respond)


def make_task() -> Task:
  """Prompts of random tokens; what is paid is the share of odd tokens. Token 0 ends a response."""
  def sample(key, split):
    del split
    return Problem(jax.random.randint(key, (PROMPT,), 1, VOCAB), jnp.ones(PROMPT))

  def score(problem, tokens, mask):
    return jnp.sum(mask * (tokens % 2)) / jnp.maximum(jnp.sum(mask), 1)

  return Task(sample, score, None, lambda text: [int(x) for x in text.split()], lambda ids: " ".join(map(str, ids)),
              VOCAB, 0, 0, PROMPT, LENGTH)


def log_softmax(params, prompts, tokens):
  """Log-probabilities `[B, G, T, V]` of every token at every place, in float64."""
  embed, out = (np.asarray(params[name], np.float64) for name in ("embed", "out"))
  tokens, prompts = np.asarray(tokens), np.asarray(prompts)
  last = np.broadcast_to(prompts[:, None, -1:], (*tokens.shape[:2], 1))
  logits = embed[np.concatenate([last, tokens[..., :-1]], -1)] @ out
  return logits - np.log(np.exp(logits).sum(-1, keepdims=True))
