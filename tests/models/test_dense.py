"""`models.dense` against `lax.dot_general`: the same product and derivatives of every order and mapping."""

from flax import linen as nn
import jax
from jax import lax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore.models import dense

DIMENSIONS = (((0,), (0,)), ((), ()))


def pieces(seeds=(), outputs=1):
  rng = np.random.default_rng(0)
  draw = lambda *shape: jnp.asarray(rng.normal(size=(*seeds, *shape)), jnp.float32)
  return draw(7, 8), draw(8, outputs)


def total(product):
  """Of the products of the rows `[7, 8]`, each seen by itself, with a kernel `[8, outputs]`."""
  return lambda inputs, kernel: jnp.sum(jnp.sin(jax.vmap(lambda x: product(x, kernel, DIMENSIONS))(inputs)))


@pytest.mark.parametrize("transform", [jax.grad, jax.jacfwd, jax.hessian])
@pytest.mark.parametrize("argument", [0, 1])
@pytest.mark.parametrize("seeds", [(), (4,)])
@pytest.mark.parametrize("outputs", [2, 3])
def test_derivatives_are_those_of_the_plain_product(transform, argument, seeds, outputs):
  mapped = jax.vmap if seeds else lambda function: function
  of = lambda product: jax.jit(mapped(transform(total(product), argument)))(*pieces(seeds, outputs))
  np.testing.assert_allclose(of(dense.dot_general), of(lax.dot_general), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("backend", ["cpu", "tpu"])
@pytest.mark.parametrize("outputs", [1, 2, 3])
def test_rows_together_and_either_road(monkeypatch, backend, outputs):
  """Rows may come as a batch, too; the road that other devices take is the same derivative."""
  monkeypatch.setattr(jax, "default_backend", lambda: backend)
  dimensions = (((1,), (0,)), ((), ()))
  loss = lambda product: lambda inputs, kernel: jnp.sum(jnp.sin(product(inputs, kernel, dimensions)))
  given = pieces(outputs=outputs)
  np.testing.assert_allclose(
      dense.dot_general(*given, dimensions), lax.dot_general(*given, dimensions), rtol=1e-5, atol=1e-6)
  for own, plain in zip(jax.grad(loss(dense.dot_general), (0, 1))(*given),
                        jax.grad(loss(lax.dot_general), (0, 1))(*given), strict=True):
    np.testing.assert_allclose(own, plain, rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="the road of a CPU")
@pytest.mark.parametrize("outputs", [2, 3])
def test_on_a_cpu_the_sum_over_rows_is_over_the_last_axis_where_outputs_are_few(outputs):
  text = jax.jit(jax.grad(total(dense.dot_general), 1)).lower(*pieces(outputs=outputs)).as_text()
  assert ("optimization_barrier" in text) == (outputs == 2)


def test_kernels_cut_from_one_draw_are_scaled_like_those_of_flax():
  """Each has standard deviation `factor / sqrt(D)`, is cut off at two of a normal's, and has numbers of its own."""
  make = lambda draw: nn.Sequential([
      dense.Dense(200, kernel_init=draw(1.0)), dense.Dense(100, kernel_init=draw(0.01)), nn.Dense(300)])
  params = dense.init_at_once(make, jax.random.key(0), jnp.ones(50))["params"]
  plain = make(dense.lecun_normal).init(jax.random.key(0), jnp.ones(50))["params"]
  assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, plain)
  for name, factor, inputs in (("layers_0", 1.0, 50), ("layers_1", 0.01, 200), ("layers_2", 1.0, 100)):
    unit = np.asarray(params[name]["kernel"]) / factor * np.sqrt(inputs)
    assert abs(unit.std() - 1) < 0.03 and abs(unit.mean()) < 0.03 and abs(np.abs(unit).max() - 2 / 0.8796) < 0.05
    assert not params[name]["bias"].any()
  first, second = (np.ravel(params[name]["kernel"])[:1000] for name in ("layers_0", "layers_1"))
  assert abs(np.corrcoef(first, second)[0, 1]) < 0.1


def test_a_kernel_that_does_not_fit_is_an_error():
  with pytest.raises(TypeError, match="contracting"):
    dense.dot_general(jnp.ones(4), jnp.ones((5, 3)), DIMENSIONS)
