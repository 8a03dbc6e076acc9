"""Samples groups of responses: each prompt is read once, its G responses are drawn in one loop."""

from collections.abc import Sequence
import functools
from typing import Any

import chex
import jax
from jax import custom_batching
import jax.numpy as jnp

from rlcore.policies import support as support_lib
from rlcore.types import Array, LanguageModel, PyTree, Rollouts

_ROOM = 32  # response places that the cache has room for at first, and grows by at least


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


def _is_number(x: Any, value: float) -> bool:
  return isinstance(x, (int, float)) and x == value


def _fewest(keys: Array, weights: Array, target: float | Array) -> Array:
  """Marks the fewest greatest `keys [..., V]` (uint32) whose weights sum to `target`; ties by place.

  Bisects for the least key taken. Sorting the vocabulary costs several times more.
  """
  heavy = lambda level: jnp.sum(jnp.where(keys >= level[..., None], weights, 0), -1) >= target

  def halve(_, bounds):
    low, high = bounds  # `low` and all above reach the target, `high` and all above do not
    middle = low + (high - low) // 2
    enough = heavy(middle)
    return jnp.where(enough, middle, low), jnp.where(enough, high, middle)

  low = jnp.zeros(keys.shape[:-1], jnp.uint32)
  level, _ = jax.lax.fori_loop(0, 32, halve, (low, ~low))
  above, tied = keys > level[..., None], keys == level[..., None]
  in_ties = jnp.where(tied, weights, 0)
  before = jnp.sum(jnp.where(above, weights, 0), -1, keepdims=True) + jnp.cumsum(in_ties, -1) - in_ties
  return above | tied & (before < target)


def _truncate(logits: Array, top_k: int, top_p: float | Array) -> Array:
  """Sets to -inf what top-k and then top-p cut off."""
  bits = jax.lax.bitcast_convert_type(jnp.where(logits == 0, 0.0, logits), jnp.uint32)  # -0.0 ties with 0.0
  keys = jnp.where(bits >> 31, ~bits, bits | jnp.uint32(1 << 31))  # orders like the logits
  if 0 < top_k < logits.shape[-1]:
    logits = jnp.where(_fewest(keys, jnp.ones(logits.shape, jnp.float32), top_k), logits, -jnp.inf)
  if not _is_number(top_p, 1):
    kept = _fewest(keys, jax.nn.softmax(logits, -1), top_p)
    best = jnp.arange(logits.shape[-1]) == jnp.argmax(logits, -1, keepdims=True)
    logits = jnp.where(kept | best, logits, -jnp.inf)
  return logits


def truncates(vocab_size: int, temperature: float | Array, top_k: int, top_p: float | Array) -> bool:
  """Tells whether settings of `sample` draw from fewer than all tokens, greedy decoding (a point) left out."""
  return not _is_number(temperature, 0) and (0 < top_k < vocab_size or not _is_number(top_p, 1))


def _invert(weights: Array, target: Array) -> tuple[Array, Array]:
  """Finds the first place whose running sum passes `target`; returns it and what is left of `target` before it.

  Only places that have weight are found, whatever rounding does.
  """
  n = weights.shape[-1]
  running = jnp.matmul(weights, jnp.triu(jnp.ones((n, n), weights.dtype)), precision="highest")
  possible, places = weights > 0, jnp.arange(n)
  first = jnp.min(jnp.where(possible & (running > target[..., None]), places, n), -1)
  last = jnp.max(jnp.where(possible, places, 0), -1)
  place = jnp.minimum(first, last)
  pick = lambda x: jnp.take_along_axis(x, place[..., None], -1)[..., 0]
  return place, target - (pick(running) - pick(weights))


