"""Episodes of many turns in one sequence: the policy's tokens and the world's, each read once.

The model's state (its cache) goes on over the observation tokens of the world, which are fed to it as they are; nothing
is read twice. In the `Rollouts` that come out `mask` is 1 on action tokens alone, with holes where the world speaks.
"""

from collections.abc import Callable
import functools

from flax import struct
import jax
import jax.numpy as jnp

from rlcore import segments
from rlcore.models import heads
from rlcore.policies import log_probs as log_probs_lib
from rlcore.policies import sampling
from rlcore.types import Agent, Array, LanguageModel, PyTree, Rollouts, Scores, TextWorld, Trajectory

Value = Callable[[Array], Array]


@struct.dataclass
class Episodes:
  """G episodes of one instance, T = S (O + A) tokens each after the prompt.

  Attributes:
    rollouts: of `[G, T]`; `valid` is 1 on action and observation tokens until the episode ends.
    values: `[G, T]` float32, value of the state in which each action token was drawn, 0 elsewhere.
    turn_end: `[G, S]` int32, index of the last token of each turn, -1 where there was no turn.
    turn_mask: `[G, S]` float32, 1 where a turn took place.
    turn_rewards: `[G, S]` float32, what the world paid after each turn.
    info: pytree of `[G, S, ...]`, what the world said beside; after the end what it said last.
  """

  rollouts: Rollouts
  values: Array
  turn_end: Array
  turn_mask: Array
  turn_rewards: Array
  info: PyTree


def _allowed(world: TextWorld, model: LanguageModel) -> Array | None:
  return None if world.allowed is None else jnp.asarray(world.allowed)[:, :model.vocab_size] > 0


def token_mask(world: TextWorld, model: LanguageModel, num_turns: int) -> Array | None:
  """Says which tokens may stand at each place of an episode, for `token_log_probs`.

  Args:
    world: where the actions are taken.
    model: whose V tokens are drawn.
    num_turns: S.

  Returns:
    `[T, V]` bool; the places of observations, which do not count, allow everything. None if the world does.
  """
  allowed = _allowed(world, model)
  if allowed is None:
    return None
  return jnp.tile(jnp.pad(allowed, ((world.observation_length, 0), (0, 0)), constant_values=True), (num_turns, 1))


def _run_turns(world: TextWorld, act, actor, start, num_turns: int):
  """Alternates between the world and `act(actor, turn, observation) -> (actor, action, log_probs, values)`.

  `start` is the state and the observation of `[B, G]` episodes. Returns an `Episodes` without prompt, `[B, G, ...]`.
  """
  step = jax.vmap(jax.vmap(world.step))
  _, _, _, _, info = jax.eval_shape(step, start[0], jnp.zeros((*start[1].shape[:2], world.action_length), jnp.int32))
  info = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), info)

  def turn(carry, index):
    state, observation, alive, info, actor = carry
    actor, action, log_probs, values = act(actor, index, observation)
    new_state, new_observation, reward, done, new_info = step(state, action)
    keep = lambda new, old: jax.tree.map(
        lambda a, b: jnp.where(alive.reshape(alive.shape + (1,) * (a.ndim - 2)), a, b), new, old)
    state, after, info = keep((new_state, new_observation, new_info), (state, observation, info))
    tokens = jnp.where(alive[..., None], jnp.concatenate([observation, action], -1), world.pad_id)
    counted = alive.astype(jnp.float32)
    out = tokens, log_probs * counted[..., None], values * counted[..., None], counted, reward * counted, info
    return (state, after, alive & ~done, info, actor), out

  carry = (*start, jnp.ones(start[1].shape[:2], bool), info, actor)
  out = jax.lax.scan(turn, carry, jnp.arange(num_turns))[1]
  tokens, log_probs, values, counted, rewards, info = jax.tree.map(lambda x: jnp.moveaxis(x, 0, 2), out)
  flat = lambda x: x.reshape(*x.shape[:2], -1)
  per_token = lambda turn: flat(counted[..., None] * jnp.asarray(turn))
  reads, writes = [0.0] * world.observation_length, [0.0] * world.action_length
  among = lambda x: flat(jnp.pad(x, ((0, 0),) * 3 + ((world.observation_length, 0),)))
  ends = (jnp.arange(num_turns) + 1) * (len(reads) + len(writes)) - 1
  rollouts = Rollouts(
      tokens=flat(tokens), mask=per_token(reads + [1.0] * len(writes)), log_probs=among(log_probs), prompt=None,
      prompt_mask=None, valid=per_token([1.0] * (len(reads) + len(writes))))
  return Episodes(
      rollouts=rollouts, values=among(values), turn_end=jnp.where(counted > 0, ends, -1), turn_mask=counted,
      turn_rewards=rewards, info=info)


