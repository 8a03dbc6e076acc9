"""The algorithms on replayed steps as settings of `off_policy.OffPolicyParts`: DQN, DDPG, TD3, SAC.

An algorithm has groups of parameters, each with a loss and an optimiser state of its own; they step one after another.
Real actions are in [-1, 1] for all networks and are mapped onto the world's box for the world, whose units densities
have. All floats may be tracers.
"""

from collections.abc import Callable, Sequence
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rlcore import advantages, checks, losses, policies
from rlcore.models import mlp
from rlcore.training import replay
from rlcore.training import state as state_lib
from rlcore.types import Array, Metrics, PyTree, World

Loss = Callable[[PyTree, PyTree, PyTree, replay.Steps, Array], tuple[Array, Metrics]]
_LOG_STD = (-5.0, 2.0)


class Networks(NamedTuple):
  """Networks of one algorithm in one world.

  Attributes:
    init: `(key) -> params`, a dictionary of groups.
    output: `(params, memory, observation) -> (pytree, memory)`, what the policy draws from, of ONE observation.
    draw: `(key, output, noise []) -> action` of ONE observation; `noise` is 1 in training and 0 in an evaluation.
    losses: group -> `(params of the group, all params, target params, Steps [B], key) -> (scalar, metrics)`, in the
      order in which they step; `Steps [B, L]` where the method has a length L.
    targets: the groups that have a slow copy, which is `target params`.
    memory: pytree of arrays, the memory with which an episode starts; `()` for none.
  """

  init: Callable[[Array], PyTree]
  output: Callable[[PyTree, PyTree, PyTree], tuple[PyTree, PyTree]]
  draw: Callable[[Array, PyTree, Array], Array]
  losses: dict[str, Loss]
  targets: tuple[str, ...]
  memory: PyTree = ()


class Method(NamedTuple):
  """An algorithm.

  Attributes:
    name: for messages.
    continuous: whether its actions are real.
    networks: `(world) -> Networks`.
    length: L, steps of the sequences that are replayed; 0 replays single steps.
  """

  name: str
  continuous: bool
  networks: Callable[[World], Networks]
  length: int = 0


def linear_schedule(start: Array | float, end: Array | float, steps: Array | float) -> Callable[[Array], Array]:
  """Moves from `start` to `end` within so many steps of the worlds; tracers are fine."""
  return lambda taken: start + (end - start) * jnp.clip(taken / steps, 0.0, 1.0)


def uniform_until(steps: Array | float) -> Callable[[Array], Array]:
  """Draws every action uniformly until so many steps were taken, none afterwards."""
  return lambda taken: (taken < steps).astype(jnp.float32)


def _flat(world: World) -> Array:
  return jnp.zeros(world.observation_shape or (world.observation_size,)).reshape(-1)


def _apply(network, params, observation):
  return network.apply(params, observation.astype(jnp.float32).reshape(-1))


def _without_memory(output):
  return lambda params, memory, observation: (output(params, observation), memory)


def _greedy(key, q, noise):
  del key, noise
  return jnp.argmax(q).astype(jnp.int32)


def _q_networks(world: World, *, hidden, activation, double) -> Networks:
  network = mlp.MLP(tuple(hidden), world.num_actions, activation)
  one = functools.partial(_apply, network)
  every = lambda params, observation: jax.vmap(one, (None, 0))(params, observation)

  def q_loss(q, params, targets, steps, key):
    del params, key
    now, after = every(q, steps.observation), every(targets["q"], steps.next_observation)
    if double:
      choosing = jax.lax.stop_gradient(every(q, steps.next_observation))
      wanted = losses.double_q_target(steps.reward_t, choosing, after, steps.discount_t, steps.mask)
    else:
      wanted = losses.greedy_td_target(steps.reward_t, after, steps.discount_t, steps.mask)
    return losses.dqn_loss(now, steps.action, wanted, steps.mask), {"q": jnp.mean(now), "target": jnp.mean(wanted)}

  return Networks(
      init=lambda key: {"q": network.init(key, _flat(world))}, draw=_greedy,
      output=_without_memory(lambda params, seen: one(params["q"], seen)), losses={"q": q_loss}, targets=("q",))


