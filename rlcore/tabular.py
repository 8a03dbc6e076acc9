"""Finite Markov decision processes in tables: values, gaps between actions, occupancies.

Every function sees ONE process of S states and A actions and is differentiable in rewards, transitions and discounts.

- `transition[s, a]` is the distribution of the next state.
- An action that terminates has discount 0 (`discount` may be `[S, A]`), or leads to a state that keeps itself and pays
  nothing; both give the same values. A time limit is no termination: it plays no part in tables.
"""

import jax
from jax import lax
import jax.numpy as jnp

from rlcore import checks
from rlcore.types import Array


def policy_q(rewards: Array, transition: Array, policy: Array, discount: Array | float) -> Array:
  """Evaluates "take an action once, then follow the policy for ever" by a linear solve.

  Args:
    rewards: `[S, A]`.
    transition: `[S, A, S]`, each row a distribution.
    policy: `[S]` int, the action of a deterministic policy; one that there is not makes values NaN, here and below.
    discount: `[]` or `[S, A]`; 1 is singular wherever an episode need not end.

  Returns:
    `[S, A]` float32.

  Raises:
    AssertionError: for shapes that do not fit, or a policy that is not of integers.

  Reference: Sutton and Barto, Reinforcement Learning, 2nd edition, eq. 4.4; EXPRD, arXiv:2503.21949, ch. 3.
  """
  rewards, transition = _process(rewards, transition, discount)
  policy = _deterministic(policy, rewards)
  values = _solve(transition[jnp.arange(policy.shape[0]), jnp.maximum(policy, 0)], _chosen(rewards, policy))
  return rewards + _ahead(transition, values)


def horizon_q(rewards: Array, transition: Array, policy: Array, discount: Array | float, num_terms: int) -> Array:
  """Sums the rewards of n steps: an action taken once, then n - 1 actions of the policy.

  n = 1 gives the rewards themselves, and n without end `policy_q`. NeurIPS 2021's code of EXPRD calls this horizon
  n - 1, the AAMAS 2024 code n.

  Args:
    rewards: `[S, A]`.
    transition: `[S, A, S]`, each row a distribution.
    policy: `[S]` int.
    discount: `[]` or `[S, A]`.
    num_terms: static, n, the number of rewards in the sum; 0 gives 0.

  Returns:
    `[S, A]` float32.

  Raises:
    ValueError: for a negative `num_terms`.

  Reference: EXPRD, arXiv:2503.21949, ch. 3.
  """
  return horizon_qs(rewards, transition, policy, discount, (num_terms,))[0]


def horizon_qs(
    rewards: Array, transition: Array, policy: Array, discount: Array | float, num_terms: tuple[int, ...]) -> Array:
  """Computes `horizon_q` of several horizons in one pass.

  Args:
    rewards: `[S, A]`.
    transition: `[S, A, S]`, each row a distribution.
    policy: `[S]` int.
    discount: `[]` or `[S, A]`.
    num_terms: static, K numbers of rewards, in any order.

  Returns:
    `[K, S, A]` float32.

  Raises:
    ValueError: for a negative number.

  Reference: EXPRD, arXiv:2503.21949, ch. 3.
  """
  if min(num_terms, default=0) < 0:
    raise ValueError(f"num_terms={num_terms} must not be negative")
  rewards, transition = _process(rewards, transition, discount)
  policy = _deterministic(policy, rewards)
  nothing = rewards * 0  # inside of `shard_map`, varies as the rewards do

  def extend(q, _):
    return rewards + _ahead(transition, _chosen(q, policy)), q

  _, sums = lax.scan(extend, nothing, None, length=max(num_terms, default=0) + 1)
  return sums[jnp.asarray(num_terms, jnp.int32)]


def optimality_gap(rewards: Array, transition: Array, policy: Array, discount: Array | float) -> Array:
  """Says by how much each action is worse than the policy's, `Q(s, policy(s)) - Q(s, a)` of `policy_q`.

  Args:
    rewards: `[S, A]`.
    transition: `[S, A, S]`.
    policy: `[S]` int.
    discount: `[]` or `[S, A]`.

  Returns:
    `[S, A]` float32, 0 at the policy's action; nowhere negative if the policy is optimal.

  Reference: EXPRD, arXiv:2503.21949, ch. 3.
  """
  return _gap(policy_q(rewards, transition, policy, discount), policy)


