"""Tunix as a contestant of `experiments.bench.language`: its sampler, and its trainer's step with its GRPO loss."""

import importlib.metadata

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from tunix.generate import sampler as sampler_lib
from tunix.models.llama3 import model as llama
from tunix.rl import algo_core
from tunix.rl import common
from tunix.rl.grpo import grpo_learner
from tunix.sft import peft_trainer

from experiments.bench import peers

NO_STOP = peers.VOCAB + 1  # no token ends a response


class Ids:
  """A tokenizer of blanks and numbers: the text "3 7" is tokens 3 and 7."""

  def encode(self, text):
    return [int(x) for x in text.split()]

  def decode(self, ids):
    del ids
    return ""  # turning tokens into text is not what is measured

  def bos_id(self):
    return 0  # none is put in front

  def eos_id(self):
    return NO_STOP

  def pad_id(self):
    return 0


def model():
  """Makes the model of the common shape."""
  config = llama.ModelConfig(
      num_layers=peers.LAYERS, vocab_size=peers.VOCAB, embed_dim=peers.DIM, hidden_dim=peers.FF_DIM,
      num_heads=peers.HEADS, head_dim=peers.HEAD_DIM, num_kv_heads=peers.HEADS, rope_theta=10_000, norm_eps=1e-6,
      weight_tying=True)
  return llama.Llama3(config, rngs=nnx.Rngs(0))


def generate():
  """Returns one call of the sampler, log-probabilities included."""
  cache = sampler_lib.CacheConfig(cache_size=peers.PROMPT + peers.NEW, num_layers=peers.LAYERS,
                                  num_kv_heads=peers.HEADS, head_dim=peers.HEAD_DIM)
  sampler = sampler_lib.Sampler(model(), Ids(), cache)
  prompts = np.random.default_rng(0).integers(1, peers.VOCAB, (peers.PROMPTS, peers.PROMPT))
  texts = [" ".join(map(str, prompt)) for prompt in prompts for _ in range(peers.GROUP)]

  def call():
    out = sampler(texts, max_generation_steps=peers.NEW, max_prompt_length=peers.PROMPT, temperature=1.0, top_p=1.0,
                  return_logprobs=True, eos_tokens=[NO_STOP], seed=0)
    assert all(len(tokens) == peers.NEW for tokens in out.tokens), [len(tokens) for tokens in out.tokens]

  return call


def update():
  """Returns one training step."""
  algorithm = grpo_learner.GRPOConfig(num_generations=peers.GROUP, beta=0.0, epsilon=peers.CLIP_LOW)
  algorithm.temperature = 1.0
  trainer = peft_trainer.PeftTrainer(model(), optax.adamw(peers.LEARNING_RATE),
                                     peft_trainer.TrainingConfig(eval_every_n_steps=1000))
  trainer.with_loss_fn(algo_core.grpo_loss_fn, has_aux=True)
  trainer.with_gen_model_input_fn(
      lambda x: {"train_example": x, "algo_config": algorithm, "pad_id": 0, "eos_id": NO_STOP})
  rng = np.random.default_rng(0)
  draw = lambda length: jnp.asarray(rng.integers(1, peers.VOCAB, (peers.BATCH, length)), jnp.int32)
  prompt, response = draw(peers.PROMPT), draw(peers.NEW)
  example = common.TrainExample(
      prompt_ids=prompt, prompt_mask=jnp.ones(prompt.shape), completion_ids=response,
      completion_mask=jnp.ones(response.shape), advantages=jnp.asarray(rng.normal(size=peers.BATCH), jnp.float32),
      ref_per_token_logps=None, old_per_token_logps=jnp.full(response.shape, -np.log(peers.VOCAB)))
  step, _ = trainer.jit_train_and_eval_step(cache_nnx_graph=True)
  return lambda: jax.block_until_ready(step(example))


def main():
  """Takes turns."""
  versions = {name: importlib.metadata.version(name) for name in ("google-tunix", "jax", "flax")}
  calls = {"generate": generate(), "update": update()}

  def both():
    calls["generate"]()
    calls["update"]()

  calls["iteration"] = both
  peers.serve(versions, {name: lambda call=call: peers.cpu_seconds(call) for name, call in calls.items()})


if __name__ == "__main__":
  main()
