// A small picture of an array, beside what is pointed at.
function showThumb(grid, element) {
  const box = $("thumb");
  if (!grid) { box.hidden = true; return; }
  const [shape, rows, cols, numbers] = grid, most = Math.max(...numbers.map((x) => Math.abs(x || 0))) || 1;
  box.querySelector("canvas").replaceWith(painted(rows, cols, numbers, most));
  const plain = numbers.length <= 6, low = Math.min(...numbers.filter((x) => x !== null)), high = Math.max(...numbers);
  box.lastChild.textContent = `${shape || "number"}: ${plain ? numbers.map(brief).join(", ") : `${brief(low)} … ${brief(high)}`}`;
  box.hidden = false;
  const at = element.getBoundingClientRect(), me = box.getBoundingClientRect();
  const left = Math.max(6, Math.min(at.left + at.width / 2 - me.width / 2, document.documentElement.clientWidth - me.width - 6));
  const below = at.bottom + 10 + me.height < innerHeight;
  box.style.left = `${left}px`;
  box.style.top = `${below ? at.bottom + 10 : Math.max(6, at.top - me.height - 10)}px`;
}
const brief = (x) => (x === null ? "–" : String(+x.toPrecision(4)));
function painted(rows, cols, numbers, most) {
  const canvas = document.createElement("canvas"), size = Math.max(2, Math.min(14, Math.floor(150 / cols), Math.floor(110 / rows)));
  canvas.width = cols * size;
  canvas.height = rows * size;
  const pen = canvas.getContext("2d");
  numbers.forEach((x, k) => {
    if (!x) return;
    pen.fillStyle = heat(x / most);
    pen.fillRect((k % cols) * size, Math.floor(k / cols) * size, size, size);
  });
  return canvas;
}
// From blue below zero to orange above: darker is larger.
function heat(x) {
  return `rgba(${x < 0 ? "0,114,178" : "213,94,0"},${0.15 + 0.85 * Math.min(1, Math.abs(x))})`;
}
function gridOf(things) {
  const run = data.runs[state.run];
  const filled = (u) => run && run.grids && isFilled(u) ? run.grids[u] : null;
  if (things.value !== undefined) { const { members } = view.rowLines[things.value]; return members.length === 1 ? filled(members[0]) : null; }
  if (things.result !== undefined) return filled(things.result);
  if (things.item) return things.item.vertex >= 0 ? filled(things.item.vertex) : null;
  return things.edges && things.edges.length === 1 && !(things.cell && things.cell.total) ? data.grids[things.edges[0]] : null;
}
