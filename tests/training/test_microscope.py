"""What the microscope's page holds: the folded tree against a trie of dicts, values, and no word to the network."""

import base64
import functools
import html
import json
import pathlib
import re
import tomllib
import zlib

import jax.numpy as jnp
import numpy as np
import pytest

from rlcore import advantages
from rlcore.training import microscope
from rlcore.training.microscope import data
from rlcore.types import Rewards, Rollouts

ROOT = pathlib.Path(__file__).parents[2]


def make_rollouts(tokens, mask, valid=None, log_probs=None):
  tokens, mask = np.asarray(tokens, np.int32), np.asarray(mask, np.float32)
  return Rollouts(
      tokens=jnp.asarray(tokens), mask=jnp.asarray(mask), prompt=jnp.arange(3), prompt_mask=jnp.array([0.0, 1.0, 1.0]),
      log_probs=jnp.zeros(mask.shape) if log_probs is None else jnp.asarray(log_probs),
      valid=None if valid is None else jnp.asarray(valid, jnp.float32))


def decode(ids):
  return "".join(chr(97 + int(i)) if 0 <= i < 26 else "?" for i in np.asarray(ids).reshape(-1))


def unpack(text, dtype):
  return np.frombuffer(zlib.decompress(base64.b64decode(text)), np.dtype(dtype).newbyteorder("<"))


def unpack_values(values, group):
  table = unpack(values["table"], np.float32)
  return table[unpack(values["codes"], np.uint16)].reshape(group["size"], group["length"])


def content_of(page):
  return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])


