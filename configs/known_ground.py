"""The learners on known ground: PPO and DQN balance CartPole-v1, TD3 and SAC swing up Pendulum-v1, of gymnax.

    python -m experiments.run --config=configs/known_ground.py             one run of PPO
    python -m experiments.run --config=configs/known_ground.py:dqn         and :td3, :sac
    python -m experiments.run --config=configs/known_ground.py:a2c         and :reinforce, :vtrace, :ddpg, not judged
    python -m experiments.reproduce --config=configs/known_ground.py       the four on five seeds, curves and verdict

What decides is the mean return of 32 episodes after training, on each seed: of the greedy action (DQN) or the mean
(TD3, SAC), and of drawn actions for PPO. An episode of CartPole-v1 has at most 500 steps and pays 1 for each; one of
Pendulum-v1 always has 200, and its time-out is no termination. All networks have two hidden layers of 64.

Settings were chosen on seeds 100 to 109, by the last evaluation. PPO: 500 on five seeds from 90 thousand steps on. DQN:
500 on five, from 224 thousand on; three earlier trials of 32 to 128 thousand steps ended at 140 to 390, and differ in
many settings at once. SAC: -142 on five seeds from 12 thousand steps on. TD3 takes more: with 24 thousand steps one
seed in five ends at -210 to -470, for some of its 32 episodes never swing up, with batches of 64 as of 128, discounts
of 0.99 and 0.97, action noise of 0.1 and 0.2; with 40 thousand, batches of 128 and noise of 0.2 ten of ten are at -160
or better from 20 thousand on. What to know of the result (9 to 26 minutes beside other programs): all five seeds of all
four algorithms reach the mark.

To be run again: the committed numbers are those of an earlier run on seeds 0-4, judged by today's rule; the seeds and
grids below are for the next one.
"""

import ml_collections

from rlcore.training import results, verdicts

NEEDS = ("gymnax", "flashbax")
_CART_POLE = dict(env="CartPole-v1", mark=475.0)
_PENDULUM = dict(env="Pendulum-v1", mark=-200.0)
_NEW = dict(num_worlds=4, num_steps=128, gamma=0.99)
_PARALLEL = dict(num_worlds=16, num_steps=16, gamma=0.99)
_STORED = dict(num_worlds=4, num_steps=2, num_updates=8, batch_size=64, capacity=20_000, learning_starts=1000,
               gamma=0.99)
_MANY = dict(num_worlds=8, num_steps=8, num_updates=8, batch_size=128, capacity=50_000, learning_starts=2000,
             gamma=0.99)

# Each algorithm with its settings, and the fields of its Parts.
_ALGORITHMS = {
    "ppo": dict(_CART_POLE, steps=300, lr=1e-3, max_grad_norm=0.5, decay=False, parts=_NEW,
                settings=dict(epochs=4, minibatches=4, entropy_coef=0.01)),
    "dqn": dict(_CART_POLE, steps=4000, lr=1e-3, parts=_MANY, settings=dict(
        n=3, epsilon_steps=100_000.0, target_rate=0.01, target_period=1)),
    "td3": dict(_PENDULUM, steps=5000, lr=1e-3, max_grad_norm=1000.0, parts=dict(_STORED, batch_size=128),
                settings=dict(uniform_steps=1000.0, action_noise=0.2)),
    "sac": dict(_PENDULUM, steps=2500, lr=1e-3, parts=_STORED, settings=dict(uniform_steps=1000.0)),
    "a2c": dict(_CART_POLE, steps=2000, lr=2e-3, max_grad_norm=0.5, parts=_PARALLEL, settings=dict(n=16)),
    "reinforce": dict(_CART_POLE, steps=600, lr=3e-3, max_grad_norm=0.5, parts=_NEW, settings=dict(entropy_coef=0.0)),
    "vtrace": dict(_CART_POLE, algorithm="vtrace_actor_critic", steps=2000, lr=1e-3, max_grad_norm=0.5,
                   parts=_PARALLEL, settings=dict(minibatches=4)),
    "ddpg": dict(_PENDULUM, steps=2500, lr=1e-3, parts=_STORED, settings=dict(uniform_steps=1000.0)),
}


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  """Returns the configuration; `arg` is None (PPO), another algorithm of the docstring, or "smoke"."""
  if arg not in (None, "", "smoke", *_ALGORITHMS):
    raise ValueError(f"configs/known_ground.py has no variant {arg!r}; it has: {', '.join(_ALGORITHMS)}, smoke")
  name = arg if arg in _ALGORITHMS else "ppo"
  config = ml_collections.ConfigDict()
  config.experiment = "experiments.known_ground"
  config.seed = 0
  config.eval_every = 0
  config.max_nonfinite = 5
  config.progress_metric = "episode_return"
  config.algorithm = name
  config.hidden = (64, 64)
  config.max_grad_norm = 10.0
  config.decay = True  # the learning rate falls to 0 by a cosine
  config.update(_ALGORITHMS[name])
  config.log_every = config.steps // 20
  config.checkpoint_every = config.steps
  if arg == "smoke":
    config.parts.eval_worlds = 2
    config.steps = config.log_every = config.checkpoint_every = 2
    config.hidden = (8,)
    config.parts.num_steps = 16
  return config


ARMS = {"learner": {}}
VARIANTS = {name: name for name in ("ppo", "dqn", "td3", "sac")}
CLAIM = results.Claim(
    paper="PPO, DQN, TD3 and SAC on known ground",
    arxiv="1707.06347",
    statement="The learners reach the marks that the environments are known by: PPO and DQN 475 in CartPole-v1, TD3 "
              "and SAC -200 in Pendulum-v1.",
    metric="last:eval/episode_return",
    method="learner",
    baselines=(),
    span=None,
    rule="mean return of 32 episodes after training, 95 % intervals over seeds: above the mark with all four "
         "algorithms; not reproduced if it lies at or below the mark with any; else inconclusive",
    seeds=tuple(range(8)),
    variant="ppo",
    also=("tail:episode_return", "last:total_steps"),
    curves=("episode_return",),
)


def verdict(result) -> verdicts.Verdict:
  """Judges by the rule in `CLAIM`."""
  return verdicts.decide(*(
      verdicts.Quantity(name, verdicts.seed_values(result, "learner", variant=name), variant["config"]["mark"])
      for name, variant in result["variants"].items()))


def sweep(add):
  """The learning rate of the chosen algorithm, three seeds each."""
  for lr in (3e-4, 1e-3, 3e-3):
    for seed in range(3):
      add(lr=lr, seed=seed)
