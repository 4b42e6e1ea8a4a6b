// The block matrix on the right: which rows and columns are visible, their cells, and the vector beside it.
const TEXT = 16, SMALLEST = 4, LARGEST = 22;

// Rows or columns that are visible, as {item, block, first}; block 0 comes before block 1 behind a rule.
function linesOf(vertices, other, rep, flip) {
  const both = new Set(other), found = new Map();
  for (const v of vertices) {
    const block = both.has(v) === flip ? 1 : 0, key = rep[v].number * 2 + block;
    if (!found.has(key)) found.set(key, { item: rep[v], block, members: [] });
    found.get(key).members.push(v);
  }
  // Nodes stand in their own order; folded ones, which hold sources too, in the order of the groups.
  const folded = [...found.values()].some((line) => line.item.children.length), nodes = flip ? 1 : 0;
  return [...found.values()].sort((a, b) => a.block - b.block || (folded && a.block === nodes ? a.item.start - b.item.start : 0));
}

function matrixOf(page, rep, rowLines, colLines) {
  // Cells by "row,column": the edges in each, and whether it is on the diagonal.
  const rowOf = new Int32Array(rep.length).fill(-1), colOf = new Int32Array(rep.length).fill(-1), cells = new Map();
  rowLines.forEach((line, k) => line.members.forEach((v) => { rowOf[v] = k; }));
  colLines.forEach((line, k) => line.members.forEach((v) => { colOf[v] = k; }));
  const cell = (r, c) => {
    const key = r * colLines.length + c;
    if (!cells.has(key)) cells.set(key, { r, c, key, edges: [], diagonal: -1 });
    return cells.get(key);
  };
  for (const v of Object.keys(page.diagonal)) cell(rowOf[v], colOf[v]).diagonal = +v;
  page.edges.forEach((edge, n) => cell(rowOf[edge.head], colOf[edge.tail]).edges.push(n));
  for (const found of cells.values()) {
    const single = found.edges.length + (found.diagonal >= 0 ? 1 : 0) === 1 && !rowLines[found.r].item.children.length;
    if (found.edges.length === 1 && found.diagonal < 0) {
      const edge = page.edges[found.edges[0]];
      found.label = edge.cell; found.kind = edge.kind;
    } else if (single) {
      [found.label, found.kind] = page.diagonal[found.diagonal];
    } else {
      found.label = found.diagonal >= 0 ? "I − L" : `${found.edges.length} edges`;
      found.kind = "group";
      if (found.diagonal >= 0 && !found.edges.length) { [found.label] = page.diagonal[found.diagonal]; found.kind = "identity"; }
    }
  }
  return { rowOf, colOf, cells };
}

// Pixels: in text mode columns as wide as their labels, else squares.
function measure(view, room, vector) {
  const { rowLines, colLines } = view;
  view.text = rowLines.length <= TEXT && colLines.length <= TEXT;
  const names = Math.min(Math.max(...rowLines.map((l) => wide(l.item.short)), 20), 110);
  const widths = colLines.map(() => 30);
  if (view.text) {
    const numeric = page.edges.every((edge) => edge.value !== null), results = resultsOf(view);
    const beside = (vector && view.rowLines.length ? valueWidthOf(view, vector) + 22 : 0) + names + 40;
    for (const most of [150, 110, 80, 60, 52, 44]) { // as wide as there is room for
      widths.fill(30);
      for (const cell of view.cells.values()) widths[cell.c] = Math.max(widths[cell.c], Math.min(Math.max(...linesIn(cell.label, most - 14).map((line) => wide(line))) + 14, most), numeric ? 54 : 0);
      colLines.forEach((l, k) => { widths[k] = Math.max(widths[k], Math.min(wide(l.item.short) + 8, most)); });
      for (const { k, u } of results) if (vector && vector.head === "x̄") widths[k] = Math.max(widths[k], Math.min(wide(vector[u] || "") + 12, most));
      if (widths.reduce((a, b) => a + b, beside) < room / 0.72) break;
    }
    const total = widths.reduce((a, b) => a + b, beside), more = Math.min(40, (room / 1.2 - total) / widths.length);
    if (more > 0) widths.forEach((w, k) => { widths[k] = w + more; }); // room for what is filled in
    const fits = (cell) => linesIn(cell.label, widths[cell.c] - 8).every((line) => !fitted(line, widths[cell.c] - 8).endsWith("…"));
    if (total > room / 0.68 || (room < 500 && ![...view.cells.values()].every(fits))) view.text = false; // squares then: nothing is cut off
  }
  if (!view.text) {
    const size = Math.floor((room - names - 60) / (colLines.length + 2)); // two for the vector beside it
    widths.fill(Math.max(SMALLEST, Math.min(LARGEST, size)));
  }
  view.high = view.text ? 30 : widths[0];
  view.named = view.high >= 11;
  view.left = (view.named ? names : 0) + 18;
  view.top = view.text ? 30 : view.named ? Math.min(Math.max(...colLines.map((l) => wide(l.item.short)), 20), 110) + 14 : 24;
  view.xs = [view.left];
  colLines.forEach((line, k) => {
    const rule = k + 1 < colLines.length && colLines[k + 1].block !== line.block ? 8 : 0;
    view.xs.push(view.xs[k] + widths[k] + rule);
  });
  view.widths = widths;
  view.ys = [view.top];
  rowLines.forEach((line, k) => {
    const rule = k + 1 < rowLines.length && rowLines[k + 1].block !== line.block ? 8 : 0;
    view.ys.push(view.ys[k] + view.high + rule);
  });
  view.right = view.xs[colLines.length];
  view.bottom = view.ys[rowLines.length];
}

