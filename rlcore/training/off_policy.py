"""Training on replayed steps: N worlds are stepped T times an update, and K batches of old steps are learned.

    experiment = off_policy.make_off_policy_experiment(off_policy.OffPolicyParts(
        world, instances=lambda key: (), optimizer=state.make_optimizer(1e-3), **off_policy_settings.dqn()))

Everything is pure and jittable, the buffer is part of the state, and floats may be tracers: seeds and arms are lanes of
one `vmap`. Targets bootstrap from what a step truly led to, at a time-out too, and from nothing where it terminated.
"""

from collections.abc import Callable, Mapping
import dataclasses
import functools

from flax import struct
import jax
import jax.numpy as jnp
import optax

from rlcore import checks, policies
from rlcore.training import off_policy_settings, on_policy, replay, stream_rewards, streams
from rlcore.training import state as state_lib
from rlcore.types import Array, Experiment, Metrics, PyTree, Stream, StreamPolicy, StreamReward, World

_FLAGS = ("nonfinite_loss", "nonfinite_grad")


@dataclasses.dataclass(frozen=True)
class OffPolicyParts:
  """The composition of one experiment on replayed steps.

  Attributes:
    world: how a world moves.
    instances: `(key) -> params of the world`, drawn anew for every episode.
    optimizer: optax transformation of every group of parameters, or one for each, by name.
    method: the algorithm, of `off_policy_settings`.
    random: `(steps of all worlds so far) -> share of uniform actions`.
    num_worlds: N.
    num_steps: T, steps of every world in an update.
    num_updates: K, gradient steps in an update.
    batch_size: B, replayed steps in a gradient step; sequences where the method has a memory.
    capacity: steps that the buffer holds.
    learning_starts: stored steps before the first gradient step.
    n: steps of a target; 1 where the method has a memory, whose loss joins them.
    gamma: discount.
    target_rate: how far the target networks move towards the trained ones, in (0, 1]; 1 copies them.
    target_period: gradient steps between these moves.
    periods: gradient steps between those of a group, where it is not every one.
    action_scale: `[]` or `[A]`, above 0: real actions are mapped onto plus or minus this; None maps them onto the
      world's own box.
    reward: what the steps are paid, once a rollout, when they are stored.
    instance_pool: of `streams.collect`.
    success: as in `OnPolicyParts`.
    describe: `(reward state, Stream of [T, N], paid [T, N]) -> metrics`, or None.
    test_instances: `(key) -> params of the world`, held out; None takes `instances`.
    eval_worlds: episodes of an evaluation.
    constrain: `(pytree of [N, ...]) -> same`, lays worlds and replayed batches out over a mesh (`training.mesh`);
      identity by default.
    unit: what the steps are, for the progress line; a name in the plural.
  """

  world: World
  instances: Callable[[Array], PyTree]
  optimizer: optax.GradientTransformation | Mapping[str, optax.GradientTransformation]
  method: off_policy_settings.Method
  random: Callable[[Array], Array]
  num_worlds: int = 8
  num_steps: int = 4
  num_updates: int = 4
  batch_size: int = 64
  capacity: int = 20_000
  learning_starts: int | Array = 500
  n: int = 1
  gamma: float | Array = 0.99
  target_rate: float | Array = 0.005
  target_period: int | Array = 1
  periods: Mapping[str, int | Array] = dataclasses.field(default_factory=dict)
  action_scale: float | Array | None = None
  reward: StreamReward = dataclasses.field(default_factory=stream_rewards.task_reward)
  instance_pool: int = 0
  success: Callable[[Stream, Array], Array] | None = None
  describe: Callable[[PyTree, Stream, Array], Metrics] | None = None
  test_instances: Callable[[Array], PyTree] | None = None
  eval_worlds: int = 32
  constrain: Callable[[PyTree], PyTree] = lambda tree: tree
  unit: str = "steps"

  def __post_init__(self):
    name, count, size = self.method.name, self.world.num_actions, self.world.action_size
    if self.method.continuous and not size:
      raise ValueError(f"{name} takes real actions, but this world has {count} discrete ones")
    if not self.method.continuous and size:
      raise ValueError(f"{name} takes discrete actions, but those of this world are {size} real numbers")
    checks.whole(1, num_worlds=self.num_worlds, num_steps=self.num_steps, num_updates=self.num_updates, n=self.n,
                 batch_size=self.batch_size, capacity=self.capacity, target_period=self.target_period,
                 **{f"periods[{name!r}]": period for name, period in self.periods.items()})
    checks.whole(0, eval_worlds=self.eval_worlds, instance_pool=self.instance_pool)
    checks.between(0, 1, gamma=self.gamma, target_rate=self.target_rate)
    checks.above(0, target_rate=self.target_rate)
    if isinstance(self.learning_starts, int) and self.learning_starts > self.held:
      raise ValueError(f"learning_starts={self.learning_starts} steps never lie in a buffer that holds {self.held}")
    if size:
      checks.above(0, action_scale=self.action_scale)
      _ = self.box  # tells of one that is none
    missing = isinstance(self.optimizer, Mapping) and [x for x in self.networks.losses if x not in self.optimizer]
    if missing:
      raise ValueError(f"optimizer has no {missing[0]!r}; {name} moves {', '.join(self.networks.losses)}")
    _ = self.buffer  # tells of sizes that do not fit

  @property
  def held(self) -> int:
    """How many steps the buffer holds in whole rows."""
    return self.capacity // self.num_worlds * self.num_worlds

  @functools.cached_property
  def networks(self) -> off_policy_settings.Networks:
    """The networks of the method in this world."""
    return self.method.networks(self.acted)

  @functools.cached_property
  def acted(self) -> World:
    """The world, with the box that actions are mapped onto."""
    if self.action_scale is None:
      return self.world
    low = tuple(-x for x in self.action_scale) if isinstance(self.action_scale, (tuple, list)) else -self.action_scale
    return self.world._replace(action_low=low, action_high=self.action_scale)

  @property
  def box(self) -> tuple[Array, Array]:
    """Middle and half width `[A]` of the box of real actions."""
    return policies.action_box(self.acted)

  @functools.cached_property
  def buffer(self) -> replay.Replay:
    """The functions of the buffer."""
    return replay.make_replay(num_worlds=self.num_worlds, num_steps=self.num_steps, capacity=self.capacity,
                              batch_size=self.batch_size, n=self.n, length=self.method.length)

  @functools.cached_property
  def policy(self) -> StreamPolicy:
    """What acts; its params are those of `acting`."""
    def step(params, memory, observation):
      output, memory = self.networks.output(params["networks"], memory, observation)
      return (output, params["random"], params["noise"]), jnp.zeros(()), memory

    def sample(key, distribution):
      output, random, noise = distribution
      draw_key, choose_key, any_key = jax.random.split(key, 3)
      action = self.networks.draw(draw_key, output, noise)
      if self.world.action_size:
        other = jax.random.uniform(any_key, action.shape, minval=-1.0, maxval=1.0)
      else:
        other = jax.random.randint(any_key, (), 0, self.world.num_actions, action.dtype)
      action = jnp.where(jax.random.uniform(choose_key) < random, other, action)
      if self.world.action_size:
        center, half_width = self.box
        action = center + half_width * action
      return action, jnp.zeros(())

    return StreamPolicy(lambda key: acting(self.networks.init(key), 0.0, 0.0), self.networks.memory, step, sample,
                        lambda distribution, action: (jnp.zeros(()), jnp.zeros(())))

  def optimizer_of(self, group: str) -> optax.GradientTransformation:
    """Returns the optimiser of a group of parameters."""
    return self.optimizer[group] if isinstance(self.optimizer, Mapping) else self.optimizer


