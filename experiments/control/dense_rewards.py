"""SCAR: the score of a reward model is shared out over the spans of a response by Shapley values (2512.04302).

A GRU writes responses to prompts of `tasks.span_words`; an episode is a response, a step a token. The reward model
scores partial responses; the credit of a span lies on its last token. The arms differ in floats alone: `alpha`, and how
the score is shared out, `exact`, `sampled`, `uniform`. G4RL, the second method of the proposal, is left out; its
functions are in the library (`rewards.graph_guided_reward`).
"""

import functools

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from rlcore import advantages, losses, policies, rewards, segments
from rlcore.models import recurrent
from rlcore.tasks import make_span_words, span_words
from rlcore.training import control
from rlcore.training import state as state_lib
from rlcore.types import Agent, Array, Experiment, Metrics, Rewards, RewardTransform, Task, Trajectory


def make_experiment(config: ml_collections.ConfigDict) -> Experiment:
  """Composes policy gradients on token rewards of an arm."""
  task = make_span_words()
  credit = dict(gamma=1.0, lam=config.lam)

  def prompts(split, key):
    return jax.vmap(lambda key: task.sample(key, split))(jax.random.split(key, config.responses))

  return control.make_control_experiment(control.ControlParts(
      agent=make_writer(task, config.dim, config.embedding),
      instances=functools.partial(prompts, "train"),
      test_instances=functools.partial(prompts, "test"),
      optimizer=state_lib.make_optimizer(config.lr, b2=0.999, max_grad_norm=1.0),
      reward_transform=shared_score(task, config),
      reward_state=lambda key, params: key,
      advantage_estimator=functools.partial(advantages.gae_advantages, **credit),
      value_target=functools.partial(advantages.gae_returns, **credit),
      policy_loss=losses.reinforce_policy_loss,
      value_coef=config.value_coef, entropy_coef=config.entropy_coef, whiten=True, unit="tokens",
      describe=functools.partial(describe, config)))


def make_writer(task: Task, dim: int, embedding: int) -> Agent:
  """Makes a GRU that reads the prompt into its first state and into every input, with a policy and a value head."""
  vocab_size, length = task.eos_id, task.max_response  # the id of no word starts a response
  network = recurrent.make_gru_network(embedding, dim, vocab_size + 1)
  shapes = dict(first=(task.max_prompt, vocab_size, dim), every=(task.max_prompt, vocab_size, embedding),
                token=(task.vocab_size, embedding))

  def init(key):
    keys = jax.random.split(key, len(shapes) + 1)
    draw = lambda key, shape: jax.random.normal(key, shape) * (0.3 if len(shape) == 2 else task.max_prompt**-0.5)
    return {name: draw(k, shape) for k, (name, shape) in zip(keys, shapes.items())} | {"gru": network.init(keys[-1])}

  def begin(params, prompt):
    """Returns the first state and what the prompt adds to every input: linear in its concatenated one-hots."""
    places = jnp.arange(task.max_prompt)
    return jnp.tanh(jnp.sum(params["first"][places, prompt], 0)), jnp.sum(params["every"][places, prompt], 0)

  def advance(params, added, state, previous):
    state, outputs = network.step(params["gru"], state, params["token"][previous] + added)
    return state, (outputs[:-1], outputs[-1])

  def rollout(params, key, problem):
    state, added = begin(params, problem.prompt)

    def write(carry, key):
      state, previous = carry
      state, (logits, value) = advance(params, added, state, previous)
      token = jax.random.categorical(key, logits).astype(jnp.int32)
      return (state, token), (previous, token, jax.nn.log_softmax(logits)[token], value)

    start = state, jnp.int32(task.eos_id)
    previous, tokens, log_probs, values = jax.lax.scan(write, start, jax.random.split(key, length))[1]
    mask = jnp.ones(length)
    return Trajectory(
        observation={"prompt": jnp.tile(problem.prompt, (length, 1)), "previous": previous}, action=tokens,
        reward_t=jnp.zeros(length).at[-1].set(task.score(problem, tokens, mask)), discount_t=mask.at[-1].set(0.0),
        log_prob_old=log_probs, value_t=values, value_tp1=jnp.append(values[1:], 0.0), mask=mask,
        info=jax.tree.map(lambda x: jnp.broadcast_to(x, (length, *x.shape)), {"problem": problem}))

  def score(params, episode):
    state, added = begin(params, episode.observation["prompt"][0])
    step = functools.partial(advance, params, added)
    logits, values = jax.lax.scan(step, state, episode.observation["previous"])[1]
    return policies.categorical_scores(logits, episode.action, values)

  return Agent(init, rollout, score)


def shared_score(task: Task, config: ml_collections.ConfigDict) -> RewardTransform:
  """Makes the transform that pays tokens for their spans; its state is the key that draws orders of spans."""
  def apply(group: Rewards, batch: Trajectory, key: Array):
    own = jax.random.split(jax.random.fold_in(key, jax.lax.axis_index(control.GROUPS)), group.outcome.shape[0])
    pay = lambda key, outcome, episode: token_rewards(task, config, key, outcome, episode)
    paid = jax.vmap(pay)(own, group.outcome, batch)
    return group.replace(outcome=jnp.zeros_like(group.outcome), process=paid), jax.random.fold_in(key, 2**20)

  return RewardTransform(lambda key, example: key, apply)


def token_rewards(task: Task, config: ml_collections.ConfigDict, key: Array, outcome: Array, episode: Trajectory):
  """Pays the tokens of a response `[T]` for what their spans contribute.

  Sampled orders read the scores of their prefixes where all coalitions have been scored, since the arms share one
  program; alone, they would ask the reward model `orders * (spans + 1)` times and be told the same.
  """
  spans = config.spans
  span = jnp.arange(task.max_response) * spans // task.max_response
  problem = jax.tree.map(lambda x: x[0], episode.info["problem"])
  inside = (np.arange(2**spans)[:, None] >> np.arange(spans)) & 1  # [2**n, n]
  scores = jax.vmap(lambda kept: task.score(problem, episode.action, kept[span] * episode.mask))(jnp.asarray(inside))
  orders = jax.vmap(lambda key: jax.random.permutation(key, spans))(jax.random.split(key, config.orders))
  prefixes = jnp.pad(jnp.cumsum(1 << orders, -1), ((0, 0), (1, 0)))  # [M, n + 1]
  values = (config.exact * rewards.shapley_values(scores, spans)
            + config.sampled * rewards.shapley_from_permutations(orders, scores[prefixes], jnp.ones(config.orders))
            + config.uniform * outcome / spans)
  on_tokens = segments.segment_to_token_rewards(values, span, episode.mask)
  return rewards.mixed_token_rewards(on_tokens, outcome, episode.mask, config.alpha)


def describe(config: ml_collections.ConfigDict, raw: Rewards, paid: Rewards, episodes: Trajectory, advantage: Array
             ) -> Metrics:
  """Reports the share of perfect responses, what responses are paid in all, and scores asked for a response."""
  del episodes, advantage
  asked = config.exact * 2.0**config.spans + config.sampled * config.orders * (config.spans + 1.0)
  return {"perfect": jnp.mean((raw.outcome > span_words.BEST - 1e-3).astype(jnp.float32)),
          "paid": jnp.mean(jnp.sum(paid.process, -1)),
          "calls": jnp.asarray(asked + (1 - config.exact - config.sampled), jnp.float32)}
