"""What a run says of its responses: numbers for the curves, text for the reader."""

import jax
import jax.numpy as jnp

from rlcore.types import Array, Example, Metrics, Problem, Rewards, Rollouts, Task


def response_metrics(rewards: Rewards, rollouts: Rollouts, advantages: Array) -> Metrics:
  """Metrics of the responses: everything is a mean over the responses but `tokens`, their number."""
  outcome = jnp.where(jnp.isfinite(rewards.outcome), rewards.outcome, 0.0)
  counted = rollouts.mask > 0
  tokens = jnp.sum(counted).astype(jnp.float32)
  spread = jnp.max(outcome, 1) > jnp.min(outcome, 1)
  sampled = jnp.where(counted, rollouts.log_probs, 0)
  return {
      "reward": jnp.mean(outcome),
      "success": jnp.mean((outcome >= 1).astype(jnp.float32)),
      "informative_groups": jnp.mean(spread.astype(jnp.float32)),
      "tokens": tokens,
      "response_length": jnp.mean(jnp.sum(counted, -1).astype(jnp.float32)),
      "sampled_nll": -jnp.sum(sampled) / jnp.maximum(tokens, 1),
      "advantage_abs": jnp.sum(jnp.where(counted, jnp.abs(advantages), 0)) / jnp.maximum(tokens, 1),
  }


def decode_examples(task: Task, problems: Problem, rollouts: Rollouts, rewards: Rewards, advantages: Array,
                    count: int) -> list[Example]:
  """Turns responses into text with the credit of each token; groups whose rewards differ come first.

  Args:
    task: whose `decode` makes text of token ids.
    problems: `[B]` problems.
    rollouts: `[B, G]` responses.
    rewards: of the responses.
    advantages: `[B, G, T]`.
    count: how many examples, one a group, alternating between the best and the worst response of its group.

  Returns:
    The examples.
  """
  problems, rollouts, outcome, advantages = jax.device_get((problems, rollouts, rewards.outcome, advantages))
  spread = outcome.max(1) - outcome.min(1)
  examples = []
  for i, group in enumerate((-spread).argsort(kind="stable")[:count]):
    row = int(outcome[group].argmax() if i % 2 == 0 else outcome[group].argmin())
    places = rollouts.mask[group, row] > 0
    prompt = problems.prompt[group][problems.prompt_mask[group] > 0]
    pieces = tuple(task.decode([t]) for t in rollouts.tokens[group, row][places])
    examples.append(Example(task.decode(prompt), pieces, tuple(advantages[group, row][places].tolist()),
                            float(outcome[group, row])))
  return examples
