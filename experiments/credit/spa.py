"""SPA: a progress estimator redistributes the outcome over the steps, and actions that work earn a bonus (2505.20732).

PPO in the household. Before it, inside `init`: the policy clones a scripted agent and explores, and on this exploration
the estimator is fitted (long, and briefly), like a critic for the arm that takes it. From there the estimator is the
state of a reward transform, in the same jitted update as the policy: frozen as in the paper, or learning from the
episodes of the updates. The arms differ in floats alone: `outcome_coef`, `alpha`, `beta`, `uniform_coef`,
`critic_coef`, `brief_coef`, `learn.every`, `learn.steps`.
"""

import functools

import jax
import jax.numpy as jnp
import ml_collections

from rlcore import advantages, losses, models, policies, reward_models, rewards, stats
from rlcore.envs import household
from rlcore.training import control, fitting
from rlcore.training import state as state_lib
from rlcore.types import Array, Experiment, Metrics, PyTree, Rewards, Trajectory, World


def make_experiment(config: ml_collections.ConfigDict) -> Experiment:
  """Composes the phases of pre-training with PPO on a mixture of rewards."""
  world = household.make_household(num_goals=config.num_goals)
  # A seed draws the goals as well as the weights; it may be a tracer.
  goals = household.draw_goals(jax.random.fold_in(jax.random.key(config.seed), 1), num_goals=config.num_goals)
  estimator = models.MLP(config.hidden, 1)
  contributions = lambda params, observation: estimator.apply(params, observation)[..., 0]
  learning = reward_models.progress_estimator(
      lambda params, episode: contributions(params, episode.info["observation"]),
      lambda key: estimator.init(key, jnp.zeros(world.observation_size)),
      state_lib.make_optimizer(config.learn.lr, max_grad_norm=None), pay=functools.partial(step_rewards, config=config),
      every=config.learn.every, steps=config.learn.steps, axis_name=control.GROUPS)
  credit = dict(gamma=1.0, lam=config.lam)
  agent = policies.make_actor_critic(world, hidden=config.hidden)
  experiment = control.make_control_experiment(control.ControlParts(
      agent=agent,
      instances=lambda key: some_goals(key, goals, config.episodes),
      optimizer=state_lib.make_optimizer(config.lr, max_grad_norm=None),
      # The last one does nothing, but its place in the state holds what `init` prepares.
      reward_transform=rewards.chain(learning, rewards.kl_in_reward(config.kl_coef), rewards.identity()),
      advantage_estimator=functools.partial(advantages.gae_advantages, **credit),
      value_target=functools.partial(advantages.gae_returns, **credit),
      policy_loss=functools.partial(losses.clip_policy_loss, clip_high=None),
      whiten=True, epochs=config.epochs, use_reference=True, describe=describe))

  def init(key):
    keys = jax.random.split(key, 6)
    state = experiment.init(keys[0])
    params = clone(agent, state.params, world, goals, config.clone, keys[1])
    explored = play(agent.rollout, params, keys[2], goals, config.explore.seen + config.explore.held_out)
    seen, held_out = (jax.tree.map(lambda x: x[part], explored) for part in (
        slice(config.explore.seen), slice(config.explore.seen, None)))
    loss = functools.partial(estimator_loss, contributions)
    start = learning.init(keys[3], None)
    fitted = {name: adam(loss, start.learner.params, seen, keys[3], config[name]) for name in ("long", "brief")}
    critic = adam(functools.partial(critic_loss, agent), params, seen, keys[4], config.long)["value"]
    gain, mask, observation = gains(world, params, goals, config, keys[5])
    measured = {"outcome_variance": jnp.var(jax.vmap(control.total_reward)(held_out))}
    for name, own in fitted.items():
      said = contributions(own, observation)
      measured |= {f"{name}/mse": loss(own, held_out), f"{name}/attribution": stats.spearman_correlation(
          said.reshape(-1), gain.reshape(-1), mask.reshape(-1))}
    start = start.replace(learner=start.learner.replace(params=fitted["long"]))
    prepared = {"brief": fitted["brief"], "critic": critic, "measured": measured}
    return state.replace(params=params, ref_params=params, reward_state=(start, (), prepared))

  def update(state):
    estimator, kl, prepared = state.reward_state
    first = jnp.where(state.step == 0, 1.0, 0.0)  # the arms take their own here, for all share `init`
    value = mixed(state.params["value"], prepared["critic"], first * config.critic_coef)
    params = mixed(estimator.learner.params, prepared["brief"], first * config.brief_coef)
    estimator = estimator.replace(learner=estimator.learner.replace(params=params))
    state, metrics = experiment.update(
        state.replace(params=state.params | {"value": value}, reward_state=(estimator, kl, prepared)))
    return state, metrics | {"residual": state.reward_state[0].residual}

  def evaluate(state):
    return experiment.evaluate(state) | state.reward_state[2]["measured"]

  return Experiment(init, update, evaluate, preparation="cloning, exploration, fits of estimators and critic")


def mixed(own: PyTree, other: PyTree, weight: Array) -> PyTree:
  """Moves parameters to others: not at all with weight 0, all the way with 1."""
  return jax.tree.map(lambda a, b: a + weight * (b - a), own, other)


