"""What a run says of its responses and its parts: numbers for the curves, text for the reader."""

from collections.abc import Callable
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rlcore import stats
from rlcore.advantages import degenerate_group, total_rewards
from rlcore.types import AdvantageEstimator, Array, Example, Metrics, Problem, Rewards, Rollouts, Task


def response_metrics(rewards: Rewards, rollouts: Rollouts, advantages: Array, axis_name: stats.AxisName = None, *,
                     shaped: Rewards | None = None) -> Metrics:
  """Measures the responses `[B, G, ...]` of an update.

  Args:
    rewards: of the responses.
    rollouts: the responses.
    advantages: `[B, G, T]`.
    axis_name: mapped axis over which the prompts are spread.
    shaped: the rewards that credit was assigned for, after the run's transform; None for `rewards`.

  Returns:
    Means over responses that could be scored (`reward`, `success`, `response_length`), groups (`informative_groups`,
    the share whose responses are not all paid alike, in the rewards that credit reads) and counted tokens
    (`sampled_nll`, `advantage_abs`), and the numbers `tokens` of counted tokens and `unscorable` of responses that were
    dropped.
  """
  finite = lambda x: jnp.where(jnp.isfinite(x), x, 0.0)  # of an update that is skipped; the loop reports those
  outcome = finite(rewards.outcome)
  paid = finite(jax.vmap(total_rewards)(rewards if shaped is None else shaped, rollouts.mask))
  mask, valid = rollouts.mask, rewards.valid
  mean = functools.partial(stats.masked_mean, axis_name=axis_name)
  return {
      "reward": mean(outcome, valid),
      "success": mean(outcome >= 1, valid),
      "informative_groups": mean(~jax.vmap(degenerate_group)(paid, stats.as_mask(valid, paid))),
      "tokens": stats.masked_count(mask, mask, axis_name=axis_name),
      "unscorable": stats.masked_count(outcome, ~stats.as_mask(valid, outcome), axis_name=axis_name),
      "response_length": mean(jnp.sum(mask > 0, -1), valid),
      "sampled_nll": -mean(rollouts.log_probs, mask),
      "advantage_abs": mean(jnp.abs(finite(advantages)), mask),
  }


def decode_examples(task: Task, problems: Problem, rollouts: Rollouts, rewards: Rewards, shaped: Rewards,
                    advantages: Array, count: int) -> list[Example]:
  """Turns responses into text with the credit of each token; groups that are paid differently come first.

  Args:
    task: whose `decode` makes text of token ids.
    problems: `[B]` problems.
    rollouts: `[B, G]` responses.
    rewards: of the responses, the verifier's.
    shaped: what the run's transform makes of them, for which credit is assigned.
    advantages: `[B, G, T]`.
    count: how many examples, one a group, alternating between the best and the worst paid response of its group.

  Returns:
    The examples.
  """
  paid = jax.vmap(total_rewards)(shaped, rollouts.mask)
  problems, rollouts, outcome, paid, advantages = jax.device_get(
      (problems, rollouts, rewards.outcome, paid, advantages))
  keep = rewards.valid is None or jax.device_get(rewards.valid) > 0
  high, low = np.where(keep, paid, -np.inf), np.where(keep, paid, np.inf)
  spread = high.max(1) - low.min(1)  # -inf where no response could be scored
  examples = []
  for i, group in enumerate((-spread).argsort(kind="stable")[:count]):
    row = int(high[group].argmax() if i % 2 == 0 else low[group].argmin())
    places = rollouts.mask[group, row] > 0
    prompt = problems.prompt[group][problems.prompt_mask[group] > 0]
    pieces = tuple(task.decode([t]) for t in rollouts.tokens[group, row][places])
    examples.append(Example(task.decode(prompt), pieces, tuple(advantages[group, row][places].tolist()),
                            float(outcome[group, row]), float(paid[group, row])))
  return examples


def unwrap(function: Callable) -> tuple[Callable, dict[str, Any]]:
  """Finds the function behind nested partials, and what they bind, those by position under their number."""
  settings = {}
  while isinstance(function, functools.partial):
    settings = dict(enumerate(function.args)) | function.keywords | settings
    function = function.func
  return function, settings


def name_of(function: Callable) -> str:
  """Names the function behind nested partials."""
  function, _ = unwrap(function)
  name = getattr(function, "__name__", type(function).__name__)
  return "lambda" if name == "<lambda>" else name


def credit_of_group(estimator: AdvantageEstimator, rewards: Rewards, batch: Any,
                    role: str = "advantage estimator") -> Array:
  """Applies an estimator to a group and checks what it returns, before flat batches hide which part was wrong.

  Args:
    estimator: `(rewards, batch) -> [G, T]`.
    rewards: of the group.
    batch: the group, whose `mask` is `[G, T]`.
    role: what the message calls the estimator.

  Returns:
    `[G, T]`.

  Raises:
    ValueError: for any other shape.
  """
  values = estimator(rewards, batch)
  if jnp.shape(values) != batch.mask.shape:
    raise ValueError(f"the {role} {name_of(estimator)} returned shape {jnp.shape(values)}, "
                     f"expected [G, T] = {batch.mask.shape}")
  return values
