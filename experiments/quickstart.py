"""The main job: a small decoder learns Countdown, first from demonstrations, then from TEMPO's credit."""

import functools

import ml_collections

from rlcore import advantages, losses
from rlcore.models import decoder
from rlcore.tasks import countdown
from rlcore.training import language
from rlcore.training import mesh as mesh_lib
from rlcore.training import state as state_lib
from rlcore.types import Experiment


def make_parts(config: ml_collections.ConfigDict) -> language.LanguageParts:
  """Composes the task, a decoder, TEMPO credit and the clipped loss; `config.parallel` spreads the prompts.

  `parallel` is "none", "mesh" (jit over all devices) or "pmap".
  """
  task = countdown.make_countdown(**config.task)
  model = decoder.make_decoder(decoder.DecoderConfig(
      vocab_size=task.vocab_size, context=task.max_prompt + task.max_response, **config.model))
  spread = {}
  if config.parallel == "mesh":
    spread = dict(constrain=mesh_lib.constrain_to(mesh_lib.make_mesh()))
  elif config.parallel == "pmap":
    spread = dict(axis_name=mesh_lib.DATA)
  elif config.parallel != "none":
    raise ValueError(f'parallel={config.parallel!r} is none of "none", "mesh", "pmap"')
  return language.LanguageParts(
      model=model,
      task=task,
      optimizer=state_lib.make_optimizer(config.lr, max_grad_norm=config.max_grad_norm, warmup_steps=config.lr_warmup),
      advantage_estimator=functools.partial(advantages.tempo, td_coef=config.td_coef),
      policy_loss=functools.partial(losses.clip_policy_loss, clip_low=config.clip_low, clip_high=config.clip_high),
      group_size=config.group_size,
      prompts_per_update=config.prompts_per_update,
      minibatches=config.minibatches,
      entropy_coef=config.entropy_coef,
      eval_problems=config.eval_problems,
      warmup=language.Warmup(config.warmup.steps, config.warmup.batch_size, state_lib.make_optimizer(
          config.warmup.lr, decay_steps=config.warmup.steps)),
      **spread)


def make_experiment(config: ml_collections.ConfigDict) -> Experiment:
  """Makes the experiment of `make_parts`."""
  experiment = language.make_language_experiment(make_parts(config))
  if config.parallel == "mesh":
    return mesh_lib.mesh_experiment(experiment, mesh_lib.make_mesh())
  return mesh_lib.pmap_experiment(experiment) if config.parallel == "pmap" else experiment
