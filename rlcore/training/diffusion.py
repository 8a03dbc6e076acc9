"""Training a flow model by reward: denoise trees of samples, score the leaves, assign credit to steps, move the net.

The stages are pure functions of `DiffusionParts`; `make_diffusion_experiment` joins them. Chains are trees without
splits, so GRPO on denoising chains is a setting of the same parts.
"""

from collections.abc import Callable, Sequence
import dataclasses
import functools

import jax
import jax.numpy as jnp
import optax

from rlcore import advantages, losses
from rlcore.policies import flow
from rlcore.training import state as state_lib
from rlcore.types import Array, DenoisingTask, Experiment, Metrics, PyTree, Stage, VelocityModel

TrainState = state_lib.TrainState


@dataclasses.dataclass(frozen=True)
class FlowWarmup:
  """Flow matching on the task's data, before any reward.

  Attributes:
    steps: updates.
    batch_size: examples an update.
    optimizer: optax transformation.
  """

  steps: int
  batch_size: int
  optimizer: optax.GradientTransformation


@dataclasses.dataclass(frozen=True)
class DiffusionParts:
  """The composition of one experiment with a flow model.

  Attributes:
    model: the velocity network.
    task: data, reward and judges.
    optimizer: optax transformation.
    credit: `(leaf rewards [L], edge log-probs [N, L], update number) -> (advantages [N, L], weight [N, L])` of one
      tree; an edge of weight 0 is pruned.
    roots: `(key) -> [n_0, ...]`, standard normal noise that one tree (or set of chains) starts from.
    sigmas: `[N + 1]`, noise levels from 1 to 0.
    split_steps: where a tree splits; static.
    branch_factor: children at a split; static.
    branch: noise of siblings, see `policies.tree_rollout`.
    eta: strength of the noise of a step, a scalar or `[N]`.
    trees_per_prompt: trees of each of the task's prompts in an update.
    gradient_steps: on the trees of one update.
    clip_range: of the ratio of the SUMMED log-probability of a step (its density, not the mean over dimensions).
    warmup: flow matching, or None.
    probe_samples: fresh samples of each prompt, without noise, whose mean reward is measured after every update.
    eval_samples: the same in the held-out evaluation, at a fixed key.
    shown_samples: of these, how many of each prompt the evaluation returns as `samples`.
  """

  model: VelocityModel
  task: DenoisingTask
  optimizer: optax.GradientTransformation
  credit: Callable[[Array, Array, Array], tuple[Array, Array]]
  roots: Callable[[Array], Array]
  sigmas: Array
  split_steps: Sequence[int] = ()
  branch_factor: int = 2
  branch: Callable[[Array, Array], Array] = flow.branch_noise
  eta: float | Array = 0.3
  trees_per_prompt: int = 1
  gradient_steps: int = 1
  clip_range: float | Array = 0.2
  warmup: FlowWarmup | None = None
  probe_samples: int = 64
  eval_samples: int = 256
  shown_samples: int = 0

  @property
  def nodes_per_depth(self) -> tuple[int, ...]:
    """n_0 .. n_N of one tree."""
    roots = jax.eval_shape(self.roots, jax.random.key(0)).shape[0]
    num_steps = self.sigmas.shape[0] - 1
    counts = advantages.tree_nodes_per_depth(num_steps, self.split_steps, self.branch_factor)
    return tuple(roots * count for count in counts)

  @property
  def prompts(self) -> Array:
    """`[B]`, the prompt of each tree of an update."""
    return jnp.repeat(jnp.arange(self.task.num_conditions), self.trees_per_prompt)


def init_state(parts: DiffusionParts, key: Array) -> TrainState:
  """Initialises the network, the optimisers and the key of the first update."""
  param_key, run_key = jax.random.split(key)
  params = parts.model.init(param_key)
  return TrainState(
      step=jnp.zeros((), jnp.int32), key=run_key, params=params, opt_state=parts.optimizer.init(params),
      warmup_opt_state=None if parts.warmup is None else parts.warmup.optimizer.init(params))


