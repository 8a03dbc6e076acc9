"""Sampler and trainer: the distribution that tokens were drawn from is the one that they are scored by."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rlcore import advantages, losses, policies
from rlcore.models import decoder
from rlcore.policies import log_probs as log_probs_lib
from rlcore.policies import branching, multi_turn, support
from rlcore.training import control, language, scoring
from rlcore.types import Rewards
from tests.training import bigram, test_control

NOTED = optax.GradientTransformation(  # a step of 0; the state is the gradient
    lambda params: jax.tree.map(jnp.zeros_like, params),
    lambda grads, state, params: (jax.tree.map(jnp.zeros_like, grads), grads))
TRUNCATED = {"top_p": dict(top_p=0.5), "top_k": dict(top_k=3), "both": dict(top_k=6, top_p=0.6)}


def _parts(**changes):
  return language.LanguageParts(**dict(
      model=bigram.make_bigram(), task=bigram.make_task(), optimizer=NOTED, group_size=4, prompts_per_update=3,
      advantage_estimator=advantages.group_relative, policy_loss=losses.clip_policy_loss, temperature=0.8) | changes)


def _kept(log_probs, top_k=0, top_p=1.0):
  """Which tokens top-k and then top-p leave, by sorting, in float64."""
  order = np.argsort(-log_probs, -1, kind="stable")
  probs = np.take_along_axis(np.exp(log_probs), order, -1)
  keep = np.arange(probs.shape[-1]) < (top_k or probs.shape[-1])
  probs = np.where(keep, probs, 0) / np.where(keep, probs, 0).sum(-1, keepdims=True)
  keep = keep & (np.cumsum(probs, -1) - probs < top_p)
  out = np.zeros(log_probs.shape, bool)
  np.put_along_axis(out, order, keep, -1)
  return out


def _tempered(params, rollouts, temperature=0.8):
  logits = bigram.log_softmax(params, rollouts.prompt, rollouts.tokens) / temperature
  return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def _roll_out(parts, params):
  def run(params):
    problems = jax.vmap(lambda k: parts.task.sample(k, "train"))(jax.random.split(jax.random.key(1), 3))
    return language.rollout(parts, params, jax.random.key(2), problems)
  return jax.jit(run)(params)


def _init(parts):
  return jax.jit(functools.partial(language.init_state, parts))(jax.random.key(0))


_bigram_params = jax.jit(bigram.make_bigram().init)


@functools.cache
def _drawn(name):
  params = _bigram_params(jax.random.key(0))
  return params, jax.device_get(_roll_out(_parts(**TRUNCATED[name]), params))


@pytest.mark.parametrize("name", TRUNCATED)
def test_on_policy_the_ratio_is_one_and_the_gradient_that_of_the_truncated_policy(name):
  params, rollouts = _drawn(name)
  keep, mask = _kept(_tempered(params, rollouts), **TRUNCATED[name]), rollouts.mask > 0
  stored = np.asarray(support.unpack(jnp.asarray(rollouts.support), bigram.VOCAB))
  np.testing.assert_array_equal(stored[mask], keep[mask])
  assert stored[mask].sum(-1).max() < bigram.VOCAB and 0 < mask.mean() < 1
  rewards = Rewards(np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32))
  parts = _parts(**TRUNCATED[name], entropy_coef=0.1, use_reference=True, policy_loss=functools.partial(
      losses.clip_policy_loss, clip_low=1e-4, clip_high=1e-4, kl_coef=0.2, kl="k2"))
  reference = _bigram_params(jax.random.key(5))
  state = _init(parts).replace(params=params, ref_params=reference)
  after, metrics = jax.jit(functools.partial(language.learn, parts))(state, rollouts, rewards)
  np.testing.assert_allclose([metrics["ratio_mean"], metrics["ratio_max"]], 1, atol=2e-6)
  assert metrics["clip_fraction_high"] == metrics["clip_fraction_low"] == 0

  outcome = rewards.outcome
  credit = ((outcome - outcome.mean(1, keepdims=True)) / (outcome.std(1, ddof=1, keepdims=True) + 1e-6))[..., None]

  def over_support(params):
    before = np.concatenate(
        [np.broadcast_to(rollouts.prompt[:, None, -1:], (3, 4, 1)), rollouts.tokens[..., :-1]], -1)
    logits = jnp.where(keep, params["embed"][before] @ params["out"] / 0.8, -jnp.inf)
    every = jax.nn.log_softmax(logits)
    chosen = jnp.take_along_axis(every, rollouts.tokens[..., None], -1)[..., 0]
    return chosen, -jnp.sum(jnp.where(keep, jnp.exp(every) * jnp.where(keep, every, 0), 0), -1)

  def loss(params):
    log_probs, entropy = over_support(params)
    gap = jnp.where(mask, log_probs - jax.lax.stop_gradient(over_support(reference)[0]), 0)
    each = -credit * jnp.exp(jnp.where(mask, log_probs - rollouts.log_probs, 0)) + 0.2 * gap**2 / 2 - 0.1 * entropy
    return jnp.sum(jnp.where(mask, each, 0)) / mask.sum()

  value, want = jax.jit(jax.value_and_grad(loss))(params)
  np.testing.assert_allclose(metrics["loss"], value, rtol=1e-4)
  scale = max(np.abs(x).max() for x in jax.tree.leaves(want))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5 * scale), after.opt_state, want)


def test_the_support_is_replayed_when_the_policy_has_moved():
  """Another policy would keep other tokens; those that were drawn keep a probability, and it is over the old support."""
  params, rollouts = _drawn("both")
  moved = _bigram_params(jax.random.key(9))
  got = jax.jit(functools.partial(scoring.log_probs, _parts(**TRUNCATED["both"]), chunk_size=5))(moved, rollouts)  # several places at a time
  keep, every = _kept(_tempered(params, rollouts), **TRUNCATED["both"]), _tempered(moved, rollouts)
  total = np.log(np.where(keep, np.exp(every), 0).sum(-1))
  want = np.where(rollouts.mask > 0, np.take_along_axis(every, rollouts.tokens[..., None], -1)[..., 0] - total, 0)
  np.testing.assert_allclose(got, want, atol=2e-5)
  assert np.any(_kept(every, **TRUNCATED["both"]) != keep)


def test_what_was_kept_survives_either_form():
  kept = np.random.default_rng(0).random((3, 5, 70)) < 0.03
  kept[..., 0] |= ~kept.any(-1)
  for top_k, kind, width in ((0, np.uint32, 3), (2, np.int32, 2), (40, np.uint32, 3)):
    shown = kept & (np.cumsum(kept, -1) <= (top_k or 70))
    packed = support.pack(jnp.asarray(shown), top_k)
    assert packed.dtype == kind and packed.shape == (3, 5, width) == support.empty((3, 5), 70, top_k).shape
    np.testing.assert_array_equal(support.unpack(packed, 70), shown)


def test_branches_carry_their_support():
  model = bigram.make_bigram()._replace(adopt=lambda cache, rows, mask, width: cache)
  params = _bigram_params(jax.random.key(0))
  prompts = jnp.arange(1, 7).reshape(2, 3)
  branches = jax.jit(lambda: policies.branch(
      model, params, jax.random.key(1), prompts, jnp.ones((2, 3)), lambda problem, candidates: candidates.tokens[:, 0],
      candidates=3, max_steps=2, max_step_tokens=2, top_p=0.4))()
  @jax.jit
  def again(branches):
    groups = jax.vmap(branching.as_rollouts)(branches)
    return groups.log_probs, [log_probs_lib.token_log_probs(
        model, params, one.prompt, one.prompt_mask, one.tokens, one.mask, support=one.support)
                              for one in (jax.tree.map(lambda x, b=b: x[b], groups) for b in range(2))]

  want, got = again(branches)
  np.testing.assert_allclose(np.stack(got), want, atol=2e-6)
  assert np.exp(branches.log_probs[branches.mask > 0]).mean() > 0.3  # of few tokens


def test_nothing_is_stored_where_nothing_is_cut_off():
  parts = _parts()
  problems = jax.eval_shape(lambda: jax.vmap(lambda k: parts.task.sample(k, "train"))(
      jax.random.split(jax.random.key(1), 3)))
  params = jax.eval_shape(parts.model.init, jax.random.key(0))

  def kept(parts, **settings):
    return jax.eval_shape(lambda params, problems: language.rollout(
        parts, params, jax.random.key(2), problems, **settings), params, problems).support

  assert kept(parts) is None and kept(_parts(top_k=bigram.VOCAB)) is None
  assert kept(_parts(top_p=0.5), with_support=False) is None and kept(_parts(top_p=0.5), temperature=0.0) is None
  assert kept(_parts(top_p=0.5)).shape == (3, 4, bigram.LENGTH, 1)


@pytest.mark.parametrize("changes, words", [
    (dict(temperature=0), "temperature=0 must be above 0"), (dict(temperature=0.0), "temperature=0.0 must be above 0"),
    (dict(temperature=float("nan")), "temperature=nan"), (dict(top_k=-1), "top_k=-1"), (dict(top_p=0.0), "top_p=0.0"),
    (dict(top_p=1.5), "top_p=1.5"), (dict(old_log_probs="model"), "old_log_probs='model' is none of sampler, trainer"),
    (dict(sampler_weight_cap=-1.0), "sampler_weight_cap=-1.0")])
def test_settings_that_cannot_be_trained_are_refused(changes, words):
  with pytest.raises(ValueError, match=words):
    _parts(**changes)


def test_greedy_decoding_is_evaluated_and_not_trained():
  with pytest.raises(ValueError, match="temperature=0 must be above 0"):
    multi_turn.make_token_agent(None, None, temperature=0)
  model, params = bigram.make_bigram(), _bigram_params(jax.random.key(0))
  with pytest.raises(ValueError, match="temperature=0.0: greedy decoding"):
    log_probs_lib.token_log_probs(model, params, *[jnp.ones((1, 3), jnp.int32)] * 4, temperature=0.0)
  evaluate = jax.jit(language.make_language_experiment(_parts(top_p=0.5, eval_problems=2)).evaluate)
  assert set(evaluate(_init(_parts()))) == {"solve_rate", "solve_rate_greedy"}


# Numbers that differ between the two.


def _rounding_bigram():
  """A sampler whose steps come out a little different, as other kernels and 16 bits do."""
  exact = bigram.make_bigram()
  return exact._replace(step=lambda params, cache, tokens, index: (
      params["embed"][jnp.maximum(tokens, 0)] * (1 + 0.1 * jnp.cos(tokens))[..., None], cache))


def test_the_default_follows_the_precision():
  assert not _parts().rescored and _parts(model=bigram.make_bigram("bfloat16")).rescored
  sizes = dict(vocab_size=bigram.VOCAB, context=16, layers=1, dim=8, heads=1, head_dim=8, ff_dim=8)
  for settings in (dict(dtype="bfloat16"), dict(param_dtype="bfloat16"), dict(dtype="float16")):
    assert _parts(model=decoder.make_decoder(decoder.DecoderConfig(**sizes, **settings))).rescored
  assert not _parts(model=bigram.make_bigram("bfloat16"), old_log_probs="sampler").rescored
  parts = test_control.make_parts()
  halved = parts.agent._replace(init=lambda key: jax.tree.map(lambda x: x.astype("bfloat16"), parts.agent.init(key)))
  assert not parts.rescored and dataclasses.replace(parts, agent=halved).rescored


def test_trainers_log_probs_and_truncated_weights():
  probe = np.random.default_rng(0).normal(size=(12, bigram.LENGTH)).astype(np.float32)

  def loss(log_probs, batch, credit):
    return jnp.sum(log_probs * batch.mask), {
        "seen": jnp.sum(credit * probe), "ratio_max": jnp.max(jnp.exp(jnp.abs(log_probs - batch.log_probs)))}

  cap = 1.02
  parts = _parts(model=_rounding_bigram(), policy_loss=loss, old_log_probs="trainer", sampler_weight_cap=cap)
  params = _bigram_params(jax.random.key(0))
  rollouts = _roll_out(parts, params)
  rewards = Rewards(np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32))
  state = _init(parts).replace(params=params)
  _, metrics = jax.jit(functools.partial(language.learn, parts))(state, rollouts, rewards)
  mask, tokens = np.asarray(rollouts.mask), np.asarray(rollouts.tokens)
  trainer = np.take_along_axis(_tempered(params, rollouts), tokens[..., None], -1)[..., 0] * mask
  gap = (trainer - np.asarray(rollouts.log_probs, np.float64)) * mask
  weights = np.minimum(np.exp(gap), cap) * mask
  outcome = rewards.outcome
  credit = ((outcome - outcome.mean(1, keepdims=True)) / (outcome.std(1, ddof=1, keepdims=True) + 1e-6))[..., None]
  want = (credit * weights).reshape(probe.shape) * probe
  np.testing.assert_allclose(metrics["seen"], want.sum(), atol=1e-4 * np.abs(want).sum())
  assert np.sum(weights >= cap) > 3 and np.abs(gap).max() > 0.05 and metrics["ratio_max"] == 1
  np.testing.assert_allclose(metrics["sampler_gap"], np.abs(gap).sum() / mask.sum(), rtol=1e-3)
  np.testing.assert_allclose(metrics["sampler_gap_max"], np.abs(gap).max(), rtol=1e-3)
  np.testing.assert_allclose(metrics["sampler_weight"], weights.sum() / mask.sum(), rtol=1e-4)
  annotated = jax.jit(lambda rollouts: scoring.annotate(parts, params, None, rollouts))(rollouts)
  np.testing.assert_allclose(annotated.log_probs, trainer, atol=2e-5)
  np.testing.assert_array_equal(annotated.sampler_log_probs, rollouts.log_probs)


def test_in_16_bits_gspo_starts_at_a_ratio_of_one():
  """The sampler's own numbers differ, so that its sequence ratios leave GSPO's bounds of some 1e-4."""
  model = decoder.make_decoder(decoder.DecoderConfig(
      vocab_size=bigram.VOCAB, context=bigram.PROMPT + bigram.LENGTH, layers=1, dim=16, heads=2, head_dim=8, ff_dim=16,
      dtype="bfloat16"))
  gspo = functools.partial(losses.clip_policy_loss, ratio="sequence", clip_low=3e-4, clip_high=4e-4,
                           aggregation="sequence")
  parts = _parts(model=model, policy_loss=gspo, temperature=1.0)
  first = _init(parts)
  params = jax.tree.map(lambda x: 4 * x, first.params)
  rollouts = _roll_out(parts, params)
  rewards = Rewards(np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32))
  found = {}
  for source in (None, "sampler"):
    own = dataclasses.replace(parts, old_log_probs=source)
    state = first.replace(params=params)
    _, found[source] = jax.jit(functools.partial(language.learn, own))(state, rollouts, rewards)
  trainer, sampler = found[None], found["sampler"]
  assert trainer["ratio_mean"] == trainer["ratio_max"] == 1 and trainer["sampler_gap"] > 1e-4
  assert trainer["clip_fraction_high"] == trainer["clip_fraction_low"] == 0
  assert sampler["clip_fraction_high"] + sampler["clip_fraction_low"] > 0.02 and "sampler_gap" not in sampler


def test_episodes_are_scored_again_too():
  parts = test_control.make_parts(epochs=1, minibatches=1, whiten=False, old_log_probs="trainer")
  shifted = parts.agent._replace(rollout=lambda *args: (lambda episode: episode.replace(
      log_prob_old=episode.log_prob_old - 0.1))(parts.agent.rollout(*args)))
  experiment = control.make_control_experiment(dataclasses.replace(parts, agent=shifted, sampler_weight_cap=1.05))
  _, metrics = jax.jit(experiment.update)(jax.jit(experiment.init)(jax.random.key(0)))
  assert metrics["ratio_mean"] == metrics["ratio_max"] == 1
  np.testing.assert_allclose([metrics["sampler_gap"], metrics["sampler_weight"]], [0.1, 1.05], rtol=1e-4)
