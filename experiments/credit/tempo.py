"""TEMPO: a group of responses is a prefix tree, and the tree's values refine GRPO's credit (arXiv:2509.18314).

`make_experiment` trains on the signpost language; `td_coef=0` is GRPO, so both arms are one compiled program.
`make_study` measures, without training, how well each estimator's gradient points along the exact one.
"""

from collections.abc import Callable
import functools

import jax
import jax.numpy as jnp
import ml_collections

from rlcore import advantages, losses
from rlcore.models import recurrent
from rlcore.tasks import signpost
from rlcore.training import language
from rlcore.training import state as state_lib
from rlcore.types import Array, Experiment, Metrics


def make_experiment(config: ml_collections.ConfigDict) -> Experiment:
  """Composes TEMPO (or GRPO, by `config.td_coef=0`) on signpost with a GRU policy."""
  # A seed draws the secrets as well as the weights; it may be a tracer.
  secret_key = jax.random.fold_in(jax.random.key(config.seed), 1)
  task = signpost.make_signpost(secret_key=secret_key, **config.task)
  model = recurrent.make_gru(recurrent.GRUConfig(
      vocab_size=task.vocab_size - config.task.num_prompts, input_size=task.vocab_size,
      context=task.max_prompt + task.max_response, **config.model))
  parts = language.LanguageParts(
      model=model,
      task=task,
      problems=lambda key: signpost.all_prompts(task, config.task.num_prompts),
      optimizer=state_lib.make_optimizer(config.lr, b2=0.99, max_grad_norm=None),
      advantage_estimator=functools.partial(advantages.tempo, td_coef=config.td_coef),
      policy_loss=functools.partial(losses.clip_policy_loss, clip_low=config.clip_low, clip_high=config.clip_high),
      group_size=config.group_size,
      prompts_per_update=config.task.num_prompts,
      entropy_coef=config.entropy_coef,
      eval_problems=config.task.num_prompts,
      warmup=language.Warmup(config.warmup.steps, config.warmup.batch_size,
                             state_lib.make_optimizer(config.warmup.lr, b2=0.99, max_grad_norm=None)))
  return language.make_language_experiment(parts)


def make_study(config: ml_collections.ConfigDict) -> Callable[[Array], Metrics]:
  """Builds the gradient-precision study: cosine of each estimator's gradient with the exact one.

  The policy is tabular and uniform over a binary tree of `config.study.depth` decisions; the reward is 1 where all
  decisions in `relevant` are 1. The exact gradient comes from enumerating the leaves.

  Args:
    config: reads `study.depth`, `study.num_groups` and `study.cases`, pairs of (relevant decisions, group size).

  Returns:
    `study(key) -> metrics`: for each case the mean cosine of both estimators, the mean and the standard error of their
    paired difference, and the share of groups that were kept because their rewards differ.
  """
  depth, num_groups = config.study.depth, config.study.num_groups

  def study(key: Array) -> Metrics:
    metrics = {}
    for index, (relevant, group_size) in enumerate(config.study.cases):
      keys = jax.random.split(jax.random.fold_in(key, index), num_groups)
      measure = functools.partial(_group_cosines, relevant=tuple(relevant), group_size=group_size, depth=depth)
      grpo, tempo, kept = jax.vmap(measure)(keys)
      count = jnp.sum(kept)
      mean = lambda x: jnp.sum(jnp.where(kept, x, 0)) / count
      difference = tempo - grpo
      spread = jnp.sqrt(mean((difference - mean(difference)) ** 2) * count / (count - 1))
      name = "rel" + "".join(map(str, relevant)) + f"_g{group_size}"
      metrics |= {
          f"{name}/grpo": mean(grpo), f"{name}/tempo": mean(tempo), f"{name}/difference": mean(difference),
          f"{name}/standard_error": spread / jnp.sqrt(count), f"{name}/kept": count / num_groups}
    return metrics

  return study


def _exact_gradient(relevant: tuple[int, ...], depth: int) -> Array:
  """Gradient of the expected reward w.r.t. the logits `[2**depth - 1, 2]` of the uniform policy, by enumeration."""
  leaves = (jnp.arange(2**depth)[:, None] >> jnp.arange(depth - 1, -1, -1)) & 1
  reward = jnp.all(leaves[:, jnp.array(relevant)] == 1, axis=1)

  def expected_reward(logits):
    log_probs = jax.nn.log_softmax(logits)[_nodes(leaves), leaves]
    return jnp.sum(jnp.exp(jnp.sum(log_probs, 1)) * reward)

  return jax.grad(expected_reward)(jnp.zeros((2**depth - 1, 2)))


def _nodes(decisions: Array) -> Array:
  """Index of the prefix node, in heap order, at which each of the `[N, D]` binary decisions is taken."""
  depth = decisions.shape[1]
  step = lambda node, bit: (2 * node + 1 + bit, node)
  _, nodes = jax.lax.scan(step, jnp.zeros(decisions.shape[0], jnp.int32), decisions.T, unroll=depth)
  return nodes.T


def _group_cosines(key: Array, *, relevant: tuple[int, ...], group_size: int, depth: int) -> tuple[Array, Array, Array]:
  """Samples one group; returns the cosines of GRPO's and TEMPO's gradient with the exact one, and if rewards differ."""
  tokens = jax.random.bernoulli(key, 0.5, (group_size, depth)).astype(jnp.int32)
  rewards = jnp.all(tokens[:, jnp.array(relevant)] == 1, axis=1).astype(jnp.float32)
  exact = _exact_gradient(relevant, depth)
  score = jax.nn.one_hot(tokens, 2) - 0.5  # gradient of log pi at a uniform node

  def cosine(td_coef):
    credit = advantages.tempo_advantage(tokens, rewards, jnp.ones_like(tokens), td_coef=td_coef)
    estimate = jnp.zeros_like(exact).at[_nodes(tokens)].add(credit[..., None] * score)
    norm = jnp.linalg.norm(estimate) * jnp.linalg.norm(exact)
    return jnp.sum(estimate * exact) / jnp.where(norm > 0, norm, 1.0)

  return cosine(0.0), cosine(1.0), jnp.max(rewards) > jnp.min(rewards)
