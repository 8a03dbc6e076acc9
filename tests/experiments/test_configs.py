"""Every config of every theme: its variants, its comparison, and the shapes of one update, without compiling any."""

import importlib
import pathlib

import jax
import jax.numpy as jnp
import pytest

from experiments import launch
from rlcore.training import comparison, results, verdicts
from rlcore.training import sweep as sweep_lib

ROOT = pathlib.Path(__file__).parents[2]
FILES = sorted(path for path in (ROOT / "configs").rglob("*.py") if path.stem != "__init__")
THEMES = [path for path in FILES if path.parent != ROOT / "configs"]
name = lambda path: ".".join(path.relative_to(ROOT).with_suffix("").parts)


def load(path):
  return importlib.import_module(name(path))


@pytest.mark.parametrize("path", FILES, ids=name)
def test_a_variant_that_is_none_is_told(path):
  with pytest.raises(ValueError, match=r"has no variant 'nonsense'; it has: .*smoke"):
    load(path).get_config("nonsense")


@pytest.mark.parametrize("path", FILES, ids=name)
def test_the_docstring_is_the_record(path):
  module = load(path)
  assert f"--config={path.relative_to(ROOT)}" in module.__doc__
  assert hasattr(module, "sweep") or path in THEMES


@pytest.mark.parametrize("path", THEMES, ids=name)
def test_the_comparison_fits_its_config(path):
  module = load(path)
  tune = getattr(module, "TUNE", {})
  protocol = comparison.Protocol(module.CLAIM, module.ARMS, tune.get("grid", {}), tuple(tune.get("seeds", ())))
  assert len(module.CLAIM.seeds) >= verdicts.FEWEST_SEEDS
  config = module.get_config()
  programs = {sweep_lib.program_name(sweep_lib.split_overrides(config, arm)[0]) for arm in protocol.arms.values()}
  assert len(programs) <= 2, f"the arms need {len(programs)} compiled programs"
  for key, values in tune.get("grid", {}).items():
    assert isinstance(sweep_lib.flatten(config)[key], float)
    assert len(values) >= 3, "the best of fewer lies at an edge"
  stem = (ROOT / "experiments" / path.relative_to(ROOT / "configs")).stem
  result = ROOT / "experiments" / "results" / f"{stem}.json"
  if result.exists():
    assert results.read_result(result)["claim"]["rule"] == module.CLAIM.rule
  else:
    assert "has not run yet" in module.__doc__


@pytest.mark.parametrize("path", FILES, ids=name)
def test_one_update_says_what_the_claim_reads(path):
  module = load(path)
  for extra in getattr(module, "NEEDS", ()):
    pytest.importorskip(extra)
  experiment = launch.make_experiment(module.get_config("smoke").lock())
  assert experiment.jittable
  state = jax.eval_shape(lambda key: experiment.init(key), jax.random.key(0))
  after, metrics = jax.eval_shape(experiment.update, state)
  jax.tree.map(lambda a, b: (a.shape, a.dtype) == (b.shape, b.dtype) or pytest.fail("the state changes"), after, state)
  held_out = {f"eval/{key}" for key in jax.eval_shape(experiment.evaluate, state)}
  for key, value in metrics.items():
    assert value.shape == () and value.dtype == jnp.float32, key
  claim = getattr(module, "CLAIM", None)
  for metric in (claim.metric, *claim.also) if claim else ():
    assert metric.partition(":")[2] in {*metrics, *held_out}, metric
