"""Tree credit (`tempo_advantage`) by every method: growth with G and T, the crossover behind "auto", the speed targets.

`python -m experiments.bench.trees` writes `results/trees.json` and `results/trees.png` beside this file (about five
minutes). All numbers are CPU milliseconds of one pinned thread, dispatch included; every method's output is first
compared with that of the others, on small groups with a plain Python loop's too. Three kinds of group:

- tree: rows part early (each copies a short prefix of an earlier row, mean T / 16 tokens) and have ragged ends;
- late: all rows share all but 8 tokens, so nothing can stop early;
- comb: rows leave one common path one by one, the first row first; the most looks `refine` can be made to take.

Peers: `pairwise` compares all pairs and is the form to beat; "loop" is lists and a dictionary in Python, one token at a
time; "touch" reads tokens and mask once and writes one float per token, which nothing can beat by much.

`refine` is what `auto` takes for all but the smallest groups.
"""

import functools
import pathlib

import jax
import jax.numpy as jnp
import matplotlib
import matplotlib.pyplot as plt
import numpy as np

from experiments.bench import timing
from rlcore.advantages import trees
from rlcore.training import plots
from rlcore.training import results

METHODS = ("refine", "pairwise", "scan", "sort")
KINDS = ("tree", "late", "comb")
RESULTS = pathlib.Path(__file__).parent / "results"
TARGETS_MS = {(64, 4096): 6.0, (8, 512): 0.5}
OVER_G, OVER_T = (4, 8, 16, 32, 64, 128, 256), (64, 256, 1024, 4096, 16384)
CROSS_G, CROSS_T, PROMPTS = (2, 4, 8, 16, 32, 64), (32, 64, 128, 256, 512, 1024), 16


