"""What the contestants of `experiments.bench.language` share: the shape, and how they take turns.

Standard library only, so that a peer's interpreter needs nothing of rlcore. A contestant is a process that compiles,
warms up, and then makes one call whenever its turn comes; the turns are the driver's.
"""

from collections.abc import Callable, Mapping
import json
import os
import pathlib
import subprocess
import sys
import time

LAYERS, DIM, FF_DIM, HEADS, HEAD_DIM, VOCAB = 4, 256, 1024, 4, 64, 4096
PROMPTS, GROUP, PROMPT, NEW = 4, 8, 32, 128
BATCH = PROMPTS * GROUP
LEARNING_RATE, CLIP_LOW, CLIP_HIGH = 1e-6, 0.2, 0.28
_ROOT = pathlib.Path(__file__).parents[2]


def cpu_seconds(function: Callable[[], None]) -> float:
  """Returns the CPU seconds of one call."""
  start = time.process_time()
  function()
  return time.process_time() - start


def serve(versions: Mapping[str, str], parts: Mapping[str, Callable[[], float]]):
  """Warms every part up, says that it is ready, then answers each name read with the CPU seconds of one call.

  Args:
    versions: of the packages measured.
    parts: name -> function that makes one call and returns what it took.
  """
  answers, sys.stdout = sys.stdout, sys.stderr  # libraries print, too
  say = lambda message: print(json.dumps(message), file=answers, flush=True)
  for call in parts.values():
    call()
  say({"versions": dict(versions), "parts": list(parts)})
  for line in sys.stdin:
    say(parts[line.strip()]())


class Contestant:
  """A process that runs `python -m MODULE`, which ends in `serve`; it inherits this process's core and threads."""

  def __init__(self, interpreter: str, module: str):
    """Starts it and waits until it is warm.

    Raises:
      RuntimeError: if it ends before it is ready.
    """
    environment = os.environ | {"PYTHONPATH": str(_ROOT), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    self._process = subprocess.Popen([interpreter, "-m", module], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                     text=True, env=environment)
    try:
      ready = self._answer()
    except RuntimeError:
      self.close()
      raise
    self.versions, self.parts = ready["versions"], ready["parts"]

  def _answer(self):
    line = self._process.stdout.readline()
    if not line:
      raise RuntimeError(f"the contestant ended with status {self._process.wait()}; its errors are above")
    return json.loads(line)

  def call(self, part: str) -> float:
    """Makes one call of a part and returns its CPU seconds."""
    self._process.stdin.write(part + "\n")
    self._process.stdin.flush()
    return self._answer()

  def close(self):
    """Ends the process."""
    self._process.stdin.close()
    self._process.wait()
