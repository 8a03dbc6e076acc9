"""Training a policy on the episodes of a world: play groups, transform rewards, assign credit, move the parameters.

The stages are pure functions of `ControlParts`; `make_control_experiment` joins them into an `Experiment` that is
jittable throughout, so that seeds and numbers are lanes of one `vmap`, and `training.mesh` spreads its groups over
devices. An episode is a `Trajectory` of `[T]`, a group `[G, T]`, the batch of an update `[B, G, T]`. Where masks have
holes (observation tokens), steps are tokens.
"""

from collections.abc import Callable, Mapping
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax

from rlcore import checks
from rlcore import losses
from rlcore import rewards as reward_lib
from rlcore import stats
from rlcore.training import aggregation as aggregation_lib
from rlcore.training import describe, language_parts, mesh, scoring
from rlcore.training import state as state_lib
from rlcore.types import AdvantageEstimator, Agent, Array, Experiment, Metrics, PolicyLoss, PyTree, Rewards
from rlcore.types import RewardTransform, Stage, Trajectory

TrainState = state_lib.TrainState
GROUPS = "groups"  # the mapped axis over the groups of an update, for transforms and estimators that span them


def total_reward(trajectory: Trajectory) -> Array:
  """Sums the rewards of an episode `[T]`; the default outcome."""
  return stats.masked_sum(trajectory.reward_t, trajectory.mask)


@dataclasses.dataclass(frozen=True)
class CloneWarmup:
  """Behaviour cloning that precedes the main updates.

  Attributes:
    steps: updates.
    optimizer: optax transformation.
    demonstrations: `(key) -> Trajectory` of `[N, T]`, the batch of an update; reads of it what `Agent.score` needs and
      `mask`.
  """

  steps: int
  optimizer: optax.GradientTransformation
  demonstrations: Callable[[Array], Trajectory]


