"""Contract rows of `rlcore.rewards`; a lifter is tested through a transform that it makes."""

import jax
import jax.numpy as jnp
import numpy as np

from rlcore import rewards, stats
from rlcore.types import Rewards, Rollouts
from tests.contract import Row

_G, _T = 8, 6


def _group(rng):
  """Outcomes, token rewards, log-probabilities, those of the reference, and the mask."""
  mask = (rng.random((_G, _T)) < 0.7).astype(np.float32)
  return *(rng.normal(size=s).astype(np.float32) for s in [(_G,), (_G, _T), (_G, _T), (_G, _T)]), mask


def _applied(make):
  """Applies `make(axis_name)` to a group of arrays and returns the outcome, the token rewards and the new state."""
  def fn(outcome, process, log_probs, ref_log_probs, mask, axis_name=None):
    transform, example = make(axis_name), Rewards(outcome, process)
    batch = Rollouts(mask, mask, log_probs, mask[0], mask[0], ref_log_probs=ref_log_probs)
    result, state = transform.apply(example, batch, transform.init(jax.random.key(0), example))
    return jnp.asarray(result.outcome), stats.masked(result.process, mask), state
  return fn


def _lifted(name, make, touched=(0,), moments=0, split=(), **kwargs):
  """`touched`: the arrays that the transform maps (the others pass as they are); `moments`: how many it keeps."""
  if moments:
    split = (0, 1, 2, 3, 4)
  return Row(
      name, _applied(make), _group, stopped=touched, masked={4: (1, 2, 3)}, group=(0, 1, 2, 3, 4),
      low_precision=touched, split=split, split_out=("split",) * 2 + ("same",) * 5 * moments,
      order="" if moments else "equivariant", **kwargs)


def _mean_std(axis_name):
  return rewards.with_running_stats(rewards.meanstd_reward, axis_name=axis_name)


def _token_range(axis_name):
  return rewards.with_running_stats(rewards.minmax_reward, field="process", axis_name=axis_name)


def _long_chain(axis_name):
  return rewards.chain(
      rewards.on_outcome(rewards.clip_to_bounds, low=-1.0, high=1.0), _mean_std(axis_name),
      rewards.with_lengths(rewards.overlong_reward, max_length=5, cache_length=3), rewards.kl_in_reward(0.1))


def _half_normalised(axis_name):
  charged = rewards.chain(_mean_std(axis_name), rewards.kl_in_reward(1.0))
  return rewards.mixture([rewards.identity(), charged], jnp.array([1.0, 0.5]))


def _long_ones_charged(axis_name):
  charged = rewards.chain(_mean_std(axis_name), rewards.kl_in_reward(1.0))
  doubled = rewards.mixture([rewards.identity()], [2.0])
  return rewards.only_where(lambda _, batch: jnp.sum(jnp.asarray(batch.mask), -1) > 4, charged, doubled)


def _doubled(group, batch):
  del batch
  return group.replace(outcome=jax.lax.stop_gradient(2 * jnp.asarray(group.outcome, jnp.float32)))


def _scalars(*numbers):
  return tuple(np.float32(x) for x in numbers)


def _record(fn):
  return lambda reward, *m: fn(reward, dict(count=m[0], mean=m[1], m2=m[2], min=m[3], max=m[4]))


def _reward_and_lengths(rng):
  return rng.integers(0, 2, _G).astype(np.float32), rng.integers(1, 500, _G).astype(np.float32)


def _reward_and_moments(rng):
  return rng.normal(size=_G).astype(np.float32), *_scalars(5, 0.2, 6, -2, 1.5)


def _tokens(rng):
  _, *arrays = _group(rng)
  return tuple(x[0] for x in arrays)


def _many(rng):
  return rng.normal(size=(3, _G)).astype(np.float32), rng.normal(size=3).astype(np.float32)


_RUNNING = dict(example=_reward_and_moments, stopped=(0,), low_precision=(0,))
_LENGTH = dict(example=_reward_and_lengths, stopped=(0, 1), low_precision=(0,), group=(0, 1), order="equivariant")
_START = _scalars(0, 0, 0, np.inf, -np.inf)
_CONSTANT = _scalars(7, 0.7, 1e-13, 0.7, 0.7)
_SEEN = _scalars(3, 7 / 3, 14 / 3, 1, 4)
_LENGTHS = np.array([4, 5, 6, 8, 9, 10, 0, 1], np.float32)
_NAN = np.float32(np.nan)

