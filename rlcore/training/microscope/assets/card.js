// The card beside a token: everything there is to say of it.
function formatNumber(x, digits = 3) {
  if (x === null || x === undefined || Number.isNaN(x)) return "n/a";
  if (!Number.isFinite(x)) return x > 0 ? "∞" : "−∞";
  if (x === 0) return "0";
  const size = Math.abs(x),
    text = size >= 1e5 || size < 1e-4 ? x.toExponential(2) : String(Number(x.toPrecision(digits)));
  return text.replace("-", "−");
}

const signed = (x) => (x > 0 ? "+" : "") + formatNumber(x);

function element(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function fillCard(card, info, scene) {
  card.replaceChildren();
  const head = element("div", "text", info.shown);
  card.append(head);
  const where = element(
    "div",
    "where",
    `id ${info.id} · position ${info.position.toLocaleString("en")} · response #${info.response + 1}`,
  );
  const tag = !info.counted ? "not counted" : info.branch ? "branch" : "";
  if (tag) where.append(element("span", "tag", tag));
  card.append(where);
  const facts = element("dl");
  const fact = (name, text) => facts.append(element("dt", "", name), element("dd", "", text));
  if (info.inTree) {
    const change = info.vNext - info.vPrev;
    fact(
      "tree value",
      change
        ? `${formatNumber(info.vPrev)} → ${formatNumber(info.vNext)}  (${signed(change)})`
        : formatNumber(info.vNext),
    );
    fact("responses", info.nPrev === info.nNext ? String(info.nNext) : `${info.nPrev} → ${info.nNext}`);
  } else {
    fact("tree", "beyond a gap");
  }
  if (info.logProb !== null) {
    const share = 100 * Math.exp(info.logProb);
    fact("log-prob", `${formatNumber(info.logProb)}  (${share >= 0.1 ? formatNumber(share) : "< 0.1"} %)`);
  }
  fact("reward of the response", formatNumber(info.reward));
  card.append(facts, advantageTable(info, scene));
  const {segment} = info,
    length = segment.end - segment.start;
  if (length > 1) {
    const from = Math.max(segment.start, Math.min(info.position - 40, segment.end - 120)),
      base = info.row * scene.group.length;
    let text = from > segment.start ? "…" : "";
    for (let t = from; t < segment.end && text.length < 150; t++)
      text += scene.group.texts[scene.group.tokens[base + t]];
    const run = element("div", "run", `in a run of ${length.toLocaleString("en")} tokens without a branch`);
    run.append(element("q", "", text.length >= 150 ? text.slice(0, 149) + "…" : text));
    card.append(run);
  }
}

function advantageTable(info, scene) {
  const table = element("table"),
    most = Math.max(...scene.group.credits.map((c) => c.most));
  DATA.estimators.forEach(({name}, i) => {
    const row = table.insertRow(),
      value = info.advantages[i],
      limit = scene.ownScale ? scene.limits[i] : most;
    if (scene.layout.panels.includes(i)) row.className = "on";
    row.append(element("th", "", name));
    const meter = element("div", "meter"),
      bar = element("i");
    const part = limit > 0 && Number.isFinite(value) ? 50 * Math.min(1, Math.abs(value) / limit) : 0;
    Object.assign(bar.style, {width: part + "%", background: scene.palette.css[stepOf(Math.sign(value), 1.25)]});
    bar.style[value < 0 ? "right" : "left"] = "50%";
    meter.append(bar);
    row.insertCell().append(meter);
    const number = row.insertCell();
    number.className = "number";
    number.textContent = info.counted ? signed(value) : "–";
  });
  return table;
}

function placeCard(card, box) {
  const gap = 14,
    width = card.offsetWidth,
    height = card.offsetHeight,
    across = innerWidth,
    down = innerHeight;
  let x = box.right + gap;
  if (x + width > across - 8) x = box.left - gap - width;
  if (x < 8) x = Math.max(8, Math.min(box.left, across - width - 8));
  let y = box.bottom + gap;
  if (y + height > down - 8) y = box.top - gap - height;
  if (y < 8) y = Math.max(8, Math.min(down - height - 8, box.bottom + gap));
  card.style.transform = `translate(${Math.round(x)}px, ${Math.round(y)}px)`;
}

function speak(info) {
  const own = DATA.estimators.map(({name}, i) => `${name} ${formatNumber(info.advantages[i])}`).join(", ");
  return (
    `${info.shown}, position ${info.position}, response ${info.response + 1}${info.branch ? ", branch" : ""}. ` +
    (info.inTree ? `Value ${formatNumber(info.vNext)}, ${info.nNext} responses. ` : "") +
    own
  );
}
