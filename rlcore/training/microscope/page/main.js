// State, events and the small interface for scripts, `window.microscope`.
const find = (id) => document.getElementById(id);
const scroller = find("scroller"), sheet = find("sheet"), canvas = find("canvas"), overview = find("overview"), card = find("card");
const context = canvas.getContext("2d", {alpha: false});
const style = () => getComputedStyle(document.documentElement);
const dark = matchMedia("(prefers-color-scheme: dark)");
const own = Math.max(0, DATA.estimators.findIndex((e) => e.own));
const state = {prompt: 0, view: null, side: false, estimator: own, chosen: DATA.estimators.map((_, i) => i), branchOnly: false,
  ownScale: false, zoom: null, at: null, keyboard: false};
const scene = {cells: 0, number: formatNumber, view: {x: 0, y: 0, width: 0, height: 0, ratio: 1}, at: null};
const groups = new Map();
const stats = {ticks: 0, draws: 0, loadedAtTick: null};
let pending = false, announce = 0, loading = null;

function readTheme() {
  const css = style(), mono = css.getPropertyValue("--mono"), sans = css.getPropertyValue("--sans");
  const ink = (name) => css.getPropertyValue("--" + name).trim();
  scene.palette = makePalette(dark.matches);
  scene.inks = {surface: ink("surface"), ink: ink("ink"), dim: ink("dim"), faint: ink("faint"), line: ink("line"),
    uncounted: ink("uncounted"), veil: ink("uncounted")};
  scene.fonts = {mono: `12.5px ${mono}`, small: `11.5px ${mono}`, label: `12px ${sans}`, tick: `10.5px ${sans}`, heading: `600 13px ${sans}`};
  scene.measure = makeMeasure(context, scene.fonts.mono);
  context.font = scene.fonts.label;
  scene.rewardWidth = context.measureText("reward").width;
}

function rescale() {
  // The panels that are shown share one scale, unless each is to have its own.
  const {group} = scene, shown = panels(), most = Math.max(...shown.map((e) => group.credits[e].most), 0);
  scene.ownScale = state.ownScale && shown.length > 1;
  scene.limits = group.credits.map((c, e) => shown.includes(e) && !scene.ownScale ? most : c.most);
  const steps = new Map(), bitmaps = new Map();
  scene.stepsOf = (e) => {
    if (!steps.has(e)) steps.set(e, stepsOf(group, group.credits[e], scene.limits[e]));
    return steps.get(e);
  };
  const [r, g, b] = rgbOf(scene.inks.uncounted).map((x) => Math.round(255 * x));
  scene.bitmapOf = (e, cell) => {
    // No more pixels than can be seen, nor than a canvas can have.
    const pool = Math.max(1, Math.ceil(1 / (cell * scene.view.ratio)), Math.ceil(group.length / 16384)), key = e + ":" + pool;
    if (!bitmaps.has(key)) bitmaps.set(key, makeBitmap(group, scene.stepsOf(e), scene.palette, pool, (255 << 24 | b << 16 | g << 8 | r) >>> 0));
    return {bitmap: bitmaps.get(key), pool};
  };
  drawScale();
}

function drawScale() {
  const stops = scene.palette.css.filter((_, i) => i % 32 === 0 && i < ODD), limit = scene.limits[panels()[0]];
  document.querySelector(".bar").style.background = `linear-gradient(90deg, ${stops.join(",")})`;
  const text = scene.ownScale ? "most" : formatNumber(limit);
  find("low").textContent = limit > 0 ? "−" + text : "";
  find("high").textContent = limit > 0 ? "+" + text : "";
  find("scale").setAttribute("aria-label", `Colour scale: orange −${text}, neutral 0, blue +${text}`);
}

function panels() {
  return state.side ? state.chosen : [state.estimator];
}

function relayout() {
  if (!scene.group) return;
  measureView();
  scene.layout = layOut(scene.group, {view: state.view, branchOnly: state.branchOnly, zoom: state.zoom, panels: panels()}, scene.measure, scene.view);
  sheet.style.width = scene.layout.width + "px";
  sheet.style.height = scene.layout.height + "px";
  const strip = state.view === "tokens" && !state.branchOnly && scene.layout.width > scene.view.width + 1;
  if (strip === overview.hidden) {
    overview.hidden = !strip;
    measureView();
  }
  redraw();
}

