"""Exact accumulation and the guarded step, against plain gradients."""

import functools

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
import numpy as np
import optax
import pytest

from rlcore.training import state as state_lib
from tests.tolerance import close


def _problem(rows=8, length=5):
  rng = np.random.default_rng(0)
  x = jnp.asarray(rng.normal(size=(rows, length)), jnp.float32)
  mask = jnp.asarray(rng.random((rows, length)) < 0.6, jnp.float32)
  params = {"w": jnp.asarray(0.3), "b": jnp.asarray(-0.1)}

  def loss_fn(params, piece):
    x, mask = piece
    value = jnp.tanh(params["w"] * x + params["b"]) ** 2
    loss = jnp.sum(value * mask) / jnp.maximum(jnp.sum(mask), 1)
    return loss, {"mean_x": jnp.sum(x * mask) / jnp.maximum(jnp.sum(mask), 1)}

  return loss_fn, lambda piece: jnp.sum(piece[1]), params, (x, mask)


@pytest.mark.parametrize("microbatches", [1, 2, 8])
def test_accumulation_equals_one_go(microbatches):
  loss_fn, weight_fn, params, batch = _problem()
  (loss, metrics), grads = jax.value_and_grad(loss_fn, has_aux=True)(params, batch)
  got = jax.jit(lambda p, b: state_lib.accumulate(loss_fn, weight_fn, p, b, microbatches=microbatches))(params, batch)
  close(got.loss, loss, rtol=1e-6)
  close(got.metrics["mean_x"], metrics["mean_x"], rtol=1e-5)
  for name in grads:
    close(got.grads[name], grads[name], rtol=1e-5)


@pytest.mark.parametrize("form", ["vmap", "pmap", "shard_map", "shard_map unchecked"])
@pytest.mark.parametrize("microbatches", [1, 2])
def test_accumulation_over_devices_equals_one_go(form, microbatches):
  if (form, microbatches) == ("shard_map", 2):
    pytest.skip("a scan's carry cannot become varying under check_vma")
  loss_fn, weight_fn, params, batch = _problem()
  want = state_lib.accumulate(loss_fn, weight_fn, params, batch)
  spread = lambda params, b: state_lib.accumulate(
      loss_fn, weight_fn, params, b, axis_name="d", microbatches=microbatches)
  if form in ("vmap", "pmap"):
    mapped, rows = (jax.vmap if form == "vmap" else jax.pmap), jax.tree.map(lambda x: x.reshape(4, 2, -1), batch)
    got = jax.tree.map(lambda x: x[0], mapped(spread, in_axes=(None, 0), axis_name="d")(params, rows))
  else:
    mesh = jax.sharding.Mesh(np.asarray(jax.devices()[:4]), ("d",))
    got = jax.jit(jax.shard_map(spread, mesh=mesh, in_specs=(PartitionSpec(), PartitionSpec("d")),
                                out_specs=PartitionSpec(), check_vma=form == "shard_map"))(params, batch)
  jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5), got, want)


def test_a_maximum_stays_one():
  """Over pieces, devices and steps; a piece without weight has no say, and where nothing has weight there is 0."""
  value = np.float32([3.0, -1.0, 2.0, -4.0, 9.0, 9.0, -2.0, -3.0])
  on = np.float32([1, 1, 1, 1, 0, 0, 1, 1])

  def loss_fn(params, piece):
    value, on = piece
    mean = jnp.sum(params * value * on) / jnp.maximum(jnp.sum(on), 1)
    return mean, {"value_max": jnp.where(jnp.any(on > 0), jnp.max(value, where=on > 0, initial=-9.0), 9.0),
                  "value_mean": mean}

  run = lambda batch, **settings: state_lib.accumulate(
      loss_fn, lambda piece: jnp.sum(piece[1]), jnp.ones(()), batch, **settings).metrics
  for pieces in (1, 2, 4):
    metrics = run((value, on), microbatches=pieces)
    assert float(metrics["value_max"]) == 3.0
    np.testing.assert_allclose(metrics["value_mean"], -5 / 6, rtol=1e-6)
    negative = run((-np.abs(value), on), microbatches=pieces)
    assert float(negative["value_max"]) == -1.0
    assert float(run((value, 0 * on), microbatches=pieces)["value_max"]) == 0.0
  cut = jax.tree.map(lambda x: x.reshape(4, 2), (value, on))
  assert np.all(np.asarray(jax.pmap(functools.partial(run, axis_name="d"), "d")(cut)["value_max"]) == 3.0)
  flags = {name: jnp.zeros(3) for name in ("nonfinite_loss", "nonfinite_grad", "applied")}
  steps, _ = state_lib.summarise_steps({name: jnp.asarray([1.0, 5.0, 3.0]) for name in ("value_max", "value_mean")} | flags)
  assert float(steps["value_max"]) == 5.0 and float(steps["value_mean"]) == 3.0


def test_microbatches_must_divide():
  loss_fn, weight_fn, params, batch = _problem()
  with pytest.raises(ValueError, match="microbatches=3 does not divide the 8 entries"):
    state_lib.accumulate(loss_fn, weight_fn, params, batch, microbatches=3)


