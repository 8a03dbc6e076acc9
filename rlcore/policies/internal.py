"""Acting inside of a frozen recurrent model: codes are discovered in its residual stream, then a policy chooses them.

For the policy over codes, model, switch and decoder belong to the world: it acts only where the switch opens, and what
it chose is held until then.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rlcore.models.metacontroller import CodePolicy, ControlledGRU, Metacontroller
from rlcore.policies import actor_critic, controller
from rlcore.types import Agent, Array, PyTree, Scores, Trajectory, World


class Discovery(NamedTuple):
  """What a metacontroller made of a sequence.

  Attributes:
    residual: `[T, D]`, rewritten.
    mean: `[T, Z]`, of the codes that were proposed.
    log_var: `[T, Z]`.
    beta: `[T]`, how far each was taken over.
    code: `[T, Z]`, the codes held.
  """

  residual: Array
  mean: Array
  log_var: Array
  beta: Array
  code: Array


def discover(meta: Metacontroller, params: PyTree, residual: Array, mask: Array, noise: Array) -> Discovery:
  """Runs a metacontroller over a recorded sequence, with soft switches.

  Args:
    meta: the modules.
    params: their parameters.
    residual: `[T, D]`.
    mask: `[T]`, > 0 where a step counts; padding may only follow what counts.
    noise: `[T, Z]`, standard normal, of the codes.

  Returns:
    `Discovery`, differentiable in the parameters and the residual. What it holds of masked steps is junk.

  Reference: Internal RL, arXiv:2512.20605.
  """
  residual = jnp.where((mask > 0)[:, None], residual, 0)
  mean, log_var = meta.apply(params, residual, mask, method="propose")
  proposed = mean + jnp.exp(log_var / 2) * noise

  def step(carry, place):
    state, code = carry
    residual, proposed = place
    state, beta = meta.apply(params, state, residual, code, method="switch_step")
    code = beta * proposed + (1 - beta) * code  # `temporal_integration`, but that the switch reads the code before
    return (state, code), (beta, code)

  start = jnp.zeros(meta.hidden), jnp.zeros(meta.code)
  _, (beta, code) = jax.lax.scan(step, start, (residual, proposed), unroll=4)
  residual = jax.vmap(functools.partial(control, meta, params))(residual, code)
  return Discovery(residual, mean, log_var, beta, code)


def control(meta: Metacontroller, params: PyTree, residual: Array, code: Array) -> Array:
  """Rewrites a residual `[D]` by the controller of a code `[Z]`."""
  return controller.apply_controller(residual, *meta.apply(params, code, method="decode"))


def make_internal_agent(
    world: World, base: ControlledGRU, meta: Metacontroller, policy: CodePolicy, *, threshold: Array | float = 0.5,
    every_step: Array | float = 0.0) -> Agent:
  """Makes a policy over codes that acts where the switch of a frozen metacontroller opens.

  Args:
    world: where the base model acts; an episode must not be longer than it can be.
    base: the frozen model; its actions are drawn from its head.
    meta: the frozen metacontroller; of it switch and decoder are used.
    policy: what is trained.
    threshold: of the switch, to be exceeded; in the first step it is open in any case.
    every_step: > 0 opens the switch at every step: no abstraction in time.

  Returns:
    The agent. Its parameters are `{"policy": ..., "base": ..., "meta": ...}`; the last two get no gradient, and are to
    be replaced by trained ones. The log-probabilities of an episode are those of the codes, 0 where none was chosen;
    `info` has beside the world's own `residual` `[T, D]`, `code` `[T, Z]` and `switch` `[T]`, which `score` reads, and
    `beta` `[T]`. Entropies are 0.

  Reference: Internal RL, arXiv:2512.20605.
  """
  def init(key):
    keys = jax.random.split(key, 3)
    residual = jnp.zeros((1, base.size))
    observation = jnp.zeros((1, world.observation_size))
    return {"policy": policy.init(keys[0], residual), "base": base.init(keys[1], observation),
            "meta": meta.init(keys[2], residual, jnp.ones(1))}

  def rollout(params, key, instance):
    reset_key, run_key = jax.random.split(key)

    def step(carry, place):
      (observation, state, alive), lower, upper, switch, memory, code = carry
      key, first = place
      code_key, action_key, world_key = jax.random.split(key, 3)
      lower = base.apply(params["base"], lower, observation, method="read_step")
      switch, beta = meta.apply(params["meta"], switch, lower, code, method="switch_step")
      memory, mean, log_var = policy.apply(params["policy"], memory, lower, method="step")
      opened = first | (beta > threshold) | (jnp.asarray(every_step) > 0)
      chosen = mean + jnp.exp(log_var / 2) * jax.random.normal(code_key, mean.shape)
      code = jnp.where(opened, chosen, code)
      log_prob = jnp.where(opened, controller.gaussian_log_prob(code, mean, log_var), 0.0)
      upper, logits = base.apply(params["base"], upper, control(meta, params["meta"], lower, code), method="write_step")
      action = jax.random.categorical(action_key, logits)
      own = {"residual": lower, "code": code, "switch": alive * opened.astype(jnp.float32), "beta": beta}
      play, transition = _transition(world, world_key, observation, state, alive, action, log_prob, instance, own)
      return (play, lower, upper, switch, memory, code), transition

    sizes = base.size, base.size, meta.hidden, policy.hidden, meta.code
    start = ((*world.reset(reset_key, instance), jnp.ones((), bool)), *map(jnp.zeros, sizes))
    first = jnp.arange(world.horizon) == 0
    return jax.lax.scan(step, start, (jax.random.split(run_key, world.horizon), first))[1]

  def score(params, trajectory):
    info = trajectory.info
    mean, log_var = policy.apply(params["policy"], info["residual"])
    log_probs = jax.vmap(controller.gaussian_log_prob)(info["code"], mean, log_var)
    zeros = jnp.zeros_like(log_probs)
    return Scores(jnp.where(info["switch"] > 0, log_probs, 0.0), zeros, zeros)

  return Agent(init, rollout, score)


def make_recurrent_agent(world: World, base: ControlledGRU) -> Agent:
  """Makes a policy of a recurrent model that acts step by step, without control.

  Args:
    world: where it acts.
    base: the model; all of it is trained.

  Returns:
    The agent. Its parameters are `{"base": ...}`; `score` reads the observations of an episode from its first step on.
  """
  def init(key):
    return {"base": base.init(key, jnp.zeros((1, world.observation_size)))}

  def rollout(params, key, instance):
    reset_key, run_key = jax.random.split(key)

    def step(carry, key):
      (observation, state, alive), lower, upper = carry
      action_key, world_key = jax.random.split(key)
      lower = base.apply(params["base"], lower, observation, method="read_step")
      upper, logits = base.apply(params["base"], upper, lower, method="write_step")
      action = jax.random.categorical(action_key, logits)
      log_prob = jax.nn.log_softmax(logits)[action]
      play, transition = _transition(world, world_key, observation, state, alive, action, log_prob, instance, {})
      return (play, lower, upper), transition

    begin = (*world.reset(reset_key, instance), jnp.ones((), bool))
    zeros = jnp.zeros(base.size)
    return jax.lax.scan(step, (begin, zeros, zeros), jax.random.split(run_key, world.horizon))[1]

  def score(params, trajectory):
    return actor_critic.categorical_scores(base.apply(params["base"], trajectory.observation), trajectory.action)

  return Agent(init, rollout, score)


def _transition(world: World, key: Array, observation: PyTree, state: PyTree, alive: Array, action: Array,
                log_prob: Array, instance: PyTree, info: dict[str, Array]) -> tuple[PyTree, Trajectory]:
  """Takes one step of an episode, or stands still after its end."""
  act = lambda key, observation, state: (action, log_prob)
  value = lambda observation: jnp.zeros(())
  (after, state, _, alive), step = actor_critic.transition(
      world, act, value, instance, (observation, state, jnp.zeros(()), alive), key)
  return (after, state, alive), step.replace(info=step.info | info)
