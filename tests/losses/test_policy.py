"""The clip family against a float64 loop with its gradient derived by hand, and its special cases."""

import functools
import math

from hypothesis import given, settings, strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore import losses
from rlcore.types import Rollouts
from tests.tolerance import close

SHAPE = (3, 4)
FULL = jnp.ones(SHAPE)


def draw(seed, spread=0.5):
  """Log-probabilities, old ones, advantages of both signs and 0, weights, mask with holes and an empty row at times."""
  rng = np.random.default_rng(seed)
  log_probs = -rng.exponential(size=SHAPE)
  old = log_probs + spread * rng.normal(size=SHAPE)
  advantages = rng.normal(size=SHAPE) * (rng.random(SHAPE) < 0.8)
  mask = (rng.random(SHAPE) < 0.7) & (rng.random((SHAPE[0], 1)) < 0.8)
  return tuple(x.astype(np.float32) for x in (log_probs, old, advantages, mask, rng.random(SHAPE)))


def token_shares(mask, aggregation, length):
  """Weight of each token in the aggregate, `[N, T]`."""
  counts = mask.sum(1, keepdims=True)
  if aggregation == "token":
    return mask / max(mask.sum(), 1)
  if aggregation == "sequence":
    return mask / np.maximum(counts, 1) / len(mask)
  return mask / (len(mask) * length)


def ratios(log_probs, old, mask, ratio, limits):
  """Importance ratio of each token and whether its gradient lives."""
  out, alive = np.ones(SHAPE), np.zeros(SHAPE, bool)
  for n, t in np.ndindex(*SHAPE):
    if mask[n, t]:
      differences = [log_probs[n, s] - old[n, s] for s in range(SHAPE[1]) if mask[n, s]]
      log_ratio = log_probs[n, t] - old[n, t]
      if ratio != "token":
        log_ratio = sum(differences) / (len(differences) if ratio == "sequence" else 1)
      out[n, t] = math.exp(min(max(log_ratio, limits[0]), limits[1]))
      alive[n, t] = limits[0] < log_ratio < limits[1]
  return out, alive


def clip_oracle(log_probs, old, advantages, mask, weights, *, clip_low=0.2, clip_high=0.28, dual_clip=None,
                ratio="token", log_ratio_limits=(-20.0, 20.0), aggregation="token", length=None):
  """Loss, gradient and clip fractions, in float64."""
  r, alive = ratios(log_probs, old, mask, ratio, log_ratio_limits)
  share = token_shares(mask, aggregation, length) * weights
  high = 1 + (clip_low if clip_high is None else clip_high)
  loss, grad, fractions = 0.0, np.zeros(SHAPE), {"high": 0, "low": 0, "dual": 0}
  for n, t in np.ndindex(*SHAPE):
    if not mask[n, t]:
      continue
    a = advantages[n, t]
    objective = min(r[n, t] * a, min(max(r[n, t], 1 - clip_low), high) * a)
    which = "high" if a > 0 and r[n, t] > high else "low" if a < 0 and r[n, t] < 1 - clip_low else None
    if dual_clip is not None and a < 0 and r[n, t] > dual_clip:
      objective, which = max(objective, dual_clip * a), "dual"
    loss -= share[n, t] * objective
    if which:
      fractions[which] += 1 / mask.sum()
    elif alive[n, t]:
      grad[n, t] = -share[n, t] * a * r[n, t]
  return loss, grad, fractions


CLIP_CASES = (
    dict(),
    dict(clip_high=None, aggregation="sequence"),
    dict(clip_low=0.1, clip_high=0.3, dual_clip=1.5, aggregation="constant", length=9.0),
    dict(ratio="sequence", aggregation="sequence", clip_low=0.05, clip_high=0.05),
    dict(ratio="product"),
    dict(log_ratio_limits=(-0.3, 0.4), clip_low=0.9, clip_high=5.0),
)


