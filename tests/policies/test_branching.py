"""Branching rollouts: what they draw is what the model says of the assembled sequences, and nothing is read twice."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore.advantages import group_advantage, reward_weighted_probs
from rlcore.models import DecoderConfig, GRUConfig, make_decoder, make_gru
from rlcore.policies import branch, branching, make_host_branch, sample, token_log_probs

_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # compiles twice as fast
_SHAPE = dict(vocab_size=11, context=40, layers=2, dim=16, heads=4, kv_heads=2, ff_dim=24)
MODELS = {
    "decoder": make_decoder(DecoderConfig(**_SHAPE | dict(layers=1), qk_norm=True)),
    "scanned": make_decoder(DecoderConfig(**_SHAPE, scan_layers=True)),
    "gru": make_gru(GRUConfig(vocab_size=11, context=40, dim=16)),
}
STEP_END, STOP, PAD = (3, 4), (7,), 10
SETTINGS = dict(candidates=4, max_steps=5, max_step_tokens=6, step_tokens=STEP_END, stop_tokens=STOP, pad_id=PAD)


def _params(model, seed=0):
  rng = np.random.default_rng(seed)
  shapes = jax.eval_shape(model.init, jax.random.key(0))
  return jax.tree.map(lambda x: np.float32((x.ndim == 1) + 0.4 * rng.normal(size=x.shape)), shapes)


def _prompts(batch=4, length=5, seed=0):
  rng = np.random.default_rng(seed)
  mask = (np.arange(length) >= np.arange(batch)[:, None] % length).astype(np.float32)
  return np.where(mask > 0, rng.integers(0, 11, mask.shape), 10**6).astype(np.int32), mask


def _score(problem, candidates):
  """Depends on the prefix, on every token and on the problem; NaN where there is no candidate."""
  weight = jnp.cos(jnp.arange(candidates.tokens.shape[-1]) + 1.0)
  own = jnp.sum(jnp.where(candidates.mask > 0, jnp.sin(candidates.tokens + 1.0), 0) * weight, -1)
  seen = jnp.sum(candidates.prefix * candidates.prefix_mask) % 5
  reward = own * (1 + seen) + candidates.step + problem * candidates.ended
  return jnp.where(candidates.mask[:, 0] > 0, reward, jnp.nan)


@functools.cache
def _jitted(name, **settings):
  """The rollouts, and their log-probabilities as training sees them."""
  def run(params, keys, prompts, mask, problems):
    b = branch(MODELS[name], params, keys, prompts, mask, _score, problems, **(SETTINGS | settings))
    rollouts = jax.vmap(lambda x: branching.as_rollouts(x, PAD))(b)
    r = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), rollouts)
    scored = token_log_probs(MODELS[name], params, r.prompt, r.prompt_mask, r.tokens, r.mask)
    return b, rollouts, scored.reshape(b.log_probs.shape)
  return _jit(run)


KEYS, PROBLEMS = jax.random.split(jax.random.key(1), 4), np.float32([0.5, -1, 2, 0])


@functools.cache
def _all(name, **settings):
  model, (prompts, mask) = MODELS[name], _prompts()
  return jax.tree.map(np.asarray, _jitted(name, **settings)(_params(model), KEYS, prompts, mask, PROBLEMS))


def _run(name, **settings):
  return _all(name, **settings)[0]


def _tokens_of(b, index):
  return b.tokens[index][b.mask[index] > 0].tolist()


def _prefix(b, prompts, mask, row, step):
  """Assembles the prompt and the chosen steps before `step`, token by token."""
  prefix = prompts[row][mask[row] > 0].tolist()
  for s in range(step):
    prefix += _tokens_of(b, (row, s, b.chosen[row, s]))
  return prefix


@pytest.mark.parametrize("name", MODELS)
def test_log_probs_are_those_of_the_assembled_sequences(name):
  """Each candidate, written after its prefix in one row without gaps, and read from the start."""
  model, b, (prompts, mask) = MODELS[name], _run(name), _prompts()
  lengths, rows, places = [], [], []
  for index in np.ndindex(b.tokens.shape[:3]):
    own = _tokens_of(b, index)
    if own:
      prefix = _prefix(b, prompts, mask, *index[:2])
      rows.append((prefix + own + [0] * 40)[:40])
      lengths.append((len(prefix), len(own)))
      places.append(index)
  assert len({own for _, own in lengths}) > 3 and len({prefix for prefix, _ in lengths}) > 5
  tokens = np.array(rows, np.int32)
  counted = np.arange(40) < np.array([sum(n) for n in lengths])[:, None]
  logits = _jit(lambda p, t, m: jax.nn.log_softmax(model.logits(p, model.hidden(p, t, m))))(
      _params(model), tokens, counted)
  for i, ((start, own), index) in enumerate(zip(lengths, places)):
    want = [logits[i, start + t - 1, rows[i][start + t]] for t in range(own)]
    np.testing.assert_allclose(b.log_probs[index][:own], want, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_rollouts_for_training_score_alike(name):
  (b, r, scored), (prompts, mask) = _all(name), _prompts()
  for row, step in np.ndindex(4, 5):
    want = _prefix(b, prompts, mask, row, step)
    own = r.prompt_mask[row, step] > 0
    assert r.prompt[row, step][own].tolist() == want
    assert np.all(np.asarray(own)[-len(want):]) and np.all(r.prompt[row, step][~own] == PAD)
  np.testing.assert_allclose(scored, b.log_probs, atol=1e-5)


def test_steps_and_responses_end_where_they_should():
  b = _run("scanned")
  assert b.step_mask[:, 0].all() and 0 < b.step_mask.sum() < b.step_mask.size
  for row, step in np.ndindex(4, 5):
    drawn = [_tokens_of(b, (row, step, j)) for j in range(4)]
    if not b.step_mask[row, step]:
      assert drawn == [[]] * 4 and not b.advantages[row, step].any() and not b.rewards[row, step].any()
      continue
    for own in drawn:
      assert own and not set(own[:-1]) & {*STEP_END, *STOP} and (len(own) == 6 or own[-1] in (*STEP_END, *STOP))
    goes_on = drawn[b.chosen[row, step]][-1] not in STOP
    assert step == 4 or b.step_mask[row, step + 1] == goes_on
  assert np.all(b.tokens[b.mask == 0] == PAD) and not b.log_probs[b.mask == 0].any()
  tokens, mask = _jit(jax.vmap(lambda x: branching.response(x, PAD)))(b)
  for row in range(4):
    want = sum((_tokens_of(b, (row, s, b.chosen[row, s])) for s in range(5)), [])
    assert tokens[row].tolist() == want + [PAD] * (30 - len(want)) and mask[row].sum() == len(want)


def test_rewards_advantages_and_choices_belong_to_the_candidates():
  b, (prompts, mask) = _run("scanned"), _prompts()
  for row, step in zip(*np.nonzero(b.step_mask)):
    prefix = np.array(_prefix(b, prompts, mask, row, step))
    for j in range(4):
      own = np.array(_tokens_of(b, (row, step, j)))
      value = np.sum(np.sin(own + 1.0) * np.cos(np.arange(len(own)) + 1.0)) * (1 + prefix.sum() % 5)
      want = value + step + PROBLEMS[row] * (own[-1] in STOP)
      np.testing.assert_allclose(b.rewards[row, step, j], want, rtol=1e-4, atol=1e-4)
  want = _jit(jax.vmap(jax.vmap(group_advantage)))(b.rewards, b.mask[..., 0])
  np.testing.assert_allclose(b.advantages, want, atol=1e-5)


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_the_best_is_chosen_at_temperature_zero_and_its_share_else(temperature):
  prompts = np.ones((3000, 1), np.int32)
  run = _jit(lambda params, key: branch(
      MODELS["gru"], params, key, prompts, prompts, lambda _, c: jnp.arange(3.0) % 2, candidates=3, max_steps=1,
      max_step_tokens=1, selection_temperature=temperature))
  chosen = np.bincount(run(_params(MODELS["gru"]), jax.random.key(0)).chosen[:, 0], minlength=3) / 3000
  want = _jit(lambda: reward_weighted_probs(group_advantage(jnp.arange(3.0) % 2), temperature))()
  np.testing.assert_allclose(chosen, want, atol=0.03 * temperature)


def test_candidates_of_a_first_step_follow_the_model():
  """Their distribution is that of the plain sampler, temperature and top-k included."""
  model, prompts = MODELS["gru"], _prompts(1)[0]
  params, ones, how = _params(model), np.ones_like(prompts), dict(temperature=0.7, top_k=6)
  b = _jit(lambda key: branch(model, params, key, prompts, ones, lambda _, c: jnp.zeros(4000), candidates=4000,
                              max_steps=1, max_step_tokens=1, **how))(jax.random.key(0))
  r = _jit(lambda key: sample(
      model, params, key, prompts, ones, group_size=4000, max_new_tokens=1, **how))(jax.random.key(1))
  share = lambda tokens: np.bincount(np.ravel(tokens), minlength=11) / 4000
  np.testing.assert_allclose(share(b.tokens), share(r.tokens), atol=0.05)
  table = dict(zip(np.ravel(r.tokens).tolist(), np.ravel(r.log_probs)))
  np.testing.assert_allclose(np.ravel(b.log_probs), [table[t] for t in np.ravel(b.tokens).tolist()], atol=1e-5)


def test_a_response_depends_on_its_own_prompt_and_key_only():
  (prompts, mask), params, whole = _prompts(), _params(MODELS["scanned"]), _run("scanned")
  rows = np.array([3, 1, 3, 0])
  part, _, _ = _jitted("scanned")(params, KEYS[rows], prompts[rows], mask[rows], PROBLEMS[rows])
  np.testing.assert_array_equal(part.tokens, whole.tokens[rows])
  np.testing.assert_array_equal(part.chosen, whole.chosen[rows])
  empty = mask * np.float32([[1], [0], [1], [1]])
  part, _, _ = _jitted("scanned")(params, KEYS, prompts, empty, PROBLEMS)
  assert not part.mask[1].any() and not part.step_mask[1].any() and np.all(part.tokens[1] == PAD)
  np.testing.assert_array_equal(part.tokens[2], whole.tokens[2])


def test_vmap_over_seeds_changes_nothing():
  model, (prompts, mask) = MODELS["gru"], _prompts()
  keys, params = jax.random.split(jax.random.key(5), 3), _params(MODELS["gru"])
  run = lambda key: branch(model, params, key, prompts, mask, _score, np.zeros(4, np.float32), **SETTINGS)
  mapped = _jit(jax.vmap(run))(keys)
  for i in range(3):
    alone, _, _ = _jitted("gru")(params, jax.random.split(keys[i], 4), prompts, mask, np.zeros(4, np.float32))
    np.testing.assert_array_equal(mapped.tokens[i], alone.tokens)
    np.testing.assert_array_equal(mapped.chosen[i], alone.chosen)
    np.testing.assert_allclose(mapped.log_probs[i], alone.log_probs, atol=1e-5)


def test_a_scorer_on_the_host_gives_the_same():
  shapes, (prompts, mask) = [], _prompts()
  one = _jit(jax.vmap(_score))

  def on_host(problems, candidates):
    assert all(isinstance(x, np.ndarray) for x in jax.tree.leaves((problems, candidates)))
    shapes.append(candidates.tokens.shape)
    return np.asarray(one(problems, candidates))

  run = make_host_branch(MODELS["gru"], on_host, **SETTINGS)
  b = run(_params(MODELS["gru"]), jax.random.key(1), prompts, mask, PROBLEMS)
  want = _run("gru")
  np.testing.assert_array_equal(b.tokens, want.tokens)
  np.testing.assert_array_equal(b.chosen, want.chosen)
  np.testing.assert_allclose(b.advantages, want.advantages, atol=1e-4)
  assert shapes == [(4, 4, 6)] * int(want.step_mask.any(0).sum())


def test_the_prompt_is_read_once_and_every_token_once():
  """The model sees the prompt in one prefill and k tokens at a time in steps, whatever the number of steps."""
  seen, base = [], MODELS["scanned"]
  def prefill(params, tokens, *rest):
    seen.append(("prefill", tokens.shape))
    return base.prefill(params, tokens, *rest)
  def step(params, cache, tokens, index):
    seen.append(("step", tokens.shape))
    return base.step(params, cache, tokens, index)
  model = base._replace(prefill=prefill, step=step, hidden=None, respond=None)
  prompts, mask = _prompts()
  jax.eval_shape(lambda p: branch(model, p, jax.random.key(0), prompts, mask, _score, np.zeros(4), **SETTINGS),
                 _params(base))
  assert set(seen) == {("prefill", (4, 5)), ("step", (4, 4))} and seen.count(("prefill", (4, 5))) == 1


@pytest.mark.parametrize("settings", [dict(candidates=1), dict(max_steps=1, max_step_tokens=1)])
def test_the_smallest_sizes(settings):
  b, _, scored = _all("gru", **settings)
  np.testing.assert_allclose(scored, b.log_probs, atol=1e-5)
  assert b.step_mask[:, 0].all() and np.any(b.advantages) == (b.tokens.shape[2] > 1)


@pytest.mark.parametrize("change, message", [
    (dict(max_steps=7), "41 tokens long, but the context is 40"), (dict(candidates=0), "candidates=0"),
    (dict(max_steps=0), "max_steps=0"),
    (dict(max_step_tokens=-1), "max_step_tokens=-1")])
def test_what_cannot_be_drawn_is_refused(change, message):
  prompts, mask = _prompts()
  with pytest.raises(ValueError, match=message):
    jax.eval_shape(lambda p: branch(MODELS["scanned"], p, jax.random.key(0), prompts, mask, _score, np.zeros(4),
                                    **(SETTINGS | change)), _params(MODELS["scanned"]))
  with pytest.raises(ValueError, match="adopt"):
    branch(MODELS["gru"]._replace(adopt=None), None, None, prompts, mask, _score, **SETTINGS)
