"""Training a language policy: sample groups, verify, assign credit, move the parameters.

The stages are pure functions of `LanguageParts`. `make_language_experiment` joins them into an `Experiment`, either as
one jitted update (which `training.loop.train` scans and `vmap` batches over seeds) or, where the verifier is host code,
as two jitted stages around it. Both forms take the same parts and give the same numbers.
"""

from collections.abc import Callable
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from rlcore import losses
from rlcore import stats
from rlcore.policies import log_probs as log_probs_lib
from rlcore.policies import sampling
from rlcore.training import describe, language_parts, mesh, scoring
from rlcore.training import state as state_lib
from rlcore.types import Array, Experiment, Inspection, Metrics, Problem, PyTree, Rewards, Rollouts, Stage, Task

TrainState = state_lib.TrainState
_rows = scoring.rows
Warmup, LanguageParts = language_parts.Warmup, language_parts.LanguageParts
PROMPTS = "prompts"  # the mapped axis over the prompts of an update, for transforms and estimators that span groups


def init_state(parts: LanguageParts, key: Array) -> TrainState:
  """Initialises parameters, optimisers, reward state and the key of the first update."""
  param_key, reward_key, run_key = jax.random.split(key, 3)
  params = parts.model.init(param_key)
  example = Rewards(outcome=jnp.zeros(parts.group_size))
  return TrainState(
      step=jnp.zeros((), jnp.int32), key=run_key, params=params, opt_state=parts.optimizer.init(params),
      reward_state=parts.reward_transform.init(reward_key, example),
      warmup_opt_state=None if parts.warmup is None else parts.warmup.optimizer.init(params),
      ref_params=jax.tree.map(jnp.copy, params) if parts.use_reference else None)


def _draw(parts: LanguageParts, key: Array, count: int, split: str) -> Problem:
  keys = mesh.own_share(jax.random.split(key, count), parts.axis_name, "prompts")
  return parts.constrain(jax.vmap(lambda k: parts.task.sample(k, split))(keys))


def _draw_test(parts: LanguageParts, key: Array, count: int) -> Problem:
  """Draws held-out problems; of a finite test split none twice, and all of them where `count` reaches its size."""
  if not parts.task.test_size:
    return _draw(parts, key, count, "test")
  return jax.vmap(parts.task.test_problem)(jax.random.permutation(key, parts.task.test_size)[:count])


def rollout(parts: LanguageParts, params: PyTree, key: Array, problems: Problem, **settings) -> Rollouts:
  """Samples `group_size` responses to each of the `[B]` problems (one key a prompt)."""
  count = parts.prompts_per_update if parts.axis_name else problems.prompt.shape[0]
  keys = mesh.own_share(jax.random.split(key, count), parts.axis_name, "prompts")
  settings = dict(group_size=parts.group_size, temperature=parts.temperature, top_k=parts.top_k,
                  top_p=parts.top_p) | settings
  return sampling.sample(
      parts.model, params, keys, problems.prompt, problems.prompt_mask, max_new_tokens=parts.task.max_response,
      stop_tokens=(parts.task.eos_id,), pad_id=parts.task.pad_id, **settings)


def score(task: Task, problems: Problem, rollouts: Rollouts) -> Rewards:
  """Verifies `[B, G]` responses with a jittable verifier."""
  per_group = jax.vmap(task.score, (None, 0, 0))
  return Rewards(outcome=jax.vmap(per_group)(problems, rollouts.tokens, rollouts.mask).astype(jnp.float32))


def credit(parts: LanguageParts, rewards: Rewards, rollouts: Rollouts, reward_state: PyTree) -> tuple[Array, PyTree]:
  """Transforms the rewards of `[B]` groups and assigns credit: `(advantages [B, G, T], reward_state)`."""
  shaped, reward_state = shape_rewards(parts, rewards, rollouts, reward_state)
  return assign_credit(parts, shaped, rollouts), reward_state


def shape_rewards(
    parts: LanguageParts, rewards: Rewards, rollouts: Rollouts, reward_state: PyTree) -> tuple[Rewards, PyTree]:
  """Transforms the rewards of `[B]` groups: `(rewards, reward_state)`."""
  batched = jax.vmap(parts.reward_transform.apply, (0, 0, None), (0, None), axis_name=PROMPTS)
  return batched(rewards, rollouts, reward_state)