def horizon_gap(rewards: Array, transition: Array, policy: Array, discount: Array | float, num_terms: int) -> Array:
  """Says by how much each action looks worse than the policy's within n steps, see `horizon_q`.

  Args:
    rewards: `[S, A]`.
    transition: `[S, A, S]`.
    policy: `[S]` int.
    discount: `[]` or `[S, A]`.
    num_terms: static, the number of rewards in the sum.

  Returns:
    `[S, A]` float32, 0 at the policy's action.

  Raises:
    ValueError: for a negative `num_terms`.

  Reference: EXPRD, arXiv:2503.21949, ch. 3.
  """
  return _gap(horizon_q(rewards, transition, policy, discount, num_terms), policy)


def state_margin(gap: Array, optimal: Array) -> Array:
  """Says by how much the best of the actions that are not optimal falls short.

  Args:
    gap: `[S, A]`, as `optimality_gap` gives it.
    optimal: `[S, A]`, True or 1 at ALL optimal actions; one that is missing makes the margin 0.

  Returns:
    `[S]` float32, 0 in a state where all actions are optimal.

  Reference: EXPRD, arXiv:2503.21949, ch. 3.
  """
  gap, optimal = jnp.asarray(gap).astype(jnp.float32), jnp.asarray(optimal) > 0
  checks.rank(2, gap=gap)
  checks.same_shape(gap=gap, optimal=optimal)
  checks.nonempty(1, gap=gap)
  least = jnp.min(jnp.where(optimal, jnp.inf, gap), 1)
  return jnp.where(jnp.all(optimal, 1), 0, least)


def policy_values(rewards: Array, transition: Array, policy_probs: Array, discount: Array | float) -> Array:
  """Evaluates a stochastic policy by a linear solve.

  Args:
    rewards: `[S, A]`.
    transition: `[S, A, S]`, each row a distribution.
    policy_probs: `[S, A]`, each row a distribution.
    discount: `[]` or `[S, A]`; 1 is singular wherever an episode need not end.

  Returns:
    `[S]` float32.

  Reference: Sutton and Barto, Reinforcement Learning, 2nd edition, eq. 4.4.
  """
  rewards, transition = _process(rewards, transition, discount)
  policy_probs = jnp.asarray(policy_probs).astype(jnp.float32)
  checks.same_shape(rewards=rewards, policy_probs=policy_probs)
  return _solve(_mixed(transition, policy_probs), jnp.sum(policy_probs * rewards, 1))


def value_iteration(rewards: Array, transition: Array, discount: Array | float, num_iterations: int) -> Array:
  """Iterates `Q = R + discount P max_a Q` from 0: the best sum of rewards of `num_iterations` steps.

  The error to the infinite horizon is at most discount^n / (1 - discount) times the largest reward.

  Args:
    rewards: `[S, A]`.
    transition: `[S, A, S]`, each row a distribution.
    discount: `[]` or `[S, A]`.
    num_iterations: static, n.

  Returns:
    `[S, A]` float32, the action values.

  Reference: Sutton and Barto, Reinforcement Learning, 2nd edition, eq. 4.10.
  """
  rewards, transition = _process(rewards, transition, discount)
  backup = lambda q, _: (rewards + _ahead(transition, jnp.max(q, 1)), None)
  return lax.scan(backup, rewards * 0, None, length=num_iterations)[0]