@dataclasses.dataclass(frozen=True)
class ControlParts:
  """The composition of one experiment on episodes.

  Attributes:
    agent: policy and world.
    instances: `(key) -> pytree of [B, ...]`, the world's params of each group of an update.
    optimizer: optax transformation.
    advantage_estimator: `(Rewards, Trajectory) -> [G, T]` of one group; may reduce over the axis `GROUPS`.
    policy_loss: `(log_probs [N, T], Trajectory of [N, T], advantages [N, T]) -> (scalar, metrics)`; N = B G, group
      after group, unless minibatches shuffle them.
    group_size: G, episodes of each instance.
    min_group_size: the least G from which the credit can tell anything; 2 where it compares a group.
    reward_transform: applied to each group before credit is assigned; sees `outcome`, with `process` None. Its state
      (statistics, a learned reward model) is merged over `GROUPS`.
    reward_state: `(key, params) -> state` of the transform, where it starts from the policy's parameters; None takes
      the transform's own `init`.
    value_target: `(Rewards, Trajectory) -> [G, T]`, what the critic learns; None for no critic.
    value_coef: weight of the value loss.
    entropy_coef: weight of the entropy that is added to the objective.
    whiten: advantages get mean 0 and variance 1 over the counted steps of the batch.
    epochs: passes over the episodes of an update.
    minibatches: gradient steps a pass, a divisor of B G.
    aggregation: settings of `losses.aggregate` that say over what `policy_loss` averages; None reads them off the loss
      (what a partial binds, else its default). Entropy, value loss and the weights of devices follow them; a loss that
      binds others is refused.
    rollout: `(params, key, instance) -> Trajectory` of `[G, T]`; None plays `group_size` independent episodes.
    judge: `(Trajectory of [G, T]) -> the same` with more, or other, `info`, applied to the groups of an update as soon
      as they are played; or None.
    outcome: `(Trajectory of [T]) -> []`, the outcome of an episode.
    use_reference: keep the parameters with which the main updates start and fill in `ref_log_probs`.
    warmup: behaviour cloning, or None.
    test_instances: `(key) -> pytree of [E, ...]`, held-out instances; None takes `instances`. Of a finite set give
      each once: draw by a permutation, not with replacement.
    probe: play the held-out instances once before every update and report `test_success`.
    unit: what the steps of an episode are, for the progress line; a name in the plural.
    describe: `(raw rewards, rewards, Trajectory, advantages) -> metrics` of `[B, G, ...]` arrays, or None.
    old_log_probs: "sampler" takes the old log-probabilities of the loss, and of credit, as the rollout reported them;
      "trainer" has `Agent.score` compute them before the first gradient step, for a token agent whose model computes in
      16 bits. None: "trainer" where the agent's parameters are in 16 bits (what it computes in is not seen), else
      "sampler".
    sampler_weight_cap: as in `LanguageParts`.
    axis_name: the device axis when the update runs under `pmap` or `shard_map`, else None. Episodes are played and
      differentiated in shares, of B and of a minibatch; between the two every device has them all, so that credit,
      whatever it keeps or reduces over `GROUPS`, and the order of the minibatches are those of one device.
    constrain: `(pytree of [B, ...]) -> same`, lays the groups out over a mesh; identity by default.
  """

  agent: Agent
  instances: Callable[[Array], PyTree]
  optimizer: optax.GradientTransformation
  advantage_estimator: AdvantageEstimator
  policy_loss: PolicyLoss
  group_size: int = 1
  min_group_size: int = 1
  reward_transform: RewardTransform = dataclasses.field(default_factory=reward_lib.identity)
  reward_state: Callable[[Array, PyTree], PyTree] | None = None
  value_target: AdvantageEstimator | None = None
  value_coef: float | Array = 0.5
  entropy_coef: float | Array = 0.0
  whiten: bool = False
  epochs: int = 1
  minibatches: int = 1
  aggregation: Mapping[str, Any] | None = None
  rollout: Callable[[PyTree, Array, PyTree], Trajectory] | None = None
  judge: Callable[[Trajectory], Trajectory] | None = None
  outcome: Callable[[Trajectory], Array] = total_reward
  use_reference: bool = False
  warmup: CloneWarmup | None = None
  test_instances: Callable[[Array], PyTree] | None = None
  probe: bool = False
  unit: str = "steps"
  describe: Callable[[Rewards, Rewards, Trajectory, Array], Metrics] | None = None
  old_log_probs: str | None = None
  sampler_weight_cap: float | Array | None = 2.0
  axis_name: str | None = None
  constrain: Callable[[PyTree], PyTree] = lambda tree: tree

  def __post_init__(self):
    checks.whole(1, group_size=self.group_size, epochs=self.epochs, minibatches=self.minibatches)
    if self.group_size < self.min_group_size:
      raise ValueError(f"group_size={self.group_size}: group-relative credit needs at least {self.min_group_size} "
                       "episodes of an instance")
    language_parts.check_old_log_probs(self.old_log_probs, self.sampler_weight_cap)
    _ = self.settled  # tells of settings that disagree

  @functools.cached_property
  def rescored(self) -> bool:
    """Whether the old log-probabilities are the trainer's."""
    if self.old_log_probs is not None:
      return self.old_log_probs == "trainer"
    return language_parts.has_low_precision(jax.eval_shape(self.agent.init, jax.random.key(0)))

  @functools.cached_property
  def settled(self) -> tuple[PolicyLoss, dict[str, Any]]:
    """The policy loss, and the settings of `losses.aggregate` that it and all that must agree with it follow."""
    return aggregation_lib.settle(self.policy_loss, self.aggregation, axis_name=self.axis_name)


