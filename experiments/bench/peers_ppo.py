"""rlcore as a contestant of `experiments.bench.ppo`: `training.on_policy` on gymnax's CartPole through the adapter."""

import importlib.metadata

import gymnax
import jax.numpy as jnp
import optax

from experiments.bench import ppo_task as task
from rlcore import envs
from rlcore import policies
from rlcore.training import loop
from rlcore.training import on_policy
from rlcore.training import on_policy_settings


def make(worlds: int):
  """Makes a whole run, `(key) -> length of the episodes that ended last`."""
  world = envs.adapt_gymnax(gymnax.make("CartPole-v1")[0])
  rate = optax.linear_schedule(task.LR, 0.0, task.UPDATES * task.EPOCHS * task.MINIBATCHES)
  experiment = on_policy.make_on_policy_experiment(on_policy.OnPolicyParts(
      world, policies.make_stream_policy(world, hidden=(task.HIDDEN, task.HIDDEN)), instances=lambda key: (),
      optimizer=optax.chain(optax.clip_by_global_norm(task.MAX_NORM), optax.adam(rate, eps=1e-5)),
      num_worlds=worlds, num_steps=task.STEPS, flat_params=True, gamma=task.GAMMA, **on_policy_settings.ppo(
          lam=task.LAM, clip=task.CLIP, entropy_coef=task.ENTROPY, value_coef=task.VALUE, value_clip=task.CLIP,
          epochs=task.EPOCHS, minibatches=task.MINIBATCHES)))
  train = loop.train(experiment, task.UPDATES)
  return lambda key: jnp.mean(train(key)[1]["episode_length"][-10:])


if __name__ == "__main__":
  task.serve(make, {package: importlib.metadata.version(package) for package in ("gymnax", "jax", "jaxlib")},
             with_floor=True)