def draw_tokens(
    logits: Array, uniform: Array, temperature: float | Array = 1.0, top_k: int = 0,
    top_p: float | Array = 1.0) -> tuple[Array, Array]:
  """Draws one token a row by inverting the distribution function.

  The running sum is taken over blocks first and then inside the block that was hit.

  Args:
    logits: `[..., V]`, of any floating dtype.
    uniform: `[...]` in [0, 1), the randomness.
    temperature: as in `sample`, like `top_k` and `top_p`.
    top_k: static.
    top_p: a number or an array.

  Returns:
    `(tokens [...] int32, log_probs [...] float32)`.
  """
  return draw_with_support(logits, uniform, temperature, top_k, top_p, with_support=False)[:2]


def draw_with_support(
    logits: Array, uniform: Array, temperature: float | Array = 1.0, top_k: int = 0, top_p: float | Array = 1.0, *,
    with_support: bool = True) -> tuple[Array, Array, Array | None]:
  """Draws as `draw_tokens` and also tells from among which tokens.

  Args:
    logits: `[..., V]`.
    uniform: `[...]` in [0, 1).
    temperature: as in `sample`, like `top_k` and `top_p`.
    top_k: static.
    top_p: a number or an array.
    with_support: static.

  Returns:
    `(tokens [...] int32, log_probs [...] float32, support [..., W])`, the last as `support.pack` makes it; None where
    nothing is cut off, or it is not wanted.
  """
  if _is_number(temperature, 0):
    tokens = jnp.argmax(logits, -1).astype(jnp.int32)
    return tokens, jnp.zeros(tokens.shape, jnp.float32), None
  logits, uniform = logits.astype(jnp.float32), uniform.astype(jnp.float32)  # sums of bfloat16 weights miss tokens
  logits = _truncate(logits / temperature, top_k, top_p).astype(jnp.float32)
  kept = None
  if with_support and truncates(logits.shape[-1], temperature, top_k, top_p):
    kept = support_lib.pack(logits != -jnp.inf, top_k)  # NaN is kept, for it must come out
  shifted = logits - jnp.max(logits, -1, keepdims=True)
  size = 1
  while size * size < logits.shape[-1]:
    size *= 2
  weights = jnp.exp(shifted)
  padding = [(0, 0)] * (logits.ndim - 1) + [(0, -logits.shape[-1] % size)]
  blocks = jnp.pad(weights, padding).reshape(*logits.shape[:-1], -1, size)
  mass = jnp.sum(blocks, -1)
  total = jnp.sum(mass, -1)
  block, rest = _invert(mass, uniform * total)
  place, _ = _invert(jnp.take_along_axis(blocks, block[..., None, None], -2)[..., 0, :], rest)
  tokens = (block * size + place).astype(jnp.int32)
  return tokens, jnp.take_along_axis(shifted, tokens[..., None], -1)[..., 0] - jnp.log(total), kept


