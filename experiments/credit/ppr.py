"""PPR + ReNorm: principle scores of search steps, centred together with the outcome, in PPO (arXiv:2509.25598).

One compiled program holds every arm: the step rewards are a sum of the modes of `ppr_step_rewards`, weighted by
`config.mix`. The principles are graded by the world's rubric, or by the judge of `config.judge` once an episode is
played. `make_study` measures, without training, how the return of each mode correlates with the outcome.
"""

from collections.abc import Callable
import functools

import jax
import jax.numpy as jnp
import ml_collections

from rlcore import advantages, assistants, losses, policies, rewards, stats
from rlcore.assistants import relation_hops as asking
from rlcore.envs import relation_hops as hops
from rlcore.training import control, judging
from rlcore.training import state as state_lib
from rlcore.types import Array, Experiment, Metrics, Rewards, Trajectory, World


def make_experiment(config: ml_collections.ConfigDict) -> Experiment:
  """Composes PPR, or one of its ablations by `config.mix`, on relation hops from a cloned policy."""
  key = jax.random.fold_in(jax.random.key(config.seed), 1)
  world, judge = _judged_world(config)
  parts = control.ControlParts(
      agent=policies.make_actor_critic(world, hidden=config.hidden),
      instances=functools.partial(_draw, config, key, number=config.episodes),
      optimizer=state_lib.make_optimizer(config.lr, max_grad_norm=None),
      reward_transform=rewards.stateless(functools.partial(_with_step_rewards, config)),
      advantage_estimator=functools.partial(advantages.gae_advantages, lam=config.lam),
      value_target=functools.partial(advantages.gae_returns, lam=config.lam),
      policy_loss=functools.partial(losses.clip_policy_loss, clip_low=config.clip, clip_high=None),
      value_coef=config.value_coef,
      epochs=config.epochs,
      whiten=True,
      judge=judge,
      warmup=control.CloneWarmup(
          config.clone.steps, state_lib.make_optimizer(config.clone.lr, max_grad_norm=None),
          functools.partial(_demonstrations, config, key)),
      describe=_describe)
  return control.make_control_experiment(parts)


def _judged_world(config: ml_collections.ConfigDict) -> tuple[World, Callable[[Trajectory], Trajectory] | None]:
  """Makes the world and, unless its own rubric grades, what grades `[G, T]` episodes of it."""
  sizes = hops.Sizes(**config.world)
  world = hops.make_walked_hops(sizes)
  judge = judging.make_judge(config.judge, functools.partial(asking.score_query, sizes=sizes))
  if judge is None:
    return world, None
  ask = assistants.traced_judge(judge, functools.partial(asking.ask_about_query, sizes=sizes))

  def grade(episodes):
    is_query = episodes.info["is_query"]
    score = jax.vmap(jax.vmap(ask))(episodes.info["facts"], is_query & (episodes.mask > 0))
    return episodes.replace(info={"score": score, "is_query": is_query})

  return hops.with_facts(world), grade


def _draw(config: ml_collections.ConfigDict, key: Array, draw_key: Array, *, number: int) -> hops.Question:
  """Draws questions on the graph that the first key draws."""
  sizes = hops.Sizes(**config.world)
  graph = hops.make_graph(key, sizes)
  keys = jax.random.split(draw_key, number)
  return jax.vmap(lambda key: hops.sample_question(key, graph, sizes))(keys)


def _scripted(config: ml_collections.ConfigDict, graph: Array, key: Array, skill: float) -> Trajectory:
  """Plays one episode by the script."""
  question_key, play_key = jax.random.split(key)
  world, judge = _judged_world(config)

  def script(key, state, question):
    return hops.follow_chain(key, state if judge is None else state[0], question, skill=skill)

  question = hops.sample_question(question_key, graph, hops.Sizes(**config.world))
  return policies.scripted_rollout(world, script, play_key, question)


def _demonstrations(config: ml_collections.ConfigDict, key: Array, draw_key: Array) -> Trajectory:
  """Draws single steps `[N, 1]` of a fixed set of scripted episodes, each of which follows from its number."""
  clone = config.clone
  numbers = jax.random.randint(draw_key, (clone.episodes_per_batch,), 0, clone.episodes)
  graph = hops.make_graph(key, hops.Sizes(**config.world))
  keys = jax.vmap(functools.partial(jax.random.fold_in, jax.random.fold_in(key, 1)))(numbers)
  episodes = jax.vmap(lambda key: _scripted(config, graph, key, clone.skill))(keys)
  steps = jax.tree.map(lambda x: x.reshape(-1, 1, *x.shape[2:]), episodes)
  first = jnp.argsort(-steps.mask[:, 0], stable=True)[:clone.batch_size]  # those that count
  return jax.tree.map(lambda x: x[first], steps)


def _scores(episodes: Trajectory) -> Array:
  """Scores every step of `[G, T]` episodes by the principles; only those of queries mean anything."""
  if "score" in episodes.info:
    return episodes.info["score"]
  maxima = jnp.asarray(hops.MAX_SCORES, jnp.float32)
  every = jnp.ones(len(hops.PRINCIPLES))
  score = lambda principles: rewards.principle_score(principles, maxima, every)
  return jax.vmap(jax.vmap(score))(episodes.info["principles"])


def _step_rewards(mix, weight, outcome: Array, episodes: Trajectory) -> Array:
  """Mixes the modes: `[G, T]`; a step is one action."""
  modes = lambda process, outcome, mask: sum(
      share * rewards.ppr_step_rewards(process, outcome, mask, mode, weight) for mode, share in mix.items())
  return jax.vmap(modes)(_scores(episodes), outcome, episodes.mask)


def _with_step_rewards(config: ml_collections.ConfigDict, group: Rewards, episodes: Trajectory) -> Rewards:
  """Turns the outcome into step rewards, of which it is the last."""
  process = _step_rewards(config.mix, config.process_weight, group.outcome, episodes)
  return group.replace(outcome=jnp.zeros_like(group.outcome), process=process)


def _describe(raw: Rewards, group: Rewards, episodes: Trajectory, credit: Array) -> Metrics:
  del credit
  queries = episodes.mask * episodes.info["is_query"]
  returns = jnp.sum(group.process, -1)
  return {"process_score": stats.masked_mean(jax.vmap(_scores)(episodes), queries),
          "correlation": stats.pearson_correlation(returns, raw.outcome)}


def make_study(config: ml_collections.ConfigDict) -> Callable[[Array], Metrics]:
  """Builds the study of what the modes pay for, without training.

  Args:
    config: reads `study.episodes` and `clone.skill`.

  Returns:
    `study(key) -> metrics`: for the uniform policy and for the script, the correlation over episodes of the return of
    each mode with the outcome, and the share of episodes that end right.
  """
  def study(key: Array) -> Metrics:
    graph = hops.make_graph(jax.random.fold_in(key, 1), hops.Sizes(**config.world))
    keys = jax.random.split(jax.random.fold_in(key, 2), config.study.episodes)
    metrics, (_, judge) = {}, _judged_world(config)
    for name, skill in (("random", 0.0), ("script", config.clone.skill)):
      episodes = jax.vmap(lambda key: _scripted(config, graph, key, skill))(keys)
      episodes = episodes if judge is None else judge(episodes)
      outcome = jnp.sum(episodes.reward_t, 1)
      metrics[f"{name}/success"] = jnp.mean(outcome)
      for mode in config.mix:
        returns = jnp.sum(_step_rewards({mode: 1.0}, 1.0, outcome, episodes), 1)
        metrics[f"{name}/{mode}"] = stats.pearson_correlation(returns, outcome)
    return metrics

  return study
