// Events, and the small interface for scripts, `window.microscope`.
function setUp() {
  find("title").textContent = DATA.title || "Group";
  find("subtitle").textContent = DATA.subtitle;
  find("chooser").hidden = DATA.groups.length < 2;
  find("prompts").append(
    ...DATA.groups.map((g, i) => new Option(g.label || `prompt ${i + 1} of ${DATA.groups.length}`, i)),
  );
  find("estimators").append(
    ...DATA.estimators.map((e, i) => {
      const chip = element("button", "", e.name);
      chip.type = "button";
      chip.title = e.note;
      if (e.own) chip.append(element("small", "", "this run"));
      chip.addEventListener("click", () => chooseEstimator(i));
      return chip;
    }),
  );
  const on = (id, event, action) => find(id).addEventListener(event, action);
  on("prompts", "change", (e) => choosePrompt(Number(e.target.value)));
  on("previous", "click", () => choosePrompt(Math.max(0, state.prompt - 1)));
  on("next", "click", () => choosePrompt(Math.min(DATA.groups.length - 1, state.prompt + 1)));
  on("prompt", "click", (e) => {
    e.currentTarget.ariaExpanded = e.currentTarget.ariaExpanded !== "true";
    relayout();
  });
  on("branches", "change", (e) => change({branchOnly: e.target.checked}));
  on("own-scale", "change", (e) => change({ownScale: e.target.checked}));
  on("in", "click", () => zoomBy(1));
  on("out", "click", () => zoomBy(-1));
  for (const button of document.querySelectorAll("[data-view]"))
    button.addEventListener("click", () => change({view: button.dataset.view}));
  for (const button of document.querySelectorAll("[data-panels]"))
    button.addEventListener("click", () => change({side: button.dataset.panels === "side"}));
  listen();
}

function listen() {
  scroller.addEventListener("scroll", () => {
    if (state.at) look(state.keyboard ? state.at : null, {keyboard: state.keyboard});
    redraw();
  });
  const point = (e) => {
    if (!scene.layout) return;
    const frame = scroller.getBoundingClientRect(),
      x = e.clientX - frame.left,
      y = e.clientY - frame.top;
    const inside = x >= scene.layout.gutter && y >= RULER && x < scroller.clientWidth && y < scroller.clientHeight;
    look(inside ? hit(scene.layout, scene.group, x + scroller.scrollLeft, y + scroller.scrollTop) : null, {
      point: {x: e.clientX, y: e.clientY},
    });
  };
  scroller.addEventListener("pointermove", point);
  scroller.addEventListener("pointerdown", point); // a finger does not hover
  scroller.addEventListener("pointerleave", (e) => {
    if (!state.keyboard && e.pointerType !== "touch") look(null);
  });
  scroller.addEventListener(
    "wheel",
    (e) => {
      if (!e.ctrlKey && !e.metaKey) return;
      e.preventDefault();
      zoomBy(e.deltaY < 0 ? 1 : -1, e.clientX - scroller.getBoundingClientRect().left - scene.layout.gutter);
    },
    {passive: false},
  );
  const travel = (e) => {
    const t = Math.floor(((e.offsetX - 24) / (overview.clientWidth - 48)) * scene.group.length);
    scroller.scrollLeft =
      scene.layout.x[Math.min(scene.group.length, Math.max(0, t))] - (scene.view.width - scene.layout.gutter) / 2;
  };
  overview.addEventListener("pointerdown", (e) => {
    overview.setPointerCapture(e.pointerId);
    travel(e);
  });
  overview.addEventListener("pointermove", (e) => {
    if (e.buttons) travel(e);
  });
  document.addEventListener("keydown", onKey);
  dark.addEventListener("change", () => {
    readTheme();
    if (scene.group) {
      rescale();
      relayout();
    }
  });
  new ResizeObserver(() => relayout()).observe(scroller);
}

function onKey(e) {
  if (e.ctrlKey || e.metaKey || e.altKey || !scene.layout || /^(SELECT|INPUT)$/.test(e.target.tagName)) return;
  const {group} = scene,
    row = state.at ? state.at.row : 0,
    moves = {
      ArrowLeft: () => step(0, -1),
      ArrowRight: () => step(0, 1),
      ArrowUp: () => step(-1, 0),
      ArrowDown: () => step(1, 0),
      Home: () => firstToken(row),
      End: () => firstToken(row, group.length - 1, -1),
      b: () => nextBranch(1),
      B: () => nextBranch(-1),
    };
  const count = DATA.estimators.length,
    turn = (by) => change({estimator: (state.estimator + by + count) % count, side: false});
  const acts = {
    f: () => change({view: state.view === "folded" ? "tokens" : "folded"}),
    s: () => change({side: !state.side}),
    e: () => turn(1),
    E: () => turn(-1),
    o: () => change({branchOnly: !state.branchOnly}),
    "+": () => zoomBy(1),
    "=": () => zoomBy(1),
    "-": () => zoomBy(-1),
    p: () => choosePrompt((state.prompt + 1) % DATA.groups.length),
    Escape: () => look(null),
  };
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

const whenDrawn = () =>
  new Promise((done) => {
    redraw();
    requestAnimationFrame(() => requestAnimationFrame(done));
  });

window.microscope = {
  // What is shown now.
  state: () => ({
    prompt: state.prompt,
    view: state.view,
    side: state.side,
    branchOnly: state.branchOnly,
    ownScale: state.ownScale,
    dark: dark.matches,
    zoom: ZOOMS[state.zoom].name,
    panels: panels().map((i) => DATA.estimators[i].name),
    limits: scene.limits,
    rows: scene.layout.panels.map((_, p) => visibleRows(scene, p).slice(0, 2)),
    columns: scene.layout.list ? scene.layout.list.length : null,
    segments: scene.group.segments.length,
    cells: scene.cells,
    ...stats,
  }),
  hovered: () =>
    state.at && {...tokenInfo(scene.group, state.at.row, state.at.t), panel: state.at.panel, segment: undefined},
  // The token at place `row` (as drawn, from the top), position `t`, and where on the screen it is.
  token: (row, t, panel = 0) => ({...tokenInfo(scene.group, row, t), segment: undefined, box: boxOf({row, t, panel})}),
  reveal: (row, t, panel = 0) => {
    reveal({row, t, panel});
    return whenDrawn();
  },
  // The colour that the palette gives to an advantage, and the one that is on the screen.
  colour: (value, estimator = 0) => scene.palette.rgb[stepOf(value, scene.limits[estimator])],
  pixel: (x, y) => {
    const frame = canvas.getBoundingClientRect(),
      ratio = scene.view.ratio;
    return [
      ...context.getImageData(Math.round((x - frame.left) * ratio), Math.round((y - frame.top) * ratio), 1, 1).data,
    ].slice(0, 3);
  },
  change: (patch) => {
    change(patch);
    return whenDrawn();
  },
  choosePrompt: (index) => choosePrompt(index).then(whenDrawn),
  whenDrawn,
};

readTheme();
setUp();
tick();
window.microscope.ready = choosePrompt(0).then(whenDrawn);
