"""A judge inside a jitted program: the facts go out to the host, all of a batch at once, and the scores come back.

What runs on the host is NumPy and the judge: JAX's own functions would wait there for the program that waits for them.
"""

from collections.abc import Callable, Iterator, Sequence
import contextlib
import logging

import chex
import jax
import jax.numpy as jnp
import numpy as np

from rlcore.assistants.judges import Judge, Judgement, Request, total_score
from rlcore.types import Array, PyTree

_FAILURES: list[Exception] = []
_JAX_LOG = logging.getLogger("jax._src.callback")  # tells every failure on the host with its traceback


def traced_judge(
    judge: Judge,
    ask: Callable[[PyTree], Request | Sequence[Request]],
    neutral: PyTree = 0.0,
    settle: Callable[[Sequence[Judgement], PyTree], PyTree | None] = total_score,
) -> Callable[..., PyTree]:
  """Puts a judge into a jitted program.

  Under `vmap` the whole batch goes to the host at once, however many axes it has, and all of its requests to the judge
  in ONE call, so that it asks as many at a time as it may. The function counts as pure: what the program does not use
  may not be asked, and the judge should say the same of the same facts.

  Args:
    judge: see `assistants.Judge`.
    ask: `(facts) -> Request`, or several, about ONE unit, whose facts are NumPy arrays. It must call nothing of JAX.
    neutral: pytree of numbers or arrays, what stands for a unit that is not asked about, or about which `ask` has no
      request; it says shapes and dtypes too.
    settle: `(judgements, facts) -> pytree like neutral` of one unit, of NumPy arrays too; None takes `neutral`.

  Returns:
    `(facts, mask=1) -> pytree like neutral` of ONE unit, to be batched with `vmap`: `facts` is a pytree of arrays, of
    which none may be a PRNG key, and a unit whose scalar `mask` is 0 is not asked about. No gradient flows. What the
    judge raises, `own_errors` brings to the caller of the program.
  """
  neutral = jax.tree.map(lambda x: np.asarray(x, jax.dtypes.canonicalize_dtype(np.result_type(x))), neutral)

  def on_host(facts, mask):
    try:
      return _judged(judge, ask, neutral, settle, jax.tree.map(np.asarray, facts), np.asarray(mask) > 0)
    except Exception as error:
      _FAILURES.append(error)
      raise

  def traced(facts: PyTree, mask: Array = 1) -> PyTree:
    facts, mask = jax.lax.stop_gradient(jax.tree.map(jnp.asarray, (facts, mask)))
    chex.assert_rank(mask, 0)
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), neutral)
    return jax.pure_callback(on_host, shapes, facts, mask, vmap_method="broadcast_all")

  return traced


def _judged(judge, ask, neutral, settle, facts, wanted):
  """Judges a batch: all arrays of `facts` begin with the axes of `wanted`."""
  flat = jax.tree.map(lambda x: x.reshape(wanted.size, *x.shape[wanted.ndim:]), facts)
  out = jax.tree.map(lambda x: np.repeat(x[None], wanted.size, 0), neutral)
  units = {i: jax.tree.map(lambda x: x[i], flat) for i in np.flatnonzero(wanted).tolist()}
  requests = {i: _listed(ask(unit)) for i, unit in units.items()}
  every = [request for of_unit in requests.values() for request in of_unit]
  judgements = judge(every) if every else []
  if len(judgements) != len(every):
    raise ValueError(f"the judge was asked {len(every)} questions and gave {len(judgements)} judgements")
  answers = iter(judgements)
  for i, of_unit in requests.items():
    said = settle([next(answers) for _ in of_unit], units[i]) if of_unit else None
    if said is not None:
      jax.tree.map(lambda all_, one: all_.__setitem__(i, one), out, said)
  return jax.tree.map(lambda x: x.reshape((*wanted.shape, *x.shape[1:])), out)


def _listed(requests: Request | Sequence[Request]) -> list[Request]:
  return [requests] if isinstance(requests, Request) else list(requests)


def _is_report(error: Exception, failure: Exception) -> bool:
  """Tells whether JAX raised one error for the other: a JaxRuntimeError, or a ValueError if a result is read late."""
  return error is not failure and (isinstance(error, jax.errors.JaxRuntimeError) or str(failure) in str(error))


@contextlib.contextmanager
def own_errors() -> Iterator[None]:
  """Lets a `with` block fail by what a traced judge raised, in place of the long report that JAX makes of it.

  The block must wait for its programs (it reads their results, say).
  """
  known = len(_FAILURES)
  untold = lambda record: not (record.exc_info and any(record.exc_info[1] is x for x in _FAILURES[known:]))
  _JAX_LOG.addFilter(untold)
  try:
    yield
  except Exception as error:
    if len(_FAILURES) > known and _is_report(error, _FAILURES[known]):
      raise _FAILURES[known] from None
    raise
  finally:
    _JAX_LOG.removeFilter(untold)
    del _FAILURES[known:]
