"""SLATE: a search agent learns from several judged candidates for each single step (arXiv:2602.23440).

One compiled program holds every arm. Its rollout branches or not, by the float `config.branch`, and its advantage is a
sum of four estimators of the same judged rewards, weighted by `config.credit`. The judge belongs to the world, or is
asked within the rollout (`config.judge`). `make_study` measures at one policy how much more the summed reward of whole
trajectories varies in a group than the reward of a step among its siblings.
"""

from collections.abc import Callable
import functools

import jax
import jax.numpy as jnp
import ml_collections

from rlcore import advantages, assistants, losses, policies, rewards, stats
from rlcore.assistants import relation_hops as asking
from rlcore.envs import relation_hops as hops
from rlcore.training import control, judging, loop
from rlcore.training import state as state_lib
from rlcore.types import Array, Experiment, Metrics, Rewards, Trajectory

TOKENS = 2  # of a step: a plan and an action


def make_experiment(config: ml_collections.ConfigDict) -> Experiment:
  """Composes SLATE, or a baseline by `config.branch` and `config.credit`, on relation hops."""
  return control.make_control_experiment(_parts(config, jax.random.key(config.seed)))


def _parts(config: ml_collections.ConfigDict, key: Array) -> control.ControlParts:
  """Builds the composition; the key draws the graph and which questions are held out."""
  sizes = hops.Sizes(**config.world)
  judge = judging.make_judge(config.judge, functools.partial(asking.score_token, sizes=sizes))
  flip = 0.0 if config.judge.kind == "chat" else config.flip  # a language model errs by itself
  world = hops.make_planned_hops(sizes, flip=flip, judged=judge is None)
  world = world if judge is None else hops.with_facts(world)
  agent = functools.partial(
      policies.make_actor_critic, world, hidden=config.hidden, critic=False,
      policy_mask=functools.partial(hops.legal_tokens, sizes=sizes))
  rollout = functools.partial(
      policies.branching_rollout, candidates=config.group_size, tokens=TOKENS, branch=config.branch,
      choose=functools.partial(_choose, config), judge=judge and functools.partial(_judge_tokens, sizes, judge))
  return control.ControlParts(
      agent=agent(),
      instances=functools.partial(_draw, config, key, number=config.questions),
      test_instances=functools.partial(_draw, config, key, number=config.test_questions, held_out=True),
      probe=True,
      optimizer=state_lib.make_optimizer(config.lr, max_grad_norm=None),
      group_size=config.group_size,
      min_group_size=2,
      rollout=agent(play=rollout).rollout,
      reward_transform=rewards.stateless(functools.partial(_with_step_rewards, config)),
      advantage_estimator=functools.partial(_advantages, config.credit),
      # With one mask for all candidates of a question this is `losses.slate_objective`; of trajectories it is GRPO's.
      policy_loss=functools.partial(
          losses.clip_policy_loss, clip_low=config.clip, clip_high=None, aggregation="sequence"),
      entropy_coef=config.entropy_coef,
      describe=_describe)


def _draw(config: ml_collections.ConfigDict, key: Array, draw_key: Array, *, number: int,
          held_out: bool = False) -> hops.Question:
  """Draws questions, uniformly: from those that are held out none twice, from the others with replacement."""
  sizes = hops.Sizes(**config.world)
  graph_key, split_key = jax.random.split(jax.random.fold_in(key, 1))
  order = jax.random.permutation(split_key, hops.num_distinct_questions(sizes))
  pool = order[:config.held_out] if held_out else order[config.held_out:]
  index = (jax.random.permutation(draw_key, pool)[:number] if held_out
           else jax.random.choice(draw_key, pool, (number,)))
  graph = hops.make_graph(graph_key, sizes)
  return jax.vmap(lambda i: hops.distinct_question(i, graph, sizes))(index)


def _judge_tokens(sizes: hops.Sizes, judge: assistants.Judge, rows: Trajectory) -> Trajectory:
  """Puts the judge's scores where the world left them open."""
  info, score = dict(rows.info), rows.info["score"]
  ask = assistants.traced_judge(judge, functools.partial(asking.ask_about_token, sizes=sizes))
  is_open = score == hops.UNJUDGED
  said = jax.vmap(jax.vmap(ask))(info.pop("facts"), is_open & (rows.mask > 0))
  return rows.replace(info=info | {"score": jnp.where(is_open, said, score)})


