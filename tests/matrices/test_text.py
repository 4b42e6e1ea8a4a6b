"""How operators and matrices print: aligned, as the paper writes them, in text and LaTeX."""

import unicodedata
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sympy

from backsolve import I, O, bidiagonal, hadamard, kron, left_mul, linear_map, linearize, matrix, right_mul, row, tdot
from backsolve.matrices.text import latex_body, to_latex
from backsolve.operators import einsum

M, W, R = np.ones((2, 5)), np.ones((2, 3)), np.ones((4, 5))


@pytest.mark.parametrize(
    ("op", "text"),
    [
        (hadamard(M, "Δ"), "(Δ)ᴴ : 2×5 → 2×5"),
        (left_mul(W, "W"), "(W)ᴸ : 3×? → 2×?"),
        (left_mul(W, "W").T, "(Wᵀ)ᴸ : 2×? → 3×?"),
        (right_mul(R, "X"), "(X)ᴿ : ?×4 → ?×5"),
        (right_mul(R, "X").T, "(Xᵀ)ᴿ : ?×5 → ?×4"),
        (hadamard(M, "Δ") @ right_mul(R, "X"), "(Δ)ᴴ ∘ (X)ᴿ : 2×4 → 2×5"),
        (-hadamard(M, "Δ") @ left_mul(W, "W"), "−(Δ)ᴴ ∘ (W)ᴸ : 3×5 → 2×5"),
        ((hadamard(M, "Δ") @ left_mul(W, "W")).T, "(Wᵀ)ᴸ ∘ (Δ)ᴴ : 2×5 → 3×5"),
        (tdot(M, "G"), "(G)ᵀ• : 2×5 → scalar"),
        (2.5 * left_mul(W), "2.5·(2×3)ᴸ : 3×? → 2×?"),
        (I, "I : ? → ?"),
        (O, "O : ? → ?"),
        (3 * I, "3·I : ? → ?"),
        (linear_map(np.sort, None, (3,), (3,), name="f"), "f : 3 → 3"),
        (einsum("ji", "ij"), "einsum(ij ← ji) : ?×? → ?×?"),
    ],
)
def test_operators(op, text):
    assert repr(op) == text


def test_kron_reads_as_its_map():
    assert repr(kron(R, W, names=("A", "B"))) == "(B)ᴸ ∘ (Aᵀ)ᴿ : 3×5 → 2×4"


def widths(text):
    return {sum(not unicodedata.combining(c) for c in line) for line in text.splitlines()}


def test_matrices_are_aligned():
    D = hadamard(np.ones((2, 5)), "Δ")
    text = str(bidiagonal([I, I, I], [-D @ left_mul(np.ones((2, 2)), "W")] * 2))
    assert text.splitlines()[0].startswith("⎡")
    assert "−(Δ)ᴴ ∘ (W)ᴸ" in text
    for A in (bidiagonal([I] * 3, [D] * 2), matrix([[1, Fraction(-22, 7)], [1e-9, 1000000]]), row([I, O])):
        assert len(widths(str(A))) == 1
    assert repr(matrix([[1]])).startswith("OperatorMatrix of 1 × 1 blocks, 1 entry\n[ 1 ]")


def test_large_matrices_leave_out_the_middle():
    text = str(bidiagonal([1] * 2000, [2] * 1999))
    assert "⋮" in text
    assert "⋯" in text
    assert len(text.splitlines()) == 8
    assert str(matrix([])) == "[]"


def test_latex():
    D, L = hadamard(M, "Δ"), left_mul(np.ones((2, 2)), "W_1")
    latex = matrix([[I, O], [-D @ L, I]])._repr_latex_()
    assert latex.startswith(r"$\begin{bmatrix} I & ")
    assert latex.endswith(r"\end{bmatrix}$")
    assert r"(\Delta )_{\mathrm{H}}" in latex
    assert r"\circ" in latex
    assert r"(W\_1)_{\mathrm{L}}" in latex
    assert r"\alpha" in matrix([[sympy.Symbol("alpha")]])._repr_latex_()
    assert r"\vdots" in bidiagonal([1] * 20, [2] * 19)._repr_latex_()


def test_every_line_fits_a_terminal_of_80_columns():
    D = hadamard(M, "a rather long name of an array of slopes")
    named = [
        bidiagonal([I] * 12, [-D] * 11),
        matrix([[Fraction(10**20 + k, 7**k) for k in range(7)]] * 3),
        matrix([[hadamard(np.ones(2), "x" * 200)]]),
        row([hadamard(M, f"name {k}") @ right_mul(np.ones((4, 5)), "X" * k) for k in range(1, 9)]),
    ]
    for A in named:
        lines = str(A).splitlines()
        assert len(widths(str(A))) == 1
        assert max(sum(not unicodedata.combining(c) for c in line) for line in lines) <= 80
        assert "…" in str(A) or "⋯" in str(A)


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        ("(W₁₂)ᴸ ∘ (Δ)ᴴ", r"(W_{12})_{\mathrm{L}} \circ (\Delta )_{\mathrm{H}}"),
        ("x²ᵀ", r"x^{2\mathsf{T}}"),
        ("a₁²", r"a_{1}{}^{2}"),
        ("A⁻¹", r"A^{-1}"),
        ("X̄", r"X^{*}"),
        ("einsum(i ← j)", r"\mathrm{einsum}(i \leftarrow j)"),
        ("50% & #1 {~^} $5_0", r"50\%\ \&\ \#1\ \{\sim \wedge \}\ \$5\_0"),
        ("β中", r"\beta \mathtt{U4E2D}"),
    ],
)
def test_labels_in_latex(text, latex):
    assert to_latex(text) == latex


def test_identity_minus_in_latex():
    L = matrix([[0, 0, 0], [2, 0, 0], [sympy.Symbol("a") + 1, -3, 0]])
    assert latex_body(L, identity_minus=True) == (
        r"\begin{bmatrix} I &  &  \\ -2 & I &  \\ -\left(a + 1\right) & 3 & I \end{bmatrix}"
    )


def test_between_numbers_the_number_is_printed_where_it_is_known():
    def f(x, y):
        return jnp.exp(x * y) / x

    system = linearize(f, 2.0, 0.5, argnums=(0, 1))
    assert str(system.M).split() == ["⎡", "0.5", "2", "⎤", "⎢", "·", "·", "⎥", "⎣", "−0.67957", "·", "⎦"]
    texts = []

    def traced(x, y):
        texts.append(str(linearize(f, x, y, argnums=(0, 1)).M))
        return f(x, y)

    jax.jit(traced)(2.0, 0.5)
    assert "c·I" in texts[0]
