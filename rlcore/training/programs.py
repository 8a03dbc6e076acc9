"""The compiled functions of a run: initialisation, chunks of updates, evaluation."""

from collections.abc import Callable, Iterable
import concurrent.futures

import jax
import jax.numpy as jnp
import numpy as np

from rlcore.training import compilation
from rlcore.types import Array, Experiment, Metrics, PyTree

Update = Callable[[PyTree], tuple[PyTree, Metrics]]
EVALUATE = "evaluate"


def strengthen(state: PyTree) -> PyTree:
  """Returns a state without weak types, so that the first chunk compiles for what it gives back."""
  is_key = lambda x: jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
  return jax.tree.map(lambda x: x if is_key(x) else jax.lax.convert_element_type(x, x.dtype), state)


def init_state(experiment: Experiment, key: Array) -> PyTree:
  """Initialises an experiment's state, jitted where it can be."""
  init = lambda key: strengthen(jax.tree.map(jnp.asarray, experiment.init(key)))
  return (jax.jit(init) if experiment.jittable else init)(key)


def chunk(update: Update, length: int) -> Callable[[PyTree, Array], tuple[PyTree, Metrics]]:
  """Turns an update into many.

  Args:
    update: `(state) -> (state, metrics)`.
    length: the most updates of one call; static.

  Returns:
    `(state, count) -> (state, metrics)`, `count <= length` updates with metrics stacked `[length]` (0 beyond
    `count`). The count is dynamic: one program serves every length, the last chunk of a run included.
  """
  update = jax.jit(update)  # traced once, although both `eval_shape` and the loop call it

  def run(state, count):
    shapes = jax.eval_shape(update, state)[1]
    stacked = jax.tree.map(lambda x: jnp.zeros((length, *x.shape), x.dtype), shapes)

    def body(i, carry):
      state, stacked = carry
      state, metrics = update(state)
      return state, jax.tree.map(lambda all_, one: all_.at[i].set(one), stacked, metrics)

    return jax.lax.fori_loop(0, count, body, (state, stacked))

  return run


class Programs:
  """An experiment's updates and evaluation, compiled while something else already runs.

  XLA leaves Python's lock alone, so on a machine with two cores the main updates compile during the warm-up.
  """

  def __init__(self, experiment: Experiment, length: int, state: PyTree):
    """Prepares chunks of at most `length` updates for states that look like `state`."""
    self._jittable = experiment.jittable
    self._updates = {"train": experiment.update}
    if experiment.warmup is not None:
      if experiment.warmup.name in (*self._updates, EVALUATE):
        raise ValueError(f'the warm-up cannot be called "{experiment.warmup.name}", as another program is')
      self._updates[experiment.warmup.name] = experiment.warmup.update
    self._evaluate = experiment.evaluate
    self._pending: dict[str, concurrent.futures.Future] = {}
    self._begun: set[str] = set()
    if not self._jittable:
      return
    # What comes out lies on the devices where it lay before, so that no chunk recompiles for another layout.
    spread = any(len(x.sharding.device_set) > 1 for x in jax.tree.leaves(state))
    shardings = (jax.tree.map(lambda x: x.sharding, state), None) if spread else None
    self._chunks = {name: jax.jit(chunk(update, length), donate_argnums=0, out_shardings=shardings)
                    for name, update in self._updates.items()}
    self._evaluate = jax.jit(experiment.evaluate)

  def compile_ahead(self, names: Iterable[str], state: PyTree, pool: concurrent.futures.Executor):
    """Starts compiling the named stages (or `EVALUATE`) in the order in which they will be needed."""
    for name in names if self._jittable else ():
      lowered = self._evaluate.lower(state) if name == EVALUATE else self._chunks[name].lower(state, 1)
      self._pending[name] = pool.submit(lowered.compile)  # a later call of the jitted function finds it compiled

  def evaluate(self, state: PyTree) -> dict[str, float]:
    """Returns the held-out metrics; arrays among them are for figures and left out."""
    self._wait(EVALUATE)
    return {name: float(x) for name, x in jax.device_get(self._evaluate(state)).items() if np.ndim(x) == 0}

  def advance(self, name: str, state: PyTree, count: int,
              begin: Callable[[], None] = lambda: None) -> tuple[PyTree, list[dict[str, np.ndarray]]]:
    """Does `count` updates of a stage.

    Args:
      name: "train", or the name of the warm-up.
      state: is consumed.
      count: how many, at most the length of a chunk.
      begin: called when compilation is over; host code compiles within its first update.

    Returns:
      The state and one dict of metrics an update.
    """
    self._wait(name)
    if self._jittable or name in self._begun:
      begin()
    self._begun.add(name)
    if self._jittable:
      state, stacked = self._chunks[name](state, count)
      stacked = jax.device_get(stacked)
      return state, [{key: x[i] for key, x in stacked.items()} for i in range(count)]
    rows = []
    for _ in range(count):
      state, metrics = self._updates[name](state)
      rows.append(jax.device_get(metrics))
      begin()
    return state, rows

  def _wait(self, name: str):
    if name in self._pending:
      with compilation.waiting():
        self._pending.pop(name).result()
