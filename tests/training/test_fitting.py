"""Fitting a fixed set of data: it finds the least squares, and an untouched part of the parameters stays."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rlcore.training import fitting


def test_it_finds_least_squares_and_leaves_the_rest_alone():
  rng = np.random.default_rng(0)
  x = rng.normal(size=(64, 3)).astype(np.float32)
  weights = np.array([1.0, -2.0, 0.5], np.float32)
  loss = lambda params, batch: jnp.mean(jnp.square(batch["x"] @ params["w"] - batch["y"]))
  start = {"w": jnp.zeros(3), "other": jnp.ones(2)}
  run = jax.jit(lambda key: fitting.fit(
      loss, start, {"x": x, "y": x @ weights}, key, optimizer=optax.adam(0.05), steps=300, batch_size=8))
  params, losses = run(jax.random.key(0))
  np.testing.assert_allclose(params["w"], weights, atol=1e-2)
  np.testing.assert_array_equal(params["other"], np.ones(2))
  assert losses.shape == (300,) and losses[-1] < 1e-3 < losses[0]


def _epochs(optimizer, epochs, count=40, seed=0):
  """Fits a line to the first 40 of 64 entries, the others being junk."""
  rng = np.random.default_rng(seed)
  x = rng.normal(size=(64, 2)).astype(np.float32)
  mask = np.arange(64) < count
  data = {"x": np.where(mask[:, None], x, np.nan), "y": np.where(mask, x @ np.array([1.0, -2.0], np.float32), np.nan)}
  losses = lambda params, batch: jnp.square(batch["x"] @ params - batch["y"])
  return jax.jit(lambda key: fitting.fit_epochs(
      losses, jnp.zeros(2), data, mask, key, optimizer=optimizer, batch_size=12, epochs=epochs))(jax.random.key(seed))


def test_epochs_fit_what_counts_and_stop_when_it_gets_worse():
  params, done = _epochs(optax.adam(0.05), 60)
  np.testing.assert_allclose(params, [1, -2], atol=0.05)
  assert 5 <= done <= 60
  params, done = _epochs(optax.sgd(-0.01), 60)  # uphill: the loss rises in the epochs 2 to 5
  assert done == 5 and np.isfinite(params).all()
  params, done = _epochs(optax.adam(0.05), 60, count=0)
  assert done == 0 and not params.any()


def test_an_epoch_sees_every_entry_that_is_not_held_out_once():
  """The parameter counts them: the gradient of each batch is its mean, so entries are read off one-hot rows."""
  losses = lambda params, batch: batch["row"] @ params
  data = {"row": np.eye(20, dtype=np.float32)}
  params, _ = fitting.fit_epochs(losses, jnp.zeros(20), data, np.arange(20) < 15, jax.random.key(0),
                                 optimizer=optax.sgd(1.0), batch_size=4, epochs=1)
  np.testing.assert_allclose(params[15:], 0)
  assert (np.asarray(params[:15]) < 0).sum() == 12  # 80 % of 15
  np.testing.assert_allclose(np.sum(params), -3, rtol=1e-5)  # three batches