def assign_credit(parts: LanguageParts, shaped: Rewards, rollouts: Rollouts) -> Array:
  """Assigns credit for transformed rewards: `[B, G, T]`, without gradient."""
  one_group = functools.partial(describe.credit_of_group, parts.advantage_estimator)
  return jax.lax.stop_gradient(jax.vmap(one_group, axis_name=PROMPTS)(shaped, rollouts))


def _is_zero(x: Any) -> bool:
  return isinstance(x, (int, float)) and x == 0


def _loss(parts: LanguageParts, params: PyTree, piece: tuple[Rollouts, Array]) -> tuple[Array, Metrics]:
  """Evaluates the loss of whole groups `[B, G, ...]`, so that each prompt runs once for its responses."""
  groups, advantages = piece
  policy_loss, averaged = parts.settled
  with_entropy = not _is_zero(parts.entropy_coef)
  out = scoring.log_probs(parts, params, groups, with_entropy=with_entropy)
  log_probs, entropy = out if with_entropy else (out, None)
  if parts.single_step and groups.sampler_log_probs is not None:
    # The same numbers by another program may differ in the last bit; the ratio of the only step is 1 by definition.
    groups = groups.replace(log_probs=jax.lax.stop_gradient(log_probs))
  batch, flat = _rows(groups), lambda x: x.reshape(-1, x.shape[-1])
  loss, metrics = policy_loss(flat(log_probs), batch, flat(advantages))
  if with_entropy:
    mean_entropy = losses.aggregate(flat(entropy), batch.mask, **averaged)
    loss = loss - parts.entropy_coef * mean_entropy
    metrics = metrics | {"entropy": mean_entropy}
  return loss, metrics


def learn(parts: LanguageParts, state: TrainState, rollouts: Rollouts, rewards: Rewards) -> tuple[TrainState, Metrics]:
  """Assigns credit to `[B, G]` responses and takes the gradient steps of one update.

  Rewards, given or transformed, advantages and reward states that are not finite leave parameters, optimiser and reward
  state as they were and are reported; losses and gradients that are not, parameters and optimiser. Responses that are
  not `valid` are dropped alone and counted as `unscorable`; an update without any other is skipped.
  """
  rewards, rollouts = scoring.drop_unscorable(rewards, rollouts)
  rollouts = scoring.annotate(parts, state.params, state.ref_params, rollouts)
  shaped, reward_state = shape_rewards(parts, rewards, rollouts, state.reward_state)
  advantages = assign_credit(parts, shaped, rollouts)
  scored = stats.masked_count(rewards.outcome, rewards.valid, axis_name=parts.axis_name)
  good, flags = state_lib.check_credit(
      state_lib.all_finite(rewards) & (scored > 0), scoring.counted_rewards(shaped, rollouts.mask),
      stats.masked(advantages, rollouts.mask), reward_state, state.reward_state, axis_name=parts.axis_name)

  weights, mismatch = scoring.sampler_weights(parts, rollouts)
  weighted = advantages if weights is None else advantages * weights

  # The orders of the groups are those of one device, so every device must hold them all.
  spread = parts.axis_name if parts.minibatches > 1 else None

  def gradient_step(carry, batch):
    params, opt_state = carry
    batch = mesh.own_share(batch, spread, "prompts of a minibatch")
    weight = lambda piece: losses.aggregation_weight(_rows(piece[0]).mask, **parts.settled[1])
    gradient = state_lib.accumulate(
        functools.partial(_loss, parts), weight, params, batch, microbatches=parts.microbatches,
        axis_name=parts.axis_name)
    params, opt_state, metrics = state_lib.apply_gradient(
        parts.optimizer, params, opt_state, gradient, allowed=good)
    return (params, opt_state), metrics

  key, shuffle_key = jax.random.split(state.key)
  (params, opt_state), metrics = state_lib.minibatch_steps(
      gradient_step, (state.params, state.opt_state), mesh.gather((rollouts, weighted), spread), shuffle_key,
      epochs=parts.epochs, minibatches=parts.minibatches)
  metrics, applied = state_lib.summarise_steps(metrics)
  metrics |= flags | mismatch | describe.response_metrics(
      rewards, rollouts, advantages, parts.axis_name, shaped=shaped)
  reward_state = state_lib.select(good, reward_state, state.reward_state)
  state = state.replace(
      step=state.step + 1, key=key, params=params, opt_state=opt_state, reward_state=reward_state,
      skipped=state.skipped + (~applied).astype(jnp.int32))
  return state, metrics


