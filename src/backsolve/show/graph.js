// The graph on the left: places of what is visible, edges in their lanes, boxes.
const SVG = "http://www.w3.org/2000/svg";
const HALF = 25, TITLE = 24, FOOT = 10, LANE = 14, BOX = 40, GAP = 44;
const ruler = document.createElement("canvas").getContext("2d");

function wide(text, font = 12, weight = "") {
  ruler.font = `${weight} ${font}px system-ui, "Segoe UI", "DejaVu Sans", sans-serif`;
  return ruler.measureText(text).width;
}
function cut(text, width, font = 12, weight = "") {
  if (wide(text, font, weight) <= width) return text;
  let low = 0, high = text.length;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (wide(text.slice(0, middle) + "…", font, weight) <= width) low = middle; else high = middle - 1;
  }
  return text.slice(0, low) + "…";
}
// A number in as many digits as there is room for, other text cut.
function fitted(text, width, font = 12, weight = "") {
  if (wide(text, font, weight) <= width || !/^[−-]?[\d.]+(e[+−-]?\d+)?$/.test(text)) return cut(text, width, font, weight);
  const x = Number(text.replaceAll("−", "-"));
  for (const digits of [3, 2, 1]) {
    const shorter = String(+x.toPrecision(digits)).replaceAll("-", "−");
    if (wide(shorter, font, weight) <= width) return shorter;
  }
  return cut(text, width, font, weight);
}
// The lines that a label takes in a cell: one, or two of a product or of words.
function linesIn(label, width) {
  if (wide(label) <= width || !label.includes(" ")) return [label];
  const places = [...label.matchAll(label.includes(" ∘ ") ? / ∘ /g : / /g)].map((m) => m.index + m[0].length);
  const [at] = places.sort((p, q) => Math.abs(p - label.length / 2) - Math.abs(q - label.length / 2));
  return [label.slice(0, at).trimEnd(), label.slice(at)];
}
// Writes a label into the middle of a cell, in place of the one that is there.
function write(cell, label, x, y, width) {
  for (const old of cell.querySelectorAll("text")) old.remove();
  const found = linesIn(label, width);
  found.forEach((line, k) => {
    const text = make("text", { x, y: y + (found.length > 1 ? 13 * k - 6.5 : 0) }), short = fitted(line, width);
    spell(text, short.length < 4 && short.endsWith("…") ? "∘" : short);
    cell.append(text);
  });
}
function make(name, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const key in attributes) element.setAttribute(key, attributes[key]);
  for (const child of children) element.append(child);
  return element;
}

// What is visible: leaves and closed groups, in their order; and which of them stands for each vertex.
function visibleItems(items) {
  const found = [], open = [], stack = [items[0]];
  while (stack.length) {
    const item = stack.pop();
    if (item.children.length && item.open) {
      if (item.parent !== null) open.push(item);
      for (let k = item.children.length - 1; k >= 0; k--) stack.push(item.children[k]);
    } else found.push(item);
  }
  return { found, open };
}

// The lanes that an edge from a to b takes: [first column, last column, row] each.
function lanesOf(a, b) {
  const above = new Set();
  for (let item = a; item; item = item.parent) above.add(item);
  const path = [], into = [];
  let head = b;
  while (!above.has(head.parent)) { into.push(head); head = head.parent; }
  const shared = head.parent;
  let tail = a;
  while (tail.parent !== shared) {
    for (let layer = tail.layer + 1; layer < tail.parent.layers.length; layer++) add(tail.parent, layer, tail.out[layer]);
    tail = tail.parent;
  }
  for (let layer = tail.layer + 1; layer < head.layer; layer++) add(shared, layer, tail.out[layer]);
  for (const item of into.reverse()) for (let layer = 0; layer < item.layer; layer++) add(item.parent, layer, item.into[layer]);
  return path;
  function add(group, layer, row) {
    if (row === undefined) return;
    const [first, count] = group.layers[layer];
    path.push([first, first + count - 1, row]);
  }
}

