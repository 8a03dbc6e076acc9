"""Composition of reward transforms: chaining, state that spans a mapped batch, and what is refused."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore import rewards, stats
from rlcore.types import Rewards, Rollouts
from tests.tolerance import close

_G, _T, _P = 4, 5, 6
_KEY = jax.random.key(0)


def _batch(lengths, **kwargs):
  """One group whose responses have the given lengths."""
  mask = (np.arange(_T) < np.asarray(lengths)[:, None]).astype(np.float32)
  prompt = np.zeros(1, np.int32)
  return Rollouts(np.zeros(mask.shape, np.int32), mask, 0 * mask, prompt, prompt, **kwargs)


def _running(axis_name=None, **kwargs):
  return rewards.with_running_stats(rewards.meanstd_reward, axis_name=axis_name, **kwargs)


def _outcome(transform, outcome, batch=None, state=None):
  state = transform.init(_KEY, Rewards(outcome)) if state is None else state
  result, state = transform.apply(Rewards(outcome), batch, state)
  return result.outcome, state


def test_a_chain_applies_the_first_transform_first():
  clip = rewards.on_outcome(rewards.clip_to_bounds, high=1.0)
  double = rewards.on_outcome(rewards.standardized_reward, scale=2.0)
  raw = jnp.array([0.2, 3.0])
  np.testing.assert_allclose(_outcome(rewards.chain(clip, double), raw)[0], [0.4, 2.0])
  np.testing.assert_allclose(_outcome(rewards.chain(double, clip), raw)[0], [0.4, 1.0])
  np.testing.assert_array_equal(_outcome(rewards.chain(), raw)[0], raw)
  np.testing.assert_array_equal(_outcome(rewards.identity(), raw)[0], raw)


def test_a_chain_of_functions_says_how_to_lift_them():
  with pytest.raises(TypeError, match="lift clip by rewards.on_outcome or rewards.stateless"):
    rewards.chain(rewards.identity(), jnp.clip)


def test_every_stage_of_a_chain_has_its_own_key_and_state():
  draws = rewards.with_running_stats(rewards.meanstd_reward)._replace(init=lambda key, example: jax.random.normal(key))
  first, (second, third) = rewards.chain(draws, rewards.chain(draws, draws)).init(_KEY, None)
  assert len({float(first), float(second), float(third)}) == 3
  before, after = rewards.chain(_running(), rewards.on_outcome(stats.centred), _running()), jnp.array([1.0, 5.0])
  _, (raw_moments, _, centred_moments) = _outcome(before, after)
  assert raw_moments["mean"] == 3 and centred_moments["mean"] == 0


@pytest.mark.parametrize("min_count", [0, 9])
def test_moments_include_the_current_batch_and_carry_over(min_count):
  transform, state, seen = _running(min_count=min_count), None, []
  for batch in np.random.default_rng(0).normal(3, 2, (4, _G)).astype(np.float32):
    seen += list(batch.astype(np.float64))
    got, state = _outcome(transform, batch, state=state)
    want = batch if len(seen) < min_count else (batch - np.mean(seen)) / np.std(seen)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_running_range_of_the_token_rewards():
  batch = _batch([2, 5, 0, 3])
  process = np.where(batch.mask > 0, np.random.default_rng(1).normal(size=(_G, _T)), np.nan)
  transform = rewards.with_running_stats(rewards.minmax_reward, field="process")
  result, state = transform.apply(Rewards(jnp.zeros(_G), process), batch, transform.init(_KEY, None))
  low, high = np.nanmin(process), np.nanmax(process)
  close(result.process, np.nan_to_num((process - low) / (high - low)), rtol=1e-5)
  assert state["count"] == 10 and not np.any(result.outcome)


_SHAPING = lambda axes: rewards.chain(
    rewards.on_outcome(rewards.clip_to_bounds, low=-2.0, high=2.0),
    rewards.with_lengths(rewards.relative_length_reward), _running(axes),
    rewards.on_outcome(stats.whiten, axis_name=axes), rewards.kl_in_reward(0.1))


def _prompts(seed=0):
  """P groups and what the chain `_SHAPING` makes of them, computed at once in float64."""
  rng = np.random.default_rng(seed)
  raw = rng.normal(size=(_P, _G)).astype(np.float32)
  batches = [_batch(rng.integers(0, _T + 1, _G), ref_log_probs=rng.normal(size=(_G, _T))) for _ in range(_P)]
  lengths = np.array([b.mask.sum(-1) for b in batches])
  clipped = np.clip(raw.astype(np.float64), -2, 2)
  shortest, longest = lengths.min(1, keepdims=True), lengths.max(1, keepdims=True)
  term = 0.5 - (lengths - shortest) / (longest - shortest)
  shaped = clipped + np.where(clipped > 0, term, np.minimum(term, 0))
  charge = np.array([0.1 * b.ref_log_probs * b.mask for b in batches])
  batch = jax.tree.map(lambda *xs: jnp.stack(xs), *batches)
  return Rewards(jnp.asarray(raw)), batch, shaped, (shaped - shaped.mean()) / shaped.std(), charge


def test_a_batch_of_groups_shares_one_unbatched_state():
  raw, batch, shaped, whitened, charge = _prompts()
  transform = _SHAPING("prompts")
  state = transform.init(_KEY, jax.tree.map(lambda x: x[0], raw))
  mapped = jax.jit(jax.vmap(transform.apply, in_axes=(0, 0, None), out_axes=(0, None), axis_name="prompts"))
  for _ in range(2):
    result, state = mapped(raw, batch, state)
  moments = state[2]
  assert all(x.shape == () for x in moments.values())
  np.testing.assert_allclose(moments["count"], 2 * shaped.size)
  np.testing.assert_allclose(moments["mean"], shaped.mean(), rtol=1e-4, atol=1e-6)
  close(moments["m2"], 2 * shaped.var() * shaped.size, rtol=1e-4)
  close([moments["min"], moments["max"]], [shaped.min(), shaped.max()], rtol=1e-5)
  np.testing.assert_allclose(result.outcome, whitened, rtol=1e-4, atol=1e-4)
  np.testing.assert_allclose(result.process, charge, rtol=1e-5, atol=1e-6)


def test_a_batch_over_prompts_and_devices_gives_the_same():
  raw, batch, _, whitened, charge = _prompts()
  transform = _SHAPING(("prompts", "devices"))
  mapped = jax.vmap(transform.apply, in_axes=(0, 0, None), out_axes=(0, None), axis_name="prompts")
  devices = jax.pmap(mapped, axis_name="devices", in_axes=(0, 0, None), out_axes=(0, 0))
  cut = functools.partial(jax.tree.map, lambda x: x.reshape(2, _P // 2, *x.shape[1:]))
  state = transform.init(_KEY, None)
  result, states = devices(cut(raw), cut(batch), state)
  np.testing.assert_allclose(result.outcome.reshape(_P, _G), whitened, rtol=1e-4, atol=1e-4)
  np.testing.assert_allclose(result.process.reshape(_P, _G, _T), charge, rtol=1e-5, atol=1e-6)
  whole = _SHAPING("prompts")
  _, want = jax.vmap(whole.apply, (0, 0, None), (0, None), axis_name="prompts")(raw, batch, state)
  for got, expected in zip(jax.tree.leaves(states), jax.tree.leaves(want), strict=True):
    assert got[0] == got[1]  # every device holds the merged moments
    np.testing.assert_allclose(got[0], expected, rtol=1e-5, atol=1e-6)


def test_a_record_may_hold_lists():
  keep_long = rewards.only_where(lambda group, _: [r > 0 for r in group.outcome], rewards.on_outcome(stats.centred))
  np.testing.assert_allclose(_outcome(keep_long, [1.0, -2.0, 4.0, 0.0])[0], [0.25, -2, 3.25, 0])


def test_state_without_an_axis_name_cannot_be_merged_by_accident():
  transform = _running()
  mapped = jax.vmap(transform.apply, in_axes=(0, None, None), out_axes=(0, None), axis_name="prompts")
  with pytest.raises(ValueError, match="out_axes"):
    mapped(Rewards(jnp.ones((_P, _G))), None, transform.init(_KEY, None))


def test_transforms_refuse_what_they_cannot_use():
  group, batch = Rewards(jnp.zeros(_G)), _batch([1, 2, 3, 4])
  with pytest.raises(ValueError, match="ref_log_probs"):
    rewards.kl_in_reward(0.1).apply(group, batch, ())
  with pytest.raises(ValueError, match="process"):
    rewards.on_process(stats.whiten).apply(group, batch, ())
  with pytest.raises(ValueError, match="field"):
    rewards.with_running_stats(rewards.meanstd_reward, field="return")
  with pytest.raises(ValueError, match="chain of 1 reward transforms got the state of 2"):
    rewards.chain(rewards.identity()).apply(group, batch, ((), ()))
  with pytest.raises(AssertionError):  # a forgotten vmap
    rewards.on_outcome(stats.centred).apply(Rewards(jnp.zeros((_P, _G))), None, ())
  with pytest.raises(AssertionError):  # a statistic in place of a map
    rewards.on_outcome(stats.masked_mean).apply(group, None, ())
