"""Training a policy on streams of steps: N worlds side by side, T steps an update, reset where an episode ends.

    world, policy = ..., policies.make_stream_policy(world)
    experiment = on_policy.make_on_policy_experiment(on_policy.OnPolicyParts(
        world, policy, instances=lambda key: (), optimizer=state.make_optimizer(2.5e-4), **on_policy_settings.ppo()))

Other credit: `**on_policy_settings.ppo() | dict(credit=on_policy_settings.n_step_credit)`, or a function of your own.

Everything is pure and jittable, and floats may be tracers: seeds and arms are lanes of one `vmap`. An end by time-out
bootstraps from the value of the true last state and passes no credit on; see `types.Stream`.
"""

from collections.abc import Callable
import dataclasses
import functools

from flax import struct
import jax
from jax import flatten_util
import jax.numpy as jnp
import optax

from rlcore import checks, losses, stats
from rlcore.training import on_policy_settings, streams
from rlcore.training import state as state_lib
from rlcore.training import stream_rewards
from rlcore.types import Array, Experiment, Metrics, PolicyLoss, PyTree, Stream, StreamPolicy, StreamReward, World

_WHITEN = ("minibatch", "batch", "none")
_EVALUATION_KEY = 2**20  # the same held-out episodes at every evaluation


_MOST_HORIZONS = 8  # that an evaluation waits for the end of an episode


def succeeded(parts, stream: Stream, returns: Array) -> Array | None:
  """Tells of steps `[T, N]` whether the episode, should it end there, has succeeded; None where nothing says so.

  It asks `success` of `OnPolicyParts` or `OffPolicyParts`, or else compares returns with the world's `success_return`.
  """
  if parts.success is not None:
    return parts.success(stream, returns)
  goal = parts.world.success_return
  return None if goal is None else returns >= goal


