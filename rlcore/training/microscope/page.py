"""The microscope's page: one HTML text that holds its data, style and script and needs no network."""

from collections.abc import Callable, Mapping, Sequence
import functools
import html
import importlib.resources
import json
from typing import Any

from rlcore.training.microscope import data, estimators
from rlcore.types import Rollouts

_SCRIPTS = ("decode", "colour", "layout", "draw", "frame", "card", "state", "look", "controls", "main")  # in this order
_STYLES = ("style", "card", "small")


@functools.cache
def _asset(name: str) -> str:
  return importlib.resources.files("rlcore.training.microscope").joinpath("assets", name).read_text("utf-8")


def build_page(groups: Sequence[Mapping[str, Any]], *, title: str = "", subtitle: str = "", own: str | None = None,
               notes: Mapping[str, str] | None = None) -> str:
  """Builds the page of several groups that were credited by the same estimators.

  Args:
    groups: from `data.prepare_group`; the first one is shown first.
    title: the page's heading, the name of a run, say.
    subtitle: what stands beside it.
    own: name of the estimator that the run trains with; it is marked, and shown first.
    notes: a sentence about an estimator, by name; those of `estimators.NOTES` need none.

  Returns:
    The HTML.

  Raises:
    ValueError: if there is no group, or the groups name different estimators.
  """
  if not groups:
    raise ValueError("there is no group to show")
  names = list(groups[0]["advantages"])
  if any(list(group["advantages"]) != names for group in groups):
    raise ValueError("the groups of one page must name the same estimators")
  notes = {**estimators.NOTES, **(notes or {})}
  content = {"title": title, "subtitle": subtitle, "groups": list(groups),
             "estimators": [{"name": n, "note": notes.get(n, ""), "own": n == own} for n in names]}
  # JSON inside of a script element: nothing in it may end the element or open a comment.
  text = json.dumps(content, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
  joined = lambda names, ending: "\n".join(_asset(name + ending) for name in names)
  parts = {"/*STYLE*/": joined(_STYLES, ".css"), "/*SCRIPT*/": joined(_SCRIPTS, ".js"), "/*DATA*/": text,
           "<!--TITLE-->": html.escape(title or "Credit microscope")}
  page = _asset("page.html")
  for marker, part in parts.items():
    before, _, after = page.partition(marker)
    page = before + part + after
  return page


def render(rollouts: Rollouts, rewards: Any, advantages: Mapping[str, Any], decode: Callable[[Any], str], *,
           title: str = "", subtitle: str = "", own: str | None = None) -> str:
  """Renders one group under the microscope.

  Args:
    rollouts: one group, `[G, T]`.
    rewards: `[G]`.
    advantages: by the estimator's name, `[G, T]` each.
    decode: `(token ids) -> str`.
    title: the page's heading.
    subtitle: what stands beside it.
    own: name of the estimator to mark as the run's own.

  Returns:
    One self-contained HTML page; write it to a file, or show it in a notebook with `Frame`.

  Raises:
    ValueError: if shapes do not fit.
  """
  return build_page([data.prepare_group(rollouts, rewards, advantages, decode)], title=title, subtitle=subtitle,
                    own=own)


class Frame:
  """A page as the value of a notebook cell: an iframe that holds it, apart from the notebook's own style."""

  def __init__(self, page: str, height: int = 620):
    """Frames `page`, `height` pixels high."""
    self.page, self.height = page, height

  def _repr_html_(self) -> str:
    return (f'<iframe srcdoc="{html.escape(self.page)}" sandbox="allow-scripts" title="Credit microscope" '
            f'style="width:100%;height:{self.height}px;border:0;border-radius:8px"></iframe>')
