// Draws both panels for what is visible at the moment.
function draw() {
  const { found, open } = visibleItems(items);
  const rep = new Array(vertices.length);
  found.forEach((item) => { for (let v = item.start; v < item.stop; v++) rep[v] = item; });
  const shown = new Map();
  for (const edge of edges) {
    const a = rep[edge.tail], b = rep[edge.head];
    if (a === b) continue;
    const key = a.number * items.length + b.number;
    if (!shown.has(key)) shown.set(key, { a, b, edges: [], label: edge.label });
    shown.get(key).edges.push(edge.n);
  }
  const arrows = [...shown.values()];
  for (const arrow of arrows) if (arrow.edges.length > 1) arrow.label = `${arrow.edges.length} edges`;
  const labelled = arrows.length <= 60;
  const [width, height] = placed(found, open, arrows, labelled);
  const rowLines = linesOf(data.rows, data.cols, rep, false), colLines = linesOf(data.cols, data.rows, rep, true);
  view = { found, open, rep, arrows, shown, labelled, rowLines, colLines, ...matrixOf(page, rep, rowLines, colLines), extra: [] };
  drawGraph(width, height);
  drawPanel();
  update();
}

// A graph that would be taller than the window has the whole width of the page, and the matrix stands below it: panels do not
// scroll down by themselves, the page does.
function placed(found, open, arrows, labelled) {
  const once = () => place(found, open, arrows, labelled, Math.max($("graph").parentElement.clientWidth / 0.8, 420));
  document.body.classList.remove("tall");
  const size = once();
  if (!matchMedia("(min-width: 861px)").matches || scaled("graph", ...size) * size[1] <= Math.max(tallest(), 600)) return size;
  document.body.classList.add("tall");
  return once();
}

