"""Credit for steps: per thought, per step, by implicit step rewards; and the choice among candidates for one step."""

import jax
import jax.numpy as jnp

from rlcore import checks
from rlcore import segments
from rlcore import stats
from rlcore.advantages.groups import group_advantage
from rlcore.advantages.temporal import reward_to_go
from rlcore.rewards import thoughts
from rlcore.types import Array

_ESTIMATORS = {
    "rloo": dict(center="leave_one_out", scale="none"),
    "grpo": dict(center="mean", scale="std"),
    "mean": dict(center="mean", scale="none"),
}


def reward_weighted_probs(advantages: Array, temperature: float = 0.7, mask: Array | None = None) -> Array:
  """Says how likely each candidate for a step is to be the one that a rollout goes on from: softmax(A / temperature).

  Draw with `jax.random.categorical(key, jnp.log(probabilities))`. Equal advantages give equal probabilities.

  Args:
    advantages: `[k]`, the normalised advantage of each candidate (not its reward).
    temperature: static; 0 or less gives all to the greatest advantage, to the first of several.
    mask: `[k]` or None, > 0 where a candidate exists.

  Returns:
    `[k]` float32 that sum to 1, 0 where `mask` is not set; all 0 where it is set nowhere. No gradient flows.

  Reference: SLATE, arXiv:2602.23440 (truncated step-level sampling).
  """
  advantages = jax.lax.stop_gradient(jnp.asarray(advantages))
  checks.rank(1, advantages=advantages)
  checks.same_shape(advantages=advantages, mask=mask)
  keep = stats.as_mask(mask, advantages)
  advantages = jnp.where(keep, advantages, -jnp.inf).astype(jnp.float32)
  if temperature <= 0 and advantages.size:
    best = jnp.arange(advantages.size) == jnp.argmax(advantages)
    return stats.masked(jnp.where(jnp.any(jnp.isnan(advantages)), jnp.nan, best), keep)
  # the greatest is taken off before the division: however small the temperature, it keeps its weight of 1
  greatest = jnp.max(advantages, initial=-jnp.inf)
  weights = stats.masked(jnp.exp((advantages - greatest) / (temperature or 1)), keep)
  return weights / jnp.maximum(jnp.sum(weights), 1)


def thought_advantage(
    flags: Array, step_mask: Array, correct: Array, alpha: float | Array = 1.0, eps: float = 1e-6,
    ddof: int = 1) -> Array:
  """Adds to the outcome advantage of a response the process rewards of a step's thought and of all later ones.

  They telescope: a good thought keeps the outcome advantage of GRPO, a wrong thought of a correct response gets it less
  `alpha` times the group's accuracy, and a thought of an incorrect response that its answer does not rest on gets 0.
  With all flags 1 this is GRPO. An all-correct group still teaches, an all-wrong one does not.

  Args:
    flags: `[G, S]`, > 0 where a step is good (see `rewards.merge_thoughts`); the last counted step's is taken to be 1.
    step_mask: `[G, S]`, > 0 where a step counts.
    correct: `[G]`, > 0 where a response is correct; one without a counted step still counts in its group.
    alpha: of `rewards.capability_reward`.
    eps: added to the standard deviation of the outcomes.
    ddof: static, of that standard deviation.

  Returns:
    `[G, S]` float32, 0 in masked places; no gradient flows.

  Reference: TP-GRPO, arXiv:2507.23317, propositions 1 and 2.
  """
  flags, step_mask, correct = map(jnp.asarray, (flags, step_mask, correct))
  outcome, keep, right = _outcomes(flags, step_mask, correct, eps, ddof)
  good = jax.vmap(thoughts.good_steps)(flags, step_mask)
  elsewhere = jnp.where(right, outcome - thoughts.capability_reward(correct, alpha), 0 * outcome)
  return jax.lax.stop_gradient(stats.masked(jnp.where(good, outcome, elsewhere), keep))


