"""The microscope's page in a real browser: real mouse, real keys, real pixels."""

import matplotlib.image
import numpy as np
import pytest

from rlcore.training import microscope
from tests.training import browser as browser_lib
from tests.training.test_microscope import decode, make_rollouts, trie_of
from tests.tolerance import close

pytestmark = pytest.mark.skipif(browser_lib.find() is None, reason=(
    "no Chromium on this machine: apt-get install --no-install-recommends chromium"))

TOKENS = np.array([[0, 1, 2, 3, 4], [0, 1, 2, 5, 5], [0, 1, 6, 5, 5], [7, 1, 2, 0, 0]])
VALID = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 1, 0], [1, 1, 1, 1, 1], [1, 1, 0, 0, 0]])
MASK = VALID * np.array([1, 0, 1, 1, 1])  # the second token is an observation
REWARDS = np.array([1.0, 0.0, 1.0, 0.0])
RAMP = np.linspace(-1, 1, 20).reshape(4, 5).round(3).astype(np.float32)
STEEP = np.where(TOKENS == 5, -4.0, 0.0).astype(np.float32)
LOG_PROBS = -np.arange(20.0).reshape(4, 5) / 7


@pytest.fixture(scope="module", name="browser")
def _browser(tmp_path_factory):
  browser = browser_lib.Browser(tmp_path_factory.mktemp("profile"))
  yield browser
  browser.close()


@pytest.fixture(scope="module", name="page")
def _page(tmp_path_factory):
  """Two groups: one in which every kind of token occurs, and one that is tied."""
  group = microscope.prepare_group(
      make_rollouts(TOKENS, MASK, VALID, LOG_PROBS), REWARDS, {"Ramp": RAMP, "Steep": STEEP}, decode, label="mixed")
  tied = microscope.prepare_group(
      make_rollouts(TOKENS[:2], MASK[:2]), np.ones(2), {"Ramp": np.zeros((2, 5)), "Steep": np.zeros((2, 5))}, decode)
  path = tmp_path_factory.mktemp("page") / "page.html"
  path.write_text(microscope.build_page([group, tied], title="a run", subtitle="step 7", own="Ramp"), "utf-8")
  return path


@pytest.fixture(scope="module", name="big")
def _big(tmp_path_factory):
  """64 responses of up to 4096 tokens."""
  rng = np.random.default_rng(0)
  tokens = rng.integers(0, 26, (64, 4096))
  for row in range(1, 64):
    depth = int(4096 * rng.beta(1, 4))
    tokens[row, :depth] = tokens[rng.integers(row), :depth]
  mask = np.arange(4096) < rng.integers(2000, 4097, 64)[:, None]
  mask[0] = True
  noise = rng.normal(size=tokens.shape).astype(np.float32)
  sparse = np.where(rng.random(tokens.shape) < 1e-3, noise, 0)
  credits = {"Noise": noise, "Sparse": sparse, **{f"Level {i}": np.full(tokens.shape, i - 2.5) for i in range(3)}}
  html = microscope.render(make_rollouts(tokens, mask, None, -np.abs(noise)), rng.integers(0, 2, 64), credits, decode)
  path = tmp_path_factory.mktemp("big") / "big.html"
  path.write_text(html, "utf-8")
  return path, tokens, mask, noise


def corner(browser, place, t, panel=0):
  """A point of a token's cell that no text and no mark covers."""
  box = browser.js(f"microscope.token({place}, {t}, {panel}).box")
  return box["right"] - 4, box["bottom"] - 4


def pixel(browser, *point):
  return browser.js(f"microscope.pixel({point[0]}, {point[1]})")


def rows(browser):
  return [browser.js(f"microscope.token({place}, 0).response") for place in range(4)]


def check_clean(browser):
  assert not browser.errors
  assert all(url.startswith(("file:", "data:")) for url in browser.requests), browser.requests


