"""The README's Python runs as printed, and says what it gives."""

import pathlib
import re

import numpy as np

from rlcore import types

README = (pathlib.Path(__file__).parent.parent / "README.md").read_text()


def test_the_snippets_run():
  names = {}
  for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
    exec(block, names)
  printed = [float(x) for x in re.search(r"row 0: \[(.*?)\]", README)[1].split(",")]
  np.testing.assert_allclose(names["tempo"][0], printed, atol=1e-3)
  batch = types.Rollouts(*(np.ones((3, 2)),) * 3, prompt=np.ones(1), prompt_mask=np.ones(1))
  credit = names["my_credit"](types.Rewards(np.array([1.0, 0.0, 0.0])), batch)
  np.testing.assert_array_equal(credit, [[1, 1], [0, 0], [0, 0]])
