"""What a language learner knows of its responses before credit is assigned, and how it scores them.

Whatever a reward transform or an estimator may read is put on the records by `annotate`: an update, the examples at the
end of a run and the microscope call it alike, so that all three assign the same credit.
"""

from typing import Any

import jax
import jax.numpy as jnp

from rlcore.policies import log_probs as log_probs_lib
from rlcore.types import Array, PyTree, Rollouts


def rows(rollouts: Rollouts) -> Rollouts:
  """Flattens `[B, G, ...]` to `[B * G, ...]`, the prompt of a group being repeated for each of its rows."""
  group = rollouts.tokens.shape[1]
  repeat = lambda x: jnp.repeat(x, group, 0)
  flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), rollouts.replace(prompt=None, prompt_mask=None))
  return flat.replace(prompt=repeat(rollouts.prompt), prompt_mask=repeat(rollouts.prompt_mask))


def log_probs(parts: Any, params: PyTree, rollouts: Rollouts, **settings) -> Array | tuple[Array, Array]:
  """Scores `[B, G, T]` responses with the prompts `[B, P]` of their groups.

  Args:
    parts: `LanguageParts`.
    params: of its model.
    rollouts: the responses.
    **settings: of `policies.token_log_probs`.

  Returns:
    As `policies.token_log_probs`.
  """
  return log_probs_lib.token_log_probs(
      parts.model, params, rollouts.prompt, rollouts.prompt_mask, rollouts.tokens, rollouts.mask,
      valid=rollouts.valid, temperature=parts.temperature, **settings)


def annotate(parts: Any, ref_params: PyTree | None, rollouts: Rollouts) -> Rollouts:
  """Fills in what transforms, estimators and losses may read of `[B, G]` responses; what is there already stays.

  Args:
    parts: `LanguageParts`.
    ref_params: of the reference policy, or None.
    rollouts: the responses.

  Returns:
    The same with `ref_log_probs`, where the parts have `use_reference`; no gradient flows.
  """
  if parts.use_reference and rollouts.ref_log_probs is None:
    reference = jax.lax.stop_gradient(log_probs(parts, ref_params, rollouts))
    rollouts = rollouts.replace(ref_log_probs=reference)
  return rollouts
