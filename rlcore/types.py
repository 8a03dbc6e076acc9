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
      "old" log-probabilities), 0 where `mask` is 0. A learner may have computed them again, see `sampler_log_probs`.
    prompt: `[P]` int32, padded on the left.
    prompt_mask: `[P]`, 1 on the prompt's own tokens.
    valid: `[G, T]` or None, 1 where `tokens` is real, observation tokens of an environment included (they identify
      the state but earn no credit); None means `mask`.
    ref_log_probs: `[G, T]` float32 or None, log-probabilities under a frozen reference policy.
    support: `[G, T, W]` or None, the tokens that top-k and top-p left to draw from at each place (see
      `policies.support`); whoever scores the tokens renormalises over them. None: all tokens.
    sampler_log_probs: `[G, T]` float32 or None, the log-probabilities that the sampler reported, where `log_probs` are
      the trainer's (other kernels, low precision).
  """

  tokens: Array
  mask: Array
  log_probs: Array
  prompt: Array
  prompt_mask: Array
  valid: Array | None = None
  ref_log_probs: Array | None = None
  support: Array | None = None
  sampler_log_probs: Array | None = None


@struct.dataclass
class Rewards:
  """What a verifier or reward model says of one group.

  Attributes:
    outcome: `[G]` float32, one reward per response.
    process: `[G, T]` float32 or None, token-aligned rewards; the reward of a step sits on the step's last token.
    valid: `[G]` or None, > 0 where the response could be scored; None means all. The others earn no credit, have no
      part in the statistics of their group and do not count in the loss; their `outcome` is 0.
  """

  outcome: Array
  process: Array | None = None
  valid: Array | None = None


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
    info: pytree of `[T, ...]`, what the world said beside, or None.
    ref_log_probs: `[T]` float32 or None, log-probability of `action` under a frozen reference policy.
  """

  observation: PyTree
  action: Array
  reward_t: Array
  discount_t: Array
  log_prob_old: Array
  value_t: Array
  value_tp1: Array
  mask: Array
  info: PyTree = None
  ref_log_probs: Array | None = None

  @property
  def log_probs(self) -> Array:
    """`log_prob_old` by the name that `Rollouts` gives it, so that policy losses take either record."""
    return self.log_prob_old


@struct.dataclass
class Stream(Trajectory):
  """T steps of one stream: the world starts anew where an episode ends, so that several may follow one another.

  `mask` is 1 everywhere. At an end `value_tp1` and `next_observation` are of the true last state, before the reset.

  Attributes:
    is_first: `[T]` bool, whether the step is the first of its episode.
    truncated: `[T]` bool, whether the episode is cut off after the step without having terminated.
    next_observation: pytree of `[T, ...]`, what the step led to.
    memory: pytree of `[T, ...]`, the policy's before the step, where it is kept.
  """

  is_first: Array | None = None
  truncated: Array | None = None
  next_observation: PyTree = None
  memory: PyTree = None


