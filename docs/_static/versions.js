// The versions of the site, newest first, with their pages: ../versions.js, which the build of each of them writes anew.
// The choice leads to the same page of another version, or to its first where it has none.
{
  const choice = document.getElementById("versions"), { version, page, root } = choice.dataset, known = window.backsolveVersions || {};
  const names = Object.keys(known), address = (name) => `${root}../${name}/${known[name].includes(page) ? page : "index"}.html`;
  if (names.length) choice.replaceChildren(...names.map((name) => new Option(name, name, name === version, name === version)));
  choice.addEventListener("change", () => { location.href = address(choice.value); });
  addEventListener("pageshow", () => { choice.value = version; }); // also when one comes back to it
  if (names.length && names[0] !== version) {
    const link = document.getElementById("newest");
    link.href = address(names[0]);
    link.textContent = `The newest is ${names[0]}.`;
    link.hidden = false;
  }
}