def _rooms(max_new_tokens: int) -> list[int]:
  """Cuts the loop in stages whose cache grows by half: a step reads all the room there is, used or not."""
  rooms = [_ROOM]
  while rooms[-1] < max_new_tokens:
    rooms.append(rooms[-1] + max(_ROOM, rooms[-1] // 2))
  return rooms[:-1] + [max_new_tokens]


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
    with_support: bool = True,
) -> Rollouts:
  """Samples `group_size` responses to each prompt.

  All randomness of a prompt comes from its own key, so the responses do not depend on how prompts are batched or
  spread over devices. The loop ends as soon as every response has stopped.

  Args:
    model: the policy.
    params: its parameters.
    keys: one key (split into B), or `[B]` keys.
    prompts: `[B, P]` int32, padded on the left.
    prompt_mask: `[B, P]`; the last place of a prompt is set, or none is: such a prompt gets empty responses.
    group_size: G (static).
    max_new_tokens: T (static).
    temperature: divides the logits. The number 0 is greedy decoding: the distribution is then a point, so every
      log-probability is 0. A traced temperature must be positive.
    top_k: sample among the k likeliest tokens only (static); 0 for all. Ties go to the smaller id.
    top_p: sample among the fewest likeliest tokens whose probability, after top-k, reaches this (ties as above, one
      token at least); the number 1 for all.
    stop_tokens: ids that end a response; the stop token itself counts (static).
    pad_id: fills the places after it.
    with_support: static; where top-k or top-p cut tokens off, also store which were left. Training needs it, at 4 k
      bytes a token (top-k) or V / 8 (top-p alone), see `policies.support`; an evaluation does not.

  Returns:
    `Rollouts` with a leading `[B]`: tokens, mask and log_probs `[B, G, T]`; log_probs are those of the distribution
    sampled from, temperature, top-k and top-p included.

  Raises:
    ValueError: if prompt and response do not fit the model's context, or a setting is out of range.
  """
  chex.assert_rank([prompts, prompt_mask], 2)
  chex.assert_equal_shape([prompts, prompt_mask])
  for name, value, least in (("group_size", group_size, 1), ("max_new_tokens", max_new_tokens, 1), ("top_k", top_k, 0)):
    if value < least:
      raise ValueError(f"{name}={value} must be at least {least}")
  batch = prompts.shape[0]
  if keys.ndim == (0 if jnp.issubdtype(keys.dtype, jax.dtypes.prng_key) else 1):
    keys = jax.random.split(keys, batch)
  uniforms = jax.vmap(lambda key: jax.random.uniform(key, (group_size, max_new_tokens), jnp.float32))(keys)
  stops = jnp.asarray(tuple(stop_tokens), jnp.int32)
  rows, rooms = (batch, group_size), _rooms(max_new_tokens)

  def draw(index, active, hidden, out):
    """Draws token number `index` from `hidden` and writes it."""
    uniform = jax.lax.dynamic_index_in_dim(uniforms, index, 2, keepdims=False)
    token, log_prob, kept = draw_with_support(
        model.logits(params, hidden), uniform, temperature, top_k, top_p, with_support=with_support)
    token = jnp.where(active, token, pad_id)
    values = (token, active.astype(jnp.float32), jnp.where(active, log_prob, 0)) + (() if kept is None else (kept,))
    write = lambda array, value: jax.lax.dynamic_update_slice(
        array, jnp.expand_dims(value, 2), (0, 0, index) + (0,) * (array.ndim - 3))
    return active & ~jnp.any(token[..., None] == stops, -1), token, tuple(map(write, out, values))

  def advance(carry):
    index, active, token, cache, out = carry
    hidden, cache = model.step(params, cache, token, index - 1)
    active, token, out = draw(index, active, hidden, out)
    return index + 1, active, token, cache, out

  hidden, cache = model.prefill(params, prompts, prompt_mask, group_size, rooms[0])
  hidden = jnp.broadcast_to(hidden[:, None], (*rows, hidden.shape[-1]))
  empty = jnp.zeros((*rows, max_new_tokens), jnp.float32)
  asked = jnp.broadcast_to(jnp.any(prompt_mask > 0, -1)[:, None], rows)
  out = (empty.astype(jnp.int32) + pad_id, empty, empty)
  if with_support and truncates(model.vocab_size, temperature, top_k, top_p):
    out += (support_lib.empty(empty.shape, model.vocab_size, top_k),)
  active, token, out = draw(0, asked, hidden, out)
  carry = (jnp.ones((), jnp.int32), active, token, cache, out)
  for room in rooms:
    if room > rooms[0]:
      carry = (*carry[:3], model.extend(carry[3], room), carry[4])
    end = min(room + 1, max_new_tokens)  # token number `room` is drawn after the last place has been written
    unfinished = functools.partial(lambda end, carry: (carry[0] < end) & _any(carry[1]), end)
    carry = jax.lax.while_loop(unfinished, advance, carry)
  tokens, mask, log_probs, *kept = carry[-1]
  return Rollouts(tokens=tokens, mask=mask, log_probs=log_probs, prompt=prompts, prompt_mask=prompt_mask,
                  support=kept[0] if kept else None)