function measureView() {
  const {view} = scene, width = scroller.clientWidth, height = scroller.clientHeight, ratio = devicePixelRatio || 1;
  if (view.width === width && view.height === height && view.ratio === ratio) return;
  Object.assign(view, {width, height, ratio});
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.width = width + "px";
  canvas.style.height = height + "px";
}

function redraw() {
  if (pending) return;
  pending = true;
  requestAnimationFrame(() => {
    pending = false;
    if (!scene.layout) return;
    scene.view.x = scroller.scrollLeft;
    scene.view.y = scroller.scrollTop;
    scene.at = state.at;
    drawScene(context, scene);
    if (!overview.hidden) drawOverview(overview, scene);
    stats.draws++;
    if (stats.loadedAtTick === null) stats.loadedAtTick = stats.ticks;
  });
}

// ---- the token that is looked at ----

function boxOf(at) {
  const {layout, group, view} = scene, [x, width] = spanOf(layout, group, at.row, at.t), frame = scroller.getBoundingClientRect();
  const left = frame.left + layout.gutter + x - scroller.scrollLeft, top = frame.top + layout.top[at.panel] + at.row * layout.rh - scroller.scrollTop;
  return {left, top, right: left + width, bottom: top + layout.rh, width, height: layout.rh};
}

function look(at, {keyboard = false, point = null} = {}) {
  const before = state.at, same = at && before && at.row === before.row && at.t === before.t && at.panel === before.panel;
  state.at = at;
  state.keyboard = keyboard;
  const info = at && tokenInfo(scene.group, at.row, at.t);
  card.hidden = !info;
  find("needle").hidden = true;
  if (!info) return redraw();
  if (!same) fillCard(card, info, scene);
  const box = boxOf(at);
  placeCard(card, point && box.width > 60 ? {left: point.x, right: point.x, top: box.top, bottom: box.bottom} : box);
  const estimator = scene.layout.panels[at.panel], limit = scene.limits[estimator], value = info.advantages[estimator];
  if (info.counted && Number.isFinite(value) && limit > 0) {
    find("needle").hidden = false;
    find("needle").style.left = 50 + 50 * value / limit + "%";
  }
  if (keyboard) {
    clearTimeout(announce);
    announce = setTimeout(() => { find("spoken").textContent = speak(info); }, 120);
  }
  redraw();
}

function reveal(at) {
  const {layout, group} = scene, [x, width] = spanOf(layout, group, at.row, at.t), y = layout.top[at.panel] + at.row * layout.rh;
  const room = scroller.clientWidth - layout.gutter;
  if (x < scroller.scrollLeft) scroller.scrollLeft = x - 20;
  else if (x + width > scroller.scrollLeft + room) scroller.scrollLeft = x + width - room + 40;
  if (y - HEADING < scroller.scrollTop + RULER) scroller.scrollTop = y - HEADING - RULER;
  else if (y + layout.rh > scroller.scrollTop + scroller.clientHeight) scroller.scrollTop = y + layout.rh - scroller.clientHeight + 8;
}

function moveTo(at) {
  if (!at) return;
  reveal(at);
  look(at, {keyboard: true});
}

const shows = (row, t) => {
  const flags = scene.group.flags[row * scene.group.length + t];
  return flags & VALID && (!state.branchOnly || state.view === "tokens" ? scene.layout.view === "folded" || scene.layout.w[t] > 0 : t === (segmentAt(scene.group, row, t) || {}).start);
};

function step(rowStep, tStep) {
  const {group} = scene, at = state.at;
  if (!at) return firstToken(0);
  let {panel, row, t} = at;
  if (rowStep) {
    row += rowStep;
    if (row < 0 || row >= group.size) {
      if (panel + rowStep < 0 || panel + rowStep >= scene.layout.panels.length) return null;
      panel += rowStep;
      row = rowStep > 0 ? 0 : group.size - 1;
    }
    while (t > 0 && !shows(row, t)) t--;
    return shows(row, t) ? {panel, row, t} : null;
  }
  for (t += tStep; t >= 0 && t < group.length; t += tStep) if (shows(row, t)) return {panel, row, t};
  return null;
}

