"""Plans of systems made by hand: every order on numbers, fractions and NumPy operators; costs, refusals, the table."""

import itertools
import random
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backsolve import I, O, OperatorMatrix, System, hadamard, left_mul, matrix, right_mul, tdot
from backsolve.operators import ArraySpace, Identity, einsum
from backsolve.planning.plan import ORDERS, choose_order, make_plan

from ..chains import examples
from .test_search import Sets


@st.composite
def triangles(draw, weight):
    """Entries of M, L and S of a system of scalars: sources, nodes in topological order, outputs that are nodes."""
    p, n, q = draw(st.integers(1, 3)), draw(st.integers(2, 7)), draw(st.integers(1, 2))
    r = random.Random(draw(st.integers(0, 999)))
    M = {(i, j): weight(r) for i in range(n) for j in range(p) if r.random() < 0.4 or (i, j) == (0, 0)}
    L = {(i, j): weight(r) for i in range(n) for j in range(i) if r.random() < 0.5}
    ends = draw(st.permutations(range(n)))[:q]
    S = dict.fromkeys(enumerate(ends), 1)
    return [OperatorMatrix.from_entries(e, s) for e, s in ((M, (n, p)), (L, (n, n)), (S, (len(ends), n)))]


def dense(A, one=1):
    found = np.zeros(A.shape, object)
    for place, element in A.entries.items():
        found[place] = element * one
    return found


def by_substitution(M, L, S):
    """S (I − L)⁻¹ M row by row: exact for fractions."""
    L, x = dense(L), dense(M)
    for i in range(len(x)):
        for j in range(i):
            x[i] = x[i] + L[i, j] * x[j]
    return dense(S) @ x


@pytest.mark.parametrize(
    "weight",
    [
        lambda r: Fraction(r.randint(1, 9), r.randint(1, 9)),
        lambda r: r.choice([-3, -2, 1, 2, 5]),
        lambda r: r.uniform(0.5, 2),
    ],
    ids=["fractions", "integers", "floats"],
)
def test_numbers_in_every_order(weight):
    @examples(25)
    @given(triangles(weight), st.data())
    def same(matrices, data):
        system = System(*matrices)
        want = by_substitution(*matrices)
        shuffled = data.draw(st.permutations(range(system.L.shape[0])))
        for order in (*ORDERS, shuffled, system.plan(), system.plan(shuffled)):
            J = system.jacobian(order)
            assert J.shape == want.shape
            for place in np.ndindex(want.shape):
                got = J.entries.get(place, 0)
                exact = not isinstance(want[place], float)
                assert got == (want[place] if exact else pytest.approx(want[place], rel=1e-10)), (order, place)
                assert not exact or isinstance(got, (int, Fraction))

    same()


@examples(60)
@given(triangles(lambda r: r.uniform(0.5, 2)), st.data())
def test_multiplications_are_those_of_sets_of_neighbours(matrices, data):
    """By an elimination on sets; outputs that nobody else reads are ends themselves."""
    M, L, S = matrices
    n, p = M.shape
    read = {j for _, j in L.entries}
    ends = {v for _, v in S.entries if v not in read}
    edges = {(n + j, i) for i, j in M.entries} | {(j, i) for i, j in L.entries}
    edges |= {(v, n + p + i) for i, v in S.entries if v not in ends}
    order = data.draw(st.permutations([v for v in range(n) if v not in ends]))
    plan = System(M, L, S).plan(order)
    state, total = Sets(n + p + S.shape[0], edges), 0
    assert [step.node for step in plan.steps] == list(order)
    for step in plan.steps:
        assert (step.ins, step.outs) == (len(state.into[step.node]), len(state.out_of[step.node]))
        known = {(a, b) for b, ins in state.into.items() for a in ins if step.node not in (a, b)}
        paid = state.eliminate(step.node)
        total += paid
        new = {(a, b) for b, ins in state.into.items() for a in ins}
        assert (step.multiplications, step.total, step.fill) == (paid, total, len(new - known))
    assert plan.multiplications == total
    assert plan.cost >= 0
    assert sorted(plan.order) == list(range(n))
    inner = [v for v in range(n) if v not in ends]
    for name, nodes in (("forward", inner), ("reverse", inner[::-1])):
        state = Sets(n + p + S.shape[0], edges)
        assert plan.totals[name] == sum(map(state.eliminate, nodes))
    best = System(M, L, S).plan()
    assert best.multiplications <= min(best.totals.values())
    assert best.totals == plan.totals


