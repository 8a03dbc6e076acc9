"""Credit along one trajectory: returns, generalised advantages, V-trace.

Every function sees ONE trajectory `[T]`; `jax.vmap` makes of it a batch of `[B, T]` (axis 0) or of `[T, B]` (axis 1).

- The reward of step t follows its action, and `value_tp1` at t is the value of the state that the action led to.
- An episode that terminates has discount 0 at its last step. One that a time limit cuts off has not terminated: its
  discount stays, `value_tp1` there is the value of its true last state, and `truncated` stops credit from flowing on.
- `mask` is 1 where a step counts and may have holes (observation tokens inside a response). A masked step is stepped
  over, without a discount, as if it were not there; it gets 0, and a reward on it is lost.
"""

import functools
import numbers

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from rlcore import checks, segments, stats
from rlcore.advantages.recurrence import Rule, reverse_recurrence
from rlcore.types import Array


def gae(
    rewards: Array, values: Array, mask: Array | None = None, gamma: Array | float = 1.0, lam: Array | float = 1.0, *,
    bootstrap_value: Array | float = 0.0, value_tp1: Array | None = None, truncated: Array | None = None,
) -> tuple[Array, Array]:
  """Estimates advantages by an exponentially weighted sum of temporal-difference errors.

  `A_t = r_t + gamma_t v_next - v_t + gamma_t lam A_next`, where `next` is the next counted step. `lam=0` gives the
  one-step error, `lam=1` the return minus the value, values of 0 with `lam=1` the discounted return. Also known as:
  multiturn_gae.

  Args:
    rewards: `[T]`.
    values: `[T]`, value of the state in which step t acts.
    mask: `[T]` or None, > 0 where a step counts.
    gamma: `[]` or `[T]`, discount; 0 where the episode terminates.
    lam: `[]`.
    bootstrap_value: `[]`, value of the state after the last counted step; not used beside `value_tp1`.
    value_tp1: `[T]` or None, value of the state that step t led to. None takes the value of the next counted step,
      which is the same as long as no other episode begins there.
    truncated: `[T]` or None, > 0 where the episode is cut off after step t; needs `value_tp1`.

  Returns:
    `(advantages, returns)`, `[T]` float32 each, returns = advantages + values, both 0 where `mask` is not set; no
    gradient flows.

  Raises:
    ValueError: for `truncated` without `value_tp1`.

  Reference: GAE, arXiv:1506.02438, eq. 16; with masks: multi-turn guide, arXiv:2510.01132, and PPR, arXiv:2509.25598.
  """
  if truncated is not None and value_tp1 is None:
    raise ValueError("truncated needs value_tp1: an episode was not cut off in the state of the next step")
  rewards, values, gamma, lam, mask, bootstrap_value, value_tp1, truncated = lax.stop_gradient(
      (rewards, values, gamma, lam, mask, bootstrap_value, value_tp1, truncated))
  rewards, values = _checked(
      dict(rewards=rewards, values=values), dict(mask=mask, value_tp1=value_tp1, truncated=truncated), gamma=gamma)
  checks.rank(0, lam=lam, bootstrap_value=bootstrap_value)
  checks.between(0, 1, lam=lam)
  if value_tp1 is None:
    advantages = reverse_recurrence(_GAE, (rewards, values, gamma, lam), mask, bootstrap_value)
  else:
    inputs = rewards, values, value_tp1, gamma, lam, 0.0 if truncated is None else truncated
    advantages = reverse_recurrence(_TD_SUM, inputs, mask)
  return advantages, _counted(advantages + values, mask, advantages)


