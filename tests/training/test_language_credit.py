"""What credit reads is there before it is assigned, in update, examples and inspection alike."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore import advantages
from rlcore import rewards as reward_lib
from rlcore.policies import log_probs as log_probs_lib
from rlcore.training import language
from tests.training.test_language import _odd_reward, _parts, MODEL, TASK

KL = 0.3


def _score_reference(params, rollouts):
  """Log-probabilities `[B, G, T]`, response by response."""
  flat = language._rows(rollouts)
  out = log_probs_lib.token_log_probs(MODEL, params, flat.prompt, flat.prompt_mask, flat.tokens, flat.mask)
  return np.asarray(out, np.float64).reshape(rollouts.mask.shape)


def _by_hand(rollouts, reference):
  """GRPO's advantages of the odd tokens' share less the divergence, in float64."""
  mask, tokens = (np.asarray(x, np.float64) for x in (rollouts.mask, rollouts.tokens))
  outcome = (mask * (tokens % 2)).sum(-1) / np.maximum(mask.sum(-1), 1)
  paid = outcome - KL * (mask * (np.asarray(rollouts.log_probs, np.float64) - reference)).sum(-1)
  credit = (paid - paid.mean(1, keepdims=True)) / (paid.std(1, ddof=1, keepdims=True) + 1e-6)
  return credit[..., None] * mask


@functools.cache
def _charged():
  """The experiment, a state whose reference is another policy, and what the update's loss sees of the advantages."""
  probe = np.random.default_rng(0).normal(size=(2, 2 * 4, TASK.max_response)).astype(np.float32)

  def loss(log_probs, batch, credit):
    seen = {f"seen_{i}": jnp.sum(credit * probe[i]) for i in range(2)}
    return jnp.sum(log_probs * batch.mask) * 1e-3, seen

  problems = jax.vmap(lambda k: TASK.sample(k, "train"))(jax.random.split(jax.random.key(3), 2))
  parts = _parts(
      prompts_per_update=2, use_reference=True, advantage_estimator=advantages.group_relative, policy_loss=loss,
      problems=lambda key: problems,
      reward_transform=reward_lib.chain(reward_lib.stateless(_odd_reward), reward_lib.kl_in_reward(KL)))
  experiment = language.make_language_experiment(parts)
  state = jax.jit(experiment.init)(jax.random.key(0))
  other = jax.jit(experiment.init)(jax.random.key(1)).params
  return parts, experiment, state.replace(ref_params=other), problems, probe


def test_the_divergence_in_the_reward_reaches_the_updates_credit():
  parts, experiment, state, problems, probe = _charged()
  _, metrics = jax.jit(experiment.update)(state)
  rollouts = jax.jit(lambda params: language.rollout(
      parts, params, jax.random.split(state.key, 3)[2], problems))(state.params)
  want = _by_hand(rollouts, _score_reference(state.ref_params, rollouts))
  assert np.abs(want - _by_hand(rollouts, np.asarray(rollouts.log_probs))).max() > 0.1  # the reference matters
  for i in range(2):
    terms = want.reshape(probe.shape[1:]) * probe[i]
    np.testing.assert_allclose(metrics[f"seen_{i}"], terms.sum(), atol=1e-4 * np.abs(terms).sum())


def test_examples_and_inspection_assign_the_updates_credit():
  _, experiment, state, _, _ = _charged()
  _, rollouts, rewards = experiment.inspection.answer(state, jax.random.key(5), 3)
  want = _by_hand(rollouts, _score_reference(state.ref_params, rollouts))
  for given in (rollouts, rollouts.replace(ref_log_probs=None)):  # as answered, and as somebody else made them
    got = experiment.inspection.credit(state, rewards, given, experiment.inspection.estimator)
    np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-3)
  for example in experiment.examples(state):
    # The credit of a response is one number, and what was charged is the divergence of all its tokens.
    assert len(set(np.round(example.credit, 5))) == 1
    assert example.shaped != pytest.approx(example.reward)