def operators(seed):
    """Two sources, a wide middle, an elementwise node and one output, with the dense Jacobian of each source."""
    rng = np.random.default_rng(seed)
    A, B, C = rng.standard_normal((4, 3)), rng.standard_normal((4, 2)), rng.standard_normal((2, 4))
    d, e = rng.standard_normal(4), rng.standard_normal((5, 4))
    mat = {k: einsum("i", "j", (W, "ij")) for k, W in (("A", A), ("B", B), ("C", C), ("e", e))}
    D = einsum("i", "i", (d, "i"))
    M = OperatorMatrix.from_entries({(0, 0): mat["A"], (1, 1): mat["B"]}, (4, 2))
    L = OperatorMatrix.from_entries({(1, 0): D, (2, 1): D, (2, 0): Identity(ArraySpace((4,))), (3, 2): mat["e"]}, (4, 4))
    S = matrix([[O, O, O, Identity(ArraySpace((5,)))], [mat["C"], O, O, O]])
    by_a = e @ (np.diag(d * d) + np.eye(4)) @ A
    by_b = e @ np.diag(d) @ B
    return System(M, L, S), {(0, 0): by_a, (0, 1): by_b, (1, 0): C @ A}


@pytest.mark.parametrize("order", [*ORDERS, *itertools.permutations(range(4))], ids=str)
def test_operators_in_every_order(order):
    system, want = operators(0)
    J = system.jacobian(order)
    assert set(J.entries) == set(want)
    for place, array in want.items():
        np.testing.assert_allclose(J.entries[place].todense(), array, rtol=1e-12, atol=1e-12)
    assert system.jacobian(order, format="operator").shape == (2, 2)


def test_matrices_as_nodes_keep_their_structure():
    rng = np.random.default_rng(0)
    W, V, D = rng.standard_normal((3, 3)), rng.standard_normal((3, 3)), rng.standard_normal((3, 50))
    space = ArraySpace((3, 50))
    edges = OperatorMatrix.from_entries({(1, 0): hadamard(D), (2, 1): left_mul(V)}, (3, 3))
    M = OperatorMatrix.from_entries({(0, 0): left_mul(W).refine(space, space)}, (3, 1))
    system = System(M, edges, matrix([[O, O, Identity(space)]]))
    X = rng.standard_normal((3, 50))
    for order in ORDERS:
        J = system.jacobian(order)[0, 0]
        np.testing.assert_allclose(J @ X, V @ (D * (W @ X)))
        if order in ("auto", "markowitz"):
            assert sum(f.size for f in J.factors) <= 3 * 3 * 50  # never (3 · 50)²


def test_a_plan_serves_other_numbers_and_refuses_other_systems():
    system, _ = operators(0)
    plan = system.plan([2, 1, 0, 3])
    other, want = operators(1)
    J = other.jacobian(plan)
    for place, array in want.items():
        np.testing.assert_allclose(J.entries[place].todense(), array, rtol=1e-12, atol=1e-12)

    def chain(n, extra=False):
        edges = {(1, 0): hadamard(np.ones(n)), (2, 1): hadamard(np.ones(n))} | (
            {(2, 0): hadamard(np.ones(n))} if extra else {}
        )
        M = OperatorMatrix.from_entries({(0, 0): hadamard(np.ones(n))}, (3, 1))
        return System(M, OperatorMatrix.from_entries(edges, (3, 3)), matrix([[O, O, I]]))

    plan = chain(3).plan()
    chain(3).jacobian(plan)
    with pytest.raises(ValueError, match=r"made for a system with .* of 3, which here is 4.*for inputs of these shapes"):
        chain(4).jacobian(plan)
    with pytest.raises(ValueError, match="made for a system with other edges; make one with"):
        chain(3, extra=True).jacobian(plan)
    with pytest.raises(ValueError, match=r"with 5 nodes and borders, this one has \d+;"):
        system.jacobian(plan)


def test_refused_orders():
    system, _ = operators(0)
    cases = [
        ([0, 1, 1, 2], "the order eliminates .* twice"),
        ([0, 1, 2, 2], "the order eliminates .* twice"),
        ([0, 2], r"the order misses .*; it must name each of the 4 nodes once"),
        ([], "the order misses"),
        ([0, 1, 2, 4], "the order names node 4, but the nodes are 0 to 3"),
        ([-1, 0, 1, 2], "the order names node -1, but the nodes are 0 to 3"),
        ([0, 1, 2.0], r"the order names node 2\.0, but"),
        ([0, "x"], "the order names node 'x', but"),
        (
            "backwards",
            "unknown order 'backwards'; use one of 'auto', 'forward', 'reverse', 'markowitz', a sequence",
        ),
    ]
    for order, message in cases:
        for use in (system.plan, system.jacobian):
            with pytest.raises(ValueError, match=message):
                use(order)
    for search in (-1, -0.5, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="search is a time in seconds, zero or more, got"):
            system.plan(search=search)
    with pytest.raises(ValueError, match="made by hand has its Jacobian as operators, not in the format 'array'"):
        system.jacobian(format="array")


@pytest.mark.parametrize("order", [3, None, 2.5, ...], ids=repr)
def test_what_is_no_order_at_all(order):
    """Neither a name nor a sequence: refused in words."""
    system, _ = operators(0)
    with pytest.raises((TypeError, ValueError), match="order"):
        system.plan(order)


def test_iterators_and_numpy_integers_are_sequences():
    system, _ = operators(0)
    assert system.plan(iter([2, 1, 0])).order[:3] == (2, 1, 0)
    assert all(type(v) is int for v in system.plan(list(np.array([2, 1, 0]))).order)


