"""The house has a direction: a module imports only from its own room and the rooms above it."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOMS = (
    "types", "checks", "stats", "segments", "tabular", "rewards", "exploration", "advantages", "losses", "models",
    "policies", "envs", "verifiers", "tasks", "assistants", "reward_models", "diversity", "search", "training")
PURE = ROOMS[1:ROOMS.index("models")]
ROOT = pathlib.Path(__file__).parent.parent
FILES = sorted((ROOT / "rlcore").rglob("*.py"))


def _imported(tree):
  """Yields every dotted name that the module imports, functions' own imports included."""
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      yield "." * node.level + (node.module or "")
      yield from (f"{node.module}.{alias.name}" for alias in node.names if node.module == "rlcore")


def _violations(room, source):
  """Says what is wrong with the imports of a module of `room`."""
  for name in _imported(ast.parse(source)):
    top, _, rest = name.partition(".")
    other = rest.partition(".")[0]
    if top == "":
      yield f"relative import {name}"
    elif top in ("experiments", "configs", "tests") or room in PURE and top == "ml_collections":
      yield f"imports {name}"
    elif top == "rlcore" and other and other not in ROOMS:
      yield f"imports rlcore.{other}, which is no room of the list"
    elif top == "rlcore" and other and ROOMS.index(other) > ROOMS.index(room):
      yield f"imports rlcore.{other}, which lies below {room}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_upwards(path):
  room = path.relative_to(ROOT / "rlcore").parts[0].removesuffix(".py")
  if room != "__init__":
    assert room in ROOMS, f"rlcore/{room} is not a room of the list"
    assert not list(_violations(room, path.read_text()))


@pytest.mark.parametrize("room, source", [
    ("rewards", "from rlcore import losses"), ("stats", "import rlcore.models.decoder"),
    ("losses", "def f():\n  from rlcore.training import loop"), ("types", "from rlcore import stats"),
    ("rewards", "from . import transforms"), ("losses", "import ml_collections"),
    ("models", "from experiments import run"), ("tasks", "from rlcore import nowhere")])
def test_the_walk_finds_what_is_forbidden(room, source):
  assert len(list(_violations(room, source))) == 1


def test_the_mathematics_comes_without_the_machinery():
  heavy = ["grain", "matplotlib", "ml_collections", "orbax", "tensorboardX", "tensorflow_datasets"]
  below = ROOMS[ROOMS.index("models"):]
  code = f"""
import sys
import rlcore.stats, rlcore.segments, rlcore.tabular, rlcore.rewards, rlcore.exploration, rlcore.advantages, rlcore.losses
names = [m.split(".") for m in sys.modules]
loaded = [m for m in names if m[0] in {heavy} or m[0] == "rlcore" and m[1:2] and m[1] in {below}]
sys.exit(str(loaded) if loaded else 0)
"""
  run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
  assert run.returncode == 0, run.stderr
