"""Over what a policy loss averages: stated in one place, and read there by all that must agree with it.

The weights of microbatches and devices, the entropy and the value loss are averaged as the policy loss is. What the
loss binds (`functools.partial(losses.clip_policy_loss, aggregation="sequence")`) or what the parts of a learner say is
the statement; two that differ are refused.
"""

from collections.abc import Callable, Mapping
import functools
import inspect
from typing import Any
import warnings

from rlcore.training import describe
from rlcore.types import PolicyLoss

NAMES = {"aggregation": "mode", "length": "length", "count_empty": "count_empty"}  # of a loss: of `losses.aggregate`


def settle(policy_loss: PolicyLoss, stated: Mapping[str, Any] | None, *, microbatches: int = 1,
           axis_name: str | None = None) -> tuple[PolicyLoss, dict[str, Any]]:
  """Brings a policy loss and the settings of its average together.

  Args:
    policy_loss: the loss; what it binds is read, and what it takes and does not bind is bound.
    stated: settings of `losses.aggregate`, or None. A loss without such arguments is believed to average so.
    microbatches: pieces whose gradients are added up.
    axis_name: device axis over which gradients are added up.

  Returns:
    `(loss, settings)`: the loss with all settings that it takes, and the settings for `losses.aggregate` and
    `losses.aggregation_weight`; "token" is the mode where nobody says otherwise.

  Raises:
    ValueError: if both state a setting and differ, for an unknown setting, or where the pieces of a batch must be
      weighed and neither says how.
  """
  given = dict(stated or {})
  unknown = given.keys() - set(NAMES.values())
  if unknown:
    raise ValueError(f"aggregation={given} has {sorted(unknown)[0]!r}, which is none of {', '.join(NAMES.values())}")
  function, bound = describe.unwrap(policy_loss)
  name, taken, defaults = describe.name_of(policy_loss), *_parameters(function)
  own = {NAMES[key]: value for key, value in bound.items() if key in NAMES}
  for key in given.keys() & own.keys():
    if not _same(given[key], own[key]):
      raise ValueError(f"aggregation={given} disagrees with the {key}={own[key]!r} that the policy loss {name} binds: "
                       "state it in one place")
  if not taken and stated is None:
    _demand(name, microbatches, axis_name)
  settings = {"mode": "token"} | defaults | given | own
  arguments = {key: settings[NAMES[key]] for key in taken if NAMES[key] in settings}
  return functools.partial(policy_loss, **arguments), settings


def loss_arguments(settings: Mapping[str, Any]) -> dict[str, Any]:
  """Names settings of `losses.aggregate` as the losses do."""
  return {name: settings[mode] for name, mode in NAMES.items() if mode in settings}


def _parameters(function: Callable) -> tuple[list[str], dict[str, Any]]:
  """Lists the settings of an average that a function takes, and its own defaults of them."""
  try:
    parameters = inspect.signature(function).parameters
  except ValueError:  # a built-in that does not tell
    return [], {}
  if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
    return list(NAMES), {}
  taken = [name for name in NAMES if name in parameters]
  return taken, {NAMES[name]: parameters[name].default for name in taken
                 if parameters[name].default is not inspect.Parameter.empty}


def _same(a: Any, b: Any) -> bool:
  return a is b or (isinstance(a, (str, int, float)) and isinstance(b, (str, int, float)) and a == b)


def _demand(name: str, microbatches: int, axis_name: str | None):
  """Asks for the aggregation where pieces of a batch are weighed by it and a loss cannot be asked."""
  if microbatches > 1:
    raise ValueError(f"the policy loss {name} does not say over what it averages, so microbatches={microbatches} "
                     'cannot be weighed: state aggregation={"mode": "token"}, "sequence" or "constant"')
  if axis_name is not None:
    warnings.warn(f"the policy loss {name} does not say over what it averages: devices are weighed by their tokens "
                  "(state it by aggregation=)", stacklevel=2)
