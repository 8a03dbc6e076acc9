"""The main job: Countdown by a small decoder, supervised warm-up, then TEMPO. Also known as the first run.

    python -m experiments.run --config=configs/quickstart.py            about 2 minutes on 2 cores
    python -m experiments.run --config=configs/quickstart.py:smoke      seconds, for tests
    python -m experiments.run --config=configs/quickstart.py --config.td_coef=0.0     GRPO in place of TEMPO
"""

import ml_collections


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  """Returns the configuration; `arg` is None or "smoke"."""
  if arg not in (None, "", "smoke"):
    raise ValueError(f"configs/quickstart.py has no variant {arg!r}; it has: smoke")
  config = ml_collections.ConfigDict()
  config.experiment = "experiments.quickstart"
  config.seed = 0
  config.steps = 250  # main updates, after the warm-up
  config.log_every = 10  # updates of one compiled chunk
  config.eval_every = 0  # 0: before and after only
  config.checkpoint_every = 50
  config.max_nonfinite = 5  # stop after this many skipped updates in a row
  config.progress_metric = "success"
  config.parallel = "none"  # "mesh" or "pmap" spreads the prompts over all devices

  config.task = ml_collections.ConfigDict(dict(num_numbers=2, max_number=50, max_target=99))
  config.model = ml_collections.ConfigDict(dict(layers=3, dim=128, heads=4, kv_heads=4, head_dim=32, ff_dim=384))
  config.warmup = ml_collections.ConfigDict(dict(steps=220, batch_size=32, lr=2e-3))

  config.prompts_per_update = 64
  config.group_size = 8  # responses to each prompt
  config.minibatches = 2
  config.lr = 3e-4
  config.lr_warmup = 20  # updates of linear rise: Adam's first steps are as large as its rate
  config.max_grad_norm = 1.0
  config.td_coef = 1.0  # weight of TEMPO's tree term; 0 is GRPO
  config.clip_low = 0.2
  config.clip_high = 0.28
  config.entropy_coef = 0.03
  config.eval_problems = 512

  if arg == "smoke":
    config.steps = config.log_every = config.checkpoint_every = 2
    config.warmup.steps = config.prompts_per_update = config.warmup.batch_size = 2
    config.minibatches = 1
    config.group_size = 4
    config.model.update(dict(layers=1, dim=32, heads=2, kv_heads=2, head_dim=16, ff_dim=32))
    config.eval_problems = 4
  return config


def sweep(add):
  """GRPO and TEMPO at three learning rates, three seeds each."""
  for td_coef in (0.0, 1.0):
    for lr in (1.5e-4, 3e-4, 6e-4):
      for seed in range(3):
        add(td_coef=td_coef, lr=lr, seed=seed)
