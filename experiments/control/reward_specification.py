"""Rules as constraints whose weights are learned, on a grid with four of them (arXiv:2412.07177, arXiv:2112.12228).

PPO on streams is paid a Lagrangian, whose multipliers move once a rollout. The arms differ in floats alone, see
`constrained.Switches`; `make_study` trains with many settings of fixed penalties instead.
"""

from collections.abc import Mapping
import functools
import itertools
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from rlcore import policies
from rlcore.envs import ruled_grid
from rlcore.training import constrained, on_policy, on_policy_settings, plots
from rlcore.training import state as state_lib
from rlcore.types import Array, Experiment, Metrics, PyTree, Stream

RULES = ruled_grid.RULES
CONSTRAINTS = (*RULES, "success")
PENALTIES = (0.1, 1.0, 10.0)  # of a rule, in the grid of fixed settings
KEPT = ("feasible", "window/success", "window/rules", *(f"rate/{name}" for name in RULES))


def make_experiment(config: ml_collections.ConfigDict) -> Experiment:
  """Composes the arm that the config's switches choose."""
  start = jnp.stack([jnp.asarray(config.start[name], jnp.float32) for name in RULES])
  return compose(config, config.seed, constrained.Switches(**config.lagrangian, start=start))


def compose(config: ml_collections.ConfigDict, seed: Array | int, switches: constrained.Switches) -> Experiment:
  """Composes PPO with a Lagrangian; the seed draws where the lava is, once for the whole run."""
  lava = ruled_grid.draw_lava(jax.random.fold_in(jax.random.key(seed), 1))
  world = ruled_grid.make_ruled_grid(horizon=config.horizon)
  limits = jnp.array([config.limits[name] for name in CONSTRAINTS])
  return on_policy.make_on_policy_experiment(on_policy.OnPolicyParts(
      world=world, policy=policies.make_stream_policy(world, hidden=config.hidden),
      instances=functools.partial(ruled_grid.draw_task, lava=lava),
      optimizer=state_lib.make_optimizer(config.lr, b2=0.999, max_grad_norm=0.5), num_worlds=config.num_worlds,
      num_steps=config.num_steps, gamma=config.gamma, reward=constrained.lagrangian(switches, limits, config.window),
      describe=functools.partial(describe, switches=switches, limits=limits, slack=config.slack),
      **on_policy_settings.ppo(lam=config.lam, clip=config.clip, entropy_coef=config.entropy_coef,
                               epochs=config.epochs, minibatches=config.minibatches)))


def describe(reward_state: PyTree, stream: Stream, paid: Array, advantages: Array, *, switches: constrained.Switches,
             limits: Array, slack: float) -> Metrics:
  """Reports success and rates over the last rollouts, which rules they satisfied, and the weights from here on."""
  del stream, paid, advantages
  recent = reward_state["recent"]
  failed, ended = jnp.sum(recent[:, -2:], 0)
  success = jnp.where(ended > 0, 1 - failed / jnp.maximum(ended, 1), 0.0)
  rates = jnp.sum(recent[:, :-2], 0) / jnp.maximum(jnp.sum(recent[:, -1] > 0), 1)
  kept = rates <= limits[:-1] + slack
  feasible = jnp.all(kept) & (success >= 1 - limits[-1])
  main, multipliers = constrained.weights(reward_state, switches)
  metrics = {"window/success": success, "window/rules": jnp.mean(kept), "feasible": feasible, "weight/task": main}
  metrics |= {f"rate/{name}": rate for name, rate in zip(RULES, rates, strict=True)}
  metrics |= {f"weight/{name}": x for name, x in zip(CONSTRAINTS, multipliers, strict=True)}
  return {name: jnp.asarray(x, jnp.float32) for name, x in metrics.items()}


def make_study(config: ml_collections.ConfigDict):
  """Returns `(key) -> metrics [N]` of whole runs with N settings of fixed penalties, which the key draws.

  Every setting is run with one seed, the verdict's one after another, so that the maps are those of the arms.
  """
  grid = jnp.array(list(itertools.product(PENALTIES, repeat=len(RULES))))
  count = config.fixed.settings

  def one(penalties, seed):
    experiment = compose(config, seed, constrained.Switches(0.0, 0.0, 0.0, 0.0, penalties))
    state = experiment.init(jax.random.key(seed))
    metrics = jax.lax.scan(lambda state, _: experiment.update(state), state, None, config.steps)[1]
    return {name: metrics[name][-1] for name in KEPT}

  def study(key):
    penalties = grid[jax.random.choice(key, len(grid), (count,), replace=False)]
    found = jax.vmap(one)(penalties, jnp.resize(jnp.array(config.fixed.seeds), count))
    return found | {f"penalty/{name}": penalties[:, i] for i, name in enumerate(RULES)}

  return study


def figure(result: Mapping[str, Any], path: pathlib.Path):
  """Draws success and rules over the steps, the weights of the method, and where the fixed settings ended."""
  variant = next(iter(result["variants"].values()))
  arms, config, method = variant["arms"], variant["config"], result["claim"]["method"]
  steps = lambda curve: config["num_worlds"] * config["num_steps"] * curve["stride"] * (
      1 + np.arange(len(curve["seeds"][0])))
  picture, room = plots.result_figure(result, width=13.5, height=8)
  (first, second), (third, last) = room.subplots(2, 2)
  panels = ((first, "window/success", "success"), (second, "window/rules", "share of the four rules satisfied"))
  for axes, key, title in panels:
    curves = {arm: entry["curves"][key] for arm, entry in arms.items()}
    plots.plot_arms(axes, {arm: np.array(curve["seeds"]) for arm, curve in curves.items()}, title=title,
                    costs={arm: steps(curve) for arm, curve in curves.items()}, x_label="steps")
  first.axhline(1 - config["limits"]["success"], color="0.6", linestyle=":")
  curves = {name: arms[method]["curves"][f"weight/{name}"] for name in ("task", *CONSTRAINTS)}
  plots.plot_arms(third, {name: np.array(curve["seeds"]) for name, curve in curves.items()},
                  title=f"weights of {method}", costs={name: steps(curve) for name, curve in curves.items()},
                  x_label="steps")
  scatter = np.random.default_rng(0).uniform(-0.04, 0.04, 99)  # points of the same share of rules would coincide
  ends = ("window/success", "window/rules")
  found = {arm: [entry["values"][f"last:{name}"] for name in ends] for arm, entry in arms.items()}
  study = result["study"]["metrics"]
  found["fixed penalties"] = [np.ravel(study[name]) for name in ends]
  for i, (name, (success, rules)) in enumerate(found.items()):
    last.plot(success, rules + scatter[:len(rules)], "x" if i == len(arms) else "o", alpha=0.8, label=name,
              color="0.35" if i == len(arms) else plots.COLOURS[i % len(plots.COLOURS)])
  last.axvline(1 - config["limits"]["success"], color="0.6", linestyle=":")
  last.set(xlim=(-0.05, 1.05), ylim=(-0.1, 1.1), yticks=[0, 0.25, 0.5, 0.75, 1])
  last.tick_params(labelsize=8)
  last.grid(True, color="0.92")
  last.set_title("the end of every run: feasible is the top right", fontsize=10, loc="left", fontweight="bold")
  last.set_xlabel("success", fontsize=8, color="0.35")
  last.set_ylabel("share of rules satisfied, slightly scattered", fontsize=8, color="0.35")
  last.legend(fontsize=8, frameon=False)
  picture.savefig(path, dpi=110)
