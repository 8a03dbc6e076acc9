"""Log-probabilities of given responses, without ever holding the logits of a whole batch."""

import chex
import jax
import jax.numpy as jnp

from rlcore.policies import support as support_lib
from rlcore.types import Array, LanguageModel, PyTree

FORBIDDEN = -1e30  # logit of a token that may not stand at its place; finite, so that 0 times it is 0


def token_log_probs(
    model: LanguageModel,
    params: PyTree,
    prompts: Array,
    prompt_mask: Array,
    tokens: Array,
    mask: Array,
    *,
    temperature: float | Array = 1.0,
    valid: Array | None = None,
    allowed: Array | None = None,
    support: Array | None = None,
    chunk_size: int = 128,
    with_entropy: bool = False,
) -> Array | tuple[Array, Array]:
  """Scores the tokens of responses under the model, a few at a time.

  The logits of about `chunk_size` tokens exist at a time, in the backward pass too (they are computed again there).
  Responses that share a prompt are best given as groups, `[B, G, T]` with prompts `[B, P]`: each prompt then runs once.

  Args:
    model: the policy.
    params: its parameters.
    prompts: `[N, P]` int32, padded on the left, one prompt a response; or `[B, P]`, one a group.
    prompt_mask: like `prompts`.
    tokens: `[N, T]` int32, padded on the right; or `[B, G, T]`.
    mask: like `tokens`, 1 where a log-probability is wanted.
    temperature: divides the logits; that of sampling, so that the results are those of the sampler.
    valid: like `tokens`, 1 where `tokens` is part of the sequence, `mask` or not; None means `mask`.
    allowed: `[T, V]` or None, > 0 where a token may stand at a place of a response; the others have no probability
      (about -1e30 is the log of it), and what is forced has log-probability 0.
    support: `tokens.shape + [W]` or None, the tokens that the sampler's top-k and top-p left (`Rollouts.support`); the
      others have no probability, as in `allowed`, and the entropy is over these.
    chunk_size: tokens of the batch at a time (static), at least one place of every response.
    with_entropy: also return the entropy of each place's distribution (static).

  Returns:
    log_probs float32 in the shape of `tokens`, 0 where `mask` is 0; with `with_entropy` a pair with the entropy in
    nats, same shape.

  Raises:
    ValueError: if prompt and response do not fit the model's context, or `temperature` is the number 0.

  Reference: chunked log-probabilities as in Cut Your Losses, arXiv:2411.09009, section 4.
  """
  chex.assert_rank([prompts, prompt_mask], 2)
  chex.assert_rank([tokens, mask], {2, 3})
  chex.assert_equal_shape([prompts, prompt_mask])
  chex.assert_equal_shape([tokens, mask])
  hidden = hidden_before(model, params, prompts, prompt_mask, tokens, mask if valid is None else valid)
  return hidden_log_probs(
      model, params, hidden, tokens, mask, temperature=temperature, allowed=allowed, support=support,
      chunk_size=chunk_size, with_entropy=with_entropy)


def hidden_before(
    model: LanguageModel, params: PyTree, prompts: Array, prompt_mask: Array, tokens: Array, valid: Array) -> Array:
  """Runs responses and returns the hidden state that predicts each of their tokens.

  Args:
    model: the policy.
    params: its parameters.
    prompts: as in `token_log_probs`.
    prompt_mask: like `prompts`.
    tokens: `[N, T]` or `[B, G, T]`.
    valid: like `tokens`, 1 where `tokens` is part of the sequence.

  Returns:
    `[..., T, D]`; entry t has seen the prompt and what is valid of tokens 0..t-1.
  """
  if model.respond is not None:
    grouped = tokens.ndim == 3
    if not grouped:
      tokens, valid = tokens[:, None], valid[:, None]
    hidden = model.respond(params, prompts, prompt_mask, tokens, valid)
    return hidden if grouped else hidden[:, 0]
  if tokens.ndim == 3:
    prompts, prompt_mask = (jnp.repeat(x, tokens.shape[1], 0) for x in (prompts, prompt_mask))
  flat = lambda x: x.reshape(-1, x.shape[-1])
  sequence = jnp.concatenate([prompts, flat(tokens)], 1)[:, :-1]
  present = jnp.concatenate([prompt_mask > 0, flat(valid) > 0], 1)[:, :-1]
  hidden = model.hidden(params, sequence, present)[:, prompts.shape[1] - 1:]
  return hidden.reshape(*tokens.shape, -1)


def hidden_log_probs(
    model: LanguageModel,
    params: PyTree,
    hidden: Array,
    tokens: Array,
    mask: Array,
    *,
    temperature: float | Array = 1.0,
    allowed: Array | None = None,
    support: Array | None = None,
    chunk_size: int = 128,
    with_entropy: bool = False,
) -> Array | tuple[Array, Array]:
  """Scores tokens given the hidden states `[..., T, D]` that predict them: the second half of `token_log_probs`."""
  if isinstance(temperature, (int, float)) and temperature <= 0:
    raise ValueError(f"temperature={temperature}: greedy decoding has no log-probabilities to train on")
  if support is not None and support.shape[:-1] != tokens.shape:
    raise ValueError(f"support has shape {support.shape}, expected [*{tokens.shape}, W]")
  rows = lambda x: x.reshape(-1, *x.shape[tokens.ndim - 1:])
  out = _chunked(model, params, rows(hidden), rows(tokens), rows(mask > 0), allowed,
                 None if support is None else rows(support), temperature, chunk_size, with_entropy)
  out = tuple(x.reshape(tokens.shape) for x in out)
  return out if with_entropy else out[0]


def _chunked(model, params, hidden, tokens, counted, allowed, support, temperature, chunk_size, with_entropy):
  """Maps `hidden [N, T, D]` to log-probabilities (and entropies) `[N, T]`, some places of every row at a time."""
  count, length = tokens.shape
  allowed = jnp.ones((length, 1), bool) if allowed is None else jnp.asarray(allowed) > 0

  @jax.checkpoint
  def chunk(hidden, tokens, counted, allowed, support):
    may = allowed[0] if support is None else allowed[0] & support_lib.unpack(support, model.vocab_size)
    logits = jnp.where(may, model.logits(params, hidden) / temperature, FORBIDDEN)
    log_z = jax.nn.logsumexp(logits, -1)
    chosen = jnp.take_along_axis(logits, jnp.where(counted, tokens, 0)[..., None], -1)[..., 0]
    out = (jnp.where(counted, chosen - log_z, 0),)
    if with_entropy:
      mean = jnp.sum(jnp.exp(logits - log_z[..., None]) * logits, -1)
      out += (jnp.where(counted, log_z - mean, 0),)
    return out

  places = min(max(chunk_size // count, 1), length)
  chunks = -(-length // places)

  def cut(x):
    x = jnp.pad(x, [(0, 0), (0, chunks * places - length)] + [(0, 0)] * (x.ndim - 2))
    return jnp.moveaxis(x.reshape(x.shape[0], chunks, places, *x.shape[2:]), 1, 0)

  pieces = jax.tree.map(cut, (hidden, tokens, counted, allowed[None], support))
  _, out = jax.lax.scan(lambda _, piece: (None, chunk(*piece)), None, pieces)
  return tuple(jnp.moveaxis(x, 0, 1).reshape(count, -1)[:, :length] for x in out)