def _velocity(parts: DiffusionParts, params: PyTree, condition: Array) -> flow.Velocity:
  return lambda z, sigma: parts.model.velocity(params, z, sigma, condition)


def rollout(parts: DiffusionParts, params: PyTree, key: Array) -> flow.DenoisingTree:
  """Denoises one tree for each of the `[B]` prompts of an update."""
  def one(key, condition):
    root_key, key = jax.random.split(key)
    return flow.tree_rollout(
        _velocity(parts, params, condition), key, parts.roots(root_key), parts.sigmas, split_steps=parts.split_steps,
        branch_factor=parts.branch_factor, eta=parts.eta, branch=parts.branch)

  return jax.vmap(one)(jax.random.split(key, parts.prompts.shape[0]), parts.prompts)


def _by_leaf(parts: DiffusionParts, edges: Array) -> Array:
  """Lays edge values `[B, E]` out as `[B, N, L]`."""
  return jax.vmap(lambda x: flow.edges_to_paths(x, parts.nodes_per_depth))(edges)


def _loss(parts: DiffusionParts, params: PyTree, batch: tuple[Array, ...]) -> tuple[Array, Metrics]:
  """Averages the loss of `[B]` trees."""
  nodes, prompts, logp_old, advantage, weight = batch
  score = lambda nodes, condition: flow.tree_log_probs(
      _velocity(parts, params, condition), nodes, parts.sigmas, parts.nodes_per_depth, eta=parts.eta)
  logp = _by_leaf(parts, jax.vmap(score)(nodes, prompts))
  dimensions = nodes[0, 0].size
  loss = functools.partial(losses.branch_grpo_loss, clip_range=parts.clip_range)
  loss = jnp.mean(jax.vmap(loss)(dimensions * logp, dimensions * logp_old, advantage, weight))
  drift = jax.lax.stop_gradient(dimensions * jnp.abs(logp - logp_old))
  return loss, {"log_ratio": jnp.sum(weight * drift) / jnp.maximum(jnp.sum(weight), 1e-9)}


def learn(parts: DiffusionParts, state: TrainState, trees: flow.DenoisingTree, rewards: Array, step: Array) -> tuple[
    TrainState, Metrics]:
  """Assigns credit to `[B]` trees with leaf rewards `[B, L]` and takes the gradient steps of one update.

  Rewards, advantages and weights that are not finite, like losses and gradients that are not, leave parameters and
  optimiser as they were and are reported.
  """
  logp_old = _by_leaf(parts, trees.log_probs)
  advantage, weight = jax.vmap(parts.credit, (0, 0, None))(rewards, logp_old, step)
  batch = (trees.nodes, parts.prompts, logp_old, advantage, weight)
  good, credit_flags = state_lib.check_credit(rewards, (), (advantage, weight), (), ())

  def gradient_step(carry, _):
    gradient = state_lib.accumulate(functools.partial(_loss, parts), lambda piece: 1.0, carry[0], batch)
    *carry, metrics = state_lib.apply_gradient(parts.optimizer, *carry, gradient, allowed=good)
    return tuple(carry), metrics

  (params, opt_state), metrics = jax.lax.scan(
      gradient_step, (state.params, state.opt_state), None, parts.gradient_steps)
  flags = {name: jnp.max(metrics.pop(name)) for name in ("nonfinite_loss", "nonfinite_grad")}
  applied = metrics.pop("applied")
  metrics = {name: jnp.mean(x) for name, x in metrics.items()} | flags
  metrics |= {name: credit_flags[name] for name in ("nonfinite_reward", "nonfinite_advantage")}
  metrics["trained_edges"] = jnp.mean(jnp.sum(weight, (1, 2)))
  skipped = state.skipped + (jnp.min(applied) == 0).astype(jnp.int32)
  return state.replace(step=state.step + 1, params=params, opt_state=opt_state, skipped=skipped), metrics