def play(parts: ControlParts, params: PyTree, key: Array, instances: PyTree) -> Trajectory:
  """Plays a group on each of the `[B]` instances: a `Trajectory` of `[B, G, T]`.

  Raises:
    ValueError: if `parts.rollout` plays groups of another size than the parts say.
  """
  def independent(params, key, instance):
    keys = jax.random.split(key, parts.group_size)
    return jax.vmap(parts.agent.rollout, (None, 0, None))(params, keys, instance)

  keys = jax.random.split(key, jax.tree.leaves(instances)[0].shape[0])
  keys, instances = mesh.own_share((keys, parts.constrain(instances)), parts.axis_name, "groups")
  episodes = jax.vmap(parts.rollout or independent, (None, 0, 0))(params, keys, instances)
  if episodes.mask.shape[1] != parts.group_size:
    raise ValueError(f"group_size={parts.group_size}, but the rollout {describe.name_of(parts.rollout or independent)} "
                     f"plays groups of {episodes.mask.shape[1]}")
  episodes = episodes if parts.judge is None else jax.vmap(parts.judge)(episodes)
  return mesh.gather(parts.constrain(episodes), parts.axis_name)


def success_rate(parts: ControlParts, params: PyTree, key: Array, instances: PyTree) -> Array:
  """Plays one episode on each of the `[E]` instances and returns the share whose outcome reaches 1."""
  keys = jax.random.split(key, jax.tree.leaves(instances)[0].shape[0])
  keys, instances = mesh.own_share((keys, instances), parts.axis_name, "held-out instances")
  episodes = jax.vmap(parts.agent.rollout, (None, 0, 0))(params, keys, instances)
  outcomes = mesh.gather(jax.vmap(parts.outcome)(episodes), parts.axis_name)
  return jnp.mean((outcomes >= 1).astype(jnp.float32))


def _scores(parts: ControlParts, params: PyTree, rows: Trajectory):
  return jax.vmap(parts.agent.score, (None, 0))(params, rows)


def _scored_again(parts: ControlParts, params: PyTree, episodes: Trajectory) -> Array:
  """Returns the log-probabilities of `[B, G, T]` actions under given parameters, without gradient."""
  own = _scores(parts, params, _own_rows(parts, _rows(episodes))).log_probs
  every = mesh.gather(own, parts.axis_name).reshape(episodes.mask.shape)
  return jax.lax.stop_gradient(stats.masked(every, episodes.mask))


def _own_rows(parts: ControlParts, rows: PyTree) -> PyTree:
  return mesh.own_share(rows, parts.axis_name, "episodes of a gradient step")


def _rows(tree: PyTree) -> PyTree:
  """Flattens `[B, G, ...]` to `[B G, ...]`."""
  return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), tree)


def init_state(parts: ControlParts, key: Array) -> TrainState:
  """Initialises parameters, optimisers, reward state and the key of the first update."""
  param_key, reward_key, run_key = jax.random.split(key, 3)
  params = parts.agent.init(param_key)
  if parts.reward_state is None:
    reward_state = parts.reward_transform.init(reward_key, Rewards(outcome=jnp.zeros(parts.group_size)))
  else:
    reward_state = parts.reward_state(reward_key, params)
  return TrainState(
      step=jnp.zeros((), jnp.int32), key=run_key, params=params, opt_state=parts.optimizer.init(params),
      reward_state=reward_state,
      warmup_opt_state=None if parts.warmup is None else parts.warmup.optimizer.init(params),
      ref_params=jax.tree.map(jnp.copy, params) if parts.use_reference else None)


def clone_loss(agent: Agent, params: PyTree, demonstrations: Trajectory) -> Array:
  """Averages the negative log-likelihood of demonstrated actions over the counted steps of `[N, T]` episodes."""
  scores = jax.vmap(agent.score, (None, 0))(params, demonstrations)
  return -stats.masked_mean(scores.log_probs, demonstrations.mask)