def warmup_update(parts: LanguageParts, state: TrainState) -> tuple[TrainState, Metrics]:
  """Takes one supervised gradient step on fresh demonstrations (mean token negative log-likelihood)."""
  key, draw_key = jax.random.split(state.key)
  problems = _draw(parts, draw_key, parts.warmup.batch_size, "train")
  tokens, mask = jax.vmap(parts.task.demonstration)(problems)

  def loss_fn(params, piece):
    problems, tokens, mask = piece
    log_probs = log_probs_lib.token_log_probs(
        parts.model, params, problems.prompt, problems.prompt_mask, tokens, mask)
    return -jnp.sum(log_probs) / jnp.maximum(jnp.sum(mask > 0), 1), {}

  weight_fn = lambda piece: jnp.sum(piece[2] > 0)
  gradient = state_lib.accumulate(
      loss_fn, weight_fn, state.params, (problems, tokens, mask), axis_name=parts.axis_name)
  params, opt_state, metrics = state_lib.apply_gradient(
      parts.warmup.optimizer, state.params, state.warmup_opt_state, gradient)
  applied = metrics.pop("applied")
  counted = jnp.sum(mask > 0).astype(jnp.float32)
  metrics["tokens"] = counted if parts.axis_name is None else jax.lax.psum(counted, parts.axis_name)
  ref_params = params if parts.use_reference else None  # the reference is the policy with which the warm-up ends
  state = state.replace(
      step=state.step + 1, key=key, params=params, warmup_opt_state=opt_state, ref_params=ref_params,
      skipped=state.skipped + (applied == 0).astype(jnp.int32))
  return state, metrics


def held_out(parts: LanguageParts, params: PyTree, *, seed: int = 2**20) -> tuple[Problem, Rollouts, Rollouts]:
  """Answers held-out problems: `(problems, sampled, greedy)`, 4 sampled responses and one greedy one to each.

  The problems and the randomness are functions of `seed` alone, so two evaluations of the same parameters agree.
  """
  problem_key, sample_key = jax.random.split(jax.random.key(seed))
  single = dataclasses.replace(parts, axis_name=None)  # every device answers the same problems
  problems = _draw_test(single, problem_key, parts.eval_problems)
  sampled = rollout(single, params, sample_key, problems, group_size=4, with_support=False)
  greedy = rollout(single, params, sample_key, problems, group_size=1, temperature=0.0, top_k=0, top_p=1.0)
  return problems, sampled, greedy


def _solve_rates(problems: Problem, sampled: Rollouts, greedy: Rollouts, scorer: Callable) -> Metrics:
  rate = lambda rollouts: jnp.mean((scorer(problems, rollouts).outcome >= 1).astype(jnp.float32))
  return {"solve_rate": rate(sampled), "solve_rate_greedy": rate(greedy)}


def make_inspection(parts: LanguageParts, scorer: Callable[[Problem, Rollouts], Rewards]) -> Inspection:
  """Makes what `experiments.microscope` looks through: answers to held-out problems, and credit by any estimator."""
  single = dataclasses.replace(parts, axis_name=None, constrain=lambda tree: tree)  # one device does it all

  @functools.partial(jax.jit, static_argnums=2)
  def sample(state, key, count):
    problem_key, sample_key = jax.random.split(key)
    problems = _draw_test(single, problem_key, count)
    rollouts = rollout(single, state.params, sample_key, problems)
    return problems, scoring.annotate(single, state.params, state.ref_params, rollouts)

  def answer(state, key, count):
    problems, rollouts = sample(state, key, count)
    return problems, rollouts, scorer(problems, rollouts)

  def assign(state, rewards, rollouts, estimator):
    by = dataclasses.replace(single, advantage_estimator=estimator)

    @jax.jit
    def assigned(state, rewards, rollouts):
      rewards, rollouts = scoring.drop_unscorable(rewards, rollouts)
      rollouts = scoring.annotate(by, state.params, state.ref_params, rollouts)
      return credit(by, rewards, rollouts, state.reward_state)[0]

    return assigned(state, rewards, rollouts)

  return Inspection(parts.task.decode, parts.advantage_estimator, answer, assign)