def _recurrent_q_networks(world: World, *, hidden, activation, double, memory_size, burn_in, n) -> Networks:
  network = policies.make_stream_policy(
      world, torso="gru", hidden=hidden, activation=activation, memory_size=memory_size, critic=False)

  def one(params, memory, observation):
    q, _, memory = network.step(params, memory, observation)
    return q, memory

  def values(params, row):
    """Returns the values `[L - burn_in, A]` at the steps of a row `[L]` and after them, from its stored memory."""
    def step(memory, place):
      observation, after, ended = place
      q, memory = one(params, memory, observation)
      return state_lib.select(ended, network.memory, memory), (q, one(params, memory, after)[0])

    places = row.observation, row.next_observation, (row.discount_t == 0) | row.truncated
    first, rest = (jax.tree.map(lambda x, cut=cut: x[cut], places) for cut in (slice(burn_in), slice(burn_in, None)))
    memory = jax.tree.map(lambda x: x[0], row.memory)
    if burn_in:
      memory, _ = jax.lax.scan(step, memory, first)
    return jax.lax.scan(step, jax.lax.stop_gradient(memory), rest)[1]

  def row_targets(choosing, after, row, mask):
    pick = losses.double_q_target if double else lambda zero, _, *rest: losses.greedy_td_target(zero, *rest)
    best = pick(jnp.zeros_like(mask), choosing, after, (row.discount_t > 0).astype(jnp.float32), mask)
    return advantages.n_step_returns(row.reward_t, row.discount_t, best, n, truncated=row.truncated)

  def q_loss(q, params, targets, rows, key):
    del params, key
    now, choosing = jax.vmap(values, (None, 0))(q, rows)
    _, after = jax.vmap(values, (None, 0))(targets["q"], rows)
    # A number that was not finite spoils the memories that follow: such a sequence teaches nothing.
    mask = jnp.broadcast_to(jnp.min(rows.mask, 1, keepdims=True), now.shape[:2])
    learned = jax.tree.map(lambda x: x[:, burn_in:], rows)
    wanted = jax.lax.stop_gradient(jax.vmap(row_targets)(choosing, after, learned, mask))
    flat = lambda x: x.reshape(-1, *x.shape[2:])
    loss = losses.dqn_loss(*map(flat, (now, learned.action, wanted, mask)))
    return loss, {"q": jnp.mean(now), "target": jnp.mean(wanted)}

  return Networks(
      init=lambda key: {"q": network.init(key)}, output=lambda params, *place: one(params["q"], *place), draw=_greedy,
      losses={"q": q_loss}, targets=("q",), memory=network.memory)


def _critics(world: World, hidden, activation, count: int):
  """Returns `(init(key), q(params, observations [B, ...], actions [B, A]) -> [B, C])` of C critics."""
  network = mlp.MLP(tuple(hidden), 1, activation)
  inputs = lambda observation, action: jnp.concatenate([observation.astype(jnp.float32).reshape(-1), action])
  example = jnp.concatenate([_flat(world), jnp.zeros(world.action_size)])
  init = lambda key: jax.vmap(network.init, (0, None))(jax.random.split(key, count), example)
  of_one = lambda params, x: jax.vmap(network.apply, (0, None))(params, x)[:, 0]
  q = lambda params, observation, action: jax.vmap(of_one, (None, 0))(params, jax.vmap(inputs)(observation, action))
  return init, q


def _deterministic_networks(
    world: World, *, hidden, activation, critics, action_noise, target_noise, noise_clip) -> Networks:
  actor = mlp.MLP(tuple(hidden), world.action_size, activation)
  critic_init, critic = _critics(world, hidden, activation, critics)
  act = lambda params, observation: jnp.tanh(_apply(actor, params, observation))
  acts = jax.vmap(act, (None, 0))

  def init(key):
    actor_key, critic_key = jax.random.split(key)
    return {"critic": critic_init(critic_key), "actor": actor.init(actor_key, _flat(world))}

  def critic_loss(group, params, targets, steps, key):
    del params
    action = acts(targets["actor"], steps.next_observation)
    smear = jnp.clip(target_noise * jax.random.normal(key, action.shape), -noise_clip, noise_clip)
    after = critic(targets["critic"], steps.next_observation, jnp.clip(action + smear, -1.0, 1.0))
    wanted = losses.td3_target(steps.reward_t, after, steps.discount_t, steps.mask)
    now = critic(group, steps.observation, steps.action)
    return losses.critics_loss(now, wanted, steps.mask), {"q": jnp.mean(now), "target": jnp.mean(wanted)}

  def actor_loss(group, params, targets, steps, key):
    del targets, key
    q = critic(params["critic"], steps.observation, acts(group, steps.observation))[:, 0]
    return losses.deterministic_policy_loss(q, steps.mask), {}

  def draw(key, mean, noise):
    return jnp.clip(mean + noise * action_noise * jax.random.normal(key, mean.shape), -1.0, 1.0)

  return Networks(init, _without_memory(lambda params, seen: act(params["actor"], seen)), draw,
                  {"critic": critic_loss, "actor": actor_loss}, ("critic", "actor"))