function firstToken(row, from = 0, direction = 1) {
  for (let t = from; t >= 0 && t < scene.group.length; t += direction) if (shows(row, t)) return {panel: state.at ? state.at.panel : 0, row, t};
  return null;
}

function nextBranch(direction) {
  const {group} = scene, at = state.at || {panel: 0, row: 0, t: direction > 0 ? -1 : group.length};
  for (let t = at.t + direction; t >= 0 && t < group.length; t += direction) {
    if (group.flags[at.row * group.length + t] & BRANCH) return {...at, t};
  }
  return null;
}

// ---- controls ----

function refreshControls() {
  for (const button of document.querySelectorAll("[data-view]")) button.setAttribute("aria-pressed", button.dataset.view === state.view);
  for (const button of document.querySelectorAll("[data-panels]")) button.setAttribute("aria-pressed", (button.dataset.panels === "side") === state.side);
  [...find("estimators").children].forEach((chip, i) => chip.setAttribute("aria-pressed", panels().includes(i)));
  find("branches").checked = state.branchOnly;
  find("own-scale").checked = state.ownScale;
  find("own-scale").parentElement.hidden = panels().length < 2;
  const zooms = state.view === "tokens" && !state.branchOnly;
  find("zoom").hidden = !zooms;
  find("zoom-name").textContent = ZOOMS[state.zoom].name;
  find("in").disabled = state.zoom === ZOOMS.length - 1;
  find("out").disabled = state.zoom === 0;
  find("notice").textContent = noticeOf(scene.group);
  find("notice").hidden = !find("notice").textContent;
}

function noticeOf(group) {
  if (!group.counted) return "The responses of this group hold no token that counts.";
  const known = group.rewards.filter((r) => r !== null);
  if (known.length < group.size) return "Some rewards are not finite numbers; what depends on them is marked in magenta.";
  if (group.size > 1 && known.every((r) => r === known[0])) {
    return `All ${group.size} responses have reward ${formatNumber(known[0])}: group-relative credit is 0 everywhere, and the group teaches nothing.`;
  }
  if (state.branchOnly && !group.branchColumns.length) return "No token branches: the responses are copies of one another.";
  return "";
}

function change(patch) {
  const before = scene.scaleOf;
  Object.assign(state, patch);
  scene.scaleOf = [state.prompt, panels(), state.ownScale].join(";");
  if (scene.scaleOf !== before) rescale();
  look(null);
  refreshControls();
  relayout();
}

function chooseEstimator(i) {
  if (!state.side) return change({estimator: i});
  const chosen = state.chosen.includes(i) ? state.chosen.filter((x) => x !== i) : [...state.chosen, i].sort((a, b) => a - b);
  if (chosen.length) change({chosen, estimator: chosen.includes(state.estimator) ? state.estimator : chosen[0]});
}

function zoomBy(amount, center = null) {
  const zoom = Math.min(ZOOMS.length - 1, Math.max(0, state.zoom + amount));
  if (zoom === state.zoom || state.view !== "tokens" || state.branchOnly) return;
  const {layout, view} = scene, place = center === null ? (view.width - layout.gutter) / 2 : center;
  const t = layout.list[Math.min(columnAt(layout, scroller.scrollLeft + place), layout.list.length - 1)] || 0;
  change({zoom});
  scroller.scrollLeft = scene.layout.x[t] - place;
}

async function choosePrompt(index) {
  const mine = loading = {};
  find("loading").hidden = groups.has(index);
  if (!groups.has(index)) groups.set(index, readGroup(DATA.groups[index]));
  const group = await groups.get(index);
  if (mine !== loading) return;
  find("loading").hidden = true;
  scene.group = group;
  const known = group.rewards.filter((r) => r !== null);
  scene.meanReward = known.reduce((sum, r) => sum + r, 0) / Math.max(known.length, 1);
  scene.rewardSpread = known.reduce((m, r) => Math.max(m, Math.abs(r - scene.meanReward)), 0);
  state.prompt = index;
  if (state.view === null) state.view = group.length > 96 ? "folded" : "tokens";
  if (state.zoom === null) state.zoom = ZOOMS.length - 1;
  scroller.scrollLeft = scroller.scrollTop = 0;
  describeGroup(group, known);
  change({});
}

