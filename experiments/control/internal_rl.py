"""Internal RL: a policy over codes that are written into the residual stream of a frozen model (arXiv:2512.20605).

Inside `init`, once a seed: a recurrent base model clones demonstrations of two-colour tasks in Pinpad-5, then a
metacontroller is fitted to the same kind of demonstrations with the base model frozen. From there the arms learn one
task of four colours by GRPO on its final reward: the policy over codes, which acts where the switch opens (`every_step`
opens it always, `learn` 0 leaves the codes to N(0, I)), or, with `token_level`, the base model itself. The last is a
program of its own: it differentiates other weights through longer sequences, at twice the price of the others.
"""

from collections.abc import Callable
import functools

import jax
import jax.numpy as jnp
import ml_collections

from rlcore import advantages, losses, segments, stats
from rlcore.envs import pinpad
from rlcore.models import metacontroller
from rlcore.policies import actor_critic, controller, internal
from rlcore.training import control, fitting
from rlcore.training import state as state_lib
from rlcore.types import Array, Experiment, Metrics, PyTree, Trajectory


def make_experiment(config: ml_collections.ConfigDict) -> Experiment:
  """Composes pre-training, discovery and reinforcement learning."""
  world, (base, meta) = pinpad.make_pinpad(horizon=config.horizon), make_models(config)
  policy = metacontroller.CodePolicy(config.meta.code, config.meta.hidden)
  if config.token_level:
    agent = internal.make_recurrent_agent(world, base)
  else:
    agent = internal.make_internal_agent(world, base, meta, policy, every_step=config.every_step)
  order = jnp.array(config.order)
  experiment = control.make_control_experiment(control.ControlParts(
      agent=agent,
      instances=lambda key: jax.vmap(lambda key: pinpad.draw_pinpad_task(key, order))(
          jax.random.split(key, config.groups)),
      optimizer=state_lib.make_optimizer(config.lr),
      advantage_estimator=functools.partial(advantages.group_relative, ddof=0, eps=1e-8),
      policy_loss=functools.partial(policy_loss, config),
      group_size=config.group_size, min_group_size=2, epochs=config.epochs, describe=describe))

  def init(key):
    run_key, base_key, meta_key = jax.random.split(key, 3)
    state = experiment.init(run_key)
    params, measured = fit_base(config, base_key)
    fitted = {"base": params}
    unknown = {name: jnp.full((), jnp.nan) for name in ("f1", "switch_rate", "nll", "kl")}
    if not config.token_level:  # that arm has no use for it
      fitted["meta"], unknown = discover(config, params, config.alpha, meta_key)
    return state.replace(params=state.params | fitted, reward_state=measured | unknown)

  return experiment._replace(
      init=init, evaluate=lambda state: experiment.evaluate(state) | state.reward_state,
      preparation="base model and discovery of codes")


def make_models(
    config: ml_collections.ConfigDict) -> tuple[metacontroller.ControlledGRU, metacontroller.Metacontroller]:
  """Makes the base model and its metacontroller."""
  return (metacontroller.ControlledGRU(config.dim, pinpad.NUM_ACTIONS),
          metacontroller.Metacontroller(config.dim, **config.meta))


def policy_loss(config: ml_collections.ConfigDict, log_probs: Array, batch: Trajectory,
                advantage: Array) -> tuple[Array, Metrics]:
  """Averages PPO's loss over the recorded switches of each episode; every step of a token-level episode is one."""
  switch = batch.info.get("switch", batch.mask)
  own = functools.partial(losses.internal_policy_loss, clip=config.clip)
  return config.learn * jnp.mean(jax.vmap(own)(log_probs, batch.log_prob_old, advantage, switch, batch.mask)), {}


def describe(raw, paid, episodes: Trajectory, advantage: Array) -> Metrics:
  """Reports colours collected, and how often a code was chosen."""
  del raw, paid, advantage
  return {"collected": jnp.mean(stats.masked_sum(episodes.info["collected"], episodes.mask, axis=-1)),
          "chosen": stats.masked_mean(episodes.info.get("switch", episodes.mask), episodes.mask)}


def demonstrations(config: ml_collections.ConfigDict, keys: Array) -> Trajectory:
  """Lets the expert do a two-colour task for each of `[N]` keys: `[N, T]`."""
  world = pinpad.make_pinpad(horizon=config.demo_horizon)
  script = functools.partial(pinpad.demonstrator, random_ways=config.random_ways)

  def one(key):
    task_key, play_key = jax.random.split(key)
    return actor_critic.scripted_rollout(world, script, play_key, pinpad.draw_pinpad_task(task_key))

  return jax.vmap(one)(keys)


def fit(loss: Callable[..., Array], params: PyTree, settings: ml_collections.ConfigDict, key: Array,
        scheduled: Array | None = None) -> PyTree:
  """Fits to fresh demonstrations at every step: what is drawn from are keys, and `loss` sees `[batch_size]` of them."""
  data_key, fit_key = jax.random.split(key)
  keys = jax.random.split(data_key, settings.steps * settings.batch_size)
  optimizer = state_lib.make_optimizer(settings.lr, b2=0.999, max_grad_norm=None)
  return fitting.fit(
      loss, params, keys, fit_key, optimizer=optimizer, steps=settings.steps, batch_size=settings.batch_size,
      scheduled=scheduled)[0]


