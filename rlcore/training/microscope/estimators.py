"""The advantage estimators that the microscope sets beside a run's own."""

from collections.abc import Mapping
import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np

from rlcore import advantages, stats
from rlcore.training import describe as describe_lib
from rlcore.types import AdvantageEstimator, Array, Rewards, Rollouts

_EPS = 1e-6


def _value_changes(rewards: Rewards, batch: Rollouts) -> tuple[Array, Array]:
  """Change of the prefix tree's value at the tokens where the group branches, and where those are; `[G, T]` both."""
  outcome = rewards.outcome
  if rewards.valid is not None:  # an unscorable response has no token, and thus the mean in the root
    outcome = stats.centred(outcome, rewards.valid)
  v_prev, v_next, _, _ = advantages.prefix_tree_values(batch.tokens, outcome, batch.mask, batch.valid)
  branches = advantages.branch_mask(batch.tokens, batch.mask, batch.valid)
  return stats.masked(v_next - v_prev, branches), branches


def step_level(rewards: Rewards, batch: Rollouts) -> Array:
  """Sums, from each token on, the rewards of the steps that end there, normalised over all steps of the group.

  The steps are those of the run's token rewards (a reward of 0 is no step). Where there are none, a step ends with each
  token at which the group branches, and its reward is the change of the tree's value there.

  Args:
    rewards: of one group; `process` `[G, T]` is used where there is one, else `outcome` `[G]`.
    batch: `tokens`, `mask` and `valid` are used.

  Returns:
    `[G, T]` float32, 0 where `batch.mask` is not set.

  Reference: GRPO, arXiv:2402.03300, sec. 4.1.3 (process supervision).
  """
  if rewards.process is None:
    steps, ends = _value_changes(rewards, batch)
  else:
    steps = stats.masked(rewards.process, batch.mask)
    ends = steps != 0
  centred = stats.centred(steps, ends)
  normalised = centred / (stats.masked_std(steps, ends) + _EPS)
  to_go = jax.vmap(advantages.reward_to_go)(normalised, batch.mask)
  return jax.lax.stop_gradient(stats.masked(to_go, batch.mask))


def _share_evenly(rewards: Rewards, batch: Rollouts) -> Array:
  """Shares the group-relative outcome of each response evenly among its counted tokens, `[G, T]`."""
  whole = advantages.group_relative(rewards, batch)
  return whole / jnp.maximum(stats.masked_count(whole, batch.mask, axis=1), 1)[:, None]


def redistributed(rewards: Rewards, batch: Rollouts, *, uniform: bool = False) -> Array:
  """Spreads the group-relative outcome of each response over its tokens, so that they sum to it.

  A token gets the change of the prefix tree's value, in units of the group's std; it is 0 where the group does not
  branch. The sum is GRPO's advantage of the response if equal responses have equal rewards.

  Args:
    rewards: of one group; `outcome` `[G]` is used.
    batch: `tokens`, `mask` and `valid` are used.
    uniform: static; True spreads GRPO's advantage evenly instead.

  Returns:
    `[G, T]` float32, 0 where `batch.mask` is not set.

  Reference: SPA-RL, arXiv:2505.20732 (credit as contributions that sum to the outcome; those of the tree are ours).
  """
  if uniform:
    return _share_evenly(rewards, batch)
  changes, _ = _value_changes(rewards, batch)
  return jax.lax.stop_gradient(changes / (stats.masked_std(rewards.outcome, rewards.valid, ddof=1) + _EPS))


STANDARD: Mapping[str, AdvantageEstimator] = {
    "GRPO": advantages.group_relative,
    "TEMPO": advantages.tempo,
    "Step-level": step_level,
    "Redistributed": redistributed,
    "Spread evenly": functools.partial(redistributed, uniform=True),
}
NOTES: Mapping[str, str] = {
    "GRPO": "one number for the whole response: its reward against the group's, in standard deviations",
    "TEMPO": "GRPO, plus the change of the prefix tree's value at tokens where responses part",
    "Step-level": "normalised step rewards, summed from each token to the end (process supervision)",
    "Redistributed": "the outcome split over the tokens that changed the prefix tree's value",
    "Spread evenly": "the outcome split evenly over all tokens of the response",
}


def describe(estimator: AdvantageEstimator) -> str:
  """Writes an estimator as a call: the name of its function and the settings that a partial binds."""
  _, settings = describe_lib.unwrap(estimator)
  return f"{describe_lib.name_of(estimator)}({', '.join(f'{k}={v}' for k, v in settings.items())})"


def same(one: AdvantageEstimator, other: AdvantageEstimator) -> bool:
  """Says whether two estimators are one function with equal settings; a default counts as set."""
  (function, left), (other_function, right) = map(describe_lib.unwrap, (one, other))
  if function is not other_function:
    return False
  defaults = {name: p.default for name, p in inspect.signature(function).parameters.items()
              if p.default is not inspect.Parameter.empty}
  left, right = defaults | left, defaults | right
  return left.keys() == right.keys() and all(np.array_equal(left[name], right[name]) for name in left)
