"""Truncated step-level sampling: several candidates for the next step from one shared prefix, then on from one of them.

The prefix is read once. The keys and values of the chosen candidate join those of the prompt (`LanguageModel.adopt`),
so that no token is ever computed again, and a group holds one copy of what its candidates share.
"""

from collections.abc import Callable, Sequence
import functools
from typing import Any, NamedTuple

import chex
from flax import struct
import jax
import jax.numpy as jnp

from rlcore.advantages import groups
from rlcore.advantages import steps as steps_lib
from rlcore.policies import sampling, support
from rlcore.types import Array, LanguageModel, PyTree, Rollouts


@struct.dataclass
class Candidates:
  """k candidates for the next step of one response, as a scorer sees them.

  Attributes:
    prefix: `[W]` int32, the prompt and the steps taken so far, padded on the left.
    prefix_mask: `[W]`, 1 on the tokens of the prefix.
    tokens: `[k, M]` int32, padded on the right.
    mask: `[k, M]`, 1 on the tokens of a candidate; nowhere where the response has ended.
    ended: `[k]` bool, whether the candidate ends the response with a stop token.
    step: int32[], the number of the step, from 0.
  """

  prefix: Array
  prefix_mask: Array
  tokens: Array
  mask: Array
  ended: Array
  step: Array


@struct.dataclass
class Branches:
  """Everything that was drawn for one prompt: S steps of k candidates of at most M tokens.

  Attributes:
    tokens: `[S, k, M]` int32, padded on the right.
    mask: `[S, k, M]`, 1 on drawn tokens.
    log_probs: `[S, k, M]` float32, under the distribution sampled from, 0 where `mask` is 0.
    rewards: `[S, k]` float32, as the scorer gave them, 0 where the response had ended.
    advantages: `[S, k]` float32, the rewards compared with those of the other candidates for the same step.
    chosen: `[S]` int32, the candidate from which the response goes on.
    step_mask: `[S]`, 1 where the response had not ended before the step.
    prompt: `[P]` int32, padded on the left.
    prompt_mask: `[P]`.
    support: `[S, k, M, W]` or None, as in `Rollouts`.
  """

  tokens: Array
  mask: Array
  log_probs: Array
  rewards: Array
  advantages: Array
  chosen: Array
  step_mask: Array
  prompt: Array
  prompt_mask: Array
  support: Array | None = None


class _Front(NamedTuple):
  """Where a rollout stands between two steps; `hidden` predicts the next token."""

  step: Array
  keys: Array  # [B]
  cache: PyTree
  hidden: Array  # [B, D]
  prefix: Array  # [B, W]
  prefix_mask: Array  # [B, W]
  ended: Array  # [B]
  branches: Branches


def _to_the_right(tokens: Array, mask: Array, pad_id: int) -> tuple[Array, Array]:
  """Closes the gaps in `[..., W]`: what counts goes to the last places, in order."""
  order = jnp.argsort(mask > 0, -1, stable=True)
  mask = jnp.take_along_axis(mask > 0, order, -1)
  return jnp.where(mask, jnp.take_along_axis(tokens, order, -1), pad_id), mask.astype(jnp.float32)


def _put(array: Array, value: Array, step: Array) -> Array:
  return jax.lax.dynamic_update_index_in_dim(array, value.astype(array.dtype), step, 1)