def _sac_networks(world: World, *, hidden, activation, critics, temperature, target_entropy, learned) -> Networks:
  actor = mlp.MLP(tuple(hidden), 2 * world.action_size, activation)
  critic_init, critic = _critics(world, hidden, activation, critics)
  volume = policies.log_volume(policies.action_box(world)[1], world.action_size)
  wanted_entropy = volume - float(world.action_size) if target_entropy is None else target_entropy

  def init(key):
    actor_key, critic_key = jax.random.split(key)
    start = jnp.log(jnp.asarray(temperature, jnp.float32))
    return {"critic": critic_init(critic_key), "actor": actor.init(actor_key, _flat(world)), "temperature": start}

  def output(params, observation):
    mean, spread = jnp.split(_apply(actor, params["actor"], observation), 2)
    low, high = _LOG_STD
    return mean, low + (high - low) * (jnp.tanh(spread) + 1) / 2

  def drawn(group, observation, key):
    keys = jax.random.split(key, jax.tree.leaves(observation)[0].shape[0])
    one = lambda key, seen: policies.tanh_gaussian_sample(key, *output({"actor": group}, seen))
    action, log_probs = jax.vmap(one)(keys, observation)
    return action, log_probs - volume

  def critic_loss(group, params, targets, steps, key):
    action, log_probs = drawn(params["actor"], steps.next_observation, key)
    after = critic(targets["critic"], steps.next_observation, action)
    wanted = losses.sac_target(
        steps.reward_t, after, log_probs, jnp.exp(params["temperature"]), steps.discount_t, steps.mask)
    now = critic(group, steps.observation, steps.action)
    return losses.critics_loss(now, wanted, steps.mask), {"q": jnp.mean(now), "target": jnp.mean(wanted)}

  def actor_loss(group, params, targets, steps, key):
    del targets
    action, log_probs = drawn(group, steps.observation, key)
    q = critic(params["critic"], steps.observation, action)
    loss = losses.sac_policy_loss(log_probs, q, jnp.exp(params["temperature"]), steps.mask)
    return loss, {"entropy": -jnp.mean(log_probs)}

  def temperature_loss(group, params, targets, steps, key):
    del targets
    _, log_probs = drawn(params["actor"], steps.observation, key)
    return losses.temperature_loss(group, log_probs, wanted_entropy, steps.mask), {"temperature": jnp.exp(group)}

  def draw(key, distribution, noise):
    mean, log_std = distribution
    return jnp.tanh(mean + noise * jnp.exp(log_std) * jax.random.normal(key, mean.shape))

  steps = {"critic": critic_loss, "actor": actor_loss} | ({"temperature": temperature_loss} if learned else {})
  return Networks(init, _without_memory(output), draw, steps, ("critic",))


def dqn(
    *, double: bool = True, n: int = 1, epsilon: tuple[Array | float, Array | float] = (1.0, 0.05),
    epsilon_steps: Array | float = 10_000, target_rate: Array | float = 1.0, target_period: int | Array = 250,
    hidden: Sequence[int] = (64, 64), activation: str = "relu", memory_size: int = 0, burn_in: int = 8,
    length: int = 16) -> dict[str, Any]:
  """Gives the settings of DQN, for `OffPolicyParts(..., **dqn())`, with a memory or without.

  With a memory whole sequences are replayed, each from the memory that was stored with its first step, which the first
  `burn_in` steps bring up to date without being learned. Values are not rescaled, sequences drawn uniformly.

  Args:
    double: the trained network chooses the next action that the target network values.
    n: steps of a target.
    epsilon: share of uniform actions at the start and from `epsilon_steps` on.
    epsilon_steps: steps of the worlds within which it moves.
    target_rate: how far the target network moves; 1 copies.
    target_period: gradient steps between its moves.
    hidden: widths of the hidden layers.
    activation: of the hidden layers.
    memory_size: width of a GRU behind the hidden layers; 0 for none.
    burn_in: steps at the start of a sequence that only renew the memory; read with a memory only.
    length: steps of a sequence that are learned; read with a memory only. A target within the last n bootstraps from
      the end of the sequence.

  Raises:
    ValueError: for sizes below 0, or a length or n below 1.

  Reference: DQN, arXiv:1312.5602; Double DQN, arXiv:1509.06461; with a memory R2D2, Kapturowski et al., Recurrent
    Experience Replay in Distributed Reinforcement Learning (2019).
  """
  checks.whole(0, memory_size=memory_size, burn_in=burn_in)
  checks.whole(1, length=length, n=n, target_period=target_period)
  checks.between(0, 1, epsilon=epsilon)
  checks.widths(hidden=hidden)
  shared = dict(random=linear_schedule(*epsilon, epsilon_steps), target_rate=target_rate, target_period=target_period)
  build = functools.partial(_q_networks, hidden=hidden, activation=activation, double=double)
  if not memory_size:
    return dict(method=Method("dqn", False, build), n=n, **shared)
  build = functools.partial(_recurrent_q_networks, hidden=hidden, activation=activation, double=double,
                            memory_size=memory_size, burn_in=burn_in, n=n)
  return dict(method=Method("recurrent dqn", False, build, burn_in + length), n=1, **shared)


