"""The learners on streams in environments of gymnax whose marks are known: CartPole-v1, Pendulum-v1 and others.

`config.algorithm` names a function of `on_policy_settings` or `off_policy_settings`. gymnax is in the extra `[envs]`,
replay in `[replay]`.
"""

from collections.abc import Mapping
import pathlib

import ml_collections
import numpy as np
import optax

from rlcore import policies
from rlcore.envs import adapters
from rlcore.training import off_policy, off_policy_settings, on_policy, on_policy_settings, plots
from rlcore.training import state as state_lib
from rlcore.training.errors import RunError
from rlcore.types import Experiment

ON_POLICY = ("a2c", "ppo", "reinforce", "vtrace_actor_critic")
OFF_POLICY = ("ddpg", "dqn", "sac", "td3")


def make_experiment(config: ml_collections.ConfigDict) -> Experiment:
  """Composes an environment of gymnax with an algorithm.

  An evaluation acts greedily, or by the mean, where steps are replayed; the policies of the others are drawn from.
  """
  if config.algorithm not in ON_POLICY + OFF_POLICY:
    raise RunError(f"algorithm={config.algorithm!r} is none of {', '.join(sorted(ON_POLICY + OFF_POLICY))}")
  env, params = make_env(config.env)
  make = make_on_policy if config.algorithm in ON_POLICY else make_off_policy
  try:
    return make(config, env, params)
  except TypeError as error:
    raise RunError(f"algorithm={config.algorithm!r} with env={config.env!r}: {error}") from error


def make_env(name: str):
  """Makes an environment of gymnax; returns it with its params."""
  try:
    import gymnax
  except ImportError as error:
    raise ImportError("known_ground needs gymnax: pip install 'rlcore[envs]'") from error
  if name not in gymnax.registered_envs:
    raise RunError(f"env={name!r} is none of gymnax's: {', '.join(gymnax.registered_envs)}")
  return gymnax.make(name)


def make_on_policy(config: ml_collections.ConfigDict, env, params) -> Experiment:
  """Composes an algorithm that learns every step while it is new."""
  world = adapters.adapt_gymnax(env, params)
  settings = getattr(on_policy_settings, config.algorithm)(**config.settings)
  return on_policy.make_on_policy_experiment(on_policy.OnPolicyParts(
      world=world, policy=policies.make_stream_policy(world, hidden=config.hidden), instances=lambda key: (),
      optimizer=make_optimizer(config, settings["epochs"] * settings["minibatches"]),
      success=lambda stream, returns: returns >= config.mark, **settings, **config.parts))


def make_off_policy(config: ml_collections.ConfigDict, env, params) -> Experiment:
  """Composes an algorithm that learns replayed steps; real actions reach the environment's whole box."""
  world = adapters.adapt_gymnax(env, params)
  settings = getattr(off_policy_settings, config.algorithm)(hidden=config.hidden, **config.settings)
  periods = dict.fromkeys(("q", "critic", "actor", "temperature"), 1) | settings.get("periods", {})
  optimizer = {name: make_optimizer(config, config.parts.num_updates / period) for name, period in periods.items()}
  return off_policy.make_off_policy_experiment(off_policy.OffPolicyParts(
      world=world, instances=lambda key: (), optimizer=optimizer,
      success=lambda stream, returns: returns >= config.mark, **settings, **config.parts))


def make_optimizer(config: ml_collections.ConfigDict, steps: float) -> optax.GradientTransformation:
  """Makes Adam; if `config.decay`, its rate falls to 0 within the run, at so many gradient steps an update."""
  return state_lib.make_optimizer(config.lr, b2=0.999, max_grad_norm=config.max_grad_norm,
                                  decay_steps=int(config.steps * steps) if config.decay else None)


def figure(result: Mapping, path: str | pathlib.Path):
  """Draws the returns of training over the steps of the worlds, with the mark and the last evaluation of every seed."""
  picture, room = plots.result_figure(result, width=9.5, height=6.4)
  for axes, (name, variant) in zip(room.subplots(2, -(-len(result["variants"]) // 2)).flat,
                                   result["variants"].items(), strict=True):
    config, (arm,) = variant["config"], variant["arms"].values()
    curve = arm["curves"]["episode_return"]
    values, last = np.array(curve["seeds"]), arm["values"][result["claim"]["metric"]]
    taken = curve["stride"] * config["parts"]["num_worlds"] * config["parts"]["num_steps"]
    costs = taken * (1 + np.arange(values.shape[1]))
    plots.plot_arms(axes, {"training": values}, title=f"{name}, {config['env']}", y_label="return",
                    costs={"training": costs}, x_label="steps of all worlds")
    axes.axhline(config["mark"], color="0.4", linewidth=1, linestyle=":", label="mark")
    axes.plot(np.full(len(last), costs[-1]), last, "x", color=plots.COLOURS[1], label="last evaluation", clip_on=False)
    axes.legend(fontsize=8, frameon=False)
  picture.savefig(path, dpi=110)
