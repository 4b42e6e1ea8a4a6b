// Folding, the bar of buttons, and setting everything up.
function toggle(number) {
  const item = items[number];
  item.open = !item.open;
  draw();
  const again = document.querySelector(`[data-item="${number}"]`);
  if (again) again.focus({ preventScroll: true });
}
listen("click", (event) => {
  const group = event.target.closest && event.target.closest("[data-item]");
  if (group) { toggle(+group.getAttribute("data-item")); return; }
  const node = event.target.closest && event.target.closest("[data-node]");
  if (node && data.runs.length) pick(+node.getAttribute("data-node"));
});
function unfold(all) {
  let count = visibleItems(items).found.length;
  const groups = items.filter((item) => item.children.length && item.parent);
  if (!all) groups.forEach((item) => { item.open = false; });
  else for (const item of groups) {
    if (item.open) continue;
    count += item.children.length - 1;
    if (count > data.most) { $("detail").textContent = `Unfolded to ${number(data.most)} at most; the rest unfolds one by one.`; break; }
    item.open = true;
  }
  draw();
}

function go(step) {
  const run = data.runs[state.run];
  state.step = Math.max(0, Math.min(run.order.length, step));
  if (state.step === run.order.length) stop();
  update();
}
function stop() {
  clearInterval(state.timer);
  state.timer = 0;
  $("play").textContent = "▶ play";
}
function play() {
  if (state.timer) { stop(); return; }
  const n = data.runs[state.run].order.length;
  if (state.step >= n) go(0);
  $("play").textContent = "⏸ pause";
  state.timer = setInterval(() => go(state.step + 1), Math.max(40, Math.min(900, 20000 / Math.max(n, 1))));
}
function choose(k, step = 0) {
  stop();
  state.run = k;
  state.step = step;
  const run = data.runs[k];
  $("order").value = k;
  $("slider").max = run.order.length;
  for (const [n, element] of [...$("totals").querySelectorAll("[data-run]")].entries()) {
    element.classList.toggle("me", n === k);
    element.setAttribute("aria-pressed", n === k);
  }
  tellOwn();
  drawPanel();
  view.extra = [];
  update();
}
function zoom(which, factor) {
  const [width, height, scale] = state.natural[which];
  state.zoom[which] = factor ? Math.max(0.1, Math.min(4, scale * factor)) : 0;
  fit(which, $(which), width, height);
}
function keys(event) {
  const tag = event.target.tagName;
  if (event.ctrlKey || event.metaKey || event.altKey || tag === "SELECT") return;
  const group = event.target.closest && event.target.closest("[data-item]");
  if ((event.key === "Enter" || event.key === " ") && group) { event.preventDefault(); toggle(+group.getAttribute("data-item")); return; }
  const node = event.target.closest && event.target.closest("[data-node]");
  if (event.key === "Enter" && node && data.runs.length) { event.preventDefault(); pick(+node.getAttribute("data-node")); return; }
  if (tag === "A" || !data.runs.length || (tag === "BUTTON" && (event.key === " " || event.key === "Enter"))) return;
  const action = { ArrowRight: () => { stop(); go(state.step + 1); }, ArrowLeft: () => { stop(); go(state.step - 1); },
    Home: () => go(0), End: () => go(Infinity), " ": play }[event.key];
  if (action) { event.preventDefault(); action(); }
}

function addRun(run, k) {
  const option = document.createElement("option");
  option.value = k;
  option.textContent = run.name;
  $("order").append(option);
  if (run.own) return;
  const total = document.createElement("button"), bold = document.createElement("b"), counts = run.costs.length === run.order.length;
  total.type = "button";
  total.dataset.run = k;
  bold.textContent = counts ? number(run.costs.reduce((a, b) => a + b, 0)) : "not counted";
  total.append(`${run.name}: `, bold);
  if (run.cost !== null && data.runs.some((other) => other.cost)) {
    const cost = document.createElement("small");
    cost.textContent = ` cost ${number(run.cost)}${run.method === "elimination" ? "" : ` by ${run.method}`}`;
    total.append(cost);
  }
  total.addEventListener("click", () => choose(k));
  $("totals").append(total);
}

function setUp() {
  for (const [key, words, count] of data.kinds) {
    if (!count) continue;
    const swatch = document.createElement("i");
    swatch.style.background = `var(--${key})`;
    const entry = document.createElement("li");
    entry.append(swatch, `${words} (${number(count)})`);
    $("legend").append(entry);
  }
  data.source.forEach(([file, rows]) => {
    const list = document.createElement("ol");
    for (const [at, text, n] of rows) {
      const row = document.createElement("li"), label = document.createElement("span");
      label.textContent = at;
      row.append(label, text);
      if (n >= 0) { lines[n] = row; row.things = { line: n }; row.className = "has"; row.tabIndex = 0; }
      list.append(row);
    }
    const head = document.createElement("h2");
    head.textContent = file;
    const scroll = document.createElement("div");
    scroll.className = "scroll";
    scroll.append(list);
    $("code").append(head, scroll);
  });
  $("code").hidden = !data.source.length;
  $("folds").hidden = items.every((item) => !item.children.length || !item.parent);
  $("bar").hidden = !data.runs.length;
  data.runs.forEach((run, k) => {
    run.steps = new Map(run.order.map((v, k) => [v, k]));
    run.starts = new Set(run.head === "dx" ? ["source"] : ["sink", "output"]);
    addRun(run, k);
  });
  $("finish").addEventListener("click", finish);
  $("order").addEventListener("change", (event) => choose(+event.target.value));
  $("slider").addEventListener("input", (event) => { stop(); go(+event.target.value); });
  $("first").addEventListener("click", () => { stop(); go(0); });
  $("back").addEventListener("click", () => { stop(); go(state.step - 1); });
  $("step").addEventListener("click", () => { stop(); go(state.step + 1); });
  $("play").addEventListener("click", play);
  $("fold").addEventListener("click", () => unfold(false));
  $("unfold").addEventListener("click", () => unfold(true));
  for (const which of ["graph", "matrix"]) {
    for (const [name, factor] of [["smaller", 0.8], ["fit", 0], ["larger", 1.25]]) $(`${which}-${name}`).addEventListener("click", () => zoom(which, factor));
  }
  listen("keydown", keys);
  draw();
  if (data.runs.length) choose(0);
  fromAddress();
  addEventListener("hashchange", fromAddress, { signal: ended });
  const main = document.querySelector("main");
  let width = main.clientWidth;
  const watch = new ResizeObserver(() => { // by more than a scroll bar: a frame may get its width late
    if (Math.abs(main.clientWidth - width) > 20) { width = main.clientWidth; draw(); }
  });
  watch.observe(main);
  ended.addEventListener("abort", () => { stop(); watch.disconnect(); });
}
setUp();
window.backsolve = { data, state, go, choose, toggle, light, unlight, unfold, pick, finish, own, setOwn, counting, counted, view: () => view };