def sample(parts: DiffusionParts, params: PyTree, key: Array, count: int) -> Array:
  """Denoises `count` fresh samples of every prompt without noise: `[C, count, ...]`."""
  conditions = jnp.arange(parts.task.num_conditions)
  initial = jax.random.normal(key, (conditions.shape[0], count, *parts.task.shape))
  one = lambda condition, z: flow.ode_sample(_velocity(parts, params, condition), z, parts.sigmas)
  return jax.vmap(one)(conditions, initial)


def score(task: DenoisingTask, function: Callable, samples: Array) -> PyTree:
  """Applies a task's `score` or `judge` to `[C, n, ...]` samples of all its prompts."""
  conditions = jnp.arange(task.num_conditions)
  return jax.vmap(jax.vmap(function, (0, None)))(samples, conditions)


def evaluate(parts: DiffusionParts, params: PyTree, *, seed: int = 2**20) -> Metrics:
  """Judges fresh samples drawn at a fixed key; `samples` `[C, shown_samples, ...]` is for figures."""
  samples = sample(parts, params, jax.random.key(seed), parts.eval_samples)
  judged = {"reward": score(parts.task, parts.task.score, samples), **score(parts.task, parts.task.judge, samples)}
  shown = {"samples": samples[:, :parts.shown_samples]} if parts.shown_samples else {}
  return {name: jnp.mean(x) for name, x in judged.items()} | shown


def warmup_update(parts: DiffusionParts, state: TrainState) -> tuple[TrainState, Metrics]:
  """Takes one step of flow matching on fresh data, at noise levels drawn evenly."""
  key, data_key, noise_key, sigma_key = jax.random.split(state.key, 4)
  data, conditions = parts.task.sample(data_key, parts.warmup.batch_size)
  noise, sigma = jax.random.normal(noise_key, data.shape), jax.random.uniform(sigma_key, data.shape[:1])

  def loss_fn(params, batch):
    velocity = parts.model.velocity(params, flow.interpolate(data, noise, sigma), sigma, conditions)
    return losses.flow_matching_loss(velocity, *batch), {}

  gradient = state_lib.accumulate(loss_fn, lambda batch: 1.0, state.params, (data, noise))
  params, opt_state, metrics = state_lib.apply_gradient(
      parts.warmup.optimizer, state.params, state.warmup_opt_state, gradient)
  skipped = state.skipped + (metrics.pop("applied") == 0).astype(jnp.int32)
  return state.replace(
      step=state.step + 1, key=key, params=params, warmup_opt_state=opt_state, skipped=skipped), metrics


def make_diffusion_experiment(parts: DiffusionParts) -> Experiment:
  """Joins the stages into an experiment.

  Metrics of an update: `reward`, the mean of fresh noiseless samples after it, `sampled_reward` of the leaves,
  `evaluations` of the network for one tree (every node forwards, every trained edge backwards once, as BranchGRPO
  counts: N a chain, all nodes of a tree), and what `learn` measures.

  Args:
    parts: the composition.

  Returns:
    The experiment.
  """
  nodes = parts.nodes_per_depth
  forward = sum(nodes) if parts.split_steps else sum(nodes[1:])
  warmup_steps = parts.warmup.steps if parts.warmup else 0

  def update(state):
    key, rollout_key, probe_key = jax.random.split(state.key, 3)
    trees = rollout(parts, state.params, rollout_key)
    rewards = jax.vmap(jax.vmap(parts.task.score, (0, None)))(jax.vmap(lambda tree: tree.leaves)(trees), parts.prompts)
    state, metrics = learn(parts, state.replace(key=key), trees, rewards, state.step - warmup_steps)
    probe = sample(parts, state.params, probe_key, parts.probe_samples)
    pruned = sum(nodes[1:]) - metrics.pop("trained_edges")
    return state, metrics | {
        "reward": jnp.mean(score(parts.task, parts.task.score, probe)), "sampled_reward": jnp.mean(rewards),
        "reward_spread": jnp.mean(jnp.std(rewards, 1)), "evaluations": 2 * forward - pruned}

  warmup = Stage("flow matching", warmup_steps, functools.partial(warmup_update, parts)) if warmup_steps else None
  return Experiment(functools.partial(init_state, parts), update, lambda state: evaluate(parts, state.params), warmup)
