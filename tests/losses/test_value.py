"""Value losses against a float64 loop with finite differences."""

from hypothesis import given, settings, strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore import losses

SHAPE = (3, 4)
CASES = (
    dict(clipped=False),
    dict(clipped=True, clip=0.3),
    dict(clipped=False, huber_delta=0.7),
    dict(clipped=True, clip=0.3, huber_delta=0.7),
)


def loop(values, targets, mask, old, clipped, clip=None, huber_delta=None):
  """Token mean of the penalties in float64, and the share of tokens whose clipped penalty is the larger."""
  def penalty(e):
    if huber_delta is None or abs(e) <= huber_delta:
      return e * e / 2
    return huber_delta * (abs(e) - huber_delta / 2)
  total, active, count = 0.0, 0, 0
  for n in range(values.shape[0]):
    for t in range(values.shape[1]):
      if mask[n, t] > 0:
        far = penalty(values[n, t] - targets[n, t])
        near = penalty(old[n, t] + min(max(values[n, t] - old[n, t], -clip), clip) - targets[n, t]) if clipped else far
        total, count = total + max(far, near), count + 1
        active += near > far + 1e-6
  return total / max(count, 1), active / max(count, 1)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_the_loop(case):
  settings_ = {k: v for k, v in case.items() if k != "clipped"}
  def fn(values, targets, mask, old):
    return losses.value_loss(values, targets, mask, old if case["clipped"] else None, **settings_)
  jitted = jax.jit(jax.value_and_grad(fn, has_aux=True))

  @settings(max_examples=15, deadline=None)
  @given(seed=st.integers(0, 2**32 - 1))
  def check(seed):
    rng = np.random.default_rng(seed)
    values, targets, old = (rng.normal(size=SHAPE).astype(np.float32).astype(np.float64) for _ in range(3))
    mask = rng.random(SHAPE) < 0.7
    (loss, metrics), grad = jitted(*(jnp.asarray(x, jnp.float32) for x in (values, targets, mask, old)))
    want, active = loop(values, targets, mask, old, **case)
    np.testing.assert_allclose(loss, want, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(metrics["value_clip_fraction"], active, atol=1e-6)
    for n, t in np.ndindex(*SHAPE):
      step = np.zeros(SHAPE)
      step[n, t] = 1e-6
      up, down = (loop(values + s * step, targets, mask, old, **case)[0] for s in (1, -1))
      np.testing.assert_allclose(grad[n, t], (up - down) / 2e-6, atol=2e-5)

  check()


def test_a_value_that_moved_too_far_towards_its_target_has_no_gradient():
  values, targets, old, mask = jnp.full((1, 1), 1.0), jnp.full((1, 1), 2.0), jnp.zeros((1, 1)), jnp.ones((1, 1))
  (loss, metrics), grad = jax.jit(jax.value_and_grad(losses.value_loss, has_aux=True))(values, targets, mask, old)
  np.testing.assert_allclose(loss, 1.8**2 / 2, rtol=1e-6)
  assert metrics == {"value_clip_fraction": 1, "value_error": 1}
  assert grad == 0