def play(
    model: LanguageModel,
    params: PyTree,
    world: TextWorld,
    keys: Array,
    instances: PyTree,
    *,
    group_size: int,
    temperature: float | Array = 1.0,
    value: Value | None = None,
) -> Episodes:
  """Plays `group_size` episodes of each instance.

  Args:
    model: the policy.
    params: its parameters.
    world: where it acts.
    keys: `[B]` keys; all randomness of a group comes from its own.
    instances: pytree of `[B, ...]`, the world's params.
    group_size: G (static).
    temperature: divides the logits; the number 0 takes the likeliest token.
    value: `(hidden [..., D]) -> [...]`, value of the state in which a token is drawn; None for zeros.

  Returns:
    `Episodes` with a leading `[B]`; `rollouts.prompt` is `[B, P]`, and the log-probabilities are those of
    `token_log_probs` with `allowed=token_mask(world, model, S)`.

  Raises:
    ValueError: if prompt and turns do not fit the model's context.
  """
  batch, observed, written = keys.shape[0], world.observation_length, world.action_length
  length = world.num_turns * (observed + written)
  split = jax.vmap(lambda key: jax.random.split(key, 2))(keys)
  reset_keys = jax.vmap(lambda key: jax.random.split(key, group_size))(split[:, 0])
  draw = lambda key: jax.random.uniform(key, (world.num_turns, written, group_size), jnp.float32)
  uniforms = jnp.moveaxis(jax.vmap(draw)(split[:, 1]), 0, 2)
  reset = jax.vmap(jax.vmap(world.reset, (0, None)))
  state, prompt, prompt_mask, observation = reset(reset_keys, instances)
  prompt, prompt_mask = prompt[:, 0], prompt_mask[:, 0]
  allowed = _allowed(world, model)

  def feed(carry, token, index):
    return model.step(params, carry[1], token, index)

  def act(carry, turn, observation):
    first = turn * (observed + written)
    read = lambda carry, x: (feed(carry, *x), None)
    places = first + jnp.arange(observed + written)
    carry, _ = jax.lax.scan(read, carry, (jnp.moveaxis(observation, -1, 0), places[:observed]))

    def write(carry, x):
      uniform, index, may = x
      logits = model.logits(params, carry[0])
      logits = logits if may is None else jnp.where(may, logits, log_probs_lib.FORBIDDEN)
      token, log_prob = sampling.draw_tokens(logits, uniform, temperature)
      estimate = jnp.zeros(token.shape, jnp.float32) if value is None else value(carry[0])
      return feed(carry, token, index), (token, log_prob, estimate)

    carry, out = jax.lax.scan(write, carry, (uniforms[turn], places[observed:], allowed))
    return carry, *(jnp.moveaxis(x, 0, -1) for x in out)

  hidden, cache = model.prefill(params, prompt, prompt_mask, group_size, length)
  hidden = jnp.broadcast_to(hidden[:, None], (batch, group_size, hidden.shape[-1]))
  episodes = _run_turns(world, act, (hidden, cache), (state, observation), world.num_turns)
  return episodes.replace(rollouts=episodes.rollouts.replace(prompt=prompt, prompt_mask=prompt_mask))


def replay(world: TextWorld, key: Array, instance: PyTree, actions: Array, length: Array) -> Episodes:
  """Plays given actions, a demonstration's say: one episode, G = 1.

  Args:
    world: where.
    key: of the world's own randomness.
    instance: the world's params.
    actions: `[S', A]` int32, for as many turns as wanted.
    length: int32, how many of them are played; the world may end the episode before.

  Returns:
    `Episodes` of `S'` turns, with log-probabilities and values of 0.
  """
  state, prompt, prompt_mask, observation = world.reset(key, instance)
  counted = jnp.arange(actions.shape[0]) < length

  def act(actor, turn, observation):
    return actor, actions[turn][None, None], *jnp.zeros((2, 1, 1, world.action_length), jnp.float32)

  start = jax.tree.map(lambda x: x[None, None], (state, observation))
  episodes = _run_turns(world, act, (), start, actions.shape[0])
  one = jax.tree.map(lambda x: x[0], episodes)
  tokens = jnp.repeat(counted, world.observation_length + world.action_length)
  rollouts = one.rollouts
  rollouts = rollouts.replace(mask=rollouts.mask * tokens, valid=rollouts.valid * tokens, prompt=prompt,
                              prompt_mask=prompt_mask)
  return one.replace(
      rollouts=rollouts, turn_end=jnp.where(counted, one.turn_end, -1), turn_mask=one.turn_mask * counted,
      turn_rewards=one.turn_rewards * counted)


