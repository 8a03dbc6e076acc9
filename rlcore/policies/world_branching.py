"""Rollouts that branch: several candidates for each step, one of which the rollout goes on from."""

from collections.abc import Callable
import functools

import jax
import jax.numpy as jnp

from rlcore.policies import actor_critic
from rlcore.types import Array, PyTree, Trajectory, World


def branching_rollout(
    world: World,
    logits: actor_critic.Logits,
    value: actor_critic.Value,
    params: PyTree,
    key: Array,
    instance: PyTree,
    *,
    candidates: int,
    tokens: int,
    choose: Callable[[Trajectory], Array],
    branch: float | Array = 1.0,
    judge: Callable[[Trajectory], Trajectory] | None = None,
) -> Trajectory:
  """Plays k candidates for each step of one episode and goes on from one of them (truncated step-level sampling).

  A step is `tokens` actions of the world. Without `branch` every row goes on from its own step, so that the k rows are
  k independent episodes and both kinds of rollout are one compiled program.

  Args:
    world: where; its horizon is a multiple of `tokens`.
    logits: `(params, observation) -> [A]`.
    value: `(params, observation) -> []`.
    params: of the policy.
    key: PRNG key.
    instance: the world's params.
    candidates: k.
    tokens: actions of a step.
    choose: `(Trajectory of [k, tokens]) -> [k]`, probabilities of going on from each candidate.
    branch: > 0 to branch; may be traced.
    judge: `(Trajectory of [k, tokens]) -> the same` with more, or other, `info`: what `choose` reads and nobody knows
      before the candidates are there; or None.

  Returns:
    `Trajectory` of `[k, horizon, ...]`. Row j holds candidate j of every step, each after the steps chosen before it;
    `mask` is 0 after a chosen step that ended the episode.

  Raises:
    ValueError: if the horizon is no multiple of `tokens`.

  Reference: SLATE, arXiv:2602.23440.
  """
  if world.horizon % tokens:
    raise ValueError(f"the horizon {world.horizon} is no multiple of the {tokens} tokens of a step")
  reset_key, run_key = jax.random.split(key)
  worth = functools.partial(value, params)
  act = functools.partial(actor_critic.transition, world, actor_critic.sampled(logits, params), worth, instance)
  shared = actor_critic.start(world, worth, reset_key, instance)
  rows = jax.tree.map(lambda x: jnp.broadcast_to(x, (candidates, *x.shape)), shared)

  def step(rows, key):
    play_key, choose_key = jax.random.split(key)
    keys = jax.random.split(play_key, (candidates, tokens))
    own, pieces = jax.vmap(functools.partial(jax.lax.scan, act))(rows, keys)
    pieces = pieces if judge is None else judge(pieces)
    chosen = jax.random.categorical(choose_key, jnp.log(choose(pieces)))
    go_on = jnp.where(jnp.asarray(branch) > 0, chosen, jnp.arange(candidates))
    return jax.tree.map(lambda x: x[go_on], own), pieces

  _, pieces = jax.lax.scan(step, rows, jax.random.split(run_key, world.horizon // tokens))
  # [S, k, tokens, ...] to [k, S * tokens, ...]
  return jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1).reshape(candidates, world.horizon, *x.shape[3:]), pieces)
