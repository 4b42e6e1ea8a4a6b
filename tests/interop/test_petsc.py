"""PETSc with our matrices and equations: on one process against JAX and `root`; on two (`on_ranks.py`); the example."""

import gc
import os
import re
import shutil
import subprocess
import sys
import weakref
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import backsolve as bs
from backsolve import SparseMatrix
from backsolve.interop import petsc

pytest.importorskip("petsc4py", reason="PETSc is not installed; make petsc compiles it, once")
from petsc4py import PETSc

pytestmark = pytest.mark.usefixtures("double_precision")

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
EXACT = {"ksp_rtol": 1e-12, "snes_rtol": 1e-12, "snes_atol": 1e-11}


def bratu(u, strength=1.0):
    """−∇²u = strength · exp(u) in a square or cube, zero around it."""
    v, inner = jnp.pad(u, 1), slice(1, -1)
    around = 0.0
    for axis in range(u.ndim):
        for side in (slice(2, None), slice(None, -2)):
            around += v[(*[inner] * axis, side, *[inner] * (u.ndim - axis - 1))]
    return 2 * u.ndim * u - around - strength * jnp.exp(u) / (u.shape[0] + 1) ** 2


def dense(A):
    return A.convert("dense", PETSc.Mat()).getDenseArray().copy()


def stencil(x):
    w = jnp.pad(x, 1)
    return w[2:] - 2 * w[1:-1] + w[:-2] * x + jnp.sin(x)


# ---- matrices ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("f", [stencil, lambda x: x[1:] * x[:-1], lambda x: jnp.cumsum(x) ** 2, lambda x: 0 * x[:2]])
def test_a_matrix_has_the_numbers_of_ours(f):
    x = jnp.linspace(0.1, 0.9, 9)
    for derivative in (bs.jacobian(f, format="sparse"), jax.jit(bs.jacobian(f, format="sparse"))):
        S = derivative(x)
        A = petsc.matrix(S)
        np.testing.assert_array_equal(dense(A), S.todense())
        np.testing.assert_allclose(dense(A), jax.jacobian(f)(x), atol=1e-15)
        assert petsc.matrix(derivative(2 * x), into=A) is A
        np.testing.assert_allclose(dense(A), jax.jacobian(f)(2 * x), atol=1e-15)


def test_numbers_of_numpy_and_explicit_zeros():
    S = SparseMatrix.from_entries([0, 2, 0], [1, 2, 0], np.array([2.0, 0.0, 3.0]), (3, 4))
    A = petsc.matrix(S)
    np.testing.assert_array_equal(dense(A), S.todense())
    assert A.getInfo()["nz_used"] == 3
    assert A.getType() == "seqaij"


@pytest.mark.filterwarnings("ignore:the Jacobian is dense")
def test_what_is_no_matrix_for_petsc():
    S = SparseMatrix.from_entries([0, 1], [0, 1], np.ones(2), (2, 2))
    with pytest.raises(TypeError, match=r"takes a SparseMatrix, got .*format='sparse'"):
        petsc.matrix(np.eye(2))
    with pytest.raises(
        TypeError, match=r"the matrix has dtype float32, but this PETSc computes in float64.*astype\(numpy.float64"
    ):
        petsc.matrix(S.astype(np.float32))
    with pytest.raises(TypeError, match="the matrix has dtype complex128, but this PETSc computes in float64"):
        petsc.matrix(1j * S)
    with pytest.raises(TypeError, match="the matrix is traced"):
        jax.jit(lambda x: petsc.matrix(bs.jacobian(stencil, format="sparse")(x)))(jnp.ones(3))
    with pytest.raises(TypeError, match=r"shape \(2, 3\), of a batch"):
        petsc.matrix(jax.vmap(bs.jacobian(jnp.sin, format="sparse"))(jnp.ones((2, 3))))
    A = petsc.matrix(S)
    with pytest.raises(ValueError, match=r"made for 2 entries, shape \(2, 2\), but these are 1, shape \(2, 2\)"):
        petsc.matrix(SparseMatrix.from_entries([0], [1], np.ones(1), (2, 2)), into=A)
    with pytest.raises(
        ValueError, match=r"made for 2 entries, shape \(2, 2\), but these are 2, shape \(2, 2\), or lie elsewhere"
    ):
        petsc.matrix(SparseMatrix.from_entries([0, 1], [1, 1], np.ones(2), (2, 2)), into=A)
    np.testing.assert_array_equal(dense(A), np.eye(2))
    for other in (np.eye(2), PETSc.Mat().createAIJ((2, 2))):
        with pytest.raises(TypeError, match=r"into must be a matrix that petsc.matrix has made"):
            petsc.matrix(S, into=other)


