"""Freed memory stays with the process: a fresh process counts the pages that it has to map."""

import os
import platform
import subprocess
import sys

import pytest

_ONE_DEVICE = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false"}
_COUNT = """
import resource, sys
from rlcore.training import memory
if sys.argv[1] == "keep":
  assert memory.keep_freed_memory()
import jax, jax.numpy as jnp
step = jax.jit(lambda x: jnp.sort(x * 2)[::-1] @ jnp.cumsum(x))
x = jnp.ones(8_000_000)
step(x).block_until_ready()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
  step(x).block_until_ready()
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / 5)
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can keep what is freed")
def test_work_memory_is_mapped_once():
  faults = {}
  for way in ("keep", "as it is"):
    run = subprocess.run([sys.executable, "-c", _COUNT, way], env=_ONE_DEVICE, capture_output=True, text=True, check=True)
    faults[way] = float(run.stdout)
  assert faults["keep"] < 0.5 * faults["as it is"], faults  # an array of the program is 8000 pages