@pytest.mark.parametrize("dark", [False, True])
def test_every_token_has_the_colour_of_its_advantage(browser, page, dark):
  browser.open(page, dark=dark)
  state = browser.js("microscope.state()")
  assert state["view"] == "tokens" and state["panels"] == ["Ramp"] and state["dark"] == dark
  assert state["limits"][0] == 1.0 and browser.js("document.getElementById('high').textContent") == "+1"
  neutral = browser.js("microscope.colour(0)")
  assert (max(neutral) < 80) == dark and max(neutral) - min(neutral) < 10
  seen = 0
  for place, row in enumerate(rows(browser)):
    for t in np.flatnonzero(MASK[row]):
      value = float(RAMP[row, t])
      got = pixel(browser, *corner(browser, place, t))
      assert got == browser.js(f"microscope.colour({value})"), (row, t)
      assert (got[2] - got[0]) * value > 0, "blue is positive, orange negative"
      seen += 1
  assert seen == MASK.sum()
  check_clean(browser)


def test_stronger_credit_is_a_stronger_colour(browser, page):
  for dark in (False, True):
    browser.open(page, dark=dark)
    chroma = [browser.js(f"microscope.colour({value})") for value in np.linspace(-1, 1, 21)]
    blueness = [c[2] - c[0] for c in chroma]
    assert blueness[0] < blueness[5] < blueness[10] < blueness[15] < blueness[20]
    assert browser.js("microscope.colour(5)") == chroma[-1] and browser.js("microscope.colour(-5)") == chroma[0]


def test_the_mouse_tells_of_the_token_below_it(browser, page):
  browser.open(page)
  below, _ = trie_of(TOKENS, VALID, REWARDS)
  for place, row in enumerate(rows(browser)):
    for t in np.flatnonzero(VALID[row]):
      browser.mouse(*corner(browser, place, t))
      info = browser.js("microscope.hovered()")
      before, after = below[tuple(TOKENS[row, :t])], below[tuple(TOKENS[row, :t + 1])]
      assert (info["response"], info["position"], info["id"]) == (row, t, TOKENS[row, t])
      assert info["text"] == decode([TOKENS[row, t]]) and info["reward"] == REWARDS[row]
      assert (info["nPrev"], info["nNext"]) == (len(before), len(after))
      np.testing.assert_allclose([info["vPrev"], info["vNext"]], [np.mean(before), np.mean(after)], atol=1e-6)
      assert info["counted"] == bool(MASK[row, t])
      assert info["branch"] == (bool(MASK[row, t]) and len(after) < len(before))
      np.testing.assert_allclose(info["advantages"], [x[row, t] * MASK[row, t] for x in (RAMP, STEEP)], atol=1e-7)
      if MASK[row, t]:
        close(info["logProb"], LOG_PROBS[row, t], rtol=1e-6)
      card = browser.js("document.getElementById('card').innerText")
      assert f"id {TOKENS[row, t]} · position {t} · response #{row + 1}" in card
      assert ("not counted" in card) == (not MASK[row, t]) and "Ramp" in card and "Steep" in card
  browser.mouse(5, 5)
  assert browser.js("microscope.hovered()") is None and browser.js("document.getElementById('card').hidden")
  check_clean(browser)


def test_buttons_fold_choose_and_set_side_by_side(browser, page):
  browser.open(page)
  browser.click("[data-view=folded]")
  state = browser.js("microscope.state()")
  assert state["view"] == "folded" and state["segments"] == 6
  order = rows(browser)
  place = order.index(1)
  assert pixel(browser, *corner(browser, place, 3)) == browser.js(f"microscope.colour({RAMP[1, 3]})")
  browser.mouse(*corner(browser, place, 3))
  assert browser.js("microscope.hovered().id") == 5
  browser.click("#estimators button:nth-child(2)")
  state = browser.js("microscope.state()")
  assert state["panels"] == ["Steep"] and state["limits"][1] == 4.0
  strongest = browser.js("microscope.colour(-4, 1)")
  assert pixel(browser, *corner(browser, place, 3)) == strongest
  browser.click("[data-view=tokens]")
  assert pixel(browser, *corner(browser, place, 3)) == strongest
  browser.click("[data-panels=side]")
  state = browser.js("microscope.state()")
  assert state["panels"] == ["Ramp", "Steep"] and state["limits"] == [4.0, 4.0], "the panels share a scale"
  assert pixel(browser, *corner(browser, place, 3, 0)) == browser.js(f"microscope.colour({RAMP[1, 3]}, 0)") != strongest
  assert pixel(browser, *corner(browser, place, 3, 1)) == strongest
  assert browser.js("microscope.token(0, 0, 0).box.left") == browser.js("microscope.token(0, 0, 1).box.left")
  browser.mouse(*corner(browser, place, 3, 1))
  assert browser.js("microscope.hovered().panel") == 1
  browser.click("#own-scale")
  assert browser.js("microscope.state().limits") == [1.0, 4.0]
  browser.click("#estimators button:nth-child(1)")
  assert browser.js("microscope.state().panels") == ["Steep"]
  browser.click("#estimators button:nth-child(2)")
  assert browser.js("microscope.state().panels") == ["Steep"], "one panel stays"
  check_clean(browser)