// How wide the vector beside the matrix is.
const valueWidthOf = (view, vector) => Math.max(34, ...view.rowLines.map((l) => (l.item.vertex >= 0 ? Math.min(wide(vector[l.item.vertex] || ""), 130) + 12 : 0)));
// The columns of single sources of a System, which have their results below.
const resultsOf = (view) => (data.system ? view.colLines.map((line, k) => ({ k, u: line.members[0], alone: line.members.length === 1 })).filter(({ u, alone }) => alone && vertices[u].role === "source") : []);

function drawMatrix(view, vector) {
  const layer = make("g");
  const { rowLines, colLines } = view;
  const style = `font-size: ${Math.min(12, 0.83 * view.high)}px`;
  view.rowText = rowLines.map((line, k) => {
    if (!view.named) return null;
    const text = make("text", { class: "label", x: view.left - 8, y: view.ys[k] + view.high / 2, "text-anchor": "end", "dominant-baseline": "central", style });
    text.textContent = cut(line.item.short, 110);
    layer.append(text);
    return text;
  });
  view.colText = colLines.map((line, k) => {
    if (!view.named) return null;
    const x = view.xs[k] + view.widths[k] / 2, y = view.top - 8;
    const text = make("text", view.text ? { class: "label", x, y, "text-anchor": "middle", style }
      : { class: "label", x, y, transform: `rotate(-90 ${x} ${y})`, "dominant-baseline": "central", style });
    text.textContent = cut(line.item.short, view.text ? view.widths[k] : 110);
    layer.append(text);
    return text;
  });
  layer.append(make("rect", { class: "frame", x: view.left - 3, y: view.top - 3, width: view.right - view.left + 6, height: view.bottom - view.top + 6, rx: 3 }));
  colLines.forEach((line, k) => {
    if (k && colLines[k - 1].block !== line.block) {
      layer.append(make("line", { class: "rule", x1: view.xs[k] - 4, x2: view.xs[k] - 4, y1: view.top - 3, y2: view.bottom + 3 }));
    }
  });
  rowLines.forEach((line, k) => {
    if (k && rowLines[k - 1].block !== line.block) {
      layer.append(make("line", { class: "rule", y1: view.ys[k] - 4, y2: view.ys[k] - 4, x1: view.left - 3, x2: view.right + 3 }));
    }
  });
  for (const cell of view.cells.values()) layer.append(drawCell(view, cell));
  view.values = [];
  if (vector) {
    const x = view.right + 22;
    const width = view.text ? valueWidthOf(view, vector) : view.high;
    const head = make("text", { x: x + width / 2, y: view.top - 8, "text-anchor": "middle", class: "strong" });
    head.textContent = vector.head;
    layer.append(head);
    rowLines.forEach((line, k) => {
      const box = make("g", { class: "value", role: "img", "aria-label": `${vector.head} of ${line.item.short}` }, make("rect", { x, y: view.ys[k] + 1, width, height: view.high - 2, rx: 2 }));
      if (view.text) box.append(make("text", { x: x + width / 2, y: view.ys[k] + view.high / 2 }));
      box.things = { value: k };
      layer.append(box);
      view.values.push(box);
    });
    view.right = x + width;
    view.valueWidth = width;
  }
  view.results = [];
  const sources = resultsOf(view);
  if (vector && vector.head === "x̄" && sources.length) { // the gradient has a row of its own
    const y = view.bottom + 14, high = Math.max(view.high, 8);
    if (view.named) {
      const head = make("text", { x: view.left - 8, y: y + high / 2, "text-anchor": "end", "dominant-baseline": "central", class: "strong", style });
      head.textContent = "p̄";
      layer.append(head);
    }
    for (const { k, u } of sources) {
      const box = make("g", { class: "result", role: "img", tabindex: 0, "aria-label": `${data.scalar ? "gradient" : "x̄"} by ${vertexText(vertices[u])}` }, make("rect", { x: view.xs[k] + 1, y, width: view.widths[k] - 2, height: high, rx: 2 }));
      const text = view.text ? make("text", { x: view.xs[k] + view.widths[k] / 2, y: y + high / 2 }) : null;
      if (text) box.append(text);
      box.things = { result: u };
      layer.append(box);
      view.results.push({ u, box, text, room: view.widths[k] - 6 });
    }
    view.bottom = y + high;
  }
  return layer;
}

function drawCell(view, cell) {
  const x = view.xs[cell.c], y = view.ys[cell.r], width = view.widths[cell.c], gap = view.high > 8 ? 1 : 0.5;
  const g = make("g", { class: `cell k-${cell.kind}`, "data-key": cell.key },
    make("rect", { x: x + gap, y: y + gap, width: width - 2 * gap, height: view.high - 2 * gap, rx: view.high > 12 ? 3 : 1 }));
  if (view.text && cell.label) write(g, cell.label, x + width / 2, y + view.high / 2, width - 8);
  cell.element = g;
  return g;
}