def test_a_numpy_array_is_a_sequence():
    system, _ = operators(0)
    assert system.plan(np.array([2, 1, 0, 3])).order == (2, 1, 0, 3)


def test_the_printed_table():
    system, _ = operators(0)
    plan = system.plan([1, 0, 2])
    text = str(plan)
    lines = text.splitlines()
    assert lines[0].startswith(
        f"Plan: {len(plan.steps)} nodes to eliminate, {plan.multiplications:,} multiplications, cost "
    )
    for name, total in plan.totals.items():
        assert f"{name} {total:,}" in lines[1]
    head = next(line for line in lines if "in × out" in line)
    assert head.split() == ["step", "node", "name", "in", "×", "out", "space", "mults", "fill", "total"]
    rows = lines[lines.index(head) + 2 :]
    assert [int(row.split()[1]) for row in rows] == [1, 0, 2]
    assert [int(row.split()[-1]) for row in rows] == [step.total for step in plan.steps]
    assert int(rows[-1].split()[-1]) == plan.multiplications
    assert " 4 " in rows[0]  # the space of node 1
    assert max(map(len, lines)) <= 100


def test_a_long_name_keeps_its_file_and_line_and_a_long_space_its_column():
    space = ArraySpace((128, 64, 64, 16), np.dtype("float32"))
    name = "dot_general (/home/somebody/a/long/way/to/project/net.py:1234:56 (layer))"
    M = OperatorMatrix({(0, 0): Identity(space)}, (2, 1), [space] * 2, [space])
    L = OperatorMatrix({(1, 0): Identity(space)}, (2, 2), [space] * 2, [space] * 2, names=[name, "short"])
    S = OperatorMatrix({(0, 1): Identity(space)}, (1, 2), [space], [space] * 2)
    *_, head, line, row = str(System(M, L, S).plan([0])).splitlines()
    assert len(head) == len(line) == len(row) <= 100
    assert "dot_general (net.py:1234:56 (…" in row
    assert "float32[128×64×64×…" in row


def test_a_long_table_shows_both_ends():
    n = 200
    M = OperatorMatrix.from_entries({(0, 0): 2.0}, (n, 1))
    L = OperatorMatrix.from_entries({(i + 1, i): 2.0 for i in range(n - 1)}, (n, n))
    S = OperatorMatrix.from_entries({(0, n - 1): I}, (1, n))
    text = str(System(M, L, S).plan("forward"))
    assert "(139 steps more)" in text
    assert len(text.splitlines()) == 65
    assert "multiplications of other orders: forward 199, reverse 199, markowitz 199" in text


def test_search_is_never_worse_and_zero_is_none():
    r = random.Random(3)
    n = 25
    L = OperatorMatrix.from_entries({(i, j): 1.5 for i in range(n) for j in range(i) if r.random() < 0.15}, (n, n))
    M = OperatorMatrix.from_entries({(i, i % 3): 2.0 for i in range(6)}, (n, 3))
    S = OperatorMatrix.from_entries({(k, n - 1 - k): 1 for k in range(3)}, (3, n))
    system = System(M, L, S)
    none, default, long = system.plan(search=0), system.plan(), system.plan(search=0.2)
    assert none.multiplications <= min(none.totals.values())
    assert default.multiplications <= none.multiplications
    assert long.multiplications <= none.multiplications
    assert system.plan().order == default.order


@pytest.mark.parametrize("seed", range(4))
def test_the_order_alone_is_that_of_the_plan(seed):
    network = operators(seed)[0].network()
    for order in (*ORDERS, list(range(network.nodes))):
        choice, plan = choose_order(network, order, dense=False), make_plan(network, order, dense=False)
        assert (choice.order, choice.method) == (plan.order, plan.method)


def test_a_system_without_nodes_to_eliminate():
    system = System(
        matrix([[3.0]]), OperatorMatrix.from_entries({}, (1, 1)), OperatorMatrix.from_entries({(0, 0): I}, (1, 1))
    )
    for order in (*ORDERS, [], [0]):
        assert system.jacobian(order).entries == {(0, 0): 3.0}
    plan = system.plan()
    assert (plan.multiplications, plan.cost, plan.steps, plan.order) == (0, 0, (), (0,))


def test_of_orders_that_cost_the_same_the_fewest_multiplications_are_taken():
    """A matrix net: products of its factors are kept as factors, so that no order has anything to write between."""
    X, W, Y = np.ones((4, 8)), np.ones((3, 5)), np.ones((3, 8))
    L = matrix([[O, O], [hadamard(Y) @ left_mul(W), O]])
    M = matrix([[hadamard(np.ones((5, 8))) @ right_mul(X), O], [O, hadamard(Y) @ right_mul(np.ones((5, 8)))]])
    system = System(M, L, matrix([[O, tdot(Y)]]))
    costs = {order: system.plan(order).cost for order in ("forward", "reverse")}
    assert costs["forward"] == costs["reverse"] == system.plan().cost
    counts = {order: system.plan(order).multiplications for order in ("forward", "reverse")}
    assert system.plan().multiplications == min(counts.values()) < max(counts.values())
