"""The records that travel between the rooms, and the function types that compose them.

A batch axis is never part of a record's documented shape: `jax.vmap` adds it in front.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from flax import struct
import jax

Array = jax.Array
PyTree = Any
Metrics = dict[str, Array]


@struct.dataclass
class Rollouts:
  """G sampled responses to one prompt.

  Attributes:
    tokens: `[G, T]` int32, response tokens; junk where neither `mask` nor `valid` is set.
    mask: `[G, T]`, 1 where the policy drew the token and it counts in the loss.
    log_probs: `[G, T]` float32, log-probability of each token under the distribution it was sampled from (the
      "old" log-probabilities), 0 where `mask` is 0.
    prompt: `[P]` int32, padded on the left.
    prompt_mask: `[P]`, 1 on the prompt's own tokens.
    valid: `[G, T]` or None, 1 where `tokens` is real, observation tokens of an environment included (they identify
      the state but earn no credit); None means `mask`.
    ref_log_probs: `[G, T]` float32 or None, log-probabilities under a frozen reference policy.
  """

  tokens: Array
  mask: Array
  log_probs: Array
  prompt: Array
  prompt_mask: Array
  valid: Array | None = None
  ref_log_probs: Array | None = None


@struct.dataclass
class Rewards:
  """What a verifier or reward model says of one group.

  Attributes:
    outcome: `[G]` float32, one reward per response.
    process: `[G, T]` float32 or None, token-aligned rewards; the reward of a step sits on the step's last token.
  """

  outcome: Array
  process: Array | None = None


@struct.dataclass
class Trajectory:
  """One trajectory of T transitions; termination is `discount_t == 0`, never a flag.

  Attributes:
    observation: pytree of `[T, ...]`, what the policy saw before `action`.
    action: `[T, ...]`.
    reward_t: `[T]` float32, reward that followed the action.
    discount_t: `[T]` float32, gamma where the episode goes on or is merely truncated, 0 where it terminates.
    log_prob_old: `[T]` float32, log-probability of `action` when it was drawn.
    value_t: `[T]` float32, value estimate of `observation`.
    value_tp1: `[T]` float32, value estimate of the true next observation (also where an episode was truncated).
    mask: `[T]`, 1 where the transition counts.
  """

  observation: PyTree
  action: Array
  reward_t: Array
  discount_t: Array
  log_prob_old: Array
  value_t: Array
  value_tp1: Array
  mask: Array


class RewardTransform(NamedTuple):
  """A stateful map of rewards; compose with `rewards.chain`, lift a pure function with `rewards.stateless`.

  Both functions see ONE group. A batch of groups is `jax.vmap(apply, in_axes=(0, 0, None), out_axes=(0, None),
  axis_name=...)`, so a transform with state merges it over that axis name.

  Attributes:
    init: `(key, example: Rewards) -> state`.
    apply: `(rewards: Rewards, batch: Rollouts | Trajectory, state) -> (rewards, state)`.
  """

  init: Callable[[Array, Rewards], PyTree]
  apply: Callable[[Rewards, Any, PyTree], tuple[Rewards, PyTree]]


AdvantageEstimator = Callable[[Rewards, Any], Array]
"""`(rewards, batch) -> advantages`, of one group (`[G, T]`) or one trajectory (`[T]`)."""

PolicyLoss = Callable[[Array, Any, Array], tuple[Array, Metrics]]
"""`(log_probs, batch, advantages) -> (scalar, metrics)`, over all sequences of a minibatch (`[N, T]`)."""


class LanguageModel(NamedTuple):
  """What sampling and training need of an autoregressive model: pure functions of its parameters.

  Sequences are `[B, S]`, padded on the left of the prompt and on the right of the response; positions count the
  tokens whose mask is set, so padding never shifts a position.

  Attributes:
    init: `(key) -> params`.
    hidden: `(params, tokens [B, S], mask [B, S]) -> [B, S, D]`; entry s has seen tokens 0..s.
    logits: `(params, hidden [..., D]) -> [..., V]` float32.
    prefill: `(params, tokens [B, P], mask [B, P], group_size, max_new_tokens) -> (hidden [B, D], cache)`; `hidden`
      belongs to the last prompt token. The prompt is processed once; the cache serves B * group_size rows.
    step: `(params, cache, tokens [B, G], index) -> (hidden [B, G, D], cache)`; `tokens` is response token number
      `index` (scalar int32) of each row.
    extend: `(cache, max_new_tokens) -> cache`, with room for that many response tokens in all; what was there stays.
    vocab_size: V, the number of tokens that can be drawn.
    respond: `(params, prompts [B, P], mask [B, P], tokens [B, G, T], mask [B, G, T]) -> [B, G, T, D]`; entry t has seen
      the prompt and tokens 0..t-1 of its response. Each prompt is processed once for its group. None where a model
      has no better way than `hidden` of whole sequences.
  """

  init: Callable[[Array], PyTree]
  hidden: Callable[[PyTree, Array, Array], Array]
  logits: Callable[[PyTree, Array], Array]
  prefill: Callable[[PyTree, Array, Array, int, int], tuple[Array, PyTree]]
  step: Callable[[PyTree, PyTree, Array, Array], tuple[Array, PyTree]]
  extend: Callable[[PyTree, int], PyTree]
  vocab_size: int
  respond: Callable[[PyTree, Array, Array, Array, Array], Array] | None = None


class Task(NamedTuple):
  """Prompts and the verifier of their answers.

  Attributes:
    sample: `(key, split: str) -> Problem`, one problem; `split` is "train" or "test" and static, and no problem
      of one split can occur in the other. Jittable.
    score: `(problem, tokens [T], mask [T]) -> float32[]`, the reward of ONE response; jittable unless `host`.
    demonstration: `(problem) -> (tokens [T], mask [T])`, a correct response that ends with `eos_id`, or None.
    encode: `(str) -> list[int]`.
    decode: `(token ids) -> str`, one string for any sequence of ids.
    vocab_size: number of token ids.
    eos_id: the id that ends a response.
    pad_id: the id that fills unused places.
    max_prompt: P, static length of `Problem.prompt`.
    max_response: T, static length of a response, eos included.
    host: whether `score` is host code (NumPy in, float out) that cannot be traced.
  """

  sample: Callable[[Array, str], "Problem"]
  score: Callable[["Problem", Array, Array], Array]
  demonstration: Callable[["Problem"], tuple[Array, Array]] | None
  encode: Callable[[str], list[int]]
  decode: Callable[[Any], str]
  vocab_size: int
  eos_id: int
  pad_id: int
  max_prompt: int
  max_response: int
  host: bool = False


@struct.dataclass
class Problem:
  """One prompt and what its verifier needs.

  Attributes:
    prompt: `[P]` int32, padded on the left.
    prompt_mask: `[P]` float32.
    target: pytree of arrays that only the verifier (and `demonstration`) reads.
  """

  prompt: Array
  prompt_mask: Array
  target: PyTree = None


class Example(NamedTuple):
  """One sampled response, ready to be shown: text pieces with the credit of each.

  Attributes:
    prompt: the prompt as text.
    pieces: text of each counted token.
    credit: advantage of each counted token.
    reward: outcome reward.
  """

  prompt: str
  pieces: tuple[str, ...]
  credit: tuple[float, ...]
  reward: float


class Inspection(NamedTuple):
  """What it takes to look at the groups of a language experiment, and at their credit.

  Attributes:
    decode: `(token ids) -> str`.
    estimator: the run's own advantage estimator, of one group.
    answer: `(state, key, count) -> (Problem [B], Rollouts [B, G], Rewards [B, G])`, the answers of a state to `count`
      held-out problems.
    credit: `(state, rewards, rollouts, estimator) -> [B, G, T]`, the advantages of an estimator after the run's own
      transform of the rewards.
  """

  decode: Callable[[Any], str]
  estimator: AdvantageEstimator
  answer: Callable[[PyTree, Array, int], tuple["Problem", Rollouts, Rewards]]
  credit: Callable[[PyTree, Rewards, Rollouts, AdvantageEstimator], Array]


class Stage(NamedTuple):
  """A phase that runs before the main updates (supervised warm-up, say).

  Attributes:
    name: shown in the progress bar and prefixed to its metrics.
    steps: how many updates it lasts.
    update: `(state) -> (state, metrics)`.
  """

  name: str
  steps: int
  update: Callable[[PyTree], tuple[PyTree, Metrics]]


class Experiment(NamedTuple):
  """An experiment as pure functions; everything that a resumed run needs is in `state`.

  `state.step` counts all updates done, those of the warm-up included.

  Attributes:
    init: `(key) -> state`.
    update: `(state) -> (state, metrics)`, one main update; metrics are float32 scalars.
    evaluate: `(state) -> metrics` on held-out problems; a pure function of the state, it moves no randomness.
    warmup: a `Stage` that precedes the main updates, or None.
    examples: `(state) -> list[Example]` on the host, or None.
    jittable: False where `update` calls host code (it is then made of jitted stages itself).
    inspection: of a language experiment, its groups to look at (`experiments.microscope`), or None.
  """

  init: Callable[[Array], PyTree]
  update: Callable[[PyTree], tuple[PyTree, Metrics]]
  evaluate: Callable[[PyTree], Metrics]
  warmup: Stage | None = None
  examples: Callable[[PyTree], list[Example]] | None = None
  jittable: bool = True
  inspection: Inspection | None = None