function describeGroup(group, known) {
  find("prompts").value = state.prompt;
  find("previous").disabled = state.prompt === 0;
  find("next").disabled = state.prompt === DATA.groups.length - 1;
  const text = group.raw.prompt.trim();
  find("prompt").textContent = text || "(empty prompt)";
  const share = group.counted && group.nodes ? 1 - group.nodes / group.segments.reduce((n, s) => n + (s.inTree ? (s.end - s.start) * (s.bottom - s.top) : 0), 0) : 0;
  const facts = [[group.size, group.size === 1 ? "response" : "responses"], [group.counted, "tokens"], [group.branchings, group.branchings === 1 ? "branching" : "branchings"],
    [Math.round(100 * share) + " %", "shared"], [known.length ? formatNumber(scene.meanReward) : "n/a", "mean reward"]];
  find("facts").replaceChildren(...facts.flatMap(([n, word], i) => [i ? " · " : "", element("b", "", n.toLocaleString("en")), " " + word]));
}

function setUp() {
  find("title").textContent = DATA.title || "Group";
  find("subtitle").textContent = DATA.subtitle;
  find("chooser").hidden = DATA.groups.length < 2;
  find("prompts").append(...DATA.groups.map((g, i) => new Option(g.label || `prompt ${i + 1} of ${DATA.groups.length}`, i)));
  find("estimators").append(...DATA.estimators.map((e, i) => {
    const chip = element("button", "", e.name);
    chip.type = "button";
    chip.title = e.note;
    if (e.own) chip.append(element("small", "", "this run"));
    chip.addEventListener("click", () => chooseEstimator(i));
    return chip;
  }));
  const on = (id, event, action) => find(id).addEventListener(event, action);
  on("prompts", "change", (e) => choosePrompt(Number(e.target.value)));
  on("previous", "click", () => choosePrompt(Math.max(0, state.prompt - 1)));
  on("next", "click", () => choosePrompt(Math.min(DATA.groups.length - 1, state.prompt + 1)));
  on("prompt", "click", (e) => { e.currentTarget.ariaExpanded = e.currentTarget.ariaExpanded !== "true"; relayout(); });
  on("branches", "change", (e) => change({branchOnly: e.target.checked}));
  on("own-scale", "change", (e) => change({ownScale: e.target.checked}));
  on("in", "click", () => zoomBy(1));
  on("out", "click", () => zoomBy(-1));
  for (const button of document.querySelectorAll("[data-view]")) button.addEventListener("click", () => change({view: button.dataset.view}));
  for (const button of document.querySelectorAll("[data-panels]")) button.addEventListener("click", () => change({side: button.dataset.panels === "side"}));
  listen();
}

function listen() {
  scroller.addEventListener("scroll", () => { if (state.at) look(state.keyboard ? state.at : null, {keyboard: state.keyboard}); redraw(); });
  const point = (e) => {
    if (!scene.layout) return;
    const frame = scroller.getBoundingClientRect(), x = e.clientX - frame.left, y = e.clientY - frame.top;
    const inside = x >= scene.layout.gutter && y >= RULER && x < scroller.clientWidth && y < scroller.clientHeight;
    look(inside ? hit(scene.layout, scene.group, x + scroller.scrollLeft, y + scroller.scrollTop) : null, {point: {x: e.clientX, y: e.clientY}});
  };
  scroller.addEventListener("pointermove", point);
  scroller.addEventListener("pointerdown", point);  // a finger does not hover
  scroller.addEventListener("pointerleave", (e) => { if (!state.keyboard && e.pointerType !== "touch") look(null); });
  scroller.addEventListener("wheel", (e) => {
    if (!e.ctrlKey && !e.metaKey) return;
    e.preventDefault();
    zoomBy(e.deltaY < 0 ? 1 : -1, e.clientX - scroller.getBoundingClientRect().left - scene.layout.gutter);
  }, {passive: false});
  const travel = (e) => {
    const t = Math.floor((e.offsetX - 24) / (overview.clientWidth - 48) * scene.group.length);
    scroller.scrollLeft = scene.layout.x[Math.min(scene.group.length, Math.max(0, t))] - (scene.view.width - scene.layout.gutter) / 2;
  };
  overview.addEventListener("pointerdown", (e) => { overview.setPointerCapture(e.pointerId); travel(e); });
  overview.addEventListener("pointermove", (e) => { if (e.buttons) travel(e); });
  document.addEventListener("keydown", onKey);
  dark.addEventListener("change", () => { readTheme(); if (scene.group) { rescale(); relayout(); } });
  new ResizeObserver(() => relayout()).observe(scroller);
}