def warmup_update(parts: ControlParts, state: TrainState) -> tuple[TrainState, Metrics]:
  """Takes one step of behaviour cloning."""
  key, draw_key = jax.random.split(state.key)
  batch = parts.warmup.demonstrations(draw_key)
  loss_fn = lambda params, batch: (clone_loss(parts.agent, params, batch), {})
  weight = lambda batch: 1.0 if parts.axis_name is None else stats.masked_count(batch.mask, batch.mask)
  gradient = state_lib.accumulate(
      loss_fn, weight, state.params, _own_rows(parts, parts.constrain(batch)), axis_name=parts.axis_name)
  params, opt_state, metrics = state_lib.apply_gradient(
      parts.warmup.optimizer, state.params, state.warmup_opt_state, gradient)
  applied = metrics.pop("applied")
  metrics["tokens"] = stats.masked_count(batch.mask, batch.mask)
  state = state.replace(
      step=state.step + 1, key=key, params=params, warmup_opt_state=opt_state,
      ref_params=params if parts.use_reference else None,
      skipped=state.skipped + (applied == 0).astype(jnp.int32))
  return state, metrics


def credit(parts: ControlParts, raw: Rewards, episodes: Trajectory,
           reward_state: PyTree) -> tuple[Rewards, Array, Array | None, PyTree]:
  """Transforms the rewards of `[B]` groups and assigns credit.

  Returns:
    `(rewards, advantages [B, G, T], value targets [B, G, T] or None, reward_state)`; no gradient flows.
  """
  def one_group(raw, group, reward_state):
    rewards, reward_state = parts.reward_transform.apply(raw, group, reward_state)
    advantages = describe.credit_of_group(parts.advantage_estimator, rewards, group)
    target = parts.value_target and describe.credit_of_group(parts.value_target, rewards, group, "value target")
    return (rewards, advantages, target), reward_state

  batched = jax.vmap(one_group, (0, 0, None), (0, None), axis_name=GROUPS)
  (rewards, advantages, target), reward_state = batched(raw, episodes, reward_state)
  if parts.whiten:
    advantages = stats.whiten(advantages, episodes.mask)
  return *jax.lax.stop_gradient((rewards, advantages, target)), reward_state


def _loss(parts: ControlParts, params: PyTree, piece: tuple) -> tuple[Array, Metrics]:
  """Evaluates policy loss, value loss and entropy of `[N, T]` episodes."""
  rows, advantages, target = piece
  scores = _scores(parts, params, rows)
  policy_loss, averaged = parts.settled
  if parts.rescored and parts.epochs * parts.minibatches == 1:  # as in the language learner
    rows = rows.replace(log_prob_old=jax.lax.stop_gradient(scores.log_probs))
  loss, metrics = policy_loss(scores.log_probs, rows, advantages)
  entropy = losses.aggregate(scores.entropy, rows.mask, **averaged)
  loss -= parts.entropy_coef * entropy
  if target is not None:
    value, more = losses.value_loss(scores.values, target, rows.mask, **aggregation_lib.loss_arguments(averaged))
    loss += parts.value_coef * value
    metrics = metrics | more | {"value_loss": value}
  return loss, metrics | {"entropy": entropy}