class _Stages:
  """The three stages of a step, bound to a model and to static settings."""

  def __init__(self, model: LanguageModel, *, candidates: int, max_steps: int, max_step_tokens: int,
               step_tokens: Sequence[int] = (), stop_tokens: Sequence[int] = (), selection_temperature: float = 0.7,
               advantage: Callable = groups.group_advantage, temperature: float | Array = 1.0, top_k: int = 0,
               top_p: float | Array = 1.0, pad_id: int = 0):
    sizes = dict(candidates=candidates, max_steps=max_steps, max_step_tokens=max_step_tokens)
    for name, value in sizes.items():
      if value < 1:
        raise ValueError(f"{name}={value} must be at least 1")
    if model.adopt is None:
      raise ValueError("this model has no `adopt`, so a chosen step cannot become a part of the prefix")
    self.model, self.size, self.max_steps, self.length = model, candidates, max_steps, max_step_tokens
    self.stops, self.pad_id = jnp.asarray(tuple(stop_tokens), jnp.int32), pad_id
    self.ends = jnp.asarray((*step_tokens, *stop_tokens), jnp.int32)
    self.choice = functools.partial(steps_lib.reward_weighted_probs, temperature=selection_temperature)
    self.advantage, self.draw = advantage, functools.partial(
        sampling.draw_with_support, temperature=temperature, top_k=top_k, top_p=top_p)
    truncated = sampling.truncates(model.vocab_size, temperature, top_k, top_p)
    self.room = (lambda shape: support.empty(shape, model.vocab_size, top_k)) if truncated else lambda shape: None

  def start(self, params: PyTree, keys: Array, prompts: Array, prompt_mask: Array) -> _Front:
    """Reads the prompts `[B, P]`."""
    chex.assert_rank([prompts, prompt_mask], 2)
    chex.assert_equal_shape([prompts, prompt_mask])
    batch, places = prompts.shape
    width = places + (self.max_steps - 1) * self.length
    if keys.ndim == (0 if jnp.issubdtype(keys.dtype, jax.dtypes.prng_key) else 1):
      keys = jax.random.split(keys, batch)
    hidden, cache = self.model.prefill(params, prompts, prompt_mask, self.size, 0)
    cache = self.model.adopt(cache, jnp.zeros(batch, jnp.int32), jnp.zeros((batch, 0)), width)
    pad = lambda x: jnp.pad(x, ((0, 0), (width - places, 0)))
    prefix, prefix_mask = _to_the_right(pad(prompts), pad(prompt_mask), self.pad_id)
    choices, tokens = (batch, self.max_steps, self.size), (batch, self.max_steps, self.size, self.length)
    branches = Branches(
        tokens=jnp.full(tokens, self.pad_id, jnp.int32), mask=jnp.zeros(tokens), log_probs=jnp.zeros(tokens),
        rewards=jnp.zeros(choices), advantages=jnp.zeros(choices), chosen=jnp.zeros(choices[:2], jnp.int32),
        step_mask=jnp.zeros(choices[:2], jnp.float32), prompt=prompts, prompt_mask=prompt_mask,
        support=self.room(tokens))
    return _Front(jnp.zeros((), jnp.int32), keys, cache, hidden, prefix, prefix_mask, ~jnp.any(prompt_mask > 0, -1),
                  branches)

  def propose(self, params: PyTree, front: _Front) -> tuple[_Front, Candidates, Array]:
    """Draws the candidates; returns them with the state after the last token of each `[B, k, D]`."""
    rows = (*front.ended.shape, self.size)
    uniform = lambda key: jax.random.uniform(
        jax.random.fold_in(key, 2 * front.step), (self.size, self.length), jnp.float32)
    uniforms = jax.vmap(uniform)(front.keys)

    def advance(carry):
      index, active, hidden, cache, out = carry
      uniform = jax.lax.dynamic_index_in_dim(uniforms, index, 2, keepdims=False)
      token, log_prob, kept = self.draw(self.model.logits(params, hidden), uniform)
      values = jnp.where(active, token, self.pad_id), active.astype(jnp.float32), jnp.where(active, log_prob, 0), kept
      write = lambda x, v: jax.lax.dynamic_update_slice(
          x, jnp.expand_dims(v, 2), (0, 0, index) + (0,) * (x.ndim - 3))
      out = jax.tree.map(write, out, values)
      after, cache = self.model.step(params, cache, jnp.where(active, token, -1), index)
      hidden = jnp.where(active[..., None], after, hidden)
      return index + 1, active & ~jnp.any(token[..., None] == self.ends, -1), hidden, cache, out

    unfinished = lambda carry: (carry[0] < self.length) & sampling._any(carry[1])
    empty = jnp.zeros((*rows, self.length), jnp.float32)
    carry = (jnp.zeros((), jnp.int32), jnp.broadcast_to(~front.ended[:, None], rows),
             jnp.broadcast_to(front.hidden[:, None], (*rows, front.hidden.shape[-1])),
             self.model.extend(front.cache, self.length),
             (empty.astype(jnp.int32) + self.pad_id, empty, empty, self.room(empty.shape)))
    _, _, hidden, cache, (tokens, mask, log_probs, kept) = jax.lax.while_loop(unfinished, advance, carry)
    b, step = front.branches, front.step
    b = b.replace(tokens=_put(b.tokens, tokens, step), mask=_put(b.mask, mask, step),
                  log_probs=_put(b.log_probs, log_probs, step), step_mask=_put(b.step_mask, ~front.ended, step),
                  support=None if kept is None else _put(b.support, kept, step))
    stopped = jnp.any((mask > 0)[..., None] & (tokens[..., None] == self.stops), (-2, -1))
    steps = jnp.broadcast_to(step, front.ended.shape)
    candidates = Candidates(front.prefix, front.prefix_mask, tokens, mask, stopped, steps)
    return front._replace(cache=cache, branches=b), candidates, hidden

  def proceed(self, front: _Front, candidates: Candidates, hidden: Array, rewards: Array) -> _Front:
    """Compares the rewards `[B, k]`, chooses a candidate of each response and goes on from it."""
    chex.assert_shape(rewards, hidden.shape[:2])
    exists = candidates.mask[..., 0] > 0
    rewards = jnp.where(exists, rewards, 0).astype(jnp.float32)
    advantages = jax.vmap(lambda r, m: self.advantage(r, mask=m))(rewards, exists)

    def choose(key, advantages, exists):
      key = jax.random.fold_in(key, 2 * front.step + 1)
      return jax.random.categorical(key, jnp.log(self.choice(advantages, mask=exists))).astype(jnp.int32)

    chosen = jax.vmap(choose)(front.keys, advantages, exists)
    pick = lambda x: jnp.take_along_axis(x, chosen.reshape(-1, *(1,) * (x.ndim - 1)), 1)[:, 0]
    mask, width = pick(candidates.mask), front.prefix.shape[1]
    join = lambda a, b: jnp.concatenate([a, b], 1)
    prefix, prefix_mask = _to_the_right(
        join(front.prefix, pick(candidates.tokens)), join(front.prefix_mask, mask), self.pad_id)
    # after the last step the prefix has outgrown its places; nobody reads it any more
    b, step = front.branches, front.step
    b = b.replace(rewards=_put(b.rewards, rewards, step), advantages=_put(b.advantages, advantages, step),
                  chosen=_put(b.chosen, chosen, step))
    return front._replace(
        step=step + 1, cache=self.model.adopt(front.cache, chosen, mask, width), hidden=pick(hidden),
        prefix=prefix[:, -width:], prefix_mask=prefix_mask[:, -width:], ended=front.ended | pick(candidates.ended),
        branches=b)


