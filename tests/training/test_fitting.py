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