def learn(parts: ControlParts, state: TrainState, episodes: Trajectory) -> tuple[TrainState, Metrics]:
  """Assigns credit to `[B, G]` episodes and takes the gradient steps of one update.

  Rewards, given or transformed, advantages, value targets and reward states that are not finite leave parameters,
  optimiser and reward state as they were and are reported; losses and gradients that are not, parameters and optimiser.
  """
  sampled, weights, mismatch = episodes.log_prob_old, None, {}
  if parts.rescored:
    episodes = episodes.replace(log_prob_old=_scored_again(parts, state.params, episodes))
    flat = lambda x: x.reshape(-1, x.shape[-1])
    weights, mismatch = scoring.weigh(
        *map(flat, (episodes.log_prob_old, sampled, episodes.mask)), parts.sampler_weight_cap, episodes.mask.shape)
  if parts.use_reference:
    episodes = episodes.replace(ref_log_probs=_scored_again(parts, state.ref_params, episodes))
  raw = Rewards(outcome=jax.vmap(jax.vmap(parts.outcome))(episodes).astype(jnp.float32))
  rewards, advantages, target, reward_state = credit(parts, raw, episodes, state.reward_state)
  made = (advantages,) if target is None else (advantages, target)
  paid = scoring.counted_rewards(rewards, episodes.mask)
  good, flags = state_lib.check_credit(
      raw, paid, [stats.masked(x, episodes.mask) for x in made], reward_state, state.reward_state)

  def gradient_step(carry, piece):
    params, opt_state = carry
    weight = lambda piece: losses.aggregation_weight(piece[0].mask, **parts.settled[1])
    gradient = state_lib.accumulate(
        functools.partial(_loss, parts), weight, params, _own_rows(parts, piece), axis_name=parts.axis_name)
    params, opt_state, metrics = state_lib.apply_gradient(
        parts.optimizer, params, opt_state, gradient, allowed=good)
    return (params, opt_state), metrics

  weighted = advantages if weights is None else advantages * weights
  key, shuffle_key = jax.random.split(state.key)
  (params, opt_state), metrics = state_lib.minibatch_steps(
      gradient_step, (state.params, state.opt_state), _rows((episodes, weighted, target)), shuffle_key,
      epochs=parts.epochs, minibatches=parts.minibatches)
  metrics, applied = state_lib.summarise_steps(metrics)
  metrics |= _describe(parts, raw, rewards, episodes, advantages) | flags | mismatch
  state = state.replace(
      step=state.step + 1, key=key, params=params, opt_state=opt_state,
      reward_state=state_lib.select(good, reward_state, state.reward_state),
      skipped=state.skipped + (~applied).astype(jnp.int32))
  return state, metrics


def _describe(parts: ControlParts, raw: Rewards, rewards: Rewards, episodes: Trajectory, advantages: Array) -> Metrics:
  finite = lambda x: jnp.where(jnp.isfinite(x), x, 0.0)
  metrics = {
      "reward": jnp.mean(finite(raw.outcome)),
      "success": jnp.mean((raw.outcome >= 1).astype(jnp.float32)),
      "episode_length": jnp.mean(jnp.sum(episodes.mask > 0, -1).astype(jnp.float32)),
      "tokens": stats.masked_count(episodes.mask, episodes.mask),
      "advantage_abs": stats.masked_mean(jnp.abs(finite(advantages)), episodes.mask),
  }
  return metrics | (parts.describe(raw, rewards, episodes, advantages) if parts.describe else {})


def make_control_experiment(parts: ControlParts) -> Experiment:
  """Joins the stages into an experiment.

  Args:
    parts: the composition.

  Returns:
    The experiment; `evaluate` gives `success` on held-out instances that are the same at every evaluation.
  """
  held_out = parts.test_instances or parts.instances

  def update(state):
    key, instance_key, play_key, probe_key = jax.random.split(state.key, 4)
    episodes = play(parts, state.params, play_key, parts.instances(instance_key))
    probed = {}
    if parts.probe:
      probed["test_success"] = success_rate(parts, state.params, probe_key, held_out(jax.random.fold_in(probe_key, 1)))
    state, metrics = learn(parts, state.replace(key=key), episodes)
    return state, metrics | probed

  def evaluate(state):
    instance_key, play_key = jax.random.split(jax.random.key(2**20))
    single = dataclasses.replace(parts, axis_name=None)  # runs outside of the mapped update
    return {"success": success_rate(single, state.params, play_key, held_out(instance_key))}

  warmup = parts.warmup and Stage("cloning", parts.warmup.steps, functools.partial(warmup_update, parts))
  return Experiment(
      init=functools.partial(init_state, parts), update=update, evaluate=evaluate, warmup=warmup, unit=parts.unit)
