// The state of the page, and the scene that is drawn from it.
const find = (id) => document.getElementById(id);
const scroller = find("scroller"),
  sheet = find("sheet"),
  canvas = find("canvas"),
  overview = find("overview"),
  card = find("card");
const context = canvas.getContext("2d", {alpha: false});
const style = () => getComputedStyle(document.documentElement);
const dark = matchMedia("(prefers-color-scheme: dark)");
const own = Math.max(
  0,
  DATA.estimators.findIndex((e) => e.own),
);
const state = {
  prompt: 0,
  view: null,
  side: false,
  estimator: own,
  chosen: DATA.estimators.map((_, i) => i),
  branchOnly: false,
  ownScale: false,
  zoom: null,
  at: null,
  keyboard: false,
};
const scene = {cells: 0, number: formatNumber, view: {x: 0, y: 0, width: 0, height: 0, ratio: 1}, at: null};
const groups = new Map();
const stats = {ticks: 0, draws: 0, loadedAtTick: null};
let pending = false,
  announce = 0,
  loading = null;

function readTheme() {
  const css = style(),
    mono = css.getPropertyValue("--mono"),
    sans = css.getPropertyValue("--sans");
  const ink = (name) => css.getPropertyValue("--" + name).trim();
  scene.palette = makePalette(dark.matches);
  scene.inks = {
    surface: ink("surface"),
    ink: ink("ink"),
    dim: ink("dim"),
    faint: ink("faint"),
    line: ink("line"),
    uncounted: ink("uncounted"),
    veil: ink("uncounted"),
  };
  scene.fonts = {
    mono: `12.5px ${mono}`,
    small: `11.5px ${mono}`,
    label: `12px ${sans}`,
    tick: `10.5px ${sans}`,
    heading: `600 13px ${sans}`,
  };
  scene.measure = makeMeasure(context, scene.fonts.mono);
  context.font = scene.fonts.label;
  scene.rewardWidth = context.measureText("reward").width;
}

function rescale() {
  // The panels that are shown share one scale, unless each is to have its own.
  const {group} = scene,
    shown = panels(),
    most = Math.max(...shown.map((e) => group.credits[e].most), 0);
  scene.ownScale = state.ownScale && shown.length > 1;
  scene.limits = group.credits.map((c, e) => (shown.includes(e) && !scene.ownScale ? most : c.most));
  const steps = new Map(),
    bitmaps = new Map();
  scene.stepsOf = (e) => {
    if (!steps.has(e)) steps.set(e, stepsOf(group, group.credits[e], scene.limits[e]));
    return steps.get(e);
  };
  const [r, g, b] = rgbOf(scene.inks.uncounted).map((x) => Math.round(255 * x));
  scene.bitmapOf = (e, cell) => {
    // No more pixels than can be seen, nor than a canvas can have.
    const pool = Math.max(1, Math.ceil(1 / (cell * scene.view.ratio)), Math.ceil(group.length / 16384)),
      key = e + ":" + pool;
    if (!bitmaps.has(key))
      bitmaps.set(
        key,
        makeBitmap(group, scene.stepsOf(e), scene.palette, pool, ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0),
      );
    return {bitmap: bitmaps.get(key), pool};
  };
  drawScale();
}

function drawScale() {
  const stops = scene.palette.css.filter((_, i) => i % 32 === 0 && i < ODD),
    limit = scene.limits[panels()[0]];
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
  scene.layout = layOut(
    scene.group,
    {view: state.view, branchOnly: state.branchOnly, zoom: state.zoom, panels: panels()},
    scene.measure,
    scene.view,
  );
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
  const {view} = scene,
    width = scroller.clientWidth,
    height = scroller.clientHeight,
    ratio = devicePixelRatio || 1;
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
