"""What makes a reward good to learn from: how informative it is, and whether it keeps an expert's policy optimal.

Tables of ONE Markov decision process, see `rlcore.tabular`. `reward_models.design` finds the best reward under these
measures.
"""

import jax.numpy as jnp

from rlcore import checks, stats, tabular
from rlcore.types import Array


def informativeness(
    rewards: Array, transition: Array, policy: Array, optimal: Array, margin: Array, discount: Array | float,
    num_terms: tuple[int, ...] = (1, 4, 8, 16, 32)) -> Array:
  """Says how well short horizons already tell an expert's action from worse ones.

  The gap that falls most short of the margin counts, once for every state and horizon; their mean, negated.

  Args:
    rewards: `[S, A]`, the reward that is judged.
    transition: `[S, A, S]`.
    policy: `[S]` int, the expert's action.
    optimal: `[S, A]`, True or 1 at all actions that are optimal under the original reward.
    margin: `[S]`, `tabular.state_margin` under the ORIGINAL reward.
    discount: `[]` or `[S, A]`.
    num_terms: static, the horizons as numbers of rewards, at least one.

  Returns:
    float32[], at most 0; differentiable in `rewards`. States without a worse action add 0 but are counted.

  Raises:
    ValueError: for no horizon, or a negative one.

  Reference: EXPRD, arXiv:2503.21949, ch. 3.
  """
  if not num_terms:
    raise ValueError("num_terms is empty: informativeness needs at least one horizon")
  optimal, margin = _expert(rewards, optimal, margin)
  q = tabular.horizon_qs(rewards, transition, policy, discount, num_terms)
  gaps = jnp.take_along_axis(q, jnp.asarray(policy)[None, :, None], 2) - q
  short = jnp.where(optimal, 0, margin[:, None] - gaps)
  return -stats.masked_mean(jnp.max(short, 2, initial=0))


def invariance_violation(
    rewards: Array, transition: Array, policy: Array, optimal: Array, margin: Array,
    discount: Array | float) -> Array:
  """Says by how much a reward fails to keep the expert's policy optimal with its margins.

  Args:
    rewards: `[S, A]`, the reward that is judged.
    transition: `[S, A, S]`.
    policy: `[S]` int, the expert's action.
    optimal: `[S, A]`, True or 1 at all actions that are optimal under the original reward.
    margin: `[S]`, by how much every other action has to be worse in the long run.
    discount: `[]` or `[S, A]`.

  Returns:
    float32[], the largest violation over states and actions, 0 if there is none.

  Reference: EXPRD, arXiv:2503.21949, ch. 3.
  """
  optimal, margin = _expert(rewards, optimal, margin)
  gap = tabular.optimality_gap(rewards, transition, policy, discount)
  return jnp.max(jnp.where(optimal, 0, margin[:, None]) - gap, initial=0)


def adaptive_informativeness(
    rewards: Array, policy_probs: Array, expert_advantage: Array, expert_occupancy: Array,
    learner_occupancy: Array) -> Array:
  """Says how much one policy-gradient step on a reward helps the CURRENT learner in the true task.

  Args:
    rewards: `[S, A]`, the reward that is judged.
    policy_probs: `[S, A]`, the learner's policy.
    expert_advantage: `[S, A]`, advantages of the expert's policy under the original reward.
    expert_occupancy: `[S]`, see `tabular.discounted_occupancy`.
    learner_occupancy: `[S, A]`, the learner's occupancy of states times its policy, which enters once more; ones drop
      the factor, as a second path of the released code does.

  Returns:
    float32[], linear in `rewards`.

  Reference: ExpAdaRD, arXiv:2402.07019.
  """
  rewards = jnp.asarray(rewards).astype(jnp.float32)
  weights = adaptive_weights(policy_probs, expert_advantage, expert_occupancy, learner_occupancy)
  checks.same_shape(policy_probs=weights, rewards=rewards)
  return jnp.sum(weights * rewards)


def adaptive_weights(
    policy_probs: Array, expert_advantage: Array, expert_occupancy: Array, learner_occupancy: Array) -> Array:
  """Computes what `adaptive_informativeness` weighs rewards with: the objective of a linear program.

  Args:
    policy_probs: `[S, A]`, the learner's policy, each row a distribution.
    expert_advantage: `[S, A]`.
    expert_occupancy: `[S]`.
    learner_occupancy: `[S, A]`.

  Returns:
    `[S, A]` float32; every row sums to 0, so that a constant added to the rewards of a state changes nothing.

  Reference: ExpAdaRD, arXiv:2402.07019.
  """
  policy_probs, expert_advantage, expert_occupancy, learner_occupancy = (
      jnp.asarray(x).astype(jnp.float32)
      for x in (policy_probs, expert_advantage, expert_occupancy, learner_occupancy))
  checks.rank(2, policy_probs=policy_probs)
  checks.same_shape(
      policy_probs=policy_probs, expert_advantage=expert_advantage, learner_occupancy=learner_occupancy)
  checks.shape(policy_probs.shape[:1], expert_occupancy=expert_occupancy)
  centred = expert_advantage - jnp.sum(policy_probs * expert_advantage, 1, keepdims=True)
  weights = expert_occupancy[:, None] * learner_occupancy * policy_probs * centred
  return weights - policy_probs * jnp.sum(weights, 1, keepdims=True)


def _expert(rewards: Array, optimal: Array, margin: Array) -> tuple[Array, Array]:
  """Checks what is known of the expert and returns it as bool and float32."""
  optimal, margin = jnp.asarray(optimal) > 0, jnp.asarray(margin).astype(jnp.float32)
  checks.rank(2, rewards=rewards)
  checks.same_shape(rewards=rewards, optimal=optimal)
  checks.shape(optimal.shape[:1], margin=margin)
  return optimal, margin
