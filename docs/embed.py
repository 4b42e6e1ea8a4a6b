"""Pages of `show` inside pages of the site: each tells its height, so that its frame is as tall as it is."""

from __future__ import annotations

from html import escape
from typing import Any

__all__ = ["embedded", "frames"]

END = "</body>"
# Alone, a page fills its window; in a frame it is as tall as its content.
TELL = """<script>
if (parent !== window) {
  const style = document.createElement("style");
  style.textContent = "body { min-height: 0 }";
  document.head.append(style);
  const tell = () => parent.postMessage({ backsolve: Math.ceil(document.body.getBoundingClientRect().height) }, "*");
  new ResizeObserver(tell).observe(document.body);
  window.addEventListener("message", tell); // the page around it may have come too late
}
</script>
"""


def embedded(page: str) -> str:
    """A page that tells the page around it how tall it is."""
    before, end, after = page.rpartition(END)
    if not end or TELL in page:
        return page
    return f"{before}{TELL}{end}{after}"


def frames(app: Any, name: str, template: str, context: dict[str, Any], tree: Any) -> None:
    """The same for the pages inside a notebook's output; as a handler of Sphinx's html-page-context."""
    body = context.get("body", "")
    mark = escape(END, quote=True)
    if "srcdoc=" in body and mark in body:
        context["body"] = body.replace(mark, escape(TELL, quote=True) + mark)
