"""The composition of an experiment with a language policy."""

from collections.abc import Callable, Mapping
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax

from rlcore import rewards as reward_lib
from rlcore.training import aggregation as aggregation_lib
from rlcore.types import AdvantageEstimator, Array, LanguageModel, PolicyLoss, Problem, PyTree, RewardTransform, Task

OLD_LOG_PROBS = ("sampler", "trainer")


@dataclasses.dataclass(frozen=True)
class Warmup:
  """Supervised warm-up on the task's demonstrations.

  Attributes:
    steps: updates.
    batch_size: demonstrations an update.
    optimizer: optax transformation.
  """

  steps: int
  batch_size: int
  optimizer: optax.GradientTransformation


@dataclasses.dataclass(frozen=True)
class LanguageParts:
  """The composition of one language experiment.

  Attributes:
    model: the policy.
    task: prompts and verifier.
    optimizer: optax transformation.
    advantage_estimator: `(Rewards, Rollouts) -> [G, T]` of one group; may reduce over the axis `PROMPTS`.
    policy_loss: `(log_probs [N, T], Rollouts of [N, T], advantages [N, T]) -> (scalar, metrics)`.
    aggregation: settings of `losses.aggregate` that say over what `policy_loss` averages; None reads them off the loss
      (what a partial binds, else its default). Accumulation over microbatches and devices follows them, and so does the
      entropy; a loss that binds others is refused.
    group_size: G, responses to each prompt.
    prompts_per_update: B.
    reward_transform: applied to each group before credit is assigned; its state is merged over `PROMPTS`.
    temperature: of sampling and of the log-probabilities trained on, above 0.
    top_k: 0 for all tokens. What it and `top_p` leave to draw from is stored with the responses, and everything that is
      scored in training (loss, entropy, reference) is renormalised over it; `policies.support` says what that costs.
    top_p: 1 for all tokens.
    old_log_probs: where the old log-probabilities of the loss, and of credit, come from. "sampler": as it reports them.
      "trainer": scored again before the first gradient step, which takes one more pass over the responses; the ratio
      then starts at exactly 1. None: "trainer" where the model's parameters or hidden states are in 16 bits, whose
      sampler and trainer differ by some hundredths a token (enough for GSPO to clip half of them), else "sampler".
    sampler_weight_cap: with the trainer's log-probabilities, each token's advantage is multiplied by the probability of
      the token under the trainer over that under the sampler, at most this (`losses.truncated_importance_weights`,
      TIS); None for no weights. Not read with the sampler's, whose ratio corrects for the difference itself.
    epochs: passes over the rollouts of an update.
    minibatches: gradient steps a pass; a divisor of `prompts_per_update`, since groups stay whole.
    microbatches: pieces of a minibatch whose gradients are accumulated; a divisor of its prompts.
    entropy_coef: weight of the token entropy that is added to the objective.
    use_reference: keep the parameters with which the main updates start and hand `ref_log_probs` to transform,
      estimator and loss.
    warmup: supervised warm-up, or None.
    eval_problems: held-out problems of an evaluation, at most; a finite test split (`Task.test_size`) that is no larger
      is asked as a whole, each problem once.
    problems: `(key) -> Problem` of `[B, ...]`, the prompts of an update; None draws B of the task's training split.
    axis_name: the device axis when the update runs under `pmap` or `shard_map`, else None.
    constrain: `(pytree of [B, ...]) -> same`, lays the prompts out over a mesh (`training.mesh`); identity by default.
  """

  model: LanguageModel
  task: Task
  optimizer: optax.GradientTransformation
  advantage_estimator: AdvantageEstimator
  policy_loss: PolicyLoss
  group_size: int
  prompts_per_update: int
  aggregation: Mapping[str, Any] | None = None
  reward_transform: RewardTransform = dataclasses.field(default_factory=reward_lib.identity)
  temperature: float = 1.0
  top_k: int = 0
  top_p: float | Array = 1.0
  old_log_probs: str | None = None
  sampler_weight_cap: float | Array | None = 2.0
  epochs: int = 1
  minibatches: int = 1
  microbatches: int = 1
  entropy_coef: float | Array = 0.0
  use_reference: bool = False
  warmup: Warmup | None = None
  eval_problems: int = 256
  problems: Callable[[Array], Problem] | None = None
  axis_name: str | None = None
  constrain: Callable[[PyTree], PyTree] = lambda tree: tree

  def __post_init__(self):
    if self.group_size < 2:
      raise ValueError(f"group_size={self.group_size}: group-relative credit needs at least 2 responses to a prompt")
    if self.prompts_per_update % self.minibatches:
      raise ValueError(f"minibatches={self.minibatches} does not divide prompts_per_update={self.prompts_per_update}")
    prompts = self.prompts_per_update // self.minibatches
    if prompts % self.microbatches:
      raise ValueError(f"microbatches={self.microbatches} does not divide the {prompts} prompts of a minibatch")
    if self.warmup is not None and self.task.demonstration is None:
      raise ValueError("this task has no demonstrations, so a supervised warm-up is impossible (set warmup=None)")
    check_sampling(self.temperature, self.top_k, self.top_p)
    check_old_log_probs(self.old_log_probs, self.sampler_weight_cap)
    _ = self.settled  # tells of settings that disagree

  @property
  def single_step(self) -> bool:
    """Whether an update is a single gradient step."""
    return self.epochs * self.minibatches == 1

  @functools.cached_property
  def rescored(self) -> bool:
    """Whether the old log-probabilities are the trainer's."""
    if self.old_log_probs is not None:
      return self.old_log_probs == "trainer"
    token = jnp.zeros((1, 1), jnp.int32)
    made = jax.eval_shape(lambda key: (lambda params: (params, self.model.hidden(params, token, token == 0)))(
        self.model.init(key)), jax.random.key(0))
    return has_low_precision(made)

  @functools.cached_property
  def settled(self) -> tuple[PolicyLoss, dict[str, Any]]:
    """The policy loss, and the settings of `losses.aggregate` that it and all that must agree with it follow."""
    return aggregation_lib.settle(
        self.policy_loss, self.aggregation, microbatches=self.microbatches, axis_name=self.axis_name)


def has_low_precision(tree: PyTree) -> bool:
  """Tells whether any array of a pytree (shapes suffice) holds numbers of fewer than 32 bits."""
  floats = [x.dtype for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.floating)]
  return any(jnp.finfo(dtype).bits < 32 for dtype in floats)


def check_sampling(temperature: float | Array, top_k: int, top_p: float | Array):
  """Refuses settings that nothing can be trained with; traced ones are believed."""
  if isinstance(temperature, (int, float)) and not temperature > 0:
    raise ValueError(f"temperature={temperature} must be above 0: greedy decoding cannot be trained (evaluations can)")
  if top_k < 0:
    raise ValueError(f"top_k={top_k} must be at least 0, which stands for all tokens")
  if isinstance(top_p, (int, float)) and not 0 < top_p <= 1:
    raise ValueError(f"top_p={top_p} must lie in (0, 1]")


def check_old_log_probs(old_log_probs: str | None, cap: float | Array | None):
  """Refuses an unknown source of old log-probabilities, and a cap of weights that is not positive."""
  if old_log_probs not in (None, *OLD_LOG_PROBS):
    raise ValueError(f"old_log_probs={old_log_probs!r} is none of {', '.join(OLD_LOG_PROBS)}")
  if isinstance(cap, (int, float)) and not cap > 0:
    raise ValueError(f"sampler_weight_cap={cap} must be above 0 (None for no weights)")