# ---- equations --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("shape", [(12, 12), (6, 6, 6)])
@pytest.mark.parametrize(
    "options",
    [{}, {"ksp_type": "preonly", "pc_type": "lu"}, {"ksp_type": "cg", "pc_type": "gamg"}, {"snes_mf_operator": None}],
)
def test_bratu_s_equation_is_solved_as_by_root(shape, options):
    exact = {k: v for k, v in EXACT.items() if not (k == "ksp_rtol" and "preonly" in options.values())}
    solver = petsc.snes(bratu, jnp.zeros(shape), 2.0, options=options | exact)
    found = solver.solve()
    np.testing.assert_allclose(found.x, bs.root(bratu, jnp.zeros(shape), 2.0), atol=1e-9)
    np.testing.assert_allclose(found.value, bratu(found.x, 2.0), atol=1e-15)
    assert isinstance(found.x, jax.Array)
    assert found.converged
    assert found.history["‖F‖"][0] > 1e3 * found.history["‖F‖"][-1]
    assert found.steps == solver.snes.getIterationNumber()
    assert sum(found.history["linear iterations"]) == solver.snes.getLinearSolveIterations()
    assert repr(solver) == f"Solver of {found.x.size} equations: newtonls, seqaij"


def test_numbers_of_the_jacobian_are_those_of_jax():
    x0 = jnp.linspace(0.0, 1.0, 16).reshape(4, 4)
    A = petsc.snes(bratu, x0).snes.getJacobian()[0]
    np.testing.assert_allclose(dense(A), jax.jacobian(bratu)(x0).reshape(16, 16), atol=1e-14)


def species(y, rate):
    u, v = y["u"], y["v"]
    return {"first": bratu(u) + rate * v, "second": (bratu(v, 0.5) - 0.2 * u * v).reshape(-1)}


@pytest.mark.parametrize(
    "options",
    [{"pc_type": "lu"}, {"pc_type": "fieldsplit", "fieldsplit_u_pc_type": "jacobi", "fieldsplit_v_pc_type": "ilu"}],
)
def test_trees_and_fields(options):
    """F returns other shapes than x has, of as many numbers."""
    x0 = {"u": jnp.zeros((4, 4)), "v": jnp.ones((4, 4))}
    found = petsc.snes(species, x0, 0.3, options=options | EXACT).solve()
    expected = bs.root(species, x0, 0.3)
    jax.tree_util.tree_map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-9), found.x, expected)
    assert found.value["second"].shape == (16,)


def test_two_components_in_the_last_axis():
    def F(y):
        return jnp.stack([bratu(y[..., 0]) + y[..., 1], bratu(y[..., 1], 0.5) - 0.1], axis=-1)

    options = {"pc_type": "fieldsplit", "pc_fieldsplit_block_size": 2, "fieldsplit_0_pc_type": "jacobi"}
    found = petsc.snes(F, jnp.zeros((4, 4, 2)), options=options | EXACT).solve()
    np.testing.assert_allclose(found.x, bs.root(F, jnp.zeros((4, 4, 2))), atol=1e-9)


def test_a_diagonal_that_is_not_in_the_pattern():
    """A saddle point: PETSc's factors want every entry of the diagonal to be there."""

    def F(x):
        return jnp.array([x[0] - 1.0 + x[2], 2 * x[1] - 2.0 + x[2], x[0] + x[1] - 1.0])

    for options in ({"pc_type": "lu"}, {"pc_type": "none"}):
        found = petsc.snes(F, jnp.zeros(3), options=options).solve()
        np.testing.assert_allclose(found.x, [1 / 3, 2 / 3, 2 / 3], atol=1e-8)


def test_petsc4py_s_own_object_solves_too():
    solver = petsc.snes(lambda x, a: x**2 - a, jnp.ones(5), 4.0, options=EXACT)
    x = solver.snes.getFunction()[0].duplicate()
    x.set(1.0)
    solver.snes.solve(None, x)
    np.testing.assert_allclose(x.array_r, 2.0, rtol=1e-7)


