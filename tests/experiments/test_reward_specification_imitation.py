"""Imitation in tables: the expert, what ASAF's optimum is, what each arm learns from, and the rule of the verdict."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs.control import reward_specification_imitation as config_file
from experiments.control import reward_specification_imitation as imitation
from rlcore import losses
from rlcore.envs import corner_grid


def _result(**changes):
  """A result by `(cost, seeds that are good, last KL)` of each arm."""
  found = {name: (1000.0, 0, 1.0) for name in config_file.ARMS} | changes
  fill = lambda cost, good, kl: {"last:good_after": [cost] * 5, "last:is_good": [1.0] * good + [0.0] * (5 - good),
                                 "last:kl": [kl] * 5, "max:progress": [0.5] * 5}
  return {"claim": dataclasses.asdict(config_file.CLAIM),
          "variants": {"default": {"arms": {name: {"values": fill(*x)} for name, x in found.items()}}}}


def test_the_rule_of_the_verdict():
  judge = lambda **changes: config_file.verdict(_result(**{
      "asaf, 10": (100, 5, 1), "gail, 10": (200, 5, 1), "asaf, 10, tuned": (100, 5, 1), "gail, 10, tuned": (1000, 0, 1),
      "asaf, 1": (1000, 0, 0.5), "asaf, 3": (1000, 0, 0.5)} | changes))[0]
  assert judge() == "reproduced"
  assert judge(**{"gail, 10": (199, 5, 1)}) == judge(**{"asaf, 10, tuned": (100, 4, 1)}) == "inconclusive"
  assert judge(**{"asaf, 3": (1000, 0, 1.0)}) == "inconclusive"
  assert judge(**{"gail, 10": (99, 5, 1)}) == judge(**{"gail, 10, tuned": (99, 5, 1)}) == "not reproduced"
  nowhere = {name: (1000, 0, 1) for name in ("asaf, 10", "gail, 10", "asaf, 10, tuned")}
  assert judge(**nowhere) == "inconclusive"  # the other half holds
  assert judge(**nowhere | {"asaf, 1": (1000, 0, 2.0), "asaf, 3": (1000, 0, 2.0)}) == "not reproduced"
  assert "with 1: asaf 1.00, cloning 1.00" in config_file.verdict(_result())[1]
