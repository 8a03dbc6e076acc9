"""ASAF, its windows and the loss of predictable teams against loops in float64, and the thesis' worked example."""

from hypothesis import example, given, settings, strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore import losses, segments
from tests.tolerance import close

_few = settings(max_examples=12, deadline=None)
_seeds = st.integers(0, 2**32 - 1)
_GAIL = jax.jit(jax.value_and_grad(losses.gail_discriminator_loss, (0, 2)))
_LOSS = jax.jit(jax.value_and_grad(losses.asaf_loss, (0, 3)))
_TEAM = jax.jit(jax.value_and_grad(losses.team_predictability_loss, (0, 1)))


def _discriminator(new, old, mask):
  n = sum(np.float64(x) for x, m in zip(new, mask) if m > 0)
  o = sum(np.float64(x) for x, m in zip(old, mask) if m > 0)
  return n - np.logaddexp(n, o), o - np.logaddexp(n, o)


def _windows(rng, count, steps):
  mask = rng.random((count, steps)) < 0.6
  mask[0] &= rng.random() < 0.5
  new, old = (-rng.exponential(size=mask.shape).astype(np.float32) for _ in range(2))
  return [np.where(mask, new, np.nan), np.where(mask, old, np.inf), mask]


def _loss(expert, learner):
  total = [-_discriminator(*window)[0] for window in zip(*expert) if window[2].any()]
  total += [-_discriminator(*window)[1] for window in zip(*learner) if window[2].any()]
  return sum(total) / max(len(total), 1)


@_few
@given(_seeds)
def test_loss_and_gradient(seed):
  rng = np.random.default_rng(seed)
  expert, learner = _windows(rng, 3, 4), _windows(rng, 2, 5)
  got, slopes = _LOSS(*map(jnp.asarray, expert + learner))
  np.testing.assert_allclose(got, _loss(expert, learner), rtol=1e-5, atol=1e-6)
  for side, slope in ((expert, slopes[0]), (learner, slopes[1])):
    for place in np.ndindex(*slope.shape):
      step, value = np.zeros(slope.shape), side[0]
      step[place] = 1e-5
      change = []
      for sign in (1, -1):
        side[0] = value.astype(np.float64) + sign * step
        change.append(_loss(expert, learner))
      side[0] = value
      np.testing.assert_allclose(slope[place], (change[0] - change[1]) / 2e-5, atol=1e-4)


def test_only_the_new_policy_has_a_gradient_and_nothing_overflows():
  slopes = jax.grad(lambda *x: sum(losses.asaf_log_discriminator(*x, np.ones(2))), (0, 1))(
      jnp.array([-1.0, -2]), jnp.array([-3.0, -1]))
  assert np.all(slopes[0]) and not np.any(slopes[1])
  for new, old in ((-900.0, -1.0), (-1.0, -900.0), (-np.inf, -1.0), (-1.0, -np.inf), (-np.inf, -np.inf)):
    value, slope = jax.value_and_grad(lambda x: sum(losses.asaf_log_discriminator(x, jnp.full(3, old), jnp.ones(3))))(
        jnp.full(3, new))
    assert np.isfinite(value) and np.isfinite(slope).all()
  close(
      losses.asaf_log_discriminator(np.full(2, np.nan), np.full(2, np.nan), np.zeros(2)), np.log(0.5) * np.ones(2),
      rtol=1e-6)


def test_at_its_optimum_the_policy_is_the_expert():
  """Windows of two steps in two states, each as often as expert and generator would show it."""
  expert, old = np.array([[5, 3, 2], [1, 1, 8]]), np.array([[2, 4, 4], [6, 3, 1]])
  pairs = np.stack(np.meshgrid(range(3), range(3), indexing="ij"), -1).reshape(-1, 2)
  shown, made = (pairs.repeat(counts[0, pairs[:, 0]] * counts[1, pairs[:, 1]], 0) for counts in (expert, old))
  mask = np.ones((100, 2))
  chosen = lambda table, actions: jnp.asarray(table)[jnp.arange(2), actions]

  def loss(logits):
    new, frozen = jax.nn.log_softmax(logits), np.log(old / 10)
    sides = [(chosen(new, actions), chosen(frozen, actions), mask) for actions in (shown, made)]
    return losses.asaf_loss(*sides[0], *sides[1])

  slope = jax.jit(jax.grad(loss))
  np.testing.assert_allclose(slope(jnp.log(expert / 10)), 0, atol=1e-6)
  assert np.abs(slope(jnp.log(old / 10))).max() > 0.05


@_few
@given(_seeds)
@example(184006660)  # the mean of the chosen is a ten-thousandth of its terms
def test_cloning_and_the_discriminator_of_gail(seed):
  rng = np.random.default_rng(seed)
  (expert, learner), masks = rng.normal(size=(2, 6)), rng.random((2, 6)) < 0.6
  shown, made = (np.where(mask, x, np.nan) for x, mask in zip((expert, learner), masks))
  sure = lambda x: 1 / (1 + np.exp(-x))
  clone = [-x for x, keep in zip(expert, masks[0]) if keep]
  told = [-np.log(sure(x)) for x, keep in zip(expert, masks[0]) if keep]
  missed = [-np.log(1 - sure(x)) for x, keep in zip(learner, masks[1]) if keep]
  mean = lambda x: sum(x) / max(len(x), 1)
  close(losses.behaviour_cloning_loss(shown, masks[0]), mean(clone), *clone)
  got, slopes = _GAIL(shown, masks[0], made, masks[1])
  close(got, mean(told) + mean(missed), *told, *missed)
  for slope, x, mask, wrong in zip(slopes, (expert, learner), masks, (-1, 1)):  # wrong by 1 - D, and by D
    want = [wrong * sure(wrong * x[i]) * mask[i] / max(mask.sum(), 1) for i in range(6)]
    np.testing.assert_allclose(slope, want, rtol=1e-5, atol=1e-7)