def chosen_log_probs(logits: Array, action: Array) -> Array:
  """Log-probabilities `[T]` of the actions `[T]` under logits `[T, A]`."""
  return actor_critic.categorical_scores(logits, action).log_probs


def fit_base(config: ml_collections.ConfigDict, key: Array) -> tuple[PyTree, Metrics]:
  """Clones the expert; returns the base model's weights and its loss on fresh demonstrations."""
  base = make_models(config)[0]
  init_key, fit_key, test_key = jax.random.split(key, 3)

  def loss(params, keys):
    shown = demonstrations(config, keys)
    logits = jax.vmap(functools.partial(base.apply, params))(shown.observation)
    return -stats.masked_mean(jax.vmap(chosen_log_probs)(logits, shown.action), shown.mask)

  start = base.init(init_key, jnp.zeros((1, pinpad.make_pinpad(horizon=1).observation_size)))
  params = fit(loss, start, config.fit_base, fit_key)
  return params, {"base_nll": loss(params, jax.random.split(test_key, config.measured))}


def controlled(base, meta, base_params: PyTree, params: PyTree, shown: Trajectory,
               noise: Array) -> tuple[internal.Discovery, Array]:
  """Runs the metacontroller over one demonstration `[T]`; returns its discovery and the actions' log-probabilities."""
  base_params = jax.lax.stop_gradient(base_params)  # its weights, not its activations
  residual = base.apply(base_params, shown.observation, method="read")
  found = internal.discover(meta, params, residual, shown.mask, noise)
  return found, chosen_log_probs(base.apply(base_params, found.residual, method="write"), shown.action)


def discover(config: ml_collections.ConfigDict, base_params: PyTree, alpha: Array | float,
             key: Array) -> tuple[PyTree, Metrics]:
  """Fits a metacontroller to the frozen base model; returns its weights and what fresh demonstrations say of it.

  The bottleneck is closed slowly: codes are free for `config.free_steps`, then their price rises to `alpha` over
  `config.ramp_steps`. With the full price from the start a metacontroller finds nothing worth it and stays silent.
  """
  base, meta = make_models(config)
  init_key, fit_key, test_key = jax.random.split(key, 3)

  def run(params, keys):
    shown = demonstrations(config, keys)
    draw = lambda key: jax.random.normal(jax.random.fold_in(key, 1), (config.demo_horizon, meta.code))
    own = functools.partial(controlled, base, meta, base_params, params)
    return shown, *jax.vmap(own)(shown, jax.vmap(draw)(keys))

  def loss(params, keys, price):
    shown, found, log_probs = run(params, keys)
    own = functools.partial(losses.discovery_loss, kl_coef=price)
    return jnp.mean(jax.vmap(own)(log_probs, found.mean, found.log_var, found.beta, shown.mask))

  start = meta.init(init_key, jnp.zeros((1, config.dim)), jnp.ones(1))
  rise = (jnp.arange(config.fit_meta.steps) - config.free_steps) / config.ramp_steps
  params = fit(loss, start, config.fit_meta, fit_key, scheduled=alpha * jnp.clip(rise, 0, 1))
  return params, alignment(*run(params, jax.random.split(test_key, config.measured)))


def alignment(shown: Trajectory, found: internal.Discovery, log_probs: Array) -> Metrics:
  """Compares hard switches with the steps right after a collection, the forced first step aside."""
  switch = jax.vmap(controller.harden_switch, (0, None, 0))(found.beta, 0.5, shown.mask)
  boundary = jnp.roll(shown.info["collected"], 1, axis=1)
  later = shown.mask.at[:, 0].set(0)
  f1 = jax.vmap(functools.partial(segments.switch_f1, tolerance=1))(switch, boundary, later)
  divergence = jax.vmap(jax.vmap(losses.gaussian_kl))(found.mean, found.log_var)
  mean = lambda values: stats.masked_mean(values, shown.mask)
  return {"f1": stats.masked_mean(f1, jnp.any(boundary * later > 0, 1)), "nll": -mean(log_probs),
          "switch_rate": mean(switch), "kl": mean(divergence)}


def make_study(config: ml_collections.ConfigDict) -> Callable[[Array], Metrics]:
  """Builds the discovery in other cases: `config.study.cases` has of each its name, alpha, and the expert's ways."""
  def study(key: Array) -> Metrics:
    base_key, meta_key = jax.random.split(key)
    metrics = {}
    for name, alpha, random_ways in config.study.cases:
      own = config.copy_and_resolve_references()
      with own.unlocked():
        own.random_ways = random_ways
      params, measured = fit_base(own, base_key)
      measured |= discover(own, params, alpha, meta_key)[1]
      metrics |= {f"{name}/{key}": value for key, value in measured.items()}
    return metrics

  return study
