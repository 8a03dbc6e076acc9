// The token that is looked at, by the mouse or by the keys.
function boxOf(at) {
  const {layout, group, view} = scene,
    [x, width] = spanOf(layout, group, at.row, at.t),
    frame = scroller.getBoundingClientRect();
  const left = frame.left + layout.gutter + x - scroller.scrollLeft,
    top = frame.top + layout.top[at.panel] + at.row * layout.rh - scroller.scrollTop;
  return {left, top, right: left + width, bottom: top + layout.rh, width, height: layout.rh};
}

function look(at, {keyboard = false, point = null} = {}) {
  const before = state.at,
    same = at && before && at.row === before.row && at.t === before.t && at.panel === before.panel;
  state.at = at;
  state.keyboard = keyboard;
  const info = at && tokenInfo(scene.group, at.row, at.t);
  card.hidden = !info;
  find("needle").hidden = true;
  if (!info) return redraw();
  if (!same) fillCard(card, info, scene);
  const box = boxOf(at);
  placeCard(card, point && box.width > 60 ? {left: point.x, right: point.x, top: box.top, bottom: box.bottom} : box);
  const estimator = scene.layout.panels[at.panel],
    limit = scene.limits[estimator],
    value = info.advantages[estimator];
  if (info.counted && Number.isFinite(value) && limit > 0) {
    find("needle").hidden = false;
    find("needle").style.left = 50 + (50 * value) / limit + "%";
  }
  if (keyboard) {
    clearTimeout(announce);
    announce = setTimeout(() => {
      find("spoken").textContent = speak(info);
    }, 120);
  }
  redraw();
}

function reveal(at) {
  const {layout, group} = scene,
    [x, width] = spanOf(layout, group, at.row, at.t),
    y = layout.top[at.panel] + at.row * layout.rh;
  const room = scroller.clientWidth - layout.gutter;
  if (x < scroller.scrollLeft) scroller.scrollLeft = x - 20;
  else if (x + width > scroller.scrollLeft + room) scroller.scrollLeft = x + width - room + 40;
  if (y - HEADING < scroller.scrollTop + RULER) scroller.scrollTop = y - HEADING - RULER;
  else if (y + layout.rh > scroller.scrollTop + scroller.clientHeight)
    scroller.scrollTop = y + layout.rh - scroller.clientHeight + 8;
}

function moveTo(at) {
  if (!at) return;
  reveal(at);
  look(at, {keyboard: true});
}

const shows = (row, t) => {
  const flags = scene.group.flags[row * scene.group.length + t];
  return (
    flags & VALID &&
    (!state.branchOnly || state.view === "tokens"
      ? scene.layout.view === "folded" || scene.layout.w[t] > 0
      : t === (segmentAt(scene.group, row, t) || {}).start)
  );
};

function step(rowStep, tStep) {
  const {group} = scene,
    at = state.at;
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
  for (let t = from; t >= 0 && t < scene.group.length; t += direction)
    if (shows(row, t)) return {panel: state.at ? state.at.panel : 0, row, t};
  return null;
}

function nextBranch(direction) {
  const {group} = scene,
    at = state.at || {panel: 0, row: 0, t: direction > 0 ? -1 : group.length};
  for (let t = at.t + direction; t >= 0 && t < group.length; t += direction) {
    if (group.flags[at.row * group.length + t] & BRANCH) return {...at, t};
  }
  return null;
}
