"""Partial responses, for a reward model that is asked what each part of a response is worth."""

from collections.abc import Sequence


def coalition_text(units: Sequence[str], bits: int) -> str:
  """Joins the units of a response that are in a coalition, in their order.

  The reward model must see it in the template of a whole response.

  Args:
    units: tokens, spans or sentences; the whole response is `"".join(units)`.
    bits: unit i is in if bit i is set; bits beyond the units are ignored.

  Returns:
    The text, "" for nobody.

  Raises:
    ValueError: for negative bits.

  Reference: SCAR, arXiv:2505.20417; the index of `rewards.shapley_values`.
  """
  if bits < 0:
    raise ValueError(f"bits={bits} must be at least 0")
  return "".join(unit for i, unit in enumerate(units) if int(bits) >> i & 1)