@struct.dataclass
class OffPolicyState(on_policy.StreamState):
  """`StreamState` with what replay needs.

  Attributes:
    targets: slow copies of groups of parameters.
    replay: state of the buffer.
    gradient_steps: int32, taken so far.
  """

  targets: PyTree = None
  replay: PyTree = None
  gradient_steps: Array | None = None


def acting(params: PyTree, random: Array | float, noise: Array | float) -> PyTree:
  """Returns the params of `OffPolicyParts.policy`: share of uniform actions, and noise (0 acts greedily)."""
  return {"networks": params, "random": jnp.asarray(random, jnp.float32), "noise": jnp.asarray(noise, jnp.float32)}


def init_state(parts: OffPolicyParts, key: Array) -> OffPolicyState:
  """Initialises parameters, targets, optimisers, reward state, worlds, an empty buffer and the key of the first update.

  Raises:
    TypeError: for a key that is none, or a world without the signature of `types.World`.
  """
  streams.check_world(parts.world, parts.instances)
  param_key, reward_key, world_key, run_key = jax.random.split(streams.checked_key(key), 4)
  params = parts.networks.init(param_key)
  worlds = streams.start(parts.world, parts.policy, parts.instances, world_key, parts.num_worlds)
  seen = jax.tree.map(lambda x: jnp.zeros_like(x[0]), worlds.observation)
  action = jnp.zeros(parts.world.action_size) if parts.world.action_size else jnp.zeros((), jnp.int32)
  none, zero = jnp.zeros((), jnp.int32), jnp.zeros(())
  return OffPolicyState(
      step=none, key=run_key, params=params,
      opt_state={name: parts.optimizer_of(name).init(params[name]) for name in parts.networks.losses},
      reward_state=parts.reward.init(reward_key, parts.num_worlds), worlds=worlds, ends=on_policy.no_ends(),
      targets={name: params[name] for name in parts.networks.targets}, gradient_steps=none,
      replay=parts.buffer.init(replay.Steps(seen, action, zero, zero, jnp.zeros((), bool), seen, zero,
                                            parts.policy.memory if parts.method.length else None)))