ROWS = [
    Row("clip_to_bounds", rewards.clip_to_bounds, lambda rng: (rng.normal(size=_G).astype(np.float32),),
        kwargs=dict(high=0.5), stopped=(0,), low_precision=(0,),
        degenerate=(((np.array([-9, 0.4, 3]),), ([-9, 0.4, 0.5],)),)),
    Row("standardized_reward", rewards.standardized_reward, lambda rng: _scalars(1.5, 0.3, 2),
        kwargs=dict(scale=0.3, bias=1), stopped=(0, 1, 2), low_precision=(0,),
        degenerate=((_scalars(1.5, 0.3, 2), (1.18,)),)),
    Row("meanstd_reward", _record(rewards.meanstd_reward),
        degenerate=(((3.9, *_SEEN), (1.256128,)), ((3.9, *_START), (3.9,)), ((0.7, *_CONSTANT), (0,)),
                    ((3.0, *_scalars(1, 2, 0, 2, 2)), (1.0,))), **_RUNNING),
    Row("clip_reward", _record(rewards.clip_reward),
        degenerate=(((3.9, *_SEEN), (3.580552,)), ((2.0, *_SEEN), (2.0,)), ((0.9, *_CONSTANT), (0.7,))), **_RUNNING),
    Row("minmax_reward", _record(rewards.minmax_reward),
        degenerate=(((3.9, *_SEEN), (0.966667,)), ((3.9, *_START), (0.0,)), ((0.7, *_CONSTANT), (0.0,))), **_RUNNING),
    Row("length_penalized_reward", rewards.length_penalized_reward,
        degenerate=(((np.ones(_G), 100 * _LENGTHS), ([0, -1, -2, -4, -5, -6, 1, 1],)),), **_LENGTH),
    Row("relative_length_reward", rewards.relative_length_reward,
        degenerate=(((np.arange(_G) % 2, _LENGTHS), ([0, 1, -0.1, 0.7, -0.4, 0.5, 0, 1.4],)),
                    ((np.ones(_G), np.full(_G, 7)), ([1] * _G,)), ((np.ones(1), np.ones(1)), ([1],))), **_LENGTH),
    Row("overlong_reward", rewards.overlong_reward, kwargs=dict(max_length=8, cache_length=4),
        degenerate=(((np.zeros(_G), _LENGTHS), ([0, -0.25, -0.5, -1, -1, -1, 0, 0],)),), **_LENGTH),
    Row("kl_penalized_rewards", rewards.kl_penalized_rewards, _tokens, kwargs=dict(kl_coef=0.3), stopped=(0, 1, 2),
        masked={3: (0, 1, 2)}, group=(0, 1, 2, 3), order="equivariant", low_precision=(0, 1, 2)),
    Row("weighted_sum", rewards.weighted_sum, _many, stopped=(0, 1), low_precision=(0,), group=(0, 1),
        order="invariant", degenerate=(((np.array([1, 3]), np.ones(2)), (4,)),)),
    Row("weighted_sum[each]", rewards.weighted_sum, _many, kwargs=dict(each=stats.whiten), stopped=(0, 1), group=(0, 1),
        order="invariant", degenerate=(((np.full((3, _G), 0.7), np.ones(3)), ([0] * _G,)),)),
    Row("gated_reward", rewards.gated_reward, lambda rng: _reward_and_lengths(rng)[::-1], stopped=(0,),
        masked={1: (0,)}, group=(0, 1), order="equivariant", low_precision=(0,)),
    Row("lexicographic_reward", rewards.lexicographic_reward, lambda rng: (rng.random(4), np.array([0.1, 0.2, 0.5, 0])),
        stopped=(0,), low_precision=(0,),
        degenerate=(((np.array([1, 0.5, _NAN, _NAN]), np.array([1, 1, 0.5, 0])), (1.5,)),
                    ((np.array([1, 1, 0.5, 0.25]), np.array([1, 1, 0.5, 0])), (2.75,)),
                    ((np.array([0, _NAN]), np.array([1, 0]), np.array([2, 3])), (0,)))),
    _lifted("stateless", lambda _: rewards.stateless(_doubled)),
    _lifted("identity", lambda _: rewards.identity(), touched=()),
    _lifted("on_outcome", lambda axis_name: rewards.on_outcome(stats.whiten, axis_name=axis_name),
            split=(0, 1, 2, 3, 4)),
    _lifted("on_process", lambda axis_name: rewards.on_process(stats.whiten, axis_name=axis_name), touched=(1,),
            split=(0, 1, 2, 3, 4)),
    _lifted("with_lengths", lambda _: rewards.with_lengths(rewards.relative_length_reward)),
    _lifted("kl_in_reward", lambda _: rewards.kl_in_reward(0.3), touched=(1, 2, 3)),
    _lifted("with_running_stats[process]", _token_range, touched=(1,), moments=1),
    _lifted("chain", _long_chain, touched=(0, 1, 2, 3), moments=1),
    _lifted("mixture", _half_normalised, touched=(0, 1, 2, 3), moments=1),
    _lifted("only_where", _long_ones_charged, touched=(0, 1, 2, 3), moments=1),
]