def test_the_filter_leaves_branch_tokens(browser, page):
  browser.open(page)
  browser.click("#branches")
  state = browser.js("microscope.state()")
  assert state["branchOnly"] and state["columns"] == 3  # 0, 2 and 3; the observation is none
  order = rows(browser)
  assert pixel(browser, *corner(browser, order.index(0), 3)) == browser.js(f"microscope.colour({RAMP[0, 3]})")
  assert browser.js("microscope.token(0, 1).box.width") == 0 and browser.js("microscope.token(0, 4).box.width") == 0
  faint = pixel(browser, *corner(browser, order.index(2), 3))
  assert max(faint) - min(faint) < 10, "what is no branch has no colour"
  browser.click("#branches")
  assert browser.js("microscope.state().columns") == 5


def test_keys_move_and_switch(browser, page):
  browser.open(page)
  browser.js("document.getElementById('scroller').focus()")
  order = rows(browser)
  browser.key("ArrowRight")
  where = lambda: (browser.js("microscope.hovered().row"), browser.js("microscope.hovered().position"))
  assert where() == (0, 0)
  browser.key("ArrowRight")
  browser.key("ArrowDown")
  assert where() == (1, 1)
  browser.key("b")
  t = where()[1]
  assert browser.js("microscope.hovered().branch") and not browser.js(f"microscope.token(1, {t - 1}).branch")
  browser.key("Home")
  assert where() == (1, 0)
  browser.key("End")
  assert where() == (1, int(np.flatnonzero(VALID[order[1]])[-1]))
  browser.key("Escape")
  assert browser.js("microscope.hovered()") is None
  for key, name, value in (
      ("f", "view", "folded"), ("s", "side", True), ("o", "branchOnly", True), ("e", "panels", ["Steep"])):
    browser.key(key)
    assert browser.js(f"microscope.state().{name}") == value, key
  browser.key("p")
  assert browser.js("microscope.state().prompt") == 1
  check_clean(browser)


def test_a_tied_group_says_that_it_teaches_nothing(browser, page):
  browser.open(page)
  assert browser.js("document.getElementById('notice').hidden")
  browser.click("#next")
  assert browser.js("microscope.state().prompt") == 1
  notice = browser.js("document.getElementById('notice').innerText")
  assert notice.startswith("All 2 responses have reward 1: group-relative credit is 0 everywhere")
  assert pixel(browser, *corner(browser, 0, 0)) == browser.js("microscope.colour(0)")


@pytest.mark.parametrize("tokens, mask, rewards, notice", [
    (np.zeros((2, 3)), np.zeros((2, 3)), [0, 1], "hold no token that counts"),
    (np.zeros((1, 3)), np.ones((1, 3)), [0], ""),
    (np.zeros((2, 0)), np.zeros((2, 0)), [0, 1], "hold no token that counts"),
    (np.zeros((2, 3)), np.ones((2, 3)), [np.nan, 1], "not finite")])
