"""Behaviour that is specified rather than rewarded: costs with limits whose weights are learned, and goal directions.

A rule is a cost in {0, 1} a step and a limit on how often it may be 1; an "at least" rule takes one minus the cost.
The multipliers of all rules and the weight of the main reward sum to 1: `normalized_multipliers`, then
`bootstrap_weight`, then `lagrangian_reward`; `multiplier_gradient` moves the logits, slower than the policy moves.
"""

import jax
import jax.numpy as jnp

from rlcore import checks, stats
from rlcore.types import Array


def cost_rate(costs: Array, mask: Array, discount: Array | float = 1.0) -> Array:
  """Estimates how often a cost occurs: `sum g**t m c / sum g**t m`.

  Args:
    costs: `[T]`, 0 or 1 (or anything between).
    mask: `[T]`, > 0 where a step counts.
    discount: `[]`, g; its exponent counts masked steps too.

  Returns:
    float32[], 0 if no step counts; no gradient flows.

  Reference: Direct behavior specification, arXiv:2112.12228; the normalisation is our reading.
  """
  costs, mask = map(jnp.asarray, (costs, mask))
  checks.rank(1, costs=costs)
  checks.rank(0, discount=discount)
  checks.same_shape(costs=costs, mask=mask)
  keep = mask > 0
  # From the first counted step on, which changes no ratio, but keeps the powers from vanishing.
  places = jnp.arange(costs.shape[0])
  exponent = jnp.maximum(places - jnp.min(jnp.where(keep, places, places.size), initial=places.size), 0)
  weights = stats.masked(jnp.asarray(discount, jnp.float32)**exponent, keep)
  total = jnp.sum(weights)
  rate = jnp.sum(weights * stats.masked(costs, keep)) / jnp.where(total > 0, total, 1)
  return jax.lax.stop_gradient(rate)


def normalized_multipliers(logits: Array, base_logit: Array | float = 0.0) -> tuple[Array, Array]:
  """Turns logits into the weight of the main reward and the multipliers of K costs, which together sum to 1.

  Args:
    logits: `[K]`.
    base_logit: `[]`, of the main reward; a constant of the method.

  Returns:
    `(main_weight [], multipliers [K])`, float32, differentiable.

  Reference: Direct behavior specification, arXiv:2112.12228 (normalised multipliers).
  """
  logits, base_logit = jnp.asarray(logits, jnp.float32), jnp.asarray(base_logit, jnp.float32)
  checks.rank(1, logits=logits)
  checks.rank(0, base_logit=base_logit)
  shares = jax.nn.softmax(jnp.concatenate([base_logit[None], logits]))
  return shares[0], shares[1:]


def bootstrap_weight(main_weight: Array | float, multipliers: Array, bootstrap_index: int = -1) -> Array:
  """Lets the main reward weigh at least as much as the constraint that the task succeeds often enough.

  Args:
    main_weight: `[]`, from `normalized_multipliers`.
    multipliers: `[K]`.
    bootstrap_index: static, the constraint of success; -1 for none. Its own cost is not subtracted from the reward.

  Returns:
    float32[], `max(main_weight, multipliers[bootstrap_index])`.

  Raises:
    ValueError: if there is no such constraint.

  Reference: Direct behavior specification, arXiv:2112.12228 (bootstrap constraint).
  """
  main_weight, multipliers = jnp.asarray(main_weight, jnp.float32), jnp.asarray(multipliers, jnp.float32)
  checks.rank(0, main_weight=main_weight)
  checks.rank(1, multipliers=multipliers)
  if not -1 <= bootstrap_index < multipliers.shape[0]:
    raise ValueError(f"bootstrap_index={bootstrap_index} is none of {multipliers.shape[0]} constraints, nor -1")
  return main_weight if bootstrap_index < 0 else jnp.maximum(main_weight, multipliers[bootstrap_index])


def lagrangian_reward(
    reward: Array | float, costs: Array, main_weight: Array | float, multipliers: Array, penalize: Array) -> Array:
  """Subtracts the weighted costs of a step from its weighted reward.

  Args:
    reward: `[]`, main reward of the step.
    costs: `[K]`.
    main_weight: `[]`, after `bootstrap_weight`.
    multipliers: `[K]`.
    penalize: `[K]`, 0 where a cost is not subtracted (that of the bootstrap constraint); it is then not read.

  Returns:
    float32[]; no gradient flows.

  Reference: Direct behavior specification, arXiv:2112.12228.
  """
  costs, multipliers, penalize = map(jnp.asarray, (costs, multipliers, penalize))
  checks.rank(0, reward=reward, main_weight=main_weight)
  checks.rank(1, costs=costs)
  checks.same_shape(costs=costs, multipliers=multipliers, penalize=penalize)
  paid = jnp.sum(stats.masked(multipliers, penalize) * stats.masked(costs, penalize))
  return jax.lax.stop_gradient(jnp.asarray(main_weight, jnp.float32) * jnp.asarray(reward, jnp.float32) - paid)


