// Labels of edges: each on its own line, clear of boxes, of other labels and, where there is room, of other lines.
const LABEL = 150, TALL = 7; // the widest, and half the height of one

function placeLabels(edges, found, width) {
  const taken = found.map((item) => [item.x - item.width / 2 - 1, item.y - BOX / 2 - 5, item.x + item.width / 2 + 5, item.y + BOX / 2 + 1]);
  const lines = new Map(); // height / 16 → [x, y, edge] of the points of all lines
  edges.forEach((edge, n) => {
    for (const [x, y] of edge.traces.flat()) {
      const row = Math.floor(y / 16);
      if (!lines.has(row)) lines.set(row, []);
      lines.get(row).push([x, y, n]);
    }
  });
  const covered = ([l, t, r, b], n) => { // points under a label, of other lines and of its own
    let count = 0;
    for (let row = Math.floor(t / 16); row <= Math.floor(b / 16); row++) {
      for (const [x, y, m] of lines.get(row) || []) if (x > l && x < r && y > t && y < b) count += m === n ? 0.4 : 3;
    }
    return count;
  };
  const shortest = edges.map((edge, n) => [edge.traces.flat().length, n]).sort((p, q) => p[0] - q[0]);
  for (const [, n] of shortest) { // those with the least choice first
    const edge = edges[n], half = Math.min(wide(edge.label), LABEL) / 2 + 2;
    edge.lx = undefined;
    if (!edge.label) continue;
    let least = Infinity;
    for (const [x, y, price] of placesOf(edge)) {
      const box = [x - half, y - TALL, x + half, y + TALL];
      if (price >= least || box[0] < 2 || box[2] > width - 2 || box[1] < 2) continue;
      if (taken.some(([L, T, R, B]) => box[0] < R && L < box[2] && box[1] < B && T < box[3])) continue;
      const cost = price + covered(box, n);
      if (cost < least) { least = cost; edge.lx = x; edge.ly = y; }
    }
    if (edge.lx !== undefined) taken.push([edge.lx - half, edge.ly - TALL, edge.lx + half, edge.ly + TALL]);
  }
}
// Points along each stretch of an edge, about 8 px apart.
function tracesOf(points) {
  return points.slice(1).map(([x1, y1, straight], k) => {
    const [x0, y0] = points[k], count = Math.max(2, Math.ceil((Math.abs(x1 - x0) + Math.abs(y1 - y0)) / 8));
    const reach = Math.max(Math.abs(x1 - x0) / 2, 12), trace = [];
    for (let i = 0; i <= count; i++) {
      const t = i / count, u = 1 - t;
      trace.push(straight ? [u * x0 + t * x1, u * y0 + t * y1]
        : [u * u * u * x0 + 3 * u * u * t * (x0 + reach) + 3 * u * t * t * (x1 - reach) + t * t * t * x1, (u * u * u + 3 * u * u * t) * y0 + (3 * u * t * t + t * t * t) * y1]);
    }
    return trace;
  });
}
// Where a label may stand, each with a price: near the middle of the last stretch, or of the first, or of one between.
function placesOf(edge) {
  const places = [], last = edge.traces.length - 1;
  edge.traces.forEach((trace, k) => {
    const [x0, y0] = trace[0], [x1, y1] = trace[trace.length - 1];
    if (x0 === x1) return;
    const track = edge.points[k + 1][3], level = y0 === y1;
    if (track < 0) return;
    const base = track ? 0 : k === last ? 1 : k === 0 ? 2 : 8;
    trace.forEach(([x, y], i) => {
      const price = base + 6 * Math.abs(i / (trace.length - 1) - 0.5);
      if (level) places.push([x, y - 9, price], [x, y + 10, price + 2]);
      else places.push([x, y, price], [x, y - 9, price + 3], [x, y + 9, price + 3]);
    });
  });
  return places;
}
// Writes a label as the paper does, ( )ᴸ, ( )ᴿ and ( )ᴴ with their letter as an index.  Labels need no more than indices, which
// SVG draws itself; MathML would need a foreignObject for each.
const INDEX = { "ᴸ": "L", "ᴿ": "R", "ᴴ": "H" };
function spell(text, label) {
  text.replaceChildren();
  let back = 0;
  for (const part of label.split(/([ᴸᴿᴴ])/)) {
    if (!part) continue;
    const span = document.createElementNS(SVG, "tspan");
    span.textContent = INDEX[part] || part;
    const down = INDEX[part] ? 3 : 0;
    if (down !== back) span.setAttribute("dy", down - back);
    if (down) span.setAttribute("font-size", "8.5");
    back = down;
    text.append(span);
  }
}
