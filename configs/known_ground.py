"""The learners on known ground: PPO and DQN balance CartPole-v1, TD3 and SAC swing up Pendulum-v1, of gymnax.

    python -m experiments.run --config=configs/known_ground.py:ppo         one run; :dqn, :td3, :sac likewise
    python -m experiments.run --config=configs/known_ground.py:a2c         and :reinforce, :vtrace, :ddpg, :rdqn
    python -m experiments.reproduce --config=configs/known_ground.py       four algorithms on five seeds, curves, verdict
"""

import ml_collections
import numpy as np

from rlcore.training import results

_CART_POLE = dict(env="CartPole-v1", mark=475.0)
_PENDULUM = dict(env="Pendulum-v1", mark=-200.0)
_ROLLOUTS = dict(num_worlds=4, num_steps=128, gamma=0.99)
_REPLAY = dict(num_worlds=4, num_steps=2, num_updates=8, batch_size=64, capacity=50_000, learning_starts=1000, gamma=0.99)

# What each algorithm changes: fields of the config, `settings` of the algorithm, and `parts`, fields of its Parts.
_VARIANTS = {
    "ppo": dict(_CART_POLE, algorithm="ppo", steps=300, lr=1e-3, parts=_ROLLOUTS,
                settings=dict(epochs=4, minibatches=4, entropy_coef=0.01)),
    "dqn": dict(_CART_POLE, algorithm="dqn", steps=6000, lr=5e-4, parts=_REPLAY,
                settings=dict(epsilon_steps=10_000.0, target_period=250, target_rate=1.0, n=1)),
    "td3": dict(_PENDULUM, algorithm="td3", steps=2500, lr=1e-3, parts=_REPLAY,
                settings=dict(uniform_steps=1000.0, action_noise=0.1)),
    "sac": dict(_PENDULUM, algorithm="sac", steps=2500, lr=1e-3, parts=_REPLAY, settings=dict(uniform_steps=1000.0)),
}


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  """Returns the configuration; `arg` is None (PPO), the name of another algorithm, or "smoke"."""
  if arg not in (None, "", "smoke", *_VARIANTS):
    raise ValueError(f"configs/known_ground.py has no variant {arg!r}; it has: {', '.join(_VARIANTS)}, smoke")
  config = ml_collections.ConfigDict()
  config.experiment = "experiments.known_ground"
  config.seed = 0
  config.eval_every = 0
  config.max_nonfinite = 5
  config.progress_metric = "episode_return"
  config.hidden = (64, 64)
  config.max_grad_norm = 0.5
  config.decay = True
  config.update(_VARIANTS[arg if arg in _VARIANTS else "ppo"])
  config.log_every = config.steps // 20
  config.checkpoint_every = config.steps // 2
  return config
