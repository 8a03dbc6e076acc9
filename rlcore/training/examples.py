"""What a run shows when it is over: held-out metrics, and responses with the credit of each token.

Credit is the background colour of a token and a number below it.
"""

from collections.abc import Mapping, Sequence

import rich.cells
import rich.console
import rich.table
import rich.text

from rlcore.types import Example

_PLUS, _MINUS, _NEUTRAL = (26, 152, 80), (215, 48, 39), (60, 60, 60)


def render_evaluation(before: Mapping[str, float] | None, after: Mapping[str, float]) -> rich.table.Table:
  """Renders the metrics of held-out problems before and after the main updates.

  Args:
    before: by name; what it does not have, or all if it is None, is a dash.
    after: by name.

  Returns:
    A renderable for `rich.console.Console.print`.
  """
  table = rich.table.Table("held-out", "before", "after", box=None, header_style="bold", pad_edge=False)
  for name, value in after.items():
    table.add_row(rich.text.Text(name), *("-" if x is None else f"{x:.3f}" for x in ((before or {}).get(name), value)))
  return table


def _visible(piece: str) -> str:
  return piece.replace("\n", "⏎").replace("\t", "⇥").replace(" ", "␣") or "∅"


def _style(credit: float, scale: float) -> str:
  strength = min(1.0, abs(credit) / scale) if scale > 0 else 0.0
  target = _PLUS if credit > 0 else _MINUS
  red, green, blue = (round(a + (b - a) * strength) for a, b in zip(_NEUTRAL, target, strict=True))
  return f"bold white on rgb({red},{green},{blue})"


def render_examples(examples: Sequence[Example], width: int = 100) -> rich.console.Group:
  """Renders responses with their credit.

  Args:
    examples: what to show, with the shaped reward where it is not the verifier's; colours share one scale, that of
      the largest credit among them.
    width: columns of the terminal; longer responses continue below.

  Returns:
    A renderable for `rich.console.Console.print`.
  """
  scale = max((abs(c) for example in examples for c in example.credit), default=0.0)
  blocks: list[rich.text.Text] = []
  for example in examples:
    head = rich.text.Text.assemble(
        ("prompt ", "dim"), example.prompt, ("   reward ", "dim"), f"{example.reward:g}")
    if example.shaped is not None and f"{example.shaped:g}" != f"{example.reward:g}":
      head.append("   shaped reward ", "dim").append(f"{example.shaped:g}")
    blocks.append(head)
    blocks += _rows(example, scale, width)
    blocks.append(rich.text.Text())
  return rich.console.Group(*blocks)


def _rows(example: Example, scale: float, width: int) -> list[rich.text.Text]:
  rows, top, bottom = [], rich.text.Text("  "), rich.text.Text("  ")
  for piece, credit in zip(map(_visible, example.pieces), example.credit, strict=True):
    number = f"{credit:+.2f}"
    cell = max(rich.cells.cell_len(piece) + 2, len(number))
    if top.cell_len + cell + 1 > width and top.cell_len > 2:
      rows += [top, bottom]
      top, bottom = rich.text.Text("  "), rich.text.Text("  ")
    left = (cell - rich.cells.cell_len(piece)) // 2
    top.append(" " * left + piece + " " * (cell - left - rich.cells.cell_len(piece)), _style(credit, scale))
    top.append(" ")
    bottom.append(number.center(cell) + " ", "dim")
  return [*rows, top, bottom]
