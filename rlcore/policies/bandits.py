"""Bandits: what is known of the arms, policies that remember, and the streams of pulls that they make."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rlcore import checks
from rlcore.types import Array, PyTree, Trajectory, World


class RememberingPolicy(NamedTuple):
  """A policy with a memory of its own.

  Attributes:
    memory: pytree of arrays, what it remembers before the first step.
    act: `(key, memory, observation, state) -> (action int32, memory)`; `state` is the world's own, for policies that
      may know what an agent does not.
  """

  memory: PyTree
  act: Callable[[Array, PyTree, Array, PyTree], tuple[Array, PyTree]]


def gaussian_posterior(
    prior_mean: Array | float, prior_var: Array | float, noise_var: Array | float, pulls: Array, reward_sums: Array
) -> tuple[Array, Array]:
  """Updates a Gaussian belief about the mean reward of every arm; Thompson sampling draws from it.

  Args:
    prior_mean: `[]`, of every arm.
    prior_var: `[]`, at least 0.
    noise_var: `[]`, variance of a reward around its arm's mean; 0 makes one pull tell all.
    pulls: `[K]`, how often each arm was pulled.
    reward_sums: `[K]`, what it paid in sum; not read where there was no pull.

  Returns:
    `(mean [K], variance [K])`, float32; the prior for an arm that was never pulled.

  Reference: D. Russo et al., A Tutorial on Thompson Sampling, arXiv:1707.02038; as a baseline: arXiv:2508.01287.
  """
  prior_mean, prior_var, noise_var, pulls, reward_sums = (
      jnp.asarray(x, jnp.float32) for x in (prior_mean, prior_var, noise_var, pulls, reward_sums))
  checks.rank(0, prior_mean=prior_mean, prior_var=prior_var, noise_var=noise_var)
  checks.rank(1, pulls=pulls)
  checks.same_shape(pulls=pulls, reward_sums=reward_sums)
  known = (pulls > 0) & (prior_var > 0)
  sums = jnp.where(known, reward_sums - pulls * prior_mean, 0)
  scale = jnp.where(known, noise_var + pulls * prior_var, 1)
  mean = prior_mean + prior_var * sums / scale
  return mean, jnp.where(known, prior_var * noise_var / scale, prior_var)


def remembering_rollout(world: World, policy: RememberingPolicy, key: Array, instance: PyTree) -> Trajectory:
  """Plays a policy with a memory for the whole horizon of a world that does not end before.

  Args:
    world: where.
    policy: who acts.
    key: PRNG key; the randomness of the world does not depend on what is done.
    instance: the world's params.

  Returns:
    `Trajectory` of `[horizon, ...]`, with the world's `info`; `discount_t` is 0 where the world terminated, else 1.
    Log-probabilities and values are 0.
  """
  reset_key, act_key, run_key = jax.random.split(key, 3)
  zero = jnp.zeros((), jnp.float32)

  def step(carry, keys):
    memory, observation, state = carry
    action, memory = policy.act(keys[0], memory, observation, state)
    after, state, reward, terminated, _, info = world.step(keys[1], state, action, instance)
    discount = 1 - jnp.asarray(terminated, jnp.float32)
    seen = Trajectory(observation, action, reward, discount, zero, zero, zero, jnp.ones(()), info)
    return (memory, after, state), seen

  keys = jnp.stack([jax.random.split(k, world.horizon) for k in (act_key, run_key)], 1)
  return jax.lax.scan(step, (policy.memory, *world.reset(reset_key, instance)), keys)[1]


def _counting_policy(num_arms: int, choose: Callable[[Array, Array, Array], Array]) -> RememberingPolicy:
  """Makes a policy of `(key, pulls [K], sums [K]) -> arm` on a bandit stream; it is told where blocks begin."""
  def act(key, memory, observation, state):
    pulled, reward = observation[:-1], observation[-1]
    pulls, sums = (jnp.where(state.fresh, 0, x) for x in (memory[0] + pulled, memory[1] + pulled * reward))
    return choose(key, pulls, sums).astype(jnp.int32), (pulls, sums)

  return RememberingPolicy((jnp.zeros(num_arms), jnp.zeros(num_arms)), act)


def make_thompson_sampling(
    num_arms: int, prior_var: Array | float = 1.0, noise_var: Array | float = 0.25) -> RememberingPolicy:
  """Pulls the best arm of a draw from the belief; of `envs.bandit_stream`, and told where blocks begin.

  Args:
    num_arms: K.
    prior_var: `[]`, variance of the means, which are 0 on average.
    noise_var: `[]`, variance of a reward.

  Returns:
    The policy.

  Reference: D. Russo et al., A Tutorial on Thompson Sampling, arXiv:1707.02038; as a baseline: arXiv:2508.01287.
  """
  def choose(key, pulls, sums):
    mean, variance = gaussian_posterior(0.0, prior_var, noise_var, pulls, sums)
    return jnp.argmax(mean + jnp.sqrt(variance) * jax.random.normal(key, (num_arms,)))

  return _counting_policy(num_arms, choose)


def make_epsilon_greedy(num_arms: int, epsilon: Array | float = 0.1) -> RememberingPolicy:
  """Pulls the arm with the best average so far, or any; of `envs.bandit_stream`, and told where blocks begin.

  Args:
    num_arms: K.
    epsilon: `[]`, probability of a uniform arm. An arm that was never pulled has average 0.

  Returns:
    The policy.

  Reference: Sutton and Barto, Reinforcement Learning, 2nd edition, sec. 2.2; as a baseline: arXiv:2508.01287.
  """
  return _counting_policy(
      num_arms, lambda key, pulls, sums: epsilon_greedy(key, sums / jnp.maximum(pulls, 1), epsilon))


def epsilon_greedy(key: Array, values: Array, epsilon: Array | float, *, random_ties: bool = False) -> Array:
  """Chooses the largest value, or with probability `epsilon` any place.

  Args:
    key: PRNG key.
    values: `[K]`.
    epsilon: `[]`; 0 is greedy.
    random_ties: static; draws among equal largest values, where the first one is taken else.

  Returns:
    int32, a place.

  Reference: Sutton and Barto, Reinforcement Learning, 2nd edition, sec. 2.2.
  """
  checks.rank(1, values=values)
  if random_ties:  # the highest of the draws among those that may be chosen
    draws = jax.random.uniform(key, (values.shape[0] + 1,))
    allowed = (values >= jnp.max(values)) | (draws[-1] < epsilon)
    return jnp.argmax(jnp.where(allowed, draws[:-1], -1)).astype(jnp.int32)
  luck, uniform = jax.random.uniform(key, (2,))
  return jnp.where(luck < epsilon, (uniform * values.shape[0]).astype(jnp.int32), jnp.argmax(values).astype(jnp.int32))