@dataclasses.dataclass(frozen=True)
class OnPolicyParts:
  """The composition of one experiment on streams.

  Attributes:
    world: how a world moves.
    policy: what acts, and the critic.
    instances: `(key) -> params of the world`, drawn anew for every episode.
    optimizer: optax transformation.
    credit: `(Stream of [T], log_probs [T]) -> (advantages [T], value targets [T])`.
    policy_loss: `(log_probs [n, t], Stream of [n, t], advantages [n, t]) -> (scalar, metrics)`.
    num_worlds: N.
    num_steps: T, steps of every world in an update.
    gamma: discount.
    reward: what the steps are paid, once a rollout.
    instance_pool: P, instances that are drawn at the start of a rollout for the episodes that begin in it; 0 draws one
      at every step. See `streams.collect`.
    value_coef: weight of the value loss.
    value_clip: of `losses.value_loss`, or None.
    entropy_coef: weight of the entropy that is added to the objective.
    whiten: advantages get mean 0 and variance 1 over each "minibatch", over the "batch" of the rollout, or "none".
    epochs: passes over the steps of an update.
    minibatches: gradient steps a pass. Steps are shuffled one by one; whole worlds are where the policy has a memory
      or credit is fresh. A divisor of how many there are.
    fresh_credit: assign credit in every gradient step by the present policy and critic, not once a rollout.
    flat_params: the optimiser sees the parameters as one vector. A step of small networks is bound by how many arrays
      there are to move: with PPO's of 64 hidden units it takes 5 % less time, and the learner a fifth less to compile.
      The same numbers for optimisers that treat each parameter alike, or all by their norm; not for those that look at
      layers (masks, LAMB, Muon), which is why it is off by default.
    success: `(Stream of [T, N], returns [T, N]) -> [T, N] bool`, read where an episode ends; None compares returns with
      the world's `success_return`, and tells of no success where that is None too.
    describe: `(reward state, Stream of [T, N], paid [T, N], advantages [T, N]) -> metrics`, or None.
    test_instances: `(key) -> params of the world`, held out; None takes `instances`.
    eval_worlds: episodes of an evaluation.
    constrain: `(pytree of [N, ...]) -> same`, lays worlds and minibatches out over a mesh (`training.mesh`); identity
      by default.
    unit: what the steps are, for the progress line; a name in the plural.
  """

  world: World
  policy: StreamPolicy
  instances: Callable[[Array], PyTree]
  optimizer: optax.GradientTransformation
  credit: on_policy_settings.Credit
  policy_loss: PolicyLoss
  num_worlds: int = 32
  num_steps: int = 128
  gamma: float | Array = 0.99
  reward: StreamReward = dataclasses.field(default_factory=stream_rewards.task_reward)
  instance_pool: int = 0
  value_coef: float | Array = 0.5
  value_clip: float | Array | None = None
  entropy_coef: float | Array = 0.0
  whiten: str = "minibatch"
  epochs: int = 1
  minibatches: int = 1
  fresh_credit: bool = False
  flat_params: bool = False
  success: Callable[[Stream, Array], Array] | None = None
  describe: Callable[[PyTree, Stream, Array, Array], Metrics] | None = None
  test_instances: Callable[[Array], PyTree] | None = None
  eval_worlds: int = 32
  constrain: Callable[[PyTree], PyTree] = lambda tree: tree
  unit: str = "steps"

  def __post_init__(self):
    if self.whiten not in _WHITEN:
      raise ValueError(f"whiten={self.whiten!r} is none of {', '.join(_WHITEN)}")
    if not (callable(getattr(self.reward, "init", None)) and callable(getattr(self.reward, "apply", None))):
      raise TypeError(f"reward={self.reward!r} is no StreamReward: training.stream_rewards makes them")
    checks.between(0, 1, gamma=self.gamma)
    checks.at_least(0, value_coef=self.value_coef, value_clip=self.value_clip)
    checks.whole(1, num_worlds=self.num_worlds, num_steps=self.num_steps, epochs=self.epochs,
                 minibatches=self.minibatches)
    checks.whole(0, eval_worlds=self.eval_worlds, instance_pool=self.instance_pool)
    if self.rows % self.minibatches:
      kind = "worlds" if self.whole else "steps"
      raise ValueError(f"minibatches={self.minibatches} does not divide the {self.rows} {kind} of a rollout")

  @property
  def whole(self) -> bool:
    """Whether minibatches are made of whole worlds."""
    return self.fresh_credit or bool(jax.tree.leaves(self.policy.memory))

  @property
  def rows(self) -> int:
    """How many pieces there are to shuffle."""
    return self.num_worlds * (1 if self.whole else self.num_steps)

  def movable(self, params: PyTree) -> tuple[PyTree, Callable[[PyTree], PyTree]]:
    """Returns the parameters as the optimiser sees them, and the way back."""
    return flatten_util.ravel_pytree(params) if self.flat_params else (params, lambda params: params)


@struct.dataclass
class StreamState(state_lib.TrainState):
  """`TrainState` with what goes on from rollout to rollout.

  Attributes:
    worlds: where the worlds are.
    ends: what is known of the episodes that have ended, see `count_ends`.
  """

  worlds: streams.Worlds | None = None
  ends: dict[str, Array] | None = None


def init_state(parts: OnPolicyParts, key: Array) -> StreamState:
  """Initialises parameters, optimiser, reward state, worlds and the key of the first update.

  Raises:
    TypeError: for a key that is none, or a world without the signature of `types.World`.
    ValueError: for a policy whose actions are not those of the world.
  """
  streams.check_world(parts.world, parts.instances)
  param_key, reward_key, world_key, run_key = jax.random.split(streams.checked_key(key), 4)
  params = parts.policy.init(param_key)
  streams.check_policy(parts.world, parts.policy, params, parts.instances)
  return StreamState(
      step=jnp.zeros((), jnp.int32), key=run_key, params=params,
      opt_state=parts.optimizer.init(parts.movable(params)[0]),
      reward_state=parts.reward.init(reward_key, parts.num_worlds),
      worlds=streams.start(parts.world, parts.policy, parts.instances, world_key, parts.num_worlds),
      ends=no_ends())


