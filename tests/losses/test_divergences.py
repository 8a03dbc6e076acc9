"""KL estimates and exact divergences against float64 loops."""

from hypothesis import given, settings, strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore import losses
from tests.tolerance import close

SHAPE = (3, 4)
VALUE = {"k1": lambda d: d, "k2": lambda d: d * d / 2, "k3": lambda d: np.exp(-d) - 1 + d}
SLOPE = {"k1": lambda d: 1.0, "k2": lambda d: d, "k3": lambda d: 1 - np.exp(-d)}  # derivative in the log-probability
ESTIMATORS = {"k1": ("k1", "k1"), "k2": ("k2", "k2"), "k3": ("k3", "k3"), "k1+": ("k1", "k2"), "k3+": ("k3", "k2")}
JITTED = {name: jax.jit(jax.value_and_grad(
    lambda x, ref, mask, name=name: (lambda kl: (kl.sum(), kl))(losses.kl_estimate(x, ref, mask, estimator=name)),
    has_aux=True)) for name in ESTIMATORS}


EXACT = jax.jit(lambda p, q, mask: (losses.kl_exact(p, q, mask), losses.entropy(p, mask)))


@pytest.mark.parametrize("name", ESTIMATORS)
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), scale=st.sampled_from([1e-3, 0.3, 3.0]))
def test_estimates_equal_the_loop(name, seed, scale):
  rng = np.random.default_rng(seed)
  log_probs = -rng.exponential(size=SHAPE).astype(np.float32)
  ref = (log_probs + scale * rng.normal(size=SHAPE)).astype(np.float32)
  mask = rng.random(SHAPE) < 0.7
  (_, got), grad = JITTED[name](log_probs, ref, mask)
  value, slope = ESTIMATORS[name]
  for n in range(SHAPE[0]):
    for t in range(SHAPE[1]):
      d = np.float64(log_probs[n, t]) - np.float64(ref[n, t])
      want = (VALUE[value](d), SLOPE[slope](d)) if mask[n, t] else (0.0, 0.0)
      np.testing.assert_allclose((got[n, t], grad[n, t]), want, rtol=1e-4, atol=3e-7)
  if name == "k3":
    assert np.all(got >= 0)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_estimates_survive_any_log_ratio(name):
  log_probs, ref = jnp.asarray([0.0, -1e4, -80.0, -30.0]), jnp.asarray([-1e4, 0.0, -1.0, -9.0])
  (_, kl), grad = JITTED[name](log_probs, ref, jnp.ones(4))
  assert np.isfinite(kl).all() and np.isfinite(grad).all()


def _softmax(logits):
  p = np.exp(np.asarray(logits, np.float64) - np.max(logits))
  return p / p.sum()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_exact_divergence_and_entropy_equal_the_loop(seed):
  rng = np.random.default_rng(seed)
  p_logits, q_logits = (3 * rng.normal(size=(3, 5))).astype(np.float32), rng.normal(size=(3, 5)).astype(np.float32)
  p_logits[0, 2] = -np.inf  # p never draws it: no term
  p_logits[1, 0] = q_logits[1, 0] = -np.inf
  mask = np.array([1, 1, rng.random() < 0.5])
  kl, entropy = EXACT(p_logits, q_logits, mask)
  for n in range(3):
    p, q = _softmax(p_logits[n]), _softmax(q_logits[n])
    want_kl = sum(p[v] * np.log(p[v] / q[v]) for v in range(5) if p[v] > 0)
    want_entropy = -sum(p[v] * np.log(p[v]) for v in range(5) if p[v] > 0)
    np.testing.assert_allclose(kl[n], want_kl * mask[n], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(entropy[n], want_entropy * mask[n], rtol=1e-4, atol=1e-6)


def test_gradients_of_exact_divergence_and_entropy():
  """d KL / d p-logits = p (log p/q - KL), d KL / d q-logits = q - p, d H / d logits = -p (log p + H)."""
  p_logits, q_logits = jnp.asarray([0.3, -1.0, 2.0, -jnp.inf]), jnp.asarray([1.0, 0.0, -0.5, 0.2])
  p, q = _softmax(p_logits), _softmax(q_logits)
  log_p, log_q = np.log(np.where(p > 0, p, 1)), np.log(q)
  kl, entropy = np.sum(p * (log_p - log_q) * (p > 0)), -np.sum(p * log_p)
  grads = jax.jit(jax.grad(losses.kl_exact, (0, 1)))(p_logits, q_logits)
  np.testing.assert_allclose(grads[0], p * (log_p - log_q - kl), atol=1e-6)
  np.testing.assert_allclose(grads[1], q - p, atol=1e-6)
  np.testing.assert_allclose(jax.jit(jax.grad(losses.entropy))(p_logits), -p * (log_p + entropy), atol=1e-6)


def test_divergence_is_infinite_where_the_reference_forbids_what_the_policy_does():
  assert losses.kl_exact(jnp.zeros(2), jnp.asarray([0.0, -jnp.inf])) == jnp.inf


def test_estimates_average_to_the_exact_divergence():
  """k1 and k3 are unbiased, k2 is not: by enumeration."""
  p_logits, q_logits = jnp.asarray([0.3, -1.0, 2.0]), jnp.asarray([1.0, 0.0, -0.5])
  log_p, log_q = jax.nn.log_softmax(p_logits), jax.nn.log_softmax(q_logits)
  mean = {name: np.sum(np.exp(log_p) * JITTED[name](log_p, log_q, jnp.ones(3))[0][1]) for name in ESTIMATORS}
  exact = losses.kl_exact(p_logits, q_logits)
  for name in ("k1", "k3", "k1+", "k3+"):
    close(mean[name], exact, rtol=1e-6)
  assert abs(mean["k2"] - exact) > 0.1


def test_an_unknown_estimator_is_named():
  with pytest.raises(ValueError, match="estimator='k4' is none of"):
    losses.kl_estimate(jnp.zeros(2), jnp.zeros(2), estimator="k4")


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3", "k1+", "k3+"])
def test_no_difference_is_too_large(estimator):
  new = jnp.array([1e20, -1e20, -jnp.inf, -1.0, -jnp.inf, -3.0])
  old = jnp.array([-1e20, 1e20, -1.0, -jnp.inf, -jnp.inf, -1.0])
  value, slope = (lambda x: losses.kl_estimate(x, old, estimator=estimator))(new), jax.grad(
      lambda x: jnp.sum(losses.kl_estimate(x, old, estimator=estimator)))(new)
  assert np.isfinite(value).all() and np.isfinite(slope).all()
  want = {"k1": 1.0, "k3": 1 - np.exp(2.0)}.get(estimator, -2.0)  # of d = -2
  np.testing.assert_allclose(slope[-1], want, rtol=1e-6)
  np.testing.assert_allclose(value[-1], {"k1": -2, "k2": 2, "k3": np.exp(2) - 3}[estimator[:2]], rtol=1e-6)
