"""How the documentation is built: `make docs`.  Every warning is an error, every example on the pages is executed."""

from __future__ import annotations

import logging
import re
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import backsolve  # noqa: E402

project = "backsolve"
author = "The backsolve authors"
copyright = author
version = release = backsolve.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"backsolve {version}"
html_static_path = ["_static", str(Path(backsolve.__file__).parent / "show" / "frames.js")]
templates_path = ["_templates"]
html_css_files = ["site.css"]
html_js_files = ["frames.js"]
html_extra_path = ["_build/extra"]
html_theme_options = {"source_repository": "", "footer_icons": []}
html_show_sourcelink = False

# No dollarmath: mathematics is written in Unicode, so that no page asks another machine for a script.
myst_enable_extensions = ["colon_fence", "deflist"]
nb_execution_mode = "force"
nb_execution_timeout = 180
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_mime_priority_overrides = [("html", "text/latex", 50)]

autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_default_options = {"members": True}
default_role = "code"  # a single backquote in a docstring is a name
napoleon_google_docstring = True
napoleon_numpy_docstring = False


for chatty in ("traitlets", "jax._src.xla_bridge"):
    logging.getLogger(chatty).setLevel(logging.WARNING)


def _plain(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Docstrings are read in terminals: stars, bars, backslashes, underscores are themselves; stars around a title not."""
    text = re.sub(r"(?<![\w*])\*([A-Z](?:[^*\n]|\n(?!\s*\n))*\w)\*(?!\w)", "\x02\\1\x03", "\n".join(lines))
    lines[:] = text.split("\n")
    fenced = False
    for k, line in enumerate(lines):
        if line.lstrip().startswith((">>>", "...", ".. code")):
            fenced = True
        if not line.strip():
            fenced = False
        if not fenced:
            parts = re.split(r"(``.*?``|`[^`]*`)", line)
            parts[::2] = [re.sub(r"(\\|\*\*|\*|\||_(?=\W|$))", r"\\\1", part) for part in parts[::2]]
            lines[k] = "".join(parts)
    lines[:] = [re.sub("[\x02\x03]", "*", line) for line in lines]


def _gallery(app: Any) -> None:
    from gallery_pages import write_all

    write_all(HERE / "_build" / "extra" / "pages")


def setup(app: Any) -> None:
    """Registers them with Sphinx."""
    (HERE / "_build" / "extra" / "pages").mkdir(parents=True, exist_ok=True)
    app.connect("builder-inited", _gallery)
    app.connect("autodoc-process-docstring", _plain)
