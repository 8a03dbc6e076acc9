"""One table, every public function of the pure rooms and of diversity.

See `tests/contract/__init__.py` for what a row promises.
"""

import functools
import importlib
import inspect
import zlib

import chex
import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
import numpy as np
import pytest

from rlcore import advantages, losses, rewards
from tests import contract

ROWS = contract.all_rows()
DEVICES = 8
# The modules whose public functions need a row; a factory (of a reward transform, say) is tested through what it makes.
ROOMS = (
    "rlcore.stats", "rlcore.segments", "rlcore.tabular", "rlcore.rewards", "rlcore.exploration", "rlcore.advantages",
    "rlcore.losses", "rlcore.diversity")

_ONE_A_FUNCTION = list({row.name.partition("[")[0]: row for row in reversed(ROWS)}.values())

rows = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)


def _examples(row, count=1):
  rng = np.random.default_rng(zlib.crc32(row.name.encode()))
  return [tuple(jnp.asarray(x) for x in row.example(rng)) for _ in range(count)]


def _bound(row):
  return functools.partial(row.fn, **row.kwargs)


def _close(actual, expected, rtol, atol=None):
  chex.assert_trees_all_equal_structs(actual, expected)
  for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected)):
    assert jnp.asarray(a).dtype == jnp.asarray(b).dtype
    np.testing.assert_allclose(np.asarray(a, np.float64), np.asarray(b, np.float64), rtol=rtol, atol=atol or rtol)


def _floating(tree):
  return [x for x in jax.tree.leaves(tree) if jnp.issubdtype(jnp.asarray(x).dtype, jnp.floating)]


def _scalar(fn, args):
  """A scalar with a generic weight on every floating output, so that no gradient cancels by symmetry."""
  leaves = _floating(fn(*args))
  return sum(jnp.sum(x * jnp.cos(1 + jnp.arange(x.size, dtype=x.dtype)).reshape(x.shape)) for x in leaves)


def _values_and_gradients(fn, positions, *args):
  """Returns the outputs and the gradient of `_scalar` w.r.t. each position."""
  gradients = jax.grad(lambda *chosen: _scalar(fn, _with(args, positions, chosen)), tuple(range(len(positions))))
  return fn(*args), gradients(*(args[i] for i in positions)) if positions else ()


def _with(args, positions, chosen):
  chosen = dict(zip(positions, chosen))
  return tuple(chosen.get(i, x) for i, x in enumerate(args))


def _stack(examples):
  return tuple(jnp.stack(arrays) for arrays in zip(*examples))


# Compilation is what these tests cost. A row is compiled twice, for all of them: by itself, and inside of vmap and
# shard_map with its gradients, where junk and clean examples are rows of one batch.


def _once_a_row(make):
  """Keeps what `make` returns for each row, a row being known by its name."""
  kept = {}
  def get(row):
    if row.name not in kept:
      kept[row.name] = make(row)
    return kept[row.name]
  return get


@_once_a_row
def _jitted(row):
  """The compiled function of a row, and the list that grows by one with every trace."""
  traces = []
  def counted(*args):
    traces.append(1)
    return _bound(row)(*args)
  return jax.jit(counted), traces


