"""Shares of devices: each gets its own slice, and together they are the whole."""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlcore.training import mesh

TREE = {"x": np.arange(48, dtype=np.float32).reshape(16, 3), "flag": np.arange(16) % 3 == 0}


def on_devices(fn, tree=TREE):
  """Applies `fn` to the same tree on each of eight devices."""
  return jax.pmap(lambda _: fn(jax.tree.map(jnp.asarray, tree)), "d")(np.arange(8))


def test_a_share_is_the_devices_own_slice():
  shares = on_devices(functools.partial(mesh.own_share, axis_name="d"))
  for device in range(8):
    own = slice(2 * device, 2 * device + 2)
    jax.tree.map(lambda got, whole, i=device, own=own: np.testing.assert_array_equal(got[i], whole[own]), shares, TREE)
  assert mesh.own_share(TREE, None) is TREE


def test_shares_are_joined_in_order_on_every_device():
  joined = on_devices(lambda tree: mesh.gather(mesh.own_share(tree, "d"), "d"))
  for device in range(8):
    jax.tree.map(lambda got, whole, i=device: np.testing.assert_array_equal(got[i], whole), joined, TREE)
  assert joined["flag"].dtype == bool and mesh.gather(TREE, None) is TREE


def test_what_the_devices_do_not_divide_is_named():
  with pytest.raises(ValueError, match="12 groups cannot be spread over 8 devices"):
    on_devices(functools.partial(mesh.own_share, axis_name="d", what="groups"), np.zeros((12, 2)))
  with pytest.raises(ValueError, match="9 devices asked for, but only 8 are here"):
    mesh.make_mesh(9)


def test_what_a_mesh_does_not_divide_is_told():
  spread = jax.jit(mesh.constrain_to(mesh.make_mesh()))
  with pytest.warns(UserWarning, match="12 prompts, groups or worlds cannot be spread over 8 devices"):
    jax.block_until_ready(spread(jnp.zeros((12, 2))))
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    assert len(spread(jnp.zeros((16, 2))).addressable_shards[0].data) == 2