@functools.cache
def jitted(loss, case, weighted):
  def fn(log_probs, old, advantages, mask, weights):
    return loss(log_probs, old, advantages, mask, weights=weights if weighted else None, **dict(case))
  return jax.jit(jax.value_and_grad(fn, has_aux=True))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("case", CLIP_CASES, ids=str)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_clip_loss_equals_the_loop(case, weighted, seed):
  arrays = draw(seed)
  (loss, metrics), grad = jitted(losses.clip_loss, tuple(case.items()), weighted)(*arrays)
  arrays = [np.asarray(x, np.float64) for x in arrays]
  if not weighted:
    arrays[4] = np.ones(SHAPE)
  want, want_grad, fractions = clip_oracle(*arrays, **case)
  np.testing.assert_allclose(loss, want, rtol=2e-5, atol=1e-6)
  np.testing.assert_allclose(grad, want_grad, rtol=2e-5, atol=1e-6)
  for name, value in fractions.items():
    np.testing.assert_allclose(metrics[f"clip_fraction_{name}"], value, atol=1e-6)
  mask = arrays[3] > 0
  r, _ = ratios(*arrays[:2], mask, case.get("ratio", "token"), case.get("log_ratio_limits", (-20, 20)))
  drift = [np.exp(d) - 1 - d for d in (arrays[0] - arrays[1])[mask]]
  close(metrics["ratio_mean"], r[mask].mean() if mask.any() else 0)  # of positive numbers: nothing cancels
  close(metrics["ratio_max"], r[mask].max() if mask.any() else 0)
  np.testing.assert_allclose(metrics["approx_kl"], np.mean(drift) if mask.any() else 0, rtol=1e-4, atol=1e-6)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_oracle_s_own_gradient_is_that_of_its_loss(seed):
  """Finite differences of the token-ratio loss, so that the hand-derived gradient above is itself checked."""
  log_probs, old, advantages, mask, weights = (np.asarray(x, np.float64) for x in draw(seed))
  settings_ = dict(dual_clip=1.5)
  _, grad, _ = clip_oracle(log_probs, old, advantages, mask, weights, **settings_)
  for n, t in np.ndindex(*SHAPE):
    step = np.zeros(SHAPE)
    step[n, t] = 1e-6
    up, down = (clip_oracle(log_probs + s * step, old, advantages, mask, weights, **settings_)[0] for s in (1, -1))
    np.testing.assert_allclose((up - down) / 2e-6, grad[n, t], atol=1e-6)


@pytest.mark.parametrize("case", [dict(), dict(clip_low=0.2, clip_high=0.3, ratio="sequence", aggregation="sequence")],
                         ids=str)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_cispo_and_reinforce_equal_the_loop(case, seed):
  arrays = draw(seed, spread=1.5)
  (loss, metrics), grad = jitted(losses.cispo_loss, tuple(case.items()), True)(*arrays)
  log_probs, old, advantages, mask, weights = (np.asarray(x, np.float64) for x in arrays)
  r, _ = ratios(log_probs, old, mask > 0, case.get("ratio", "token"), (-20, 20))
  low, high = 1 - case.get("clip_low", 1.0), 1 + case.get("clip_high", 4.0)
  share = token_shares(mask, case.get("aggregation", "token"), None) * weights
  want_grad = -share * np.clip(r, low, high) * advantages
  np.testing.assert_allclose(loss, np.sum(want_grad * log_probs), rtol=2e-5, atol=1e-6)
  np.testing.assert_allclose(grad, want_grad, rtol=2e-5, atol=1e-6)
  above = np.mean((r > high)[mask > 0]) if mask.any() else 0
  np.testing.assert_allclose(metrics["clip_fraction_high"], above, atol=1e-6)
  fn = lambda x, old, *rest, weights: losses.reinforce_loss(x, *rest, weights=weights)
  (loss, metrics), grad = jitted(fn, (), True)(*arrays)
  share = token_shares(mask, "token", None) * weights
  np.testing.assert_allclose(loss, -np.sum(share * advantages * log_probs), rtol=2e-5, atol=1e-6)
  np.testing.assert_allclose(grad, -share * advantages, rtol=2e-5, atol=1e-6)
  close(metrics["log_prob_mean"], log_probs[mask > 0].mean() if mask.any() else 0, log_probs)