// Pixels of everything visible.  `edges` holds {a, b, label} with a and b visible items.  What is much wider than `room`
// is broken into bands, one below the other, as text is into lines.
function place(found, open, edges, labelled, room) {
  const grow = (map, key, size) => map.set(key, Math.max(map.get(key) || 0, size));
  const widths = new Map(), gap = new Map();
  for (const item of found) {
    item.c = item.col + ((item.cols - 1) >> 1);
    item.r = item.row + (item.rows >> 1) - 1;
    grow(widths, item.c, item.width);
    grow(gap, item.c, GAP);
  }
  for (const edge of edges) {
    edge.lanes = lanesOf(edge.a, edge.b);
  }
  const cs = [...widths.keys()].sort((p, q) => p - q);
  if (labelled) { // there is room for a label before the box that its edge leads to
    const previous = new Map(cs.map((c, k) => [c, cs[k - 1]]));
    for (const edge of edges) grow(gap, previous.get(edge.b.c), Math.min(wide(edge.label), 150) + 26);
  }
  const left = new Map(), right = new Map(), bandOf = new Map();
  const bands = columnsInBands(cs, open, widths, gap, left, right, bandOf, room);
  const inside = (first, last) => cs.filter((c) => c >= first && c <= last);
  const rows = bands.map(() => new Map());
  for (const item of found) {
    grow(rows[bandOf.get(item.c)], item.r, HALF);
    grow(rows[bandOf.get(item.c)], item.r + 1, HALF);
  }
  for (const group of open) {
    for (const band of new Set(inside(group.col, group.col + group.cols - 1).map((c) => bandOf.get(c)))) {
      grow(rows[band], group.row, TITLE);
      grow(rows[band], group.row + group.rows - 1, FOOT);
    }
  }
  for (const edge of edges) {
    edge.stops = edge.lanes.map(([first, last, row]) => [inside(first, last), row]).filter(([here]) => here.length);
    for (const [here, row] of edge.stops) for (const c of here) grow(rows[bandOf.get(c)], row, LANE);
  }
  const gutters = tracksOf(edges, bands, bandOf, labelled);
  let y = 8;
  const tops = bands.map((band, k) => {
    const top = new Map();
    for (const r of [...rows[k].keys()].sort((p, q) => p - q)) { top.set(r, y); y += rows[k].get(r); }
    band.bottom = y;
    y += k + 1 < bands.length ? 14 + gutters[k].reduce((sum, track) => sum + track.high, 0) : 0;
    return top;
  });
  for (const item of found) {
    item.x = (left.get(item.c) + right.get(item.c)) / 2;
    item.y = tops[bandOf.get(item.c)].get(item.r) + HALF;
  }
  const end = Math.max(...bands.map((band) => band.right));
  for (const list of gutters) { // what leaves its band high up comes down outside, and on a lower track
    const height = (track) => Math.max(...track.map((edge) => { const [here, row] = lastStop(edge, list.band, bandOf); return here ? tops[list.band].get(row) : edge.a.y; }));
    let down = 7;
    list.map((track) => [height(track), track]).sort((p, q) => q[0] - p[0]).forEach(([, track], t) => {
      Object.assign(track, { apart: t * Math.min(4, 18 / list.length), down: down + track.high / 2 });
      down += track.high;
    });
  }
  for (const edge of edges) edge.points = route(edge, { left, right, bandOf, bands, rows, tops, end });
  for (const group of open) {
    const here = inside(group.col, group.col + group.cols - 1), pad = Math.max(12 - 2 * depth(group), 4);
    group.boxes = [...new Set(here.map((c) => bandOf.get(c)))].map((band) => {
      const mine = here.filter((c) => bandOf.get(c) === band), foot = group.row + group.rows - 1;
      return [left.get(mine[0]) - pad, tops[band].get(group.row) + 2, right.get(mine[mine.length - 1]) + pad, tops[band].get(foot) + rows[band].get(foot) - 2];
    });
  }
  return [Math.max(end + 14, 60), y + 8];
}
// Left and right ends of the columns; returns the bands.
function columnsInBands(cs, open, widths, gap, left, right, bandOf, room) {
  const starts = new Map(), stops = new Map();
  const count = (map, c) => map.set(c, (map.get(c) || 0) + 1);
  for (const group of open) {
    const here = cs.filter((c) => c >= group.col && c < group.col + group.cols);
    count(starts, here[0]);
    count(stops, here[here.length - 1]);
  }
  const size = (c) => 8 * ((starts.get(c) || 0) + (stops.get(c) || 0)) + widths.get(c) + gap.get(c);
  const total = cs.reduce((sum, c) => sum + size(c), 0);
  const lines = total > 1.2 * room ? Math.ceil(total / room) : 1;
  const bands = [{ right: 0 }], margin = lines > 1 ? 30 : 14;
  let x = margin;
  cs.forEach((c, k) => {
    if (lines > 1 && x > margin && x + size(c) - gap.get(c) > total / lines + margin + 40) { bands.push({ right: 0 }); x = margin; }
    x += 8 * (starts.get(c) || 0);
    left.set(c, x);
    x += widths.get(c);
    right.set(c, x);
    bandOf.set(c, bands.length - 1);
    bands[bands.length - 1].right = Math.max(bands[bands.length - 1].right, x + (lines > 1 ? 34 : 8) + 8 * (stops.get(c) || 0));
    x += 8 * (stops.get(c) || 0) + gap.get(c);
  });
  return bands;
}
// What leaves a band runs on a track below it: from the band it comes from with its label, all that say the same together;
// further on, and where there are no labels, those of one box that came in one lane.
function tracksOf(edges, bands, bandOf, labelled) {
  const gutters = bands.map((_, band) => Object.assign([], { band, at: new Map() }));
  edges.forEach((edge) => {
    edge.track = new Map();
    let band = bandOf.get(edge.a.c);
    for (const next of [...edge.stops.flatMap(([here]) => here.map((c) => bandOf.get(c))), bandOf.get(edge.b.c)]) {
      if (next <= band) continue;
      const list = gutters[band], [, row] = lastStop(edge, band, bandOf);
      const told = labelled && edge.label && band === bandOf.get(edge.a.c);
      const key = `${edge.a.number} ${told ? edge.label : row}`;
      if (!list.at.has(key)) { list.at.set(key, list.length); list.push(Object.assign([], { high: told ? 17 : 5, named: told ? edge : null })); }
      const track = list[list.at.get(key)];
      track.push(edge);
      edge.track.set(band, track);
      band = next;
    }
  });
  return gutters;
}
function lastStop(edge, band, bandOf) {
  return edge.stops.filter(([here]) => here.some((c) => bandOf.get(c) === band)).pop() || [];
}
// The points of an edge; a third entry asks for a straight line to that point, a fourth marks a track between bands: 1 where
// the edge's label may stand on it, −1 where not.
function route(edge, { left, right, bandOf, bands, rows, tops, end }) {
  const points = [[edge.a.x + edge.a.width / 2, edge.a.y]];
  let band = bandOf.get(edge.a.c);
  const cross = (next, y) => {
    if (band >= next) return;
    const { apart, down, named } = edge.track.get(band), height = bands[band].bottom + down, last = points[points.length - 1];
    points.push([end - 24 + apart, last[1], true], [end - 24 + apart, height, true], [6 + apart, height, true, named === edge ? 1 : -1], [6 + apart, y, true]);
    band = next;
  };
  for (const [here, row] of edge.stops) {
    for (const k of [...new Set(here.map((c) => bandOf.get(c)))]) {
      const mine = here.filter((c) => bandOf.get(c) === k), y = tops[k].get(row) + rows[k].get(row) / 2;
      cross(k, y);
      points.push([left.get(mine[0]), y], [right.get(mine[mine.length - 1]), y]);
    }
  }
  cross(bandOf.get(edge.b.c), edge.b.y);
  points.push([edge.b.x - edge.b.width / 2 - 7, edge.b.y]);
  return points;
}
function depth(item) {
  let d = 0;
  for (let at = item.parent; at; at = at.parent) d++;
  return d;
}
function curve(points) {
  let path = `M${points[0][0]},${points[0][1]}`;
  for (let k = 1; k < points.length; k++) {
    const [x0, y0] = points[k - 1], [x1, y1, straight] = points[k];
    if (straight || y0 === y1) { path += `L${x1},${y1}`; continue; }
    const reach = Math.max(Math.abs(x1 - x0) / 2, 12);
    path += `C${x0 + reach},${y0} ${x1 - reach},${y1} ${x1},${y1}`;
  }
  return path;
}
