"""Data parallelism: by `jit` over a mesh, or by `pmap`; the numbers are those of one device."""

from collections.abc import Callable
import warnings

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
import numpy as np

from rlcore.types import Experiment, PyTree

DATA = "data"


def make_mesh(devices: int | None = None) -> Mesh:
  """Lays the devices out along one axis called "data".

  Args:
    devices: how many to use, None for all.

  Returns:
    The mesh.

  Raises:
    ValueError: if there are fewer devices.
  """
  available = jax.devices()
  count = len(available) if devices is None else devices
  if count > len(available):
    raise ValueError(f"{count} devices asked for, but only {len(available)} are here")
  return Mesh(np.array(available[:count]), (DATA,))


def constrain_to(mesh: Mesh) -> Callable[[PyTree], PyTree]:
  """Spreads axis 0 of every array over the mesh; parameters stay replicated.

  As `constrain` of `LanguageParts`, `ControlParts`, `OnPolicyParts` or `OffPolicyParts`: the compiler then splits
  sampling, scoring and differentiation by prompts, groups or worlds and sums the gradients.
  """
  sharding = NamedSharding(mesh, PartitionSpec(DATA))

  def spread(x):
    if x.shape[0] % mesh.size:  # the compiler would leave it whole on every device, without a word
      warnings.warn(
          f"{x.shape[0]} prompts, groups or worlds cannot be spread over {mesh.size} devices: each handles all of them")
    return jax.lax.with_sharding_constraint(x, sharding)

  return lambda tree: jax.tree.map(spread, tree)


def own_share(tree: PyTree, axis_name: str | None, what: str = "entries") -> PyTree:
  """Picks this device's part of what every device holds, so that the numbers do not depend on how many there are.

  Args:
    tree: pytree of `[N, ...]`, the same on all devices.
    axis_name: mapped axis of the devices; None returns all.
    what: what the error calls the N.

  Returns:
    Pytree of `[N / devices, ...]`.

  Raises:
    ValueError: if the devices do not divide N.
  """
  if axis_name is None:
    return tree
  size, devices = jax.tree.leaves(tree)[0].shape[0], jax.lax.axis_size(axis_name)
  if size % devices:
    raise ValueError(f"{size} {what} cannot be spread over {devices} devices")
  share = size // devices
  start = jax.lax.axis_index(axis_name) * share
  return jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, start, share), tree)


def gather(tree: PyTree, axis_name: str | None) -> PyTree:
  """Joins the shares `[N / devices, ...]` of all devices to `[N, ...]`, the inverse of `own_share`."""
  join = lambda x: jax.lax.all_gather(x, axis_name, tiled=True)
  return tree if axis_name is None else jax.tree.map(join, tree)


def mesh_experiment(experiment: Experiment, mesh: Mesh) -> Experiment:
  """Starts an experiment with its state on every device of a mesh, so that no program compiles twice.

  Args:
    experiment: made of parts with `constrain=constrain_to(mesh)`.
    mesh: the mesh.

  Returns:
    The experiment.
  """
  everywhere = NamedSharding(mesh, PartitionSpec())
  return experiment._replace(init=lambda key: jax.device_put(experiment.init(key), everywhere))


def pmap_experiment(experiment: Experiment, *, axis_name: str = DATA, devices: int | None = None) -> Experiment:
  """Runs an experiment's updates under `pmap`, one share of the prompts or groups on each device.

  The experiment must have been made of parts with the same `axis_name`. States go in and come out
  without a device axis, so the host loop, its checkpoints and the evaluation need not know.

  Args:
    experiment: the experiment.
    axis_name: name of the device axis.
    devices: how many devices to use, None for all.

  Returns:
    An experiment with the same functions, no longer to be jitted as a whole.
  """
  mesh = make_mesh(devices)
  chosen = mesh.devices.tolist()
  # One copy a device goes in; every device computes the same new state, so the first one's is the state.
  lay_out = lambda x: jax.device_put(jnp.broadcast_to(x, (len(chosen), *x.shape)),
                                     NamedSharding(mesh, PartitionSpec(DATA)))
  take = lambda x: jax.device_put(x[0], chosen[0])

  def spread(update):
    mapped = jax.pmap(update, axis_name, devices=chosen)
    return lambda state: jax.tree.map(take, mapped(jax.tree.map(lay_out, state)))

  warmup = experiment.warmup and experiment.warmup._replace(update=spread(experiment.warmup.update))
  return experiment._replace(update=spread(experiment.update), warmup=warmup, jittable=False)
