"""Multi-turn episodes: one sequence, read once, scored alike; against a loop that reads everything again."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore import policies
from rlcore.envs import mini_quest as mq
from rlcore.models import DecoderConfig, GRUConfig, heads, make_decoder, make_gru
from rlcore.policies import log_probs, multi_turn

TURNS, TURN, GROUP = 6, 9, 3
CONTEXT = 12 + TURNS * TURN
QUESTS, PLANS = mq.draw_quests(1, 4, rooms=2, objects=3, goals=2, longest=3)

MODELS = {
    "gru": make_gru(GRUConfig(vocab_size=mq.DRAWABLE, input_size=len(mq.WORDS), context=CONTEXT, dim=12)),
    "decoder": make_decoder(DecoderConfig(vocab_size=len(mq.WORDS), context=CONTEXT, layers=1, dim=16, heads=2)),
}


@functools.cache
def _played(name):
  model = MODELS[name]
  world = mq.make_mini_quest(num_turns=TURNS)
  agent = multi_turn.make_token_agent(model, world, critic_dim=12 if name == "gru" else 16, critic_hidden=5)
  params = agent.init(jax.random.key(0))
  params["value"]["weight"] = jnp.linspace(-1, 1, 5)
  group = functools.partial(multi_turn.play_group, model, world, group_size=GROUP)
  keys = jax.random.split(jax.random.key(1), 4)
  episodes = jax.jit(jax.vmap(group, (None, 0, 0)))(params, keys, jax.tree.map(jnp.asarray, QUESTS))
  return model, world, agent, params, keys, jax.tree.map(np.asarray, episodes)


@pytest.mark.parametrize("name", MODELS)
def test_the_log_probs_are_those_of_scoring(name):
  model, world, agent, params, _, episodes = _played(name)
  seen = episodes.observation
  allowed = multi_turn.token_mask(world, model, TURNS)
  score = jax.jit(lambda params, prompt, mask: policies.token_log_probs(
      model, params["policy"], prompt, mask, seen["tokens"], episodes.mask, valid=seen["valid"], allowed=allowed,
      with_entropy=True))
  log_probs, entropy = score(params, seen["prompt"][:, 0], seen["prompt_mask"][:, 0])
  np.testing.assert_allclose(log_probs, episodes.log_prob_old, atol=1e-5)
  rows = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), episodes)
  scores = jax.jit(jax.vmap(agent.score, (None, 0)))(params, rows)
  np.testing.assert_allclose(scores.log_probs, rows.log_prob_old, atol=1e-5)
  np.testing.assert_allclose(scores.entropy, np.reshape(entropy, rows.mask.shape), atol=1e-5)
  np.testing.assert_allclose(scores.values * rows.mask, rows.value_t, atol=1e-5)
  ends = np.tile(np.arange(TURN) == TURN - 1, TURNS)
  assert not np.any(rows.log_prob_old[:, ends]) and not np.any(np.asarray(scores.entropy)[:, ends])
  chosen = np.asarray(allowed)[np.arange(TURNS * TURN), np.minimum(rows.action, model.vocab_size - 1)]
  assert np.all(chosen[rows.mask > 0]) and np.all(rows.log_prob_old[:, ~ends][rows.mask[:, ~ends] > 0] < 0)


@pytest.mark.parametrize("name", MODELS)
def test_the_world_and_the_policy_take_turns(name):
  """Replays every episode with plain Python calls of the world."""
  _, world, _, _, _, episodes = _played(name)
  step, ended = jax.jit(world.step), 0
  for b in range(4):
    quest = jax.tree.map(lambda x: x[b], QUESTS)
    for g in range(GROUP):
      one = jax.tree.map(lambda x: x[b, g], episodes)
      tokens, mask = one.observation["tokens"].reshape(TURNS, TURN), one.mask.reshape(TURNS, TURN)
      state, prompt, prompt_mask, observation = world.reset(jax.random.key(0), quest)
      np.testing.assert_array_equal(one.observation["prompt"], prompt)
      np.testing.assert_array_equal(one.observation["prompt_mask"], prompt_mask)
      done, valid = False, one.observation["valid"].reshape(TURNS, TURN)
      for s in range(TURNS):
        assert one.info["turn_mask"][s] == valid[s].mean() == 1 - done
        assert list(mask[s]) == [0] * 6 + [1 - done] * 3
        assert one.info["turn_end"][s] == (-1 if done else (s + 1) * TURN - 1)
        if done:
          assert np.all(tokens[s] == world.pad_id) and one.info["turn_rewards"][s] == 0
          continue
        np.testing.assert_array_equal(tokens[s, :6], observation)
        state, observation, reward, done, info = step(state, tokens[s, 6:])
        assert one.info["turn_rewards"][s] == one.reward_t[(s + 1) * TURN - 1] == reward
      assert one.info["won"] == info["won"]
      assert one.reward_t.sum() == one.info["turn_rewards"].sum()
      ended += done
  assert ended == 4 * GROUP


def test_values_and_discounts_step_over_the_observations():
  episodes = _played("gru")[-1]
  for one in (jax.tree.map(lambda x: x[b, g], episodes) for b in range(4) for g in range(GROUP)):
    counted = np.flatnonzero(one.mask)
    np.testing.assert_array_equal(one.value_tp1[counted], np.append(one.value_t[counted[1:]], 0))
    np.testing.assert_array_equal(one.discount_t[counted], np.append(np.ones(len(counted) - 1), 0))
    assert not np.any(np.delete(one.value_tp1, counted)) and not np.any(np.delete(one.discount_t, counted))
    assert len(set(one.value_t[counted])) == len(counted)


def test_a_group_does_not_depend_on_its_neighbours():
  model, world, _, params, keys, episodes = _played("gru")
  value = functools.partial(heads.value_head, params["value"])
  play = jax.jit(lambda keys, quests: multi_turn.play(
      model, params["policy"], world, keys, quests, group_size=GROUP, value=value))
  together = play(keys[1:3], jax.tree.map(lambda x: x[1:3], QUESTS))
  np.testing.assert_array_equal(together.rollouts.tokens, episodes.observation["tokens"][1:3])
  np.testing.assert_allclose(together.values, episodes.value_t[1:3], atol=1e-6)


def test_greedy_play_takes_the_likeliest_token():
  model, world, _, params, keys, _ = _played("gru")
  quests = jax.tree.map(jnp.asarray, QUESTS)
  play = jax.jit(lambda: multi_turn.play(
      model, params["policy"], world, keys, quests, group_size=2, temperature=0.0))
  rollouts = play().rollouts
  np.testing.assert_array_equal(rollouts.tokens[:, 0], rollouts.tokens[:, 1])
  assert not np.any(rollouts.log_probs)
  hidden = model.hidden(
      params["policy"], np.concatenate([rollouts.prompt, rollouts.tokens[:, 0]], 1),
      np.concatenate([rollouts.prompt_mask, rollouts.valid[:, 0]], 1))[:, 11:-1]
  logits = np.where(multi_turn.token_mask(world, model, TURNS), model.logits(params["policy"], hidden), -np.inf)
  mask = np.asarray(rollouts.mask[:, 0]) > 0
  np.testing.assert_array_equal(logits.argmax(-1)[mask], np.asarray(rollouts.tokens[:, 0])[mask])


def test_a_demonstration_is_cut_where_it_ends():
  world = mq.make_mini_quest(num_turns=TURNS)
  quest, plan = jax.tree.map(lambda x: x[0], (QUESTS, PLANS))
  play = jax.jit(lambda length: multi_turn.replay(world, jax.random.key(0), quest, jnp.asarray(plan), length))
  length = int(np.sum(plan[:, 0] >= 0))
  for cut in (1, length):
    episode = play(cut)
    np.testing.assert_array_equal(episode.turn_mask[0], np.arange(3) < cut)
    assert episode.rollouts.mask.sum() == 3 * cut and episode.rollouts.valid.sum() == TURN * cut
    np.testing.assert_array_equal(episode.turn_end[0], np.where(np.arange(3) < cut, 9 * np.arange(1, 4) - 1, -1))
  actions = np.asarray(episode.rollouts.tokens[0]).reshape(3, TURN)[:length, 6:]
  np.testing.assert_array_equal(actions, plan[:length])


def test_forbidden_tokens_get_no_gradient_and_no_probability():
  model = MODELS["gru"]
  params = model.init(jax.random.key(0))
  rng = np.random.default_rng(0)
  prompts, tokens = rng.integers(0, mq.DRAWABLE, (2, 3)), rng.integers(0, 4, (2, 5))
  allowed = np.zeros((5, mq.DRAWABLE))
  allowed[:, :4] = 1
  allowed[3] = 0
  allowed[3, 9] = 1

  def score(params, tokens):
    return policies.token_log_probs(
        model, params, prompts, np.ones((2, 3)), tokens, np.ones((2, 5)), allowed=allowed, with_entropy=True)

  tokens[:, 3] = 9
  scored, entropy = score(params, tokens)
  hidden = log_probs.hidden_before(model, params, prompts, np.ones((2, 3)), tokens, np.ones((2, 5)))
  logits = np.float64(model.logits(params, hidden))[..., :4]
  logits -= np.log(np.exp(logits).sum(-1, keepdims=True))
  want = np.take_along_axis(logits, np.minimum(tokens, 3)[..., None], -1)[..., 0]
  free = np.arange(5) != 3
  np.testing.assert_allclose(scored[:, free], want[:, free], atol=1e-5)
  np.testing.assert_allclose(entropy[:, free], -(np.exp(logits) * logits).sum(-1)[:, free], atol=1e-5)
  assert not np.any(scored[:, 3]) and not np.any(entropy[:, 3])
  grads = jax.grad(lambda p: sum(jnp.sum(x) for x in score(p, tokens)))(params)
  assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))
  assert not np.any(grads["output"][:, 4:]) and np.any(grads["output"][:, :4])
  assert np.all(score(params, np.full((2, 5), 7))[0][:, free] < -1e29)


def test_a_value_head_starts_at_zero_and_learns():
  hidden = np.random.default_rng(0).normal(size=(2, 3, 6)).astype(np.float32)
  for width in (None, 4):
    params = heads.init_value_head(jax.random.key(0), 6, hidden=width)
    assert heads.value_head(params, hidden).shape == (2, 3) and not np.any(heads.value_head(params, hidden))
    grads = jax.grad(lambda p: jnp.sum(heads.value_head(p, hidden)))(params)
    assert np.any(grads["weight"]) and heads.value_head(params, hidden.astype(jnp.bfloat16)).dtype == jnp.float32