@_once_a_row
def _mapped(row):
  """Values and gradients `[8, ...]` of the examples, and `[3, ...]` of the first with each kind of junk in it."""
  examples = _examples(row, DEVICES)
  junk = [_dirty(row, examples[0], x) for x in (np.nan, np.inf, -1e30)] if row.masked else []
  stacked = _stack([*examples, *junk, *examples[:len(junk) // 3]])  # of 12, three a device; without junk, two
  mesh = Mesh(np.array(jax.devices()[:DEVICES // 2]), ("d",))
  spec = PartitionSpec("d")
  fn = jax.vmap(functools.partial(_values_and_gradients, _bound(row), row.grads + row.stopped))
  found = jax.device_get(jax.jit(jax.shard_map(fn, mesh=mesh, in_specs=spec, out_specs=spec))(*stacked))
  return jax.tree.map(lambda x: x[:DEVICES], found), jax.tree.map(lambda x: x[DEVICES:DEVICES + 3], found)


@rows
def test_compiled_forms_agree(row):
  examples, (jitted, traces) = _examples(row, DEVICES), _jitted(row)
  compiled = [jitted(*args) for args in examples]
  assert len(traces) == 1, f"{row.name} was traced {len(traces)} times"
  (mapped, _), _ = _mapped(row)
  _close(mapped, jax.tree.map(lambda *xs: jnp.stack(xs), *compiled), row.rtol)


# Op by op is the dearest form, every operation a program of its own. The oracle tests call functions so, most of them
# with several shapes; here one function in three is, and the others with `-m slow`.
@pytest.mark.parametrize("row", [
    row if i % 3 == 0 else pytest.param(row, marks=pytest.mark.slow) for i, row in enumerate(_ONE_A_FUNCTION)],
                         ids=lambda row: row.name)
def test_eager_form_and_lists_agree(row):
  fn, (args,) = _bound(row), _examples(row)
  eager = fn(*args)
  _close(fn(*(x.tolist() for x in args)), eager, row.rtol)  # Python lists are arrays
  _close(_jitted(row)[0](*args), eager, row.rtol)


@rows
def test_values_and_gradients_are_finite_and_ignore_masked_junk(row):
  (values, gradients), (dirty_values, dirty_gradients) = _mapped(row)
  for leaf in _floating(values):
    assert np.isfinite(leaf).all()
  for position, gradient in zip(row.grads + row.stopped, gradients, strict=True):
    assert np.isfinite(gradient).all()
    assert np.any(gradient[0]) == (position in row.grads), f"argument {position}"
  for i in range(3 if row.masked else 0):
    at = lambda tree, i: jax.tree.map(lambda x: x[i], tree)
    _close(at(dirty_values, i), at(values, 0), 0, 1e-30)
    _close(at(dirty_gradients, i), at(gradients, 0), 1e-6)


def _dirty(row, args, junk):
  """Puts junk, or an index out of range, into every place that a mask hides."""
  dirty = list(args)
  for mask, hidden in row.masked.items():
    for position in hidden:
      x = dirty[position]
      keep = jnp.broadcast_to((args[mask] > 0).reshape(args[mask].shape + (1,) * (x.ndim - args[mask].ndim)), x.shape)
      dirty[position] = jnp.where(keep, x, jnp.asarray(junk if jnp.issubdtype(x.dtype, jnp.floating) else 10**6, x.dtype))
  return dirty


def _draw(*shape, seed=0):
  return np.random.default_rng(seed).uniform(0.2, 1, shape).astype(np.float32)


_MATRIX, _VECTOR, _LAST = _draw(2, 3), _draw(5), np.float32([0, 0, 1, 0, 0])


# The arguments that no row of the table gives, being optional.
@pytest.mark.parametrize("fn, args, optional", [
    (losses.clip_loss, (_MATRIX,) * 4, dict(weights=_MATRIX)),
    (losses.cispo_loss, (_MATRIX,) * 4, dict(weights=_MATRIX)),
    (losses.reinforce_loss, (_MATRIX,) * 3, dict(weights=_MATRIX)),
    (losses.value_loss, (_MATRIX,) * 3, dict(values_old=_draw(2, 3, seed=1))),
    (losses.kl_estimate, (_MATRIX, _draw(2, 3, seed=1)), dict(mask=_MATRIX)),
    (losses.kl_exact, (_MATRIX, _draw(2, 3, seed=1)), dict(mask=_LAST[1:3])),
    (losses.branch_grpo_loss, (_MATRIX,) * 4, dict(keep=_MATRIX)),
    (advantages.gae, (_VECTOR, _VECTOR), dict(gamma=_VECTOR, mask=_VECTOR, value_tp1=_VECTOR, truncated=_LAST)),
    (advantages.lambda_returns, (_VECTOR,) * 3, dict(lam=_VECTOR, mask=_VECTOR, truncated=_LAST)),
    (advantages.n_step_returns, (_VECTOR,) * 3, dict(n=2, mask=_VECTOR, truncated=_LAST)),
    (advantages.reward_to_go, (_VECTOR,), dict(gamma=_VECTOR, mask=_VECTOR)),
    (advantages.reinforce_pp_returns, (_VECTOR, _LAST), dict(gamma=_VECTOR)),
    (advantages.vtrace, (_VECTOR,) * 5, dict(mask=_VECTOR, truncated=_LAST)),
    (advantages.tempo_advantage, (np.eye(3, dtype=int), _VECTOR[:3], np.eye(3)), dict(valid=np.ones((3, 3)))),
    (rewards.lexicographic_reward, (_VECTOR, _VECTOR), dict(weights=_VECTOR)),
    (rewards.gated_reward, (_VECTOR, _LAST), dict(otherwise=_VECTOR)),
], ids=lambda x: getattr(x, "__name__", ""))
def test_python_lists_are_arrays_by_keyword_too(fn, args, optional):
  listed = {name: x.tolist() if isinstance(x, np.ndarray) else x for name, x in optional.items()}
  _close(fn(*(x.tolist() for x in args), **listed), fn(*args, **optional), 2e-5)


@pytest.mark.parametrize("row", [r for r in ROWS if r.order], ids=lambda row: row.name)
def test_order_of_the_group(row):
  (fn, _), (args,) = _jitted(row), _examples(row)
  order = np.random.default_rng(0).permutation(args[row.group[0]].shape[0])
  shuffled = tuple(x[order] if i in row.group else x for i, x in enumerate(args))
  want = fn(*args)
  if row.order == "equivariant":
    want = jax.tree.map(lambda x: x[order], want)
  _close(fn(*shuffled), want, row.rtol)


@pytest.mark.parametrize("row", [r for r in ROWS if r.low_precision], ids=lambda row: row.name)
def test_bfloat16_in_float32_out(row):
  (fn, _), (args,) = _jitted(row), _examples(row)
  low = tuple(x.astype(jnp.bfloat16) if i in row.low_precision else x for i, x in enumerate(args))
  rounded = tuple(x.astype(jnp.float32) if i in row.low_precision else x for i, x in enumerate(low))
  for leaf in _floating(fn(*low)):
    assert leaf.dtype == jnp.float32
  _close(fn(*low), fn(*rounded), 1e-5)


@pytest.mark.parametrize("row", [r for r in ROWS if r.split], ids=lambda row: row.name)
def test_statistics_span_devices(row):
  (args,) = _examples(row)
  want = _bound(row)(*args)
  fn = functools.partial(row.fn, axis_name="d", **row.kwargs)
  size = args[row.split[0]].shape[0]
  assert size % DEVICES == 0, f"axis 0 of the example must be a multiple of {DEVICES}"
  def cut(i, x):
    return x.reshape(DEVICES, size // DEVICES, *x.shape[1:]) if i in row.split else x
  axes = tuple(0 if i in row.split else None for i in range(len(args)))
  cuts = tuple(cut(i, x) for i, x in enumerate(args))
  def join(tree):
    leaves, treedef = jax.tree.flatten(tree)
    assert len(leaves) == len(row.split_out)
    for leaf, kind in zip(leaves, row.split_out):
      if kind == "same":
        _close(leaf, jnp.broadcast_to(leaf[:1], leaf.shape), 1e-6)
    joined = [x[0] if k == "same" else x.reshape(-1, *x.shape[2:]) for x, k in zip(leaves, row.split_out)]
    return jax.tree.unflatten(treedef, joined)
  _close(join(jax.pmap(fn, "d", in_axes=axes)(*cuts)), want, row.rtol)
  _close(join(jax.jit(jax.vmap(fn, axes, axis_name="d"))(*cuts)), want, row.rtol)
  mesh = Mesh(np.array(jax.devices()[:DEVICES]), ("d",))
  specs = tuple(PartitionSpec("d") if i in row.split else PartitionSpec() for i in range(len(args)))
  lead = lambda *a: jax.tree.map(lambda x: x[None], fn(*a))
  sharded = jax.shard_map(lead, mesh=mesh, in_specs=specs, out_specs=PartitionSpec("d"))
  _close(join(jax.jit(sharded)(*args)), want, row.rtol)


@pytest.mark.parametrize("row", [r for r in ROWS if r.degenerate], ids=lambda row: row.name)
def test_degenerate_cases(row):
  fn, _ = _jitted(row)  # op by op it would compile for longer
  for args, expected in row.degenerate:
    out = fn(*(jnp.asarray(x) for x in args))
    for leaf in _floating(out):
      assert np.isfinite(leaf).all()
    if callable(expected):
      assert expected(out), f"{row.name}: {out}"
    else:
      for got, want in zip(jax.tree.leaves(out), expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def _public_functions(room):
  module = importlib.import_module(room)
  names = getattr(module, "__all__", None) or [n for n in vars(module) if not n.startswith("_")]
  for name in names:
    value = getattr(module, name)
    if inspect.isfunction(value) and value.__module__.startswith(room):
      yield name, value


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_function_has_a_row(room):
  tested = {row.name.split("[")[0] for row in ROWS}
  missing = [n for n, _ in _public_functions(room) if n not in tested]
  assert not missing, f"{room}: no contract row for {missing}"


@pytest.mark.parametrize("room", ROOMS)
def test_docstrings_are_complete(room):
  for name, fn in _public_functions(room):
    doc = inspect.getdoc(fn) or ""
    assert doc, f"{room}.{name} has no docstring"
    if room not in ("rlcore.stats", "rlcore.segments"):
      for word in ("Args:", "Returns:", "Reference:"):
        assert word in doc, f"{room}.{name}: the docstring has no {word}"
