"""Contract rows of `rlcore.losses`."""

import numpy as np

from rlcore import losses
from rlcore.types import Rollouts
from tests.contract import Row

N, T, V = 8, 5, 4


def _f32(x):
  return np.asarray(x, np.float32)


def _mask(rng):
  mask = (rng.random((N, T)) < 0.7).astype(np.float32)
  mask[0] = 0  # one sequence without tokens
  mask[1] = 1
  return mask


def _policy(rng):
  """Log-probabilities, old ones (ratios inside and outside every clip), advantages of both signs and 0, mask."""
  log_probs = -rng.exponential(size=(N, T))
  old = log_probs + rng.normal(size=(N, T)) * 0.7
  advantages = rng.normal(size=(N, T)) * (rng.random((N, T)) < 0.9)
  return _f32(log_probs), _f32(old), _f32(advantages), _mask(rng)


def _weighted(rng):
  return *_policy(rng), _f32(rng.random((N, T)))


def _referenced(rng):
  log_probs, old, advantages, mask = _policy(rng)
  return log_probs, old, _f32(log_probs + rng.normal(size=(N, T))), advantages, mask


def _values(rng):
  values = rng.normal(size=(N, T))
  return _f32(values), _f32(rng.normal(size=(N, T))), _mask(rng), _f32(values + rng.normal(size=(N, T)) * 0.3)


def _logits(rng):
  return _f32(rng.normal(size=(N, T, V))), _f32(rng.normal(size=(N, T, V))), _mask(rng)


def _with_weights(fn):
  return lambda log_probs, old, advantages, mask, weights, **settings: fn(
      log_probs, old, advantages, mask, weights=weights, **settings)


def _with_batch(fn):
  def flat(log_probs, old, ref, advantages, mask, **settings):
    batch = Rollouts(tokens=None, mask=mask, log_probs=old, prompt=None, prompt_mask=None, ref_log_probs=ref)
    return fn(log_probs, batch, advantages, **settings)
  return flat


def _empty(*arrays):
  """Arrays of junk under an empty mask, in the order of the example; None marks the place of the mask."""
  return tuple(np.zeros((2, 3), np.float32) if x is None else np.full((2, 3), x, np.float32) for x in arrays)


_FULL = np.ones((1, 4), np.float32)
_HUGE = (_f32([[0, -1000, -np.inf, 0]]), _f32([[-1000, 0, -1, -np.inf]]), _f32([[-1, 1, 1, -1]]), _FULL)
_finite = lambda out: True  # the table itself checks that every output is finite


def _zero(count):
  return (0.0,) * count


_POLICY = dict(example=_policy, grads=(0,), stopped=(1, 2), masked={3: (0, 1, 2)}, group=(0, 1, 2, 3),
               order="invariant", low_precision=(0, 1, 2), split=(0, 1, 2, 3))
_CLIP = _POLICY | dict(
    split_out=("same",) * 7, degenerate=((_empty(np.nan, np.nan, np.nan, None), _zero(7)), (_HUGE, _finite)))
_CISPO = _POLICY | dict(
    split_out=("same",) * 6, degenerate=((_empty(np.nan, np.nan, np.nan, None), _zero(6)),))
_BATCH = dict(example=_referenced, grads=(0,), stopped=(1, 2, 3), masked={4: (0, 1, 2, 3)}, group=(0, 1, 2, 3, 4),
              order="invariant", low_precision=(0, 1, 2, 3), split=(0, 1, 2, 3, 4))
_RATIO = dict(example=lambda rng: _policy(rng)[:2] + (_mask(rng),), masked={2: (0, 1)}, group=(0, 1, 2),
              order="equivariant", low_precision=(0, 1))
_AGGREGATE = dict(example=lambda rng: (_f32(rng.normal(size=(N, T))), _mask(rng)), grads=(0,), masked={1: (0,)},
                  group=(0, 1), order="invariant", low_precision=(0,), split=(0, 1), split_out=("same",),
                  degenerate=((_empty(np.nan, None), (0.0,)),))
_WEIGHT = dict(example=lambda rng: (_mask(rng),), group=(0,), order="invariant", split=(0,), split_out=("same",))
_KL = dict(example=_RATIO["example"], grads=(0,), stopped=(1,), masked={2: (0, 1)}, group=(0, 1, 2),
           order="equivariant", low_precision=(0, 1))
_VALUE = dict(example=lambda rng: _values(rng)[:3], grads=(0,), stopped=(1,), masked={2: (0, 1)}, group=(0, 1, 2),
              order="invariant", low_precision=(0, 1), split=(0, 1, 2), split_out=("same",) * 3,
              degenerate=((_empty(np.nan, np.nan, None), _zero(3)),))
_CLIPPED_VALUE = _VALUE | dict(
    example=_values, stopped=(1, 3), masked={2: (0, 1, 3)}, group=(0, 1, 2, 3), low_precision=(0, 1, 3),
    split=(0, 1, 2, 3), degenerate=((_empty(np.nan, np.nan, None, np.nan), _zero(3)),))