def branch(model: LanguageModel, params: PyTree, keys: Array, prompts: Array, prompt_mask: Array,
           score: Callable[[Any, Candidates], Array], problems: PyTree = None, **settings) -> Branches:
  """Rolls out one response to each prompt step by step, k candidates a step, and keeps them all.

  At each step k candidates are drawn from the same prefix and scored; one of them is chosen with probability
  `softmax(advantage / selection_temperature)` and becomes a part of the prefix. A response ends with the stop token of
  a chosen candidate, or after `max_steps`. A candidate that reaches `max_step_tokens` is cut there and can be gone on
  from like any other. All randomness of a prompt comes from its own key. Jittable.

  Args:
    model: the policy; it must have `adopt`.
    params: its parameters.
    keys: one key (split into B), or `[B]` keys.
    prompts: `[B, P]` int32, padded on the left.
    prompt_mask: `[B, P]`; the last place of a prompt is set, or none is: such a prompt gets no candidate.
    score: `(problem, Candidates) -> rewards [k]` of ONE prompt; those of candidates that do not exist are not used.
    problems: pytree of `[B, ...]`, what `score` gets as its first argument.
    **settings: `candidates` k, `max_steps` S and `max_step_tokens` M; `step_tokens` and `stop_tokens`, ids that end a
      step, and a step and the response (they count as a part of it); `selection_temperature=0.7` (0 chooses the best);
      `advantage=group_advantage`, `(rewards [k], mask=[k]) -> [k]`; `temperature`, `top_k`, `top_p`, `pad_id` as in
      `sample`. All but `temperature` and `top_p` are static.

  Returns:
    `Branches` with a leading `[B]`.

  Raises:
    ValueError: if prompt and response do not fit the model's context, or a setting is out of range.

  Reference: SLATE, arXiv:2602.23440 (truncated step-level sampling).
  """
  stages = _Stages(model, **settings)

  def advance(front):
    front, candidates, hidden = stages.propose(params, front)
    return stages.proceed(front, candidates, hidden, jax.vmap(score)(problems, candidates))

  unfinished = lambda front: (front.step < stages.max_steps) & sampling._any(~front.ended)
  return jax.lax.while_loop(unfinished, advance, stages.start(params, keys, prompts, prompt_mask)).branches


