"""Composition of reward transforms, and the lifters that make one of any function of arrays.

A lifter binds keyword arguments and says which part of the rewards its function sees:

    shaping = rewards.chain(
        rewards.on_outcome(rewards.clip_to_bounds, low=-5.0, high=5.0),
        rewards.with_lengths(rewards.overlong_reward, max_length=512, cache_length=64),
        rewards.with_running_stats(rewards.meanstd_reward, axis_name="prompts"),
        rewards.kl_in_reward(kl_coef=0.01))
    state = shaping.init(key, example)
    batched = jax.vmap(shaping.apply, in_axes=(0, 0, None), out_axes=(0, None), axis_name="prompts")
    shaped, state = batched(raw, rollouts, state)

Centring and whitening a group are `on_outcome(stats.centred)` and `on_outcome(stats.whiten)`; over the whole batch,
give them `axis_name`. Rewards carry no gradient: the lifters stop it. Where a response could not be scored
(`Rewards.valid`) its outcome stays 0, and a function that takes a `mask` gets to know which ones count.
"""

from collections.abc import Callable
import functools
import inspect
from typing import Any

import jax
import jax.numpy as jnp

from rlcore import checks, stats
from rlcore.types import Array, PyTree, Rewards, RewardTransform


def stateless(fn: Callable[[Rewards, Any], Rewards]) -> RewardTransform:
  """Lifts a pure function of the rewards and their batch to a transform without state.

  Args:
    fn: `(rewards, batch) -> rewards`, of one group.

  Returns:
    The transform; its state is `()`.

  Reference: `optax.stateless`.
  """
  return RewardTransform(lambda key, example: (), lambda rewards, batch, state: (fn(rewards, batch), state))


def identity() -> RewardTransform:
  """Makes the transform that changes nothing.

  Args:
    None.

  Returns:
    The transform; its state is `()`.

  Reference: `optax.identity`.
  """
  return stateless(lambda rewards, batch: rewards)


def chain(*transforms: RewardTransform) -> RewardTransform:
  """Applies transforms one after another, the first one first.

  Args:
    *transforms: any number; none makes the identity.

  Returns:
    The transform; its state is the tuple of their states. Each `init` gets a key of its own and the same example.

  Raises:
    TypeError: for a plain function, which has to be lifted first.

  Reference: `optax.chain`.
  """
  for part in transforms:
    if not (hasattr(part, "init") and hasattr(part, "apply")):
      name = getattr(part, "__qualname__", None) or repr(part)
      raise TypeError(f"chain takes reward transforms; lift {name} by rewards.on_outcome or rewards.stateless")

  def init(key, example):
    return tuple(t.init(jax.random.fold_in(key, i), example) for i, t in enumerate(transforms))

  def apply(rewards, batch, state):
    if len(state) != len(transforms):
      raise ValueError(f"a chain of {len(transforms)} reward transforms got the state of {len(state)}")
    states = []
    for transform, inner in zip(transforms, state):
      rewards, inner = transform.apply(rewards, batch, inner)
      states.append(inner)
    return rewards, tuple(states)

  return RewardTransform(init, apply)


def on_outcome(fn: Callable[..., Array], **kwargs) -> RewardTransform:
  """Lifts a function of a group's outcome rewards.

  Args:
    fn: `([G]) -> [G]`, elementwise or over the group (then with a `mask`, see above).
    **kwargs: bound to `fn`.

  Returns:
    The transform; its state is `()`.

  Reference: `optax.stateless_with_tree_map`.
  """
  def apply(rewards, batch):
    del batch
    return _with_outcome(rewards, over_scored(fn, rewards)(rewards.outcome, **kwargs))

  return stateless(apply)


def over_scored(fn: Callable[..., Array], rewards: Rewards) -> Callable[..., Array]:
  """Binds `mask=rewards.valid` to a function of a group that takes a `mask`, where some could not be scored."""
  if rewards.valid is None:
    return fn
  try:
    masked = "mask" in inspect.signature(fn).parameters
  except ValueError:  # a built-in that does not tell
    masked = False
  return functools.partial(fn, mask=rewards.valid) if masked else fn


