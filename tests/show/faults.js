// What overlaps or is cut off on a page of `show`: a list of [what, …], empty where all is well.
(() => {
  const faults = [];
  if (!document.querySelector("#graph .v") || !document.querySelector("#matrix .cell")) faults.push(["nothing is drawn"]);
  const meet = (a, b, slack) => a.x + slack < b.x + b.width && b.x + slack < a.x + a.width
    && a.y + 4 * slack < b.y + b.height && b.y + 4 * slack < a.y + a.height;
  const pairs = (what, boxes, slack) => boxes.forEach((a, i) => boxes.forEach((b, j) => {
    if (i < j && meet(a, b, slack)) faults.push([what, i, j]);
  }));
  pairs("boxes", [...document.querySelectorAll("#graph .v")].map((g) => g.getBBox()), 0);
  pairs("labels", [...document.querySelectorAll("#graph .edge text")].map((t) => t.getBBox()), 1);
  const boxes = [...document.querySelectorAll("#graph .v")].map((g) => g.getBBox());
  for (const text of document.querySelectorAll("#graph .edge text")) {
    const t = text.getBBox();
    if (boxes.some((b) => meet(t, b, 1))) faults.push(["label on a box", text.textContent]);
  }
  pairs("cells", [...document.querySelectorAll("#matrix .cell, #matrix .value")].slice(0, 400).map((c) => c.getBBox()), 0);
  for (const g of document.querySelectorAll("#graph .v, #matrix .cell, #matrix .value")) {
    const rects = g.querySelectorAll("rect"), box = rects[rects.length - 1].getBBox();
    for (const text of g.querySelectorAll("text")) {
      const t = text.getBBox();
      const out = t.x < box.x - 1 || t.x + t.width > box.x + box.width + 1 || t.y < box.y - 2 || t.y + t.height > box.y + box.height + 2;
      if (t.width && out) faults.push(["text", text.textContent]);
    }
  }
  for (const which of ["graph", "matrix"]) {
    const svg = document.getElementById(which), view = svg.viewBox.baseVal, all = svg.getBBox();
    if (all.x < -1 || all.y < -1 || all.x + all.width > view.width + 1 || all.y + all.height > view.height + 1) {
      faults.push([which, all.x, all.y, all.width, view.width, all.height, view.height]);
    }
  }
  const room = document.documentElement.clientWidth;
  for (const e of document.querySelectorAll("header *, #bar *, .panel .head *, #legend li, #detail")) {
    const b = e.getBoundingClientRect();
    if (b.width && (b.left < 0 || b.right > room + 1)) faults.push(["outside", e.tagName, e.id]);
  }
  if (document.documentElement.scrollWidth > room) faults.push(["page", document.documentElement.scrollWidth]);
  return faults;
})()