def lambda_returns(
    reward_t: Array, discount_t: Array | float, value_tp1: Array, lam: Array | float = 1.0, mask: Array | None = None,
    *, truncated: Array | None = None) -> Array:
  """Mixes the returns of all horizons, `G_t = r_t + gamma_t ((1 - lam_t) v_tp1 + lam_t G_next)`.

  The last counted step bootstraps wholly from its `value_tp1`. TD(lambda), Q(lambda) (values max_a q) and SARSA(lambda)
  (values q of the next action) differ only in the values; importance weights go into `lam` as an array.

  Args:
    reward_t: `[T]`.
    discount_t: `[]` or `[T]`, 0 where the episode terminates.
    value_tp1: `[T]`, value of the state that step t led to.
    lam: `[]` or `[T]`.
    mask: `[T]` or None, > 0 where a step counts.
    truncated: `[T]` or None, > 0 where the episode is cut off after step t; it then bootstraps from `value_tp1` too.

  Returns:
    `[T]` float32, 0 where `mask` is not set. NOT stopped: it is differentiable in rewards, discounts, values and lam.

  Raises:
    AssertionError: for shapes that differ, or a forgotten vmap.

  Reference: Sutton and Barto, Reinforcement Learning, 2nd edition, sec. 12.1 and 12.8.
  """
  reward_t, value_tp1 = _checked(
      dict(reward_t=reward_t, value_tp1=value_tp1), dict(mask=mask, truncated=truncated),
      discount_t=discount_t, lam=lam)
  if mask is None:
    ends, init = 0.0, lax.slice_in_dim(value_tp1, max(value_tp1.shape[0] - 1, 0), None)
  else:
    ends, init = _ends(reward_t, mask), 0.0
  if truncated is not None:
    ends = jnp.maximum(ends, (jnp.asarray(truncated) > 0).astype(jnp.float32))
  return reverse_recurrence(_LAMBDA_RETURN, (reward_t, value_tp1, discount_t, lam, ends), mask, init)


def n_step_returns(
    reward_t: Array, discount_t: Array | float, value_tp1: Array, n: int, mask: Array | None = None, *,
    truncated: Array | None = None) -> Array:
  """Sums the discounted rewards of n counted steps and bootstraps from the state after them.

  Fewer than n where the trajectory ends or is cut off: then from the state there. `n=1` gives one-step targets, n of at
  least T the discounted return. The time is O(n T).

  Args:
    reward_t: `[T]`.
    discount_t: `[]` or `[T]`, 0 where the episode terminates.
    value_tp1: `[T]`, value of the state that step t led to.
    n: static, at least 1.
    mask: `[T]` or None, > 0 where a step counts.
    truncated: `[T]` or None, > 0 where the episode is cut off after step t.

  Returns:
    `[T]` float32, 0 where `mask` is not set. NOT stopped: it is differentiable in rewards, discounts and values.

  Raises:
    ValueError: for an n that is not whole, or below 1.

  Reference: Sutton and Barto, Reinforcement Learning, 2nd edition, sec. 7.1.
  """
  if not isinstance(n, numbers.Integral) or n < 1:
    raise ValueError(f"n={n} must be a whole number of at least 1")
  reward_t, value_tp1 = _checked(
      dict(reward_t=reward_t, value_tp1=value_tp1), dict(mask=mask, truncated=truncated), discount_t=discount_t)
  discount_t = jnp.broadcast_to(jnp.asarray(discount_t).astype(jnp.float32), reward_t.shape)
  length = reward_t.shape[0]
  keep = jnp.ones(length, bool) if mask is None else jnp.asarray(mask) > 0
  reward_t, value_tp1, discount_t = (jnp.where(keep, x, 0) for x in (reward_t, value_tp1, discount_t))
  following = segments.next_counted(keep)
  ends = following == length
  if truncated is not None:
    ends |= jnp.asarray(truncated) > 0

  return jnp.where(keep, _bootstrapped(reward_t, discount_t, value_tp1, following, ends, n), 0)