def store(parts: OffPolicyParts, state: OffPolicyState, stream: Stream) -> tuple[OffPolicyState, Metrics]:
  """Pays the steps of a rollout and puts them into the buffer.

  Steps with numbers that are not finite are stored under a mask, so that nothing learns from them; the reward state
  is then left as it was. So it is where it is not finite itself: then no step of the rollout counts.

  Args:
    parts: the composition.
    state: before the rollout.
    stream: `[T, N]`.

  Returns:
    `(state, metrics)`.

  Raises:
    ValueError: if the rewards do not come as `[T, N]`.
  """
  paid, reward_state = on_policy.pay(parts.reward, state.reward_state, stream)
  good, flags = state_lib.check_credit(stream.reward_t, paid, (), reward_state, state.reward_state)
  if parts.world.action_size:
    center, half_width = parts.box
    stream = stream.replace(action=jnp.clip((stream.action - center) / half_width, -1.0, 1.0))
  good_observation = jnp.all(replay.from_stream(stream, jnp.zeros_like(paid)).mask > 0)
  mean = lambda x: jnp.mean(jnp.where(jnp.isfinite(x), x, 0.0))
  metrics = {
      "reward": mean(stream.reward_t), "paid": mean(paid), "tokens": jnp.asarray(paid.size, jnp.float32),
      "nonfinite_observation": (~good_observation).astype(jnp.float32)} | {
          name: x for name, x in flags.items() if name != "nonfinite_advantage"}
  if parts.describe:
    metrics |= parts.describe(reward_state, stream, paid)
  paid = jnp.where(flags["nonfinite_reward_state"] > 0, jnp.nan, paid)  # what such a state pays is not to be believed
  return state.replace(
      replay=parts.buffer.add(state.replay, replay.from_stream(stream, paid)),
      reward_state=state_lib.select(good_observation & good, reward_state, state.reward_state)), metrics


