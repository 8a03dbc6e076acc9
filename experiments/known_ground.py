"""The learners on streams in environments of gymnax whose marks are known: CartPole-v1, Pendulum-v1 and others.

One config field names the algorithm, a function of `on_policy_settings` or `off_policy_settings`; gymnax is in the extra
`[envs]`, replay in `[replay]`.
"""

import pathlib

from matplotlib.figure import Figure
import ml_collections
import numpy as np
import optax

from rlcore import policies
from rlcore.envs import adapters
from rlcore.training import off_policy, off_policy_settings, on_policy, on_policy_settings, plots
from rlcore.training import state as state_lib
from rlcore.types import Experiment

ON_POLICY = ("a2c", "ppo", "reinforce", "vtrace_actor_critic")
OFF_POLICY = ("ddpg", "dqn", "sac", "td3")


def make_experiment(config: ml_collections.ConfigDict) -> Experiment:
  """Composes an environment of gymnax with an algorithm.

  The evaluation of the algorithms on replayed steps acts greedily, or by the mean; that of the others draws actions.
  """
  if config.algorithm not in ON_POLICY + OFF_POLICY:
    raise ValueError(f"algorithm={config.algorithm!r} is none of {', '.join(sorted(ON_POLICY + OFF_POLICY))}")
  env, params = make_env(config.env)
  world = adapters.adapt_gymnax(env, params)
  shared = dict(world=world, instances=lambda key: (), success=lambda stream, returns: returns >= config.mark)
  if config.algorithm in ON_POLICY:
    settings = getattr(on_policy_settings, config.algorithm)(**config.settings) | config.parts.to_dict()
    return on_policy.make_on_policy_experiment(on_policy.OnPolicyParts(
        policy=policies.make_stream_policy(world, hidden=config.hidden), **shared, **settings,
        optimizer=make_optimizer(config, settings["epochs"] * settings["minibatches"])))
  settings = getattr(off_policy_settings, config.algorithm)(hidden=config.hidden, **config.settings)
  if world.action_size:
    shared["action_scale"] = env.action_space(params).high
  periods = dict.fromkeys(("q", "critic", "actor", "temperature"), 1) | settings.get("periods", {})
  return off_policy.make_off_policy_experiment(off_policy.OffPolicyParts(
      **shared, **settings, **config.parts,
      optimizer={name: make_optimizer(config, config.parts.num_updates / period) for name, period in periods.items()}))


def make_optimizer(config: ml_collections.ConfigDict, steps: float) -> optax.GradientTransformation:
  """Makes Adam, whose rate falls to 0 within the run's updates of so many gradient steps each if `config.decay`."""
  return state_lib.make_optimizer(config.lr, b2=0.999, max_grad_norm=config.max_grad_norm,
                                  decay_steps=int(config.steps * steps) if config.decay else None)


def make_env(name: str):
  """Makes an environment of gymnax and its params.

  Raises:
    ImportError: without gymnax.
    ValueError: for a name that gymnax does not have.
  """
  try:
    import gymnax
  except ImportError as error:
    raise ImportError("known_ground needs gymnax: pip install 'rlcore[envs]'") from error
  if name not in gymnax.registered_envs:
    raise ValueError(f"env={name!r} is no environment of gymnax; it has {', '.join(gymnax.registered_envs)}")
  return gymnax.make(name)