function onKey(e) {
  if (e.ctrlKey || e.metaKey || e.altKey || !scene.layout || /^(SELECT|INPUT)$/.test(e.target.tagName)) return;
  const {group} = scene, row = state.at ? state.at.row : 0, moves = {
    ArrowLeft: () => step(0, -1), ArrowRight: () => step(0, 1), ArrowUp: () => step(-1, 0), ArrowDown: () => step(1, 0),
    Home: () => firstToken(row), End: () => firstToken(row, group.length - 1, -1), b: () => nextBranch(1), B: () => nextBranch(-1)};
  const count = DATA.estimators.length, turn = (by) => change({estimator: (state.estimator + by + count) % count, side: false});
  const acts = {
    f: () => change({view: state.view === "folded" ? "tokens" : "folded"}), s: () => change({side: !state.side}), e: () => turn(1), E: () => turn(-1),
    o: () => change({branchOnly: !state.branchOnly}), "+": () => zoomBy(1), "=": () => zoomBy(1), "-": () => zoomBy(-1),
    p: () => choosePrompt((state.prompt + 1) % DATA.groups.length), Escape: () => look(null)};
  if (e.key in moves && (e.key.length > 1 ? document.activeElement === scroller : true)) {
    e.preventDefault();
    if (document.activeElement !== scroller) scroller.focus({preventScroll: true});
    moveTo(moves[e.key]());
  } else if (e.key in acts) {
    e.preventDefault();
    acts[e.key]();
  }
}

function tick() {
  stats.ticks++;
  if (stats.loadedAtTick === null) requestAnimationFrame(tick);
}

const whenDrawn = () => new Promise((done) => { redraw(); requestAnimationFrame(() => requestAnimationFrame(done)); });

window.microscope = {
  // What is shown now.
  state: () => ({
    prompt: state.prompt, view: state.view, side: state.side, branchOnly: state.branchOnly, ownScale: state.ownScale, dark: dark.matches,
    zoom: ZOOMS[state.zoom].name, panels: panels().map((i) => DATA.estimators[i].name), limits: scene.limits,
    rows: scene.layout.panels.map((_, p) => visibleRows(scene, p).slice(0, 2)), columns: scene.layout.list ? scene.layout.list.length : null,
    segments: scene.group.segments.length, cells: scene.cells, ...stats}),
  hovered: () => state.at && {...tokenInfo(scene.group, state.at.row, state.at.t), panel: state.at.panel, segment: undefined},
  // The token at place `row` (as drawn, from the top), position `t`, and where on the screen it is.
  token: (row, t, panel = 0) => ({...tokenInfo(scene.group, row, t), segment: undefined, box: boxOf({row, t, panel})}),
  reveal: (row, t, panel = 0) => { reveal({row, t, panel}); return whenDrawn(); },
  // The colour that the palette gives to an advantage, and the one that is on the screen.
  colour: (value, estimator = 0) => scene.palette.rgb[stepOf(value, scene.limits[estimator])],
  pixel: (x, y) => {
    const frame = canvas.getBoundingClientRect(), ratio = scene.view.ratio;
    return [...context.getImageData(Math.round((x - frame.left) * ratio), Math.round((y - frame.top) * ratio), 1, 1).data].slice(0, 3);
  },
  change: (patch) => { change(patch); return whenDrawn(); },
  choosePrompt: (index) => choosePrompt(index).then(whenDrawn),
  whenDrawn,
};

readTheme();
setUp();
tick();
window.microscope.ready = choosePrompt(0).then(whenDrawn);