def reward_to_go(
    rewards: Array, mask: Array | None = None, gamma: Array | float = 1.0, *,
    bootstrap_value: Array | float = 0.0) -> Array:
  """Sums the rewards from each step on, `R_t = r_t + gamma_t R_next`. Also known as: discounted returns.

  Args:
    rewards: `[T]`.
    mask: `[T]` or None, > 0 where a step counts; the others are stepped over and do not discount.
    gamma: `[]` or `[T]`, discount; 0 where the episode terminates.
    bootstrap_value: `[]`, value of the state after the last counted step.

  Returns:
    `[T]` float32, 0 where `mask` is not set. NOT stopped: it is differentiable in rewards, gamma and bootstrap value.

  Reference: policy gradient theorem, as in GAE, arXiv:1506.02438, eq. 1; Clip-Delta, arXiv:2410.15115 (gamma 1).
  """
  rewards, = _checked(dict(rewards=rewards), dict(mask=mask), gamma=gamma)
  checks.rank(0, bootstrap_value=bootstrap_value)
  return reverse_recurrence(_RETURN, (rewards, gamma), mask, bootstrap_value)


def reinforce_pp_returns(token_rewards: Array, mask: Array, gamma: Array | float = 1.0) -> Array:
  """Sums rewards to go as the released REINFORCE++ does, `R[t] = mask[t] (r[t] + gamma R[t+1])`: a hole cuts them.

  The multiplication was meant to start afresh after an end-of-sequence token. Where observation tokens lie inside the
  response no turn hears of what later turns earn. `reward_to_go` steps over the holes; without any, both are the same.

  The advantages of paper and verl are these, whitened over all TOKENS of the batch, so that a long response weighs more
  in mean and variance: `stats.whiten(jax.vmap(reinforce_pp_returns)(token_rewards, mask), mask)`, the outcome on the
  last counted token, minus the KL penalty of each. Whitened over RESPONSES, each once, they are
  `group_advantage(outcome, axis_name=...)` of all of them.

  Args:
    token_rewards: `[T]`.
    mask: `[T]`, > 0 where a token counts.
    gamma: `[]` or `[T]`, discount.

  Returns:
    `[T]` float32, 0 where `mask` is not set; no gradient flows.

  Reference: REINFORCE++, arXiv:2501.03262, as in the code of the multi-turn guide, arXiv:2510.01132.
  """
  checks.between(0, 1, gamma=_where(gamma, mask))
  mask, gamma = map(jnp.asarray, (mask, gamma))
  token_rewards, = _checked(dict(token_rewards=token_rewards), dict(mask=mask), gamma=gamma)
  keep = mask > 0
  return lax.stop_gradient(reward_to_go(jnp.where(keep, token_rewards, 0), None, jnp.where(keep, gamma, 0)))


def regularized_returns(
    rewards: Array, log_probs: Array, mask: Array, discount: Array | float, ent_coef: Array | float = 0.05) -> Array:
  """Sums rewards to go minus what the actions' log-probabilities cost, `r - ent_coef log pi`: returns of soft control.

  Unlike `reward_to_go` it discounts by places in the array, masked holes included.

  Args:
    rewards: `[T]`.
    log_probs: `[T]`, of the actions taken.
    mask: `[T]`, > 0 where a step counts.
    discount: `[]`.
    ent_coef: `[]`, weight of the entropy.

  Returns:
    `[T]` float32, 0 where `mask` is not set. NOT stopped, least of all in `log_probs`: the derivative of an update of
    a policy has this part too.

  Reference: BARFI, arXiv:2310.19007, inner objective.
  """
  mask = jnp.asarray(mask)
  rewards, log_probs = _checked(dict(rewards=rewards, log_probs=log_probs), dict(mask=mask))
  checks.rank(0, discount=discount, ent_coef=ent_coef)
  checks.between(0, 1, discount=discount)
  ent_coef = jnp.asarray(ent_coef).astype(jnp.float32)
  soft = stats.masked(rewards, mask) - ent_coef * stats.masked(log_probs, mask)
  return stats.masked(reward_to_go(soft, None, discount), mask)


