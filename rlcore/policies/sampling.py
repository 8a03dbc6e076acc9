"""Samples groups of responses: each prompt is read once, its G responses are drawn in one loop."""

from collections.abc import Sequence
import math

import chex
import jax
from jax import custom_batching
import jax.numpy as jnp

from rlcore.types import Array, LanguageModel, PyTree, Rollouts


_FIRST_STAGE = 64  # places
_SMALLEST_BLOCK = 64  # tokens


@custom_batching.custom_vmap
def _any(flags: Array) -> Array:
  return jnp.any(flags)


@_any.def_vmap
def _any_of_all(axis_size, in_batched, flags):
  """Keeps the loop's condition a scalar under `vmap`: mapped loops run together until the last one ends.

  With one condition a lane, every write to the cache would become a select over the whole cache.
  """
  del axis_size, in_batched
  return _any(flags), False


def _keep(logits: Array, top_k: int, top_p: float | Array) -> Array:
  """Marks the tokens that top-k and then top-p leave: `[..., V]` bool."""
  order = jnp.argsort(-logits, -1, stable=True)
  ranks = jnp.argsort(order, -1)
  keep = ranks < top_k if top_k else jnp.ones(logits.shape, bool)
  probs = jax.nn.softmax(jnp.where(keep, logits, -jnp.inf), -1)
  ordered = jnp.take_along_axis(probs, order, -1)
  before = jnp.cumsum(ordered, -1) - ordered
  return keep & (jnp.take_along_axis(before, ranks, -1) < top_p)


def _draw(logits: Array, uniform: Array, temperature, top_k: int, top_p) -> tuple[Array, Array]:
  """Draws one token a row by inverting the distribution function; returns it with its log-probability."""
  if isinstance(temperature, (int, float)) and temperature == 0:
    tokens = jnp.argmax(logits, -1).astype(jnp.int32)
    return tokens, jnp.zeros(tokens.shape, jnp.float32)
  logits = logits / temperature
  if top_k or not (isinstance(top_p, (int, float)) and top_p >= 1):
    logits = jnp.where(_keep(logits, top_k, top_p), logits, -jnp.inf)
  shifted = logits - jnp.max(logits, -1, keepdims=True)
  weights = jnp.exp(shifted)
  block_size = _block_size(logits.shape[-1])
  unused = -logits.shape[-1] % block_size
  padded = jnp.pad(weights, [(0, 0)] * (weights.ndim - 1) + [(0, unused)])
  blocked = padded.reshape(*weights.shape[:-1], -1, block_size)
  mass = jnp.sum(blocked, -1)
  total = jnp.sum(mass, -1)
  block, rest = _invert(mass, uniform * total)
  token, _ = _invert(jnp.take_along_axis(blocked, block[..., None, None], -2)[..., 0, :], rest)
  token = (block * block_size + token).astype(jnp.int32)
  return token, jnp.take_along_axis(shifted, token[..., None], -1)[..., 0] - jnp.log(total)


def _block_size(vocab_size: int) -> int:
  """Size of the blocks of a two-level search: about the root of the vocabulary, so that both levels are small."""
  return max(_SMALLEST_BLOCK, 1 << round(math.log2(vocab_size) / 2))


def _invert(weights: Array, target: Array) -> tuple[Array, Array]:
  """Finds the first place where the running sum passes `target`; returns it and what is left of `target` there.

  Only places with weight are found, whatever rounding does.
  """
  n = weights.shape[-1]
  # Highest precision: an accelerator's default would round the sums to a few thousandths.
  running = jnp.matmul(weights, jnp.triu(jnp.ones((n, n))), precision=jax.lax.Precision.HIGHEST)
  possible = weights > 0
  places = jnp.arange(n)
  hit = jnp.min(jnp.where(possible & (running > target[..., None]), places, n), -1)
  last = jnp.max(jnp.where(possible, places, 0), -1)
  place = jnp.minimum(hit, last)
  pick = lambda x: jnp.take_along_axis(x, place[..., None], -1)[..., 0]
  return place, target - (pick(running) - pick(weights))


