"""torch as a contestant of `experiments.bench.language`: Hugging Face `generate`, a plain step, TRL's GRPO trainer."""

import importlib.metadata
import tempfile
import time

import datasets
import numpy as np
import tokenizers
import torch
import transformers
import trl

from experiments.bench import peers


def model(**ends):
  """Makes the model of the common shape; `ends` are ids of special tokens."""
  config = transformers.LlamaConfig(
      vocab_size=peers.VOCAB, hidden_size=peers.DIM, intermediate_size=peers.FF_DIM, num_hidden_layers=peers.LAYERS,
      num_attention_heads=peers.HEADS, num_key_value_heads=peers.HEADS, head_dim=peers.HEAD_DIM, rms_norm_eps=1e-6,
      max_position_embeddings=peers.PROMPT + peers.NEW, tie_word_embeddings=True,
      **{"bos_token_id": None, "eos_token_id": None, "pad_token_id": 0} | ends)
  return transformers.LlamaForCausalLM(config)


def generate():
  """Returns one call of `generate`; without log-probabilities, which would make it slower."""
  policy = model().eval()
  prompts = np.random.default_rng(0).integers(1, peers.VOCAB, (peers.PROMPTS, peers.PROMPT))
  tokens = torch.as_tensor(np.repeat(prompts, peers.GROUP, 0))

  def call():
    with torch.inference_mode():
      out = policy.generate(tokens, attention_mask=torch.ones_like(tokens), do_sample=True, temperature=1.0, top_k=0,
                            top_p=1.0, max_new_tokens=peers.NEW)
    assert out.shape == (peers.BATCH, peers.PROMPT + peers.NEW), out.shape

  return lambda: peers.cpu_seconds(call)


def update():
  """Returns one step written plainly: forward, clip loss over the responses, backward, AdamW."""
  policy = model()
  optimizer = torch.optim.AdamW(policy.parameters(), lr=peers.LEARNING_RATE)
  tokens = torch.randint(1, peers.VOCAB, (peers.BATCH, peers.PROMPT + peers.NEW))
  advantages, old = torch.randn(peers.BATCH, 1), torch.full((peers.BATCH, peers.NEW), -float(np.log(peers.VOCAB)))

  def call():
    logits = policy(tokens, logits_to_keep=peers.NEW + 1, use_cache=False).logits[:, :-1]
    chosen = logits.gather(-1, tokens[:, peers.PROMPT:, None])[..., 0]
    ratio = torch.exp(chosen - torch.logsumexp(logits, -1) - old)
    clipped = torch.clamp(ratio, 1 - peers.CLIP_LOW, 1 + peers.CLIP_HIGH)
    (-torch.minimum(ratio * advantages, clipped * advantages).mean()).backward()
    optimizer.step()
    optimizer.zero_grad()

  return lambda: peers.cpu_seconds(call)


class _Clock(transformers.TrainerCallback):
  """Notes what one training step takes: generation is inside it."""

  def on_step_begin(self, *args, **kwargs):
    self.start = time.process_time()

  def on_step_end(self, *args, **kwargs):
    self.seconds = time.process_time() - self.start


def iteration(directory: str):
  """Returns one optimiser step of `GRPOTrainer`, without a reference model, gradient checkpointing or bfloat16."""
  words = tokenizers.Tokenizer(tokenizers.models.WordLevel({f"w{i}": i for i in range(peers.VOCAB)}, unk_token="w0"))
  words.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
  end = peers.VOCAB - 1
  tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=words, pad_token="w0", eos_token=f"w{end}")
  prompts = np.random.default_rng(0).integers(1, end, (64, peers.PROMPT))
  data = datasets.Dataset.from_dict({"prompt": [" ".join(f"w{i}" for i in prompt) for prompt in prompts]})
  settings = trl.GRPOConfig(
      output_dir=directory, max_steps=1, per_device_train_batch_size=peers.BATCH, gradient_accumulation_steps=1,
      num_generations=peers.GROUP, max_completion_length=peers.NEW, generation_kwargs={"min_new_tokens": peers.NEW},
      beta=0.0, temperature=1.0, learning_rate=peers.LEARNING_RATE, epsilon=peers.CLIP_LOW,
      epsilon_high=peers.CLIP_HIGH, gradient_checkpointing=False, bf16=False, use_cpu=True, report_to="none",
      save_strategy="no", disable_tqdm=True, logging_strategy="no")

  def even(completion_ids, **kwargs):
    del kwargs
    assert all(len(ids) == peers.NEW for ids in completion_ids)
    return [float(np.mean(np.asarray(ids) % 2 == 0)) for ids in completion_ids]

  clock = _Clock()
  trainer = trl.GRPOTrainer(model(eos_token_id=end), reward_funcs=even, args=settings, train_dataset=data,
                            processing_class=tokenizer, callbacks=[clock])

  def call():
    trainer.train()
    return clock.seconds

  return call


def main():
  """Takes turns."""
  torch.set_num_threads(1)
  torch.manual_seed(0)
  versions = {name: importlib.metadata.version(name) for name in ("torch", "transformers", "trl")}
  with tempfile.TemporaryDirectory() as directory:
    peers.serve(versions, {"generate": generate(), "update": update(), "iteration": iteration(directory)})


if __name__ == "__main__":
  main()
