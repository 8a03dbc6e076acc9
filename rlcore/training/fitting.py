"""Fitting a model to a fixed set of data in one program: what precedes or stands beside the training of a policy."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from rlcore import stats
from rlcore.types import Array, PyTree


def fit(loss: Callable[..., Array], params: PyTree, data: PyTree, key: Array, *,
        optimizer: optax.GradientTransformation, steps: int, batch_size: int,
        scheduled: PyTree | None = None) -> tuple[PyTree, Array]:
  """Takes gradient steps on batches drawn with replacement.

  Args:
    loss: `(params, batch) -> []`, the batch being `[batch_size, ...]` of the data; with `scheduled` it takes a third
      argument.
    params: where it starts.
    data: pytree of `[N, ...]`.
    key: PRNG key of the batches.
    optimizer: optax transformation.
    steps: gradient steps.
    batch_size: entries of a batch.
    scheduled: pytree of `[steps, ...]`, what changes from step to step, a weight of the loss say; the loss gets the
      entry of its step.

  Returns:
    `(params, losses [steps])`, each loss that of its batch before the step.
  """
  data = jax.tree.map(jnp.asarray, data)
  size = jax.tree.leaves(data)[0].shape[0]

  def step(carry, inputs):
    (params, opt_state), (key, *present) = carry, inputs
    index = jax.random.randint(key, (batch_size,), 0, size)
    value, gradient = jax.value_and_grad(loss)(params, jax.tree.map(lambda x: x[index], data), *present)
    updates, opt_state = optimizer.update(gradient, opt_state, params)
    return (optax.apply_updates(params, updates), opt_state), value

  inputs = (jax.random.split(key, steps),) + (() if scheduled is None else (scheduled,))
  (params, _), losses = jax.lax.scan(step, (params, optimizer.init(params)), inputs)
  return params, jnp.asarray(losses, jnp.float32)


def fit_epochs(losses: Callable[[PyTree, PyTree], Array], params: PyTree, data: PyTree, mask: Array, key: Array, *,
               optimizer: optax.GradientTransformation, batch_size: int, epochs: int, held_out: float = 0.2,
               patience: int = 4) -> tuple[PyTree, Array]:
  """Goes through data whose number is traced epoch by epoch, and stops early.

  A random share is held out. The fit ends when the mean loss there has risen `patience` times in a row, with the
  parameters of that moment. Costs are those of the entries that count, however long the buffers are.

  Args:
    losses: `(params, batch) -> [batch_size]`, the loss of each entry.
    params: where it starts.
    data: pytree of `[N, ...]`.
    mask: `[N]`, > 0 where an entry counts; with none the parameters stay.
    key: PRNG key of the split and the batches.
    optimizer: optax transformation.
    batch_size: entries of a batch; the last one of an epoch may have fewer.
    epochs: static, the most.
    held_out: share of the entries that are only looked at.
    patience: static, how many rises in a row end the fit.

  Returns:
    `(params, number of epochs int32[])`.
  """
  data, mask = jax.tree.map(jnp.asarray, data), jnp.asarray(mask) > 0
  split_key, key = jax.random.split(key)
  chance = jax.random.uniform(split_key, mask.shape)
  count = jnp.sum(mask)
  seen = jnp.ceil((1 - held_out) * count - 1e-3).astype(jnp.int32)
  order = jnp.argsort(jnp.where(mask, chance, 2))  # first those that are learned from, then those held out
  width = -(-mask.size // batch_size) * batch_size  # places of an epoch, so that every batch has all of its own
  place = jnp.arange(width)

  def batch(order, i, end):
    start = i * batch_size
    counts = start + jnp.arange(batch_size) < end
    # The places left over hold an entry that counts: what lies in the others could be junk with a gradient of NaN.
    index = jnp.where(counts, jax.lax.dynamic_slice_in_dim(order, start, batch_size), order[0])
    return jax.tree.map(lambda x: x[index], data), counts

  def descend(carry, order):
    def step(i, carry):
      params, opt_state = carry
      entries, counts = batch(order, i, seen)
      gradient = jax.grad(lambda params: stats.masked_mean(losses(params, entries), counts))(params)
      updates, opt_state = optimizer.update(gradient, opt_state, params)
      return optax.apply_updates(params, updates), opt_state

    return jax.lax.fori_loop(0, -(-seen // batch_size), step, carry)

  def look(params):
    others = jnp.pad(jnp.roll(order, -seen), (0, width - mask.size))

    def add(i, total):
      entries, counts = batch(others, i, count - seen)
      return total + stats.masked_sum(losses(params, entries), counts)

    return jax.lax.fori_loop(0, -(-(count - seen) // batch_size), add, jnp.float32(0)) / jnp.maximum(count - seen, 1)

  def epoch(carry):
    inner, last, rises, done = carry
    chance = jax.random.uniform(jax.random.fold_in(key, done), (width,))
    shuffled = jnp.argsort(jnp.where(place < seen, chance, 2 + place))
    inner = descend(inner, jnp.pad(order, (0, width - mask.size))[shuffled])
    loss = look(inner[0])
    return inner, loss, jnp.where(loss > last, rises + 1, 0), done + 1

  going = lambda carry: (carry[3] < epochs) & (carry[2] < patience) & (count > 0)
  start = (params, optimizer.init(params)), jnp.float32(jnp.inf), jnp.int32(0), jnp.int32(0)
  (params, _), _, _, done = jax.lax.while_loop(going, epoch, start)
  return params, done
