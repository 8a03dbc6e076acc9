"""The velocity network against matrix products in NumPy."""

import jax
import numpy as np

from rlcore import models
from tests.tolerance import close


def test_velocity_mlp_is_the_loop():
  model = models.make_velocity_mlp(2, 3, hidden=(8, 8), embedding=4, frequencies=2)
  params = jax.device_get(model.init(jax.random.key(0)))
  rng = np.random.default_rng(0)
  z, sigma, condition = rng.normal(size=(5, 2)), rng.random(5), np.array([0, 1, 2, 1, 0])
  x = np.concatenate([z, sigma[:, None], *(np.sin(np.pi * sigma * f)[:, None] for f in (1, 2)),
                      *(np.cos(np.pi * sigma * f)[:, None] for f in (1, 2)), params["embedding"][condition]], 1)
  *inner, last = params["network"]["params"].values()
  for layer in inner:
    x = x @ layer["kernel"] + layer["bias"]
    x = x / (1 + np.exp(-x))
  expected = x @ last["kernel"] + last["bias"]
  got = jax.jit(model.velocity)(params, z, sigma, condition)
  np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
  one = model.velocity(params, z[:1], sigma[:1], np.int32(0))
  close(one, got[:1], rtol=1e-5)