def make_language_experiment(
    parts: LanguageParts,
    *,
    score_on_host: Callable[[Problem, Rollouts], Rewards] | None = None,
    source: Callable[[int], Problem] | None = None,
    num_examples: int = 3,
) -> Experiment:
  """Joins the stages into an experiment.

  Args:
    parts: the composition.
    score_on_host: `(problems, rollouts) -> Rewards` in NumPy; with it (see `training.host`) the update is two jitted
      stages, sampling and learning, with the host's verifier between them. A response whose reward is NaN could not be
      scored: it alone is dropped. None: the whole update is jittable.
    source: `(update number) -> Problem` of `[B, ...]` on the host (a data set, see `tasks.tfds`); it must be a
      function of its argument alone, which makes the update number the position in the data. Only with
      `score_on_host`.
    num_examples: responses shown at the end of a run.

  Returns:
    The experiment.

  Raises:
    ValueError: if the verifier is host code and `score_on_host` is missing, or `source` is given without it.
  """
  if parts.task.host and score_on_host is None:
    raise ValueError("this task's verifier is host code: pass score_on_host (training.host.make_scorer)")
  if source is not None and score_on_host is None:
    raise ValueError("a host data source needs the staged form: pass score_on_host")

  def draw(state):
    key, problem_key, sample_key = jax.random.split(state.key, 3)
    draw_problems = parts.problems or (lambda k: _draw(parts, k, parts.prompts_per_update, "train"))
    return state.replace(key=key), draw_problems(problem_key), sample_key

  def sample_stage(state, given=None):
    state, problems, sample_key = draw(state)
    problems = problems if given is None else given
    return state, problems, rollout(parts, state.params, sample_key, problems)

  def update(state):
    state, problems, rollouts = sample_stage(state)
    return learn(parts, state, rollouts, score(parts.task, problems, rollouts))

  def score_responses(problems, rollouts):
    return scoring.mark_unscorable(score_on_host(problems, rollouts))

  scorer = score_responses if score_on_host else jax.jit(functools.partial(score, parts.task))
  sample_jit = jax.jit(sample_stage)
  learn_jit = jax.jit(functools.partial(learn, parts))

  def staged_update(state):
    given = None if source is None else source(int(state.step))
    state, problems, rollouts = sample_jit(state, given)
    return learn_jit(state, rollouts, score_responses(problems, rollouts))

  @jax.jit
  def example_stage(state):
    problem_key, sample_key = jax.random.split(jax.random.key(2**21))
    single = dataclasses.replace(parts, axis_name=None)
    problems = _draw_test(single, problem_key, 16)
    rollouts = rollout(single, state.params, sample_key, problems)
    return problems, scoring.annotate(single, state.params, state.ref_params, rollouts)

  @jax.jit
  def credit_stage(state, rewards, rollouts):
    rewards, rollouts = scoring.drop_unscorable(rewards, rollouts)
    shaped, _ = shape_rewards(parts, rewards, rollouts, state.reward_state)
    return rewards, rollouts, shaped, assign_credit(parts, shaped, rollouts)

  def examples(state):
    problems, rollouts = example_stage(state)
    rewards, rollouts, shaped, advantages = credit_stage(state, scorer(problems, rollouts), rollouts)
    return describe.decode_examples(parts.task, problems, rollouts, rewards, shaped, advantages, num_examples)

  held_out_jit = jax.jit(functools.partial(held_out, parts))

  def evaluate(state):
    return _solve_rates(*held_out(parts, state.params), functools.partial(score, parts.task))

  def staged_evaluate(state):
    return _solve_rates(*held_out_jit(state.params), score_responses)

  warmup = parts.warmup and Stage("warm-up", parts.warmup.steps, functools.partial(warmup_update, parts))
  return Experiment(
      init=functools.partial(init_state, parts),
      update=staged_update if score_on_host else update,
      evaluate=staged_evaluate if score_on_host else evaluate,
      warmup=warmup, examples=examples, jittable=score_on_host is None,
      inspection=make_inspection(parts, scorer))
