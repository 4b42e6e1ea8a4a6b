// What overlaps or is cut off on a page of `show`: a list of [what, …], empty where all is well.
(() => {
  const faults = [];
  const all = (selector) => [...document.querySelectorAll(selector)];
  if (!document.querySelector("#graph .v") || !document.querySelector("#matrix .cell")) faults.push(["nothing is drawn"]);
  const meet = (a, b, slack) => a.x + slack < b.x + b.width && b.x + slack < a.x + a.width
    && a.y + 4 * slack < b.y + b.height && b.y + 4 * slack < a.y + a.height;
  // Pairs of what meets, by squares of 64, so that thousands are looked at in no time.
  const pairs = (what, boxes, slack) => {
    const squares = new Map();
    boxes.forEach((a, i) => {
      const near = new Set();
      for (let x = Math.floor(a.x / 64); x <= (a.x + a.width) / 64; x++) {
        for (let y = Math.floor(a.y / 64); y <= (a.y + a.height) / 64; y++) {
          const here = squares.get(`${x},${y}`) || [];
          here.forEach((j) => near.add(j));
          squares.set(`${x},${y}`, [...here, i]);
        }
      }
      for (const j of near) if (meet(a, boxes[j], slack)) faults.push([what, j, i]);
    });
  };
  const inside = (t, box, dx, dy) => t.x >= box.x - dx && t.x + t.width <= box.x + box.width + dx && t.y >= box.y - dy && t.y + t.height <= box.y + box.height + dy;
  const boxes = all("#graph .v").map((g) => g.getBBox());
  const names = all("#graph .name text");
  pairs("boxes", boxes, 0);
  pairs("labels", names.map((t) => t.getBBox()), 1);
  for (const text of [...names, ...all("#graph .hull text")]) {
    const t = text.getBBox();
    if (boxes.some((b) => meet(t, b, 1))) faults.push(["label on a box", text.textContent]);
  }
  for (const g of all("#graph .hull")) {
    const text = g.querySelector("text");
    if (text.textContent && !inside(text.getBBox(), g.querySelector("rect").getBBox(), 1, 2)) faults.push(["title", text.textContent]);
  }
  const view = backsolve.view();
  for (const arrow of view.arrows) {
    const words = `${arrow.a.short} → ${arrow.b.short}`, trace = arrow.traces.flat();
    if (view.labelled && arrow.label) {
      if (!arrow.name) faults.push(["no label", words]);
      else if (!trace.some(([x, y]) => Math.abs(x - arrow.lx) < 10 && Math.abs(y - arrow.ly) < 14)) faults.push(["label away from its edge", words]);
    }
    view.found.forEach((item, k) => {
      const b = boxes[k];
      if (item !== arrow.a && item !== arrow.b && trace.some(([x, y]) => x > b.x && x < b.x + b.width && y > b.y && y < b.y + b.height)) faults.push(["edge through a box", words, item.short]);
    });
  }
  pairs("cells", all("#matrix .cell, #matrix .value, #matrix .result").map((c) => c.getBBox()), 0);
  pairs("names of rows and columns", all("#matrix .label").map((t) => t.getBoundingClientRect()), 1);
  for (const g of all("#graph .v, #matrix .cell, #matrix .value, #matrix .result")) {
    const rects = g.querySelectorAll("rect"), box = rects[rects.length - 1].getBBox();
    for (const text of g.querySelectorAll("text")) {
      const t = text.getBBox();
      if (t.width && !inside(t, box, 1, 2)) faults.push(["text", text.textContent]);
    }
  }
  for (const which of ["graph", "matrix"]) {
    const svg = document.getElementById(which), size = svg.viewBox.baseVal, drawn = svg.getBBox();
    if (!inside(drawn, { x: 0, y: 0, width: size.width, height: size.height }, 1, 1)) {
      faults.push([which, drawn.x, drawn.y, drawn.width, size.width, drawn.height, size.height]);
    }
    // What is wider than its panel scrolls there; scaled down it would not be read.
    const scroll = svg.parentElement;
    if (getComputedStyle(scroll).overflowX !== "auto" || scroll.scrollWidth < svg.clientWidth) faults.push(["cut off", which]);
    if (scroll.scrollHeight > scroll.clientHeight + 1) faults.push(["cut off below, or scrolled within what scrolls", which]);
    if (svg.getBoundingClientRect().width > scroll.clientWidth) faults.push(["wider than its panel", which, svg.getBoundingClientRect().width, scroll.clientWidth]);
  }
  const room = document.documentElement.clientWidth;
  for (const e of all("header *, #bar *, .panel .head *, #legend li, #detail")) {
    const b = e.getBoundingClientRect();
    if (b.width && (b.left < 0 || b.right > room + 1)) faults.push(["outside", e.tagName, e.id]);
    if (e.scrollWidth > e.clientWidth + 1 && e.clientWidth && e.tagName !== "SELECT") faults.push(["cut off", e.tagName, e.id]);
  }
  if (document.documentElement.scrollWidth > room) faults.push(["page", document.documentElement.scrollWidth]);
  return faults;
})()
