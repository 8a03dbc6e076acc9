// The embedded data: base64 of zlib of little-endian arrays, unpacked when a group is first shown.
const COUNTED = 1,
  BRANCH = 2,
  VALID = 4;
const DATA = JSON.parse(document.getElementById("data").textContent);

async function unpack(text, Type) {
  const binary = atob(text),
    bytes = new Uint8Array(binary.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Type(await new Response(stream).arrayBuffer());
}

async function unpackValues(values) {
  const [codes, table] = await Promise.all([unpack(values.codes, Uint16Array), unpack(values.table, Float32Array)]);
  return {codes, table, most: table.reduce((m, x) => (Number.isFinite(x) ? Math.max(m, Math.abs(x)) : m), 0)};
}

const visible = (text) => text.replace(/\n/g, "⏎").replace(/\t/g, "⇥").replace(/ /g, "·") || "∅";

async function readGroup(raw) {
  const [tokens, flags, logProbs, ...credits] = await Promise.all([
    unpack(raw.tokens, raw.wide ? Uint32Array : Uint16Array),
    unpack(raw.flags, Uint8Array),
    unpackValues(raw.log_probs),
    ...DATA.estimators.map(({name}) => unpackValues(raw.advantages[name])),
  ]);
  const rows = Array.from({length: raw.size}, () => []),
    columns = raw.segments,
    children = new Set();
  const segments = columns.start.map((start, i) => ({
    index: i,
    start,
    end: columns.end[i],
    top: columns.top[i],
    bottom: columns.bottom[i],
    parent: columns.parent[i],
    vPrev: columns.v_prev[i],
    vNext: columns.v_next[i],
    nPrev: columns.n_prev[i],
    nNext: columns.n_next[i],
  }));
  for (const s of segments) {
    s.level = s.parent < 0 ? 0 : segments[s.parent].level + 1;
    s.inTree = s.nNext > 0;
    if (s.inTree && s.nPrev !== s.nNext) children.add(s.parent + ":" + s.start);
    for (let r = s.top; r < s.bottom; r++) rows[r].push(s);
  }
  for (const list of rows) {
    list.sort((a, b) => a.start - b.start);
    list.forEach((s, i) => {
      if (!s.inTree) s.level = i ? list[i - 1].level + 1 : 0;
    });
  }
  const branchColumns = [],
    total = raw.size * raw.length;
  let counted = 0;
  const hasBranch = new Uint8Array(raw.length);
  for (let i = 0; i < total; i++) {
    counted += flags[i] & COUNTED;
    if (flags[i] & BRANCH) hasBranch[i % raw.length] = 1;
  }
  hasBranch.forEach((x, t) => x && branchColumns.push(t));
  return {
    raw,
    size: raw.size,
    length: raw.length,
    rewards: raw.rewards,
    names: raw.rows,
    tokens,
    flags,
    logProbs,
    credits,
    segments,
    rows,
    branchColumns,
    counted,
    branchings: children.size,
    texts: raw.texts.map(visible),
    plain: raw.texts,
    nodes: segments.reduce((n, s) => n + (s.inTree ? s.end - s.start : 0), 0),
  };
}

function segmentAt(group, row, t) {
  const list = group.rows[row];
  let low = 0,
    high = list.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (list[middle].end <= t) low = middle + 1;
    else high = middle;
  }
  return low < list.length && list[low].start <= t ? list[low] : null;
}

function endOf(group, row) {
  const list = group.rows[row];
  return list.length ? list[list.length - 1].end : 0;
}

// Everything there is to say of one token.
function tokenInfo(group, row, t) {
  const i = row * group.length + t,
    flags = group.flags[i],
    segment = segmentAt(group, row, t);
  if (!(flags & VALID) || !segment) return null;
  const first = t === segment.start,
    value = (x) => x.table[x.codes[i]],
    word = group.tokens[i];
  const inside = segment.inTree ? segment.vNext : null;
  return {
    row,
    response: group.names[row],
    position: t,
    text: group.plain[word],
    shown: group.texts[word],
    id: group.raw.vocab[word],
    counted: Boolean(flags & COUNTED),
    branch: Boolean(flags & BRANCH),
    inTree: segment.inTree,
    vPrev: first && segment.inTree ? segment.vPrev : inside,
    vNext: inside,
    nPrev: first ? segment.nPrev : segment.nNext,
    nNext: segment.nNext,
    reward: group.rewards[row],
    logProb: flags & COUNTED ? value(group.logProbs) : null,
    advantages: group.credits.map(value),
    segment,
  };
}