def ddpg(*, critics: int = 1, policy_period: int | Array = 1, target_noise: Array | float = 0.0,
         **settings) -> dict[str, Any]:
  """Gives the settings of DDPG: TD3 with one critic, a policy that steps every time, and targets without noise.

  Reference: DDPG, arXiv:1509.02971, with white noise in place of its Ornstein-Uhlenbeck process.
  """
  return td3(critics=critics, policy_period=policy_period, target_noise=target_noise, **settings)


def td3(
    *, critics: int = 2, policy_period: int | Array = 2, action_noise: Array | float = 0.1,
    target_noise: Array | float = 0.2, noise_clip: Array | float = 0.5, n: int = 1,
    uniform_steps: Array | float = 1000, target_rate: Array | float = 0.005, hidden: Sequence[int] = (256, 256),
    activation: str = "relu") -> dict[str, Any]:
  """Gives the settings of TD3.

  Args:
    critics: C, of which the lowest value is the target.
    policy_period: gradient steps of the critics between those of the policy and of the target networks.
    action_noise: standard deviation of what is added to actions in [-1, 1].
    target_noise: standard deviation of what is added to the target policy's actions.
    noise_clip: the largest that is added to these.
    n: steps of a target.
    uniform_steps: steps of the worlds with uniform actions at the start.
    target_rate: how far the target networks move.
    hidden: widths of the hidden layers.
    activation: of the hidden layers.

  Reference: TD3, arXiv:1802.09477.
  """
  checks.whole(1, critics=critics, policy_period=policy_period, n=n)
  checks.at_least(0, action_noise=action_noise, target_noise=target_noise, noise_clip=noise_clip)
  checks.widths(hidden=hidden)
  build = functools.partial(
      _deterministic_networks, hidden=hidden, activation=activation, critics=critics, action_noise=action_noise,
      target_noise=target_noise, noise_clip=noise_clip)
  return dict(method=Method("ddpg" if critics == 1 else "td3", True, build), n=n, random=uniform_until(uniform_steps),
              target_rate=target_rate, target_period=policy_period, periods={"actor": policy_period})


def sac(
    *, critics: int = 2, temperature: Array | float = 1.0, target_entropy: Array | float | None = None,
    learned: bool = True, n: int = 1, uniform_steps: Array | float = 1000, target_rate: Array | float = 0.005,
    hidden: Sequence[int] = (256, 256), activation: str = "relu") -> dict[str, Any]:
  """Gives the settings of SAC.

  Args:
    critics: C, of which the lowest value counts.
    temperature: at the start, above 0.
    target_entropy: in nats, of actions in the world's units; None takes minus the length of the action for actions in
      [-1, 1], and what that becomes on the world's box.
    learned: whether the temperature is learned.
    n: steps of a target; the entropy of the steps in between is left out.
    uniform_steps: steps of the worlds with uniform actions at the start.
    target_rate: how far the target critics move in a gradient step.
    hidden: widths of the hidden layers.
    activation: of the hidden layers.

  Reference: SAC, arXiv:1812.05905.
  """
  checks.whole(1, critics=critics, n=n)
  checks.above(0, temperature=temperature)
  checks.widths(hidden=hidden)
  build = functools.partial(
      _sac_networks, hidden=hidden, activation=activation, critics=critics, temperature=temperature,
      target_entropy=target_entropy, learned=learned)
  return dict(method=Method("sac", True, build), n=n, random=uniform_until(uniform_steps), target_rate=target_rate,
              target_period=1)
