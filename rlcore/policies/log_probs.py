"""Log-probabilities of given responses, without ever holding the logits of a whole batch."""

import chex
import jax
import jax.numpy as jnp

from rlcore.types import Array, LanguageModel, PyTree


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
    chunk_size: int = 4,
    with_entropy: bool = False,
) -> Array | tuple[Array, Array]:
  """Scores the tokens of responses under the model, a few places at a time.

  The logits of `chunk_size` places of every response exist at a time, in the backward pass too (they are computed
  again there).

  Args:
    model: the policy.
    params: its parameters.
    prompts: `[N, P]` int32, padded on the left.
    prompt_mask: `[N, P]`.
    tokens: `[N, T]` int32, padded on the right.
    mask: `[N, T]`, 1 where a log-probability is wanted.
    temperature: divides the logits; that of sampling, so that the results are those of the sampler.
    valid: `[N, T]`, 1 where `tokens` is part of the sequence, `mask` or not; None means `mask`.
    chunk_size: places of each response at a time (static).
    with_entropy: also return the entropy of each place's distribution (static).

  Returns:
    log_probs `[N, T]` float32, 0 where `mask` is 0; with `with_entropy` also the entropy, same shape, in nats.

  Reference: chunked log-probabilities as in linear cross-entropy kernels, arXiv:2411.09009, section 4.
  """
  chex.assert_rank([prompts, prompt_mask, tokens, mask], 2)
  chex.assert_equal_shape([prompts, prompt_mask])
  chex.assert_equal_shape([tokens, mask])
  length = tokens.shape[1]
  sequence = jnp.concatenate([prompts, tokens], 1)
  present = jnp.concatenate([prompt_mask > 0, (mask if valid is None else valid) > 0], 1)
  hidden = model.hidden(params, sequence[:, :-1], present[:, :-1])[:, prompts.shape[1] - 1:]

  def chunk(hidden, tokens, counted):
    logits = model.logits(params, hidden) / temperature
    log_z = jax.nn.logsumexp(logits, -1)
    chosen = jnp.take_along_axis(logits, jnp.where(counted, tokens, 0)[..., None], -1)[..., 0]
    out = (jnp.where(counted, chosen - log_z, 0),)
    if with_entropy:
      mean = jnp.sum(jnp.exp(logits - log_z[..., None]) * logits, -1)
      out += (jnp.where(counted, log_z - mean, 0),)
    return out

  count = -(-length // chunk_size)
  split = lambda x: jnp.moveaxis(
      jnp.pad(x, [(0, 0), (0, count * chunk_size - length)] + [(0, 0)] * (x.ndim - 2)).reshape(
          x.shape[0], count, chunk_size, *x.shape[2:]), 1, 0)
  pieces = (split(hidden), split(tokens), split(mask > 0))
  _, out = jax.lax.scan(lambda _, piece: (None, jax.checkpoint(chunk)(*piece)), None, pieces)
  out = tuple(jnp.moveaxis(x, 0, 1).reshape(x.shape[1], -1)[:, :length] for x in out)
  return out if with_entropy else out[0]
