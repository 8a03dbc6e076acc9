"""Sampled responses in the terminal, the credit of each token as its background colour and a number below it."""

from collections.abc import Sequence

import rich.cells
import rich.console
import rich.text

from rlcore.types import Example

_PLUS, _MINUS, _NEUTRAL = (26, 152, 80), (215, 48, 39), (60, 60, 60)


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
    examples: what to show; colours share one scale, that of the largest credit among them.
    width: columns of the terminal; longer responses continue below.

  Returns:
    A renderable for `rich.console.Console.print`.
  """
  scale = max((abs(c) for example in examples for c in example.credit), default=0.0)
  blocks: list[rich.text.Text] = []
  for example in examples:
    blocks.append(rich.text.Text.assemble(
        ("prompt ", "dim"), example.prompt, ("   reward ", "dim"), f"{example.reward:g}"))
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