def no_ends() -> dict[str, Array]:
  """Returns what `count_ends` starts from."""
  none, zero = jnp.zeros((), jnp.int32), jnp.zeros(())
  return dict(steps=none, episodes=none, successes=none, mean_return=zero, success=zero, episode_return=zero,
              episode_length=zero)


def count_ends(
    ends: streams.Ends, success: Array | None, before: dict[str, Array]) -> tuple[dict[str, Array], Metrics]:
  """Accounts for the episodes that ended in a rollout.

  Args:
    ends: `[T, N]`.
    success: `[T, N]`, read where an episode ended; None leaves successes out of the metrics.
    before: what was known: `steps`, `episodes` and `successes` so far, `mean_return` of all episodes, and `success`,
      `episode_return` and `episode_length` of the last update in which any ended.

  Returns:
    `(the same after the rollout, metrics)`. What would not be finite stays as it was.
    `success`, `episode_return` and `episode_length` are means over the
    episodes that ended in this update; where none did they keep their last values (0 before the first), so weigh them
    by `episodes`. `total_...` are over all training.
  """
  count = jnp.sum(ends.ended, dtype=jnp.int32)
  told = success is not None
  success = success if told else jnp.zeros(ends.ended.shape, bool)
  won = jnp.sum(ends.ended & (success > 0), dtype=jnp.int32)
  mean = lambda x: stats.masked_mean(x, ends.ended)
  now = dict(success=mean(success), episode_return=mean(ends.returns), episode_length=mean(ends.lengths))
  now = {name: jnp.where(count > 0, x, before[name]) for name, x in now.items()}
  episodes = before["episodes"] + count
  share = count / jnp.maximum(episodes, 1)
  after = now | dict(
      steps=before["steps"] + ends.ended.size, episodes=episodes, successes=before["successes"] + won,
      mean_return=before["mean_return"] + jnp.where(count > 0, mean(ends.returns) - before["mean_return"], 0) * share)
  # One return that is no number would stay in a mean over all training for good.
  after = {name: jnp.where(jnp.isfinite(x), x, before[name]) for name, x in after.items()}
  metrics = {name: after[name] for name in now} | dict(
      episodes=count, successes=won, total_steps=after["steps"], total_episodes=episodes,
      total_success=after["successes"] / jnp.maximum(episodes, 1), total_return=after["mean_return"])
  return after, {name: x.astype(jnp.float32) for name, x in metrics.items() if told or "success" not in name}


def pay(reward: StreamReward, state: PyTree, stream: Stream) -> tuple[Array, PyTree]:
  """Pays the steps `[T, N]` of a rollout: `(float32 [T, N] without gradient, state of the reward)`.

  Raises:
    TypeError: if the reward does not return two things.
    ValueError: if the rewards do not come as `[T, N]`.
  """
  told = reward.apply(state, stream)
  if not isinstance(told, tuple) or len(told) != 2:
    raise TypeError("the reward of a rollout must return (rewards [T, N], state)")
  paid, state = told
  if paid.shape != stream.reward_t.shape:
    raise ValueError(f"the reward of a rollout [T, N] = {stream.reward_t.shape} came back as {paid.shape}")
  return jax.lax.stop_gradient(paid.astype(jnp.float32)), state


def assign_credit(credit: on_policy_settings.Credit, rows: Stream, log_probs: Array,
                  axis: int = 0) -> tuple[Array, Array]:
  """Assigns credit to the steps of a rollout: `(advantages, value targets)`, without gradient, shaped like the steps.

  Args:
    credit: see `OnPolicyParts`.
    rows: `[N, T]`, or `[T, N]` where `axis` is 1.
    log_probs: of the policy, like `rows`.
    axis: of the worlds.

  Returns:
    `(advantages, value targets)`.

  Raises:
    TypeError: if the credit of a stream does not return two things.
    ValueError: if they do not come as `[T]`.
  """
  def one(row, log_probs):
    told = credit(row, log_probs)
    if not isinstance(told, tuple) or len(told) != 2:
      raise TypeError("credit must return (advantages [T], value targets [T])")
    shapes = tuple(jnp.shape(x) for x in told)
    if shapes != (row.reward_t.shape,) * 2:
      raise ValueError(f"credit of a stream [T] = {row.reward_t.shape} must return advantages and value targets of the "
                       f"same shape; they came back as {shapes[0]} and {shapes[1]}")
    return told

  return jax.lax.stop_gradient(jax.vmap(one, axis, axis)(rows, log_probs))