@pytest.mark.parametrize("ratio", ["token", "sequence", "product"])
@pytest.mark.parametrize("outside", ["truncate", "drop"])
def test_truncated_weights_equal_the_loop(ratio, outside):
  for seed in range(5):
    log_probs, behaviour, _, mask, _ = draw(seed, spread=1.0)
    got = losses.truncated_importance_weights(log_probs, behaviour, mask, ratio=ratio, outside=outside, floor=0.5)
    r, _ = ratios(*(np.asarray(x, np.float64) for x in (log_probs, behaviour)), mask > 0, ratio, (-20, 20))
    want = np.clip(r, 0.5, 2.0) if outside == "truncate" else r * ((r >= 0.5) & (r <= 2.0))
    close(got, want * (mask > 0), rtol=1e-5)


@pytest.mark.parametrize("loss", [losses.clip_loss, losses.cispo_loss])
def test_on_policy_every_member_has_the_policy_gradient(loss):
  log_probs, _, advantages, mask, _ = draw(0)

  @jax.jit
  def grads(x):
    members = [jax.grad(lambda y, r=r: loss(y, x, advantages, mask, ratio=r)[0])(x)
               for r in ("token", "sequence", "product")]
    return members, jax.grad(lambda y: losses.reinforce_loss(y, advantages, mask)[0])(x)

  members, want = grads(log_probs)
  for grad in members:
    close(grad, want, rtol=1e-6)


def test_the_sequence_ratio_has_the_true_gradient_where_advantages_are_constant():
  """GSPO written down plainly, one ratio a sequence, against the stop-gradient form."""
  log_probs, old, _, mask, _ = draw(3, spread=0.1)
  mask[:, 0] = 1
  advantage = jnp.asarray([1.0, -2.0, 0.5])

  def plain(x):
    ratio = jnp.exp(jnp.sum((x - old) * mask, 1) / mask.sum(1))
    return -jnp.mean(jnp.minimum(ratio * advantage, jnp.clip(ratio, 0.95, 1.03) * advantage))

  def ours(x):
    advantages = jnp.broadcast_to(advantage[:, None], SHAPE)
    return losses.clip_loss(x, old, advantages, mask, clip_low=0.05, clip_high=0.03, ratio="sequence",
                            aggregation="sequence")[0]

  got, want = jax.jit(lambda x: (jax.value_and_grad(ours)(x), jax.value_and_grad(plain)(x)))(log_probs)
  close(got[0], want[0], rtol=1e-5)
  np.testing.assert_allclose(got[1], want[1], rtol=1e-4, atol=1e-7)
  assert np.any(want[1])


def test_a_ratio_on_the_bound_is_not_clipped_and_keeps_its_whole_gradient():
  ratio = jnp.asarray([1.5, 1.5, 0.5, 0.5, 3.0])
  advantages = jnp.asarray([1.0, -1.0, 1.0, -1.0, -1.0])
  grad = jax.grad(lambda r: losses.clipped_surrogate(r, advantages, clip_low=0.5, clip_high=0.5, dual_clip=3.0).sum())
  np.testing.assert_array_equal(grad(ratio), advantages)


@pytest.mark.parametrize("ratio", ["token", "sequence", "product"])
@pytest.mark.parametrize("loss", [losses.clip_loss, losses.cispo_loss])
def test_huge_log_ratios_stay_finite(loss, ratio):
  log_probs = jnp.asarray([[-1e4, 0.0, -1.0, -200.0]])
  old = jnp.asarray([[0.0, -1e4, -300.0, -jnp.inf]])
  fn = jax.jit(jax.value_and_grad(
      lambda x, sign: loss(x, old, jnp.full((1, 4), sign), jnp.ones((1, 4)), ratio=ratio), has_aux=True))
  for sign in (1.0, -1.0, 0.0):
    (value, metrics), grad = fn(log_probs, sign)
    assert np.isfinite([value, *metrics.values()]).all() and np.isfinite(grad).all()


@pytest.mark.parametrize("ratio, value, grad", [
    ("token", -0.5, [0, -0.5]), ("sequence", 0, [0, 0]), ("product", 0, [0, 0])])