_ONE_HOT = _f32([[0, -np.inf, -np.inf]])

ROWS = [
    Row("aggregate", losses.aggregate, **_AGGREGATE),
    Row("aggregate[sequence]", losses.aggregate, kwargs=dict(mode="sequence"), **_AGGREGATE),
    Row("aggregate[constant]", losses.aggregate, kwargs=dict(mode="constant", length=7.0, count_empty=False),
        **_AGGREGATE),
    Row("aggregation_weight", losses.aggregation_weight, degenerate=((_empty(None), (0.0,)),), **_WEIGHT),
    Row("aggregation_weight[sequence]", losses.aggregation_weight, kwargs=dict(mode="sequence"),
        degenerate=((_empty(None), (2.0,)),), **_WEIGHT),
    Row("cispo_loss", losses.cispo_loss, **_CISPO),
    Row("cispo_policy_loss", _with_batch(losses.cispo_policy_loss), kwargs=dict(kl_coef=0.1), split_out=("same",) * 8,
        **_BATCH),
    Row("clip_loss", losses.clip_loss, **_CLIP),
    Row("clip_loss[dual]", losses.clip_loss, **_CLIP,
        kwargs=dict(dual_clip=3.0, clip_high=None, aggregation="constant", length=9)),
    Row("clip_loss[sequence]", losses.clip_loss, kwargs=dict(ratio="sequence", aggregation="sequence"), **_CLIP),
    Row("clip_loss[weighted]", _with_weights(losses.clip_loss),
        **_CLIP | dict(example=_weighted, stopped=(1, 2, 4), masked={3: (0, 1, 2, 4)}, group=(0, 1, 2, 3, 4),
                       split=(0, 1, 2, 3, 4), degenerate=())),
    Row("clip_policy_loss", _with_batch(losses.clip_policy_loss), split_out=("same",) * 9,
        kwargs=dict(kl_coef=0.1, kl="k1", kl_weighted=True, aggregation="sequence"), **_BATCH),
    Row("clipped_surrogate", losses.clipped_surrogate,
        lambda rng: (_f32(np.exp(rng.normal(size=(N, T)))), _f32(rng.normal(size=(N, T)))), grads=(0,), stopped=(1,),
        group=(0, 1), order="equivariant", low_precision=(0, 1), degenerate=(
            ((_f32([[2, 2, 2]]), _f32([[0, 1, -1]])), (_f32([[0, 1.28, -2]]),)),)),
    Row("entropy", losses.entropy, lambda rng: _logits(rng)[1:], grads=(0,), masked={1: (0,)}, group=(0, 1),
        order="equivariant", low_precision=(0,), degenerate=(((_ONE_HOT,), (0.0,)), ((_f32([[5, 5, -np.inf]]),), (
            np.log(2),)))),
    Row("importance_ratio", losses.importance_ratio, grads=(0,), stopped=(1,), **_RATIO),
    Row("importance_ratio[sequence]", losses.importance_ratio, kwargs=dict(ratio="sequence"), grads=(0,), stopped=(1,),
        degenerate=((_empty(np.nan, np.nan, None), (np.ones((2, 3)),)), (_HUGE[:2] + (_FULL,), _finite)), **_RATIO),
    Row("kl_estimate", losses.kl_estimate, degenerate=((_HUGE[:2] + (_FULL,), _finite),), **_KL),
    Row("kl_estimate[k3+]", losses.kl_estimate, kwargs=dict(estimator="k3+"), **_KL),
    Row("kl_exact", losses.kl_exact, _logits, grads=(0, 1), masked={2: (0, 1)}, group=(0, 1, 2), order="equivariant",
        low_precision=(0, 1), degenerate=(
            ((_ONE_HOT, _f32([[0, 0, -np.inf]])), (np.log(2),)), ((_ONE_HOT, _ONE_HOT), (0.0,)))),
    Row("reinforce_loss", losses.reinforce_loss, lambda rng: _policy(rng)[::2] + (_mask(rng),), grads=(0,),
        stopped=(1,), masked={2: (0, 1)}, group=(0, 1, 2), order="invariant", low_precision=(0, 1), split=(0, 1, 2),
        split_out=("same",) * 2, degenerate=((_empty(np.nan, np.nan, None), _zero(2)),)),
    Row("reinforce_policy_loss", _with_batch(losses.reinforce_policy_loss), kwargs=dict(kl_coef=0.1, kl="k2"),
        split_out=("same",) * 4, **_BATCH),
    Row("truncated_importance_weights", losses.truncated_importance_weights, stopped=(0, 1), **_RATIO),
    Row("truncated_importance_weights[drop]", losses.truncated_importance_weights, stopped=(0, 1),
        kwargs=dict(outside="drop", floor=0.5, ratio="product"), **_RATIO),
    Row("value_loss", losses.value_loss, **_VALUE),
    Row("value_loss[clipped]", losses.value_loss, kwargs=dict(huber_delta=0.5, aggregation="sequence"),
        **_CLIPPED_VALUE),
]
