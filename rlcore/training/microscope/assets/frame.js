// What stands around the tokens: row numbers, headings, ruler, marks, and the strip of the whole group.
function drawGutter(context, scene, first, last, top) {
  const {group, layout, inks, palette} = scene,
    at = scene.at,
    narrow = layout.gutter < 80;
  for (let row = first; row < last; row++) {
    const y = top + row * layout.rh,
      middle = y + layout.rh / 2;
    if (at && at.row === row) {
      context.fillStyle = inks.uncounted;
      context.fillRect(0, y, layout.gutter - 6, layout.rh);
    }
    context.font = scene.fonts.label;
    context.textAlign = "right";
    context.fillStyle = inks.faint;
    context.fillText("#" + (group.names[row] + 1), narrow ? 26 : 38, middle);
    context.fillStyle =
      palette.css[
        stepOf(group.rewards[row] === null ? NaN : group.rewards[row] - scene.meanReward, scene.rewardSpread)
      ];
    context.beginPath();
    context.arc(layout.gutter - 15, middle, 4, 0, 2 * Math.PI);
    context.fill();
    if (narrow) continue;
    context.fillStyle = inks.dim;
    context.fillText(scene.number(group.rewards[row]), layout.gutter - 24, middle);
  }
}

function drawHeading(context, scene, estimator, y) {
  const {inks, view, limits} = scene,
    {name, note, own} = DATA.estimators[estimator];
  if (y + HEADING < RULER || y > view.height) return;
  const middle = y + HEADING / 2 + 3;
  context.textAlign = "left";
  context.font = scene.fonts.heading;
  context.fillStyle = inks.ink;
  context.fillText(name, 24, middle);
  let x = 24 + context.measureText(name).width + 10;
  context.font = scene.fonts.label;
  const text = [own ? "this run" : "", scene.ownScale ? "± " + scene.number(limits[estimator]) : "", note]
    .filter(Boolean)
    .join("  ·  ");
  context.fillStyle = inks.dim;
  context.fillText(
    shorten(text, view.width - x - 12, (part) => context.measureText(part).width),
    x,
    middle + 0.5,
  );
}

function drawRuler(context, scene) {
  const {layout, inks, view, group} = scene;
  context.fillStyle = inks.surface;
  context.fillRect(0, 0, view.width, RULER - 1);
  context.fillStyle = inks.line;
  context.fillRect(0, RULER - 1, view.width, 1);
  context.font = scene.fonts.tick;
  context.fillStyle = inks.faint;
  context.textAlign = "left";
  if (layout.view === "folded") {
    context.fillText("level", 24, RULER / 2);
    layout.levels.forEach((at, level) => {
      const x = at + layout.gutter - view.x;
      if (x < layout.gutter || x > view.width) return;
      context.fillRect(x, RULER - 6, 1, 5);
      context.fillText(level ? String(level) : "root", x + 4, RULER / 2);
    });
    return;
  }
  context.fillText("token", 24, RULER / 2);
  const [left, right] = seen(scene),
    shift = layout.gutter - view.x;
  const stride = layout.branchOnly ? 1 : niceStride(52 / Math.max(layout.text ? 30 : layout.cell, 1e-6));
  let taken = -Infinity;
  for (let k = columnAt(layout, left); k < layout.list.length && layout.x[layout.list[k]] < right; k++) {
    const t = layout.list[k],
      x = layout.x[t] + shift;
    if (t % stride || x < taken) continue;
    context.fillRect(x, RULER - 6, 1, 5);
    context.fillText(t.toLocaleString("en"), x + 4, RULER / 2);
    taken = x + 44;
  }
}

function niceStride(least) {
  const power = 10 ** Math.floor(Math.log10(Math.max(least, 1)));
  return Math.max(
    1,
    [1, 2, 5, 10].map((m) => m * power).find((s) => s >= least),
  );
}

// Outlines the token under the pointer or the cursor, and the node that it belongs to.
function drawMark(context, scene) {
  const {at, layout, group, view, inks} = scene;
  if (!at || at.panel >= layout.top.length) return;
  const segment = segmentAt(group, at.row, at.t);
  if (!segment) return;
  context.save();
  context.beginPath();
  context.rect(layout.gutter - 2, RULER, view.width, view.height);
  context.clip();
  layout.panels.forEach((_, panel) => {
    const top = layout.top[panel] - view.y,
      [x, width] = spanOf(layout, group, at.row, at.t),
      left = x + layout.gutter - view.x;
    if (segment.bottom - segment.top > 1) {
      context.strokeStyle = inks.ink;
      context.globalAlpha = 0.4;
      context.lineWidth = 1;
      context.strokeRect(
        left + 0.5,
        top + segment.top * layout.rh + 0.5,
        Math.max(width, 3) - 1,
        (segment.bottom - segment.top) * layout.rh - 1,
      );
      context.globalAlpha = 1;
    }
    context.strokeStyle = inks.ink;
    context.globalAlpha = panel === at.panel ? 1 : 0.5;
    context.lineWidth = panel === at.panel ? 2 : 1;
    context.strokeRect(left, top + at.row * layout.rh, Math.max(width, 3), layout.rh);
  });
  context.restore();
}

// The whole group in one strip, and where in it the window is.
function drawOverview(canvas, scene) {
  const {view, layout, inks, group} = scene,
    width = canvas.clientWidth,
    height = canvas.clientHeight;
  canvas.width = width * view.ratio;
  canvas.height = height * view.ratio;
  const context = canvas.getContext("2d");
  context.setTransform(view.ratio, 0, 0, view.ratio, 0, 0);
  context.fillStyle = inks.surface;
  context.fillRect(0, 0, width, height);
  const {bitmap, pool} = scene.bitmapOf(layout.panels[0], (width - 48) / group.length),
    scale = (width - 48) / group.length;
  context.imageSmoothingEnabled = group.size > height;
  context.drawImage(bitmap, 24, 6, bitmap.width * pool * scale, height - 12);
  const at = (x) => {
    const t = layout.list[Math.min(columnAt(layout, x), layout.list.length - 1)];
    return t + Math.min(1, Math.max(0, (x - layout.x[t]) / (layout.w[t] || 1)));
  };
  const from = 24 + at(view.x) * scale,
    to = 24 + at(view.x + view.width - layout.gutter) * scale;
  context.strokeStyle = inks.ink;
  context.lineWidth = 2;
  context.strokeRect(from, 4, Math.max(to - from, 4), height - 8);
}
