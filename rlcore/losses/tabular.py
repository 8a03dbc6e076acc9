"""Policy gradients of a tabular softmax policy, in closed form, and how they depend on what the agent is paid.

ONE trajectory a call; a batch is the mean of `jax.vmap`. The inner direction of a bi-level program is differentiated
once more (`training.bilevel`), so it is no gradient of a surrogate loss with stopped returns: these would lose the
derivative of the entropy.
"""

import jax
import jax.numpy as jnp

from rlcore import advantages, checks, rewards as reward_lib, stats
from rlcore.types import Array


def tabular_inner_update(
    theta: Array, states: Array, actions: Array, mask: Array, rewards: Array, discount: Array | float,
    ent_coef: Array | float = 0.05) -> Array:
  """Sums scores times entropy-regularised returns: the usual REINFORCE direction, without the outer discount^t.

  Args:
    theta: `[S, A]`, logits of the policy.
    states: `[T]` int.
    actions: `[T]` int.
    mask: `[T]`, > 0 where a step counts.
    rewards: `[T]`, what the agent is paid.
    discount: `[]`; its exponents count places in the array, masked holes included.
    ent_coef: `[]`, weight of the entropy.

  Returns:
    `[S, A]` float32, a direction of ascent. NOT stopped: differentiable in `theta`, `rewards` and `discount`.

  Reference: BARFI, arXiv:2310.19007, inner update.
  """
  scores, log_probs = _scores(theta, states, actions, mask)
  return scores(advantages.regularized_returns(rewards, log_probs, mask, discount, ent_coef))


def tabular_inner_jacobians(
    theta: Array, phi: Array, logit: Array | float, states: Array, actions: Array, mask: Array, primary: Array,
    aux: Array, ent_coef: Array | float = 0.05) -> tuple[Array, Array, Array]:
  """Differentiates `tabular_inner_update` in the policy, the weights of the alignment reward and the discount's logit.

  Args:
    theta: `[S, A]`, logits of the policy.
    phi: `[3]`, bias and the weights of `primary` and `aux`, see `rewards.alignment_reward`.
    logit: `[]`, see `rewards.learned_discount`.
    states: `[T]` int.
    actions: `[T]` int.
    mask: `[T]`, > 0 where a step counts.
    primary: `[T]`, the true reward.
    aux: `[T]`, the heuristic one.
    ent_coef: `[]`, weight of the entropy.

  Returns:
    `(H [P, P], A [P, 3], B [P])` float32 with P = S A, the update's elements row by row. H is NOT symmetric. B appended
    to A treats the logit like the weights.

  Reference: BARFI, arXiv:2310.19007, implicit gradient.
  """
  theta, phi, logit = (jnp.asarray(x).astype(jnp.float32) for x in (theta, phi, logit))
  checks.rank(2, theta=theta)
  checks.shape((3,), phi=phi)
  checks.rank(0, logit=logit)

  def update(flat, phi, logit):
    paid = reward_lib.alignment_reward(*phi, primary, aux, mask)
    discount = reward_lib.learned_discount(logit)
    return tabular_inner_update(flat.reshape(theta.shape), states, actions, mask, paid, discount, ent_coef).ravel()

  return jax.jacrev(update, (0, 1, 2))(theta.ravel(), phi, logit)


def outer_objective_gradient(
    theta: Array, states: Array, actions: Array, mask: Array, primary: Array, discount: Array | float,
    baseline: Array | None = None) -> Array:
  """Estimates the policy gradient of the true return without bias: scores times returns, with the outer discount^t.

  Args:
    theta: `[S, A]`, logits of the policy, which has to be the one that drew the actions.
    states: `[T]` int.
    actions: `[T]` int.
    mask: `[T]`, > 0 where a step counts.
    primary: `[T]`, the true reward.
    discount: `[]`, the true one; its exponents count places in the array, masked holes included.
    baseline: `[T]` or None, constant, subtracted from the return of each step.

  Returns:
    `[S, A]` float32, one trajectory's estimate.

  Reference: BARFI, arXiv:2310.19007, outer objective.
  """
  scores, log_probs = _scores(theta, states, actions, mask)
  returns = advantages.regularized_returns(primary, jnp.zeros_like(log_probs), mask, discount, 0.0)
  if baseline is not None:
    checks.same_shape(mask=mask, baseline=baseline)
    returns -= stats.masked(jax.lax.stop_gradient(jnp.asarray(baseline)), mask)
  steps = jnp.where(jnp.arange(returns.size) > 0, jnp.asarray(discount).astype(jnp.float32), 1)
  return scores(jnp.cumprod(steps) * returns)


def _scores(theta: Array, states: Array, actions: Array, mask: Array):
  """Returns `weights [T] -> sum_t weights_t d log pi(a_t | s_t) / d theta` and the log-probabilities `[T]`."""
  theta = jnp.asarray(theta).astype(jnp.float32)
  states, actions, mask = map(jnp.asarray, (states, actions, mask))
  checks.rank(2, theta=theta)
  checks.nonempty(0, theta=theta)
  checks.nonempty(1, theta=theta)
  checks.rank(1, states=states)
  checks.integers(states=states, actions=actions)
  checks.same_shape(states=states, actions=actions, mask=mask)
  # A step that names no state or action of the table moves nothing; a negative one would wrap around.
  keep = (mask > 0) & (states >= 0) & (states < theta.shape[0]) & (actions >= 0) & (actions < theta.shape[1])
  states, actions = jnp.where(keep, states, 0), jnp.where(keep, actions, 0)
  log_probs, vjp = jax.vjp(lambda theta: jax.nn.log_softmax(theta)[states, actions], theta)
  return lambda weights: vjp(stats.masked(weights, keep))[0], log_probs
