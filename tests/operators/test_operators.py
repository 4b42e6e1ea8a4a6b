"""The laws of the algebra over the zoo of operators; oracles are dense arrays."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backsolve import I, O
from backsolve.operators import ArraySpace, Zero

from ..zoo import NAMES, Minimal, act, product, random, turned, zoo

ZOO, COMPLEX_ZOO = zoo(), zoo(complex_values=True)
PAIRS = [
    (p, q)
    for p in NAMES
    for q in NAMES
    if ZOO[p].domain == ZOO[q].codomain and ZOO[p].dense.size * ZOO[q].dense.size <= 10**5
]
SUMS = [(p, q) for p in NAMES for q in NAMES if (ZOO[p].domain, ZOO[p].dense.shape) == (ZOO[q].domain, ZOO[q].dense.shape)]
TRIPLES = [(p, q, r) for p, q in PAIRS for r in NAMES if ZOO[q].domain == ZOO[r].codomain]


def close(got, want):
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-10 * max(np.abs(want).max(initial=0), 1e-300))


def placed(op, case):
    """The operator with all its sizes known."""
    return op.refine(ArraySpace(case.domain), ArraySpace(case.codomain))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("zoo_of", [ZOO, COMPLEX_ZOO], ids=["real", "complex"])
def test_action_dense_form_and_transpose(name, zoo_of):
    case = zoo_of[name]
    is_complex = zoo_of is COMPLEX_ZOO
    x, y = random(case.domain, 1, complex_values=is_complex), random(case.codomain, 2, complex_values=is_complex)
    op = placed(case.op, case)
    close(case.op @ x, act(case.dense, x))
    close(op @ x, act(case.dense, x))
    close(op.todense(), case.dense)
    close(op.T @ y, act(turned(case), y))
    close(op.T.todense(), turned(case))
    close(op.H @ y, act(turned(case).conj(), y))
    close(op.conj() @ x, act(case.dense.conj(), x))
    close(op.T.T @ x, act(case.dense, x))
    assert np.sum((op @ x) * y) == pytest.approx(np.sum(x * (op.T @ y)))
    assert (op.domain.shape, op.codomain.shape) == (case.domain, case.codomain)


@pytest.mark.parametrize("c", [2, -1, 0.5, np.float64(3.0), np.array(1.5), 1j, 0])
@pytest.mark.parametrize("name", NAMES)
def test_scalar_multiples(name, c):
    case = ZOO[name]
    x = random(case.domain)
    want = act(case.dense, x) * c
    close((c * case.op) @ x, want)
    close((case.op * c) @ x, want)
    close(placed(c * case.op, case).T @ (want * 0 + 1), act(turned(case), want * 0 + 1) * c)
    close(placed(c * case.op, case).H @ (want * 0 + 1), act(turned(case), want * 0 + 1) * np.conj(c))
    if c != 0:
        close((case.op / c) @ x, act(case.dense, x) / c)


@pytest.mark.parametrize(("p", "q"), PAIRS)
def test_products(p, q):
    a, b = ZOO[p], ZOO[q]
    dense = product(a, b)
    ab = a.op @ b.op
    x, y = random(b.domain), random(a.codomain)
    close(ab @ x, act(dense, x))
    close(ab @ x, a.op @ (b.op @ x))
    close((placed(b.op, b).T @ placed(a.op, a).T) @ y, np.tensordot(y, dense, axes=y.ndim))
    full = ab.refine(ArraySpace(b.domain), ArraySpace(a.codomain))
    close(full.T @ y, np.tensordot(y, dense, axes=y.ndim))
    close(full.todense(), dense)


@pytest.mark.parametrize(("p", "q"), SUMS)
def test_sums(p, q):
    a, b = ZOO[p], ZOO[q]
    x, y = random(a.domain), random(a.codomain)
    for free, dense in ((a.op + b.op, a.dense + b.dense), (a.op - b.op, a.dense - b.dense)):
        op = placed(free, a)
        close(free @ x, act(dense, x))
        close(op.T @ y, np.tensordot(y, dense, axes=y.ndim))
        close(op.todense(), dense)


@given(st.sampled_from(TRIPLES), st.integers(0, 5))
def test_associativity(names, seed):
    cases = zoo(seed)
    a, b, c = (cases[name] for name in names)
    x = random(c.domain, seed)
    want = act(a.dense, act(b.dense, act(c.dense, x)))
    close(((a.op @ b.op) @ c.op) @ x, want)
    close((a.op @ (b.op @ c.op)) @ x, want)


@given(st.data(), st.integers(0, 5))
def test_distributivity(data, seed):
    cases = zoo(seed)
    p, q = data.draw(st.sampled_from(SUMS))
    r = data.draw(st.sampled_from([n for n in NAMES if cases[n].domain == cases[p].codomain] or ["identity"]))
    s = data.draw(st.sampled_from([n for n in NAMES if cases[n].codomain == cases[p].domain]))
    a, b, right = cases[p], cases[q], cases[s]
    x = random(right.domain, seed)
    want = act(a.dense + b.dense, act(right.dense, x))
    close(((a.op + b.op) @ right.op) @ x, want)
    close((a.op @ right.op + b.op @ right.op) @ x, want)
    if cases[r].domain == a.codomain:
        left = cases[r]
        x = random(a.domain, seed)
        want = act(left.dense, act(a.dense + b.dense, x))
        close((left.op @ (a.op + b.op)) @ x, want)
        close((left.op @ a.op + left.op @ b.op) @ x, want)


@given(st.lists(st.sampled_from([n for n in NAMES if ZOO[n].domain == ZOO[n].codomain == (3, 4)]), max_size=6))
def test_any_word_of_square_operators(word):
    """Sums of products of products: the closed forms agree with the dense ones however they are nested."""
    op, dense = I, ZOO["identity"].dense
    for k, name in enumerate(word):
        case = ZOO[name]
        if k % 3 == 2:
            op, dense = op + case.op, dense + case.dense
        else:
            op, dense = case.op @ op, np.tensordot(case.dense, dense, axes=2)
    x = random((3, 4))
    close(op @ x, act(dense, x))
    close(op.T @ x, np.tensordot(x, dense, axes=2))


INVERTIBLE = [
    "identity", "scaling", "hadamard", "hadamard of a vector", "hadamard of a scalar", "quotient", "transpose", "net edge",
]  # fmt: skip


@pytest.mark.parametrize("name", INVERTIBLE)
@pytest.mark.parametrize("zoo_of", [ZOO, COMPLEX_ZOO], ids=["real", "complex"])
def test_inverses(name, zoo_of):
    case = zoo_of[name]
    x = random(case.domain)
    close(case.op.inverse() @ (case.op @ x), x)
    n = int(np.prod(case.domain))
    close(
        placed(case.op, case).inverse().refine(ArraySpace(case.codomain), ArraySpace(case.domain)).todense(),
        np.linalg.inv(case.dense.reshape(n, n)).reshape(turned(case).shape),
    )


def test_minimal_subclass_has_all_the_rest():
    A, B = random((3, 3), 1), random((3, 3), 2)
    op = Minimal(A)
    x = random((3,))
    close((op @ Minimal(B) + 2 * op - I) @ x, A @ B @ x + 2 * A @ x - x)
    close((op - op.T).todense(), A - A.T)
    close((-op).H @ x, -A.T @ x)
    close(sum([op, op, op]) @ x, 3 * A @ x)
    assert repr(op) == "Minimal : 3 → 3"
    assert isinstance(op @ O, Zero)
    assert (op + O) is op
    assert (op @ I).todense().shape == (3, 3)