def step_level_advantage(
    flags: Array, step_mask: Array, correct: Array, r_step: float | Array = 1.0, eps: float = 1e-6,
    ddof: int = 1) -> Array:
  """Adds to the outcome advantage of a response the rewards of a step and of all later steps, without merging them.

  The ablation of `thought_advantage`: a right step of a correct response earns `r_step`, a wrong one `-r_step`; a step
  of an incorrect response that matches its answer `-r_step`, another one 0; the last counted step nothing.

  Args:
    flags: `[G, S]`, > 0 where a step is good.
    step_mask: `[G, S]`, > 0 where a step counts.
    correct: `[G]`, > 0 where a response is correct; one without a counted step still counts in its group.
    r_step: reward of a step.
    eps: added to the standard deviation of the outcomes.
    ddof: static, of that standard deviation.

  Returns:
    `[G, S]` float32, 0 in masked places; no gradient flows.

  Reference: TP-GRPO, arXiv:2507.23317, the ablation without merging.
  """
  flags, step_mask, correct = map(jnp.asarray, (flags, step_mask, correct))
  outcome, keep, right = _outcomes(flags, step_mask, correct, eps, ddof)
  reward = jnp.where(right, jnp.where(flags > 0, r_step, -r_step), jnp.where(flags > 0, -r_step, 0))
  reward = stats.masked(reward, keep & ~jax.vmap(segments.is_last_counted)(step_mask))
  return jax.lax.stop_gradient(stats.masked(outcome + jax.vmap(reward_to_go)(reward), keep))


def oprl_advantage(
    outcome: Array, step_rewards: Array, step_mask: Array, alpha: float | Array = 1.0, estimator: str = "rloo",
    eps: float = 1e-6) -> Array:
  """Adds `alpha` times a step-level advantage to the advantage of the whole episode.

  The outcomes are compared over the trajectories of the group, the step rewards over all its steps (the released code
  compares them with the first step of each trajectory only; its comment, and this, say all). In either part equal
  values give exactly 0, and a single one stays as it is.

  Args:
    outcome: `[N]`; junk where a trajectory has no counted step, such a one does not count.
    step_rewards: `[N, S]`, taken as they are (see `rewards.normalize_step_rewards`).
    step_mask: `[N, S]`, > 0 where a step counts.
    alpha: weight of the step-level part; 0 is the episode's advantage alone.
    estimator: static. "rloo", against the mean of the others; "grpo", standardised (ddof 1); "mean", centred.
    eps: added to the standard deviation of "grpo".

  Returns:
    `[N, S]` float32, 0 in masked places; no gradient flows.

  Raises:
    ValueError: for an unknown estimator.

  Reference: OPRL / iStar, arXiv:2509.19199, sec. 3.
  """
  if estimator not in _ESTIMATORS:
    raise ValueError(f"estimator={estimator!r} must be one of {tuple(_ESTIMATORS)}")
  outcome, step_rewards, step_mask = map(jnp.asarray, (outcome, step_rewards, step_mask))
  checks.rank(1, outcome=outcome)
  checks.rank(2, step_rewards=step_rewards, step_mask=step_mask)
  checks.same_shape(step_rewards=step_rewards, step_mask=step_mask)
  checks.same_prefix(1, step_mask=step_mask, outcome=outcome)
  keep = step_mask > 0
  episode = _compared(outcome, jnp.any(keep, 1), estimator, eps)
  step = _compared(step_rewards.reshape(-1), keep.reshape(-1), estimator, eps).reshape(keep.shape)
  return jax.lax.stop_gradient(stats.masked(episode[:, None] + alpha * step, keep))


def _compared(values: Array, keep: Array, estimator: str, eps: float) -> Array:
  """Compares the counted values with each other; a single one has nobody to be compared with and stays raw."""
  alone = stats.masked_count(values, keep) == 1
  return jnp.where(alone, stats.masked(values, keep), group_advantage(values, keep, eps=eps, **_ESTIMATORS[estimator]))


def _outcomes(flags: Array, step_mask: Array, correct: Array, eps: float, ddof: int) -> tuple[Array, Array, Array]:
  """Returns the outcome advantage `[G, 1]`, the steps that count `[G, S]` and which responses are correct `[G, 1]`."""
  checks.rank(2, flags=flags, step_mask=step_mask)
  checks.rank(1, correct=correct)
  checks.same_shape(flags=flags, step_mask=step_mask)
  checks.same_prefix(1, flags=flags, correct=correct)
  outcome = group_advantage(thoughts.read_correct(correct), eps=eps, ddof=ddof)
  return outcome[:, None], step_mask > 0, (correct > 0)[:, None]