def test_a_probability_of_zero_is_a_ratio_of_zero(ratio, value, grad):
  one = jnp.ones((1, 2))
  fn = jax.jit(jax.value_and_grad(lambda x: losses.clip_loss(x, -one, one, one, ratio=ratio)[0]))
  got = fn(jnp.asarray([[-jnp.inf, -1.0]]))
  np.testing.assert_allclose(got[0], value, atol=1e-6)
  np.testing.assert_allclose(got[1], [grad], atol=1e-6)


def _batch(old, mask, ref=None):
  return Rollouts(tokens=None, mask=mask, log_probs=old, prompt=None, prompt_mask=None, ref_log_probs=ref)


def test_reference_divergence_is_added_with_the_loss_s_own_average():
  log_probs, old, advantages, mask, other = draw(4)
  ref = -other
  how = dict(aggregation="constant", length=7.0)
  share = token_shares(mask, "constant", 7.0)
  d = log_probs - ref
  for fn, base, args in (
      (losses.clip_policy_loss, losses.clip_loss, (old, advantages)),
      (losses.cispo_policy_loss, losses.cispo_loss, (old, advantages)),
      (losses.reinforce_policy_loss, losses.reinforce_loss, (advantages,))):
    @jax.jit
    def both(x):
      penalised = [fn(x, _batch(old, mask, ref), advantages, kl_coef=0.3, kl_weighted=w, **how) for w in (False, True)]
      return base(x, *args, mask, **how)[0], penalised
    plain, penalised = both(log_probs)
    for (loss, metrics), factor in zip(penalised, (1.0, np.exp(log_probs - old))):
      kl = np.sum(share * factor * (np.exp(-d) - 1 + d))
      close((loss, metrics["policy_loss"], metrics["reference_kl"]), (plain + 0.3 * kl, plain, kl), rtol=1e-5)
  grad = jax.jit(jax.grad(lambda x: losses.clip_policy_loss(
      x, _batch(old, mask, ref), 0 * advantages, kl_coef=0.3, kl_weighted=True, **how)[0]))(log_probs)
  np.testing.assert_allclose(grad, 0.3 * share * np.exp(log_probs - old) * d, rtol=1e-4, atol=1e-7)


def test_arms_with_and_without_divergence_are_one_program():
  log_probs, old, advantages, mask, other = draw(4)
  fn = jax.jit(lambda coef: losses.clip_policy_loss(log_probs, _batch(old, mask, -other), advantages, kl_coef=coef)[0])
  close(fn(0.0), losses.clip_policy_loss(log_probs, _batch(old, mask), advantages)[0], rtol=1e-6)
  assert fn(0.5) > fn(0.0) and fn._cache_size() == 1


def test_a_divergence_without_a_reference_is_refused():
  log_probs, old, advantages, mask, _ = draw(4)
  for fn in (losses.clip_policy_loss, losses.cispo_policy_loss, losses.reinforce_policy_loss):
    with pytest.raises(ValueError, match="kl_coef=0.1 needs a reference policy, but the batch has no ref_log_probs"):
      fn(log_probs, _batch(old, mask), advantages, kl_coef=0.1)
    with pytest.raises(ValueError, match="needs a reference policy"):
      jax.jit(lambda coef: fn(log_probs, _batch(old, mask), advantages, kl_coef=coef)[0])(0.1)


def test_no_spread_leaves_only_the_divergence():
  log_probs, old, _, mask, other = draw(6)
  zero, batch = jnp.zeros(SHAPE), _batch(old, mask, -other)
  for fn in (losses.clip_policy_loss, losses.cispo_policy_loss, losses.reinforce_policy_loss):
    grad = jax.jit(jax.grad(lambda x, coef: fn(x, batch, zero, kl_coef=coef, kl="k2")[0]))
    assert not np.any(grad(log_probs, 0.0))
    grad = grad(log_probs, 0.1)
    np.testing.assert_allclose(grad, 0.1 * mask / mask.sum() * (log_probs + other), rtol=1e-5, atol=1e-8)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), junk=st.sampled_from([np.nan, np.inf, -np.inf, 3e38]))
