// What an order of one's own multiplies: the elimination of structures that Python worked out, as plans count.
const counting = data.counting && {
  vertex: new Map(data.counting.nodes.map(([node, v]) => [v, node])),
  products: new Map(data.counting.products.map(([a, b, result, n]) => [`${a} ${b}`, [result, n]])),
  sums: new Map(data.counting.sums.map(([a, b, result]) => [`${a} ${b}`, result])),
  entries: data.counting.entries.slice(),
};
// Where a product or a sum was not worked out, its size is reckoned from the sizes of its parts, and the count is "about".
function productOf(a, b, told) {
  const key = `${a} ${b}`, known = counting.products.get(key);
  if (known && !known[2]) return known;
  told.about = true;
  if (known) return known;
  const [ea, intoA, outA] = counting.entries[a], [eb, intoB, outB] = counting.entries[b];
  const found = [counting.entries.length, Math.ceil((ea * eb) / Math.max(Math.min(intoA, outB), 1)), true];
  counting.entries.push([Math.min(intoB * outA, Math.ceil((ea * eb) / Math.max(outB, 1))), intoB, outA]);
  counting.products.set(key, found);
  return found;
}
function sumOf(a, b) {
  const key = counting.sums.has(`${b} ${a}`) ? `${b} ${a}` : `${a} ${b}`;
  if (!counting.sums.has(key)) {
    const [ea, into, out] = counting.entries[a], [eb] = counting.entries[b];
    counting.sums.set(key, counting.entries.length);
    counting.entries.push([Math.min(into * out, ea + eb), into, out]);
  }
  return counting.sums.get(key);
}
// The structures of all edges at the start: into.get(i).get(j) of the edge j → i.
function started() {
  const into = new Map(), outOf = new Map();
  const at = (map, key, fresh) => { if (!map.has(key)) map.set(key, fresh()); return map.get(key); };
  for (const [i, j, s] of data.counting.into) {
    at(into, i, () => new Map()).set(j, s);
    at(outOf, j, () => new Set()).add(i);
  }
  return { into, outOf, at };
}
// Eliminates a node; returns its multiplications.
function eliminated({ into, outOf, at }, node, told) {
  const ins = into.get(node) || new Map(), outs = outOf.get(node) || new Set();
  let count = 0;
  for (const j of ins.keys()) outOf.get(j).delete(node);
  const lefts = [...outs].map((i) => { const left = into.get(i).get(node); into.get(i).delete(node); return [i, left]; });
  for (const [i, left] of lefts) {
    for (const [j, right] of ins) {
      const [result, n] = productOf(left, right, told);
      count += n;
      if (result < 0) continue;
      const row = into.get(i), total = row.has(j) ? sumOf(row.get(j), result) : result;
      if (total < 0) { row.delete(j); outOf.get(j).delete(i); continue; }
      row.set(j, total);
      at(outOf, j, () => new Set()).add(i);
    }
  }
  into.delete(node);
  outOf.delete(node);
  return count;
}
// The multiplications of each step of an order of vertices (null: not counted), and whether some are reckoned.
function counted(order) {
  const told = { about: false };
  if (!counting) return { costs: null, about: false };
  const state = started();
  return { costs: order.map((v) => eliminated(state, counting.vertex.get(v), told)), about: told.about };
}
// What eliminating each of these vertices next would multiply, after those of an order.
function nextCosts(order, candidates) {
  const told = { about: false }, state = started();
  for (const v of order) eliminated(state, counting.vertex.get(v), told);
  return candidates.map((v) => {
    const node = counting.vertex.get(v), ins = state.into.get(node) || new Map();
    let count = 0;
    for (const i of state.outOf.get(node) || []) for (const right of ins.values()) count += productOf(state.into.get(i).get(node), right, told)[1];
    return count;
  });
}
