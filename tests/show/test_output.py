"""Where things go and in which form: files by their ending, temporary files, notebooks, LaTeX, DOT, images, the wheel."""

import shutil
import subprocess
import sys
import time
import webbrowser
import zipfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse

from backsolve import Graph, OperatorMatrix, hadamard, left_mul, linearize, matrix
from backsolve.show import output, save, show, spy, to_dot, to_latex
from backsolve.show.page import read
from backsolve.show.pattern import pattern

from .things import THINGS, captured, figure_1, matrix_net, random_graph

NASTY = 'a"b\\n <&> $x_1^2$ {\\} ~ % # Ωé中\n"'


def needs(program, package):
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"no {program} here; Debian's {package} brings it")


@pytest.mark.parametrize("name", THINGS)
@pytest.mark.parametrize("ending", ["svg", "png", "html", "dot", "tex"])
def test_save(tmp_path, name, ending):
    path = THINGS[name]().save(tmp_path / f"it.{ending}", title="A title")
    assert path.stat().st_size > 100
    if ending == "svg":
        import xml.etree.ElementTree as ElementTree

        assert ElementTree.parse(path).getroot().tag.endswith("svg")
    if ending == "png":
        assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("ending", ["svg", "png", "html", "dot", "tex"])
@pytest.mark.filterwarnings("ignore:Glyph")  # matplotlib's fonts lack one of the characters
def test_save_keeps_any_name(tmp_path, ending):
    assert Graph({(NASTY, "b"): 1, ("b", NASTY + "2"): 2}).save(tmp_path / f"it.{ending}", title=NASTY).exists()


def test_a_page_of_pieces_whose_sizes_are_numbers_of_numpys(tmp_path):
    def joined(x):
        a, b = jnp.split(x, np.cumsum([1, 2])[:1])
        return jnp.pad(b[: np.int64(1)] * a, (np.int64(1), 0)) * b

    assert linearize(joined, jnp.arange(3.0)).save(tmp_path / "it.html").stat().st_size > 100


def test_save_of_another_ending(tmp_path):
    with pytest.raises(ValueError, match=r"cannot save as 'x.gif': the ending must be .html, .svg, .png, .pdf"):
        save(figure_1(), tmp_path / "x.gif")


def test_pictures_of_large_things_are_folded(tmp_path):
    assert captured(400).save(tmp_path / "large.svg").stat().st_size < 2_000_000


def test_pictures_without_matplotlib_say_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for call in (lambda: save(figure_1(), tmp_path / "x.png"), lambda: spy(figure_1())):
        with pytest.raises(ModuleNotFoundError, match=r"needs matplotlib: pip install 'backsolve\[show\]'"):
            call()


def test_show_writes_where_it_is_told_or_opens_a_browser(monkeypatch, tmp_path):
    opened = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    assert figure_1().show(tmp_path / "b.html") == tmp_path / "b.html"
    assert opened == []
    path = show(figure_1(), title="Mine", order=[4, 3])
    assert opened == [path.as_uri()]
    assert "<title>Mine</title>" in path.read_text(encoding="utf-8")
    path.unlink()


def test_inline_is_a_frame_of_its_own_and_nothing_for_the_very_large():
    html = figure_1()._repr_html_()
    assert html.startswith("<iframe")
    assert 'sandbox="allow-scripts"' in html
    frame, script = html.split("</iframe>")
    assert "<script" not in frame  # what the page is made of stays inside
    assert script == f"\n<script>\n{read('frames.js')}</script>"
    assert OperatorMatrix.from_scipy(scipy.sparse.eye_array(30_000, k=-1).tocsr())._repr_html_() is None
    assert output.inline(random_graph()).count("<iframe") == 1


@pytest.mark.parametrize("name", THINGS)
@needs("dot", "graphviz")
def test_dot_parses(name):
    done = subprocess.run(["dot", "-Tplain"], input=to_dot(THINGS[name]()), capture_output=True, text=True, check=True)
    kinds = [line.split(" ")[0] for line in done.stdout.splitlines()]
    from backsolve.show.model import picture_of

    picture = picture_of(THINGS[name]())
    assert (kinds.count("node"), kinds.count("edge")) == (len(picture.vertices), len(picture.edges))


