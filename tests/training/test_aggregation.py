"""One place says over what a loss averages, and everything else agrees with it."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rlcore import advantages, losses
from rlcore.training import aggregation, control, describe, language
from rlcore.training import state as state_lib
from rlcore.types import Rewards, Rollouts
from tests.training import bigram, test_control

MODES = {"token": {}, "sequence": dict(aggregation="sequence"), "constant": dict(aggregation="constant", length=9.0),
         "no empty ones": dict(aggregation="sequence", count_empty=False)}
NOTED = optax.GradientTransformation(  # a step of 0; the state is the gradient
    lambda params: jax.tree.map(jnp.zeros_like, params),
    lambda grads, state, params: (jax.tree.map(jnp.zeros_like, grads), grads))


def _parts(**changes):
  return language.LanguageParts(**dict(
      model=bigram.make_bigram(), task=bigram.make_task(), optimizer=NOTED, group_size=3, prompts_per_update=4,
      advantage_estimator=advantages.group_relative, policy_loss=losses.clip_policy_loss) | changes)


def _batch():
  """Responses whose lengths differ, one of them empty, with old log-probabilities off by up to .1."""
  rng = np.random.default_rng(0)
  tokens = rng.integers(1, bigram.VOCAB, (4, 3, bigram.LENGTH)).astype(np.int32)
  lengths = np.array([[1, 6, 2], [6, 6, 5], [1, 1, 2], [3, 0, 4]])
  mask = (np.arange(bigram.LENGTH) < lengths[..., None]).astype(np.float32)
  prompts = rng.integers(1, bigram.VOCAB, (4, bigram.PROMPT)).astype(np.int32)
  params = bigram.make_bigram().init(jax.random.key(0))
  true = np.take_along_axis(bigram.log_softmax(params, prompts, tokens), tokens[..., None], -1)[..., 0]
  old = (true + rng.uniform(-0.1, 0.1, true.shape)).astype(np.float32) * mask
  return Rollouts(tokens, mask, old, prompts, np.ones(prompts.shape, np.float32)), Rewards(
      rng.normal(size=(4, 3)).astype(np.float32))


def _credit(rewards):
  spread = rewards.outcome.std(1, ddof=1, keepdims=True) + 1e-6
  return ((rewards.outcome - rewards.outcome.mean(1, keepdims=True)) / spread)[..., None]


def _gradient(parts):
  """What an update hands to the optimiser."""
  rollouts, rewards = _batch()
  state = language.init_state(parts, jax.random.key(0))
  state = state.replace(params=bigram.make_bigram().init(jax.random.key(0)))
  after, _ = jax.jit(functools.partial(language.learn, parts))(state, rollouts, rewards)
  return np.concatenate([np.ravel(x) for x in jax.tree.leaves(after.opt_state)])


def _accumulated(parts):
  """The same without what comes before and after, which takes a quarter of the time to compile."""
  rollouts, rewards = _batch()
  batch = rollouts, jnp.broadcast_to(_credit(rewards), rollouts.mask.shape)
  weight = lambda piece: losses.aggregation_weight(language._rows(piece[0]).mask, **parts.settled[1])
  gradient = jax.jit(lambda params, batch: state_lib.accumulate(
      functools.partial(language._loss, parts), weight, params, batch, microbatches=parts.microbatches).grads)
  grads = gradient(bigram.make_bigram().init(jax.random.key(0)), batch)
  return np.concatenate([np.ravel(x) for x in jax.tree.leaves(grads)])


def _by_hand(how):
  """The gradient of clipped surrogate and entropy over the whole batch, the average written out."""
  rollouts, rewards = _batch()
  mask, length = rollouts.mask, bigram.LENGTH
  counts = mask.sum(-1)
  weight = {"token": mask / mask.sum(), "sequence": mask / np.maximum(counts, 1)[..., None] / 12,
            "no empty ones": mask / np.maximum(counts, 1)[..., None] / 11, "constant": mask / 12 / 9.0}[how]
  credit = _credit(rewards)

  def loss(params):
    before = np.concatenate([np.broadcast_to(rollouts.prompt[:, None, -1:], (4, 3, 1)), rollouts.tokens[..., :-1]], -1)
    every = jax.nn.log_softmax(params["embed"][before] @ params["out"])
    log_probs = jnp.take_along_axis(every, rollouts.tokens[..., None], -1)[..., 0]
    ratio = jnp.exp(log_probs - rollouts.log_probs)
    surrogate = jnp.minimum(ratio * credit, jnp.clip(ratio, 0.8, 1.28) * credit)
    entropy = -jnp.sum(jnp.exp(every) * every, -1)
    return -jnp.sum(weight * (jnp.where(mask > 0, surrogate, 0) + 0.05 * entropy))

  params = bigram.make_bigram().init(jax.random.key(0))
  return np.concatenate([np.ravel(x) for x in jax.tree.leaves(jax.grad(loss)(params))])


@pytest.mark.parametrize("how", MODES)
def test_microbatches_do_not_change_the_gradient(how):
  loss, want = functools.partial(losses.clip_policy_loss, **MODES[how]), _by_hand(how)
  whole = None
  for microbatches in (1, 2, 4):
    got = _accumulated(_parts(policy_loss=loss, microbatches=microbatches, entropy_coef=0.05))
    assert np.linalg.norm(got - want) <= 2e-6 * np.linalg.norm(want)
    whole = got if whole is None else whole
    assert np.linalg.norm(got - whole) <= 1e-6 * np.linalg.norm(whole)
  stated = {aggregation.NAMES[name]: value for name, value in MODES[how].items()}
  by_parts, by_loss = _parts(aggregation=stated).settled, _parts(policy_loss=loss).settled
  assert by_parts[1] == by_loss[1] and by_parts[0].keywords == by_loss[0].keywords


def test_the_update_takes_that_gradient():
  loss = functools.partial(losses.clip_policy_loss, aggregation="sequence")
  got, want = _gradient(_parts(policy_loss=loss, microbatches=4, entropy_coef=0.05)), _by_hand("sequence")
  assert np.linalg.norm(got - want) <= 2e-6 * np.linalg.norm(want)


def test_statements_that_disagree_are_refused():
  by_sequence = functools.partial(losses.clip_policy_loss, aggregation="sequence")
  words = "aggregation={'mode': 'token'} disagrees with the mode='sequence' that the policy loss clip_policy_loss binds"
  for make in (_parts, test_control.make_parts):
    with pytest.raises(ValueError, match=words):
      make(policy_loss=by_sequence, aggregation={"mode": "token"})
    assert make(policy_loss=by_sequence).settled[1] == {"mode": "sequence"}
    assert make(policy_loss=by_sequence, aggregation={"mode": "sequence"}).settled[1] == {"mode": "sequence"}
    with pytest.raises(ValueError, match="has 'aggregation', which is none of mode, length, count_empty"):
      make(aggregation={"aggregation": "token"})
  with pytest.raises(ValueError, match="disagrees with the length=4"):
    _parts(policy_loss=functools.partial(losses.clip_policy_loss, aggregation="constant", length=4),
           aggregation={"mode": "constant", "length": 5})


def test_a_loss_that_cannot_be_asked_must_be_told_of():
  opaque = lambda log_probs, batch, credit: by_sequence(log_probs, batch, credit)
  by_sequence = functools.partial(losses.clip_policy_loss, aggregation="sequence")
  with pytest.raises(ValueError, match="the policy loss lambda does not say over what it averages, so microbatches=2"):
    _parts(policy_loss=opaque, microbatches=2)
  assert _parts(policy_loss=opaque, microbatches=2, aggregation={"mode": "sequence"}).settled[1]["mode"] == "sequence"
  assert _parts(policy_loss=opaque).settled[1] == {"mode": "token"}

  def own(log_probs, batch, credit, *, aggregation="constant", length=3):
    return losses.clip_policy_loss(log_probs, batch, credit, aggregation=aggregation, length=length)

  assert _parts(policy_loss=own).settled[1] == {"mode": "constant", "length": 3}
  assert dataclasses.replace(_parts(policy_loss=by_sequence), policy_loss=own).settled[1]["mode"] == "constant"


def test_groups_are_informative_where_credit_differs():
  """A transform that pays all alike leaves nothing to learn, whatever the verifier said."""
  rollouts, rewards = _batch()
  level = Rewards(np.zeros((4, 3), np.float32))
  level.outcome[2] = [0, 1, 0]
  measure = lambda **shaped: describe.response_metrics(rewards, rollouts, rollouts.mask, **shaped)["informative_groups"]
  assert measure() == 1 and measure(shaped=level) == 0.25
  process = np.zeros(rollouts.mask.shape, np.float32)
  process[0, 0, 0] = process[1, 0, 0] = process[3, 1, 0] = 1  # the last of these does not count
  assert measure(shaped=level.replace(process=process)) == 0.75


def test_groups_have_the_size_that_the_parts_say():
  agent = test_control.make_parts().agent
  rollout = lambda params, key, instance: jax.vmap(agent.rollout, (None, 0, None))(
      params, jax.random.split(key, 3), instance)
  experiment = control.make_control_experiment(test_control.make_parts(rollout=rollout))
  with pytest.raises(ValueError, match="group_size=2, but the rollout lambda plays groups of 3"):
    jax.eval_shape(experiment.update, jax.eval_shape(experiment.init, jax.random.key(0)))