def make_host_branch(model: LanguageModel, score: Callable[[Any, Candidates], Any], **settings) -> Callable:
  """Makes the form of `branch` for a scorer that is host code (a judge, say): jitted stages with the scorer between.

  Args:
    model: the policy.
    score: `(problems, Candidates) -> rewards [B, k]` of ALL prompts, on NumPy arrays with a leading `[B]`.
    **settings: as in `branch`; all of them static.

  Returns:
    `(params, keys, prompts, prompt_mask, problems=None) -> Branches`, the draws of `branch` with the same key.

  Reference: SLATE, arXiv:2602.23440 (truncated step-level sampling).
  """
  stages = _Stages(model, **settings)
  start, propose, proceed = jax.jit(stages.start), jax.jit(stages.propose), jax.jit(stages.proceed)

  def run(params, keys, prompts, prompt_mask, problems=None):
    front = start(params, keys, prompts, prompt_mask)
    for _ in range(stages.max_steps):
      if bool(jnp.all(front.ended)):
        break
      front, candidates, hidden = propose(params, front)
      rewards = score(jax.device_get(problems), jax.device_get(candidates))
      front = proceed(front, candidates, hidden, jnp.asarray(rewards, jnp.float32))
    return front.branches

  return run


def response(branches: Branches, pad_id: int = 0) -> tuple[Array, Array]:
  """Joins the chosen steps of one prompt to its response.

  Args:
    branches: of ONE prompt.
    pad_id: fills the places after the response.

  Returns:
    tokens `[S * M]` int32, padded on the right, and their mask.

  Reference: SLATE, arXiv:2602.23440.
  """
  tokens, mask = _chosen(branches)
  tokens, mask = _to_the_right(tokens[::-1], mask[::-1], pad_id)
  return tokens[::-1], mask[::-1]


def as_rollouts(branches: Branches, pad_id: int = 0) -> Rollouts:
  """Turns each step of one prompt into a group of its own, whose prompt is all that came before: for training.

  Args:
    branches: of ONE prompt.
    pad_id: fills the places before a prefix.

  Returns:
    `Rollouts` with a leading `[S]`, groups of k responses of M tokens to prompts of `P + (S - 1) * M`; the mask of a
    step that did not happen is empty.

  Reference: SLATE, arXiv:2602.23440.
  """
  max_steps, _, length = branches.tokens.shape
  tokens, mask = _chosen(branches)
  before = jnp.arange((max_steps - 1) * length) < length * jnp.arange(max_steps)[:, None]
  repeat = lambda x: jnp.broadcast_to(x, (max_steps, *x.shape))
  join = lambda prompt, steps: jnp.concatenate([repeat(prompt), steps], 1)
  prompt, prompt_mask = _to_the_right(
      join(branches.prompt, repeat(tokens[:-length])), join(branches.prompt_mask > 0, before & (mask[:-length] > 0)),
      pad_id)
  return Rollouts(tokens=branches.tokens, mask=branches.mask, log_probs=branches.log_probs, prompt=prompt,
                  prompt_mask=prompt_mask, support=branches.support)


def _chosen(branches: Branches) -> tuple[Array, Array]:
  """Returns the tokens of the chosen candidates `[S * M]` and their mask, with gaps."""
  chex.assert_rank([branches.tokens, branches.chosen], [3, 1])
  pick = lambda x: jnp.take_along_axis(x, branches.chosen[:, None, None], 1).reshape(-1)
  return pick(branches.tokens), pick(branches.mask)