def trie_of(tokens, valid, rewards):
  """Rewards below every node, by the tuple of its tokens; and the leading valid run of every row."""
  below, runs = {}, []
  for row, flags, reward in zip(tokens, valid, rewards, strict=True):
    run = next((t for t, flag in enumerate(flags) if not flag), len(row))
    runs.append(run)
    for t in range(run + 1):
      below.setdefault(tuple(row[:t]), []).append(float(reward))
  return below, runs


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("with_valid", [False, True])
def test_the_folded_tree_is_that_of_a_trie(seed, with_valid):
  rng = np.random.default_rng(seed)
  size, length = ((7, 9), (1, 3), (7, 9))[seed % 3]  # few shapes: each is compiled
  tokens = rng.integers(0, 1 + seed // 4, (size, length)).astype(np.int32)
  lengths = rng.integers(0, length + 1, size)
  real = np.arange(length) < lengths[:, None]
  holes = rng.random((size, length)) < 0.1
  mask = real & ~holes
  valid = real if with_valid else mask  # with `valid`, holes of the mask are observations
  tokens = np.where(valid, tokens, rng.choice([-1, 99], tokens.shape)).astype(np.int32)
  rewards = rng.integers(0, 3, size).astype(np.float32)
  credit = rng.normal(size=tokens.shape).astype(np.float32)
  rollouts = make_rollouts(tokens, mask, valid if with_valid else None, credit - 5)
  group = microscope.prepare_group(rollouts, rewards, {"x": np.where(mask, credit, np.nan)}, decode)

  order, columns = group["rows"], group["segments"]
  assert sorted(order) == list(range(size)) and group["length"] == (np.flatnonzero(valid.any(0)).max(initial=-1) + 1)
  tokens, mask, valid, rewards, credit = (x[order] for x in (tokens, mask, valid, rewards, credit))
  below, runs = trie_of(tokens, valid, rewards)
  covered = np.zeros((size, group["length"]), int)
  for i, start in enumerate(columns["start"]):
    end, top, bottom = (columns[name][i] for name in ("end", "top", "bottom"))
    assert start < end and top < bottom
    covered[top:bottom, start:end] += 1
    if not columns["n_next"][i]:
      assert bottom == top + 1 and start > runs[top] and columns["parent"][i] == -1
      continue
    for t in range(start, end):
      nodes = {tuple(row[:t + 1]) for row in tokens[top:bottom]}
      assert len(nodes) == 1, "the rows of a segment share their prefix"
      members = below[nodes.pop()]
      assert len(members) == bottom - top == columns["n_next"][i]
      np.testing.assert_allclose(columns["v_next"][i], np.mean(members), atol=1e-6)
    before = below[tuple(tokens[top, :start])]
    assert columns["n_prev"][i] == len(before) and (start == 0) == (columns["parent"][i] == -1)
    np.testing.assert_allclose(columns["v_prev"][i], np.mean(before), atol=1e-6)
    if start:
      assert len(before) > bottom - top, "a segment begins only where rows part"
      parent = columns["parent"][i]
      assert columns["end"][parent] == start and columns["top"][parent] <= top and bottom <= columns["bottom"][parent]
  np.testing.assert_array_equal(covered, valid[:, :group["length"]])

  cut = lambda x: x[:, :group["length"]]
  flags = unpack(group["flags"], np.uint8).reshape(covered.shape)
  np.testing.assert_array_equal(flags & data.COUNTED > 0, cut(mask))
  np.testing.assert_array_equal(flags & data.VALID > 0, cut(valid))
  parts = [[t < runs[g] and len(below[tuple(row[:t])]) > len(below[tuple(row[:t + 1])]) and mask[g, t]
            for t in range(group["length"])] for g, row in enumerate(tokens)]
  np.testing.assert_array_equal(flags & data.BRANCH > 0, np.array(parts, bool).reshape(covered.shape))
  ids = np.array(group["vocab"])[unpack(group["tokens"], np.uint16)].reshape(covered.shape)
  np.testing.assert_array_equal(ids[cut(valid)], cut(tokens)[cut(valid)])
  np.testing.assert_array_equal(unpack_values(group["advantages"]["x"], group), np.where(cut(mask), cut(credit), 0))
  np.testing.assert_array_equal(unpack_values(group["log_probs"], group), np.where(cut(mask), cut(credit - 5), 0))
  assert group["prompt"] == "bc" and group["rewards"] == rewards.tolist()


def test_the_better_branch_comes_first():
  tokens = [[0, 1], [0, 2], [3, 0], [0, 2]]
  group = microscope.prepare_group(make_rollouts(tokens, np.ones((4, 2))), np.array([0.0, 1, 0.2, 1]), {}, decode)
  assert group["rows"] == [1, 3, 0, 2]


def test_values_are_exact_while_they_fit_and_close_beyond():
  rng = np.random.default_rng(0)
  few = rng.normal(size=(7, 9)).astype(np.float32)
  few[0, 0], few[1, 1], few[2, 2] = np.nan, np.inf, -np.inf
  keep = np.ones(few.shape, bool)
  read = lambda coded, shape: unpack(coded["table"], np.float32)[unpack(coded["codes"], np.uint16)].reshape(shape)
  np.testing.assert_array_equal(read(data.encode_values(few, keep), few.shape), few)
  many = rng.normal(size=(40, 4096)).astype(np.float32)
  many[0, :5] = 0, np.nan, np.inf, -np.inf, 0
  got = read(data.encode_values(many, np.ones(many.shape, bool)), many.shape)
  finite = np.isfinite(many)
  assert np.abs(got[finite] - many[finite]).max() <= np.ptp(many[finite]) / 60_000
  np.testing.assert_array_equal(got[~finite], many[~finite])
  assert got[0, 0] == got[0, 4] == 0, "zero stays zero: it is drawn as neutral"


@pytest.mark.parametrize("seed", range(5))
def test_estimators_beside_the_runs_own(seed):
  rng = np.random.default_rng(seed)
  size, length = 6, 7
  tokens = rng.integers(0, 2, (size, length))
  mask = np.arange(length) < rng.integers(1, length + 1, size)[:, None]
  rewards = rng.normal(size=size).astype(np.float32)
  rollouts = make_rollouts(tokens, mask)
  below, runs = trie_of(tokens, mask, rewards)
  mean = lambda g, t: np.mean(below[tuple(tokens[g, :t])])
  parts = lambda g, t: len(below[tuple(tokens[g, :t])]) > len(below[tuple(tokens[g, :t + 1])])
  changes = np.array([[mean(g, t + 1) - mean(g, t) if t < runs[g] and parts(g, t) else 0.0 for t in range(length)]
                      for g in range(size)])
  ends = np.array([[t < runs[g] and parts(g, t) for t in range(length)] for g in range(size)])
  std = rewards.std(ddof=1) + 1e-6
  outcome = Rewards(outcome=jnp.asarray(rewards))
  np.testing.assert_allclose(microscope.redistributed(outcome, rollouts), changes / std, atol=1e-5)
  steps = np.where(ends, (changes - changes[ends].mean()) / (changes[ends].std() + 1e-6), 0)
  expected = np.where(mask, steps[:, ::-1].cumsum(1)[:, ::-1], 0)
  np.testing.assert_allclose(microscope.step_level(outcome, rollouts), expected, atol=1e-4)

  evenly = np.asarray(microscope.redistributed(outcome, rollouts, uniform=True))
  np.testing.assert_allclose(evenly.sum(1), (rewards - rewards.mean()) / std, atol=1e-5)
  assert all(len(set(row[keep].tolist())) == 1 and not row[~keep].any() for row, keep in zip(evenly, mask, strict=True))

  process = np.where((rng.random(tokens.shape) < 0.4) & mask, rng.normal(size=tokens.shape), 0).astype(np.float32)
  process[0, 0] = 1.0
  given = process != 0
  steps = np.where(given, (process - process[given].mean()) / (process[given].std() + 1e-6), 0)
  got = microscope.step_level(Rewards(outcome.outcome, jnp.asarray(process)), rollouts)
  np.testing.assert_allclose(got, np.where(mask, steps[:, ::-1].cumsum(1)[:, ::-1], 0), atol=1e-4)


@pytest.mark.parametrize("name", microscope.STANDARD)
def test_a_tied_group_earns_nothing(name):
  rollouts = make_rollouts([[0, 1], [0, 2]], [[1, 1], [1, 0]])
  credit = microscope.STANDARD[name](Rewards(outcome=jnp.ones(2)), rollouts)
  np.testing.assert_array_equal(credit, np.zeros((2, 2)))
  assert name in microscope.NOTES


def test_estimators_are_known_by_function_and_settings():
  tempo = functools.partial(advantages.tempo, td_coef=1.0)
  assert microscope.same(tempo, advantages.tempo) and microscope.same(functools.partial(tempo, eps=1e-6), tempo)
  assert not microscope.same(functools.partial(tempo, td_coef=0.5), tempo)
  assert not microscope.same(advantages.group_relative, tempo)
  assert not microscope.same(functools.partial(advantages.group_relative, scale="mad"), advantages.group_relative)
  assert microscope.describe(functools.partial(tempo, td_coef=0.5)) == "tempo(td_coef=0.5)"
  assert microscope.describe(lambda rewards, batch: 0) == "lambda()"


def small_page(decode=decode, **settings):
  rollouts = make_rollouts([[0, 1], [0, 2]], np.ones((2, 2)))
  return microscope.render(rollouts, np.array([0.0, 1.0]), {"A": np.ones((2, 2))}, decode, **settings)


def test_the_page_needs_nothing_from_outside():
  page = small_page()
  assert not re.search(r"https?://|//[a-z]+\.|@import|url\(|\ssrc=|<link(?! rel=\"icon\" href=\"data:,\")", page)
  assert page.count("<script") == 2 and "/*DATA*/" not in page and "/*SCRIPT*/" not in page and "/*STYLE*/" not in page


def test_text_cannot_leave_its_place():
  evil = '</script><script>alert("x")</script><!-- /*DATA*/'
  page = small_page(decode=lambda ids: evil, title=evil, subtitle=evil)
  assert page.count("<script") == 2 and "<!-- /*" not in page
  content = content_of(page)
  group = content["groups"][0]
  assert content["title"] == evil and group["texts"][0] == evil and group["prompt"] == evil


def test_a_frame_holds_the_whole_page():
  page = small_page()
  frame = microscope.Frame(page, height=400)._repr_html_()
  assert html.unescape(re.search(r'srcdoc="(.*?)"', frame, re.DOTALL)[1]) == page and "height:400px" in frame


def test_rewards_that_are_not_finite_are_valid_json():
  rollouts = make_rollouts([[0, 1], [0, 2]], np.ones((2, 2)))
  page = microscope.render(rollouts, np.array([np.nan, 1.0]), {"A": np.full((2, 2), np.nan)}, decode)
  strict = json.loads(json.dumps(content_of(page)), parse_constant=lambda name: pytest.fail(name))
  assert None in strict["groups"][0]["rewards"]


@pytest.mark.parametrize("change, message", [
    (dict(rewards=np.zeros(3)), r"rewards: shape \[3\], but the group needs \[2\]"),
    (dict(credit=np.zeros((2, 3))), r"A: shape \[2, 3\], but the group needs \[2, 2\]"),
    (dict(tokens=np.zeros((0, 2))), r"one group of token rollouts \[G, T\] with G >= 1, not \[0, 2\]"),
    (dict(tokens=np.zeros((1, 2, 2))), r"one group of token rollouts \[G, T\] with G >= 1, not \[1, 2, 2\]")])
def test_shapes_that_do_not_fit_are_told(change, message):
  tokens = change.get("tokens", np.zeros((2, 2)))
  with pytest.raises(ValueError, match=message):
    microscope.render(make_rollouts(tokens, np.ones(tokens.shape)), change.get("rewards", np.zeros(2)),
                      {"A": change.get("credit", np.zeros((2, 2)))}, decode)


def test_groups_of_a_page_name_the_same_estimators():
  one = content_of(small_page())["groups"][0]
  with pytest.raises(ValueError, match="no group"):
    microscope.build_page([])
  with pytest.raises(ValueError, match="same estimators"):
    microscope.build_page([one, {**one, "advantages": {"B": one["advantages"]["A"]}}])


def test_the_page_is_part_of_an_installation():
  patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
  folder = ROOT / "rlcore" / "training" / "microscope"
  kept = {path for pattern in patterns["rlcore.training.microscope"] for path in folder.glob(pattern)}
  assert kept >= {path for path in folder.rglob("*") if path.suffix in (".html", ".css", ".js")} and len(kept) >= 8