def _loss(parts: OnPolicyParts, params: PyTree, piece: tuple) -> tuple[Array, Metrics]:
  """Evaluates policy loss, value loss and entropy of `[n, t]` steps."""
  rows, advantages, targets, memory = piece
  rows = rows.replace(mask=jnp.ones(rows.reward_t.shape))  # as it was, but known when the program is compiled
  scores, after = streams.score(parts.policy, params, memory, rows)
  if parts.fresh_credit:
    value_tp1 = streams.next_values(parts.policy, params, after, rows.next_observation)
    present = rows.replace(value_t=jax.lax.stop_gradient(scores.values),
                           value_tp1=jnp.where(rows.discount_t > 0, value_tp1, 0.0))
    advantages, targets = assign_credit(parts.credit, present, scores.log_probs)
  if parts.whiten == "minibatch":
    advantages = stats.whiten(advantages)
  loss, metrics = parts.policy_loss(scores.log_probs, rows, advantages)
  clip = {} if parts.value_clip is None else dict(values_old=rows.value_t, clip=parts.value_clip)
  value, more = losses.value_loss(scores.values, targets, rows.mask, **clip)
  entropy = jnp.mean(scores.entropy)
  total = loss + parts.value_coef * value - parts.entropy_coef * entropy
  return total, metrics | more | {"policy_loss": loss, "value_loss": value, "entropy": entropy}


def learn(parts: OnPolicyParts, state: StreamState, stream: Stream, memory: PyTree,
          key: Array) -> tuple[StreamState, Metrics]:
  """Pays the steps of a rollout, assigns credit and takes the gradient steps of one update.

  Observations, rewards (the world's or paid), advantages, value targets and reward states that are not finite, like
  losses and gradients that are not, are reported and undo the update as a whole: parameters and optimiser are left as
  they were, for all but losses and gradients the reward's state is, too.

  Args:
    parts: the composition.
    state: before the update.
    stream: `[T, N]`.
    memory: `[N, ...]`, the policy's before the first step.
    key: PRNG key of the order in which the steps are seen.

  Returns:
    `(state, metrics)`.

  Raises:
    ValueError: if the rewards do not come as `[T, N]`.
  """
  paid, reward_state = pay(parts.reward, state.reward_state, stream)
  good_observation = state_lib.all_finite((stream.observation, stream.next_observation))
  rows = stream.replace(reward_t=paid)
  advantages, targets = assign_credit(parts.credit, rows, rows.log_prob_old, axis=1)
  good_credit, flags = state_lib.check_credit(
      stream.reward_t, paid, (advantages, targets), reward_state, state.reward_state)
  good = good_observation & good_credit
  described = _describe(parts, reward_state, stream, paid, advantages)
  if parts.whiten == "batch":
    advantages = stats.whiten(advantages)
  batch = rows, advantages, targets
  if parts.whole:
    batch = *parts.constrain(jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), batch)), memory
  else:
    batch = *jax.tree.map(lambda x: x.reshape(-1, 1, *x.shape[2:]), batch), parts.policy.memory
  start, restore = parts.movable(state.params)

  def gradient_step(carry, piece):
    params, opt_state = carry
    loss = lambda params, piece: _loss(parts, restore(params), piece)
    gradient = state_lib.accumulate(loss, lambda piece: 1.0, params, parts.constrain(piece))
    params, opt_state, metrics = state_lib.move(parts.optimizer, params, opt_state, gradient)
    return (params, opt_state), metrics

  before = start, state.opt_state
  moved, metrics = state_lib.minibatch_steps(
      gradient_step, before, batch, key, epochs=parts.epochs, minibatches=parts.minibatches)
  metrics, applied = state_lib.summarise_steps(metrics)
  applied &= good
  params, opt_state = state_lib.select(applied, moved, before)
  metrics |= described | flags | {"nonfinite_observation": (~good_observation).astype(jnp.float32)}
  return state.replace(
      step=state.step + 1, params=restore(params), opt_state=opt_state,
      reward_state=state_lib.select(good, reward_state, state.reward_state),
      skipped=state.skipped + (~applied).astype(jnp.int32)), metrics


