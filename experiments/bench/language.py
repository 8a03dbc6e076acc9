"""Sampling, updating and whole GRPO iterations of a small decoder, beside Tunix, Hugging Face, torch and TRL.

`python -m experiments.bench.language [--tunix-python=PATH] [--torch-python=PATH] [--rounds=3]` writes
`results/language.json` beside this file. The peers are no dependencies of this project: a flag names an interpreter
that has google-tunix, or torch, transformers and trl. What is not given or cannot be imported is left out, and said so.

All numbers are CPU seconds of one pinned thread. Each contestant is a process of its own that has compiled and warmed
up before; in a round every part is called once in each, in turns, so ratios are taken within a round. rlcore's process
keeps freed memory, as all its runs do (`training.memory`); the peers run as they come. Model: 4 layers,
width 256, 4 heads of 64, feed-forward 1024, 4096 tied tokens, float32; 4 prompts of 32 tokens, 8 responses of 128 to
each, no stop token, temperature 1.

- generate: log-probabilities included, but for Hugging Face (torch), whose `generate` would be slower with them. Floor:
  the matrix products at the rate of 32 x 256 x 1024, plus every key and value at the rate of a copy.
- update: forward, clip loss, backward, AdamW. rlcore takes the batch as 4 groups and runs each prompt once; the peers
  take 32 sequences of 160. torch: a plain step. tunix: the jitted step of its trainer with its GRPO loss.
- iteration: sample, reward, advantage, update. torch: a step of TRL's GRPOTrainer, beta 0. tunix: the two parts above,
  one after the other; its learner, which adds to that, is not run.
- memory: temporary bytes that the compiler plans for log-probabilities of a batch at 32768 tokens of vocabulary,
  relative to the same through the logits of all tokens at once: of the head alone, and with the trunk below.
"""

import argparse
from collections.abc import Callable
import pathlib
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.bench import peers
from experiments.bench import timing
from rlcore import policies
from rlcore.models import decoder
from rlcore.training import results
from rlcore.types import LanguageModel

RESULT = pathlib.Path(__file__).parent / "results" / "language.json"
TARGETS = {("generate", "tunix"): 3.0, ("generate", "torch"): 2.4, ("update", "tunix"): 1.35, ("update", "torch"): 1.0,
           ("iteration", "tunix"): 2.0, ("iteration", "torch"): 1.75}
FLOOR_TARGET, MEMORY_TARGET = 0.7, 1 / 8
LARGE_VOCAB = 32768


def start(interpreters: dict[str, str | None]) -> tuple[dict[str, peers.Contestant], dict[str, str]]:
  """Starts the contestants; returns them and why others are missing."""
  contestants, missing = {}, {}
  for name, interpreter in interpreters.items():
    if interpreter is None:
      missing[name] = f"no --{name}-python given"
    else:
      try:
        contestants[name] = peers.Contestant(interpreter, f"experiments.bench.peers_{name}")
      except (OSError, RuntimeError) as error:
        missing[name] = f"{type(error).__name__}: could not be started in the interpreter given"
        print(error, flush=True)
    print(f"{name}: {missing.get(name, 'ready')}", flush=True)
  return contestants, missing


def take_turns(contestants: dict[str, peers.Contestant], rounds: int) -> dict[str, dict[str, list[float]]]:
  """Returns part -> contestant -> CPU seconds of each round."""
  parts = {part: {name: [] for name, x in contestants.items() if part in x.parts}
           for part in contestants["rlcore"].parts}
  for _ in range(rounds):
    for part, seconds in parts.items():
      for name in seconds:
        seconds[name].append(contestants[name].call(part))
      print(f"{part:14}", *(f"{name} {x[-1]:.3f}" for name, x in seconds.items()), flush=True)
  return parts


def spread(values) -> dict[str, float]:
  """Returns median, least and greatest."""
  return {name: round(float(f(values)), 4) for name, f in (("median", np.median), ("min", np.min), ("max", np.max))}


def compare(seconds: dict[str, dict[str, list[float]]]) -> list[dict]:
  """Sets the rounds' ratios beside the targets; a target is met by the median."""
  rows = []
  for (part, peer), target in TARGETS.items():
    if peer in seconds[part]:
      ratio = spread(np.divide(seconds[part][peer], seconds[part]["rlcore"]))
      rows.append({"part": part, "what": f"{peer} / rlcore", "ratio": ratio, "target": f">= {target}",
                   "met": ratio["median"] >= target})
  floor = np.add(seconds["floor, matmul"]["rlcore"], seconds["floor, cache"]["rlcore"])
  share = spread(floor / seconds["generate"]["rlcore"])
  return rows + [{"part": "generate", "what": "floor / rlcore", "ratio": share, "target": f">= {FLOOR_TARGET}",
                  "met": share["median"] >= FLOOR_TARGET}]


