// Where everything lies on the sheet: a column for every token (or branch level), a band for every panel.
const RULER = 22,
  HEADING = 34,
  PANEL_GAP = 16,
  TAIL = 96,
  MOST_CELL = 168;
const ZOOMS = [
  {name: "fit", fit: true},
  {name: "1 px", width: 1},
  {name: "3 px", width: 3},
  {name: "8 px", width: 8},
  {name: "text", text: true},
];

function makeMeasure(context, font) {
  const widths = new Map();
  return (text) => {
    let width = widths.get(text);
    if (width === undefined) {
      context.font = font;
      widths.set(text, (width = context.measureText(text).width));
    }
    return width;
  };
}

function rowHeight(rows, panels, height) {
  const room = (height - RULER - panels * (HEADING + PANEL_GAP)) / (rows * panels);
  return Math.round(Math.min(panels > 1 ? 24 : 34, Math.max(16, room)));
}

function layOut(group, options, measure, view) {
  const gutter = view.width < 560 ? 58 : 84,
    rh = rowHeight(group.size, options.panels.length, view.height);
  const layout = {gutter, rh, panels: options.panels, view: options.view, branchOnly: options.branchOnly};
  const columns = options.view === "folded" ? layOutFolded : layOutTokens;
  columns(layout, group, options, measure, view);
  const band = HEADING + group.size * rh + PANEL_GAP;
  layout.top = options.panels.map((_, p) => RULER + p * band + HEADING);
  layout.width = gutter + layout.extent + TAIL;
  layout.height = RULER + options.panels.length * band;
  return layout;
}

function layOutTokens(layout, group, options, measure, view) {
  const T = group.length,
    zoom = ZOOMS[options.zoom];
  const list = options.branchOnly ? group.branchColumns : Array.from({length: T}, (_, t) => t);
  const w = new Float64Array(T),
    x = new Float64Array(T + 1),
    word = group.texts.map((text) => measure(text));
  const uniform = zoom.fit
    ? Math.min(24, Math.max(1e-3, (view.width - layout.gutter - TAIL) / Math.max(list.length, 1)))
    : zoom.width;
  for (const t of list) {
    w[t] = zoom.text ? 24 : uniform;
    if (zoom.text) {
      for (let row = 0; row < group.size; row++) {
        const i = row * T + t;
        if (group.flags[i] & VALID) w[t] = Math.max(w[t], Math.min(MOST_CELL, word[group.tokens[i]] + 13));
      }
    }
  }
  if (zoom.text) {
    // a short group takes the room that there is
    const wide = Math.min(1.6, (view.width - layout.gutter - TAIL) / w.reduce((sum, width) => sum + width, 1));
    if (wide > 1) for (const t of list) w[t] *= wide;
  }
  for (let t = 0; t < T; t++) x[t + 1] = x[t] + w[t];
  Object.assign(layout, {x, w, list, extent: x[T], text: Boolean(zoom.text), cell: zoom.text ? 24 : uniform});
}

function layOutFolded(layout, group, options, measure, view) {
  const boxes = group.segments.map((s) => {
    const row = s.top * group.length,
      rest = options.branchOnly ? 0 : s.end - s.start - 1;
    const head = Math.min(MOST_CELL, Math.max(26, measure(group.texts[group.tokens[row + s.start]]) + 14));
    if (!rest) return {head, rest: 0, snippet: ""};
    // The label of a folded run: its text as far as there is room, and how many tokens it holds.
    let snippet = "",
      t = s.start + 1;
    for (; t < s.end && snippet.length < 18; t++) snippet += group.texts[group.tokens[row + t]];
    const whole = t === s.end && snippet.length <= 22;
    snippet = whole ? snippet : snippet.slice(0, 14) + "…";
    const count = rest > 1 || !whole ? "+" + rest.toLocaleString("en") : "";
    const width = measure(snippet) + (count && !whole ? measure(count) + 12 : 0) + 14;
    return {head, rest: Math.max(width, Math.min(30 * Math.log2(rest + 1), 240)), snippet, count: whole ? "" : count};
  });
  const levels = [],
    x = [0];
  group.segments.forEach((s, i) => {
    levels[s.level] = Math.max(levels[s.level] || 0, boxes[i].head + boxes[i].rest);
  });
  levels.forEach((width, k) => {
    x[k + 1] = x[k] + width;
  });
  const inner = new Set(group.segments.map((s) => s.parent));
  group.segments.forEach((s, i) => {
    const box = boxes[i];
    box.x = x[s.level];
    if (inner.has(i) && box.rest) box.rest = levels[s.level] - box.head; // so that the children join on
    if (inner.has(i) && !box.rest) box.head = levels[s.level];
    box.width = box.head + box.rest;
  });
  const natural = boxes.reduce((m, b) => Math.max(m, b.x + b.width), 0);
  const wide = Math.max(1, Math.min(1.5, (view.width - layout.gutter - TAIL) / (natural || 1)));
  for (const box of boxes) for (const key of ["x", "head", "rest", "width"]) box[key] *= wide;
  const extent = natural * wide;
  Object.assign(layout, {
    boxes,
    levels: x.slice(0, levels.length).map((at) => at * wide),
    extent,
    text: true,
    cell: 26,
  });
}

// First entry of the ascending `list` whose column ends beyond `x`.
function columnAt(layout, x) {
  let low = 0,
    high = layout.list.length;
  while (low < high) {
    const middle = (low + high) >> 1,
      t = layout.list[middle];
    if (layout.x[t] + layout.w[t] <= x) low = middle + 1;
    else high = middle;
  }
  return low;
}

// Left edge and width of a token, from the gutter on.
function spanOf(layout, group, row, t) {
  if (layout.view === "tokens") return [layout.x[t], layout.w[t]];
  const segment = segmentAt(group, row, t),
    box = segment && layout.boxes[segment.index];
  if (!box) return [0, 0];
  if (t === segment.start) return [box.x, box.head];
  const step = box.rest / (segment.end - segment.start - 1);
  return [box.x + box.head + (t - segment.start - 1) * step, step];
}

function leafEdge(layout, group, row) {
  const list = group.rows[row];
  if (!list.length) return 0;
  const box = layout.boxes && layout.boxes[list[list.length - 1].index];
  return box ? box.x + box.width : layout.x[endOf(group, row)];
}

// The token at a point of the sheet (gutter included), or null.
function hit(layout, group, px, py) {
  const panel = layout.top.findIndex((top) => py >= top && py < top + group.size * layout.rh);
  if (panel < 0) return null;
  const row = Math.floor((py - layout.top[panel]) / layout.rh),
    x = px - layout.gutter;
  if (x < 0) return null;
  let t = -1;
  if (layout.view === "tokens") {
    const k = columnAt(layout, x);
    if (k < layout.list.length && x < layout.extent) t = layout.list[k];
  } else {
    const segment = group.rows[row].find(
      (s) => x >= layout.boxes[s.index].x && x < layout.boxes[s.index].x + layout.boxes[s.index].width,
    );
    if (segment) {
      const box = layout.boxes[segment.index],
        inside = x - box.x - box.head;
      const step = box.rest / Math.max(segment.end - segment.start - 1, 1);
      t =
        inside < 0 || !box.rest
          ? segment.start
          : Math.min(segment.start + 1 + Math.floor(inside / step), segment.end - 1);
    }
  }
  return t >= 0 && group.flags[row * group.length + t] & VALID ? {panel, row, t} : null;
}