def segment_rewards(rewards: Array, switch: Array, mask: Array, discount: Array | float = 1.0) -> Array:
  """Gives every switch the discounted rewards up to the next one: what a code that is held earns while it is held.

  A segment also ends before the first masked step; rewards from there to the next switch, and those before the first
  switch, belong to nobody.

  Args:
    rewards: `[T]`.
    switch: `[T]`, > 0 where a segment begins; not read in masked steps.
    mask: `[T]`, > 0 where a step counts.
    discount: `[]`, g; every segment begins at g**0.

  Returns:
    `[T]` float32, 0 on all other steps; no gradient flows.

  Reference: Internal RL, arXiv:2512.20605.
  """
  switch, mask = map(jnp.asarray, (switch, mask))
  rewards, = _checked(dict(rewards=rewards), dict(switch=switch, mask=mask), discount=discount)
  checks.rank(0, discount=discount)
  keep = mask > 0
  begins = keep & (switch > 0)
  goes_on = jnp.append((keep & ~begins)[1:], False)[:keep.shape[0]]
  held = reward_to_go(jnp.where(keep, rewards, 0), None, jnp.where(goes_on, discount, 0))
  return lax.stop_gradient(jnp.where(begins, held, 0))


def vtrace(
    reward_t: Array, discount_t: Array | float, value_t: Array, value_tp1: Array, rho_t: Array,
    lam: Array | float = 1.0, mask: Array | None = None, *, rho_clip: Array | float = 1.0, c_clip: Array | float = 1.0,
    pg_rho_clip: Array | float = 1.0, truncated: Array | None = None) -> tuple[Array, Array]:
  """Corrects value targets and policy-gradient advantages for actions drawn by another policy.

  With `rho = min(rho_clip, rho_t)` and `c = lam min(c_clip, rho_t)`, the targets are `vs_t = v_t + E_t`,
  `E_t = rho (r_t + gamma_t v_tp1 - v_t) + gamma_t c E_next`, and the advantages are
  `min(pg_rho_clip, rho_t) (r_t + gamma_t (v_tp1 + lam E_next) - v_t)`. On-policy (`rho_t` 1) the targets are the
  lambda-returns; `lam=1` is the paper's form. The target policy is `rho_clip` times the behaviour at most: `jnp.inf`
  evaluates the learner's own policy.

  Args:
    reward_t: `[T]`.
    discount_t: `[]` or `[T]`, 0 where the episode terminates.
    value_t: `[T]`, value of the state in which step t acts.
    value_tp1: `[T]`, value of the state that step t led to.
    rho_t: `[T]`, probability of the action under the learner's policy over that under the policy that drew it.
    lam: `[]`.
    mask: `[T]` or None, > 0 where a step counts.
    rho_clip: bound on the weight of a temporal-difference error; it decides which policy's value is learned.
    c_clip: bound on the weight that passes errors back; it decides only how fast.
    pg_rho_clip: bound on the weight of the policy gradient.
    truncated: `[T]` or None, > 0 where the episode is cut off after step t.

  Returns:
    `(targets, advantages)`, `[T]` float32 each, 0 where `mask` is not set; no gradient flows.

  Reference: IMPALA, arXiv:1802.01561, eq. 1 and sec. 4.2.
  """
  reward_t, discount_t, value_t, value_tp1, rho_t, lam, mask, truncated = lax.stop_gradient(
      (reward_t, discount_t, value_t, value_tp1, rho_t, lam, mask, truncated))
  reward_t, value_t, value_tp1, rho_t = _checked(
      dict(reward_t=reward_t, value_t=value_t, value_tp1=value_tp1, rho_t=rho_t), dict(mask=mask, truncated=truncated),
      discount_t=discount_t, lam=lam)
  inputs = reward_t, value_t, value_tp1, jnp.asarray(discount_t).astype(jnp.float32), rho_t, lam, rho_clip, c_clip
  later = reverse_recurrence(_VTRACE, (*inputs, 0.0 if truncated is None else truncated), mask)
  correction, passed = _corrections(*inputs)
  one_step = reward_t + inputs[3] * value_tp1 - value_t
  advantages = jnp.minimum(pg_rho_clip, rho_t) * (one_step + inputs[3] * lam * later)
  return _counted(value_t + correction + passed * later, mask, later), _counted(advantages, mask, later)