def _full_logits(model: LanguageModel, params, prompts, prompt_mask, tokens, mask):
  """Scores responses through the logits of all of them."""
  sequence, present = (jnp.concatenate(x, 1)[:, :-1] for x in ((prompts, tokens), (prompt_mask, mask)))
  hidden = model.hidden(params, sequence, present)[:, prompts.shape[1] - 1:]
  log_probs = jax.nn.log_softmax(model.logits(params, hidden), -1)
  return jnp.take_along_axis(log_probs, tokens[..., None], -1)[..., 0]


def compete(path: pathlib.Path, contestants: dict[str, peers.Contestant], rounds: int,
            compare_seconds: Callable[[dict], list[dict]], *, unit: str = "CPU seconds of one thread", **beside: Any):
  """Lets contestants take turns, writes what they took and how it compares, and prints the comparison.

  Args:
    path: of the result file.
    contestants: who competes; they are closed.
    rounds: how many.
    compare_seconds: as `compare`.
    unit: of the seconds.
    **beside: what else the file holds.
  """
  seconds = take_turns(contestants, rounds)
  for contestant in contestants.values():
    contestant.close()
  rows = compare_seconds(seconds)
  results.write_result(path, {
      "unit": unit, "environment": results.environment(), "rounds": rounds,
      "contestants": {name: x.versions for name, x in contestants.items()}, "targets": rows, **beside,
      "seconds": {part: {name: spread(x) | {"rounds": [round(s, 4) for s in x]} for name, x in row.items()}
                  for part, row in seconds.items()}})
  for row in rows:
    print(row)


def memory() -> list[dict]:
  """Compares the temporary memory of scoring and of its gradient."""
  trunk = decoder.make_decoder(decoder.DecoderConfig(
      vocab_size=LARGE_VOCAB, context=peers.PROMPT + peers.NEW, layers=peers.LAYERS, dim=peers.DIM, heads=peers.HEADS,
      head_dim=peers.HEAD_DIM, ff_dim=peers.FF_DIM))
  # hidden states as if they were parameters: what is left is the head
  head = trunk._replace(hidden=lambda params, *_: params["hidden"], respond=None)
  params = jax.eval_shape(trunk.init, jax.random.key(0))
  shape = lambda dtype, *dims: jax.ShapeDtypeStruct(dims, dtype)
  hidden = shape(jnp.float32, peers.BATCH, peers.PROMPT + peers.NEW - 1, peers.DIM)
  batch = [shape(dtype, peers.BATCH, length) for length in (peers.PROMPT, peers.NEW) for dtype in (jnp.int32, bool)]

  def temporary(score, model, params, gradient):
    function = lambda params, *batch: score(model, params, *batch)
    if gradient:
      function = jax.grad(lambda params, *batch: jnp.sum(score(model, params, *batch)))
    return jax.jit(function).lower(params, *batch).compile().memory_analysis().temp_size_in_bytes

  rows = []
  for what, model, inputs in (("head", head, params | {"hidden": hidden}), ("whole model", trunk, params)):
    for gradient in (False, True):
      ours, full = (temporary(score, model, inputs, gradient) for score in (policies.token_log_probs, _full_logits))
      rows.append({"what": what, "pass": "gradient" if gradient else "log-probs", "bytes": ours, "full_bytes": full,
                   "ratio": round(ours / full, 4), "target": f"<= {MEMORY_TARGET}",
                   "met": ours / full <= MEMORY_TARGET})
      print("memory:", rows[-1], flush=True)
  return rows


def main():
  """Measures and writes."""
  parser = argparse.ArgumentParser(description="Speed of the language pieces.")
  parser.add_argument("--tunix-python", help="interpreter that has google-tunix")
  parser.add_argument("--torch-python", help="interpreter that has torch, transformers and trl")
  parser.add_argument("--rounds", type=int, default=3)
  flags = parser.parse_args()
  timing.one_thread()
  rooms = memory()
  contestants, missing = start({"rlcore": sys.executable, "tunix": flags.tunix_python, "torch": flags.torch_python})
  compete(RESULT, contestants, flags.rounds, compare, left_out=missing, memory=rooms)


if __name__ == "__main__":
  main()
