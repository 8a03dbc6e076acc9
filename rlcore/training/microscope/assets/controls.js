// What the controls do, and how they show the state.
function refreshControls() {
  for (const button of document.querySelectorAll("[data-view]"))
    button.setAttribute("aria-pressed", button.dataset.view === state.view);
  for (const button of document.querySelectorAll("[data-panels]"))
    button.setAttribute("aria-pressed", (button.dataset.panels === "side") === state.side);
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
  if (known.length < group.size)
    return "Some rewards are not finite numbers; what depends on them is marked in magenta.";
  if (group.size > 1 && known.every((r) => r === known[0])) {
    const all = `All ${group.size} responses have reward ${formatNumber(known[0])}`;
    return `${all}: group-relative credit is 0 everywhere, and the group teaches nothing.`;
  }
  if (state.branchOnly && !group.branchColumns.length)
    return "No token branches: the responses are copies of one another.";
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
  const chosen = state.chosen.includes(i)
    ? state.chosen.filter((x) => x !== i)
    : [...state.chosen, i].sort((a, b) => a - b);
  if (chosen.length) change({chosen, estimator: chosen.includes(state.estimator) ? state.estimator : chosen[0]});
}

function zoomBy(amount, center = null) {
  const zoom = Math.min(ZOOMS.length - 1, Math.max(0, state.zoom + amount));
  if (zoom === state.zoom || state.view !== "tokens" || state.branchOnly) return;
  const {layout, view} = scene,
    place = center === null ? (view.width - layout.gutter) / 2 : center;
  const t = layout.list[Math.min(columnAt(layout, scroller.scrollLeft + place), layout.list.length - 1)] || 0;
  change({zoom});
  scroller.scrollLeft = scene.layout.x[t] - place;
}

async function choosePrompt(index) {
  const mine = (loading = {});
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
  const share =
    group.counted && group.nodes
      ? 1 -
        group.nodes / group.segments.reduce((n, s) => n + (s.inTree ? (s.end - s.start) * (s.bottom - s.top) : 0), 0)
      : 0;
  const facts = [
    [group.size, group.size === 1 ? "response" : "responses"],
    [group.counted, "tokens"],
    [group.branchings, group.branchings === 1 ? "branching" : "branchings"],
    [Math.round(100 * share) + " %", "shared"],
    [known.length ? formatNumber(scene.meanReward) : "n/a", "mean reward"],
  ];
  find("facts").replaceChildren(
    ...facts.flatMap(([n, word], i) => [i ? " · " : "", element("b", "", n.toLocaleString("en")), " " + word]),
  );
}