def test_what_stands_in_the_padding_never_matters(seed, junk):
  log_probs, old, advantages, mask, other = draw(seed)
  mask[0] = 1
  jit = jitted_policy()
  clean = jit(log_probs, old, advantages, mask, -other)
  fill = lambda x: np.where(mask > 0, x, np.float32(junk))
  dirty = jit(*map(fill, (log_probs, old, advantages)), mask, fill(-other))
  for x, y in zip(jax.tree.leaves(dirty), jax.tree.leaves(clean)):
    np.testing.assert_array_equal(x, y)


@functools.cache
def jitted_policy():
  def fn(log_probs, old, advantages, mask, ref):
    return losses.clip_policy_loss(log_probs, _batch(old, mask, ref), advantages, kl_coef=0.1, kl_weighted=True,
                                   ratio="sequence", dual_clip=2.0)
  return jax.jit(jax.value_and_grad(fn, has_aux=True))


def test_worked_examples():
  """Two published losses, computed by hand from their equations."""
  # DAPO with k3 (Hi-GRPO, arXiv:2512.10949): three tokens, two of them off the old policy.
  p, q = jnp.log(jnp.asarray([[0.5, 0.25], [0.2, 0.4]])), jnp.log(jnp.asarray([[0.4, 0.25], [0.4, 0.4]]))
  mask, advantages = jnp.asarray([[1, 1], [1, 0]]), jnp.asarray([[1.0, 1.0], [-1.0, -1.0]])
  loss = jax.jit(lambda x: losses.clip_policy_loss(x, _batch(q, mask, q), advantages, kl_coef=0.01)[0])(p)
  np.testing.assert_allclose(loss, -0.482233, atol=1e-6)
  # StableReinforce (arXiv:2505.02835): log-ratio clipped before the exponential, mean of sequence means.
  new, old = jnp.asarray([[-1, -0.2], [-3, -9]]), jnp.asarray([[-1.1, -0.9], [-1.0, -1.0]])
  fn = lambda x: losses.clip_loss(x, old, advantages, jnp.ones((2, 2)), clip_high=None, aggregation="sequence",
                                  log_ratio_limits=(math.log(1e-3), math.log(1e3)))[0]
  loss, grad = jax.jit(jax.value_and_grad(fn))(new)
  np.testing.assert_allclose(loss, -0.176293, atol=1e-6)
  np.testing.assert_allclose(grad, [[-0.276293, 0], [0, 0]], atol=1e-6)


@pytest.mark.parametrize("settings_, message", [
    (dict(ratio="geometric"), "ratio='geometric' is none of"),
    (dict(aggregation="mean"), "mode='mean' is none of"),
    (dict(dual_clip=0.5), "dual_clip=0.5 must be above 1"),
])
def test_unknown_settings_are_named(settings_, message):
  with pytest.raises(ValueError, match=message):
    losses.clip_loss(FULL, FULL, FULL, FULL, **settings_)


def test_unknown_treatment_of_outside_weights_is_named():
  with pytest.raises(ValueError, match="outside='mask' is neither"):
    losses.truncated_importance_weights(FULL, FULL, FULL, outside="mask")


def test_advantages_of_a_whole_response_are_refused():
  with pytest.raises(AssertionError, match="shape"):
    losses.clip_loss(FULL, FULL, jnp.ones(SHAPE[0]), FULL)


@pytest.mark.parametrize("loss", [losses.cispo_loss, lambda new, old, *rest: losses.reinforce_loss(new, *rest)])
def test_a_log_probability_of_minus_infinity_is_finite_and_has_no_gradient(loss):
  new, old = jnp.array([[-jnp.inf, -1.0, -jnp.inf, -2.0]]), jnp.array([[-1.0, -jnp.inf, -jnp.inf, -2.0]])
  for advantage in (1.0, 0.0, -1.0):
    fn = lambda x: loss(x, old, jnp.full((1, 4), advantage), jnp.ones((1, 4)))
    (value, metrics), slope = jax.value_and_grad(fn, has_aux=True)(new)
    assert np.isfinite([value, *metrics.values()]).all() and np.isfinite(slope).all()
    assert slope[0, 0] == slope[0, 2] == 0 and (slope[0, 3] != 0) == (advantage != 0)
