"""Aggregation against a double loop, and the two things users trip over: accumulation and devices."""

import functools

from hypothesis import given, settings, strategies as st
import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
import numpy as np
import pytest

from rlcore import losses
from tests.tolerance import close

SHAPE = (8, 6)
MODES = (
    dict(mode="token"),
    dict(mode="sequence"),
    dict(mode="sequence", count_empty=False),
    dict(mode="constant"),
    dict(mode="constant", length=11.0),
    dict(mode="constant", length=11.0, count_empty=False),
)
modes = pytest.mark.parametrize("how", MODES, ids=str)


def loop(values, mask, mode, length=None, count_empty=True):
  """The definition, in float64: `(total, weight)`."""
  total, tokens, sequences = 0.0, 0, 0
  for row, row_mask in zip(np.asarray(values, np.float64), mask):
    counted = [v for v, m in zip(row, row_mask) if m > 0]
    tokens += len(counted)
    sequences += bool(counted) or count_empty
    if counted:
      total += sum(counted) / (len(counted) if mode == "sequence" else 1)
  if mode == "token":
    return total, tokens
  return total, sequences * ((mask.shape[1] if length is None else length) if mode == "constant" else 1)


def draw(seed, shape=SHAPE):
  rng = np.random.default_rng(seed)
  mask = rng.random(shape) < rng.random((shape[0], 1)) * 1.2
  mask[rng.random(shape[0]) < 0.3] = False
  return rng.normal(size=shape).astype(np.float32), mask.astype(np.float32)


@functools.cache
def jitted(fn, how):
  return jax.jit(functools.partial(fn, **dict(how)))


@modes
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_equals_the_double_loop(how, seed):
  values, mask = draw(seed)
  total, weight = loop(values, mask, **how)
  key = tuple(how.items())
  np.testing.assert_allclose(jitted(losses.aggregation_weight, key)(mask), weight)
  loss = jitted(losses.aggregate, key)(values, mask)
  np.testing.assert_allclose(loss, total / max(weight, 1e-9), rtol=1e-5, atol=1e-6)


@modes
def test_pieces_of_a_batch_add_up(how):
  """`sum_i loss_i * weight_i / sum_i weight_i` is the loss of the batch, and so is its gradient."""
  values, mask = draw(3)

  def pieces(values, cuts):
    parts = [(losses.aggregate(v, m, **how), losses.aggregation_weight(m, **how))
             for v, m in zip(jnp.split(values, cuts), jnp.split(mask, cuts))]
    return sum(loss * weight for loss, weight in parts) / sum(weight for _, weight in parts)

  whole = jax.jit(jax.value_and_grad(lambda v: losses.aggregate(v, mask, **how)))(values)
  naive = jax.vmap(lambda v, m: losses.aggregate(v, m, **how))(values.reshape(4, 2, -1), mask.reshape(4, 2, -1)).mean()
  for cuts in ([4], [2, 4, 6], [1, 7]):
    cut = jax.jit(jax.value_and_grad(lambda v, cuts=cuts: pieces(v, cuts)))(values)
    close(cut[0], whole[0], rtol=1e-5)
    np.testing.assert_allclose(cut[1], whole[1], rtol=1e-5, atol=1e-7)
  if how["mode"] == "token":
    assert abs(naive - whole[0]) > 0.01  # which is why the weights exist


@modes
def test_gradient_over_devices_is_that_of_the_whole_batch(how):
  """With `axis_name` the loss is the global one; what remains to be done with gradients depends on the mapping."""
  values, mask = draw(5)
  scale = jnp.float32(1.3)  # a replicated parameter

  def loss(scale, values, mask, axis_name=None):
    return losses.aggregate(jnp.tanh(scale * values), mask, axis_name=axis_name, **how)

  want = jax.value_and_grad(loss)(scale, values, mask)
  # pmap: each device differentiates the global loss with respect to its own copy; the copies' MEAN is the gradient.
  cut = lambda x: x.reshape(8, 1, -1)
  def local(scale, values, mask):
    value, grad = jax.value_and_grad(loss)(scale, values, mask, "d")
    return value, jax.lax.pmean(grad, "d")
  got = jax.pmap(local, "d", in_axes=(None, 0, 0))(scale, cut(values), cut(mask))
  for x, y in zip(got, want):
    close(x, np.full(8, y), rtol=1e-5)
  # shard_map: the replicated parameter is known to be one, so its gradient is summed already.
  mesh = Mesh(np.array(jax.devices()[:8]), ("d",))
  spec = PartitionSpec("d")
  sharded = jax.shard_map(
      lambda *args: jax.value_and_grad(loss)(*args, "d"), mesh=mesh, in_specs=(PartitionSpec(), spec, spec),
      out_specs=PartitionSpec())
  for x, y in zip(jax.jit(sharded)(scale, values, mask), want):
    close(x, y, rtol=1e-5)


def test_an_empty_sequence_counts_unless_told_otherwise():
  values, mask = jnp.ones((2, 4)), jnp.asarray([[1, 1, 0, 0], [0, 0, 0, 0]])
  assert losses.aggregate(values, mask, mode="sequence") == 0.5
  assert losses.aggregate(values, mask, mode="sequence", count_empty=False) == 1
  assert losses.aggregate(values, mask, mode="token") == 1
  assert losses.aggregate(values, mask, mode="constant", length=4) == 0.25


@modes
def test_padding_never_matters_but_for_its_width_in_the_constant_mode(how):
  values, mask = draw(9)
  wide = jnp.pad(values, ((0, 0), (0, 3)), constant_values=jnp.nan), jnp.pad(mask, ((0, 0), (0, 3)))
  ratio = losses.aggregate(*wide, **how) / losses.aggregate(values, mask, **how)
  unbound = how["mode"] == "constant" and "length" not in how
  close(ratio, 6 / 9 if unbound else 1, rtol=1e-6)


def test_an_unknown_mode_is_named():
  for fn in (lambda **kw: losses.aggregate(jnp.ones((2, 2)), jnp.ones((2, 2)), **kw),
             lambda **kw: losses.aggregation_weight(jnp.ones((2, 2)), **kw)):
    with pytest.raises(ValueError, match="mode='mean' is none of"):
      fn(mode="mean")


@pytest.mark.parametrize("length", [0, -3.0, float("nan")])
def test_a_divisor_that_is_no_length_is_refused(length):
  with pytest.raises(ValueError, match=f"length={length} must be above 0"):
    losses.aggregate(np.ones((2, 3)), np.ones((2, 3)), mode="constant", length=length)
  assert losses.aggregate(np.ones((2, 3)), np.ones((2, 3)), mode="token", length=length) == 1  # not read
