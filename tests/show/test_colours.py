"""Colours: text can be read on every one of them, light and dark, and readers who see fewer colours tell the kinds apart."""

import re
from importlib.resources import files
from itertools import combinations

import numpy as np
import pytest

from backsolve.show.kinds import KINDS

CSS = files("backsolve.show").joinpath("page.css").read_text(encoding="utf-8")
BLOCKS = re.findall(r":root \{(.*?)\}", CSS, re.DOTALL)
LIGHT, CHANGED = (dict(re.findall(r"--([a-z-]+): *(#[0-9a-f]+)", block)) for block in BLOCKS)
DARK = LIGHT | CHANGED
# Viénot, Brettel and Mollon (1999): what is left of linear RGB without the long, and without the middle cones.
PROTAN = np.array([[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]])
DEUTAN = np.array([[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]])


def linear(colour):
    colour = colour[1:] if len(colour) == 7 else "".join(2 * c for c in colour[1:])
    c = np.array([int(colour[i : i + 2], 16) / 255 for i in (0, 2, 4)])
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def contrast(a, b):
    light = sorted(float(linear(c) @ [0.2126, 0.7152, 0.0722]) for c in (a, b))
    return (light[1] + 0.05) / (light[0] + 0.05)


def lab(rgb):
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ rgb
    f = np.cbrt(np.maximum(xyz / [0.9505, 1, 1.089], 1e-6))
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_text_can_be_read(theme):
    for ground in ("page", "panel", "box", "source", "end", "group"):
        assert contrast(theme["ink"], theme[ground]) >= 7
        assert contrast(theme["faint"], theme[ground]) >= 4.5, ground
    for kind in KINDS:
        text = theme["opaque-ink"] if kind == "opaque" else theme["ink"] if kind == "group" else theme["cell-ink"]
        assert contrast(text, theme[kind]) >= 4.5, kind
    assert contrast(theme["lit"], theme["panel"]) >= 3
    assert contrast(theme["work"], theme["panel"]) >= 3
    assert contrast(theme["fill"], theme["panel"]) >= 3


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("sight", [np.eye(3), PROTAN, DEUTAN], ids=["all cones", "protanopia", "deuteranopia"])
def test_kinds_are_told_apart(theme, sight):
    seen = {kind: lab(np.clip(sight @ linear(theme[kind]), 0, 1)) for kind in KINDS}
    distances = {(a, b): float(np.linalg.norm(seen[a] - seen[b])) for a, b in combinations(KINDS, 2)}
    assert {pair: round(d) for pair, d in distances.items() if d < 15} == {}


def test_pictures_have_the_colours_of_the_page():
    from backsolve.show.drawing import KIND

    assert {kind: LIGHT[kind] for kind in KINDS} == KIND
