"""What a run carries from update to update, and the one way in which its parameters move."""

from collections.abc import Callable
import math
from typing import NamedTuple

from flax import struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from rlcore.reward_models import learner
from rlcore.types import Array, Metrics, PyTree


@struct.dataclass
class TrainState:
  """Everything that a resumed run needs.

  Attributes:
    step: int32 scalar, updates done, those of the warm-up included; with `key` it is the position in the data.
    key: PRNG key of the next update.
    params: parameters of the policy.
    opt_state: state of the optimiser.
    reward_state: state of the reward transform.
    warmup_opt_state: state of the warm-up's optimiser, or None.
    ref_params: parameters of the frozen reference policy, or None.
    skipped: int32 scalar, updates that were skipped because something was not finite.
  """

  step: Array
  key: Array
  params: PyTree
  opt_state: PyTree
  reward_state: PyTree = ()
  warmup_opt_state: PyTree | None = None
  ref_params: PyTree | None = None
  skipped: Array = struct.field(default_factory=lambda: jnp.zeros((), jnp.int32))


class Gradient(NamedTuple):
  """A loss with its gradient: `loss` float32 scalar, `grads` a pytree like the parameters, `metrics` of scalars."""

  loss: Array
  grads: PyTree
  metrics: Metrics


def make_optimizer(
    learning_rate: float | Array,
    *,
    b1: float = 0.9,
    b2: float = 0.99,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    max_grad_norm: float | None = 1.0,
    warmup_steps: int = 0,
    decay_steps: int | None = None,
) -> optax.GradientTransformation:
  """Builds global-norm clipping followed by AdamW under a schedule.

  Args:
    learning_rate: peak learning rate; may be a tracer, so that a sweep over it is one `vmap`.
    b1: decay of the first moment.
    b2: decay of the second moment.
    eps: added to the root of the second moment.
    weight_decay: decoupled decay; 0 gives Adam.
    max_grad_norm: global norm to clip to, None for no clipping.
    warmup_steps: updates of linear warm-up from 0.
    decay_steps: updates after which a cosine has brought the rate to 0 (None: constant after the warm-up).

  Returns:
    The optax transformation.

  Raises:
    ValueError: if the learning rate is no number, or a known one is negative or NaN.
  """
  if not isinstance(learning_rate, (int, float, np.generic, np.ndarray, jax.Array)):
    raise ValueError(f"{learning_rate=} is no number")
  if not isinstance(learning_rate, jax.Array) and not np.all(np.asarray(learning_rate) >= 0):
    raise ValueError(f"{learning_rate=} must not be negative")

  def schedule(count):
    rise = jnp.minimum(1.0, (count + 1) / (warmup_steps + 1))
    if decay_steps is None:
      return learning_rate * rise
    progress = jnp.clip((count - warmup_steps) / max(decay_steps - warmup_steps, 1), 0.0, 1.0)
    return learning_rate * rise * 0.5 * (1 + jnp.cos(jnp.pi * progress))

  clip = [] if max_grad_norm is None else [optax.clip_by_global_norm(max_grad_norm)]
  return optax.chain(  # AdamW, with a last part that remembers the rate
      *clip, optax.scale_by_adam(b1=b1, b2=b2, eps=eps), optax.add_decayed_weights(weight_decay), _follow(schedule))


class RateState(NamedTuple):
  """State of the learning rate.

  Attributes:
    learning_rate: of the last update, 0 before the first; logged from here.
    schedule: of `optax.scale_by_schedule`.
  """

  learning_rate: Array
  schedule: optax.ScaleByScheduleState


def _follow(schedule: Callable[[Array], Array]) -> optax.GradientTransformation:
  """Scales by minus a scheduled learning rate, as `optax.scale_by_learning_rate`, and keeps the rate in its state."""
  scale = optax.scale_by_learning_rate(schedule)

  def update(updates, state, params=None):
    rate = jnp.asarray(schedule(state.schedule.count), jnp.float32)
    updates, inner = scale.update(updates, state.schedule, params)
    return updates, RateState(rate, inner)

  # A constant: what `init` gives does not depend on the rate, which may be a tracer of a sweep.
  return optax.GradientTransformation(lambda params: RateState(jnp.zeros((), jnp.float32), scale.init(params)), update)


