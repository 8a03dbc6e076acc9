"""What a language learner knows of its responses before credit is assigned, and how it scores them.

Whatever a reward transform or an estimator may read is put on the records by `annotate`: an update, the examples at the
end of a run and the microscope call it alike, so that all three assign the same credit.
"""

from typing import Any

import jax
import jax.numpy as jnp

import numpy as np

from rlcore import losses, stats
from rlcore.policies import log_probs as log_probs_lib
from rlcore.types import Array, Metrics, PyTree, Rewards, Rollouts


def rows(rollouts: Rollouts) -> Rollouts:
  """Flattens `[B, G, ...]` to `[B * G, ...]`, the prompt of a group being repeated for each of its rows."""
  group = rollouts.tokens.shape[1]
  repeat = lambda x: jnp.repeat(x, group, 0)
  flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), rollouts.replace(prompt=None, prompt_mask=None))
  return flat.replace(prompt=repeat(rollouts.prompt), prompt_mask=repeat(rollouts.prompt_mask))


def log_probs(parts: Any, params: PyTree, rollouts: Rollouts, **settings) -> Array | tuple[Array, Array]:
  """Scores `[B, G, T]` responses with the prompts `[B, P]` of their groups, over the tokens that could be drawn.

  Args:
    parts: `LanguageParts`.
    params: of its model.
    rollouts: the responses.
    **settings: of `policies.token_log_probs`.

  Returns:
    As `policies.token_log_probs`.
  """
  return log_probs_lib.token_log_probs(
      parts.model, params, rollouts.prompt, rollouts.prompt_mask, rollouts.tokens, rollouts.mask,
      valid=rollouts.valid, temperature=parts.temperature, support=rollouts.support, **settings)


def annotate(parts: Any, params: PyTree, ref_params: PyTree | None, rollouts: Rollouts) -> Rollouts:
  """Fills in what transforms, estimators and losses may read of `[B, G]` responses; what is there already stays.

  Args:
    parts: `LanguageParts`.
    params: that drew the responses.
    ref_params: of the reference policy, or None.
    rollouts: the responses.

  Returns:
    The same, with `ref_log_probs` where the parts have `use_reference`, and with the trainer's `log_probs` beside
    `sampler_log_probs` where the parts score again; no gradient flows.
  """
  if parts.rescored and rollouts.sampler_log_probs is None:
    again = jax.lax.stop_gradient(log_probs(parts, params, rollouts))
    rollouts = rollouts.replace(log_probs=again, sampler_log_probs=rollouts.log_probs)
  if parts.use_reference and rollouts.ref_log_probs is None:
    reference = jax.lax.stop_gradient(log_probs(parts, ref_params, rollouts))
    rollouts = rollouts.replace(ref_log_probs=reference)
  return rollouts


def sampler_weights(parts: Any, rollouts: Rollouts) -> tuple[Array | None, Metrics]:
  """Weighs tokens for the difference between sampler and trainer, and measures it.

  Args:
    parts: `LanguageParts`.
    rollouts: annotated, `[B, G, T]`.

  Returns:
    `(weights [B, G, T] or None, metrics)`; no metrics where the old log-probabilities are the sampler's. `sampler_gap`
    and `sampler_gap_max` are mean and largest absolute difference of the two log-probabilities of a counted token,
    `sampler_weight` the mean weight.
  """
  if rollouts.sampler_log_probs is None:
    return None, {}
  flat = lambda x: x.reshape(-1, x.shape[-1])
  given = tuple(map(flat, (rollouts.log_probs, rollouts.sampler_log_probs, rollouts.mask)))
  return weigh(*given, parts.sampler_weight_cap, rollouts.mask.shape, parts.axis_name)


def weigh(trainer: Array, sampler: Array, mask: Array, cap: float | Array | None, shape: tuple[int, ...],
          axis_name: str | None = None) -> tuple[Array | None, Metrics]:
  """Computes the weights and metrics of `sampler_weights` from log-probabilities `[N, T]`; weights get `shape`."""
  gap = stats.masked(jnp.abs(stats.masked(trainer, mask) - stats.masked(sampler, mask)), mask)
  largest = jnp.max(gap, initial=0.0)
  metrics = {"sampler_gap": stats.masked_mean(gap, mask, axis_name=axis_name),
             "sampler_gap_max": largest if axis_name is None else jax.lax.pmax(largest, axis_name)}
  if cap is None:
    return None, metrics
  weights = losses.truncated_importance_weights(trainer, sampler, mask, cap=cap)
  metrics["sampler_weight"] = stats.masked_mean(weights, mask, axis_name=axis_name)
  return weights.reshape(shape), metrics


def mark_unscorable(rewards: Rewards) -> Rewards:
  """Marks the responses of which a host verifier says NaN as not valid, and pays them 0.

  Only the staged form does this: NaN from compiled code is a fault of the program, which skips the update.

  Args:
    rewards: of `[B, G]` responses, on the host; a NaN among the token rewards of a response spoils it too.

  Returns:
    The same with `valid` `[B, G]`, in NumPy.
  """
  outcome = np.asarray(rewards.outcome, np.float32)
  valid = np.ones(outcome.shape, bool) if rewards.valid is None else np.asarray(rewards.valid) > 0
  valid = valid & ~np.isnan(outcome)
  process = rewards.process
  if process is not None:
    process = np.asarray(process, np.float32)
    valid = valid & ~np.any(np.isnan(process), -1)
    process = np.where(valid[..., None], process, 0).astype(np.float32)
  return Rewards(np.where(valid, outcome, 0).astype(np.float32), process, valid.astype(np.float32))


def drop_unscorable(rewards: Rewards, rollouts: Rollouts) -> tuple[Rewards, Rollouts]:
  """Takes responses that are not valid out of `[..., G]`: they are paid 0 and none of their tokens counts.

  Args:
    rewards: of the responses; `valid` None drops none.
    rollouts: the responses.

  Returns:
    `(rewards, rollouts)`; token rewards are 0 where no token counts.
  """
  if rewards.valid is not None:
    keep = jnp.asarray(rewards.valid) > 0
    rewards = rewards.replace(outcome=stats.masked(rewards.outcome, keep))
    leave = lambda x: None if x is None else jnp.where(keep[..., None], x, 0)
    rollouts = rollouts.replace(mask=leave(rollouts.mask), valid=leave(rollouts.valid))
  return counted_rewards(rewards, rollouts.mask), rollouts


def counted_rewards(rewards: Rewards, mask: Array) -> Rewards:
  """Returns rewards with 0 wherever they count for nothing, so that what is left must be finite.

  Args:
    rewards: `outcome` `[..., G]`, `process` `[..., G, T]` or None, `valid` `[..., G]` or None.
    mask: `[..., G, T]`.

  Returns:
    The same record.
  """
  process = None if rewards.process is None else stats.masked(rewards.process, mask)
  return rewards.replace(outcome=stats.masked(rewards.outcome, rewards.valid), process=process)