def some_goals(key: Array, goals: household.Goal, count: int) -> household.Goal:
  """Draws goals, with repetition: `[count]`."""
  index = jax.random.randint(key, (count,), 0, goals.index.shape[0])
  return jax.tree.map(lambda x: x[index], goals)


def play(rollout, params: PyTree, key: Array, goals: household.Goal, count: int) -> Trajectory:
  """Plays episodes on drawn goals: `[count, T]`."""
  goal_key, play_key = jax.random.split(key)
  return jax.vmap(rollout, (None, 0, 0))(
      params, jax.random.split(play_key, count), some_goals(goal_key, goals, count))


def step_rewards(group: Rewards, parts: Array, batch: Trajectory, *, config: ml_collections.ConfigDict) -> Rewards:
  """Mixes the rewards of an arm from contributions `[G, T]`, the bonus, and the outcome, whole or spread evenly."""
  pay = lambda c, g, mask: rewards.spa_step_rewards(c, g, mask, config.alpha, config.beta)
  even = config.uniform_coef * group.outcome / jnp.maximum(jnp.sum(batch.mask, -1), 1)
  process = jax.vmap(pay)(parts, batch.info["grounded"], batch.mask) + even[:, None] * batch.mask
  return group.replace(outcome=config.outcome_coef * group.outcome, process=process)


def describe(raw: Rewards, paid: Rewards, episodes: Trajectory, advantage: Array) -> Metrics:
  """Reports the share of actions that worked, and what an episode is paid."""
  del raw, advantage
  return {
      "grounded": stats.masked_mean(episodes.info["grounded"], episodes.mask),
      "paid": jnp.mean(paid.outcome + stats.masked_sum(paid.process, episodes.mask, axis=-1))}


def adam(loss, params: PyTree, data: PyTree, key: Array, settings: ml_collections.ConfigDict) -> PyTree:
  """Fits parameters by Adam."""
  optimizer = state_lib.make_optimizer(settings.lr, max_grad_norm=None)
  return fitting.fit(
      loss, params, data, key, optimizer=optimizer, steps=settings.steps, batch_size=settings.batch_size)[0]


def clone(agent, params: PyTree, world: World, goals: household.Goal, settings: ml_collections.ConfigDict, key: Array):
  """Clones a fixed set of scripted demonstrations."""
  demo_key, fit_key = jax.random.split(key)
  lengths = jax.vmap(household.plan_lengths)(goals.chain)
  script = lambda key, state, goal: household.demonstrator(key, state, goal, lengths[goal.index])
  rollout = lambda _, key, goal: policies.scripted_rollout(world, script, key, goal)
  shown = play(rollout, None, demo_key, goals, settings.demonstrations)
  return adam(functools.partial(control.clone_loss, agent), params, shown, fit_key, settings)


def estimator_loss(contributions, params: PyTree, episodes: Trajectory) -> Array:
  """Averages over episodes the squared error of the sum of contributions, each read after its step."""
  outcome = jax.vmap(control.total_reward)(episodes)
  parts = contributions(params, episodes.info["observation"])
  return jnp.mean(jax.vmap(losses.progress_loss)(parts, episodes.mask, outcome))


def critic_loss(agent, params: PyTree, episodes: Trajectory) -> Array:
  """Averages over steps the squared error of the value of the return from each on."""
  values = jax.vmap(agent.score, (None, 0))(params, episodes).values
  error = values - jax.vmap(advantages.reward_to_go)(episodes.reward_t, episodes.mask)
  return stats.masked_mean(jnp.square(error), episodes.mask)


def gains(world: World, params: PyTree, goals: household.Goal, config: ml_collections.ConfigDict, key: Array):
  """Measures by how much each step of some episodes changed the policy's probability of success.

  It plays on `config.measure.resets` times from every state. Returns the changes `[N, T]`, which of them count, and the
  observation after each step.
  """
  resumed = World(  # an instance is a goal and where to start
      lambda key, start: start[1:], lambda key, state, action, start: world.step(key, state, action, start[0]),
      *world[2:])
  agent = policies.make_actor_critic(resumed, hidden=config.hidden, critic=False)

  def success(key, goal, observation, state):
    rollout = lambda key: jnp.sum(agent.rollout(params, key, (goal, observation, state)).reward_t)
    ahead = jnp.mean(jax.vmap(rollout)(jax.random.split(key, config.measure.resets)))
    achieved = state.progress == household.CHAIN
    return jnp.where(achieved | (state.time >= world.horizon), achieved.astype(jnp.float32), ahead)

  def one_episode(key, goal):
    start = world.reset(key, goal)
    episode = agent.rollout(params, key, (goal, *start))
    follow = lambda state, action: (world.step(key, state, action, goal)[1],) * 2  # nothing in this world is chance
    later = episode.info["observation"], jax.lax.scan(follow, start[1], episode.action)[1]
    observations, states = jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), start, later)
    keys = jax.random.split(jax.random.fold_in(key, 1), world.horizon + 1)
    return jnp.diff(jax.vmap(success, (0, None, 0, 0))(keys, goal, observations, states)), episode.mask, later[0]

  chosen = some_goals(key, goals, config.measure.episodes)
  return jax.vmap(one_episode)(jax.random.split(key, config.measure.episodes), chosen)
