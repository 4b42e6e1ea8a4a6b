// What is drawn, as Python wrote it into the page, and the state of the page.  `ended` comes when another takes its place.
const listen = (kind, what) => document.addEventListener(kind, what, { signal: ended });
const data = JSON.parse(document.getElementById("data").textContent);
const S = data.strings, KINDS = data.kinds.map((kind) => kind[0]);
const vertices = data.vertices.map(([name, role, text, space, line, shown, at]) => ({ name, role, text: S[text], space: S[space], line, shown: S[shown], at }));
const edges = data.edges.map(([tail, head, label, kind, cell, value], n) => ({ n, tail, head, label: S[label], kind: KINDS[kind], cell: S[cell], value }));
const diagonal = {};
for (const [v, label, kind] of data.diagonal) diagonal[v] = [S[label], KINDS[kind]];
const page = { edges, diagonal };
const items = data.items.map(([label, where, parent, vertex, start, stop, col, cols, row, rows, open, out, into, layer, layers], number) =>
  ({ number, label, where, parent, vertex, start, stop, col, cols, row, rows, open: !!open, out: Object.fromEntries(out), into: Object.fromEntries(into), layer, layers, children: [] }));
for (const item of items) {
  item.parent = item.parent < 0 ? null : items[item.parent];
  if (item.parent) item.parent.children.push(item);
}
const into = vertices.map(() => []), outOf = vertices.map(() => []);
for (const edge of edges) { into[edge.head].push(edge.n); outOf[edge.tail].push(edge.n); }
const before = packed(into, "tail"), after = packed(outOf, "head"); // the same as flat arrays of neighbours
function packed(lists, end) {
  const starts = new Int32Array(lists.length + 1);
  lists.forEach((list, v) => { starts[v + 1] = starts[v] + list.length; });
  return { starts, ends: Int32Array.from(lists.flat(), (n) => edges[n][end]) };
}
const $ = (id) => document.getElementById(id);
const state = { run: 0, step: 0, timer: 0, zoom: { graph: 0, matrix: 0 } };
let view = null;

for (const item of items) {
  const v = vertices[item.vertex];
  if (v) {
    item.head = v.name; item.tail = v.shown || v.text; item.short = v.name;
    item.under = v.space === "" || v.space.endsWith("[scalar]") ? (v.at ? `= ${v.at}` : "") : v.space.replace(/^\w+\[([^\]]*)\]$/, "$1");
    item.role = v.role;
  } else {
    const n = item.stop - item.start;
    item.head = item.label; item.tail = ""; item.under = `${n} folded${item.where ? ` · ${item.where}` : ""}`;
    item.short = item.label; item.role = "group";
  }
  const first = wide(item.head, 12, 600) + (item.tail ? wide(` ${item.tail}`) + 2 : 0);
  item.width = Math.max(v && v.at && v.role === "source" ? 84 : 44, Math.min(190, Math.max(first, wide(item.under, 10.5)) + 18));
}
const keyOf = new Map(data.keys), vertexOf = new Map(data.keys.map(([v, key]) => [key, v])); // of what can be eliminated
const vertexText = (v) => `${v.name}${v.text ? ` ${v.text}` : ""}${v.space ? `, ${v.space}` : ""}${v.at ? `, ${v.at}` : ""}`;
const lineText = (v) => (v.line < 0 ? "" : ` · ${data.lines[v.line]}`);
function edgeText(n) {
  const e = edges[n];
  return `${vertices[e.tail].name} → ${vertices[e.head].name}: ${e.label}`;
}
