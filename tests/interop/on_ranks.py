"""Cases for several processes: `mpiexec -n 2 python on_ranks.py whole`, or `spread`; each says that it is content.

A case whose name begins with ``spread`` has its arrays spread over the processes of `jax.distributed`, two devices each.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from petsc4py import PETSc

import backsolve as bs
from backsolve import SparseMatrix
from backsolve.interop import petsc

RANK, SIZE = PETSc.COMM_WORLD.getRank(), PETSc.COMM_WORLD.getSize()
DIRECT = {"ksp_type": "preonly", "pc_type": "redundant"}
EXACT = {"ksp_rtol": 1e-12, "snes_rtol": 1e-12, "snes_atol": 1e-11}
SIDE = 8


def bratu(u, strength=1.0):
    """−∇²u = strength · exp(u) in a square, zero around it."""
    v = jnp.pad(u, 1)
    around = v[2:, 1:-1] + v[:-2, 1:-1] + v[1:-1, 2:] + v[1:-1, :-2]
    return 4 * u - around - strength * jnp.exp(u) / (u.shape[0] + 1) ** 2


def two_species(y):
    """Two substances that react and spread, as a tree of two arrays."""
    u, v = y["u"], y["v"]
    return {"u": bratu(u) + 0.1 * v, "v": bratu(v, 0.5) - 0.2 * u * v - 0.01}


def stencil(x):
    """Shorter rows at both ends."""
    w = jnp.pad(x, 1)
    return w[2:] - 2 * w[1:-1] + w[:-2] * x + jnp.sin(x)


def unequal(x):
    """Half of the rows full, half with one entry: worked out as on one device."""
    half = x.size // 2
    return jnp.concatenate([x[:half] * jnp.sum(x[half:]), x[half:] ** 2])


def start(shape):
    return np.linspace(0.1, 0.9, int(np.prod(shape))).reshape(shape)


def mesh():
    """All devices: a row for each process."""
    return Mesh(np.array(jax.devices()).reshape(SIZE, -1), ("process", "device"))


def spread(array, spec, over=None):
    sharding = NamedSharding(mesh() if over is None else over, spec)
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def rows_of(A):
    """The rows that this process has in PETSc, dense, and their numbers."""
    first, last = A.getOwnershipRange()
    found = np.zeros((last - first, A.getSize()[1]))
    for row in range(first, last):
        cols, numbers = A.getRow(row)
        found[row - first, cols] = numbers
    return np.arange(first, last), found


def assert_rows(A, expected):
    rows, found = rows_of(A)
    np.testing.assert_allclose(found, np.asarray(expected)[rows], atol=1e-14)


def assert_spread_as(found, like, expected):
    """The same sharding, and the expected numbers in each part that is here."""
    assert found.sharding == like.sharding
    assert found.dtype == np.float64
    for shard in found.addressable_shards:
        np.testing.assert_allclose(shard.data, np.asarray(expected)[shard.index], atol=1e-9)


# ---- matrices ---------------------------------------------------------------------------------------------------------
def whole_matrices():
    for f, x in ((stencil, start(33)), (unequal, start(12)), (lambda x: x[1:] * x[:-1], start(9))):
        S = jax.jit(bs.jacobian(f, format="sparse"))(jnp.asarray(x))
        A = petsc.matrix(S)
        assert_rows(A, jax.jacobian(f)(x))
        assert A.getSize() == S.shape
        assert petsc.matrix(3 * S, into=A) is A
        assert_rows(A, 3 * jax.jacobian(f)(x))
        one = petsc.matrix(S, comm=PETSc.COMM_SELF)
        assert one.getOwnershipRange() == (0, S.shape[0])
        assert_rows(one, jax.jacobian(f)(x))


def spread_matrices():
    shift = lambda x: x * jnp.roll(x, 1)  # noqa: E731
    for f, n in ((stencil, 64), (shift, 32), (unequal, 16)):
        x, expected = start(n), jax.jacobian(f)(start(n))
        derivative = jax.jit(bs.jacobian(f, format="sparse"))
        y = spread(x, P(("process", "device")))
        A = petsc.matrix(derivative(y))
        rows, _ = rows_of(A)
        np.testing.assert_array_equal(rows, np.arange(n // SIZE) + RANK * (n // SIZE))
        assert_rows(A, expected)
        assert petsc.matrix(derivative(2 * y), into=A) is A
        assert_rows(A, jax.jacobian(f)(2 * x))
    with_product = jax.jit(lambda x: bs.jacobian(stencil, format="sparse")(x) @ x)(
        spread(start(64), P(("process", "device")))
    )
    A = petsc.matrix(jax.jit(bs.jacobian(stencil, format="sparse"))(spread(start(64), P(("process", "device")))))
    v, w = A.createVecs()
    v.setArray(start(64)[slice(*v.getOwnershipRange())])
    A.mult(v, w)
    first = w.getOwnershipRange()[0]
    for shard in with_product.addressable_shards:
        there = range(*shard.index[0].indices(64))
        np.testing.assert_allclose(w.array_r[there.start - first : there.stop - first], shard.data, atol=1e-14)


def spread_in_another_order():
    """The first rows on the last process."""
    over = Mesh(np.array(jax.devices())[::-1], ("i",))
    y = spread(start(32), P("i"), over)
    A = petsc.matrix(jax.jit(bs.jacobian(stencil, format="sparse"))(y))
    assert_rows(A, jax.jacobian(stencil)(start(32)))
    assert_solves(lambda x: bratu(x), spread(np.zeros((SIDE, SIDE)), P("i"), over))


# ---- equations --------------------------------------------------------------------------------------------------------
def assert_solves(F, x0, options=EXACT):
    """As `backsolve.root` on one device."""
    shapes = jax.tree_util.tree_map(lambda x: np.zeros(x.shape), x0)
    expected = bs.root(F, shapes)
    solver = petsc.snes(F, x0, options=options)
    found = solver.solve()
    assert found.converged
    jax.tree_util.tree_map(assert_spread_as, found.x, x0, expected)
    for leaf in jax.tree_util.tree_leaves(found.value):
        assert all(abs(np.asarray(shard.data)).max() < 1e-9 for shard in leaf.addressable_shards)
    return solver, found


def whole_equations():
    for options in (EXACT, DIRECT | EXACT, EXACT | {"ksp_type": "cg", "pc_type": "gamg"}):
        used = {k: v for k, v in options.items() if not (k == "ksp_rtol" and "redundant" in options.values())}
        solver, _ = assert_solves(bratu, jnp.zeros((SIDE, SIDE)), used)
        assert f"{SIDE**2} equations on {SIZE} processes" in repr(solver)
    assert_solves(two_species, {"u": jnp.zeros((5, 5)), "v": jnp.zeros((5, 5))})


def whole_equations_of_each():
    """Every process its own problem."""
    found = petsc.snes(bratu, np.zeros((5, 5)), 1.0 + RANK, comm=PETSc.COMM_SELF, options=EXACT).solve()
    np.testing.assert_allclose(found.x, bs.root(bratu, np.zeros((5, 5)), 1.0 + RANK), atol=1e-9)


def spread_equations():
    zeros = np.zeros((SIDE, SIDE))
    both = ("process", "device")
    for spec in (P(both), P("process"), P("process", "device"), P(None, both), P("device", "process"), P(), P("device")):
        _, found = assert_solves(bratu, spread(zeros, spec))
        assert sum(found.history["linear iterations"]) > 0
    tree = {"u": spread(zeros, P(both)), "v": spread(zeros, P(both))}
    assert_solves(two_species, tree)
    fields = {"pc_type": "fieldsplit", "fieldsplit_u_pc_type": "jacobi", "fieldsplit_v_pc_type": "bjacobi"}
    assert_solves(two_species, tree, EXACT | fields)
    assert_solves(two_species, {"u": spread(zeros, P(both)), "v": spread(zeros, P())})
    assert_solves(bratu, spread(zeros, P(both)), EXACT | {"ksp_type": "cg", "pc_type": "gamg"})


def spread_without_gathering():
    """What PETSc asks for at every step exchanges borders only."""
    x0 = spread(np.zeros((16, 8)), P(("process", "device")))
    equations = petsc.snes(bratu, x0)._equations
    for program in (equations._residual, equations._numbers):
        text = program.lower([x0], ()).compile().as_text()
        assert "collective-permute" in text
        assert "all-gather" not in text


def spread_steps():
    """Compiled once: other parameters and other starts."""
    traced = []

    def F(u, strength):
        traced.append(1)
        return bratu(u, strength)

    x0 = spread(np.zeros((SIDE, SIDE)), P(("process", "device")))
    solver = petsc.snes(F, x0, 1.0, options=EXACT)
    solver.solve()
    count, x = len(traced), x0
    for strength in (2.0, 3.0, 4.0):
        x = solver.solve(x, strength).x
        assert_spread_as(x, x0, bs.root(bratu, np.zeros((SIDE, SIDE)), strength))
    assert len(traced) == count


def failing(x0):
    """Every process raises, with the reason."""
    solver = petsc.snes(lambda x: x**2 + 1.0, x0, options={"snes_max_it": 5})
    with pytest.raises(bs.ConvergenceError, match="DIVERGED") as raised:
        solver.solve()
    assert len(raised.value.history) > 1


def whole_failing():
    failing(jnp.full(8, 0.7))


def spread_failing():
    failing(spread(np.full(8, 0.7), P(("process", "device"))))
    x0 = spread(start(16), P(("process", "device")))
    S = jax.jit(bs.jacobian(stencil, format="sparse"))(x0)
    match = f"this is number {RANK} of {SIZE}, but in the communicator it is number 0 of 1"
    with pytest.raises(ValueError, match=match):
        petsc.snes(stencil, x0, comm=PETSc.COMM_SELF)
    with pytest.raises(ValueError, match=match):
        petsc.matrix(S, comm=PETSc.COMM_SELF)
    with pytest.raises(ValueError, match="otherwise than at first"):
        petsc.matrix(SparseMatrix(S.pattern, np.ones(S.nnz), S.domain, S.codomain), into=petsc.matrix(S))
    with pytest.raises(TypeError, match="leaf 0 of x0 has dtype float32, but this PETSc computes in float64"):
        petsc.snes(stencil, spread(start(16).astype(np.float32), P("process")))


def main(prefix: str) -> None:
    """All cases whose names begin so."""
    jax.config.update("jax_enable_x64", True)
    if prefix == "spread":
        jax.config.update("jax_num_cpu_devices", 2)
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize()
    for name, case in list(globals().items()):
        if name.startswith(prefix + "_") and callable(case):
            case()
            PETSc.COMM_WORLD.barrier()
    print(f"[{RANK} is content]", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