def test_worked_example_of_asaf():
  new, old, mask = np.log([[0.9, 0.5]]), np.log([[0.6, 0.5]]), np.ones((1, 2))
  log_d, log_rest = losses.asaf_log_discriminator(new[0], old[0], mask[0])
  np.testing.assert_allclose((log_d, log_rest), (-0.510826, -0.916291), rtol=1e-5)
  np.testing.assert_allclose(losses.asaf_loss(new, old, mask, old, new, mask), 0.510826, rtol=1e-5)
  nobody = np.zeros((1, 2))
  assert losses.asaf_loss(new, old, nobody, old, new, nobody) == 0
  np.testing.assert_allclose(losses.asaf_loss(new, old, mask, old, new, nobody), 0.510826, rtol=1e-5)  # one mean


@pytest.mark.parametrize("steps, window", [(7, 3), (6, 3), (2, 5), (1, 1), (5, 1)])
def test_windows(steps, window):
  rng = np.random.default_rng(steps)
  mask = rng.random(steps) < 0.6
  values = np.where(mask, rng.normal(size=steps), np.nan).astype(np.float32)
  got, counted = segments.split_windows(values, mask, window)
  assert got.shape == counted.shape == (-(-steps // window), window)
  for w, i in np.ndindex(*got.shape):
    t = w * window + i
    exists = t < steps and mask[t]
    assert counted[w, i] == exists and got[w, i] == (values[t] if exists else 0)


def test_worked_example_of_windows_and_a_window_of_nothing():
  values, mask = segments.split_windows([1, 2, 3], [1, 0, 1], 2)
  np.testing.assert_array_equal(values, [[1, 0], [3, 0]])
  np.testing.assert_array_equal(mask, [[1, 0], [1, 0]])
  slope = jax.grad(lambda x: segments.split_windows(x, [1, 0, 1], 2)[0] @ jnp.ones(2) @ jnp.ones(2))(jnp.ones(3))
  np.testing.assert_array_equal(slope, [1, 0, 1])
  with pytest.raises(ValueError, match="window=0"):
    segments.split_windows([1, 2], [1, 1], 0)


@_few
@given(_seeds)
def test_predictable_teams(seed):
  rng = np.random.default_rng(seed)
  steps, agents, size = 3, 3, 2
  mask = rng.random(steps) < 0.6
  predicted = rng.normal(size=(steps, agents, agents, size)).astype(np.float32)
  actual = rng.normal(size=(steps, agents, size)).astype(np.float32)
  predicted[:, range(agents), range(agents)] = np.nan
  predicted[~mask], actual[~mask] = np.nan, np.inf
  total, guesses, acts, count = 0.0, np.zeros(predicted.shape), np.zeros(actual.shape), 0
  for t, i, j, a in np.ndindex(*predicted.shape):
    if mask[t] and i != j:
      error = np.float64(predicted[t, i, j, a]) - np.float64(actual[t, j, a])
      total, count = total + error**2, count + 1
      guesses[t, i, j, a], acts[t, j, a] = 2 * error, acts[t, j, a] - 2 * error
  got, slopes = _TEAM(*map(jnp.asarray, (predicted, actual)), mask)
  close(got, total / max(count, 1))  # squares only: nothing cancels
  np.testing.assert_allclose(slopes[0], guesses / max(count, 1), rtol=1e-4, atol=1e-6)
  np.testing.assert_allclose(slopes[1], acts / max(count, 1), rtol=1e-4, atol=1e-6)


def test_bad_input_is_named():
  with pytest.raises(AssertionError, match="losses.asaf_log_discriminator: new_log_probs has rank 2"):
    losses.asaf_log_discriminator(*[np.zeros((2, 3))] * 3)
  with pytest.raises(AssertionError, match="losses.asaf_loss: learner_old has shape"):
    losses.asaf_loss(*[np.zeros((2, 3))] * 4, np.zeros((2, 4)), np.zeros((2, 3)))
  with pytest.raises(AssertionError, match="losses.behaviour_cloning_loss: mask has shape"):
    losses.behaviour_cloning_loss(np.zeros(3), np.zeros(2))
  with pytest.raises(AssertionError, match="losses.gail_discriminator_loss: learner_logits has rank 2"):
    losses.gail_discriminator_loss(*[np.zeros(3)] * 2, *[np.zeros((2, 3))] * 2)
  with pytest.raises(AssertionError, match="losses.team_predictability_loss: predicted has shape"):
    losses.team_predictability_loss(np.zeros((2, 3, 2)), np.zeros((2, 3, 2)), np.zeros(2))
