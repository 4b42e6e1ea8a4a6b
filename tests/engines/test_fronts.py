"""Multifrontal QR of block matrices against the dense solve, in every array library and under JAX's transformations."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import backsolve.capture  # noqa: F401  (JAX's kernels)
from backsolve.algebra import SingularError
from backsolve.engines.fronts import Block, FrontFactors, FrontPlan

pytestmark = pytest.mark.usefixtures("double_precision")


def full(m, n):
    rows, cols = np.divmod(np.arange(m * n), n)
    return Block(rows, cols)


def diagonal(n):
    return Block(np.arange(n), np.arange(n))


class Case:
    """A block matrix with random numbers: its sizes, blocks and entries, and the dense matrix."""

    def __init__(self, row_sizes, col_sizes, blocks, seed=0, dtype=float):
        self.row_sizes, self.col_sizes, self.blocks = tuple(row_sizes), tuple(col_sizes), dict(blocks)
        self.rng = np.random.default_rng(seed)
        self.data = {place: self.numbers(len(block.rows), dtype=dtype) for place, block in self.blocks.items()}
        self.n = sum(row_sizes)

    def numbers(self, *shape, dtype=float):
        x = self.rng.standard_normal(shape)
        return (x + 1j * self.rng.standard_normal(shape) if np.dtype(dtype).kind == "c" else x).astype(dtype)

    @classmethod
    def dense_blocks(cls, row_sizes, col_sizes, places, **options):
        return cls(row_sizes, col_sizes, {(i, j): full(row_sizes[i], col_sizes[j]) for i, j in places}, **options)

    def plan(self, **options):
        return FrontPlan(self.row_sizes, self.col_sizes, self.blocks, **options)

    def dense(self, data=None):
        data = self.data if data is None else data
        down, right = (np.cumsum([0, *sizes]) for sizes in (self.row_sizes, self.col_sizes))
        A = np.zeros((self.n, self.n), np.result_type(*data.values()))
        for (i, j), block in self.blocks.items():
            A[down[i] + block.rows, right[j] + block.cols] = data[i, j]
        return A

    def check(self, plan=None, tolerance=1e-11):
        """Both solves have a residual of rounding size, whatever the condition is."""
        factors = (self.plan() if plan is None else plan).factor(self.data)
        A = self.dense()
        for solve, matrix in ((factors.solve, A), (factors.solve_transpose, A.T)):
            for shape in ((self.n,), (self.n, 3)):
                b = self.numbers(*shape, dtype=A.dtype)
                x = solve(b)
                assert x.shape == b.shape
                assert x.dtype == b.dtype
                scale = np.linalg.norm(A) * np.linalg.norm(x) + np.linalg.norm(b)
                assert np.linalg.norm(matrix @ x - b) <= tolerance * scale
        if np.linalg.cond(A) < 1e3:
            b = self.numbers(self.n, dtype=A.dtype)
            np.testing.assert_allclose(factors.solve(b), np.linalg.solve(A, b), rtol=1e6 * tolerance, atol=1e3 * tolerance)


def chain(count, size=3, **options):
    places = [(i, j) for i in range(count) for j in (i - 1, i, i + 1) if 0 <= j < count]
    return Case.dense_blocks((size,) * count, (size,) * count, places, **options)


def arrow(count, size=2, head=3, **options):
    sizes = (*(size,) * count, head)
    places = [(k, k) for k in range(count + 1)] + [p for k in range(count) for p in ((k, count), (count, k))]
    return Case.dense_blocks(sizes, sizes, places, **options)


def saddle(count=5, size=4, constraints=2, **options):
    """[[H, Bᵀ], [B, 0]] with block diagonal H and a zero block in place of every diagonal block of the multipliers."""
    sizes = (*(size,) * count, *(constraints,) * count)
    places = [(k, k) for k in range(count)]
    for k in range(count):
        for j in {k, (k + 1) % count}:
            places += [(count + k, j), (j, count + k)]
    return Case.dense_blocks(sizes, sizes, places, **options)


def permuted_triangular(count=12, seed=3):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 5, count)
    down, right = rng.permutation(count), rng.permutation(count)
    row_sizes, col_sizes = np.empty(count, int), np.empty(count, int)
    row_sizes[down], col_sizes[right] = sizes, sizes
    places = [(down[i], right[j]) for i in range(count) for j in range(i + 1) if i == j or rng.random() < 0.3]
    return Case.dense_blocks(row_sizes.tolist(), col_sizes.tolist(), [(int(i), int(j)) for i, j in places])


def knots(count, **options):
    """As of optimal control: a chain with one unknown in every block row and one block row with every unknown."""
    case = chain(count, **options)
    size = case.col_sizes[0]
    places = [*case.blocks, *((k, count) for k in range(count + 1)), *((count, k) for k in range(count))]
    return Case.dense_blocks((size,) * count + (1,), (size,) * count + (1,), places, **options)


def grid(side, size=2):
    number = {(x, y): x * side + y for x in range(side) for y in range(side)}
    places = [
        (k, number[x + a, y + b])
        for (x, y), k in number.items()
        for a, b in ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1))
        if (x + a, y + b) in number
    ]
    return Case.dense_blocks((size,) * side**2, (size,) * side**2, places)


CASES = {
    "one block": lambda: Case.dense_blocks((4,), (4,), [(0, 0)]),
    "one number": lambda: Case.dense_blocks((1,), (1,), [(0, 0)]),
    "chain": lambda: chain(20),
    "chain of wide blocks": lambda: chain(9, 30),
    "arrow": lambda: arrow(15),
    "long rows": lambda: arrow(200, 3, 2),
    "long rows in a chain": lambda: knots(150),
    "saddle point": saddle,
    "permuted triangle": permuted_triangular,
    "grid": lambda: grid(8),
    "rows and columns cut differently": lambda: Case.dense_blocks(
        (2, 3, 4, 1), (4, 1, 3, 2), [(0, 0), (0, 1), (0, 3), (1, 2), (2, 0), (2, 1), (3, 1), (3, 2)]
    ),
    "empty blocks": lambda: Case.dense_blocks((2, 0, 3), (0, 3, 2), [(0, 1), (0, 2), (2, 1), (2, 2), (1, 1), (0, 0)]),
    "diagonal blocks": lambda: Case(
        (3, 3), (3, 3), {(0, 0): diagonal(3), (0, 1): diagonal(3), (1, 0): full(3, 3), (1, 1): diagonal(3)}
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_solves(name):
    CASES[name]().check()


@pytest.mark.parametrize("order", [range(12), range(11, -1, -1), np.random.default_rng(0).permutation(12).tolist()])
def test_any_order_solves(order):
    case = chain(12)
    case.check(case.plan(order=order))


@st.composite
def block_matrices(draw):
    count = draw(st.integers(1, 9))
    sizes = draw(st.lists(st.integers(1, 4), min_size=count, max_size=count))
    place = st.integers(0, count - 1)
    places = set(draw(st.lists(st.tuples(place, place), max_size=3 * count)))
    right = draw(st.permutations(range(count)))
    col_sizes = [0] * count
    for k, j in enumerate(right):
        col_sizes[j] = sizes[k]
    dtype = draw(st.sampled_from([float, complex]))
    order = draw(st.one_of(st.none(), st.permutations(range(count))))
    places = sorted(places | set(enumerate(right)))
    return Case.dense_blocks(sizes, col_sizes, places, seed=draw(st.integers(0, 99)), dtype=dtype), order


@given(block_matrices())
def test_random_patterns(drawn):
    case, order = drawn
    case.check(case.plan(order=order))


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (np.complex64, 1e-5), (np.complex128, 1e-12)])
@pytest.mark.parametrize("build", [chain, arrow, saddle, knots])
def test_dtypes(build, dtype, tolerance):
    build(12, dtype=dtype).check(tolerance=tolerance)


def test_a_complex_right_hand_side_of_a_real_matrix():
    case = chain(6)
    b = case.numbers(case.n, dtype=complex)
    factors = case.plan().factor(case.data)
    np.testing.assert_allclose(factors.solve(b), np.linalg.solve(case.dense(), b), rtol=1e-9)
    np.testing.assert_allclose(factors.solve_transpose(b), np.linalg.solve(case.dense().T, b), rtol=1e-9)


def test_stable_where_block_elimination_is_not():
    case = chain(10, 2)
    for k in range(10):
        case.data[k, k] *= 1e-14  # as a pivot it would cost all digits
    case.check(tolerance=1e-14)


@pytest.mark.parametrize("name", ["chain", "saddle point", "long rows", "grid"])
def test_under_jit_and_vmap(name):
    case = CASES[name]()
    plan = case.plan()
    data = {place: jnp.asarray(case.numbers(4, x.size)) for place, x in case.data.items()}
    b = case.numbers(4, case.n)

    @jax.jit
    @jax.vmap
    def both(data, b):
        factors = plan.factor(data)
        again = FrontFactors(plan, jax.tree.leaves(factors.arrays))
        return again.solve(b), again.solve_transpose(b)

    found = both(data, jnp.asarray(b))
    for k in range(4):
        A = case.dense({place: np.asarray(x[k]) for place, x in data.items()})
        for x, matrix in zip(found, (A, A.T), strict=True):
            residual = np.linalg.norm(matrix @ np.asarray(x[k]) - b[k])
            assert residual <= 1e-13 * (np.linalg.norm(A) * np.linalg.norm(x[k]) + np.linalg.norm(b[k]))


def test_differentiable_where_every_front_is_square():
    case = Case.dense_blocks((3, 2), (3, 2), [(0, 0), (1, 0), (1, 1)])
    plan = case.plan(order=(1, 0))
    b = case.numbers(5)

    def loss(data):
        return jnp.sum(plan.factor(data).solve(jnp.asarray(b)) ** 2)

    data = {place: jnp.asarray(x) for place, x in case.data.items()}
    slope = jax.grad(loss)(data)
    step = {place: case.numbers(x.size) for place, x in case.data.items()}
    h = 1e-6
    ahead, behind = (float(loss({p: data[p] + s * h * step[p] for p in data})) for s in (1, -1))
    expected = sum(float(jnp.vdot(slope[p], step[p])) for p in data)
    assert (ahead - behind) / (2 * h) == pytest.approx(expected, rel=1e-6)


def test_torch_tensors():
    torch = pytest.importorskip("torch")
    case = knots(20)
    factors = case.plan().factor({place: torch.asarray(x) for place, x in case.data.items()})
    b = case.numbers(case.n)
    for solve, A in ((factors.solve, case.dense()), (factors.solve_transpose, case.dense().T)):
        x = solve(torch.asarray(b))
        assert isinstance(x, torch.Tensor)
        assert np.linalg.norm(A @ x.numpy() - b) < 1e-12 * np.linalg.norm(A) * np.linalg.norm(x.numpy())


def test_a_singular_structure_names_a_block_column():
    names = ["dx", "du", "dp"]
    places = [(0, 0), (1, 0), (2, 0), (2, 1), (2, 2)]  # du and dp have 2 rows for 4 columns
    with pytest.raises(SingularError, match=r"d[up] and the columns that share its rows.*2 too many"):
        Case.dense_blocks((2, 2, 2), (2, 2, 2), places).plan(label=names.__getitem__)


def test_a_block_whose_entries_leave_a_column_out_is_singular():
    blocks = {(0, 0): full(2, 2), (1, 1): Block(np.array([0, 1]), np.array([0, 0]))}
    with pytest.raises(SingularError, match="block column 1 "):
        Case((2, 2), (2, 2), blocks).plan()


def test_numbers_that_make_it_singular_name_the_block_column():
    case = Case.dense_blocks((2, 2), (2, 2), [(0, 0), (1, 1)])
    case.data[1, 1][:] = 0
    with pytest.raises(SingularError, match=r"a pivot of block column 1 is 0"):
        case.plan().factor(case.data)


def test_wrong_input():
    with pytest.raises(ValueError, match="2 × 3"):
        FrontPlan((2,), (3,), {(0, 0): full(2, 3)})
    with pytest.raises(ValueError, match="0 × 0"):
        FrontPlan((), (), {})
    with pytest.raises(ValueError, match=r"block \(0, 1\) is outside 1 × 1"):
        FrontPlan((2,), (2,), {(0, 1): full(2, 2)})
    with pytest.raises(ValueError, match="has 2 columns, and entries at 0 … 2"):
        FrontPlan((2,), (2,), {(0, 0): full(2, 3)})
    with pytest.raises(ValueError, match="each of the 1 block columns once"):
        FrontPlan((2,), (2,), {(0, 0): full(2, 2)}, order=(0, 0))
    case = chain(3)
    with pytest.raises(ValueError, match=r"shape \(9,\) or \(9, k\), not \(8,\)"):
        case.plan().factor(case.data).solve(np.zeros(8))


def test_long_chains_and_arrows_are_planned_linearly():
    for build in (lambda n: chain(n, 1), lambda n: arrow(n, 1, 1)):
        flops = [build(count).plan().flops for count in (500, 2000)]
        assert flops[1] < 6 * flops[0]


def test_a_chain_of_2000_blocks_without_recursion_in_few_batches():
    case = chain(2000, 2)
    plan = case.plan()
    assert len(plan.batches) < 40
    x = case.numbers(case.n)
    down, b = np.cumsum([0, *case.row_sizes]), np.zeros(case.n)
    for (i, j), block in case.blocks.items():
        np.add.at(b, down[i] + block.rows, case.data[i, j] * x[down[j] + block.cols])
    found = plan.factor(case.data).solve(b)
    assert np.linalg.norm(found - x) < 1e-6 * np.linalg.norm(x)


def test_plans_are_deterministic_and_count_bytes():
    first, second = (grid(6).plan() for _ in range(2))
    assert first.fronts == second.fronts
    assert [batch.fronts for batch in first.batches] == [batch.fronts for batch in second.batches]
    assert math.isfinite(first.flops)
    factors = first.factor(grid(6).data)
    assert first.nbytes == sum(x.nbytes for x in factors.arrays)