def test_traced_and_compiled_once():
    traced = []

    def F(x, p):
        traced.append(1)
        return x**3 + p["a"] * jnp.roll(x, 1) - p["b"]

    solver = petsc.snes(F, np.ones(4), {"a": 1.0, "b": 10.0}, options=EXACT)
    solver.solve()
    count = len(traced)
    for a, b, x in ((2.0, 12.0, 2.0), (0.5, 28.5, 3.0)):
        found = solver.solve(np.full(4, 1.5), {"a": a, "b": b})
        np.testing.assert_allclose(found.x, np.full(4, x), rtol=1e-9)
    again = solver.solve()
    np.testing.assert_allclose(again.x, np.full(4, 2.0), rtol=1e-9)
    assert len(traced) == count


def test_double_precision_where_jax_has_none():
    with jax.enable_x64(False):
        found = petsc.snes(lambda x: x**2 - 2.0, np.ones(3), options=EXACT).solve()
        assert found.x.dtype == np.float64
        np.testing.assert_allclose(np.asarray(found.x), np.sqrt(2.0), rtol=1e-11)


def test_a_solution_has_memory_of_its_own():
    solver = petsc.snes(lambda x, a: x**2 - a, np.ones(64), 4.0)
    first = solver.solve()
    kept = np.array(first.x)
    solver.solve(np.ones(64), 9.0)
    np.testing.assert_array_equal(first.x, kept)


def test_options_are_those_of_this_solver_and_those_there_already_go_before():
    database = PETSc.Options()
    petsc.snes(bratu, jnp.zeros((4, 4)), options={"ksp_type": "cg"}).solve()
    assert not database.hasName("ksp_type")
    database["ksp_type"] = "bcgs"
    try:
        solver = petsc.snes(bratu, jnp.zeros((4, 4)), options={"ksp_type": "cg"})
        assert solver.snes.getKSP().getType() == "bcgs"
    finally:
        database.delValue("ksp_type")
    database["flow_snes_type"] = "newtontr"
    try:
        assert petsc.snes(bratu, jnp.zeros((4, 4)), prefix="flow_").snes.getType() == "newtontr"
    finally:
        database.delValue("flow_snes_type")
    with pytest.warns(UserWarning, match="PETSc has not read these options: pc_typ$"):
        petsc.snes(bratu, jnp.zeros((4, 4)), options={"pc_typ": "lu"}).solve()


def test_a_solver_that_is_dropped_is_freed():
    solver = petsc.snes(bratu, jnp.zeros((4, 4)))
    solver.solve()
    gone = weakref.ref(solver)
    equations = weakref.ref(solver._equations)
    del solver
    gc.collect()
    assert gone() is None
    assert equations() is None


# ---- where there is no solution -----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("F", "x0", "options", "told"),
    [
        (lambda x: x**2 + 1.0, 0.7, {"snes_max_it": 3}, r"DIVERGED_(MAX_IT: it took more steps|LINE_SEARCH: no step)"),
        (lambda x: jnp.exp(x), 0.0, {"snes_max_it": 4}, r"after 4 steps, DIVERGED_MAX_IT: .*-snes_max_it"),
        (lambda x: jnp.log(x - 2.0), 1.0, {}, r"DIVERGED_F\w*NAN\w*: F is NaN or infinite at a point"),
        (
            lambda x: x[::-1] + x - jnp.arange(4.0),
            1.0,
            {"pc_type": "lu", "ksp_type": "preonly"},
            r"DIVERGED_LINEAR_SOLVE: the linear solver failed \(preonly with lu: DIVERGED_PCSETUP_FAILED\): .*zero pivot",
        ),
        (
            stencil,
            1.0,
            {"ksp_max_it": 1, "pc_type": "none"},
            r"\(gmres with none: DIVERGED_MAX_IT\): it took more iter",
        ),
    ],
)
def test_the_reason_is_told(F, x0, options, told):
    solver = petsc.snes(F, jnp.full(4, x0), options=options)
    with pytest.raises(bs.ConvergenceError, match=told) as raised:
        solver.solve()
    assert raised.value.history.columns == ("‖F‖", "linear iterations")


def test_what_F_raises_is_raised():
    def broken(x):
        raise RuntimeError("of F")

    with pytest.raises(RuntimeError, match="of F"):
        petsc.snes(broken, jnp.ones(2))
    later = []

    def look(x):
        if later:
            raise RuntimeError("of F, later")

    def F(x):
        jax.debug.callback(look, x)
        return x**2 - 2.0

    solver = petsc.snes(F, jnp.ones(2))
    later.append(1)
    with pytest.raises(Exception, match="of F, later"):
        solver.solve()


