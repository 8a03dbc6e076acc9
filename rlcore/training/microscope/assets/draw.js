// Draws the part of the sheet that the window shows.
const SEAM = 0.7; // rows overlap by less than a rule is wide: where a pixel is no whole number, nothing shines through

function visibleRows(scene, panel) {
  const {layout, group, view} = scene,
    top = layout.top[panel] - view.y;
  const first = Math.max(0, Math.floor((RULER - top) / layout.rh));
  return [first, Math.min(group.size, Math.ceil((view.height - top) / layout.rh)), top];
}

function drawScene(context, scene) {
  const {layout, inks, view} = scene;
  scene.cells = 0;
  context.setTransform(view.ratio, 0, 0, view.ratio, 0, 0);
  context.fillStyle = inks.surface;
  context.fillRect(0, 0, view.width, view.height);
  context.textBaseline = "middle";
  layout.panels.forEach((estimator, panel) => {
    const [first, last, top] = visibleRows(scene, panel);
    if (first < last) {
      context.save();
      context.beginPath();
      context.rect(layout.gutter, RULER, view.width - layout.gutter, view.height - RULER);
      context.clip();
      const draw =
        layout.view === "folded" ? drawFolded : layout.cell < 6 && !layout.branchOnly ? drawBitmap : drawCells;
      draw(context, scene, estimator, first, last, top);
      drawLeaves(context, scene, first, last, top);
      context.restore();
      drawGutter(context, scene, first, last, top);
    }
    drawHeading(context, scene, estimator, top - HEADING);
  });
  drawRuler(context, scene);
  drawMark(context, scene);
}

function fillFor(scene, steps, i) {
  const flags = scene.group.flags[i];
  if (!(flags & COUNTED)) return scene.inks.uncounted;
  if (scene.layout.branchOnly && !(flags & BRANCH)) return scene.inks.veil;
  return scene.palette.css[steps[i]];
}

function inkFor(scene, steps, i) {
  const flags = scene.group.flags[i];
  if (!(flags & COUNTED)) return scene.inks.faint;
  if (scene.layout.branchOnly && !(flags & BRANCH)) return scene.inks.faint;
  return scene.palette.light[steps[i]] ? "#17181a" : "#fbfbfa";
}

function seen(scene) {
  const {layout, view} = scene;
  return [view.x, view.x + view.width - layout.gutter];
}

// The row of a node in which its text is written: near the middle of what is to be seen of it.
const textRow = (s, first, last) => (Math.max(s.top, first) + Math.min(s.bottom, last) - 1) >> 1;

function drawCells(context, scene, estimator, first, last, top) {
  const {group, layout, inks, view} = scene,
    steps = scene.stepsOf(estimator),
    T = group.length,
    shift = layout.gutter - view.x;
  const [left, right] = seen(scene),
    from = columnAt(layout, left),
    {list, x, w, rh} = layout;
  let to = from;
  while (to < list.length && x[list[to]] < right) to++;
  for (let row = first; row < last; row++) {
    for (let k = from; k < to; k++) {
      const t = list[k],
        i = row * T + t;
      if (!(group.flags[i] & VALID)) continue;
      context.fillStyle = fillFor(scene, steps, i);
      context.fillRect(x[t] + shift, top + row * rh, w[t], rh + SEAM);
      scene.cells++;
    }
  }
  if (from === to) return;
  const firstT = list[from],
    lastT = list[to - 1] + 1;
  context.font = scene.fonts.mono;
  context.textAlign = "center";
  for (const s of group.segments) {
    if (s.top >= last || s.bottom <= first || s.start >= lastT || s.end <= firstT) continue;
    const y = top + s.top * rh,
      height = (s.bottom - s.top) * rh,
      row = textRow(s, first, last),
      middle = top + (row + 0.5) * rh;
    for (let k = from; k < to; k++) {
      const t = list[k];
      if (t < s.start || t >= s.end) continue;
      const i = row * T + t,
        at = x[t] + shift;
      context.fillStyle = inks.surface;
      if (w[t] >= 6) context.fillRect(at + w[t] - 1, y, 1, height);
      if (t === s.start) context.fillRect(at - 1, y, 2, height);
      if (layout.text) {
        context.fillStyle = inkFor(scene, steps, i);
        context.fillText(shorten(group.texts[group.tokens[i]], w[t] - 8, scene.measure), at + w[t] / 2, middle + 0.5);
      }
      if (group.flags[i] & BRANCH) notch(context, scene, steps, s, t, at, top, first, last);
    }
    rule(context, inks, x[Math.max(s.start, firstT)] + shift, x[Math.min(s.end, lastT)] + shift, y, height);
  }
}

// A corner that marks a token at which responses part.
function notch(context, scene, steps, s, t, at, top, first, last) {
  const {layout, group} = scene,
    row = Math.max(s.top, first),
    size = 6,
    y = top + row * layout.rh + 1;
  if (row >= last || layout.cell < 6) return;
  context.fillStyle = inkFor(scene, steps, row * group.length + t);
  context.globalAlpha = 0.6;
  context.beginPath();
  context.moveTo(at + 1, y);
  context.lineTo(at + 1 + size, y);
  context.lineTo(at + 1, y + size);
  context.fill();
  context.globalAlpha = 1;
}

function rule(context, inks, from, to, y, height) {
  context.fillStyle = inks.surface;
  context.fillRect(from, y - 1, to - from, 2);
  context.fillRect(from, y + height - 1, to - from, 2);
}

function shorten(text, room, measure) {
  if (measure(text) <= room) return text;
  let short = text;
  while (short.length > 1 && measure(short + "…") > room) short = short.slice(0, -1);
  return short + "…";
}