def as_trajectory(episodes: Episodes) -> Trajectory:
  """Turns episodes into a `Trajectory` whose steps are tokens.

  Args:
    episodes: of `[G, T]`.

  Returns:
    `Trajectory` of `[G, T]`. `observation` holds prompt, prompt_mask `[G, P]`, tokens and valid; `info` holds the turns
    (turn_end, turn_mask, turn_rewards) and what the world said when the episode ended. The world's rewards lie on the
    turns' last tokens, `discount_t` is 0 on the last action token, and `value_tp1` is the value at the next action
    token, 0 after the last.
  """
  rollouts, turn_mask = episodes.rollouts, episodes.turn_mask
  group, length = rollouts.tokens.shape
  places = jnp.where(rollouts.mask > 0, jnp.arange(length), length)
  following = jnp.pad(jax.lax.cummin(places, 1, reverse=True)[:, 1:], ((0, 0), (0, 1)), constant_values=length)
  on = rollouts.mask * (following < length)
  value_tp1 = on * jnp.take_along_axis(episodes.values, jnp.minimum(following, length - 1), 1)
  to_tokens = jax.vmap(functools.partial(segments.step_rewards_to_tokens, num_tokens=length))
  repeat = lambda x: jnp.broadcast_to(x, (group, *x.shape))
  final = jax.tree.map(lambda x: x[:, -1], episodes.info)
  turns = dict(turn_end=episodes.turn_end, turn_mask=turn_mask, turn_rewards=episodes.turn_rewards)
  return Trajectory(
      observation=dict(prompt=repeat(rollouts.prompt), prompt_mask=repeat(rollouts.prompt_mask), tokens=rollouts.tokens,
                       valid=rollouts.valid),
      action=rollouts.tokens, reward_t=to_tokens(episodes.turn_rewards, episodes.turn_end, turn_mask),
      discount_t=on, log_prob_old=rollouts.log_probs, value_t=episodes.values, value_tp1=value_tp1, mask=rollouts.mask,
      info=turns | final)


def play_group(
    model: LanguageModel, world: TextWorld, params: PyTree, key: Array, instance: PyTree, *, group_size: int,
    temperature: float | Array = 1.0) -> Trajectory:
  """Plays a group of episodes of one instance with a token agent's parameters; its prompt is read once.

  Args:
    model: of the agent.
    world: of the agent.
    params: of the agent.
    key: PRNG key.
    instance: the world's params.
    group_size: G.
    temperature: of sampling.

  Returns:
    `Trajectory` of `[G, T]`, see `as_trajectory`.
  """
  value = functools.partial(heads.value_head, params["value"]) if "value" in params else None
  episodes = play(
      model, params["policy"], world, key[None], jax.tree.map(lambda x: jnp.asarray(x)[None], instance),
      group_size=group_size, temperature=temperature, value=value)
  return as_trajectory(jax.tree.map(lambda x: x[0], episodes))


def make_token_agent(
    model: LanguageModel, world: TextWorld, *, critic_dim: int | None = None, critic_hidden: int | None = None,
    temperature: float | Array = 1.0) -> Agent:
  """Makes an agent whose steps are tokens, with a value head beside the logits if asked for.

  Args:
    model: the policy.
    world: where it acts.
    critic_dim: width D of the model's hidden states, on which a value head is put; None for no critic.
    critic_hidden: width of the head's hidden layer, or None.
    temperature: of sampling and of the log-probabilities.

  Returns:
    The agent. Its parameters are `{"policy": ..., "value": ...}`, the latter only with a critic; its trajectories are
    those of `as_trajectory`, and `score` takes any number of turns.

  Raises:
    ValueError: if `temperature` is the number 0: such an agent cannot be trained (`play` evaluates at 0).
  """
  if isinstance(temperature, (int, float)) and temperature <= 0:
    raise ValueError(f"temperature={temperature} must be above 0: greedy decoding cannot be trained (play can use 0)")

  def init(key):
    policy_key, value_key = jax.random.split(key)
    params = {"policy": model.init(policy_key)}
    head = lambda: heads.init_value_head(value_key, critic_dim, hidden=critic_hidden)
    return params | ({} if critic_dim is None else {"value": head()})

  def rollout(params, key, instance):
    group = play_group(model, world, params, key, instance, group_size=1, temperature=temperature)
    return jax.tree.map(lambda x: x[0], group)

  def score(params, trajectory):
    seen = trajectory.observation
    one = lambda x: x[None]
    hidden = log_probs_lib.hidden_before(
        model, params["policy"], *map(one, (seen["prompt"], seen["prompt_mask"], seen["tokens"], seen["valid"])))
    turns = trajectory.mask.shape[0] // (world.observation_length + world.action_length)
    log_probs, entropy = log_probs_lib.hidden_log_probs(
        model, params["policy"], hidden, one(trajectory.action), one(trajectory.mask), temperature=temperature,
        allowed=token_mask(world, model, turns), with_entropy=True)
    values = heads.value_head(params["value"], hidden[0]) if "value" in params else jnp.zeros_like(log_probs[0])
    return Scores(log_probs[0], entropy[0], values)

  return Agent(init, rollout, score)
