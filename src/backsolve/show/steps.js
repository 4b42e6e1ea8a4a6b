// One step of an elimination: what is gone, in work, filled in; found anew for every step, so that any can be reached.
// What is left and reached from these vertices through vertices that are gone.
const seen = new Int32Array(vertices.length), stack = new Int32Array(vertices.length);
let visit = 0;
function reach(members, gone, { starts, ends }) {
  const found = [];
  let height = 0;
  visit += 1;
  for (const v of members) { seen[v] = visit; stack[height++] = v; }
  while (height) {
    const v = stack[--height];
    for (let k = starts[v]; k < starts[v + 1]; k++) {
      const u = ends[k];
      if (seen[u] === visit) continue;
      seen[u] = visit;
      if (gone[u]) stack[height++] = u; else found.push(u);
    }
  }
  return found;
}
// Whether the vector has its value at this vertex: it is eliminated, or where the substitution starts, or at the end.
function isFilled(u) {
  const run = data.runs[state.run], at = run.steps.get(u);
  return at === undefined ? run.starts.has(vertices[u].role) || state.step === run.order.length : at < state.step;
}
function update() {
  const run = data.runs[state.run];
  if (!run) return;
  const gone = new Uint8Array(vertices.length);
  for (let k = 0; k < state.step; k++) gone[run.order[k]] = 1;
  const v = state.step ? run.order[state.step - 1] : -1;
  let ins = [], outs = []; // neighbours of the node in work, at this moment
  if (v >= 0) {
    gone[v] = 0;
    ins = reach([v], gone, before);
    outs = reach([v], gone, after);
    gone[v] = 1;
  }
  const insideIns = new Set(ins), insideOuts = new Set(outs);
  for (const item of view.found) {
    let left = false;
    for (let u = item.start; u < item.stop && !left; u++) left = !gone[u];
    item.element.classList.toggle("done", !left && !(v >= item.start && v < item.stop));
    item.element.classList.toggle("work", v >= item.start && v < item.stop);
  }
  const inWork = (e) => (e.head === v && insideIns.has(e.tail)) || (e.tail === v && insideOuts.has(e.head));
  for (const arrow of view.arrows) {
    const work = arrow.edges.some((n) => inWork(edges[n])), done = arrow.edges.every((n) => gone[edges[n].tail] || gone[edges[n].head]);
    for (const element of arrow.name ? [arrow.element, arrow.name] : [arrow.element]) {
      element.classList.toggle("work", work);
      element.classList.toggle("done", done);
    }
  }
  // Entries between what is left are sums over the paths through what is gone: found by walking, whatever the order was.
  const present = new Set(), width = view.colLines.length;
  const { rowOf, colOf } = view;
  if (state.step) {
    view.rowLines.forEach((line, r) => {
      const members = line.members.filter((u) => !gone[u]);
      if (!members.length) return;
      for (const u of reach(members, gone, before)) if (colOf[u] >= 0) present.add(r * width + colOf[u]);
    });
  }
  const work = new Set();
  if (v >= 0) {
    for (const j of ins) if (rowOf[v] >= 0 && colOf[j] >= 0) work.add(rowOf[v] * width + colOf[j]);
    for (const i of outs) if (colOf[v] >= 0 && rowOf[i] >= 0) work.add(rowOf[i] * width + colOf[v]);
  }
  for (const cell of view.extra) if (!present.has(cell.key) && !work.has(cell.key)) cell.element.remove();
  view.extra = view.extra.filter((cell) => cell.element.parentNode);
  const extra = new Set(view.extra.map((cell) => cell.key));
  for (const key of [...present, ...work]) {
    if (view.cells.has(key) || extra.has(key)) continue;
    extra.add(key);
    const cell = { r: Math.floor(key / width), c: key % width, key, edges: [], kind: "fill", label: "" };
    $("matrix").firstChild.append(drawCell(view, cell));
    cell.element.classList.add("fill");
    nameCell(cell);
    view.extra.push(cell);
  }
  for (const cell of view.cells.values()) {
    const list = cell.element.classList;
    const kept = cell.edges.some((n) => !gone[edges[n].tail] && !gone[edges[n].head]) || (cell.diagonal >= 0 && view.rowLines[cell.r].members.some((u) => !gone[u]));
    list.toggle("done", !kept && !present.has(cell.key) && !work.has(cell.key));
    list.toggle("work", work.has(cell.key));
    list.toggle("fill", cell.kind !== "group" && !kept && present.has(cell.key));
  }
  for (const cell of view.extra) cell.element.classList.toggle("work", work.has(cell.key));
  drawFill(present, width);
  if (v >= 0) reveal(view.rep[v].x, view.rep[v].y);
  fillTotals(gone, v);
  view.results.forEach(({ u, box, text, room }) => {
    box.classList.toggle("filled", isFilled(u));
    if (!text) return;
    const told = isFilled(u) ? run.values[u] || "" : "", bare = told.replace("‖·‖ ", ""); // the norm without its sign, where that is narrow
    text.textContent = fitted(wide(told, 12, 600) > room ? bare : told, room);
  });
  for (const item of view.found) {
    if (!item.underText || item.role !== "source") continue;
    const told = run.head === "x̄" && run.values && state.step === keyOf.size;
    item.underText.textContent = told ? toldIn(item.width - 10, run.head, run.values[item.vertex] || "") : cut(item.under, item.width - 10, 10.5);
    item.underText.classList.toggle("told", told);
  }
  view.values.forEach((box, k) => {
    const members = view.rowLines[k].members, values = run.values;
    box.classList.toggle("filled", members.every(isFilled));
    box.classList.toggle("work", members.includes(v));
    if (view.text) box.lastChild.textContent = members.length === 1 && isFilled(members[0]) ? cut(values[members[0]] || "", view.valueWidth - 6) : "";
  });
  tell(run, v, ins, outs);
}
// What stands in a cell once nodes are gone: the sum over the paths through them, as a number, or in symbols.
function fillTotals(gone, v) {
  if (!view.text) return;
  const before = gone.slice(); // what the row and the column of the node in work show
  if (v >= 0) before[v] = 0;
  const sums = new Map();
  for (const cell of [...view.cells.values(), ...view.extra]) {
    const rows = view.rowLines[cell.r].members, cols = view.colLines[cell.c].members;
    if (rows.length !== 1 || cols.length !== 1 || cell.diagonal >= 0) continue;
    const [i] = rows, [j] = cols, at = i === v || j === v ? before : gone, key = i * 2 + (at === gone ? 0 : 1);
    if (!sums.has(key)) sums.set(key, at[i] ? new Map() : passing(i, at));
    const found = at[j] ? undefined : sums.get(key).get(j);
    const total = found && found.through ? inWords(found, minusIn(i, j)) : "";
    if ((cell.total || "") === total) continue;
    cell.total = total;
    write(cell.element, total || cell.label || "", view.xs[cell.c] + view.widths[cell.c] / 2, view.ys[cell.r] + view.high / 2, view.widths[cell.c] - 8);
    cell.element.setAttribute("aria-label", `row ${view.rowLines[cell.r].item.short}, column ${view.colLines[cell.c].item.short}: ${total || cell.label || "fill-in"}`);
  }
}
// A value with its name, in a narrower box without, in a narrow one without the sign of a norm.
function toldIn(room, name, value) {
  return [`${name} ${value}`, value].find((text) => wide(text, 10.5, 600) <= room) || fitted(value.replace("‖·‖ ", ""), room, 10.5, 600);
}
// Whether a cell shows the negative of its edge: all but the edges from sources and to outputs of a System.
const minusIn = (i, j) => !(data.system && (vertices[j].role === "source" || vertices[i].role === "output"));
// For every vertex that is left the sum of the paths from it to i through what is gone: {n, terms, through}.
function passing(i, gone) {
  const found = new Map([[i, { n: 1, terms: [""], through: false }]]);
  const queue = [];
  const follow = (v) => {
    const here = found.get(v);
    for (const k of into[v]) {
      const e = edges[k], part = { n: here.n === null || e.value === null ? null : here.n * e.value, terms: here.terms.map((t) => joined(t, e.label)), through: v !== i };
      const before = found.get(e.tail);
      if (!before && gone[e.tail]) queue.push(e.tail);
      found.set(e.tail, before ? { n: before.n === null || part.n === null ? null : before.n + part.n, terms: [...before.terms, ...part.terms].slice(0, 5), through: before.through || part.through } : part);
    }
  };
  follow(i);
  while (queue.length) { // later vertices first: what leads to one is complete when it comes up
    queue.sort((a, b) => a - b);
    follow(queue.pop());
  }
  return found;
}
function joined(term, label) {
  const plain = label.includes(" = ") ? label.slice(0, label.indexOf(" = ")) : label;
  if (plain === "I" || plain === "1") return term;
  const part = / [+−-] /.test(plain) && !plain.startsWith("(") ? `[${plain}]` : plain;
  return !term ? part : data.system ? `${term} ∘ ${part}` : `${part}·${term}`;
}
function inWords({ n, terms }, minus) {
  if (n !== null) return String(+(minus ? -n : n).toPrecision(4)).replaceAll("-", "−");
  if (terms.length > 3) return "Σ paths";
  const text = terms.map((t) => t || "I").join(" + ");
  return !minus ? text : terms.length > 1 ? `−[${text}]` : text.startsWith("−") ? text.slice(1) : `−${text}`;
}
function reveal(x, y) { // scrolls to what is in work: the graph to the sides, and the page down where its bar stays above
  const svg = $("graph"), box = svg.parentElement, scale = state.natural.graph[2], margin = 90;
  const across = x * scale, down = svg.getBoundingClientRect().top + y * scale;
  if (across < box.scrollLeft + margin || across > box.scrollLeft + box.clientWidth - margin) box.scrollLeft = across - box.clientWidth / 2;
  if (!document.body.classList.contains("tall")) return;
  if (down < $("bar").getBoundingClientRect().bottom + 30 || down > innerHeight - 40) scrollBy(0, down - innerHeight / 2);
}
function drawFill(present, width) {
  view.fills.replaceChildren();
  let drawn = 0;
  for (const key of present) {
    const row = view.rowLines[Math.floor(key / width)].item, column = view.colLines[key % width].item;
    if (row === column || view.shown.has(column.number * items.length + row.number) || ++drawn > 200) continue;
    const x0 = column.x + column.width / 2, x1 = row.x - row.width / 2 - 7, bend = Math.max((x1 - x0) / 2, 20);
    const rise = Math.abs(row.y - column.y) < 20 ? -34 : 0;
    view.fills.append(make("g", { class: "edge fill" }, make("path", { class: "line", "marker-end": "url(#tip)",
      d: `M${x0},${column.y}C${x0 + bend},${column.y + rise} ${x1 - bend},${row.y + rise} ${x1},${row.y}` })));
  }
}
const number = (n) => n.toLocaleString("en-US");
const listed = (found) => {
  const names = found.sort((a, b) => a - b).map((u) => vertices[u].name);
  return names.length > 6 ? `${names.slice(0, 5).join(", ")} and ${names.length - 5} more` : names.join(", ") || "nothing";
};
function tell(run, v, ins, outs) {
  let so = 0;
  const counts = run.costs.length === run.order.length;
  for (let k = 0; k < state.step; k++) so += counts ? run.costs[k] : 0;
  $("slider").value = state.step;
  $("slider").setAttribute("aria-valuetext", `step ${state.step} of ${run.order.length}`);
  $("count").textContent = `${state.step} / ${keyOf.size}`;
  $("so").textContent = counts ? number(so) : "not counted";
  if (v < 0) { $("status").textContent = `Step 0 of ${keyOf.size}: nothing is eliminated yet.`; return; }
  const cost = counts ? `: ${number(run.costs[state.step - 1])} multiplication${run.costs[state.step - 1] === 1 ? "" : "s"}` : "";
  $("status").textContent = `Step ${state.step}: ${vertexText(vertices[v])}. Edges from ${listed(ins)} composed with edges to ${listed(outs)}${cost}.${theEnd(run)}`;
}
// The gradient in words, where all that comes out is one number and all that goes in are a few.
function theEnd(run) {
  const sources = vertices.map((_, u) => u).filter((u) => vertices[u].role === "source");
  const numbers = run.grids && sources.every((u) => run.grids[u] && run.grids[u][3].length === 1);
  if (state.step < keyOf.size || run.head !== "x̄" || !data.scalar || !numbers || sources.length > 6) return "";
  return ` The gradient: ${sources.map((u) => `by ${vertices[u].shown || vertices[u].name} ${run.values[u]}`).join(", ")}.`;
}