def _describe(parts: OnPolicyParts, reward_state: PyTree, stream: Stream, paid: Array, advantages: Array) -> Metrics:
  mean = lambda x: jnp.mean(jnp.where(jnp.isfinite(x), x, 0.0))
  metrics = {"reward": mean(stream.reward_t), "paid": mean(paid), "advantage_abs": mean(jnp.abs(advantages)),
             "value": mean(stream.value_t), "tokens": jnp.asarray(paid.size, jnp.float32)}
  return metrics | (parts.describe(reward_state, stream, paid, advantages) if parts.describe else {})


def evaluate(parts: OnPolicyParts, params: PyTree) -> Metrics:
  """Plays one episode in each of `eval_worlds` worlds, on held-out instances that are the same every time.

  Episodes are played to their ends, also where they are longer than the world's horizon, up to 8 horizons. Where one
  has not ended by then, or there is none, the means are NaN; `unfinished` is the share of those that have not.
  """
  instances, count = parts.test_instances or parts.instances, parts.eval_worlds
  start_key, play_key = jax.random.split(jax.random.key(_EVALUATION_KEY))
  worlds = streams.start(parts.world, parts.policy, instances, start_key, count)

  def play(carry):
    horizons, worlds, key, done, told = carry
    worlds, stream, ends = streams.collect(
        parts.world, parts.policy, instances, params, parts.constrain(worlds), key, num_steps=parts.world.horizon,
        pool=min(parts.instance_pool, 1))
    first = ends.ended & (jnp.cumsum(ends.ended, 0) == 1) & ~done
    success = succeeded(parts, stream, ends.returns)
    now = {"episode_return": ends.returns, "episode_length": ends.lengths, "success": success}
    told = {name: x + stats.masked_sum(now[name], first, axis=0) for name, x in told.items()}
    return horizons + 1, worlds, jax.random.fold_in(key, 1), done | jnp.any(first, 0), told

  waits = lambda carry: (carry[0] < _MOST_HORIZONS) & ~jnp.all(carry[3])
  told_of = parts.success is not None or parts.world.success_return is not None
  names = ("episode_return", "episode_length") + ("success",) * told_of
  zeros = {name: jnp.zeros(count, jnp.float32) for name in names}
  if not count:
    return {name: jnp.full((), jnp.nan) for name in names} | {"unfinished": jnp.zeros(())}
  carry = jnp.zeros((), jnp.int32), worlds, play_key, jnp.zeros(count, bool), zeros
  *_, done, told = jax.lax.while_loop(waits, play, carry)
  means = {name: jnp.where(jnp.all(done), jnp.mean(x), jnp.nan) for name, x in told.items()}
  return means | {"unfinished": 1 - jnp.mean(done.astype(jnp.float32))}


def make_on_policy_experiment(parts: OnPolicyParts) -> Experiment:
  """Joins the stages into an experiment.

  Args:
    parts: the composition.

  Returns:
    The experiment; its state is a `StreamState`.
  """
  def update(state: StreamState) -> tuple[StreamState, Metrics]:
    key, play_key, learn_key = jax.random.split(state.key, 3)
    worlds, stream, ends = streams.collect(
        parts.world, parts.policy, parts.instances, state.params, parts.constrain(state.worlds), play_key,
        num_steps=parts.num_steps, gamma=parts.gamma, pool=parts.instance_pool)
    known, counted = count_ends(ends, succeeded(parts, stream, ends.returns), state.ends)
    state, metrics = learn(parts, state.replace(key=key), stream, state.worlds.memory, learn_key)
    return state.replace(worlds=worlds, ends=known), metrics | counted

  return Experiment(init=functools.partial(init_state, parts), update=update,
                    evaluate=lambda state: evaluate(parts, state.params), unit=parts.unit)
