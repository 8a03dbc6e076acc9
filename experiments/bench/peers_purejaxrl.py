"""PureJaxRL's PPO as a contestant of `experiments.bench.ppo`, written anew from what it publishes.

The original stops at gymnax 0.0.9, whose `step` returns five values. This keeps its algorithm and its habits that cost
or save time: one closure a run, gymnax's own auto-reset and log wrapper, orthogonal weights, a scan unrolled 16 times
for GAE, a value loss that is clipped, one permutation an epoch, Adam with eps 1e-5 and a rate that falls to 0. As
there, an episode that runs out of time ends as if it had failed.
"""

import importlib.metadata
from typing import NamedTuple

from flax import linen as nn
import gymnax
from gymnax.wrappers import purerl
import jax
import jax.numpy as jnp
import optax

from experiments.bench import ppo_task as task


class ActorCritic(nn.Module):
  """Two towers of tanh layers."""

  @nn.compact
  def __call__(self, x):
    dense = lambda width, scale: nn.Dense(width, kernel_init=nn.initializers.orthogonal(scale))
    tower = lambda x: nn.tanh(dense(task.HIDDEN, 2**0.5)(nn.tanh(dense(task.HIDDEN, 2**0.5)(x))))
    return dense(task.ACTIONS, 0.01)(tower(x)), dense(1, 1.0)(tower(x))[..., 0]


class Transition(NamedTuple):
  """One step of all worlds."""

  done: jax.Array
  action: jax.Array
  value: jax.Array
  reward: jax.Array
  log_prob: jax.Array
  observation: jax.Array
  length: jax.Array  # of the episode that ended last


def _log_prob(logits, action):
  return jnp.take_along_axis(jax.nn.log_softmax(logits), action[..., None], -1)[..., 0]


def make(worlds: int):
  """Makes a whole run, `(key) -> length of the episodes that ended last`."""
  env, params_env = gymnax.make("CartPole-v1")
  env = purerl.LogWrapper(purerl.FlattenObservationWrapper(env))
  network = ActorCritic()
  rate = optax.linear_schedule(task.LR, 0.0, task.UPDATES * task.EPOCHS * task.MINIBATCHES)
  optimizer = optax.chain(optax.clip_by_global_norm(task.MAX_NORM), optax.adam(rate, eps=1e-5))

  def act(carry, _):
    params, state, observation, key = carry
    key, act_key, step_key = jax.random.split(key, 3)
    logits, value = network.apply(params, observation)
    action = jax.random.categorical(act_key, logits)
    after, state, reward, terminated, truncated, info = jax.vmap(env.step, (0, 0, 0, None))(
        jax.random.split(step_key, worlds), state, action, params_env)
    taken = Transition(terminated | truncated, action, value, reward, _log_prob(logits, action), observation,
                       info["returned_episode_lengths"])
    return (params, state, after, key), taken

  def advantages(taken, last_value):
    def back(carry, step):
      advantage, value_tp1 = carry
      alive = 1 - step.done
      delta = step.reward + task.GAMMA * value_tp1 * alive - step.value
      advantage = delta + task.GAMMA * task.LAM * alive * advantage
      return (advantage, step.value), advantage
    return jax.lax.scan(back, (jnp.zeros_like(last_value), last_value), taken, reverse=True, unroll=16)[1]

  def loss(params, batch):
    taken, advantage, target = batch
    logits, value = network.apply(params, taken.observation)
    clipped = taken.value + jnp.clip(value - taken.value, -task.CLIP, task.CLIP)
    value_loss = 0.5 * jnp.mean(jnp.maximum(jnp.square(value - target), jnp.square(clipped - target)))
    ratio = jnp.exp(_log_prob(logits, taken.action) - taken.log_prob)
    advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
    gain = jnp.minimum(ratio * advantage, jnp.clip(ratio, 1 - task.CLIP, 1 + task.CLIP) * advantage)
    log_probs = jax.nn.log_softmax(logits)
    entropy = -jnp.mean(jnp.sum(jnp.exp(log_probs) * log_probs, -1))
    return -jnp.mean(gain) + task.VALUE * value_loss - task.ENTROPY * entropy

  def gradient_step(carry, batch):
    params, optimizer_state = carry
    updates, optimizer_state = optimizer.update(jax.grad(loss)(params, batch), optimizer_state, params)
    return (optax.apply_updates(params, updates), optimizer_state), None

  def epoch(carry, _):
    learner, batch, key = carry
    key, shuffle_key = jax.random.split(key)
    order = jax.random.permutation(shuffle_key, task.STEPS * worlds)
    pieces = jax.tree.map(
        lambda x: x.reshape(-1, *x.shape[2:])[order].reshape(task.MINIBATCHES, -1, *x.shape[2:]), batch)
    learner, _ = jax.lax.scan(gradient_step, learner, pieces)
    return (learner, batch, key), None

  def update(carry, _):
    (params, optimizer_state), state, observation, key = carry
    (_, state, observation, key), taken = jax.lax.scan(act, (params, state, observation, key), length=task.STEPS)
    advantage = advantages(taken, network.apply(params, observation)[1])
    batch = taken, advantage, advantage + taken.value
    (learner, _, key), _ = jax.lax.scan(epoch, ((params, optimizer_state), batch, key), length=task.EPOCHS)
    return (learner, state, observation, key), taken.length

  def run(key):
    key, init_key, reset_key = jax.random.split(key, 3)
    observation, state = jax.vmap(env.reset, (0, None))(jax.random.split(reset_key, worlds), params_env)
    params = network.init(init_key, observation[0])
    _, length = jax.lax.scan(update, ((params, optimizer.init(params)), state, observation, key), length=task.UPDATES)
    return jnp.mean(length[-1])

  return run


if __name__ == "__main__":
  task.serve(make, {package: importlib.metadata.version(package) for package in ("gymnax", "jax", "jaxlib")})