def group(kind: str, size: int, length: int, seed: int = 0):
  """Makes `(tokens [G, T] int32, rewards [G], mask [G, T])` of one kind."""
  rng = np.random.default_rng(seed)
  ends = np.full(size, length)
  tokens = np.tile(rng.integers(0, 32000, length), (size, 1))
  if kind == "tree":
    tokens = rng.integers(0, 32000, (size, length))
    ends = rng.integers(length // 2, length + 1, size)
    for i in range(1, size):
      shared = min(int(rng.exponential(length / 16)), length)
      tokens[i, :shared] = tokens[rng.integers(i), :shared]
  elif kind == "late":
    tokens[:, -8:] = rng.integers(0, 4, (size, 8))
  else:
    for i in range(size):
      tokens[i, i * length // size:] += 32000 + i
  mask = np.arange(length) < ends[:, None]
  return tokens.astype(np.int32), rng.integers(0, 2, size).astype(np.float32), mask.astype(np.float32)


def loop(tokens, rewards, mask):
  """Walks down from the root once per row, one token and one list of companions at a time; stops when it is alone."""
  tokens, rewards, mask = np.asarray(tokens).tolist(), np.asarray(rewards).tolist(), np.asarray(mask).tolist()
  mean = sum(rewards) / len(rewards)
  std = (sum((r - mean)**2 for r in rewards) / (len(rewards) - 1))**0.5
  value = {(): mean}
  out = []
  for row, reward, counts in zip(tokens, rewards, mask):
    companions, node, alone, credit = range(len(tokens)), (), False, []
    for t, (token, count) in enumerate(zip(row, counts)):
      change = 0.0
      if count and not alone:
        companions = [k for k in companions if mask[k][t] and tokens[k][t] == token]
        child = (companions[0], t)
        if child not in value:
          value[child] = sum(rewards[k] for k in companions) / len(companions)
        change, node, alone = value[child] - value[node], child, len(companions) == 1
      credit.append((reward - mean + change) / (std + 1e-6) if count else 0.0)
    out.append(credit)
  return np.array(out)


def touch(tokens, rewards, mask):
  """Reads everything once and writes one float per token."""
  return jnp.where(tokens == tokens[0], mask, rewards[:, None])


def _functions(names, wrap=lambda fn: fn):
  functions = {name: jax.jit(wrap(functools.partial(trees.tempo_advantage, method=name))) for name in names}
  return functions | {"touch": jax.jit(touch)}


def measure(kind: str, size: int, length: int, names) -> dict:
  """Times one group; raises where a method's answer differs."""
  arrays = group(kind, size, length)
  functions = _functions(names)
  expected = functions["pairwise"](*arrays)
  if size * length <= 16 * 512:
    functions["loop"] = loop
  for name in functions.keys() - {"touch"}:
    np.testing.assert_allclose(functions[name](*arrays), expected, rtol=1e-4, atol=1e-4, err_msg=name)
  times = timing.cpu_ms(functions, *(x if name == "loop" else jnp.asarray(x) for name, x in zip("trm", arrays)))
  print(f"{kind:5} G {size:4} T {length:6} ms:", *(f"{n} {x['median']:.3g}" for n, x in times.items()), flush=True)
  return {"kind": kind, "G": size, "T": length, "ms": times}


def crossover(kind: str, size: int, length: int) -> dict:
  """Times `PROMPTS` groups at once (`vmap`), per group; the dispatch of one small program would hide the difference."""
  arrays = tuple(jnp.stack(x) for x in zip(*(group(kind, size, length, seed) for seed in range(PROMPTS))))
  functions = _functions(("refine", "pairwise"), jax.vmap)
  del functions["touch"]
  times = timing.cpu_ms(functions, *arrays)
  ratio = round(times["pairwise"]["median"] / times["refine"]["median"], 3)
  print(f"{kind:5} G {size:4} T {length:6} pairwise / refine {ratio}", flush=True)
  return {"kind": kind, "G": size, "T": length, "prompts": PROMPTS, "pairwise_over_refine": ratio, "ms": times}


def _select(rows, kind, method, **fixed):
  chosen = [r for r in rows if r["kind"] == kind and method in r["ms"] and all(r[k] == v for k, v in fixed.items())]
  return sorted(chosen, key=lambda r: (r["G"], r["T"]))


def _growth(axes, rows, over, title, **fixed):
  ends = {}
  for method, colour in zip((*METHODS, "touch"), plots.COLOURS):
    for kind, style in (("tree", "-"), ("late", "--")):
      line = _select(rows, kind, method, **fixed)
      x, times = [r[over] for r in line], [r["ms"][method] for r in line]
      middle = [t["median"] for t in times]
      axes.plot(x, middle, style, color=colour, linewidth=2.2 if method == "refine" else 1.3, marker="o", markersize=3)
      axes.fill_between(x, [t["q25"] for t in times], [t["q75"] for t in times], color=colour, alpha=0.15, linewidth=0)
      if kind == "tree":
        ends[method] = (x[-1], middle[-1], colour)
  height = 0.0
  for method, (x, y, colour) in sorted(ends.items(), key=lambda end: end[1][1]):
    height = max(y, 1.45 * height)  # labels keep clear of each other
    axes.annotate(method, (x, height), (7, -3), textcoords="offset points", fontsize=9, color=colour)
  for (size, length), target in TARGETS_MS.items():
    if fixed.get("G", size) == size and fixed.get("T", length) == length:
      at = {"G": size, "T": length}[over]
      axes.plot(at, target, marker="v", color="0.2", markersize=8, linestyle="none")
      axes.annotate(f"target {target:g} ms", (at, target), (9, -3), textcoords="offset points", fontsize=8, color="0.2")
  axes.set(xscale="log", yscale="log", xlabel=over, ylabel="CPU ms, one thread", title=title)
  ticks = sorted({r[over] for r in rows if all(r[k] == v for k, v in fixed.items())})
  axes.set_xticks(ticks, [str(t) for t in ticks])
  axes.minorticks_off()
  axes.set_xlim(ticks[0] * 0.8, ticks[-1] * (ticks[-1] / ticks[0])**0.18)
  axes.grid(color="0.92")
  axes.spines[["top", "right"]].set_visible(False)


def _map(axes, rows):
  worst = np.array([[min(r["pairwise_over_refine"] for r in rows if (r["G"], r["T"]) == (g, t)) for t in CROSS_T]
                    for g in CROSS_G])
  axes.imshow(np.log2(worst), cmap="RdBu", vmin=-4, vmax=4, origin="lower", aspect="auto")
  for i, size in enumerate(CROSS_G):
    for j, length in enumerate(CROSS_T):
      bold = "bold" if trees.refine_is_faster(size, length) else "normal"
      axes.text(j, i, f"{worst[i, j]:.2g}", ha="center", va="center", fontsize=9, fontweight=bold,
                color="white" if abs(np.log2(worst[i, j])) > 2.6 else "0.1")
  axes.set(xlabel="T", ylabel="G", xticks=range(len(CROSS_T)), xticklabels=CROSS_T, yticks=range(len(CROSS_G)),
           yticklabels=CROSS_G, title=f"pairwise / refine, vmap over {PROMPTS}, worse kind\nbold: auto takes refine")


def picture(result: dict, path: pathlib.Path):
  """Draws growth with T and G on log axes and the crossover."""
  matplotlib.use("Agg")
  figure, axes = plt.subplots(1, 3, figsize=(16, 5), layout="constrained")
  _growth(axes[0], result["groups"], "T", "Growth with T, G = 64", G=64)
  _growth(axes[1], result["groups"], "G", "Growth with G, T = 4096", T=4096)
  _map(axes[2], result["crossover"])
  figure.suptitle("Tree credit of one group (solid: rows part early, dashed: rows share all but 8 tokens)", fontsize=12)
  figure.savefig(path, dpi=110)
  plt.close(figure)


def main():
  """Measures, checks and draws."""
  timing.one_thread()
  shapes = sorted({(g, 4096) for g in OVER_G} | {(64, t) for t in OVER_T} | {(8, 512), (16, 512)})
  rows = []
  for size, length in shapes:
    names = METHODS if size * size * length <= 2**27 else ("refine", "pairwise", "sort")
    for kind in KINDS if (size, length) in TARGETS_MS else KINDS[:2]:
      rows.append(measure(kind, size, length, names))
  cross = [crossover(kind, g, t) for g in CROSS_G for t in CROSS_T for kind in KINDS[:2]]
  targets = [{"G": r["G"], "T": r["T"], "kind": r["kind"], "target_ms": TARGETS_MS[r["G"], r["T"]],
              "ms": r["ms"]["refine"]} | {
                  f"{name}_over_refine": round(x["median"] / r["ms"]["refine"]["median"], 2)
                  for name, x in r["ms"].items() if name != "refine"}
             for r in rows if (r["G"], r["T"]) in TARGETS_MS]
  result = {"unit": "CPU ms of one thread per group", "environment": results.environment(), "targets": targets,
            "groups": rows, "crossover": cross}
  RESULTS.mkdir(exist_ok=True)
  results.write_result(RESULTS / "trees.json", result)
  picture(result, RESULTS / "trees.png")
  for target in targets:
    print(target)


if __name__ == "__main__":
  main()
