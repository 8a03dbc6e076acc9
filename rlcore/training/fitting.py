"""Fitting a model to a fixed set of data in one scan: what precedes or stands beside the training of a policy."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from rlcore.types import Array, PyTree


def fit(loss: Callable[[PyTree, PyTree], Array], params: PyTree, data: PyTree, key: Array, *,
        optimizer: optax.GradientTransformation, steps: int, batch_size: int) -> tuple[PyTree, Array]:
  """Takes gradient steps on batches drawn with replacement.

  Args:
    loss: `(params, batch) -> []`, the batch being `[batch_size, ...]` of the data.
    params: where it starts.
    data: pytree of `[N, ...]`.
    key: PRNG key of the batches.
    optimizer: optax transformation.
    steps: gradient steps.
    batch_size: entries of a batch.

  Returns:
    `(params, losses [steps])`, each loss that of its batch before the step.
  """
  data = jax.tree.map(jnp.asarray, data)
  size = jax.tree.leaves(data)[0].shape[0]

  def step(carry, key):
    params, opt_state = carry
    index = jax.random.randint(key, (batch_size,), 0, size)
    value, gradient = jax.value_and_grad(loss)(params, jax.tree.map(lambda x: x[index], data))
    updates, opt_state = optimizer.update(gradient, opt_state, params)
    return (optax.apply_updates(params, updates), opt_state), value

  (params, _), losses = jax.lax.scan(step, (params, optimizer.init(params)), jax.random.split(key, steps))
  return params, jnp.asarray(losses, jnp.float32)
