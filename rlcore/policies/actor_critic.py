"""Policies with discrete actions in a world: episodes, and what the policy thinks of them."""

from collections.abc import Callable, Sequence
import functools

import jax
import jax.numpy as jnp

from rlcore import checks
from rlcore.models import mlp
from rlcore.types import Agent, Array, PyTree, Scores, Trajectory, World

Logits = Callable[[PyTree, Array], Array]
Value = Callable[[PyTree, Array], Array]
Script = Callable[[Array, PyTree, PyTree], Array]
Act = Callable[[Array, Array, PyTree], tuple[Array, Array]]


def start(world: World, value: Callable[[Array], Array], key: Array, instance: PyTree) -> PyTree:
  """Resets the world: what `transition` carries before the first step; `value` is `(observation) -> []`."""
  observation, state = world.reset(key, instance)
  return observation, state, value(observation), jnp.ones((), bool)


def transition(
    world: World, act: Act, value: Callable[[Array], Array], instance: PyTree, carry: PyTree,
    key: Array) -> tuple[PyTree, Trajectory]:
  """Takes one step of an episode, or stands still after its end; returns the carry and the step."""
  observation, state, value_t, alive = carry
  act_key, world_key = jax.random.split(key)
  action, log_prob = act(act_key, observation, state)
  after, next_state, reward, terminated, truncated, info = world.step(world_key, state, action, instance)
  value_tp1 = value(after)
  counted = alive.astype(jnp.float32)
  step = Trajectory(
      observation=observation, action=action, reward_t=counted * reward,
      discount_t=counted * (1 - jnp.asarray(terminated, jnp.float32)), log_prob_old=counted * log_prob,
      value_t=counted * value_t, value_tp1=counted * value_tp1, mask=counted, info=info)
  keep = lambda new, old: jax.tree.map(lambda a, b: jnp.where(alive, a, b), new, old)
  carry = (*keep((after, next_state, value_tp1), (observation, state, value_t)), alive & ~(terminated | truncated))
  return carry, step


def sampled(logits: Logits, params: PyTree) -> Act:
  """Acts by drawing from a policy: `(key, observation, state) -> (action, log_prob)`."""
  def act(key, observation, state):
    del state
    scores = logits(params, observation)
    action = jax.random.categorical(key, scores)
    return action, jax.nn.log_softmax(scores)[action]

  return act


def _episode(world: World, act: Act, value: Callable[[Array], Array], key: Array, instance: PyTree) -> Trajectory:
  reset_key, run_key = jax.random.split(key)
  step = functools.partial(transition, world, act, value, instance)
  return jax.lax.scan(step, start(world, value, reset_key, instance), jax.random.split(run_key, world.horizon))[1]


def rollout(world: World, logits: Logits, value: Value, params: PyTree, key: Array, instance: PyTree) -> Trajectory:
  """Plays one episode, by a scan over the world's horizon.

  What follows the end of the episode has `mask` 0, reward 0 and the last observation; the world stands still there.

  Args:
    world: where.
    logits: `(params, observation) -> [A]`.
    value: `(params, observation) -> []`.
    params: of the policy.
    key: PRNG key; all randomness of the episode comes from it.
    instance: the world's params.

  Returns:
    `Trajectory` of `[horizon, ...]`, with the world's `info`; `discount_t` is 0 where the world terminated, else 1.
  """
  return _episode(world, sampled(logits, params), functools.partial(value, params), key, instance)


def scripted_rollout(world: World, script: Script, key: Array, instance: PyTree) -> Trajectory:
  """Plays one episode of a script that may look behind the observation, to be imitated.

  Args:
    world: where.
    script: `(key, state, instance) -> action`.
    key: PRNG key; all randomness of the episode comes from it.
    instance: the world's params.

  Returns:
    As `rollout`, with log-probabilities and values of 0.
  """
  zero = jnp.zeros((), jnp.float32)
  act = lambda key, observation, state: (script(key, state, instance), zero)
  return _episode(world, act, lambda observation: zero, key, instance)


def categorical_scores(logits: Array, action: Array, values: Array | None = None) -> Scores:
  """Scores the actions of a trajectory under a categorical policy.

  Args:
    logits: `[T, A]`.
    action: `[T]` int32.
    values: `[T]`, or None for zeros.

  Returns:
    `Scores` of `[T]`. An action with logit -inf is impossible: it adds nothing to the entropy, and no gradient.
  """
  log_probs = jax.nn.log_softmax(logits.astype(jnp.float32))
  finite = jnp.where(jnp.isfinite(log_probs), log_probs, 0.0)
  entropy = -jnp.sum(jnp.exp(log_probs) * finite, -1)
  chosen = jnp.take_along_axis(log_probs, action[..., None], -1)[..., 0]
  return Scores(chosen, entropy, jnp.zeros_like(chosen) if values is None else values)


def make_actor_critic(
    world: World,
    *,
    hidden: Sequence[int] = (64, 64),
    critic: bool = True,
    activation: str = "tanh",
    zero_policy: bool = False,
    policy_mask: Callable[[Array], Array] | None = None,
    play: Callable[..., Trajectory] = rollout,
) -> Agent:
  """Makes a policy MLP and, separate from it, a critic MLP on the world's observations.

  Args:
    world: where it acts.
    hidden: widths of the hidden layers of either network.
    critic: whether there is a critic; values are 0 without one.
    activation: of the hidden layers, see `models.mlp.MLP`.
    zero_policy: start from the uniform policy.
    policy_mask: `(observation) -> [A]`, > 0 where an action is allowed; None allows all.
    play: how an episode is played, with the arguments of `rollout`; `branching_rollout` plays a group.

  Returns:
    The agent. Its parameters are `{"policy": ..., "value": ...}`, the latter only with a critic.

  Raises:
    ValueError: for hidden layers that are one number, or a world without discrete actions.
  """
  checks.widths(hidden=hidden)
  checks.whole(1, num_actions=world.num_actions)
  actor = mlp.MLP(hidden, world.num_actions, activation, zero_policy)
  judge = mlp.MLP(hidden, 1, activation)

  def init(key):
    actor_key, critic_key = jax.random.split(key)
    example = jnp.zeros(world.observation_size)
    params = {"policy": actor.init(actor_key, example)}
    return params | ({"value": judge.init(critic_key, example)} if critic else {})

  def logits(params, observation):
    scores = actor.apply(params["policy"], observation)
    return scores if policy_mask is None else jnp.where(policy_mask(observation) > 0, scores, -jnp.inf)

  def value(params, observation):
    return judge.apply(params["value"], observation)[0] if critic else jnp.zeros(())

  def score(params, trajectory):
    every = lambda function: jax.vmap(lambda observation: function(params, observation))(trajectory.observation)
    return categorical_scores(every(logits), trajectory.action, every(value))

  return Agent(init, lambda params, key, instance: play(world, logits, value, params, key, instance), score)
