"""BranchGRPO: denoise one tree instead of G chains, and give every step its own advantage (arXiv:2509.06040).

`make_experiment` trains on rings of Gaussians in the plane or on handwritten digits. A tree is one program and chains
are another; arms of the same shape differ in numbers only: `depthwise=0` broadcasts the leaves' advantage (chains
have nothing else), `prune=1` leaves a sliding window of depths out of the backward pass, `fresh=1` gives every chain
its own noise. A pruned edge has weight 0 and is still computed here; what it would save is counted.
"""

from collections.abc import Mapping
import functools
import pathlib

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from rlcore import advantages, models, policies, tasks
from rlcore.training import diffusion, plots, verdicts
from rlcore.training import state as state_lib
from rlcore.training.errors import RunError
from rlcore.types import DenoisingTask, Experiment


def make_task(config: ml_collections.ConfigDict) -> DenoisingTask:
  """Makes the task that `config.world` names."""
  if config.world == "digits":
    from rlcore.tasks import digits
    try:
      return digits.make_digits(config.label_noise)
    except ImportError as error:  # the extra is missing, and the error says which
      raise RunError(str(error)) from error
  if config.world != "rings":
    raise ValueError(f'world={config.world!r} is neither "rings" nor "digits"')
  return tasks.make_rings()


def make_experiment(config: ml_collections.ConfigDict) -> Experiment:
  """Composes BranchGRPO, or GRPO on chains, on the task of the config."""
  task, sigmas = make_task(config), policies.sigma_schedule(config.num_steps, config.shift)
  nodes = tuple(config.chains * n for n in advantages.tree_nodes_per_depth(config.num_steps, config.split_steps))

  def roots(key):
    shared_key, own_key = jax.random.split(key)
    own = jax.random.normal(own_key, (config.chains, *task.shape))
    return jnp.where(config.fresh > 0, own, jax.random.normal(shared_key, (1, *task.shape)))

  def credit(rewards, log_probs, step):
    values = advantages.fuse_rewards(rewards, log_probs, nodes, config.beta)
    depthwise, weight = advantages.depthwise_advantage(values, nodes)
    advantage = config.depthwise * depthwise + (1 - config.depthwise) * depthwise[-1:]
    trained = advantages.depth_prune_mask(
        config.num_steps, config.window, step, config.window_interval, config.window_stop)
    return advantage, weight * (1 - config.prune * (1 - trained[:, None]))

  adam = functools.partial(state_lib.make_optimizer, b2=0.999, max_grad_norm=None)
  return diffusion.make_diffusion_experiment(diffusion.DiffusionParts(
      model=models.make_velocity_mlp(task.shape[0], task.num_conditions, **config.model),
      task=task,
      optimizer=adam(config.lr),
      credit=credit,
      roots=roots,
      sigmas=sigmas,
      split_steps=config.split_steps,
      branch=functools.partial(policies.branch_noise, s=config.branch_strength),
      eta=config.eta,
      trees_per_prompt=config.trees_per_prompt,
      gradient_steps=config.gradient_steps,
      clip_range=config.clip_range,
      warmup=diffusion.FlowWarmup(config.warmup.steps, config.warmup.batch_size, adam(config.warmup.lr)),
      probe_samples=config.probe_samples,
      eval_samples=config.eval_samples,
      shown_samples=config.shown_samples))


def figure(result: Mapping, path: str | pathlib.Path):
  """Draws the reward against network evaluations and updates, and samples before and after of the first seed."""
  claim, variant = result["claim"], result["variants"][verdicts.judged_variant(result)]
  arms = variant["arms"]
  curves = {name: np.array(arm["curve"]["seeds"]) for name, arm in arms.items()}
  costs = {name: np.array(arm["curve"]["cost"]).mean(0) / 1000 for name, arm in arms.items()}
  baseline, method = (arms[name] for name in (claim["baselines"][0], claim["method"]))
  draw, height = (_draw_points, 3.2) if len(baseline["kept"]["eval/samples"][0][0][0]) == 2 else (_draw_images, 1.9)
  picture, room = plots.result_figure(result, width=10, height=3.2 + height)
  top, bottom = room.subfigures(2, 1, height_ratios=(3.2, height))
  left, right = top.subplots(1, 2, sharey=True)
  plots.plot_arms(left, curves, title="reward of fresh samples against cost", y_label="reward", costs=costs,
                  x_label="thousand network evaluations for one tree (or 16 chains)")
  level = 0.9 * np.mean(baseline["values"]["tail:reward"])
  left.axhline(level, color="0.3", linewidth=1, linestyle=":")
  left.set(xscale="log")
  left.xaxis.set_major_formatter("{x:g}")
  left.annotate(f"0.9 of {claim['baselines'][0]}'s final reward", (0, level), (3, 3), ha="left", va="bottom",
                xycoords=("axes fraction", "data"), textcoords="offset points", fontsize=8, color="0.3")
  plots.plot_arms(right, curves, title="against updates", stride=baseline["curve"]["stride"])
  right.get_legend().remove()
  panels = (("before", baseline, 0), (claim["baselines"][0], baseline, 1), (claim["method"], method, 1))
  for axes, (title, arm, when) in zip(bottom.subplots(1, len(panels)), panels, strict=True):
    draw(axes, np.array(arm["kept"]["eval/samples"][when]))
    numbers = (f"{key.removeprefix('eval/').replace('_', ' ')} {x[when]:.2f}" for key, x in arm["kept"].items()
               if key != "eval/samples")
    axes.set_title(f"{title}: {', '.join(numbers)}", fontsize=8, loc="left", fontweight="bold")
  picture.savefig(path, dpi=110)


def _draw_points(axes, points):
  """Draws samples `[C, n, 2]` in the plane, a colour a prompt, with a cross on the mode that is wanted."""
  for condition, (own, colour) in enumerate(zip(points, plots.COLOURS)):
    angle = 2 * np.pi * 2 * condition / 8 + condition * np.pi / 16
    axes.scatter(*own.T, s=7, color=colour, alpha=0.6, linewidth=0)
    axes.plot(2 * np.cos(angle), 2 * np.sin(angle), "x", color="black", markersize=9, markeredgewidth=2)
    axes.plot(2 * np.cos(angle), 2 * np.sin(angle), "x", color=colour, markersize=7, markeredgewidth=1.2)
  axes.set(aspect="equal", xlim=(-3, 3), ylim=(-3, 3), xticks=(), yticks=())


def _draw_images(axes, points):
  """Draws samples `[C, n, 64]` as images: a row for each example, a column for each prompt."""
  side = round(points.shape[-1]**0.5)
  tiles = np.pad(points.reshape(*points.shape[:2], side, side), ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-1)
  picture = np.concatenate([np.concatenate(list(column), 0) for column in tiles], 1)
  axes.imshow(picture, cmap="gray_r", vmin=-1, vmax=1, interpolation="nearest")
  axes.set(xticks=(np.arange(len(points)) + 0.5) * (side + 2) - 0.5, xticklabels=range(len(points)), yticks=())
  axes.tick_params(length=0, labelsize=8)