def test_groups_with_little_in_them(browser, tmp_path, tokens, mask, rewards, notice):
  path = tmp_path / "page.html"
  credit = np.full(tokens.shape, rewards[0], np.float32)
  path.write_text(microscope.render(make_rollouts(tokens, mask), np.array(rewards), {"A": credit}, decode), "utf-8")
  browser.open(path)
  for view in ("folded", "tokens"):
    for only in ("true", "false"):
      browser.js(f"microscope.change({{view: '{view}', branchOnly: {only}, side: {only}}})")
      for key in ("ArrowRight", "ArrowDown", "b", "+", "-"):
        browser.key(key)
  assert notice in browser.js("document.getElementById('notice').innerText")
  if np.isnan(rewards[0]):
    red, green, blue = pixel(browser, *corner(browser, 0, 0))
    assert red > 180 and blue > 100 and green < 100, "magenta: neither credit nor blame"
  check_clean(browser)


def test_a_long_group_loads_and_stays_light(browser, big):
  path, tokens, mask, noise = big
  assert path.stat().st_size < 5e6
  browser.open(path)
  state = browser.js("microscope.state()")
  assert state["loadedAtTick"] <= 60 and state["view"] == "folded"
  assert browser.js("document.querySelectorAll('*').length") < 200
  for view in ("folded", "tokens"):
    for zoom in range(5):
      for side in ("false", "true"):
        state = browser.js(f"microscope.change({{view: '{view}', zoom: {zoom}, side: {side}}})"
                           ".then(() => microscope.state())")
        assert 0 < state["cells"] < 150_000, "only what is to be seen is drawn"
        assert len(state["rows"]) == (5 if side == "true" else 1)
  browser.js("microscope.change({view: 'tokens', zoom: 4, side: false, estimator: 0})")
  assert browser.js("microscope.state().cells") < 5000
  draws = browser.js("microscope.state().draws")
  places = {browser.js(f"microscope.token({place}, 0).response"): place for place in range(64)}
  for row, t in ((0, 4095), (0, 17), (40, 1500)):
    assert mask[row, t]
    browser.js(f"microscope.reveal({places[row]}, {t})")
    browser.mouse(*corner(browser, places[row], t))
    info = browser.js("microscope.hovered()")
    assert (info["response"], info["position"], info["id"]) == (row, t, tokens[row, t])
    np.testing.assert_allclose(info["advantages"][0], noise[row, t], atol=2e-4)
  assert browser.js("microscope.state().draws") > draws
  check_clean(browser)


def test_pooling_keeps_the_rare_strong_token(browser, big):
  path, *_ = big
  browser.open(path, width=700)
  browser.js("microscope.change({view: 'tokens', zoom: 0, estimator: 1})")
  image = "canvas.getContext('2d').getImageData(100, 0, 500, canvas.height).data"
  coloured = browser.js(f"(() => {{ const canvas = document.getElementById('canvas'), d = {image}; let n = 0; "
                        "for (let i = 0; i < d.length; i += 4) n += Math.abs(d[i] - d[i + 2]) > 60; return n; })()")
  size = browser.js("microscope.state().rows[0][1] * 16 * 500")
  assert coloured / size > 2e-3, "a thousandth of the tokens, eight to a pixel: drawn one for all it would be less"


def test_a_notebook_shows_it_in_a_frame(browser, page, tmp_path):
  path = tmp_path / "cell.html"
  frame = microscope.Frame(page.read_text("utf-8"), height=500)._repr_html_()
  path.write_text(f"<!doctype html><body>{frame}<script>window.microscope = {{ready: new Promise((done) => "
                  "setTimeout(done, 1500))}</script>", "utf-8")
  browser.open(path, width=900, height=540)
  shot = tmp_path / "shot.png"
  browser.screenshot(shot)
  colours = matplotlib.image.imread(shot)[..., :3]
  blue = (colours[..., 2] - colours[..., 0] > 0.3).mean()
  orange = (colours[..., 0] - colours[..., 2] > 0.3).mean()
  assert blue > 0.003 and orange > 0.003
  assert not browser.errors


def test_a_phone_sees_it_without_scrolling_sideways(browser, page):
  browser.open(page, width=390, height=780)
  assert browser.js("document.documentElement.scrollWidth") <= 390
  browser.mouse(*corner(browser, 0, 0))
  box = browser.js("document.getElementById('card').getBoundingClientRect().toJSON()")
  assert box["left"] >= 0 and box["right"] <= 390 and box["bottom"] <= 780