@pytest.mark.parametrize("what", ["loss", "grad", "forbidden", "nothing"])
def test_a_bad_update_changes_nothing_and_is_reported(what):
  optimizer = state_lib.make_optimizer(0.1)
  params = {"w": jnp.asarray([1.0, 2.0])}
  opt_state = optimizer.init(params)
  gradient = state_lib.Gradient(
      jnp.asarray(np.nan if what == "loss" else 1.0), {"w": jnp.asarray([np.inf if what == "grad" else 1.0, 1.0])}, {})
  new_params, new_opt_state, metrics = state_lib.apply_gradient(
      optimizer, params, opt_state, gradient, allowed=jnp.asarray(what != "forbidden"))
  moved = not np.array_equal(new_params["w"], params["w"])
  assert moved == (what == "nothing") == bool(metrics["applied"])
  assert metrics["nonfinite_loss"] == (what == "loss")
  assert metrics["nonfinite_grad"] == (what == "grad")
  same = [np.array_equal(a, b) for a, b in zip(jax.tree.leaves(new_opt_state), jax.tree.leaves(opt_state))]
  assert all(same) == (what != "nothing")
  assert all(np.isfinite(x) for x in metrics.values())


def test_schedule_and_clipping_are_those_of_optax():
  ours = state_lib.make_optimizer(0.1, b2=0.99, warmup_steps=3, max_grad_norm=0.5)
  theirs = optax.chain(optax.clip_by_global_norm(0.5), optax.adamw(
      lambda c: 0.1 * jnp.minimum(1, (c + 1) / 4), b2=0.99, weight_decay=0.0))
  params = {"w": jnp.asarray([1.0, -2.0])}
  a, b = ours.init(params), theirs.init(params)
  for k in range(6):
    grads = {"w": jnp.asarray([1.0 + k, -0.5])}
    up_a, a = ours.update(grads, a, params)
    up_b, b = theirs.update(grads, b, params)
    close(up_a["w"], up_b["w"], rtol=1e-6)
  cosine = state_lib.make_optimizer(1.0, decay_steps=4, max_grad_norm=None)
  state, sizes = cosine.init(params), []
  for _ in range(5):
    update, state = cosine.update({"w": jnp.ones(2)}, state, params)
    sizes.append(abs(float(update["w"][0])))
  np.testing.assert_allclose(sizes, [0.5 * (1 + np.cos(np.pi * k / 4)) for k in range(5)], atol=1e-5)


def test_the_rate_may_be_a_tracer():
  def size(rate):
    optimizer = state_lib.make_optimizer(rate, max_grad_norm=None)
    params = jnp.asarray(1.0)
    return optimizer.update(jnp.asarray(2.0), optimizer.init(params), params)[0]
  np.testing.assert_allclose(jax.jit(jax.vmap(size))(jnp.asarray([0.1, 0.2])), [-0.1, -0.2], rtol=1e-5)


def test_count_params():
  assert state_lib.count_params({"a": jnp.zeros((3, 4)), "b": [jnp.zeros(5)]}) == 17


def test_a_learning_rate_that_is_no_number_is_named():
  with pytest.raises(ValueError, match="learning_rate='2e-3' is no number"):
    state_lib.make_optimizer("2e-3")
  for rate in (-1e-3, float("nan")):
    with pytest.raises(ValueError, match="must not be negative"):
      state_lib.make_optimizer(rate)


@pytest.mark.parametrize("clip", [None, 0.1])
def test_the_optimiser_is_adamw_to_the_bit_and_remembers_its_rate(clip):
  ours = state_lib.make_optimizer(0.3, weight_decay=0.1, max_grad_norm=clip, warmup_steps=3, decay_steps=6)
  rate = lambda n: 0.3 * min(1, (n + 1) / 4) * 0.5 * (1 + np.cos(np.pi * np.clip((n - 3) / 3, 0, 1)))
  theirs = optax.adamw(lambda n: 0.3 * jnp.minimum(1.0, (n + 1) / 4) * 0.5 * (
      1 + jnp.cos(jnp.pi * jnp.clip((n - 3) / 3, 0.0, 1.0))), b1=0.9, b2=0.99, weight_decay=0.1)
  theirs = theirs if clip is None else optax.chain(optax.clip_by_global_norm(clip), theirs)
  params = {"w": jnp.array([0.5, -2.0])}
  grads = {"w": jnp.array([0.3, -0.7])}
  states = [ours.init(params), theirs.init(params)]
  assert state_lib.learning_rates(states[0]) == {"optimizer/learning_rate": 0.0}
  for n in range(5):
    got, states[0] = ours.update(grads, states[0], params)
    want, states[1] = theirs.update(grads, states[1], params)
    np.testing.assert_array_equal(got["w"], want["w"])
    assert state_lib.learning_rates(states[0])["optimizer/learning_rate"] == pytest.approx(rate(n), rel=1e-6, abs=1e-8)


def test_rates_of_several_optimisers_go_by_their_place():
  params = jnp.ones(2)
  ours = state_lib.make_optimizer(0.25)
  theirs = optax.inject_hyperparams(optax.sgd)(learning_rate=0.5)
  state = {"actor": ours.update(params, ours.init(params), params)[1], "critic": theirs.init(params)}
  got = state_lib.learning_rates(state)
  assert sorted(got.values()) == [0.25, 0.5]
  actor, critic = sorted(got)
  assert actor.startswith("optimizer/actor") and critic.startswith("optimizer/critic")
  assert state_lib.learning_rates({"learning_rate": jnp.ones(3), "x": 1.0}) == {}