def on_process(fn: Callable[..., Array], **kwargs) -> RewardTransform:
  """Lifts a function of a group's token rewards and their mask.

  Args:
    fn: `([G, T], mask [G, T]) -> [G, T]`; its masked places are set to 0 afterwards.
    **kwargs: bound to `fn`.

  Returns:
    The transform; its state is `()`. Its `apply` raises ValueError if the rewards have no `process`.

  Reference: `optax.stateless_with_tree_map`.
  """
  def apply(rewards, batch):
    return _with_process(rewards, fn(_process(rewards, batch), batch.mask, **kwargs), batch)

  return stateless(apply)


def with_lengths(fn: Callable[..., Array], **kwargs) -> RewardTransform:
  """Lifts a function of the outcome rewards and the number of tokens that the policy drew.

  Args:
    fn: `([G], lengths [G] float32) -> [G]`.
    **kwargs: bound to `fn`.

  Returns:
    The transform; its state is `()`.

  Reference: PAR, arXiv:2502.18770; DAPO, arXiv:2503.14476; Kimi k1.5, arXiv:2501.12599.
  """
  def apply(rewards, batch):
    lengths = stats.masked_count(batch.mask, batch.mask, axis=-1)
    return _with_outcome(rewards, over_scored(fn, rewards)(rewards.outcome, lengths, **kwargs))

  return stateless(apply)


def with_running_stats(
    fn: Callable[[Array, PyTree], Array], *, field: str = "outcome", min_count: float = 0,
    axis_name: stats.AxisName = None) -> RewardTransform:
  """Lifts a function of a reward and of the moments of all rewards seen so far.

  The moments take in the current batch BEFORE it is transformed, so the first batch is measured against itself. Give
  `axis_name` the names of all axes that the batch is mapped over: then the state stays one merged, unbatched record.

  Args:
    fn: `(rewards, stats) -> rewards` of the same shape, elementwise: `meanstd_reward`, `minmax_reward`, `clip_reward`.
    field: static, "outcome" or "process" (where the batch's mask says which tokens count).
    min_count: rewards pass unchanged while fewer than this many have been seen, the current batch included.
    axis_name: mapped axes that the batch spans.

  Returns:
    The transform; its state is what `stats.running_stats_init` makes.

  Raises:
    ValueError: if `field` is neither of the two.

  Reference: PAR, arXiv:2502.18770 (its code).
  """
  if field not in ("outcome", "process"):
    raise ValueError(f"field must be 'outcome' or 'process', not {field!r}")

  def apply(rewards, batch, state):
    outcome = field == "outcome"
    values, mask = (jnp.asarray(rewards.outcome), rewards.valid) if outcome else (_process(rewards, batch), batch.mask)
    state = stats.running_stats_update(state, values, mask, axis_name=axis_name)
    values = jnp.where(state["count"] >= min_count, fn(values, state), values)
    return _with_outcome(rewards, values) if outcome else _with_process(rewards, values, batch), state

  return RewardTransform(lambda key, example: stats.running_stats_init(), apply)


def _process(rewards: Rewards, batch: Any) -> Array:
  if rewards.process is None:
    raise ValueError("this transform needs token-aligned rewards, but `rewards.process` is None")
  checks.same_shape(**{"rewards.process": rewards.process, "batch.mask": batch.mask})
  return stats.masked(rewards.process, batch.mask)


def _with_outcome(rewards: Rewards, outcome: Array) -> Rewards:
  checks.rank(1, **{"rewards.outcome": rewards.outcome})
  checks.same_shape(**{"rewards.outcome": rewards.outcome, "the new outcome": outcome})
  outcome = jnp.asarray(outcome, jnp.float32) if rewards.valid is None else stats.masked(outcome, rewards.valid)
  return rewards.replace(outcome=jax.lax.stop_gradient(outcome))


def _with_process(rewards: Rewards, process: Array, batch: Any) -> Rewards:
  checks.same_shape(**{"batch.mask": batch.mask, "the new process": process})
  return rewards.replace(process=jax.lax.stop_gradient(stats.masked(process, batch.mask)))
