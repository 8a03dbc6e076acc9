"""Eight fake CPU devices and a compilation cache that outlives the test run."""

import os
import pathlib

import hypothesis

_CACHE = pathlib.Path(__file__).parent.parent / ".pytest_cache" / "jax"
# Nearly all the time of the tests is compilation: LLVM need not optimise programs that run once on small arrays.
_QUICK = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
os.environ["XLA_FLAGS"] = " ".join(
    ("--xla_force_host_platform_device_count=8", _QUICK, os.environ.get("XLA_FLAGS", "")))
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")

# A test that draws its examples anew is red one day in some newcomer's hands. `--hypothesis-profile=fuzz` draws anew.
hypothesis.settings.register_profile("fixed", derandomize=True, deadline=None)
hypothesis.settings.register_profile("fuzz", derandomize=False, deadline=None, print_blob=True)
hypothesis.settings.load_profile("fixed")
