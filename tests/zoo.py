"""One operator of every kind, on small arrays, with the dense array it must be: shared by several test files."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from backsolve import I, LinearOperator, O, hadamard, kron, left_mul, linear_map, right_mul, tdot
from backsolve.operators import ArraySpace, Identity, Scaling, Zero, einsum
from backsolve.operators.einsum import quotient


class Minimal(LinearOperator):
    """A user's operator with the four methods of the contract and nothing else: x ↦ A x."""

    def __init__(self, A: Any) -> None:
        self.A = A

    @property
    def domain(self):
        return ArraySpace((self.A.shape[1],))

    @property
    def codomain(self):
        return ArraySpace((self.A.shape[0],))

    def apply(self, x):
        return self.A @ x

    def transpose(self):
        return Minimal(self.A.T)


@dataclass(frozen=True)
class Case:
    """An operator, the shape it acts on, and its dense form, built without the library."""

    op: LinearOperator
    domain: tuple[int, ...]
    dense: np.ndarray

    @property
    def codomain(self) -> tuple[int, ...]:
        return self.dense.shape[: self.dense.ndim - len(self.domain)]


def _eye(*shape: int) -> np.ndarray:
    n = int(np.prod(shape))
    return np.eye(n).reshape(shape + shape)


def zoo(seed: int = 0, *, complex_values: bool = False) -> dict[str, Case]:
    """Every kind of operator, by name; the dense forms come from np.einsum and np.eye alone."""
    rng = np.random.default_rng(seed)

    def a(*shape: int) -> np.ndarray:
        x = rng.standard_normal(shape)
        return x + 1j * rng.standard_normal(shape) if complex_values else x

    B, R, M, G, A, S, P, u, v, t = a(2, 3), a(4, 2), a(3, 4), a(3, 4), a(5, 4), a(3, 3), a(6, 3), a(3), a(4), a(3, 4, 4)
    d2, d3, d4 = np.eye(2), np.eye(3), np.eye(4)
    U, V = a(3, 1), a(1, 3)
    c = 0.5 + 2j if complex_values else -1.5
    space = ArraySpace((3, 4))
    return {
        "identity": Case(I, (3, 4), _eye(3, 4)),
        "identity of a space": Case(Identity(space), (3, 4), _eye(3, 4)),
        "zero": Case(Zero(space, ArraySpace((2,))), (3, 4), np.zeros((2, 3, 4))),
        "scaling": Case(Scaling(c, space), (3, 4), c * _eye(3, 4)),
        "scaling of any space": Case(c * I, (3, 4), c * _eye(3, 4)),
        "left_mul": Case(left_mul(B), (3, 4), np.einsum("ik,jl->ijkl", B, d4)),
        "right_mul": Case(right_mul(R), (3, 4), np.einsum("lj,ik->ijkl", R, d3)),
        "hadamard": Case(hadamard(M), (3, 4), np.einsum("ij,ik,jl->ijkl", M, d3, d4)),
        "quotient": Case(quotient(M + 4, c), (3, 4), np.einsum("ij,ik,jl->ijkl", c / (M + 4), d3, d4)),
        "hadamard of a vector": Case(hadamard(u), (3,), np.diag(u)),
        "hadamard of a scalar": Case(hadamard(np.array(2.0)), (), np.array(2.0)),
        "kron": Case(kron(A, B), (3, 4), np.einsum("jl,ik->ijkl", A, B)),
        "tdot": Case(tdot(G), (3, 4), G),
        "tdot transposed": Case(tdot(G).T, (), G),
        "transpose": Case(einsum("ji", "ij"), (3, 4), np.einsum("ik,jl->jikl", d3, d4)),
        "sum": Case(einsum("j", "ij"), (3, 4), np.einsum("jl,k->jkl", d4, np.ones(3))),
        "sum of all": Case(einsum("", "ij"), (3, 4), np.ones((3, 4))),
        "broadcast": Case(einsum("ij", "j", sizes={"i": 5}), (4,), np.einsum("i,jl->ijl", np.ones(5), d4)),
        "trace": Case(einsum("", "ii"), (3, 3), np.eye(3)),
        "diagonal of": Case(einsum("i", "ii"), (3, 3), np.einsum("ik,il->ikl", d3, d3)),
        "diagonal from": Case(einsum("ii", "i"), (3,), np.einsum("ik,jk->ijk", d3, d3)),
        "weighted diagonal": Case(einsum("ii", "i", (u, "i")), (3,), np.einsum("i,ik,jk->ijk", u, d3, d3)),
        "block diagonal": Case(einsum("bi", "bj", (t, "bij")), (3, 4), np.einsum("bij,bc->bicj", t, d3)),
        "batched": Case(einsum("bik", "bjk", (S, "ij")), (2, 3, 2), np.einsum("ij,bc,kl->bikcjl", S, d2, d2)),
        "low rank": Case(einsum("i", "j", (U, "ir"), (V, "rj")), (3,), U @ V),
        "rank one": Case(einsum("i", "j", (u, "i"), (v, "j")), (4,), np.outer(u, v)),
        "inner sum": Case(einsum("i", "i", (M, "ij")), (3,), np.diag(M.sum(axis=1))),
        "net edge": Case(hadamard(M) @ left_mul(S), (3, 4), np.einsum("ij,ik,jl->ijkl", M, S, d4)),
        "minus": Case(-left_mul(B), (3, 4), -np.einsum("ik,jl->ijkl", B, d4)),
        "linear map": Case(linear_map(lambda x: P @ x, lambda y: P.T @ y, (3,), (6,)), (3,), P),
        "user's own": Case(Minimal(P), (3,), P),
        "lazy product": Case(hadamard(a(6) * 0 + 2.0) @ Minimal(P), (3,), 2.0 * P),
        "lazy sum": Case(Minimal(S) + hadamard(u) + I, (3,), S + np.diag(u) + d3),
        "lazy difference": Case(left_mul(S) - right_mul(d4 + 1) + I, (3, 4), _lazy_difference(S, d3, d4)),
        "zero, of the sum with O": Case(hadamard(M) + O, (3, 4), np.einsum("ij,ik,jl->ijkl", M, d3, d4)),
    }


def _lazy_difference(S: np.ndarray, d3: np.ndarray, d4: np.ndarray) -> np.ndarray:
    return np.einsum("ik,jl->ijkl", S, d4) - np.einsum("lj,ik->ijkl", d4 + 1, d3) + _eye(3, 4)


NAMES = tuple(zoo())


def act(dense: np.ndarray, x: Any) -> np.ndarray:
    """A dense form times an array."""
    return np.tensordot(dense, x, axes=np.ndim(x))


def turned(case: Case) -> np.ndarray:
    """The dense form of the transpose."""
    m, n = len(case.codomain), len(case.domain)
    return np.transpose(case.dense, (*range(m, m + n), *range(m)))


def product(a: Case, b: Case) -> np.ndarray:
    """The dense form of a ∘ b."""
    return np.tensordot(a.dense, b.dense, axes=len(a.domain))


def random(shape: tuple[int, ...], seed: int = 1, *, complex_values: bool = False) -> np.ndarray:
    """A random array."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape)
    return x + 1j * rng.standard_normal(shape) if complex_values else x