def _where(factor: Array | float, mask: Array | None) -> Array | float | None:
  """Returns the factors of counted steps; None where they, or which they are, cannot be known."""
  if jnp.ndim(factor) == 0 or mask is None or not checks.known(factor):
    return factor
  return np.asarray(factor)[np.asarray(mask) > 0] if checks.known(mask) else None


def _checked(trajectories: dict, optional: dict, **factors) -> list[Array]:
  """Asserts that all are of one trajectory (factors may be scalars) and returns `trajectories` in float32."""
  trajectories = {name: jnp.asarray(x).astype(jnp.float32) for name, x in trajectories.items()}
  checks.rank(1, **trajectories)
  checks.rank({0, 1}, **factors)
  counted = {name: _where(x, optional.get("mask")) for name, x in factors.items() if name != "lam"}
  checks.between(0, 1, **counted)
  checks.same_shape(**trajectories, **optional, **{name: x for name, x in factors.items() if jnp.ndim(x)})
  return list(trajectories.values())


@functools.partial(jax.jit, static_argnames="n")  # outside of `jit` a loop would be compiled anew at every call
def _bootstrapped(reward, discount, value_tp1, following, ends, n):
  """Goes n steps along the pointers `following`, then takes the value."""
  def extend(_, target):
    return reward + discount * jnp.where(ends, value_tp1, target[jnp.minimum(following, reward.shape[0] - 1)])
  one_step = reward + discount * jnp.where(ends, value_tp1, value_tp1)  # inside of `shard_map`, varies as `ends` does
  return lax.fori_loop(1, n, extend, one_step)


def _counted(x: Array, mask: Array | None, zero: Array) -> Array:
  """Masks `x` with the help of an array that is 0 where the mask is not set.

  A constant 0 would do, but has no batch axis: `vmap` would transpose `[T, B]` to `[B, T]` so that the two fit.
  """
  return x if mask is None else jnp.where(jnp.asarray(mask) > 0, x, zero)


def _ends(like: Array, mask: Array) -> Array:
  """Says (1 or 0, `[T]`) where no counted step follows."""
  return 1 - reverse_recurrence(_FOLLOWED, (lax.stop_gradient(like),), mask)


def _leaving(entering, leaving, *_):
  return leaving


def _unless(truncated, x):
  return jnp.where(truncated > 0, 0, x)


def _lambda_coefficients(reward, value_tp1, discount, lam, truncated):
  lam = _unless(truncated, lam)
  return reward + discount * (1 - lam) * value_tp1, discount * lam


def _corrections(reward, value, value_tp1, discount, rho, lam, rho_clip, c_clip):
  error = jnp.minimum(rho_clip, rho) * (reward + discount * value_tp1 - value)
  return error, discount * lam * jnp.minimum(c_clip, rho)


def _vtrace_coefficients(*inputs):
  error, factor = _corrections(*inputs[:-1])
  return error, _unless(inputs[-1], factor)


# The carry is what the step before bootstraps from, (1 - lam) v + lam (return): one recurrence, although with holes in
# the mask both the value and the advantage of the next counted step have to be brought along.
_GAE = Rule(
    lambda reward, value, gamma, lam: ((1 - lam) * value + lam * reward, lam * gamma),
    lambda entering, leaving, reward, value, gamma, lam: reward + gamma * entering - value)
_TD_SUM = Rule(
    lambda reward, value, value_tp1, gamma, lam, truncated:
    (reward + gamma * value_tp1 - value, _unless(truncated, gamma * lam)), _leaving)
_LAMBDA_RETURN = Rule(_lambda_coefficients, _leaving)
_RETURN = Rule(lambda reward, gamma: (reward, gamma), _leaving)
_FOLLOWED = Rule(
    lambda like: (jnp.ones_like(like), jnp.zeros_like(like)), lambda entering, leaving, like: entering)
_VTRACE = Rule(_vtrace_coefficients, lambda entering, leaving, *inputs: _unless(inputs[-1], entering))