@pytest.mark.parametrize(
    ("call", "error", "told"),
    [
        (lambda: petsc.snes(3, jnp.ones(2)), TypeError, "takes a function of JAX arrays, got 3"),
        (lambda: petsc.snes(jnp.sin, jnp.ones(2, jnp.float32)), TypeError, "leaf 0 of x0 has dtype float32, but this PETSc"),
        (lambda: petsc.snes(jnp.sin, jnp.ones(2, complex)), TypeError, "leaf 0 of x0 has dtype complex128"),
        (
            lambda: petsc.snes(jnp.sin, np.arange(3)),
            TypeError,
            "leaf 0 of x0 has dtype int64; the unknowns must be floating",
        ),
        (lambda: petsc.snes(lambda x: x[1:], jnp.ones(3)), ValueError, "the Jacobian has 2 rows and 3 columns"),
        (lambda: petsc.snes(lambda x: 1j * x, jnp.ones(3)), TypeError, "F has complex values"),
        (
            lambda: jax.jit(lambda x: petsc.snes(jnp.sin, x).solve().x)(jnp.ones(3)),
            TypeError,
            "under jit take backsolve.root",
        ),
        (
            lambda: petsc.snes(jnp.sin, jnp.ones(3)).solve(jnp.ones(4)),
            ValueError,
            r"shape \(4,\), but the first one had \(3,\)",
        ),
        (lambda: petsc.snes(jnp.sin, jnp.ones(3)).solve([jnp.ones(3)]), TypeError, "x0 has the structure"),
        (
            lambda: petsc.snes(jnp.sin, jnp.ones(3)).solve(np.ones(3, np.float32)),
            TypeError,
            "leaf 0 of x0 has dtype float32",
        ),
        (
            lambda: petsc.snes(jnp.multiply, jnp.ones(3), 2.0).solve(None, jnp.ones(3)),
            ValueError,
            "args must have the structure",
        ),
    ],
)
def test_wrong_inputs(call, error, told):
    with pytest.raises(error, match=told):
        call()


def test_without_petsc(monkeypatch):
    monkeypatch.setitem(sys.modules, "petsc4py.PETSc", None)
    with pytest.raises(ImportError, match=r"needs petsc4py, PETSc and an MPI: pip install 'backsolve\[petsc\]'"):
        petsc.snes(jnp.sin, jnp.ones(2))


# ---- several processes ------------------------------------------------------------------------------------------------
def on_processes(count, *command):
    mpiexec = shutil.which("mpiexec.openmpi") or shutil.which("mpiexec")
    if mpiexec is None:
        pytest.skip("no mpiexec here; Debian's package openmpi-bin brings one")
    more = {"JAX_PLATFORMS": "cpu", "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    more |= {"OMPI_MCA_rmaps_base_oversubscribe": "1", "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe"}
    environment = os.environ | more
    done = subprocess.run(
        [mpiexec, "-n", str(count), sys.executable, *map(str, command)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-8000:]
    return done.stdout


@pytest.mark.parametrize("prefix", ["whole", "spread"])
def test_on_two_processes(prefix):
    told = on_processes(2, HERE / "on_ranks.py", prefix)
    assert sorted(re.findall(r"\[(\d+) is content\]", told)) == ["0", "1"], told


@pytest.mark.parametrize("count", [1, 2])
def test_the_page(count, tmp_path):
    """The programs of docs/petsc.md, one after the other."""
    text = (ROOT / "docs" / "petsc.md").read_text(encoding="utf-8")
    script = tmp_path / "page.py"
    script.write_text("\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL)), encoding="utf-8")
    told = on_processes(count, script)
    assert told.count("snes: converged in") == 2


@pytest.mark.parametrize("count", [1, 2, 4])
def test_the_example(count, tmp_path):
    picture = tmp_path / "b.png"
    told = on_processes(count, ROOT / "examples" / "bratu.py", "--small", "-o", picture, "-snes_rtol", "1e-10")
    assert f"12³ = 1,728 unknowns on {count} processes:" in told
    assert re.search(r"step +‖F‖ +linear iterations\n +0 +", told)
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    (highest,) = re.findall(r"highest temperature (\S+)", told)
    expected = bs.root(lambda u: bratu(u, 6.0), jnp.zeros((12, 12, 12))).max()
    assert float(highest) == pytest.approx(float(expected), abs=2e-6)