def learning_rates(state: PyTree) -> dict[str, float]:
  """Finds the learning rates that optimisers keep in a state: ours, and `optax.inject_hyperparams`.

  Args:
    state: of an experiment, on the host or not.

  Returns:
    By name: `optimizer/learning_rate` where there is one, `optimizer/KEYS/learning_rate` with its place in the state
    where there are several.
  """
  name = lambda key: str(getattr(key, "name", getattr(key, "key", "")))
  found = {}
  for path, leaf in jax.tree_util.tree_flatten_with_path(state)[0]:
    if path and name(path[-1]) == "learning_rate" and getattr(leaf, "size", 0) == 1:
      place = ".".join(filter(None, map(name, path[:-1])))
      found[f"{place}.{len(found)}" if place in found else place] = float(np.asarray(leaf).reshape(()))
  if len(found) == 1:
    return {"optimizer/learning_rate": value for value in found.values()}
  return {f"optimizer/{place}/learning_rate": value for place, value in found.items()}


def accumulate(
    loss_fn: Callable[[PyTree, PyTree], tuple[Array, Metrics]],
    weight_fn: Callable[[PyTree], Array],
    params: PyTree,
    batch: PyTree,
    *,
    microbatches: int = 1,
    axis_name: str | None = None,
) -> Gradient:
  """Differentiates a loss over a batch, in pieces and over devices, as if it had been done in one go.

  A loss that is a weighted mean over its batch (a token mean, say) is not the mean of the means of its pieces. Each
  piece counts with `weight_fn(piece)`, the denominator of its mean, which makes the sum exact.

  Args:
    loss_fn: `(params, piece) -> (scalar, metrics)`.
    weight_fn: `(piece) -> float32 scalar`, denominator of the piece's mean (`losses.aggregation_weight`).
    params: parameters to differentiate with respect to.
    batch: pytree of `[N, ...]`.
    microbatches: number of pieces, a divisor of N; they are run one after the other by `lax.scan`.
    axis_name: mapped axis over which the batch is spread, or None.

  Returns:
    `Gradient`; metrics are weighted like the loss, but those called `..._max` are the largest of the pieces that have
    weight (0 where none has).

  Raises:
    ValueError: if `microbatches` does not divide N.
  """
  size = jax.tree.leaves(batch)[0].shape[0]
  if size % microbatches:
    raise ValueError(f"microbatches={microbatches} does not divide the {size} entries of a batch")

  def piece(part):
    weight = jnp.asarray(weight_fn(part), jnp.float32)
    if axis_name is None:
      (loss, metrics), grads = jax.value_and_grad(loss_fn, has_aux=True)(params, part)
      grads = jax.tree.map(lambda x: x * weight, grads)
    else:  # the weight goes before the derivative, which may sum over the devices already
      def weighted(params):
        loss, metrics = loss_fn(params, part)
        return loss * weight, (loss, metrics)
      grads, (loss, metrics) = jax.grad(weighted, has_aux=True)(params)
    largest = {name: jnp.where(weight > 0, x, -jnp.inf) for name, x in metrics.items() if is_max(name)}
    means = {name: x for name, x in metrics.items() if name not in largest}
    loss, means = jax.tree.map(lambda x: x * weight, (loss, means))
    return Gradient(loss, grads, means), weight, largest

  def add(carry, part):
    *sums, largest = piece(part)
    return (*jax.tree.map(jnp.add, carry[:2], tuple(sums)), jax.tree.map(jnp.maximum, carry[2], largest)), None

  if microbatches == 1:
    total, weight, largest = piece(batch)
  else:
    parts = jax.tree.map(lambda x: x.reshape(microbatches, size // microbatches, *x.shape[1:]), batch)
    *sums, largest = jax.eval_shape(piece, jax.tree.map(lambda x: x[0], parts))
    full = lambda like, value: jax.tree.map(lambda x: jnp.full(x.shape, value, x.dtype), like)
    (total, weight, largest), _ = jax.lax.scan(add, (*full(tuple(sums), 0), full(largest, -jnp.inf)), parts)
  if axis_name is not None:
    total, weight = jax.lax.psum((total, weight), axis_name)
    copies = learner.gradient_copies(axis_name)
    total = total._replace(grads=jax.tree.map(lambda x: x / copies.astype(x.dtype), total.grads))
    largest = jax.lax.pmax(largest, axis_name)
  loss, grads, means = jax.tree.map(lambda x: x / jnp.where(weight > 0, weight, 1.0), total)
  return Gradient(loss, grads, means | {name: jnp.where(weight > 0, x, 0.0) for name, x in largest.items()})


def is_max(name: str) -> bool:
  """Tells whether a metric is a maximum, by its name: pieces, devices and steps then combine by their largest."""
  return name.endswith("_max")


def move(optimizer: optax.GradientTransformation, params: PyTree, opt_state: PyTree,
         gradient: Gradient) -> tuple[PyTree, PyTree, Metrics]:
  """Moves the parameters, finite or not; the caller decides what becomes of them.

  Where many steps follow each other it is cheaper to undo them all at the end than to be ready to undo each, which
  takes a copy of parameters and optimiser in each.

  Args:
    optimizer: optax transformation.
    params: parameters.
    opt_state: optimiser state.
    gradient: from `accumulate`.

  Returns:
    `(params, opt_state, metrics)` as in `apply_gradient`; `applied` is whether loss and gradient are finite.
  """
  grad_norm = optax.global_norm(gradient.grads)
  good_loss, good_grad = jnp.isfinite(gradient.loss), jnp.isfinite(grad_norm)
  updates, opt_state = optimizer.update(gradient.grads, opt_state, params)
  metrics = gradient.metrics | {"loss": gradient.loss, "grad_norm": grad_norm}
  metrics = {name: jnp.where(jnp.isfinite(x), x, 0.0) for name, x in metrics.items()}
  flags = {"nonfinite_loss": ~good_loss, "nonfinite_grad": ~good_grad, "applied": good_loss & good_grad}
  metrics |= {name: x.astype(jnp.float32) for name, x in flags.items()}
  return optax.apply_updates(params, updates), opt_state, metrics


def apply_gradient(
    optimizer: optax.GradientTransformation,
    params: PyTree,
    opt_state: PyTree,
    gradient: Gradient,
    *,
    allowed: Array | bool = True,
) -> tuple[PyTree, PyTree, Metrics]:
  """Moves the parameters, or leaves everything as it is where the loss or the gradient is not finite.

  Args:
    optimizer: optax transformation.
    params: parameters.
    opt_state: optimiser state.
    gradient: from `accumulate`.
    allowed: bool scalar, False also skips the update (a reward was not finite, say).

  Returns:
    `(params, opt_state, metrics)`, the metrics being `loss`, `grad_norm`, `nonfinite_loss`, `nonfinite_grad` and
    `applied` beside those of the gradient; non-finite numbers are reported as 0 where they were skipped.
  """
  *moved, metrics = move(optimizer, params, opt_state, gradient)
  applied = (metrics["applied"] > 0) & allowed
  params, opt_state = select(applied, tuple(moved), (params, opt_state))
  return params, opt_state, metrics | {"applied": applied.astype(jnp.float32)}


def minibatch_steps(
    step: Callable[[PyTree, PyTree], tuple[PyTree, Metrics]],
    carry: PyTree,
    batch: PyTree,
    key: Array,
    *,
    epochs: int = 1,
    minibatches: int = 1,
) -> tuple[PyTree, Metrics]:
  """Goes over a batch several times, in another order each time, one gradient step a minibatch.

  Args:
    step: `(carry, minibatch) -> (carry, metrics)`.
    carry: parameters and optimiser state, or what else `step` moves.
    batch: pytree of `[N, ...]`.
    key: PRNG key of the orders.
    epochs: passes.
    minibatches: steps a pass; a divisor of N.

  Returns:
    The carry, and the metrics of every step, stacked `[epochs * minibatches]`. One step in all sees the batch as it is.
  """
  size = jax.tree.leaves(batch)[0].shape[0]
  if size % minibatches:
    raise ValueError(f"minibatches={minibatches} does not divide the {size} entries of a batch")
  if minibatches == 1:  # the order inside a full batch means nothing
    return jax.lax.scan(lambda carry, _: step(carry, batch), carry, length=epochs) if epochs > 1 else _stack_one(
        step(carry, batch))
  order = _shuffled(key, epochs, size)
  pick = lambda index: jax.tree.map(lambda x: x[index], batch)
  order = order.reshape(epochs * minibatches, size // minibatches)
  return jax.lax.scan(lambda carry, index: step(carry, pick(index)), carry, order)


def _shuffled(key: Array, count: int, size: int) -> Array:
  """Draws `count` orders of `size` entries, int32.

  An order sorts numbers that are drawn, and with them the entries. Up to 2**16 entries, number and entry share one
  word, the number above: sorting words takes a CPU a tenth of the time of sorting pairs. Numbers that are equal, which
  of 2**13 entries one in 64 has company in, leave their entries in order.
  """
  width = max(size - 1, 1).bit_length()
  if width > 16:
    return jax.vmap(lambda key: jax.random.permutation(key, size))(jax.random.split(key, count))
  drawn = jax.random.bits(key, (count, size), jnp.uint32) >> width << width
  words = jnp.sort(drawn | jnp.arange(size, dtype=jnp.uint32), axis=-1)
  return (words & jnp.uint32((1 << width) - 1)).astype(jnp.int32)


def _stack_one(result: tuple[PyTree, Metrics]) -> tuple[PyTree, Metrics]:
  return result[0], jax.tree.map(lambda x: x[None], result[1])


def summarise_steps(metrics: Metrics) -> tuple[Metrics, Array]:
  """Reduces the metrics of several `apply_gradient` to those of an update.

  Args:
    metrics: stacked `[steps]`.

  Returns:
    `(metrics, applied)`: means, the largest of those called `..._max` and of the flags `nonfinite_...`; and whether
    every step was applied.
  """
  metrics = dict(metrics)
  flags = {name: jnp.max(metrics.pop(name)) for name in ("nonfinite_loss", "nonfinite_grad")}
  applied = jnp.min(metrics.pop("applied")) > 0
  over_steps = lambda name, x: jnp.max(x) if is_max(name) else jnp.mean(x)
  return {name: over_steps(name, x) for name, x in metrics.items()} | flags, applied


def all_finite(tree: PyTree) -> Array:
  """Tells whether every floating-point number of a pytree is finite; True where there is none."""
  leaves = [jnp.asarray(x) for x in jax.tree.leaves(tree) if jnp.issubdtype(jnp.result_type(x), jnp.floating)]
  return jnp.all(jnp.stack([jnp.all(jnp.isfinite(x)) for x in leaves])) if leaves else jnp.ones((), bool)


def still_sound(after: PyTree, before: PyTree) -> Array:
  """Tells whether a state has no NaN, and nothing infinite that was finite (extremes start at infinity)."""
  kept = lambda new, old: jnp.all(jnp.isfinite(new) | (jnp.isinf(new) & ~jnp.isfinite(old)))
  pairs = zip(jax.tree.leaves(after), jax.tree.leaves(before), strict=True)
  flags = [kept(new, old) for new, old in pairs if jnp.issubdtype(jnp.result_type(new), jnp.floating)]
  return jnp.all(jnp.stack(flags)) if flags else jnp.ones((), bool)


def check_credit(
    raw: PyTree | Array, shaped: PyTree, credit: PyTree, reward_state: PyTree, before: PyTree, *,
    axis_name: str | None = None) -> tuple[Array, Metrics]:
  """Tells whether an update may move anything: one number that is not finite, and no state of it may be kept.

  Args:
    raw: the rewards as they were given, or a bool scalar that says whether they are finite.
    shaped: the rewards after the transform; junk in masked places taken out.
    credit: advantages, and what else is made of the rewards.
    reward_state: of the transform, after it.
    before: of the transform, before it.
    axis_name: mapped axis of the devices, which all must agree.

  Returns:
    `(good, flags)`: a bool scalar, and 1 or 0 for each of `nonfinite_reward` (given or transformed),
    `nonfinite_shaped_reward` (given finite, and transformed not), `nonfinite_advantage` and `nonfinite_reward_state`.
  """
  given = raw if isinstance(raw, jax.Array) and raw.dtype == bool else all_finite(raw)
  good = jnp.stack([given, all_finite(shaped), all_finite(credit), still_sound(reward_state, before)])
  if axis_name is not None:
    good = jax.lax.pmin(good.astype(jnp.int32), axis_name) > 0
  given, paid, credited, kept = good
  flags = {"nonfinite_reward": ~(given & paid), "nonfinite_shaped_reward": given & ~paid,
           "nonfinite_advantage": ~credited, "nonfinite_reward_state": ~kept}
  return jnp.all(good), {name: x.astype(jnp.float32) for name, x in flags.items()}


def select(flag: Array, on_true: PyTree, on_false: PyTree) -> PyTree:
  """Chooses between two pytrees of the same structure by a bool scalar."""
  return jax.tree.map(lambda x, y: jnp.where(flag, x, y), on_true, on_false)


def count_params(params: PyTree) -> int:
  """Counts the parameters (shapes suffice)."""
  return sum(math.prod(x.shape) for x in jax.tree.leaves(params))
