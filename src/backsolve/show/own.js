// An order of one's own: a click on a node, or Enter, eliminates it next.  The page's address carries it.
const own = { name: "your own order", order: [], costs: [], cost: null, own: true, about: false, steps: new Map(), starts: new Set() };
function pick(v) {
  const run = data.runs[state.run], gone = run.order.slice(0, state.step);
  if (gone.includes(v)) { $("status").textContent = `${vertexText(vertices[v])} is eliminated already; a step back undoes the last one.`; return; }
  setOwn([...gone, v]);
  $("status").focus({ preventScroll: true });
}
function setOwn(order) {
  const { costs, about } = counted(order);
  Object.assign(own, { order, costs: costs || [], about, steps: new Map(order.map((v, k) => [v, k])) });
  if (!data.runs.includes(own)) { data.runs.push(own); addRun(own, data.runs.length - 1); }
  choose(data.runs.indexOf(own), order.length);
  const hash = `${address}${order.map((v) => keyOf.get(v)).join(",")}`;
  $("link").href = hash;
  try { history.replaceState(null, "", hash); } catch { /* a page in a frame of a notebook has no address of its own */ }
}
// The rest of it, each time what multiplies least.
function finish() {
  const order = own.order.slice();
  let left = [...keyOf.keys()].filter((v) => !own.steps.has(v));
  while (left.length) {
    const costs = counting ? nextCosts(order, left) : left.map(() => 0), k = costs.indexOf(Math.min(...costs));
    order.push(left[k]);
    left = left.filter((_, n) => n !== k);
  }
  setOwn(order);
}
function tellOwn() {
  const run = data.runs[state.run], best = bestKnown();
  $("own").hidden = !run || !run.own;
  if (!run || !run.own) return;
  const left = keyOf.size - own.order.length, sum = own.costs.reduce((a, b) => a + b, 0);
  let text = `${own.about ? "about " : ""}${number(sum)} multiplication${sum === 1 ? "" : "s"}`;
  if (!counting) text = "not counted";
  text = left ? `Yours so far: ${text}; ${left} node${left === 1 ? "" : "s"} left.` : `Yours: ${text}.`;
  if (best) {
    text += ` Best known: ${number(best.total)} by ${best.name}.`;
    if (!left && counting && !own.about) text += sum < best.total ? " Yours is better!" : sum === best.total ? " As good as the best known." : ` ${number(sum - best.total)} more than that.`;
  }
  if (!left && data.system) text += ` order=[${own.order.map((v) => keyOf.get(v)).join(", ")}]`;
  $("told").textContent = text;
  $("finish").hidden = !left;
}
function bestKnown() {
  const found = data.runs.filter((run) => !run.own && run.costs.length === keyOf.size).map((run) => ({ name: run.name, total: run.costs.reduce((a, b) => a + b, 0) }));
  return found.length ? found.reduce((a, b) => (b.total < a.total ? b : a)) : null;
}
// The order that the address asks for, if it is one.
function fromAddress() {
  const keys = location.hash.slice(address.length);
  if (!location.hash.startsWith(address) || /[^\d,]/.test(keys) || !data.runs.length) return;
  const order = keys.split(",").filter(Boolean).map((key) => vertexOf.get(+key));
  if (order.includes(undefined) || new Set(order).size < order.length) { $("status").textContent = "The order in the address names what is no node of this page, or one twice."; return; }
  setOwn(order);
}
