// Starts the page.  Beside it there may be another, in a <template>: the same program with its loops step by step.  A button puts
// the one in the other's place; what the script has fastened to the document then comes off.
const place = document.getElementById("page"), other = document.getElementById("other");
const views = other ? [place.innerHTML, other.innerHTML] : [];
let shown = 0, running = null;
function run(k) {
  if (running) {
    running.abort();
    place.innerHTML = views[k];
  }
  shown = k;
  running = new AbortController();
  start(running.signal, k ? "#steps-order=" : "#order=");
}
document.addEventListener("click", (event) => {
  if (event.target.id !== "loops") return;
  try { history.replaceState(null, "", "#"); } catch { /* a page in a frame of a notebook has no address of its own */ }
  run(1 - shown);
  document.getElementById("loops").focus();
});
run(0);
if (views.length && location.hash.startsWith("#steps-order=")) run(1);
