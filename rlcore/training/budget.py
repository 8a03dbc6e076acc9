"""How a fixed budget is shared out between demonstrations and reinforcement learning."""

import math


def sft_rl_split(budget: float, num_demos: float, demo_cost: float = 10.0, episode_cost: float = 1.0) -> int:
  """Counts the episodes that a budget still buys after the demonstrations are paid for.

  Args:
    budget: in units of cost.
    num_demos: demonstrations that are bought first.
    demo_cost: of one demonstration; the paper's numbers make it about ten episodes.
    episode_cost: of one episode, above 0.

  Returns:
    `max(0, floor((budget - num_demos * demo_cost) / episode_cost))`.

  Raises:
    ValueError: for an episode that costs nothing.

  Reference: multi-turn guide, arXiv:2510.01132 (its comparison of SFT:RL ratios).
  """
  if not episode_cost > 0:
    raise ValueError(f"episode_cost={episode_cost} must be above 0")
  return max(0, math.floor((budget - num_demos * demo_cost) / episode_cost))
