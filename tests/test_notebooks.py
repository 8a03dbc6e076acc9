"""The notebooks run from the first cell to the last, in a kernel of their own."""

import pathlib
import re

import nbclient
import nbformat
import pytest

ROOT = pathlib.Path(__file__).parent.parent


@pytest.mark.parametrize("path", sorted((ROOT / "colab").glob("*.ipynb")), ids=lambda path: path.name)
def test_notebook(path, monkeypatch):
  monkeypatch.setenv("RLCORE_NOTEBOOK_TEST", "1")
  notebook = nbformat.read(path, as_version=4)
  client = nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": ROOT}})
  client.execute()
  outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
  pictures = [o for o in outputs if "image/png" in o.get("data", {})]
  assert len(pictures) >= 2, "the curves and the tree"
  frames = [o["data"]["text/html"] for o in outputs if "<iframe srcdoc" in o.get("data", {}).get("text/html", "")]
  assert len(frames) == 1 and "Credit microscope" in frames[0] and "TEMPO" in frames[0]
  shown = "".join(o.get("data", {}).get("text/html", "") for o in outputs)
  assert re.search(r"held-out +before +after", shown) and re.search(r"solve_rate +\d\.\d{3} +\d\.\d{3}", shown)