def soft_value_iteration(
    rewards: Array, transition: Array, discount: Array | float, temperature: Array | float,
    num_iterations: int) -> Array:
  """Iterates `Q = R + discount P V` with `V = temperature log mean_a exp(Q / temperature)` from 0.

  The best policy is `softmax(Q / temperature)`. It pays the temperature times its KL divergence from the uniform
  policy at every step. That is the entropy bonus less `log A` at every step, and the same policy wherever no action
  ends the episode. Where one does, a plain bonus also pays for staying: up to `temperature log A` a step, which may be
  worth more than the goal.

  Args:
    rewards: `[S, A]`.
    transition: `[S, A, S]`, each row a distribution.
    discount: `[]` or `[S, A]`.
    temperature: `[]`, above 0, in units of reward; towards 0 this becomes `value_iteration`.
    num_iterations: static.

  Returns:
    `[S, A]` float32, the action values.

  Reference: Fox, Pakman and Tishby, arXiv:1512.08562, with the uniform prior; soft Q-learning,
  arXiv:1702.08165.
  """
  rewards, transition = _process(rewards, transition, discount)
  temperature = jnp.asarray(temperature).astype(jnp.float32)
  checks.rank(0, temperature=temperature)
  soft_max = lambda q: temperature * (jax.nn.logsumexp(q / temperature, 1) - jnp.log(q.shape[1]))
  backup = lambda q, _: (rewards + _ahead(transition, soft_max(q)), None)
  return lax.scan(backup, rewards * 0, None, length=num_iterations)[0]


def discounted_occupancy(
    transition: Array, policy_probs: Array, initial: Array, discount: Array | float, terminal: Array) -> Array:
  """Says how much of its discounted time a policy spends in each state, terminal states left out.

  Args:
    transition: `[S, A, S]`, each row a distribution.
    policy_probs: `[S, A]`, each row a distribution.
    initial: `[S]`, distribution of the first state.
    discount: `[]` or `[S, A]`, below 1 wherever an episode need not end.
    terminal: `[S]`, True or 1 where an episode has ended; the time spent there is shared out among the others.

  Returns:
    `[S]` float32, sums to 1; all 0 if no time is spent outside of terminal states.

  Reference: ExpAdaRD, arXiv:2402.07019 (its code).
  """
  policy_probs, initial = (jnp.asarray(x).astype(jnp.float32) for x in (policy_probs, initial))
  policy_probs, transition = _process(policy_probs, transition, discount, "policy_probs")
  terminal = jnp.asarray(terminal) > 0
  checks.shape(transition.shape[2:], initial=initial, terminal=terminal)
  spent = jnp.where(terminal, 0, _solve(_mixed(transition, policy_probs).T, initial))
  total = jnp.sum(spent)
  return jnp.where(total <= 0, 0, spent / jnp.where(total <= 0, 1, total))


def _process(table: Array, transition: Array, discount: Array | float, name: str = "rewards") -> tuple[Array, Array]:
  """Checks the shapes; returns the table and the transitions, each times its discount, in float32."""
  table, transition, discount = (jnp.asarray(x).astype(jnp.float32) for x in (table, transition, discount))
  checks.rank(2, **{name: table})
  checks.nonempty(1, **{name: table})
  checks.shape((*table.shape, table.shape[0]), transition=transition)
  checks.rank({0, 2}, discount=discount)
  if discount.ndim:
    checks.same_shape(**{name: table, "discount": discount})
  return table, transition * jnp.broadcast_to(discount, table.shape)[..., None]


def _deterministic(policy: Array, rewards: Array) -> Array:
  policy = jnp.asarray(policy)
  checks.shape(rewards.shape[:1], policy=policy)
  checks.integers(policy=policy)
  return policy


def _no_action(table: Array, policy: Array) -> Array:
  """Says where a policy names no action of the table."""
  return (policy < 0) | (policy >= table.shape[1])


def _chosen(table: Array, policy: Array) -> Array:
  policy = jnp.asarray(policy)
  chosen = jnp.take_along_axis(table, jnp.clip(policy, 0, table.shape[1] - 1)[:, None], 1)[:, 0]
  return jnp.where(_no_action(table, policy), jnp.nan, chosen)  # a negative one would wrap around


def _gap(q: Array, policy: Array) -> Array:
  return _chosen(q, policy)[:, None] - q


def _ahead(transition: Array, values: Array) -> Array:
  return jnp.einsum("saz,z->sa", transition, values, precision="highest")


def _mixed(transition: Array, policy_probs: Array) -> Array:
  return jnp.einsum("sa,saz->sz", policy_probs, transition, precision="highest")


def _solve(transition: Array, source: Array) -> Array:
  """Solves `x = source + transition x` for transitions that are discounted already."""
  with jax.default_matmul_precision("highest"):
    return jnp.linalg.solve(jnp.eye(source.shape[0], dtype=jnp.float32) - transition, source)
