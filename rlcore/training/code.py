"""Which code runs: versions, and a hash of every file of experiment and library."""

import hashlib
import pathlib
import sys
import sysconfig
from typing import Any

import rlcore
from rlcore.training import results

_INSTALLED = tuple({str(pathlib.Path(sysconfig.get_path(name)).resolve())
                    for name in ("stdlib", "platstdlib", "purelib", "platlib")})
_OURS = ("rlcore", "experiments", "configs")


def describe() -> dict[str, Any]:
  """Returns the library's version, with commit, versions and machine of `results.environment`."""
  return {"rlcore": rlcore.__version__} | results.environment()


def imported(*sources: pathlib.Path) -> dict[str, str]:
  """Returns the SHA-256 of every file of experiment and library.

  Args:
    *sources: files that no module's name stands for.

  Returns:
    By name of the module (of the file for `sources`): rlcore, experiments, and what was imported from outside the
    interpreter's own directories.
  """
  found = {path.name: path for path in sources}
  for name, module in list(sys.modules.items()):
    path = getattr(module, "__file__", None)
    if name == "__main__":
      name = getattr(getattr(module, "__spec__", None), "name", name)
    if path and path.endswith(".py") and _is_ours(name, path):
      found[name] = pathlib.Path(path)
  return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in sorted(found.items())
          if path.is_file()}


def _is_ours(name: str, path: str) -> bool:
  if name.partition(".")[0] in _OURS:
    return True
  whole = pathlib.Path(path).resolve()
  return not str(whole).startswith(_INSTALLED) and not {"site-packages", "dist-packages"} & set(whole.parts)
