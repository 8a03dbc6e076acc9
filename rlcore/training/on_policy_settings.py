"""The algorithms on streams as settings of `on_policy.OnPolicyParts`: PPO, A2C, REINFORCE, V-trace actor-critic.

Credit is `(Stream of [T], log_probs [T]) -> (advantages [T], value targets [T])`; `log_probs` are those of the policy
that learns, which are `log_prob_old` unless credit is assigned anew in every gradient step.
"""

from collections.abc import Callable
import functools
from typing import Any

import jax
import jax.numpy as jnp

from rlcore import advantages, losses
from rlcore.types import Array, Stream

Credit = Callable[[Stream, Array], tuple[Array, Array]]


def gae_credit(stream: Stream, log_probs: Array, *, lam: Array | float = 0.95) -> tuple[Array, Array]:
  """Estimates advantages by `advantages.gae`; the targets are the lambda-returns."""
  del log_probs
  return advantages.gae(stream.reward_t, stream.value_t, None, stream.discount_t, lam, value_tp1=stream.value_tp1,
                        truncated=stream.truncated)


def n_step_credit(stream: Stream, log_probs: Array, *, n: int = 5) -> tuple[Array, Array]:
  """Takes n-step returns as targets, and as advantages what they have over the value."""
  del log_probs
  targets = advantages.n_step_returns(
      stream.reward_t, stream.discount_t, stream.value_tp1, n, truncated=stream.truncated)
  return targets - stream.value_t, targets


def return_credit(stream: Stream, log_probs: Array) -> tuple[Array, Array]:
  """Takes the discounted return to the end of the episode, from the value where that was not reached."""
  del log_probs
  targets = advantages.lambda_returns(
      stream.reward_t, stream.discount_t, stream.value_tp1, truncated=stream.truncated)
  return targets - stream.value_t, targets


def vtrace_credit(stream: Stream, log_probs: Array, *, lam: Array | float = 1.0, **clips) -> tuple[Array, Array]:
  """Corrects for the steps that the policy has taken since; `clips` are those of `advantages.vtrace`."""
  rho_t = jnp.exp(jax.lax.stop_gradient(log_probs) - stream.log_prob_old)
  targets, advantage = advantages.vtrace(
      stream.reward_t, stream.discount_t, stream.value_t, stream.value_tp1, rho_t, lam, truncated=stream.truncated,
      **clips)
  return advantage, targets


def ppo(
    *, lam: Array | float = 0.95, clip: Array | float = 0.2, entropy_coef: Array | float = 0.01,
    value_coef: Array | float = 0.5, value_clip: Array | float | None = None, epochs: int = 4,
    minibatches: int = 4) -> dict[str, Any]:
  """Gives the settings of PPO, for `OnPolicyParts(..., **ppo())`.

  Reference: PPO, arXiv:1707.06347; whitening per minibatch, as in its official code.
  """
  return dict(credit=functools.partial(gae_credit, lam=lam),
              policy_loss=functools.partial(losses.clip_policy_loss, clip_low=clip, clip_high=None),
              entropy_coef=entropy_coef, value_coef=value_coef, value_clip=value_clip, epochs=epochs,
              minibatches=minibatches, whiten="minibatch")


def a2c(
    *, n: int = 5, entropy_coef: Array | float = 0.01, value_coef: Array | float = 0.5,
    whiten: str = "none") -> dict[str, Any]:
  """Gives the settings of A2C: n-step returns, one gradient step a rollout.

  Reference: A3C, arXiv:1602.01783, without its asynchrony.
  """
  return dict(credit=functools.partial(n_step_credit, n=n), policy_loss=losses.reinforce_policy_loss,
              entropy_coef=entropy_coef, value_coef=value_coef, epochs=1, minibatches=1, whiten=whiten)


def reinforce(
    *, entropy_coef: Array | float = 0.0, value_coef: Array | float = 0.5, whiten: str = "batch") -> dict[str, Any]:
  """Gives the settings of REINFORCE, with the critic as baseline.

  With a policy without critic (`make_stream_policy(..., critic=False)`) values are 0: the plain return, which lacks
  what comes after the end of the rollout.

  Reference: R. Williams, Simple Statistical Gradient-Following Algorithms (1992).
  """
  return dict(credit=return_credit, policy_loss=losses.reinforce_policy_loss, entropy_coef=entropy_coef,
              value_coef=value_coef, epochs=1, minibatches=1, whiten=whiten)


def vtrace_actor_critic(
    *, lam: Array | float = 1.0, rho_clip: Array | float = 1.0, entropy_coef: Array | float = 0.01,
    value_coef: Array | float = 0.5, epochs: int = 1, minibatches: int = 4) -> dict[str, Any]:
  """Gives the settings of IMPALA's learner: V-trace under the present policy in every gradient step.

  Reference: IMPALA, arXiv:1802.01561.
  """
  return dict(credit=functools.partial(vtrace_credit, lam=lam, rho_clip=rho_clip, pg_rho_clip=rho_clip),
              policy_loss=losses.reinforce_policy_loss, fresh_credit=True, entropy_coef=entropy_coef,
              value_coef=value_coef, epochs=epochs, minibatches=minibatches, whiten="none")
