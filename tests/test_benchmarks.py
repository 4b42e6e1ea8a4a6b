"""The benchmark runner: it refuses different answers, reports absence, wins and losses, and every case runs."""

import re
import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from benchmarks import headlines, limited, report
from benchmarks.__main__ import case_names, main, measure
from benchmarks.cases import gradients
from benchmarks.cases.import_time import import_seconds
from benchmarks.models import functions, others
from benchmarks.runner import (
    DisagreementError,
    Ratios,
    Row,
    Runner,
    Section,
    Target,
    optional,
    relative_difference,
    seconds_text,
    slope,
)
from tests import reference


@pytest.fixture
def small_gradients(monkeypatch):
    monkeypatch.setattr(gradients, "MODELS", [partial(make, small=True) for make in (functions.mlp, functions.lstm)])
    monkeypatch.setattr(gradients, "TRACED_LINES", 20)


class Clock:
    """A clock that only sleeping moves on."""

    now = 0.0

    def perf_counter(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


@pytest.fixture
def slow(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("benchmarks.runner.time", clock)

    def slow(seconds, answer=1.0):
        def call():
            clock.sleep(seconds)
            return np.array(answer)

        return call

    return slow


def test_medians_ratios_and_a_missed_target(slow):
    row = Runner().contest(
        "sleep",
        {"ours": slow(0.02), "fast": slow(0.01), "slow": slow(0.04), "gone": None},
        tolerance=0,
        rounds=3,
        target=Target(1.5, ("fast", "slow")),
    )
    assert row.seconds["ours"] == pytest.approx(0.02)
    assert row.ratios["fast"] == pytest.approx(2)
    assert row.ratios["slow"] == pytest.approx(0.5)
    assert (row.seconds["gone"], row.ratios["gone"]) == (None, None)
    assert row.target_value == row.ratios["fast"]  # the largest: the fastest peer counts
    assert row.met is False
    assert report.missed(Section("s", "S", "text", [row])) == ["s: sleep"]
    page = report.markdown([Section("s", "Sleeping", "text", [row])])
    assert "win)" in page
    assert "loss)" in page
    assert "absent" in page
    assert "**missed**" in page


def test_quick_contests_call_once_a_round_and_once_before():
    called = []
    Runner(quick=True).contest("t", {"ours": lambda: called.append(1) or np.ones(1)}, tolerance=0)
    assert len(called) == 3
    Runner(rounds=1).contest("t", {"ours": lambda: called.append(1) or np.ones(1)}, tolerance=0)
    assert len(called) > 100


def test_target_in_seconds_and_time_read_off_the_answer():
    contestants = {"ours": lambda: 0.25, "peer": lambda: 0.5}
    row = Runner(quick=True).contest(
        "t", contestants, tolerance=0, target=Target(0.3), difference=lambda a, b: 0.0, seconds=float
    )
    assert (row.seconds["ours"], row.ratios["peer"], row.met, row.rounds) == (0.25, 0.5, True, 2)


def test_target_is_not_judged_without_its_peer(slow):
    row = Runner(quick=True).contest("t", {"ours": slow(0.01), "peer": None}, tolerance=0, target=Target(2, ("peer",)))
    assert row.met is None
    assert "not measured" in report.markdown([Section("s", "S", "text", [row])])


@pytest.mark.parametrize("wrong", [1.1, np.nan])
def test_different_answers_are_refused(wrong, slow):
    with pytest.raises(DisagreementError, match="'ours' and 'peer' differ by"):
        Runner(quick=True).contest("t", {"ours": slow(0.01), "peer": slow(0.01, wrong)}, tolerance=1e-6)


def test_answers_of_different_shape_are_refused():
    with pytest.raises(DisagreementError, match=r"\(2,\).*\(3,\)"):
        relative_difference(np.ones(2), np.ones(3))
    with pytest.raises(DisagreementError, match="1 arrays, the other 2"):
        relative_difference([np.ones(2)], [np.ones(2), np.ones(2)])


def test_ours_cannot_be_absent(slow):
    with pytest.raises(ValueError, match="'ours', is ours and cannot be absent"):
        Runner().contest("t", {"ours": None, "peer": slow(0.01)}, tolerance=0)


def test_optional_module():
    assert optional("numpy") is np
    assert optional("no_such_module_of_ours") is None


def test_slope_of_a_power():
    assert slope([10, 100, 1000], [3e-3, 3e-1, 3e1]) == pytest.approx(2)


def test_written_results_are_read_back_and_other_sections_stay(tmp_path):
    def section(name, factor):
        rows = [
            Row(f"{n}", {"ours": factor * n, "peer": None}, {"peer": None}, {"peer": None}, 3, series="line", size=n)
            for n in (10, 100)
        ]
        return Section(name, name.title(), "text", rows, unit="edge", slope_limit=1.1, machine="here")

    report.write(tmp_path, [section("a", 1e-6), section("b", 1e-6)])
    report.write(tmp_path, [section("b", 2e-6)])
    assert report.load(tmp_path / "results.json") == {"a": section("a", 1e-6), "b": section("b", 2e-6)}
    page = (tmp_path / "RESULTS.md").read_text(encoding="utf-8")
    assert page.count("power 1.00 (target ≤ 1.1: met)") == 2
    assert (tmp_path / "pictures" / "b.png").stat().st_size > 1000


def test_growth_faster_than_allowed_is_missed():
    rows = [Row(f"{n}", {"ours": 1e-9 * n**2}, {}, {}, 3, series="line", size=n) for n in (10, 100)]
    section = Section("s", "S", "text", rows, unit="edge", slope_limit=1.1)
    assert report.missed(section) == ["s: line"]
    assert "power 2.00 (target ≤ 1.1: **missed**)" in report.table(section)


@pytest.mark.parametrize(
    ("seconds", "text"), [(1.5, "1.5 s"), (0.0123, "12.3 ms"), (4.56e-5, "45.6 µs"), (7e-9, "7 ns"), (0.1, "100 ms")]
)
def test_times_are_readable(seconds, text):
    assert seconds_text(seconds) == text


def test_import_time_refuses_what_imports_jax():
    with pytest.raises(RuntimeError, match=r"import jax\.numpy imports jax"):
        import_seconds("jax.numpy")


def test_ratios_have_bounds_on_each_and_on_their_mean():
    ratios = Ratios("flops", {"a": 0.5, "b": 2.0, "c": np.nan}, each=1.0, mean=0.9)
    assert ratios.missed == ["b", "c", "mean"]
    ratios = Ratios("flops", {"a": 0.5, "b": 2.0}, mean=1.0)
    assert (ratios.geometric_mean, ratios.missed) == (pytest.approx(1), [])
    section = Section("s", "S", "text", [], ratios=[Ratios("flops", {"a": 1.0001, "b": 1.0}, each=1.0)])
    assert report.missed(section) == ["s: flops, a"]
    page = report.table(section)
    assert "**1.000100**" in page
    assert re.search(r"\| b +\| 1\.000 +\|", page)


def test_a_page_gets_the_rows_that_are_wanted(monkeypatch):
    row = Row("r", {"ours": 2e-3, "x": 1e-3, "y": None}, {"x": 2.0, "y": None}, {}, 3)
    sections = {"s": Section("s", "S", "text", [row])}
    wanted = [headlines.Wanted("an r", "line(r)", "s", "r", "x", "y"), headlines.Wanted("gone", "g", "s", "gone", "x", "y")]
    monkeypatch.setattr(headlines, "WANTED", wanted)
    speed = "<!-- speed -->\nbefore\n<!-- end of speed -->\n"
    page = f"{speed}<!-- results: of a run -->\nold\n<!-- end of results -->\nafter\n"
    once = headlines.written(page, sections)
    assert "| an r | `line(r)` | 2 ms | x 1 ms | y |" in once
    assert "old" not in once
    assert "gone" not in once
    assert once.endswith("<!-- end of results -->\nafter\n")
    assert speed in once  # nothing to tell of it yet
    assert headlines.written(once, sections) == once
    with pytest.raises(ValueError, match="no marks"):
        headlines.written("nothing", sections)


def test_readme_tells_the_worst_row_beside_the_mean():
    values = {"telling: good, 10 points": 0.25, "telling: bad, 10 points": 1.25}
    ratios = [Ratios(told.column, values) for told in headlines.TOLD]
    sections = {"forms": Section("forms", "S", "text", [], ratios=ratios)}
    page = "<!-- results -->\n<!-- end of results -->\n<!-- speed -->\n<!-- end of speed -->\n"
    text = headlines.written(page, sections)
    words = " ".join(text.split())
    assert words.count("1.8 ×") == words.count("at the least 0.8 × (bad)") == len(headlines.TOLD)
    assert max(map(len, text.splitlines())) <= 110
    assert headlines.written(text, sections) == text


def test_results_begin_with_the_ratios_that_tell_most(monkeypatch, tmp_path):
    ratios = [Ratios("run", {"a": 0.5, "b": 2.0}), Ratios("flops", {"a": 3.0})]
    section = Section("s", "S", "text", [Row("a", {"ours": 1.0}, {}, {}, 3)], ratios=ratios)
    assert "summary.svg" not in report.markdown([section])
    monkeypatch.setattr(headlines, "HEADLINES", [headlines.Headline("s", "run", "s / theirs")])
    report.write(tmp_path, [section])
    page = (tmp_path / "RESULTS.md").read_text(encoding="utf-8")
    assert "| s / theirs | 2 | 1 | 0.5 | 2 |" in page
    assert page.index("pictures/summary.svg") < page.index("## S")
    (points,) = headlines.picture({"s": section}).axes[0].collections
    assert sorted(points.get_offsets()[:, 0]) == [0.5, 2.0]


def test_pictures_are_no_taller_than_a_screen():
    rows = [Row(f"{n}", {"ours": 1.0, "peer": 2.0, "gone": None}, {}, {}, 3) for n in range(50)]
    figure = report.picture(Section("s", "S", "text", rows))
    assert 120 * figure.get_figheight() <= 800
    assert sum(len(points.get_offsets()) for ax in figure.axes for points in ax.collections) == 100
    rows = [Row(f"{n}, {size} points", {"ours": 1.0, "peer": 2.0}, {}, {}, 3) for n in range(34) for size in (1, 10, 100)]
    many = report.picture(Section("s", "S", "text", rows))
    assert [len(ax.get_yticks()) for ax in many.axes] == [17, 17]
    assert sum(len(points.get_offsets()) for ax in many.axes for points in ax.collections) == 204
    for path in (Path(report.__file__).parent / "pictures").glob("*.png"):
        assert int.from_bytes(path.read_bytes()[20:24]) <= 1000, path.name


@pytest.mark.parametrize("only", ["MLP", "20 lines"])
def test_gradients_of_some_models_only(small_gradients, only):
    section = gradients.measure(Runner(quick=True, rounds=1, only=only))
    assert [row.name for row in section.rows] == ["MLP"] * (only == "MLP")
    assert {name for ratios in section.ratios for name in ratios.values} == {
        {"MLP": "MLP", "20 lines": "scalar program, 20 lines"}[only]
    }


@pytest.mark.parametrize("make", functions.MODELS)
def test_every_model_has_the_same_gradient_in_pytorch_and_autograd(make):
    model = make(small=True)
    assert sum(1 for other in functions.MODELS if other(True).name == model.name) == 1
    theirs = reference.grad(model.function)(*model.arguments)
    calls, reasons = others.contestants(model, compile=False)
    for name, call in calls.items():
        if call is None:
            assert reasons[name]
        else:
            assert relative_difference(call(), theirs) < 1e-4


def test_outcomes_under_a_limit_are_readable(monkeypatch):
    told = {"us": limited.Outcome(0.24, 225_000_000), "them": limited.Outcome(7.62, failure=limited.OUT_OF_MEMORY)}
    monkeypatch.setattr(limited, "limited", lambda peer, n, limit: told[peer])
    assert limited.table([20_000], ("us", "them"), 8 * 10**9).splitlines()[-1] == (
        "| arrow, n = 20,000 | 0.23 GB, 0.2 s | out of memory after 7.6 s |"
    )


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not limit the address space")
def test_a_dense_seed_matrix_does_not_fit_where_our_arrow_does():
    pytest.importorskip("asdex")
    assert limited.limited("backsolve", 10_000, 4 * 10**9).failure == ""
    assert limited.limited("asdex", 10_000, 4 * 10**9).failure


@pytest.mark.parametrize("name", case_names())
def test_case_runs_and_its_answers_agree(name, small_gradients):
    section = measure(name, Runner(quick=True))
    assert section.rows
    assert section.machine.count("numpy") == 1
    told = {headline.column for headline in headlines.HEADLINES if headline.section == name}
    absent = set() if find_spec("asdex") else {column for column in told if "asdex" in column}
    assert told - absent <= {column.name for column in section.ratios}
    report.picture(section)


def test_unknown_case_is_refused(capsys):
    with pytest.raises(SystemExit, match=r"^2$"):
        main(["no_such_case"])
    assert "no such case: no_such_case; there are chain_and_fan, forms, gradients, import_time" in capsys.readouterr().err


def test_command_line_writes_where_it_is_told(tmp_path, capsys):
    assert main(["import_time", "--quick", "-o", str(tmp_path)]) == 0
    assert "## Import time" in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {"results.json", "RESULTS.md", "pictures"}