function drawGraph(width, height) {
  const svg = $("graph");
  svg.replaceChildren(make("defs", {}, make("marker", { id: "tip", viewBox: "0 0 8 8", refX: 1, refY: 4, markerWidth: 8, markerHeight: 8, orient: "auto", markerUnits: "userSpaceOnUse" }, make("path", { d: "M0,0L8,4L0,8z" }))));
  for (const group of view.open.sort((a, b) => a.start - b.start || b.stop - a.stop)) {
    group.boxes.forEach(([x0, y0, x1, y1], k) => {
      const title = make("text", { class: "small", x: x0 + 6, y: y0 + 14 });
      title.textContent = cut(`${k ? "…" : "⊟"} ${group.label}${group.where ? ` · ${group.where}` : ""}`, x1 - x0 - 10, 10.5);
      const hull = make("g", { class: "hull", role: "button", "aria-expanded": "true", "aria-label": `fold ${group.label}, ${group.stop - group.start} nodes`, "data-item": group.number },
        make("rect", { x: x0, y: y0, width: x1 - x0, height: y1 - y0, rx: 8 }), title);
      if (!k) hull.setAttribute("tabindex", 0);
      svg.append(hull);
    });
  }
  for (const arrow of view.arrows) arrow.traces = tracesOf(arrow.points);
  if (view.labelled) placeLabels(view.arrows, view.found, width);
  for (const arrow of view.arrows) {
    const path = curve(arrow.points);
    const words = arrow.edges.length === 1 ? edgeText(arrow.edges[0]) : `${arrow.edges.length} edges from ${arrow.a.short} to ${arrow.b.short}`;
    arrow.element = make("g", { class: "edge", role: "img", "aria-label": `edge ${words}` },
      make("path", { class: "wide", d: path }), make("path", { class: "line", d: path, "marker-end": "url(#tip)" }));
    if (view.arrows.length <= 60) arrow.element.setAttribute("tabindex", 0);
    arrow.element.things = { edges: arrow.edges };
    svg.append(arrow.element);
  }
  view.fills = make("g");
  svg.append(view.fills);
  for (const arrow of view.labelled ? view.arrows : []) { // above all lines
    if (arrow.lx === undefined) continue;
    const text = make("text", { x: arrow.lx, y: arrow.ly + 4 });
    spell(text, cut(arrow.label, LABEL));
    const half = Math.min(wide(arrow.label), LABEL) / 2 + 1;
    const ground = make("rect", { x: arrow.lx - half, y: arrow.ly - TALL, width: 2 * half, height: 2 * TALL, rx: 4 });
    arrow.name = make("g", { class: "name", "aria-hidden": "true", "data-edge": `${arrow.a.short} → ${arrow.b.short}` }, ground, text);
    arrow.name.things = arrow.element.things;
    svg.append(arrow.name);
  }
  for (const item of view.found) {
    const x = item.x - item.width / 2, y = item.y - BOX / 2;
    const g = make("g", { class: `v ${item.role}`, tabindex: 0 });
    if (item.role === "group") {
      g.append(make("rect", { x: x + 4, y: y - 4, width: item.width, height: BOX, rx: 6 }));
      for (const [key, value] of [["role", "button"], ["aria-expanded", "false"], ["data-item", item.number]]) g.setAttribute(key, value);
      g.setAttribute("aria-label", `unfold ${item.label}, ${item.stop - item.start} nodes`);
    } else {
      const node = keyOf.has(item.vertex) && data.runs.length;
      g.setAttribute("role", node ? "button" : "img");
      if (node) g.setAttribute("data-node", item.vertex);
      g.setAttribute("aria-label", `${item.role} ${vertexText(vertices[item.vertex])}${lineText(vertices[item.vertex])}${node ? "; eliminate it next" : ""}`);
    }
    g.append(make("rect", { x, y, width: item.width, height: BOX, rx: item.role === "source" ? 14 : 6 }));
    const one = item.under ? 16 : 24;
    const head = make("text", { x: item.x, y: y + one, "text-anchor": "middle" });
    const name = make("tspan", { class: "strong" });
    name.textContent = cut(item.head, item.width - 12, 12, 600);
    head.append(name);
    const room = item.width - 14 - wide(item.head, 12, 600);
    if (item.tail && room > 8) head.append(` ${cut(item.tail, room)}`);
    g.append(head);
    if (item.under) {
      const under = make("text", { class: "small", x: item.x, y: y + 32, "text-anchor": "middle" });
      under.textContent = cut(item.under, item.width - 10, 10.5);
      g.append(under);
      item.underText = under;
    }
    item.element = g;
    g.things = { item };
    svg.append(g);
  }
  fit("graph", svg, width, height);
}

function drawPanel() {
  const run = data.runs[state.run], svg = $("matrix");
  const vector = run && run.values ? Object.assign({ head: run.head }, run.values) : null;
  measure(view, $("matrix").parentElement.clientWidth || 500, vector);
  const layer = drawMatrix(view, vector);
  svg.replaceChildren(layer);
  for (const cell of view.cells.values()) nameCell(cell);
  fit("matrix", svg, view.right + 14, view.bottom + 14);
}
function nameCell(cell) {
  const row = view.rowLines[cell.r].item.short, column = view.colLines[cell.c].item.short;
  cell.element.things = { edges: cell.edges, cell };
  cell.element.setAttribute("role", "img");
  cell.element.setAttribute("aria-label", `row ${row}, column ${column}: ${cell.label || "fill-in"}`);
  if (view.text) cell.element.setAttribute("tabindex", 0);
}
// As large as there is room for, and no smaller than can be read; a matrix that is just squares has no such end.
function scaled(which, width, height) {
  const room = $(which).parentElement.clientWidth - 14, high = Math.max(240, 0.5 * tallest());
  const least = which === "graph" ? 0.62 : view.text ? 0.7 : view.named ? 0.8 : 0.05;
  const most = Math.min(which === "graph" ? 1.9 : 1.6, Math.max(1, high / height));
  return Math.min(most, Math.max(least, room / width));
}
function fit(which, svg, width, height) {
  const scale = state.zoom[which] || scaled(which, width, height);
  state.natural = Object.assign(state.natural || {}, { [which]: [width, height, scale] });
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("width", Math.floor(width * scale));
  svg.setAttribute("height", Math.floor(height * scale));
}
