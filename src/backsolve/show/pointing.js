// Pointing at one thing lights up what belongs to it.
const marked = [];
function unlight() {
  showThumb(null);
  while (marked.length) marked.pop().classList.remove("lit");
}
function mark(element) {
  if (element) { element.classList.add("lit"); marked.push(element); }
}
const lines = [];
function light(things, element) {
  unlight();
  const chosen = new Set(things.edges || []), here = new Set();
  if (things.item) {
    for (let u = things.item.start; u < things.item.stop; u++) {
      here.add(u);
      for (const n of [...into[u], ...outOf[u]]) chosen.add(n);
    }
  }
  if (things.line !== undefined) {
    vertices.forEach((vertex, u) => { if (vertex.line === things.line) { here.add(u); into[u].forEach((n) => chosen.add(n)); } });
  }
  const seen = new Set();
  const edgeLines = new Set();
  for (const n of chosen) {
    const { tail, head } = edges[n], a = view.rep[tail], b = view.rep[head];
    const arrow = view.shown.get(a.number * items.length + b.number);
    if (arrow) { mark(arrow.element); mark(arrow.name); }
    seen.add(view.rowOf[head] * view.colLines.length + view.colOf[tail]);
    if (!things.item || here.has(head)) edgeLines.add(vertices[head].line);
  }
  if (things.cell) { seen.add(things.cell.key); mark(view.rowText[things.cell.r]); mark(view.colText[things.cell.c]); }
  if (things.cell && things.cell.diagonal >= 0 && !chosen.size) here.add(things.cell.diagonal);
  for (const key of seen) if (view.cells.has(key)) mark(view.cells.get(key).element);
  if (things.cell && !view.cells.has(things.cell.key)) mark(things.cell.element);
  if (things.value !== undefined) {
    mark(view.values[things.value]);
    mark(view.rowText[things.value]);
    mark(view.rowLines[things.value].item.element);
  }
  for (const u of here) {
    mark(view.rep[u].element);
    edgeLines.add(vertices[u].line);
  }
  for (const n of edgeLines) if (n >= 0) mark(lines[n]);
  if (things.item) {
    view.rowLines.forEach((line, k) => { if (line.item === things.item) mark(view.rowText[k]); });
    view.colLines.forEach((line, k) => { if (line.item === things.item) mark(view.colText[k]); });
  }
  describe(things, chosen, here);
  showThumb(gridOf(things), element || document.body);
}
function describe(things, chosen, here) {
  let text;
  if (things.item && things.item.role === "group") text = `${things.item.label}: ${things.item.stop - things.item.start} nodes${things.item.where ? ` · ${things.item.where}` : ""}; click to unfold`;
  else if (things.item) text = vertexText(vertices[things.item.vertex]) + lineText(vertices[things.item.vertex]) + nextText(things.item.vertex);
  else if (things.value !== undefined) text = valueText(things.value);
  else if (things.result !== undefined) text = resultText(things.result);
  else if (things.line !== undefined) text = `${data.lines[things.line]}: ${here.size} node${here.size === 1 ? "" : "s"}`;
  else {
    const first = [...chosen].slice(0, 4).map(edgeText);
    text = first.join("   ") + (chosen.size > 4 ? ` and ${chosen.size - 4} more` : "");
    if (chosen.size === 1) { const e = edges[[...chosen][0]]; text += `  (${data.kinds.find((kind) => kind[0] === e.kind)[1]})${lineText(vertices[e.head])}`; }
    if (things.cell && !chosen.size) text = `row ${view.rowLines[things.cell.r].item.short}, column ${view.colLines[things.cell.c].item.short}: ${things.cell.label || "fill-in: a sum over the paths through eliminated nodes"}`;
    if (things.cell && things.cell.total) text += `${text ? "; " : ""}with the paths through what is eliminated: ${things.cell.total}`;
  }
  $("detail").textContent = text;
}
// What eliminating a vertex now would multiply.
function nextText(v) {
  const run = data.runs[state.run], gone = run ? run.order.slice(0, state.step) : [];
  if (!run || !keyOf.has(v) || gone.includes(v) || !counting || keyOf.size > 200) return "";
  const [count] = nextCosts(gone, [v]);
  return `; eliminated next it takes ${number(count)} multiplication${count === 1 ? "" : "s"}`;
}
function resultText(u) {
  const { head, values } = data.runs[state.run];
  return `${head} of ${vertexText(vertices[u])}: ${isFilled(u) ? exactly(u) || values[u] : "at the end of back substitution"}`;
}
// A number in all its digits.
function exactly(u) {
  const grid = (data.runs[state.run].grids || {})[u];
  return grid && grid[3].length === 1 ? String(grid[3][0]) : "";
}
function valueText(k) {
  const { item, members } = view.rowLines[k], { head, values } = data.runs[state.run];
  if (members.length > 1) return `${head} of ${item.short}: ${members.filter((u) => isFilled(u)).length} of ${members.length} values filled in`;
  return `${head} of ${vertexText(vertices[members[0]])}: ${isFilled(members[0]) ? values[members[0]] : "not filled in yet"}`;
}
const thingsAt = (target) => {
  for (let at = target; at && at !== document; at = at.parentNode) if (at.things) return at.things;
  return null;
};
listen("pointerover", (event) => { const things = thingsAt(event.target); if (things) light(things, event.target); });
listen("pointerout", (event) => { if (thingsAt(event.target)) unlight(); });
listen("focusin", (event) => { const things = thingsAt(event.target); if (things) light(things, event.target); });
listen("focusout", (event) => { if (thingsAt(event.target)) showThumb(null); });
addEventListener("scroll", () => showThumb(null), { capture: true, signal: ended });
