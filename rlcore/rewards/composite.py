"""Several rewards in one: weighted sums, gates and strict priorities, of arrays and of whole transforms."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from rlcore import checks
from rlcore.rewards import transforms
from rlcore.types import Array, Rewards, RewardTransform


def weighted_sum(rewards: Array, weights: Array, *, each: Callable[[Array], Array] | None = None) -> Array:
  """Adds up K rewards with weights.

  `each=stats.whiten` normalises every reward over the group before they are added (GDPO); whitening the sum instead
  (GRPO) makes different combinations of rewards look alike and lets the reward of the largest spread decide.

  Also known as: `combine_fine_grained_rewards`, `msrl_reward`.

  Args:
    rewards: `[K, ...]`, K scalars, groups `[K, G]` or token rewards `[K, T]`.
    weights: `[K]`.
    each: static, applied to every `rewards[k]` first.

  Returns:
    `[...]` float32; no gradient flows.

  Reference: Fine-Grained RLHF, arXiv:2306.01693; GDPO, arXiv:2601.05242.
  """
  rewards, weights = jnp.asarray(rewards, jnp.float32), jnp.asarray(weights, jnp.float32)
  checks.rank(1, weights=weights)
  checks.same_prefix(1, rewards=rewards, weights=weights)
  if each is not None:
    rewards = jax.vmap(each)(rewards)
  return jax.lax.stop_gradient(jnp.sum(weights.reshape(-1, *[1] * (rewards.ndim - 1)) * rewards, 0))


def gated_reward(reward: Array, gate: Array, *, otherwise: float | Array = 0.0) -> Array:
  """Pays a reward only where a gate is open; behind a closed one the reward is not read and may be NaN.

  Args:
    reward: any shape.
    gate: the same shape, open where greater than 0.
    otherwise: paid where the gate is closed.

  Returns:
    float32 of the same shape; no gradient flows.

  Reference: Table2LaTeX-RL, arXiv:2509.17589 (a score counts only if the code compiles).
  """
  reward, gate = jnp.asarray(reward, jnp.float32), jnp.asarray(gate)
  checks.same_shape(reward=reward, gate=gate)
  return jax.lax.stop_gradient(jnp.where(gate > 0, reward, jnp.asarray(otherwise)))


def lexicographic_reward(levels: Array, thresholds: Array, weights: Array | None = None) -> Array:
  """Adds up scores in order of priority, each only if all before it have reached their thresholds.

  `sum_k weights[k] * levels[k] * prod_{j<k} 1[levels[j] >= thresholds[j]]`; a level behind a closed gate is not read
  and may be NaN.

  Args:
    levels: `[K]`, the most important first.
    thresholds: `[K]`; the last one decides nothing.
    weights: `[K]`, all 1 by default.

  Returns:
    float32[]; no gradient flows.

  Reference: OptiAgent, arXiv:2602.23761.
  """
  levels, thresholds = jnp.asarray(levels), jnp.asarray(thresholds)
  checks.rank(1, levels=levels)
  checks.same_shape(levels=levels, thresholds=thresholds)
  passed = jnp.cumprod(levels >= thresholds).astype(bool)
  reached = jnp.concatenate([jnp.ones(1, bool), passed])[:-1]
  return weighted_sum(gated_reward(levels, reached), jnp.ones_like(levels) if weights is None else weights)


def mixture(
    sources: Sequence[RewardTransform], weights: Array, *,
    each: Callable[[Array], Array] | None = None) -> RewardTransform:
  """Makes the weighted sum of what several transforms make of the same rewards.

  A further source of reward is a transform that replaces the outcome, say
  `stateless(lambda rewards, batch: rewards.replace(outcome=format_score(batch)))`.

  Args:
    sources: K transforms.
    weights: `[K]`.
    each: static, applied to every outcome `[G]` before the sum, as in `weighted_sum`.

  Returns:
    The transform; its state is the tuple of their states. Token rewards are added with the same weights; where only
    some of them have any, the others count as 0.

  Reference: GDPO, arXiv:2601.05242; Fine-Grained RLHF, arXiv:2306.01693.
  """
  def apply(rewards, batch, state):
    results = [t.apply(rewards, batch, inner) for t, inner in zip(sources, state, strict=True)]
    parts = [part for part, _ in results]
    scored = each and transforms.over_scored(each, rewards)
    outcome = weighted_sum([part.outcome for part in parts], weights, each=scored)
    some = [jnp.asarray(part.process) for part in parts if part.process is not None]
    process = None
    if some:
      empty = jnp.zeros_like(some[0])
      process = weighted_sum([empty if p.process is None else p.process for p in parts], weights)
    return rewards.replace(outcome=outcome, process=process), tuple(inner for _, inner in results)

  return RewardTransform(transforms.chain(*sources).init, apply)


def only_where(
    condition: Callable[[Rewards, Any], Array], transform: RewardTransform,
    otherwise: RewardTransform | None = None) -> RewardTransform:
  """Makes the transform that lets each response of a group go one of two ways.

  Both ways are computed for the whole group, so the state of either has seen every response.

  Args:
    condition: `(rewards, batch) -> [G]`, greater than 0 (or True) where `transform` applies.
    transform: applied where the condition holds.
    otherwise: applied elsewhere; None leaves the rewards as they are.

  Returns:
    The transform; its state is the pair of their states. Token rewards that only one of the two has count as 0 in the
    other.

  Reference: `optax.conditionally_transform`.
  """
  ways = (transform, transforms.identity() if otherwise is None else otherwise)

  def apply(rewards, batch, state):
    gate = jnp.asarray(condition(rewards, batch))
    checks.same_shape(**{"rewards.outcome": rewards.outcome, "the condition": gate})
    (yes, state_yes), (no, state_no) = (t.apply(rewards, batch, inner) for t, inner in zip(ways, state, strict=True))
    outcome, process = gated_reward(yes.outcome, gate, otherwise=no.outcome), None
    if yes.process is not None or no.process is not None:
      there = yes.process if yes.process is not None else jnp.zeros_like(no.process)
      rows = jnp.broadcast_to(gate[:, None], there.shape)
      process = gated_reward(there, rows, otherwise=0 if no.process is None else no.process)
    return rewards.replace(outcome=outcome, process=process), (state_yes, state_no)

  return RewardTransform(transforms.chain(*ways).init, apply)