def multiplier_loss(
    logits: Array, cost_estimates: Array, thresholds: Array, base_logit: Array | float = 0.0) -> Array:
  """Computes the loss that raises the multipliers of violated constraints and lowers those of satisfied ones.

  Args:
    logits: `[K]`, differentiable.
    cost_estimates: `[K]`, how often each cost occurs (`cost_rate`, averaged over episodes and devices); constants.
    thresholds: `[K]`, how often it may; constants.
    base_logit: as in `normalized_multipliers`; a constant.

  Returns:
    float32[], `-sum_k multiplier_k (estimate_k - threshold_k)`, to be minimised.

  Reference: Direct behavior specification, arXiv:2112.12228.
  """
  estimates, thresholds = jnp.asarray(cost_estimates, jnp.float32), jnp.asarray(thresholds, jnp.float32)
  checks.rank(1, cost_estimates=estimates)
  checks.same_shape(cost_estimates=estimates, logits=logits, thresholds=thresholds)
  excess = jax.lax.stop_gradient(estimates - thresholds)
  return -jnp.sum(normalized_multipliers(logits, jax.lax.stop_gradient(base_logit))[1] * excess)


def multiplier_gradient(
    logits: Array, cost_estimates: Array, thresholds: Array, base_logit: Array | float = 0.0) -> Array:
  """Computes the gradient of `multiplier_loss` in the logits, what their optimiser takes.

  Args:
    logits: `[K]`.
    cost_estimates: `[K]`.
    thresholds: `[K]`.
    base_logit: `[]`.

  Returns:
    `[K]` float32.

  Reference: Direct behavior specification, arXiv:2112.12228.
  """
  return jax.grad(multiplier_loss)(jnp.asarray(logits, jnp.float32), cost_estimates, thresholds, base_logit)


def plain_multiplier_update(
    multipliers: Array, cost_estimates: Array, thresholds: Array, step_size: Array | float) -> Array:
  """Moves multipliers that need not sum to anything: `max(0, multiplier + step_size (estimate - threshold))`.

  The baseline of normalised multipliers; the main reward keeps weight 1, which many large multipliers drown.

  Args:
    multipliers: `[K]`.
    cost_estimates: `[K]`.
    thresholds: `[K]`.
    step_size: `[]`.

  Returns:
    `[K]` float32; no gradient flows.

  Reference: E. Altman, Constrained Markov Decision Processes (1999); as the baseline of arXiv:2112.12228.
  """
  multipliers, estimates, thresholds = (
      jnp.asarray(x, jnp.float32) for x in (multipliers, cost_estimates, thresholds))
  checks.rank(1, multipliers=multipliers)
  checks.same_shape(multipliers=multipliers, cost_estimates=estimates, thresholds=thresholds)
  step_size = jnp.asarray(step_size, jnp.float32)
  return jax.lax.stop_gradient(jnp.maximum(multipliers + step_size * (estimates - thresholds), 0))


def focus_reward(
    outcomes: Array, direction: Array, focus_cosine: Array | float = 0.98, limit_reward: Array | float = 0.2,
    eps: float = 1e-12) -> Array:
  """Rewards outcomes only inside a narrow cone around a goal direction.

  With c the cosine between outcomes and direction it is `sum(outcomes) c**(log(limit_reward) / log(focus_cosine))`: the
  sum itself in the middle of the cone, `limit_reward` times the sum on its surface, 0 outside.

  Args:
    outcomes: `[K]`, at least 0.
    direction: `[K]`, what the generator was asked for.
    focus_cosine: cosine of the cone's half angle, above 0; from 1 on only the direction itself earns, the whole sum.
    limit_reward: share that an outcome on the surface earns, above 0.
    eps: least product of the two lengths; outcomes of 0 earn 0.

  Returns:
    float32[]; no gradient flows.

  Raises:
    ValueError: if `focus_cosine` is a number that is not above 0.

  Reference: goal-conditioned GFlowNets, arXiv:2306.04620, as in the thesis arXiv:2412.07177.
  """
  if isinstance(focus_cosine, (int, float)) and not focus_cosine > 0:
    raise ValueError(f"focus_cosine={focus_cosine} must be above 0")
  outcomes, direction, focus_cosine, limit_reward = (
      jnp.asarray(x, jnp.float32) for x in (outcomes, direction, focus_cosine, limit_reward))
  checks.rank(1, outcomes=outcomes)
  checks.same_shape(outcomes=outcomes, direction=direction)
  lengths = jnp.sqrt(jnp.sum(jnp.square(outcomes))) * jnp.sqrt(jnp.sum(jnp.square(direction)))
  cosine = jnp.sum(outcomes * direction) / jnp.maximum(lengths, eps)
  open_ = focus_cosine < 1
  # In float32 the cosine of parallel vectors may be some 1e-7 below 1.
  inside = cosine >= jnp.where(open_, focus_cosine, focus_cosine - 1e-6)
  power = jnp.log(limit_reward) / jnp.where(open_, jnp.log(jnp.where(open_, focus_cosine, 0.5)), 1)
  share = jnp.where(open_, jnp.where(inside, jnp.clip(cosine, 0, 1), 1)**power, 1)
  return jax.lax.stop_gradient(jnp.where(inside, jnp.sum(outcomes) * share, 0))
