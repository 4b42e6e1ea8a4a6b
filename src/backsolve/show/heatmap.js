// The entries of a matrix, block by block: where they are, how large, and what their rows and columns are called.
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id), SVG = "http://www.w3.org/2000/svg";
const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer;
const rows = new Int32Array(bytes(data.rows)), cols = new Int32Array(bytes(data.cols)), values = data.values ? new Float64Array(bytes(data.values)) : null;
const [m, n] = data.shape, [tall, wideBy] = data.squares; // an entry stands for a square of this many rows and columns
const at = new Map();
rows.forEach((r, k) => at.set(Math.floor(r / tall) * Math.ceil(n / wideBy) + Math.floor(cols[k] / wideBy), k));
let least = Infinity, most = 0;
if (values) for (const x of values) { const a = Math.abs(x); if (a > 0 && Number.isFinite(a)) { least = Math.min(least, a); most = Math.max(most, a); } }
const state = { top: 0, left: 0, bottom: m, right: n, row: -1, col: -1 };

// A leaf of an axis: its name, its shape, where it starts and stops.
function leavesOf(list) {
  let start = 0;
  return list.map(([name, short, shape, layer]) => {
    const size = shape.reduce((a, b) => a * b, 1), leaf = { name, short, shape, layer, start, stop: start + size };
    start += size;
    return leaf;
  });
}
const rowLeaves = leavesOf(data.rowLeaves), colLeaves = leavesOf(data.colLeaves);
function leafAt(leaves, k) { // by bisection
  let low = 0, high = leaves.length - 1;
  while (low < high) { const middle = (low + high) >> 1; if (leaves[middle].stop > k) high = middle; else low = middle + 1; }
  return leaves[low];
}
function nameOf(leaves, k) {
  const leaf = leafAt(leaves, k);
  let rest = k - leaf.start;
  const index = [];
  for (let axis = leaf.shape.length - 1; axis >= 0; axis--) { index.unshift(rest % leaf.shape[axis]); rest = Math.floor(rest / leaf.shape[axis]); }
  return index.length ? `${leaf.name}[${index.join(", ")}]` : leaf.name;
}
// The colours of positive and of negative numbers.
const inks = () => (matchMedia("(prefers-color-scheme: dark)").matches ? ["255,160,87", "94,180,255"] : ["213,94,0", "0,114,178"]);
function colour(k, ink) {
  if (!values) return `rgb(${ink[1]})`;
  const x = values[k], a = Math.abs(x);
  if (!Number.isFinite(x)) return "rgb(204,51,170)";
  const depth = a === 0 ? 0 : most === least ? 1 : (Math.log(a) - Math.log(least)) / (Math.log(most) - Math.log(least));
  return `rgba(${x < 0 ? ink[1] : ink[0]},${0.2 + 0.8 * depth})`;
}
function layout() {
  const room = $("field").clientWidth, names = (leaves) => Math.max(...leaves.map((leaf) => widthOf(leaf.short)));
  const left = Math.min(names(rowLeaves) + 18, room < 600 ? 0.32 * room : 150);
  const upright = colLeaves.some((leaf) => leaf.stop > state.left && leaf.start < state.right
    && widthOf(leaf.short) > (room - left - 12) * (leaf.stop - leaf.start) / (state.right - state.left) - 4); // names that do not fit lie along their columns
  const top = upright ? Math.min(names(colLeaves), 120) + 18 : 26;
  const high = state.bottom - state.top, wide = state.right - state.left;
  const width = Math.max(60, room - left - 12), height = Math.max(60, Math.min(tallest() * 0.68, Math.max(width * high / wide, 90)));
  const scale = Math.min(width / wide, height / high, 48);
  // As it is where that can be seen; where it is much longer than wide, as wide as there is room.
  const slim = Math.min(high, wide) * scale < 40;
  const x = slim ? width / wide : scale;
  return { left: Math.max(left, (room - wide * x) / 2), top, upright, x, y: slim ? Math.min(height / high, 48) : scale };
}
let place = null;
function draw() {
  place = layout();
  const canvas = $("entries"), ratio = devicePixelRatio || 1;
  const width = Math.max(1, Math.round((state.right - state.left) * place.x)), height = Math.max(1, Math.round((state.bottom - state.top) * place.y));
  canvas.style.left = `${place.left}px`;
  canvas.style.top = `${place.top}px`;
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  canvas.width = width * ratio;
  canvas.height = height * ratio;
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  const ink = inks();
  for (let k = 0; k < rows.length; k++) {
    if (rows[k] + tall <= state.top || rows[k] >= state.bottom || cols[k] + wideBy <= state.left || cols[k] >= state.right) continue;
    pen.fillStyle = colour(k, ink);
    const gap = Math.min(place.x * wideBy, place.y * tall) > 6 ? 0.5 : 0;
    pen.fillRect((cols[k] - state.left) * place.x + gap, (rows[k] - state.top) * place.y + gap, Math.max(1, place.x * wideBy - 2 * gap), Math.max(1, place.y * tall - 2 * gap));
  }
  const box = $("field");
  box.style.height = `${place.top + height + 14}px`;
  drawAxes(width, height);
  $("scale").querySelectorAll("i").forEach((swatch, n) => { swatch.style.background = `linear-gradient(90deg, rgba(${ink[n]},.2), rgb(${ink[n]}))`; });
  mark();
}
function drawAxes(width, height) {
  const svg = $("axes"), room = $("field").clientWidth;
  svg.setAttribute("width", room);
  svg.setAttribute("height", place.top + height + 12);
  svg.replaceChildren();
  const add = (name, attributes, text) => {
    const element = document.createElementNS(SVG, name);
    for (const key in attributes) element.setAttribute(key, attributes[key]);
    if (text) element.textContent = text;
    svg.append(element);
    return element;
  };
  add("rect", { class: "frame", x: place.left - 1, y: place.top - 1, width: width + 2, height: height + 2 });
  const along = (leaves, from, to, unit, start) => leaves.filter((leaf) => leaf.stop > from && leaf.start < to).map((leaf, k, list) => ({ leaf, a: start + (Math.max(leaf.start, from) - from) * unit, b: start + (Math.min(leaf.stop, to) - from) * unit, thick: k && list[k - 1].layer !== leaf.layer }));
  let free = -Infinity;
  for (const { leaf, a, b, thick } of along(colLeaves, state.left, state.right, place.x, place.left)) {
    if (a > place.left) add("line", { class: thick ? "layer" : "leaf", x1: a, x2: a, y1: place.top - 6, y2: place.top + height });
    const x = (a + b) / 2, y = place.top - 9;
    if (place.upright) {
      if (x - 7 < free) continue;
      add("text", { x, y, transform: `rotate(-90 ${x} ${y})`, "dominant-baseline": "central" }, fitted(leaf.short, place.top - 14));
      free = x + 7;
    } else {
      const text = fitted(leaf.short, Math.max(b - a - 4, 0));
      if (text) add("text", { x, y, "text-anchor": "middle" }, text);
    }
  }
  free = -Infinity;
  for (const { leaf, a, b, thick } of along(rowLeaves, state.top, state.bottom, place.y, place.top)) {
    if (a > place.top) add("line", { class: thick ? "layer" : "leaf", x1: place.left - 6, x2: place.left + width, y1: a, y2: a });
    if ((a + b) / 2 - 8 < free) continue;
    add("text", { x: place.left - 9, y: (a + b) / 2, "text-anchor": "end", "dominant-baseline": "central" }, fitted(leaf.short, place.left - 14));
    free = (a + b) / 2 + 8;
  }
}
const ruler = document.createElement("canvas").getContext("2d");
function widthOf(text) {
  ruler.font = '12px system-ui, "Segoe UI", "DejaVu Sans", sans-serif';
  return ruler.measureText(text).width;
}
function fitted(text, width) {
  if (widthOf(text) <= width) return text;
  let low = 0;
  while (low < text.length && widthOf(`…${text.slice(-low - 1)}`) <= width) low++;
  return low > 2 ? `…${text.slice(-low)}` : "";
}
// The place that is pointed at: its names, its entry, a frame around it.
function tell(row, col) {
  Object.assign(state, { row, col });
  mark();
  if (row < 0) return;
  const k = at.get(Math.floor(row / tall) * Math.ceil(n / wideBy) + Math.floor(col / wideBy));
  const many = tall > 1 || wideBy > 1, span = (leaves, from, by, end) => (many && by > 1 ? `${nameOf(leaves, from)} to ${nameOf(leaves, Math.min(from + by, end) - 1)}` : nameOf(leaves, from));
  const r = many ? Math.floor(row / tall) * tall : row, c = many ? Math.floor(col / wideBy) * wideBy : col;
  const what = k === undefined ? "no entry" : `${many ? `${data.counts[k]} entr${data.counts[k] === 1 ? "y" : "ies"}${values ? ", the largest " : ""}` : ""}${values ? +values[k].toPrecision(6) : many ? "" : "an entry"}`;
  $("detail").textContent = `row ${span(rowLeaves, r, tall, m)}, column ${span(colLeaves, c, wideBy, n)}: ${what}`;
}
function mark() {
  const old = $("axes").querySelector(".here");
  if (old) old.remove();
  if (state.row < state.top || state.row >= state.bottom || state.col < state.left || state.col >= state.right) return;
  const here = document.createElementNS(SVG, "rect"), w = Math.max(5, place.x * wideBy), h = Math.max(5, place.y * tall);
  const x = place.left + (Math.floor(state.col / wideBy) * wideBy - state.left) * place.x, y = place.top + (Math.floor(state.row / tall) * tall - state.top) * place.y;
  for (const [key, value] of Object.entries({ class: "here", x: x - 1, y: y - 1, width: w + 2, height: h + 2 })) here.setAttribute(key, value);
  $("axes").append(here);
}
function placeAt(event) {
  const box = $("entries").getBoundingClientRect();
  const row = state.top + Math.floor((event.clientY - box.top) / place.y), col = state.left + Math.floor((event.clientX - box.left) / place.x);
  return [Math.max(state.top, Math.min(state.bottom - 1, row)), Math.max(state.left, Math.min(state.right - 1, col))];
}
function enlarge(i, j) { // the block of row leaf i and column leaf j; all of an axis where it is negative
  const r = rowLeaves[i], c = colLeaves[j];
  Object.assign(state, { top: r ? r.start : 0, bottom: r ? r.stop : m, left: c ? c.start : 0, right: c ? c.stop : n });
  $("block").value = r && c ? `${i},${j}` : "-1,-1";
  draw();
}
const whole = () => enlarge(-1, -1);
function setUp() {
  const option = (value, text) => { const o = document.createElement("option"); o.value = value; o.textContent = text; $("block").append(o); };
  option("-1,-1", "whole matrix");
  if (rowLeaves.length * colLeaves.length <= 400) {
    rowLeaves.forEach((r, i) => colLeaves.forEach((c, j) => option(`${i},${j}`, `${r.short} by ${c.short}`)));
  }
  $("bar").hidden = rowLeaves.length * colLeaves.length === 1 && !values;
  $("block").parentElement.hidden = $("whole").hidden = rowLeaves.length * colLeaves.length === 1;
  if (values && most) {
    const brief = (x) => String(+x.toPrecision(3));
    $("scale").innerHTML = "<i></i> positive <i></i> negative, <span></span>";
    $("scale").lastChild.textContent = least === most ? brief(most) : `absolute value ${brief(least)} … ${brief(most)}, on a scale of logarithms`;
  }
  $("block").addEventListener("change", (event) => enlarge(...event.target.value.split(",").map(Number)));
  $("whole").addEventListener("click", whole);
  const canvas = $("entries");
  canvas.addEventListener("pointermove", (event) => tell(...placeAt(event)));
  canvas.addEventListener("pointerdown", (event) => tell(...placeAt(event)));
  const into = (row, col) => enlarge(rowLeaves.indexOf(leafAt(rowLeaves, row)), colLeaves.indexOf(leafAt(colLeaves, col)));
  canvas.addEventListener("click", (event) => { if ($("block").value === "-1,-1") into(...placeAt(event)); else whole(); });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { whole(); return; }
    if (document.activeElement !== canvas) return;
    const by = { ArrowUp: [-tall, 0], ArrowDown: [tall, 0], ArrowLeft: [0, -wideBy], ArrowRight: [0, wideBy] }[event.key];
    if (by) {
      event.preventDefault();
      const [r, c] = state.row < 0 ? [state.top, state.left] : [state.row + by[0], state.col + by[1]];
      tell(Math.max(state.top, Math.min(state.bottom - 1, r)), Math.max(state.left, Math.min(state.right - 1, c)));
    } else if (event.key === "Enter" && state.row >= 0) { event.preventDefault(); into(state.row, state.col); }
  });
  let width = $("field").clientWidth;
  new ResizeObserver(() => { if (Math.abs($("field").clientWidth - width) > 20) { width = $("field").clientWidth; draw(); } }).observe($("field"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  draw();
}
setUp();
window.backsolve = { data, state, enlarge, whole, tell, rows, cols, values, place: () => place };