def _steps(x: Array) -> Array:
  """Takes from `[k, S * TOKENS]` the last token of each step."""
  return x[:, TOKENS - 1::TOKENS]


def _step_rewards(config: ml_collections.ConfigDict, rows: Trajectory) -> Array:
  """Judges the steps of `[k, S * TOKENS]` tokens: `[k, S]`, 0 where there is none."""
  judged = functools.partial(rewards.slate_step_reward, max_budget=config.world.budget, bonus=config.bonus)
  plan, action = rows.info["score"][:, ::TOKENS], _steps(rows.info["score"])
  each = jax.vmap(jax.vmap(judged))(plan, action, _steps(rows.info["is_answer"]), _steps(rows.info["step"]))
  return stats.masked(each, _steps(rows.mask))


def _choose(config: ml_collections.ConfigDict, candidates: Trajectory) -> Array:
  """Says how likely a rollout goes on from each of the candidates for a step."""
  credit = advantages.step_group_advantage(_step_rewards(config, candidates)[:, 0], mask=candidates.mask[:, 0])
  return advantages.reward_weighted_probs(credit, config.temperature)


def _with_step_rewards(config: ml_collections.ConfigDict, group: Rewards, rows: Trajectory) -> Rewards:
  """Puts the reward of each step on its last token."""
  process = jnp.zeros(rows.mask.shape, jnp.float32)
  return group.replace(process=process.at[:, TOKENS - 1::TOKENS].set(_step_rewards(config, rows)))


def _advantages(weights: ml_collections.ConfigDict, group: Rewards, rows: Trajectory) -> Array:
  """Mixes the credit of the arms: `[k, S * TOKENS]`."""
  step_reward, mask = _steps(group.process), _steps(rows.mask)
  compare = jax.vmap(advantages.group_advantage, (1, 1), 1)  # at each step, the rows that have one
  everywhere = lambda values: advantages.broadcast_to_tokens(advantages.group_advantage(values), mask)
  credit = (
      weights.outcome * everywhere(group.outcome)
      + weights.total * everywhere(jnp.sum(step_reward, 1))
      + weights.to_go * compare(jax.vmap(advantages.reward_to_go)(step_reward, mask), mask)
      + weights.step * compare(step_reward, mask))
  return jnp.repeat(credit, TOKENS, axis=1)


def _describe(raw: Rewards, group: Rewards, rows: Trajectory, credit: Array) -> Metrics:
  del raw, credit
  steps = rows.mask[..., TOKENS - 1::TOKENS]
  return {"step_reward": stats.masked_mean(group.process[..., TOKENS - 1::TOKENS], steps)}


def make_study(config: ml_collections.ConfigDict) -> Callable[[Array], Metrics]:
  """Builds the variance study at the policy that SLATE has after `config.study.updates`.

  Args:
    config: reads, beside what training reads, `study.updates` and `study.questions`.

  Returns:
    `study(key) -> metrics`, the key being that of the run of the same seed: the variance (divisor k - 1) of the summed
    reward over k trajectories of a question, that of the reward of a step over k siblings, averaged over the active
    steps, both averaged over questions; and their ratio.
  """
  def study(key: Array) -> Metrics:
    parts = _parts(config, key)
    state, _ = loop.train(control.make_control_experiment(parts), config.study.updates)(key)
    draw_key, play_key = jax.random.split(jax.random.fold_in(key, 2))
    questions = _draw(config, key, draw_key, number=config.study.questions)

    def judged(branch):
      with_branch = config.copy_and_resolve_references().unlock()
      with_branch.branch = branch
      rows = control.play(_parts(with_branch, key), state.params, play_key, questions)
      return jax.vmap(functools.partial(_step_rewards, config))(rows), rows.mask[..., TOKENS - 1::TOKENS]

    whole, _ = judged(0.0)
    siblings, active = judged(1.0)
    total = jnp.mean(stats.masked_var(jnp.sum(whole, 2), axis=1, ddof=1))
    of_step = stats.masked_var(siblings, axis=1, ddof=1)
    step = jnp.mean(stats.masked_mean(of_step, active[:, 0], axis=1))
    steps = jnp.mean(jnp.sum(active[:, 0], 1))
    return {"total_variance": total, "step_variance": step, "ratio": total / step, "active_steps": steps}

  return study