class StreamReward(NamedTuple):
  """What the steps of streams are paid, with a state that outlives the rollout.

  `apply` sees a whole rollout and runs once for it, so that a table or a model that all streams share learns once an
  update. What belongs to an episode is state too: it must be cleared where `is_first` is set, before that step.

  Attributes:
    init: `(key, number of streams N) -> state`.
    apply: `(state, Stream of [T, N]) -> (rewards [T, N], state)`.
  """

  init: Callable[[Array, int], PyTree]
  apply: Callable[[PyTree, Stream], tuple[Array, PyTree]]


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
"""`(rewards, batch) -> advantages`, of one group (`[G, T]`) or one trajectory (`[T]`).

The experiments always pass a group, with `outcome` `[G]` and `batch.mask` `[G, T]`, and check that `[G, T]` comes back.
"""

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
      `index` (scalar int32) of each row. A negative token is none: the row has ended, its `hidden` is junk.
    extend: `(cache, max_new_tokens) -> cache`, with room for that many response tokens in all; what was there stays.
    vocab_size: V, the number of tokens that can be drawn.
    respond: `(params, prompts [B, P], mask [B, P], tokens [B, G, T], mask [B, G, T]) -> [B, G, T, D]`; entry t has seen
      the prompt and tokens 0..t-1 of its response. Each prompt is processed once for its group. None where a model
      has no better way than `hidden` of whole sequences.
    adopt: `(cache, rows [B], mask [B, T], width) -> cache`; response tokens 0..T-1 of row `rows[b]` join the prompt
      (those with mask 0 remain unseen, and the row ends there) and every row of the group starts from it anew, at index
      0 and without room (see `extend`). The prompt then has `width` places, the last ones: padding must be all that
      is lost. None where a model cannot.
  """

  init: Callable[[Array], PyTree]
  hidden: Callable[[PyTree, Array, Array], Array]
  logits: Callable[[PyTree, Array], Array]
  prefill: Callable[[PyTree, Array, Array, int, int], tuple[Array, PyTree]]
  step: Callable[[PyTree, PyTree, Array, Array], tuple[Array, PyTree]]
  extend: Callable[[PyTree, int], PyTree]
  vocab_size: int
  respond: Callable[[PyTree, Array, Array, Array, Array], Array] | None = None
  adopt: Callable[[PyTree, Array, Array, int], PyTree] | None = None


class World(NamedTuple):
  """An environment as pure functions, with gymnax's signature; it does not reset itself.

  Attributes:
    reset: `(key, params) -> (observation, state)`. `params` is the instance (a question, a graph, physical constants),
      a pytree of arrays, so that `jax.vmap` runs many instances at a time.
    step: `(key, state, action, params) -> (observation, state, reward, terminated, truncated, info)`; `observation` is
      the true next one also where the episode ends, `info` a dictionary of arrays whose shapes never change.
    num_actions: number of discrete actions.
    observation_size: length of the observation, a float32 vector.
    horizon: most steps of an episode; at the last of them the world itself says terminated (running out of time is a
      failure that the policy can foresee) or truncated (it is not).
    observation_shape: of an observation that is no vector, `[H, W, C]` say; None for `(observation_size,)`.
    action_size: length of the action where it is a vector of real numbers (`num_actions` is then 0), else 0.
    action_low: least real action, a number or `action_size` of them.
    action_high: greatest real action, above `action_low`. Learners whose actions are squashed or clipped reach the
      whole box; the world itself clips what lies beyond.
    success_return: an episode succeeds whose return is at least this; None where returns do not say so.
  """

  reset: Callable[[Array, PyTree], tuple[Array, PyTree]]
  step: Callable[[Array, PyTree, Array, PyTree], tuple[Array, PyTree, Array, Array, Array, dict[str, Array]]]
  num_actions: int
  observation_size: int
  horizon: int
  observation_shape: tuple[int, ...] | None = None
  action_size: int = 0
  action_low: float | tuple[float, ...] = -1.0
  action_high: float | tuple[float, ...] = 1.0
  success_return: float | None = 1.0


class Scores(NamedTuple):
  """What a policy says of the actions of a trajectory.

  Attributes:
    log_probs: `[T]` float32, log-probability of each action.
    entropy: `[T]` float32, entropy of the distribution that it was drawn from, in nats.
    values: `[T]` float32, value estimate of each observation; 0 without a critic.
  """

  log_probs: Array
  entropy: Array
  values: Array


class Agent(NamedTuple):
  """A policy in its world: what training on episodes needs of both.

  Attributes:
    init: `(key) -> params`.
    rollout: `(params, key, instance) -> Trajectory` of one episode, `[T]`.
    score: `(params, Trajectory) -> Scores` of one episode, differentiable in the parameters.
  """

  init: Callable[[Array], PyTree]
  rollout: Callable[[PyTree, Array, PyTree], Trajectory]
  score: Callable[[PyTree, Trajectory], Scores]


class StreamPolicy(NamedTuple):
  """A policy that acts step by step, with a memory or without; its functions see ONE stream.

  Attributes:
    init: `(key) -> params`.
    memory: pytree of arrays, the memory with which an episode starts; `()` for none.
    step: `(params, memory, observation) -> (distribution, value [], memory)`; `distribution` is a pytree.
    sample: `(key, distribution) -> (action, log_prob [])`.
    score: `(distribution, action) -> (log_prob [], entropy [])`, differentiable.
    noise: `(key, count) -> pytree of [count, ...]`, what `sample` takes in the place of the key, for as many steps. A
      rollout draws it for all its steps at once, which is cheaper than a draw at each; keys by default.
  """

  init: Callable[[Array], PyTree]
  memory: PyTree
  step: Callable[[PyTree, PyTree, PyTree], tuple[PyTree, Array, PyTree]]
  sample: Callable[[Array, PyTree], tuple[Array, Array]]
  score: Callable[[PyTree, Array], tuple[Array, Array]]
  noise: Callable[[Array, int], PyTree] = jax.random.split


class VelocityModel(NamedTuple):
  """What denoising needs of a flow model: pure functions of its parameters.

  Attributes:
    init: `(key) -> params`.
    velocity: `(params, z [n, ...], sigma [n], condition) -> [n, ...]` float32, the predicted `noise - data` at noise
      level sigma (1 noise, 0 data); `condition` is the prompt of all rows (int32 scalar) or of each (`[n]`).
  """

  init: Callable[[Array], PyTree]
  velocity: Callable[[PyTree, Array, Array, Array], Array]


class DenoisingTask(NamedTuple):
  """Data to imitate, and what judges a sample.

  Attributes:
    sample: `(key, size) -> (data [size, ...], condition [size] int32)`, examples with their prompts; size is static.
    score: `(x [...], condition) -> float32[]`, the reward of ONE sample.
    judge: `(x [...], condition) -> {name: float32[]}`, numbers that no training sees; {} where there are none.
    shape: of one sample.
    num_conditions: prompts, numbered from 0.
  """

  sample: Callable[[Array, int], tuple[Array, Array]]
  score: Callable[[Array, Array], Array]
  judge: Callable[[Array, Array], Metrics]
  shape: tuple[int, ...]
  num_conditions: int


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
    test_size: M, problems of a test split that is finite; 0 where problems are generated. An evaluation asks each once.
    test_problem: `(index []) -> Problem`, its problems, index 0 to M - 1; read with `test_size` only.
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
  test_size: int = 0
  test_problem: Callable[[Array], "Problem"] | None = None


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


class TextWorld(NamedTuple):
  """An environment that is read and acted on in tokens, as pure functions; an episode is one sequence of tokens.

  The prompt is followed by S turns, each of O observation tokens and the A tokens of an action. The numbers are static:
  an episode is a scan. Only action tokens are the policy's; what follows the end of an episode does not count.

  Attributes:
    reset: `(key, params) -> (state, prompt [P], prompt_mask [P], observation [O])`; `params` is the instance, a pytree
      of arrays. The prompt, padded on the left, depends on `params` alone.
    step: `(state, action [A]) -> (state, observation [O], reward, done, info)`; what is left to chance draws from a key
      in `state`. `info` is a dictionary of arrays.
    decode: `(token ids) -> str`, one string for any sequence of ids.
    num_turns: S, the most turns; running out of them is a failure that the policy can foresee.
    prompt_length: P.
    observation_length: O.
    action_length: A; the last token of an action ends the turn, and the turn's reward sits on it.
    vocab_size: number of ids that can be read.
    allowed: `[A, vocab_size]` bool array, which ids may stand at each place of an action (a single one is forced: its
      log-probability is 0); None allows all. A model may be able to draw the first V ids only.
    pad_id: the id that fills unused places.
  """

  reset: Callable[[Array, PyTree], tuple[PyTree, Array, Array, Array]]
  step: Callable[[PyTree, Array], tuple[PyTree, Array, Array, Array, dict[str, Array]]]
  decode: Callable[[Any], str]
  num_turns: int
  prompt_length: int
  observation_length: int
  action_length: int
  vocab_size: int
  allowed: Any = None
  pad_id: int = 0


class Example(NamedTuple):
  """One sampled response, ready to be shown: text pieces with the credit of each.

  Attributes:
    prompt: the prompt as text.
    pieces: text of each counted token.
    credit: advantage of each counted token.
    reward: outcome reward, the verifier's.
    shaped: what the credit was assigned for, outcome and process rewards after the run's transform; None if unknown.
  """

  prompt: str
  pieces: tuple[str, ...]
  credit: tuple[float, ...]
  reward: float
  shaped: float | None = None


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
    evaluate: `(state) -> metrics` on held-out problems; a pure function of the state, it moves no randomness. Beside
      scalars it may hold arrays (samples) for the figure of a comparison, see `results.Claim.kept`.
    warmup: a `Stage` that precedes the main updates, or None.
    examples: `(state) -> list[Example]` on the host, or None.
    jittable: False where `update` calls host code (it is then made of jitted stages itself).
    inspection: of a language experiment, its groups to look at (`experiments.microscope`), or None.
    preparation: what `init` does where that takes long (fits, say); shown before it, for it has no progress bar.
    unit: what the metric `tokens` counts, as the progress line names it.
  """

  init: Callable[[Array], PyTree]
  update: Callable[[PyTree], tuple[PyTree, Metrics]]
  evaluate: Callable[[PyTree], Metrics]
  warmup: Stage | None = None
  examples: Callable[[PyTree], list[Example]] | None = None
  jittable: bool = True
  inspection: Inspection | None = None
  preparation: str = ""
  unit: str = "tokens"