@needs("dot", "graphviz")
def test_dot_keeps_any_name():
    text = Graph({(NASTY, "b"): 1}).to_dot()
    subprocess.run(["dot", "-Tsvg"], input=text, capture_output=True, text=True, check=True)


def test_latex_reads_as_the_paper():
    text = matrix_net().to_latex()
    assert r"-(\Delta _{2})_{\mathrm{H}}" in text
    assert r"(W_{2})_{\mathrm{L}}" in text
    assert r"\circ" in text
    assert text.startswith("\\[")
    assert r"I - L^{\mathsf{T}} &=" in figure_1().to_latex()
    with pytest.raises(TypeError, match="to_latex takes a System, a Graph or an OperatorMatrix, got int"):
        to_latex(3)


LATEX = {
    **THINGS,
    "large": lambda: captured(100),
    "nasty": lambda: matrix([[hadamard(np.ones((2, 2)), NASTY), left_mul(np.ones((2, 2)), "X̄₁₂⁻¹ᵀ")]]),
}


@needs("pdflatex", "texlive-latex-base")
def test_latex_compiles(tmp_path):
    body = "\n".join(thing().to_latex() for thing in LATEX.values())
    (tmp_path / "all.tex").write_text(
        "\\documentclass{article}\\usepackage{amsmath}\\begin{document}" + body + "\\end{document}", encoding="utf-8"
    )
    captured(2).save(tmp_path / "one.tex")
    for name in ("all", "one"):
        done = subprocess.run(
            ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", f"{name}.tex"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-2000:]
        assert (tmp_path / f"{name}.pdf").exists()


def test_spy_shows_every_entry(tmp_path):
    rows, cols, shape = pattern(matrix_net())
    assert shape == (3, 6)
    assert set(zip(rows.tolist(), cols.tolist())) == {(0, 0), (0, 1), (1, 2), (1, 3), (0, 4), (1, 5), (1, 4), (2, 5)}
    rows, cols, shape = pattern(figure_1())
    assert set(zip(rows.tolist(), cols.tolist())) == {(i, i) for i in range(5)} | {(2, 0), (2, 1), (3, 2), (4, 3)}
    image = matrix([[1, 0], [2, 3]]).spy(tmp_path / "spy.png").axes[0].images[0].get_array()
    assert (np.asarray(image) > 0).tolist() == [[True, False], [True, True]]
    with pytest.raises(TypeError, match="spy takes a System, a Graph, an OperatorMatrix or a SparseMatrix, got str"):
        pattern("x")


def test_spy_of_millions_of_entries(tmp_path):
    n, rng = 3_000_000, np.random.default_rng(0)
    i = rng.integers(0, 1_000_000, n)
    A = scipy.sparse.csr_array((np.ones(n), (i, np.minimum(i + rng.integers(0, 500, n), 999_999))), shape=(1_000_000,) * 2)
    figure = OperatorMatrix.from_scipy(A).spy(tmp_path / "big.png")
    image = np.asarray(figure.axes[0].images[0].get_array())
    assert (np.diag(image) > 0).all()
    assert (image > 0).sum() < 4 * len(image)


def test_a_notebook_shows_the_page_inline():
    nbclient = pytest.importorskip("nbclient")
    import nbformat

    cells = [
        "from backsolve import Graph\ng = Graph({('a', 'b'): 2, ('b', 'c'): 3})\ng",
        "g.show()\nprint('after')",
        "g.spy()",
    ]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbclient.NotebookClient(book, timeout=120, kernel_name="python3").execute()
    first, second, third = (cell.outputs for cell in book.cells)
    assert first[0]["data"]["text/html"].startswith("<iframe")
    assert [o["data"]["text/html"][:7] for o in second if o["output_type"] == "display_data"] == ["<iframe"]
    assert [o["data"]["text/plain"] for o in second if o["output_type"] == "display_data"] == [
        "the page of Graph of 3 nodes and 2 edges, 1 source, 1 sink"
    ]
    assert [o["text"] for o in second if o["output_type"] == "stream"] == ["after\n"]
    assert third[0]["data"]["image/png"]


@pytest.mark.parametrize("make", [lambda: figure_1()._repr_html_(), lambda: captured(20)._repr_html_()])
def test_the_frame_of_a_notebook_is_as_tall_as_the_page_and_scrolls_nowhere(browser, tmp_path, make):
    (tmp_path / "book.html").write_text(f"<!doctype html><body>{make()}</body>", encoding="utf-8")
    browser.open(tmp_path / "book.html")
    heights = []
    for _ in range(100):
        heights.append(browser.ask("document.querySelector('iframe').clientHeight"))
        if len(heights) > 6 and len({*heights[-5:], 780}) == 2:  # it has come to rest
            break
        time.sleep(0.05)
    assert heights[-1] != 780
    alone = tmp_path / "page.html"
    width = browser.ask("document.querySelector('iframe').clientWidth")
    srcdoc = browser.ask("document.querySelector('iframe').srcdoc")
    alone.write_text(srcdoc, encoding="utf-8")
    browser.resize(width, 800)
    browser.open(alone)
    browser.ask("document.documentElement.classList.add('framed')")
    assert abs(browser.ask("document.body.getBoundingClientRect().height") - heights[-1]) <= 1


def test_the_frame_of_a_notebook_draws_itself(browser, tmp_path):
    from PIL import Image

    file = tmp_path / "notebook.html"
    file.write_text(
        f"<!doctype html><meta charset=utf-8><body style='margin:0'>{figure_1()._repr_html_()}", encoding="utf-8"
    )
    browser.open(file)
    browser.ask("new Promise(done => setTimeout(done, 500))")
    browser.picture(tmp_path / "shot.png")
    colours = Image.open(tmp_path / "shot.png").convert("RGB").getcolors(1 << 20)
    assert {(0xDF, 0xF3, 0xE4), (0x70, 0x84, 0xB9)} <= {colour for _, colour in colours}  # a source's box, a cell
    right = Image.open(tmp_path / "shot.png").convert("RGB").crop((480, 0, 630, 780)).getcolors(1 << 20)
    assert (0xF6, 0xE3, 0xF0) in {colour for _, colour in right}  # the sink: drawn for the width that the frame has now


def test_the_wheel_holds_script_style_and_readme(tmp_path):
    root = Path(__file__).parents[2]
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(tmp_path),
        str(root),
    ]
    pytest.importorskip("hatchling", reason="hatchling, which builds the wheel, is not installed")
    subprocess.run(build, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    folder = root / "src" / "backsolve" / "show"
    for file in folder.iterdir():
        if file.suffix in (".js", ".css", ".html", ".md", ".py"):
            assert f"backsolve/show/{file.name}" in names


def test_importing_the_package_imports_nothing_of_show():
    code = "import sys, backsolve; print([m for m in sys.modules if m.startswith('backsolve.show.')])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_pages_of_graphs_and_matrices_need_neither_jax_nor_matplotlib():
    code = (
        "import sys; from backsolve import Graph, matrix; from backsolve.show import page, to_dot, to_latex\n"
        "for x in (Graph({('a', 'b'): 2}), matrix([[0, 0], [3, 0]])): page(x), to_dot(x), to_latex(x)\n"
        "print(sorted({m.split('.')[0] for m in sys.modules} & {'jax', 'matplotlib', 'IPython'}))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_linearized_function_of_hundreds_of_inputs_saves(tmp_path):
    system = linearize(lambda xs: sum(x * x for x in xs), [1.0] * 300)
    assert system.save(tmp_path / "wide.svg").exists()
    assert system.save(tmp_path / "wide.html").exists()