def _stage_ends(max_new_tokens: int) -> list[int]:
  """Cuts the loop in stages whose cache doubles: a step reads all the room there is, used or not."""
  ends = [_FIRST_STAGE]
  while ends[-1] < max_new_tokens:
    ends.append(2 * ends[-1])
  return ends[:-1] + [max_new_tokens]


def sample(
    model: LanguageModel,
    params: PyTree,
    keys: Array,
    prompts: Array,
    prompt_mask: Array,
    *,
    group_size: int,
    max_new_tokens: int,
    temperature: float | Array = 1.0,
    top_k: int = 0,
    top_p: float | Array = 1.0,
    stop_tokens: Sequence[int] = (),
    pad_id: int = 0,
) -> Rollouts:
  """Samples `group_size` responses to each prompt.

  All randomness of a prompt comes from its own key, so the responses do not depend on how prompts are batched or
  spread over devices. The loop ends as soon as every response has stopped.

  Args:
    model: the policy.
    params: its parameters.
    keys: one key (split into B), or `[B]` keys.
    prompts: `[B, P]` int32, padded on the left.
    prompt_mask: `[B, P]`, at least one place of each prompt set.
    group_size: G (static).
    max_new_tokens: T (static).
    temperature: divides the logits. The number 0 is greedy decoding: the distribution is then a point, so every
      log-probability is 0. A traced temperature must be positive.
    top_k: sample among the k likeliest tokens only (static); 0 for all. Ties go to the smaller id.
    top_p: sample among the fewest likeliest tokens whose probability, after top-k, reaches this; 1 for all.
    stop_tokens: ids that end a response; the stop token itself counts (static).
    pad_id: fills the places after it.

  Returns:
    `Rollouts` with a leading `[B]`: tokens, mask and log_probs `[B, G, T]`; log_probs are those of the distribution
    sampled from, temperature, top-k and top-p included.

  Raises:
    ValueError: if prompt and response do not fit the model's context.
  """
  chex.assert_rank([prompts, prompt_mask], 2)
  chex.assert_equal_shape([prompts, prompt_mask])
  batch = prompts.shape[0]
  if keys.ndim == (0 if jnp.issubdtype(keys.dtype, jax.dtypes.prng_key) else 1):
    keys = jax.random.split(keys, batch)
  uniforms = jax.vmap(lambda key: jax.random.uniform(key, (group_size, max_new_tokens)))(keys)
  stops = jnp.asarray(tuple(stop_tokens), jnp.int32)
  rows = (batch, group_size)
  write = lambda array, column, index: jax.lax.dynamic_update_slice(array, column[..., None], (0, 0, index))

  def body(carry):
    index, active, hidden, cache, tokens, mask, log_probs = carry
    uniform = jax.lax.dynamic_index_in_dim(uniforms, index, 2, keepdims=False)
    token, log_prob = _draw(model.logits(params, hidden), uniform, temperature, top_k, top_p)
    token = jnp.where(active, token, pad_id)
    tokens, mask = write(tokens, token, index), write(mask, active.astype(jnp.float32), index)
    log_probs = write(log_probs, jnp.where(active, log_prob, 0), index)
    active &= ~jnp.any(token[..., None] == stops, -1)
    hidden, cache = model.step(params, cache, token, index)
    return index + 1, active, hidden, cache, tokens, mask, log_probs

  shape, ends = (*rows, max_new_tokens), _stage_ends(max_new_tokens)
  hidden, cache = model.prefill(params, prompts, prompt_mask, group_size, ends[0])
  hidden = jnp.broadcast_to(hidden[:, None], (*rows, hidden.shape[-1]))
  carry = (jnp.zeros((), jnp.int32), jnp.ones(rows, bool), hidden, cache, jnp.full(shape, pad_id, jnp.int32),
           jnp.zeros(shape), jnp.zeros(shape))
  for end in ends:
    if end > ends[0]:
      carry = (*carry[:3], model.extend(carry[3], end), *carry[4:])
    carry = jax.lax.while_loop(lambda carry, end=end: (carry[0] < end) & _any(carry[1]), body, carry)
  *_, tokens, mask, log_probs = carry
  return Rollouts(tokens=tokens, mask=mask, log_probs=log_probs, prompt=prompts, prompt_mask=prompt_mask)