def learn(parts: OffPolicyParts, state: OffPolicyState) -> tuple[OffPolicyState, Metrics]:
  """Takes the K gradient steps of an update; none until the buffer holds enough.

  Losses and gradients that are not finite leave their group as it was and are reported.

  Args:
    parts: the composition.
    state: with the steps of the update stored.

  Returns:
    `(state, metrics)`; those of losses are 0 before learning starts.
  """
  size = parts.buffer.size(state.replay)
  ready = (size >= parts.learning_starts) & (size >= parts.buffer.rows * parts.num_worlds)

  def gradient_step(carry, key):
    params, opt_state, targets, taken = carry
    sample_key, *keys = jax.random.split(key, 1 + len(parts.networks.losses))
    batch = parts.constrain(parts.buffer.sample(state.replay, sample_key))
    allowed = ready & jnp.any(batch.mask > 0)
    metrics, flags = {}, {name: jnp.zeros(()) for name in (*_FLAGS, "failed")}
    for (name, loss), loss_key in zip(parts.networks.losses.items(), keys, strict=True):
      moves = allowed & ((taken + 1) % parts.periods.get(name, 1) == 0)
      loss = lambda group, batch, f=loss, p=params, k=loss_key: f(group, p, targets, batch, k)
      gradient = state_lib.accumulate(loss, lambda batch: 1.0, params[name], batch)
      group, inner, said = state_lib.apply_gradient(
          parts.optimizer_of(name), params[name], opt_state[name], gradient, allowed=moves)
      params, opt_state = params | {name: group}, opt_state | {name: inner}
      said["failed"] = moves * (1 - said.pop("applied"))
      flags = {flag: jnp.maximum(worst, moves * said.pop(flag)) for flag, worst in flags.items()}
      metrics |= {f"{name}_{what}" if what in ("loss", "grad_norm") else what: x for what, x in said.items()}
    slow = {name: params[name] for name in targets}
    moved = optax.incremental_update(slow, targets, parts.target_rate)
    moved = optax.periodic_update(moved, targets, taken + 1, parts.target_period)
    carry = params, opt_state, state_lib.select(allowed, moved, targets), taken + allowed.astype(jnp.int32)
    applied = 1 - flags.pop("failed")
    return carry, {what: jnp.where(ready, x, 0.0) for what, x in metrics.items()} | flags | {"applied": applied}

  key, learn_key = jax.random.split(state.key)
  carry = state.params, state.opt_state, state.targets, state.gradient_steps
  (params, opt_state, targets, taken), metrics = jax.lax.scan(
      gradient_step, carry, jax.random.split(learn_key, parts.num_updates))
  metrics, applied = state_lib.summarise_steps(metrics)
  metrics |= {"stored": size.astype(jnp.float32), "gradient_steps": taken.astype(jnp.float32)}
  return state.replace(
      step=state.step + 1, key=key, params=params, opt_state=opt_state, targets=targets, gradient_steps=taken,
      skipped=state.skipped + (~applied).astype(jnp.int32)), metrics


def make_off_policy_experiment(parts: OffPolicyParts) -> Experiment:
  """Joins the stages into an experiment.

  Args:
    parts: the composition.

  Returns:
    The experiment; its state is an `OffPolicyState`.
  """
  def update(state: OffPolicyState) -> tuple[OffPolicyState, Metrics]:
    key, play_key = jax.random.split(state.key)
    random = jnp.asarray(parts.random(state.ends["steps"]), jnp.float32)
    worlds, stream, ends = streams.collect(
        parts.world, parts.policy, parts.instances, acting(state.params, random, 1.0), parts.constrain(state.worlds),
        play_key, num_steps=parts.num_steps, gamma=parts.gamma, pool=parts.instance_pool,
        keep_memory=parts.method.length > 0)
    known, counted = on_policy.count_ends(ends, on_policy.succeeded(parts, stream, ends.returns), state.ends)
    state, metrics = store(parts, state.replace(key=key, worlds=worlds, ends=known), stream)
    state, more = learn(parts, state)
    return state, metrics | more | counted | {"random_actions": random}

  return Experiment(
      init=functools.partial(init_state, parts), update=update, unit=parts.unit,
      evaluate=lambda state: on_policy.evaluate(parts, acting(state.params, 0.0, 0.0)))