function drawBitmap(context, scene, estimator, first, last, top) {
  const {group, layout, inks, view} = scene,
    {bitmap, pool} = scene.bitmapOf(estimator, layout.cell);
  const shift = layout.gutter - view.x,
    rh = layout.rh,
    scale = pool * layout.cell;
  context.imageSmoothingEnabled = false;
  const [left, right] = seen(scene);
  const from = Math.max(0, Math.floor(left / scale)),
    to = Math.min(bitmap.width, Math.ceil(right / scale));
  if (to > from) {
    context.drawImage(
      bitmap,
      from,
      first,
      to - from,
      last - first,
      from * scale + shift,
      top + first * rh,
      (to - from) * scale,
      (last - first) * rh,
    );
    scene.cells += (to - from) * (last - first);
  }
  for (const s of group.segments) {
    if (s.top >= last || s.bottom <= first) continue;
    const a = layout.x[s.start] + shift,
      b = layout.x[s.end] + shift;
    if (b < layout.gutter || a > view.width) continue;
    rule(context, inks, a, b, top + s.top * rh, (s.bottom - s.top) * rh);
  }
}

function drawFolded(context, scene, estimator, first, last, top) {
  const {group, layout, inks, view} = scene,
    steps = scene.stepsOf(estimator),
    T = group.length,
    rh = layout.rh;
  const shift = layout.gutter - view.x;
  for (const s of group.segments) {
    const box = layout.boxes[s.index],
      x = box.x + shift;
    if (s.top >= last || s.bottom <= first || x > view.width || x + box.width < layout.gutter) continue;
    for (let row = Math.max(s.top, first); row < Math.min(s.bottom, last); row++) {
      const y = top + row * rh;
      context.fillStyle = fillFor(scene, steps, row * T + s.start);
      context.fillRect(x, y, box.head, rh + SEAM);
      scene.cells++;
      if (box.rest) drawRun(context, scene, steps, s, row, x + box.head, y, box.rest);
    }
    const row = textRow(s, first, last),
      middle = top + (row + 0.5) * rh + 0.5,
      i = row * T + s.start;
    context.font = scene.fonts.mono;
    context.textAlign = "center";
    context.fillStyle = inkFor(scene, steps, i);
    const center = Math.min(box.head, MOST_CELL) / 2;
    context.fillText(
      shorten(group.texts[group.tokens[i]], Math.min(box.head, MOST_CELL) - 8, scene.measure),
      x + center,
      middle,
    );
    if (box.rest) labelRun(context, scene, steps, s, row, x + box.head, middle, box);
    context.fillStyle = inks.surface;
    const y = top + s.top * rh,
      height = (s.bottom - s.top) * rh;
    context.fillRect(x - 1, y, 2, height);
    if (box.rest) context.fillRect(x + box.head - 0.5, y, 1, height);
    if (group.flags[s.top * T + s.start] & BRANCH) notch(context, scene, steps, s, s.start, x, top, first, last);
    rule(context, inks, x, x + box.width, y, height);
  }
}

// The tokens of a folded run, as narrow stripes; where there are too many, the strongest of each few.
function drawRun(context, scene, steps, s, row, x, y, width) {
  const {group, layout} = scene,
    count = s.end - s.start - 1,
    base = row * group.length + s.start + 1;
  const bins = Math.min(count, Math.max(1, Math.floor(width / 2)));
  let from = 0,
    colour = null;
  for (let b = 0; b <= bins; b++) {
    let next = null;
    if (b < bins) {
      let best = base + Math.floor((b * count) / bins);
      for (let i = best + 1, end = base + Math.floor(((b + 1) * count) / bins); i < end; i++) {
        if (group.flags[i] & COUNTED && stronger(steps[best], steps[i]) !== steps[best]) best = i;
      }
      next = fillFor(scene, steps, best);
    }
    if (next !== colour) {
      if (colour !== null) {
        context.fillStyle = colour;
        context.fillRect(x + (from / bins) * width, y, ((b - from) / bins) * width, layout.rh + SEAM);
        scene.cells++;
      }
      from = b;
      colour = next;
    }
  }
}

function labelRun(context, scene, steps, s, row, x, middle, box) {
  const {group} = scene,
    i = row * group.length + s.start + 1;
  let dark = 0,
    count = 0;
  for (let k = i; k < row * group.length + s.end && count < 64; k++, count++)
    dark += scene.palette.light[steps[k]] ? 1 : -1;
  context.font = scene.fonts.small;
  context.fillStyle = group.flags[i] & COUNTED ? (dark >= 0 ? "#17181a" : "#fbfbfa") : scene.inks.faint;
  context.textAlign = "left";
  context.globalAlpha = 0.86;
  context.fillText(box.snippet, x + 7, middle);
  if (box.count) {
    context.textAlign = "right";
    context.fillText(box.count, x + box.rest - 7, middle);
  }
  context.globalAlpha = 1;
}

function drawLeaves(context, scene, first, last, top) {
  const {group, layout, inks, view} = scene;
  context.font = scene.fonts.label;
  context.textAlign = "left";
  for (let row = first; row < last; row++) {
    const x = layout.gutter - view.x + leafEdge(layout, group, row) + 10,
      y = top + (row + 0.5) * layout.rh;
    if (x > view.width || x < layout.gutter - TAIL) continue;
    context.fillStyle = inks.faint;
    context.fillText("reward", x, y);
    context.fillStyle = inks.ink;
    context.fillText(scene.number(group.rewards[row]), x + scene.rewardWidth + 5, y);
  }
}
